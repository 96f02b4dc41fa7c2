"""Best mappings of one layer on machines that differ little, each found with what the ones before have left.

The result is that of :func:`tilewright.search.tiling.best_tiling`, to the last figure; a test compares them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from tilewright.hw_models.dram import bytes_per_cycle, first_access_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.counted_work import work_signature
from tilewright.search.objective import Objective, score
from tilewright.search.phase_table import PhaseTable, TimingTooFineError
from tilewright.search.tiling import TilingSearch, best_tiling, nothing_fits, static_pj_per_cycle, tiling_space
from tilewright.sim.evaluation import build_phase, phase_tiling, timed_result
from tilewright.sim.mapped_work import MappedWork, mapped_work
from tilewright.sim.mapping import Dataflow, Layer, Tiling
from tilewright.sim.result import SearchSummary, SimulationResult

__all__ = ["SearchMemory", "SharedSearch"]

_MOST_BYTES = 192 * 2**20
_MOST_WORKS = 512
_ROOMY_KIB = 1_073_741_824  # the largest buffer that a machine can have


class SharedSearch:
    """Searches of one dataflow and layer on machines of one signature (:func:`work_signature`).

    ``machine`` is any of them, and all have the same candidates for every parameter of the tiling.
    """

    def __init__(self, dataflow: Dataflow, layer: Layer, machine: MachineSpec) -> None:
        self.dataflow = dataflow
        self.layer = layer
        near, *far = machine.buffers
        roomy = replace(machine, buffers=(replace(near, capacity_kib=_ROOMY_KIB), *far))
        self._costs = dataflow.costs(layer, roomy)
        timing = bytes_per_cycle(machine), first_access_cycles(machine)
        retimes = machine.dram.detail == "bandwidth"
        self._tables = [
            PhaseTable(phase, self._costs, tiling_space(phase, layer, machine, {}), timing, retimes=retimes)
            for phase in dataflow.phases
        ]
        self._n_candidates = sum(len(table.tilings) for table in self._tables)
        self._works: OrderedDict[tuple[int, ...], MappedWork] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        """About how much memory this takes."""
        return sum(table.n_bytes for table in self._tables) + 4096 * len(self._works)

    def best(self, machine: MachineSpec, objective: Objective) -> TilingSearch:
        """As :func:`tilewright.search.tiling.best_tiling` on ``machine``, which must have the signature."""
        begun = time.perf_counter()
        fitting = [self._fitting(table, machine) for table in self._tables]
        timing = bytes_per_cycle(machine), first_access_cycles(machine)
        static_pj = static_pj_per_cycle(machine)
        keep_front = objective == "edp" and len(self._tables) > 1
        try:
            parts = [
                table.search(numbers, timing, static_pj, objective, keep_front=keep_front)
                for table, numbers in zip(self._tables, fitting, strict=True)
            ]
        except TimingTooFineError:
            return best_tiling(self.dataflow, self.layer, machine, objective=objective)
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
                n_candidates=self._n_candidates,
                n_fitting=sum(map(len, fitting)),
                n_simulated=sum(n_runs for _, n_runs in parts),
                proven=True,
                seconds=time.perf_counter() - begun,
            ),
        )

    def result(self, machine: MachineSpec, found: TilingSearch) -> SimulationResult:
        """As :func:`tilewright.sim.evaluation.evaluate` of the mapping that was found on ``machine``."""
        work = self._work(found.tiling)
        return timed_result(self.dataflow, self.layer, machine, found.tiling, found.cycles, work)

    def _work(self, tiling: Tiling) -> MappedWork:
        key = tuple(tiling.values())
        work = self._works.get(key)
        if work is None:
            programs = [build_phase(p, self._costs, phase_tiling(p, tiling)) for p in self.dataflow.phases]
            while len(self._works) >= _MOST_WORKS:
                self._works.popitem(last=False)
            work = self._works[key] = mapped_work(programs)
        return work

    def _fitting(self, table: PhaseTable, machine: MachineSpec) -> Any:
        fitting = table.fitting(machine.working_buffer.capacity_bytes)
        if not len(fitting):
            costs = self.dataflow.costs(self.layer, machine)
            raise nothing_fits(table.phase, costs, [table.smallest()], {})
        return fitting


@dataclass(slots=True)
class SearchMemory:
    """The shared searches used last; the oldest are forgotten when all together take too much memory."""

    known: OrderedDict[Any, SharedSearch] = field(default_factory=OrderedDict)

    def of(self, dataflow: Dataflow, layer: Layer, machine: MachineSpec) -> SharedSearch:
        """The search for ``machine`` and all like it."""
        values = tuple(parameter.candidates(layer, machine) for parameter in dataflow.parameters)
        key = (work_signature(machine), layer, dataflow.name, values)
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = SharedSearch(dataflow, layer, machine)
            while len(self.known) > 1 and sum(search.n_bytes for search in self.known.values()) > _MOST_BYTES:
                self.known.popitem(last=False)
        self.known.move_to_end(key)
        return found
