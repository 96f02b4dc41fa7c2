"""The units that can do stages: the cores of the machine, and other machines beside them that share its DRAM.

A machine beside is one group of cores, unlike the machine's own (a DSP, a unit for depthwise convolutions, a core
without an array), or a processor of a published rate, which has every operator. It has its own clock, memories,
formats and energies, and the DRAM of the machine; its times are told in cycles of the machine's clock, each command
rounded up. An operator that the machine's cores lack may be one that it has, and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.energy_table import TableFigure
from tilewright.hw_models.spec import EVERYTHING, MachineSpec
from tilewright.sim.jobs import Job, JobLayer, brought_weights, jobs_of, jobs_on, stored_on
from tilewright.sim.kinds.layer import fallback_of_chain, layer_of
from tilewright.sim.lacking import is_lacking, refuse_unknown_lacks
from tilewright.units import exact
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Unit", "refuse_what_none_has", "units_of"]

_DRAM_ENERGIES = ("dram_read_pj_per_byte", "dram_write_pj_per_byte", "dram_activate_pj")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """Unit number ``number`` (0: the machine's own cores). ``jobs``: what each job is on ``machine`` (None: it cannot
    do it). ``scale``: cycles of the first machine's clock that one of its own takes. ``shared``: channels that it
    shares with that machine, beside the DRAM's.
    """

    number: int
    machine: MachineSpec
    jobs: tuple[Job | None, ...]
    scale: Fraction
    shared: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.machine.name


def units_of(
    stream: OperatorStream, machine: MachineSpec, beside: Sequence[MachineSpec], *, fuse: bool
) -> tuple[Unit, ...]:
    """The machine's own cores, then each machine beside them."""
    jobs = jobs_on(stream, machine, fuse=fuse, chained=not beside)
    own: tuple[Job | None, ...] = jobs
    if machine.fallback is None:
        own = tuple(None if isinstance(job.layer, FallbackLayer) else job for job in jobs)
    plain = jobs_of(stream, fuse=fuse, lacks=machine.lacks, kernels=_kernels(machine))
    return (
        Unit(number=0, machine=machine, jobs=own, scale=Fraction(1)),
        *(_beside(stream, machine, other, plain, number) for number, other in enumerate(beside, start=1)),
    )


def _beside(stream: OperatorStream, machine: MachineSpec, other: MachineSpec, jobs: Sequence[Job], number: int) -> Unit:
    """``other`` with the DRAM of ``machine``."""
    refuse_unknown_lacks(other)
    dram: dict[str, Any] = {
        name: float(getattr(machine.energy, name)) for name in _DRAM_ENERGIES
    }  # also those of tables are given
    node_nm = other.energy.node_nm if _has_tables(other) else None
    energy = replace(other.energy, **dram, dram_kind=None, dram_background_mw=0.0, node_nm=node_nm)
    joined = replace(other, dram=machine.dram, energy=energy, host=None)
    found: list[Job | None] = []
    is_processor = EVERYTHING in other.lacks and other.fallback is not None
    if not is_processor:
        joined = replace(joined, fallback=None, lacks=())
    memory = machine.weights.memory if other.weights == machine.weights else None  # a group's is the machine's own
    brought = brought_weights(stream, jobs, machine) if memory is not None else (False,) * len(jobs)
    for job, is_brought in zip(jobs, brought, strict=True):
        if is_processor:  # at which rate it reads the memory for weights is not known
            could = not is_brought or isinstance(job.layer, FallbackLayer)
            found.append(replace(job, layer=fallback_of_chain(stream, job.operators)) if could else None)
            continue
        if any(is_lacking(member, other.lacks, _kernels(other)) for member in job.operators):
            found.append(None)
            continue
        layer: JobLayer = job.layer
        if isinstance(layer, FallbackLayer):
            layer = layer_of(stream, job.operators)
        found.append(replace(job, layer=stored_on(layer, joined, job.weight_bytes if is_brought else None)))
    return Unit(
        number=number,
        machine=joined,
        jobs=tuple(found),
        scale=exact(machine.clock_ghz) / exact(other.clock_ghz),
        shared=(memory.name,) if memory is not None else (),
    )


def _has_tables(machine: MachineSpec) -> bool:
    """Whether any energy on the chip is one of the tables of a node."""
    values = [
        getattr(machine.energy, entry.name) for entry in fields(machine.energy) if entry.name not in _DRAM_ENERGIES
    ]
    return any(
        isinstance(one, TableFigure)
        for value in values
        for one in (value.values() if isinstance(value, Mapping) else [value])
    )


def _kernels(machine: MachineSpec) -> list[tuple[int, int]]:
    block = machine.matrix.block
    return [(one.height, one.width) for one in block.kernels] if block is not None else []


def refuse_what_none_has(units: Sequence[Unit], jobs: Sequence[Job]) -> None:
    """Raises InputError for an operator that no unit has and no fallback does."""
    for job, own in zip(jobs, zip(*(unit.jobs for unit in units), strict=True), strict=True):
        if all(one is None for one in own):
            first = job.operators[0]
            raise InputError(
                f"{first.path or first.name}: none of {', '.join(unit.name for unit in units)} has operators of this "
                f'kind; given "{first.kind}"; allowed with a fallback in the machine file, or beside a machine that '
                "has it"
            )
