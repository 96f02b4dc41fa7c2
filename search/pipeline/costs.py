"""What runs of jobs cost as stages: each job at its best mapping on so many of the cores, alone on the chip.

A stage of h of the c cores is a machine of its own with h cores: private memories are those of its cores, of shared
ones it has a part of the room (here h / c; when the stages are known, by what they would keep), bandwidths are the
whole machine's. Where tensors may stay on chip, a layer whose maps
and weights would fit is reckoned with all of them there, as long as there is room for its weights beside those of the
other layers of the stage, the most saved for a byte first; which tensors really stay, the stage's plan says when the
stages are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.overheads import overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import Mapped, best_mapping, flows_of
from tilewright.search.pipeline.partition import NEVER, FloatArray, Option
from tilewright.search.pipeline.units import Unit
from tilewright.search.residency.plan import memories_of
from tilewright.search.residency.tensors import residents_of, with_homes
from tilewright.search.workload import pieces
from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.lowering.levels import level_called
from tilewright.sim.result import LowerBound
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.homes import Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["StageCosts", "core_counts", "stage_machine"]

ALL_COUNTS_UP_TO = 4
TILES_SHARE = 2  # a working buffer that keeps weights has one part in so many for tiles


def core_counts(n_cores: int) -> tuple[int, ...]:
    """The numbers of cores that a stage may have: all up to 4, then powers of two, and all the cores."""
    few = range(1, min(n_cores, ALL_COUNTS_UP_TO) + 1)
    doubled = (2**i for i in range(n_cores.bit_length()) if 2**i <= n_cores)
    return tuple(sorted({*few, *doubled, n_cores}))


def stage_machine(
    machine: MachineSpec, n_cores: int, handed_over: dict[Place, int] | None = None, share: float | None = None
) -> MachineSpec:
    """``n_cores`` of the cores with a ``share`` of the shared memories (None: that of the cores), of which maps that
    are handed over take some before.
    """
    taken = handed_over or {}
    if n_cores == machine.n_cores and not taken and share in (None, 1):
        return machine
    part = n_cores / machine.n_cores if share is None else share
    buffers = []
    for buffer in machine.buffers:
        if buffer.shared_by_cores:
            left = buffer.capacity_kib - taken.get(buffer.name, 0) / 1024
            buffer = replace(buffer, capacity_kib=left * part)
        buffers.append(buffer)
    return replace(machine, n_cores=n_cores, buffers=tuple(buffers))


class _Room(NamedTuple):
    """Room for weights: of a stage's own memory, or of one that all share, with ``among`` bytes of weights in all."""

    n_bytes: int
    among: int

    def for_weights(self, own_bytes: float) -> float:
        """What a stage with ``own_bytes`` of weights has of it."""
        return self.n_bytes if self.among <= self.n_bytes else self.n_bytes * own_bytes / self.among


class _Alone(NamedTuple):
    """Cycles of each job, and the cycles that it takes of the DRAM."""

    cycles: FloatArray
    dram: FloatArray


class _Saved(NamedTuple):
    """Of each job what it saves of both when all its operands are near, and the bytes of its weights; room for them.

    ``is_private``: that room is the stage's own, so that maps between stages are not there.
    """

    cycles: FloatArray
    dram: FloatArray
    n_bytes: FloatArray
    room: _Room
    is_private: bool


