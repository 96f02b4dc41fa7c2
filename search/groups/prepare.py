"""What each operator is and takes on each group of cores, alone: the best mapping there, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.hw_models.groups import other_groups, with_parts_of_shared
from tilewright.hw_models.overheads import overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress, part
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import Mapped, best_mappings, runs_in_turn, widened
from tilewright.search.objective import Objective
from tilewright.search.pipeline.stages import programs_at_clock
from tilewright.search.pipeline.units import Unit, units_of
from tilewright.sim.engine.run import simulate
from tilewright.sim.jobs import Job, JobLayer, jobs_on
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.task_graphs.graph import Edge

if TYPE_CHECKING:
    from tilewright.search.groups.handed import Handed

__all__ = ["OnGroup", "Prepared", "alone_cycles", "data_edges", "prepared", "shared_ports"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnGroup:
    """A job on a group: ``job`` as it is there, ``mapped`` the best way, and its ``cycles`` alone, of the main group's
    clock, without what a command costs.
    """

    job: Job
    mapped: Mapped
    cycles: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """``jobs`` of ``stream`` with what they are on each of ``units`` (groups, by number): ``options`` by job, then by
    unit; ``edges``: what must be done before what. ``each_cycles`` by unit: a command there, in cycles of the main
    clock. ``handed``: tensors that live in a memory that several groups reach.
    """

    stream: OperatorStream
    machine: MachineSpec
    units: tuple[Unit, ...]
    jobs: tuple[Job, ...]
    options: tuple[Mapping[int, OnGroup], ...]
    edges: tuple[Edge, ...]
    each_cycles: tuple[int, ...]
    handed: tuple[Handed, ...] = ()

    def ticks(self, job: int, unit: int) -> int:
        """Cycles of ``job`` on ``unit`` alone, with what a command costs there."""
        return self.options[job][unit].cycles + self.each_cycles[unit]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The groups' names by their number."""
        return tuple(unit.machine.main for unit in self.units)

    @cached_property
    def before(self) -> tuple[tuple[int, ...], ...]:
        """The jobs that each one waits for."""
        found: list[list[int]] = [[] for _ in self.jobs]
        for edge in self.edges:
            found[edge.target].append(edge.source)
        return tuple(map(tuple, found))


def prepared(
    stream: OperatorStream,
    machine: MachineSpec,
    *,
    objective: Objective,
    fuse: bool,
    widen: bool,
    attention_dataflows: Sequence[str],
    cache: MappingCache,
    n_processes: int | None,
    progress: Progress | None,
) -> Prepared:
    """``stream`` on the groups of ``machine``; what a group cannot do is none of its options.

    Raises InputError for an operator that no group has, and for one that fits on none of those that have it.
    """
    units = units_of(stream, with_parts_of_shared(machine, machine), other_groups(machine), fuse=fuse)
    jobs = jobs_on(stream, machine, fuse=fuse, chained=not units[1:])  # as the units have them
    _refuse_what_none_has(units, jobs, machine)
    options: list[dict[int, OnGroup]] = [{} for _ in jobs]
    faults: list[InputError | None] = [None] * len(jobs)
    for unit in units:
        own = [None if job is None else widened(job, unit.machine) if widen else job for job in unit.jobs]
        told = part(progress, unit.number, len(units), before=f"{unit.machine.main}: ")
        answers = best_mappings(
            [job for job in own if job is not None],
            unit.machine,
            objective,
            attention_dataflows,
            cache,
            n_processes=n_processes,
            progress=told,
        )
        known: dict[JobLayer, int] = {}
        for at, job in enumerate(own):
            if job is None:
                continue
            answer = answers[job.layer]
            if isinstance(answer, InputError):
                faults[at] = faults[at] or answer
                continue
            if job.layer not in known:
                known[job.layer] = alone_cycles(answer, unit, machine)
            options[at][unit.number] = OnGroup(job=job, mapped=answer, cycles=known[job.layer])
    for own_options, fault in zip(options, faults, strict=True):
        if not own_options:
            assert fault is not None
            raise fault
    return Prepared(
        stream=stream,
        machine=machine,
        units=units,
        jobs=jobs,
        options=tuple(options),
        edges=data_edges(stream, jobs),
        each_cycles=tuple(ceil(overhead_cycles(unit.machine)[1] * unit.scale) for unit in units),
    )


def _refuse_what_none_has(units: Sequence[Unit], jobs: Sequence[Job], machine: MachineSpec) -> None:
    for at, job in enumerate(jobs):
        if all(unit.jobs[at] is None for unit in units):
            first = job.operators[0]
            raise InputError(
                f"{first.path or first.name}: no group of {machine.name} ({', '.join(machine.group_names)}) has "
                f'operators of this kind; given "{first.kind}"; allowed with a group that does not lack it, or that is '
                "a processor"
            )


def shared_ports(machine: MachineSpec, unit: Unit) -> tuple[str, ...]:
    """The channels of memories beside the DRAM that ``unit`` shares with the main group."""
    group = machine.groups.get(unit.machine.main)
    return () if group is None else tuple(f"{name} {port}" for name in group.reaches for port in ("read", "write"))


def alone_cycles(mapped: Mapped, unit: Unit, machine: MachineSpec) -> int:
    """Cycles of the main group's clock that a job takes on ``unit``."""
    if not unit.number:
        return mapped.alone.cycles
    job = Job(layer=mapped.layer, operators=(), weight_bytes=0)
    (programs,) = programs_at_clock(
        runs_in_turn([job], {mapped.layer: mapped}, unit.machine, prefetch=False), unit, shared_ports(machine, unit)
    )
    return sum(simulate(program).cycles for program in programs)


def data_edges(stream: OperatorStream, jobs: Sequence[Job]) -> tuple[Edge, ...]:
    """What must be done before what: a job waits for all earlier ones that write into what it reads, and one that
    writes over what others read waits for these.
    """
    makers: dict[str, list[int]] = {}
    readers: dict[str, list[int]] = {}
    found: dict[tuple[int, int], None] = {}
    for at, job in enumerate(jobs):
        for member in job.operators:
            for name in member.inputs:
                base = stream.base(name).name
                for maker in makers.get(base, ()):
                    if maker != at:
                        found[maker, at] = None
                readers.setdefault(base, []).append(at)
            for name in member.outputs:
                base = stream.base(name).name
                for reader in readers.get(base, ()):
                    if reader != at:
                        found[reader, at] = None
                if at not in makers.setdefault(base, []):
                    makers[base].append(at)
    return tuple(Edge(source=source, target=target) for source, target in sorted(found))
