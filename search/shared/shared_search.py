"""Best mappings of one layer on many machines, each found with what the ones before have left.

The result is that of :func:`tilewright.search.tiling.best_tiling`, to the last figure; a test compares them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, product
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.dram import bytes_per_cycle, first_access_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.objective import Objective, score
from tilewright.search.paces import Pacer
from tilewright.search.shared.counted_work import unit_signature, work_signature
from tilewright.search.shared.phase_table import PhaseTable, Setting
from tilewright.search.shared.phase_work import OtherProgramError, PhaseWork, mapped_work_of
from tilewright.search.tiling import (
    FEW_FITTING,
    TilingSearch,
    best_tiling,
    least_parts,
    none_of_the_smallest_fits,
    nothing_fits,
    static_pj_per_cycle,
    tiling_space,
)
from tilewright.sim.lowering.asked_costs import Answers, AskedCosts, UnaskedWorkError
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.evaluation import evaluate, timed_result
from tilewright.sim.lowering.mapped_work import MappedWork
from tilewright.sim.lowering.mapping import Dataflow, Layer, Tiling
from tilewright.sim.result import SearchSummary, SimulationResult

__all__ = ["SearchMemory", "SharedSearch"]

_MOST_BYTES = 128 * 2**20
_MOST_SEARCHES = 48  # of some megabytes each
_MOST_MAPPED = 256
_MOST_UNITS = 256
_ROOMY_KIB = 1_073_741_824  # the largest buffer that a machine can have


class Recording:
    """The tilings of one dataflow and layer, recorded with the costs of ``machine``."""

    def __init__(self, dataflow: Dataflow, layer: Layer, machine: MachineSpec) -> None:
        self.asked = AskedCosts(dataflow.costs(layer, _roomy(machine)))
        self.tables = [
            PhaseTable(phase, self.asked, list(tiling_space(phase, layer, machine, {}, parts=least_parts(machine))))
            for phase in dataflow.phases
        ]
        self.n_candidates = sum(len(table.tilings) for table in self.tables)
        self._units: dict[MachineSpec, int] = {}
        self._number = count()

    @property
    def memory_bytes(self) -> int:
        """About how much memory this takes."""
        return sum(table.memory_bytes for table in self.tables)

    def units(self, machine: MachineSpec) -> int:
        """A number that machines share on which programs differ only by the speed of the DRAM."""
        signature = unit_signature(machine)
        if signature not in self._units:
            if len(self._units) >= _MOST_UNITS:
                self._units.clear()
            self._units[signature] = next(self._number)
        return self._units[signature]


class SharedSearch:
    """Searches of one dataflow and layer on machines of one signature (:func:`work_signature`), ``machine`` among them.

    ``recording``: that of any machine with the same candidates for every parameter of the tiling. Where it turns out
    not to hold on this machine, another is made.
    """

    def __init__(
        self, dataflow: Dataflow, layer: Layer, machine: MachineSpec, recording: Recording | None = None
    ) -> None:
        self.dataflow = dataflow
        self.layer = layer
        self.recording = recording or Recording(dataflow, layer, machine)
        self._is_own = recording is None
        self._begin(machine)

    def _begin(self, machine: MachineSpec) -> None:
        costs = None if self._is_own else self.dataflow.costs(self.layer, _roomy(machine))
        self._answers = Answers(self.recording.asked, costs)
        self._works = [PhaseWork(table, self._answers) for table in self.recording.tables]
        self._units = self.recording.units(machine)
        self._mapped: dict[tuple[int, ...], MappedWork] = {}

    @property
    def agrees(self) -> bool:
        """Whether the recording, as far as it goes, holds on this machine."""
        try:
            return self._answers.update()
        except InputError:  # a number format that this machine cannot multiply, say
            return False

    def best(self, machine: MachineSpec, objective: Objective) -> TilingSearch:
        """As :func:`tilewright.search.tiling.best_tiling` on ``machine``, which must have the signature."""
        # Room by operand, and rows of lists dealt by the tiling, are not recorded.
        if machine.working_buffer.parts or getattr(self.layer, "blocks", None) is not None:
            return best_tiling(self.dataflow, self.layer, machine, objective=objective)
        refusal: InputError | None = None
        try:
            if not self.agrees:
                raise OtherProgramError
            return self._best(machine, objective)
        except _FewFitError as fault:  # smaller tiles are to be tried
            phase, costs = fault.table.phase, self._costs_of(machine)
            if not fault.n_fitting and none_of_the_smallest_fits(phase, costs, {}):
                refusal = nothing_fits(phase, costs, [fault.table.smallest()], {})
        except OtherProgramError:
            self._is_own = True
            self.recording = Recording(self.dataflow, self.layer, machine)
            self._begin(machine)
            return self.best(machine, objective)
        except (UnaskedWorkError, InputError):
            pass  # a lowering that cannot be recorded, or an error that only concerns other machines' tilings
        if refusal is not None:
            raise refusal
        return best_tiling(self.dataflow, self.layer, machine, objective=objective)

    def _best(self, machine: MachineSpec, objective: Objective) -> TilingSearch:
        begun = time.perf_counter()
        tables = self.recording.tables
        fitting = [table.fitting(machine.working_buffer.capacity_bytes) for table in tables]
        for table, numbers in zip(tables, fitting, strict=True):
            if len(numbers) < FEW_FITTING:
                raise _FewFitError(table, len(numbers))
        latency_cycles = first_access_cycles(machine) if machine.dram.detail == "bandwidth" else None
        setting = Setting(units=self._units, rate=bytes_per_cycle(machine), latency_cycles=latency_cycles)
        static_pj = static_pj_per_cycle(machine)
        keep_front = objective == "edp" and len(tables) > 1
        parts = [
            work.search(
                numbers,
                setting,
                static_pj,
                objective,
                keep_front=keep_front,
                pacer=partial(Pacer, work.table.phase, self._costs_of(machine)),
            )
            for work, numbers in zip(self._works, fitting, strict=True)
        ]
        chosen = min(
            product(*(front for front, _ in parts)),
            key=lambda some: score(objective, sum(p.cycles for p in some), sum(p.energy_pj for p in some)),
        )
        return TilingSearch(
            tiling={name: value for part in chosen for name, value in part.tiling.items()},
            cycles=sum(part.cycles for part in chosen),
            energy_pj=sum(part.energy_pj for part in chosen),
            summary=SearchSummary(
                objective=objective,
                n_candidates=self.recording.n_candidates,
                n_fitting=sum(map(len, fitting)),
                n_simulated=sum(n_runs for _, n_runs in parts),
                proven=True,
                seconds=time.perf_counter() - begun,
            ),
        )

    def result(self, machine: MachineSpec, found: TilingSearch) -> SimulationResult:
        """As :func:`tilewright.sim.lowering.evaluation.evaluate` of the mapping that was found on ``machine``."""
        try:
            work = self._mapped_work(found.tiling)
        except (OtherProgramError, UnaskedWorkError, InputError, KeyError):  # a KeyError for a smaller tile
            return evaluate(self.dataflow, self.layer, machine, found.tiling)
        return timed_result(self.dataflow, self.layer, machine, found.tiling, found.cycles, work)

    def _mapped_work(self, tiling: Tiling) -> MappedWork:
        key = tuple(tiling.values())
        if key not in self._mapped:
            if len(self._mapped) >= _MOST_MAPPED:
                self._mapped.clear()
            parts = [(work, work.table.number_of(tiling)) for work in self._works]
            self._mapped[key] = mapped_work_of(parts)
        return self._mapped[key]

    def _costs_of(self, machine: MachineSpec) -> TileCosts:
        return self.dataflow.costs(self.layer, machine)


class _FewFitError(Exception):
    def __init__(self, table: PhaseTable, n_fitting: int) -> None:
        self.table = table
        self.n_fitting = n_fitting


@dataclass(slots=True)
class SearchMemory:
    """The shared searches used last, and their recordings; the oldest are forgotten."""

    searches: OrderedDict[Any, SharedSearch] = field(default_factory=OrderedDict)
    recordings: OrderedDict[Any, Recording] = field(default_factory=OrderedDict)

    def of(self, dataflow: Dataflow, layer: Layer, machine: MachineSpec) -> SharedSearch:
        """The search for ``machine`` and all like it."""
        layer = dataflow.family.plain(layer)
        values = tuple(parameter.candidates(layer, machine) for parameter in dataflow.parameters)
        kind = (layer, dataflow.name, machine.n_cores, values)
        key = (work_signature(machine), kind)
        found = self.searches.get(key)
        if found is None:
            found = self._new(dataflow, layer, machine, kind)
            self.searches[key] = found
            while len(self.searches) > _MOST_SEARCHES:
                self.searches.popitem(last=False)
        self.searches.move_to_end(key)
        return found

    def _new(self, dataflow: Dataflow, layer: Layer, machine: MachineSpec, kind: Any) -> SharedSearch:
        recording = self.recordings.get(kind)
        found = SharedSearch(dataflow, layer, machine, recording)
        if recording is not None and not found.agrees:
            found = SharedSearch(dataflow, layer, machine)
        self.recordings[kind] = found.recording
        self.recordings.move_to_end(kind)
        while len(self.recordings) > 1 and sum(r.memory_bytes for r in self.recordings.values()) > _MOST_BYTES:
            oldest, _ = self.recordings.popitem(last=False)
            for key in [key for key in self.searches if key[1] == oldest]:
                del self.searches[key]
        return found


def _roomy(machine: MachineSpec) -> MachineSpec:
    """``machine`` with a working buffer that holds any tiling."""
    near, *far = machine.buffers
    return replace(machine, buffers=(replace(near, capacity_kib=_ROOMY_KIB, parts=()), *far))