class StageCosts:
    """Best mappings by number of cores, each distinct job searched once, and the stage times made of them."""

    def __init__(
        self,
        stream: OperatorStream,
        jobs: Sequence[Job],
        units: Sequence[Unit],
        attention_dataflows: Sequence[str],
        cache: MappingCache,
        *,
        keeps: bool,
        progress: Progress | None = None,
    ) -> None:
        machine = units[0].machine
        self.jobs, self.units, self.machine, self.keeps = jobs, units, machine, keeps
        self._flows, self._cache, self._progress = attention_dataflows, cache, progress
        self._known: dict[tuple[JobLayer, MachineSpec], Mapped] = {}
        self._bounds: dict[tuple[JobLayer, MachineSpec], list[LowerBound]] = {}
        self.operands, self.residents = residents_of(stream, jobs)
        self.once = overhead_cycles(machine)[0]
        self._rate = float(bytes_per_cycle(machine))

    def mapped(self, job: Job, layer: JobLayer, machine: MachineSpec) -> Mapped:
        """The best mapping of ``job`` with its operands where ``layer`` says."""
        key = layer, machine
        if key not in self._known:
            self._known[key] = best_mapping(replace(job, layer=layer), machine, "latency", self._flows, self._cache)
        return self._known[key]

    def options(self, counts: Sequence[int]) -> list[Option]:
        """What can do stages: so many of the cores, each machine beside them, and the fallback for what cores lack."""
        own = self.units[0]
        found = [self._option(own, stage_machine(self.machine, n_cores), n_cores=n_cores) for n_cores in counts]
        found += [self._option(unit, unit.machine, n_cores=0) for unit in self.units[1:]]
        if self._on_fallback.any():
            alone = self._alone(own, stage_machine(self.machine, counts[0]))
            cycles = np.where(self._on_fallback, alone.cycles, NEVER)
            found.append(Option(n_cores=0, cycles=_of_runs(cycles + self._fixed(own)), dram=_of_runs(alone.dram)))
        return found

    def _option(self, unit: Unit, machine: MachineSpec, *, n_cores: int) -> Option:
        """``machine``, a part of ``unit``, as what does stages; in cycles of the first machine's clock."""
        alone, scale = self._alone(unit, machine), float(unit.scale)
        saved = self._savings(unit, machine, alone)
        saved_cycles, saved_dram = _saved_in_runs(saved)
        cycles = _of_runs(alone.cycles * scale + self._fixed(unit)) - saved_cycles * scale
        dram = _of_runs(alone.dram) - saved_dram
        if saved.is_private:  # maps between stages go through the DRAM
            dram += self._cut[:-1, None] + self._cut[None, :]
        return Option(n_cores=n_cores, cycles=cycles, dram=dram, beside=unit.number)

    def bounds(self, counts: Sequence[int]) -> list[Option]:
        """As :meth:`options`, with the work that the units must do at least, wherever operands are."""
        found = []
        for n_cores in counts:
            cycles = self._least(self.units[0], stage_machine(self.machine, n_cores))
            found.append(Option(n_cores=n_cores, cycles=_of_runs(cycles + self._fixed(self.units[0]))))
        for number, unit in enumerate(self.units[1:], start=1):
            cycles = np.floor(self._least(unit, unit.machine) * float(unit.scale))
            found.append(Option(n_cores=0, cycles=_of_runs(cycles + self._fixed(unit)), beside=number))
        if self._on_fallback.any():
            alone = np.where(self._on_fallback, found[0].cycles.diagonal(1), NEVER)
            found.append(Option(n_cores=0, cycles=_of_runs(alone)))
        return found

    @property
    def _on_fallback(self) -> npt.NDArray[np.bool_]:
        """Which jobs the fallback can do."""
        has_one = self.machine.fallback is not None
        return np.array([has_one and isinstance(job.layer, FallbackLayer) for job in self.jobs])

    def _alone(self, unit: Unit, machine: MachineSpec) -> _Alone:
        """Each job on ``machine``, a part of ``unit``: cycles of its own clock, infinite where it cannot do it."""
        cycles, dram = np.full(len(self.jobs), NEVER), np.zeros(len(self.jobs))
        for at, job in enumerate(unit.jobs):
            if self._progress is not None:
                self._progress(at, len(unit.jobs), f"{machine.n_cores} of {unit.name}: {self.jobs[at].name}")
            if job is None:
                continue
            try:
                found = self.mapped(job, job.layer, machine).alone
            except InputError:
                if len(self.units) == 1:
                    raise
                continue
            cycles[at], dram[at] = found.cycles, found.dram_bytes / self._rate
        return _Alone(cycles, dram)

    def _least(self, unit: Unit, machine: MachineSpec) -> FloatArray:
        found = np.full(len(self.jobs), NEVER)
        for at, job in enumerate(unit.jobs):
            if job is not None:
                with suppress(InputError):
                    found[at] = self.unit_cycles(job, machine)
        return found

    def unit_cycles(self, job: Job, machine: MachineSpec) -> int:
        """What the busiest unit must do for ``job`` at least on the cores of ``machine``, however it is cut."""
        return min(
            max(bound.matrix_cycles, bound.vector_cycles, bound.fallback_cycles)
            for bound in self._bounds_of(job, machine)
        )

    def dram_cycles(self, counts: Sequence[int]) -> int:
        """What the DRAM must do at least for one image, all stages together, when nothing stays on chip."""
        machines = [stage_machine(self.machine, n_cores) for n_cores in counts]
        total = 0
        for at, job in enumerate(self.units[0].jobs):
            if job is not None and not isinstance(self.jobs[at].layer, FallbackLayer):
                with suppress(InputError):
                    total += min(one.dram_cycles for own in machines for one in self._bounds_of(job, own))
        return total

    def _bounds_of(self, job: Job, machine: MachineSpec) -> list[LowerBound]:
        key = job.layer, machine
        if key not in self._bounds:
            flows = flows_of(job.layer, machine, self._flows)
            cuts = [(flow, cut) for flow in flows for cut in pieces(job.layer, machine, flow)]
            self._bounds[key] = [flow.bound(cut, machine) for flow, cut in cuts]
        return self._bounds[key]

    def fallback_cycles(self) -> int:
        """What the processor beside the cores must do for one image."""
        return sum(
            self.mapped(job, job.layer, self.machine).alone.cycles
            for job in self.jobs
            if isinstance(job.layer, FallbackLayer) and self.machine.fallback is not None and len(self.units) == 1
        )

    def each_cycles(self, unit: Unit) -> int:
        """The fixed cost of a job on ``unit``."""
        return ceil(overhead_cycles(unit.machine)[1] * unit.scale)

    def _fixed(self, unit: Unit) -> FloatArray:
        fixed = np.full(len(self.jobs), float(self.each_cycles(unit)))
        fixed[[job is not None and isinstance(job.layer, FallbackLayer) for job in unit.jobs]] = 0.0
        fixed[0] += self.once
        return fixed

    def _savings(self, unit: Unit, machine: MachineSpec, alone: _Alone) -> _Saved:
        """What each job saves when its weights stay and its maps are there."""
        n = len(self.jobs)
        found = _Saved(np.zeros(n), np.zeros(n), np.zeros(n), _Room(0, 0), is_private=False)
        memory = self._memory(machine) if self.keeps else None
        if memory is None:
            return found
        place, room = memory
        sizes = {one.name: one.n_bytes for one in self.residents}
        weights = {one.name for one in self.residents if one.is_weight}
        for at, (job, own) in enumerate(zip(unit.jobs, self.operands, strict=True)):
            if job is None or not np.isfinite(alone.cycles[at]):
                continue
            names = [name for name in own.names if name in sizes]
            held = sum(sizes[name] for name in names)
            if not names or held > room:
                continue
            layer = with_homes(job.layer, own, dict.fromkeys(names, place), ((place, held),))
            try:
                kept = self.mapped(job, layer, machine).alone
            except InputError:
                continue
            if kept.cycles <= alone.cycles[at]:
                found.cycles[at] = alone.cycles[at] - kept.cycles
                found.dram[at] = max(0.0, alone.dram[at] - kept.dram_bytes / self._rate)
                found.n_bytes[at] = sum(sizes[name] for name in names if name in weights)
        if not unit.number and machine.buffer(place).shared_by_cores:
            capacity = level_called(self.machine, place).capacity_bytes
            return found._replace(room=_Room(capacity, int(found.n_bytes.sum())))
        return found._replace(room=_Room(room, 0), is_private=True)

    @cached_property
    def _cut(self) -> FloatArray:
        """Cycles that the DRAM takes to bring what jobs from number i on read of earlier ones (n + 1)."""
        cut = np.zeros(len(self.jobs) + 1)
        for one in self.residents:
            if not one.is_weight:
                cut[one.first + 1 : one.last + 1] += one.n_bytes / self._rate
        return cut

    @staticmethod
    def _memory(machine: MachineSpec) -> tuple[Place, int] | None:
        """The largest memory that may keep weights, and the room that they may take there."""
        rooms = []
        for place in memories_of(machine):
            capacity = level_called(machine, place).capacity_bytes
            if "weights" in machine.buffer(place).holds:
                rooms.append((capacity // TILES_SHARE if place == machine.working_buffer.name else capacity, place))
        return max(rooms)[::-1] if rooms else None


def _of_runs(values: FloatArray) -> FloatArray:
    """Sums over all runs of jobs (n, n + 1); infinite where there is none."""
    n = len(values)
    found = np.full((n, n + 1), NEVER)
    for first in range(n):
        found[first, first + 1 :] = np.cumsum(values[first:])
    return found


def _saved_in_runs(saved: _Saved) -> tuple[FloatArray, FloatArray]:
    """What each run of jobs saves of both (n, n + 1); weights stay while there is room, most saved for a byte first."""
    n = len(saved.cycles)
    cycles, dram = np.zeros((n, n + 1)), np.zeros((n, n + 1))
    worth = saved.cycles + saved.dram
    order = np.argsort(-worth / np.maximum(1, saved.n_bytes), kind="stable")
    order = order[worth[order] > 0]
    for first in range(n if len(order) else 0):
        for end in range(first + 1, n + 1):
            own = order[(order >= first) & (order < end)]
            own = own[np.cumsum(saved.n_bytes[own]) <= saved.room.for_weights(saved.n_bytes[first:end].sum())]
            cycles[first, end], dram[first, end] = saved.cycles[own].sum(), saved.dram[own].sum()
    return cycles, dram
