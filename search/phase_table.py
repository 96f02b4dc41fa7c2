"""The tilings of one phase as columns of numbers, for searches on many machines that differ little.

Between machines of one signature (:func:`tilewright.search.counted_work.work_signature`) the room that a tiling needs
and its counted work stay the same, and its program but for bandwidth and latency. All of it is kept here, with the
cycles of exact runs, so that a search is arithmetic on columns and a few runs of programs that are there.
The search itself is that of :mod:`tilewright.search.tiling`: same bounds, same order, same batches, same result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.errors import MappingError
from tilewright.search.objective import Objective, score
from tilewright.search.tiling import BATCH, FIRST_BATCH, Evaluated, pareto
from tilewright.sim.costs import TileCosts
from tilewright.sim.engine import run_images
from tilewright.sim.evaluation import build_phase, count_phase, needed_bytes
from tilewright.sim.image import pack
from tilewright.sim.mapping import Phase
from tilewright.sim.retiming import RetimedImages

__all__ = ["PhaseTable", "Timing", "TimingTooFineError"]

Int64Array = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: DRAM bytes in a cycle, and cycles to the first byte of a transfer.
Timing = tuple[Fraction, int]

_MOST_TIMINGS = 256
_UNKNOWN = -1
_LARGEST = 2**62
_NEVER = 2**62  # bytes: a tiling that no buffer holds


class TimingTooFineError(ArithmeticError):
    """The fraction of bytes a cycle is too fine for the programs that are there to be given another."""


class PhaseTable:
    """The ``tilings`` of ``phase``; ``costs`` are those of a machine at ``timing`` whose working buffer holds them all.

    ``retimes``: whether ``timing`` may change; if not, all machines of the signature have the one given.
    """

    def __init__(
        self, phase: Phase, costs: TileCosts, tilings: Sequence[dict[str, int]], timing: Timing, *, retimes: bool
    ) -> None:
        self.phase = phase
        self.tilings = tilings
        self._costs = costs
        self._retimes = retimes
        self._images = RetimedImages(*timing)
        self._needs = np.array([_need(phase, costs, tiling) for tiling in tilings], dtype=np.int64)
        names = [parameter.name for parameter in phase.parameters if parameter.changes_work]
        numbers: dict[tuple[int, ...], int] = {}
        kinds = [numbers.setdefault(tuple(tiling[name] for name in names), len(numbers)) for tiling in tilings]
        self._kind = np.array(kinds, dtype=np.int64)  # tilings of one kind do the same work
        self._is_counted = np.zeros(len(numbers), dtype=np.bool_)
        self._unit_cycles = np.zeros(len(numbers), dtype=np.int64)  # of the busier unit
        self._channel_bytes = np.zeros(len(numbers), dtype=np.int64)
        self._dynamic_pj = np.zeros(len(numbers), dtype=np.float64)
        self._cycles: OrderedDict[Timing, Int64Array] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        """About how much memory the table takes."""
        return 600 * len(self.tilings) + self._images.n_bytes + len(self._cycles) * self._needs.nbytes

    def fitting(self, capacity_bytes: int) -> Int64Array:
        """The numbers of the tilings that a working buffer of this size holds, in the order of the space."""
        return np.flatnonzero(self._needs <= capacity_bytes)

    def smallest(self) -> dict[str, int]:
        """The tiling that needs the least room."""
        return self.tilings[int(np.argmin(self._needs))]

    def search(
        self, fitting: Int64Array, timing: Timing, static_pj: float, objective: Objective, *, keep_front: bool
    ) -> tuple[list[Evaluated], int]:
        """The best of the ``fitting`` tilings, or (``keep_front``) all that no other beats in both cycles and energy.

        ``static_pj``: idle energy of a cycle. With it how many exact runs the search needs; the ones known from
        earlier searches count too, so that the number does not depend on what came before.
        """
        dynamic_pj = self._counted(fitting)
        bound_cycles = self._bound_cycles(fitting, timing[0])
        first, second = _scores(objective, bound_cycles, dynamic_pj + static_pj * bound_cycles)
        order = np.lexsort((second, first))
        chosen, dynamic_pj, first, second = fitting[order], dynamic_pj[order], first[order], second[order]
        best: tuple[float, float] | None = None
        found: list[Evaluated] = []
        at, size, n_runs = 0, FIRST_BATCH, 0
        while at < len(chosen):
            batch = np.arange(at, min(at + size, len(chosen)))
            if best is not None:
                batch = batch[_below(first[batch], second[batch], best)]
                if not len(batch):
                    break
            cycles = self._run(chosen[batch], timing)
            energy_pj = dynamic_pj[batch] + static_pj * cycles
            n_runs += len(batch)
            at, size = at + size, min(BATCH, 2 * size)
            if keep_front:
                found += [self._evaluated(*row) for row in zip(chosen[batch], cycles, energy_pj, strict=True)]
                continue
            scores = _scores(objective, cycles, energy_pj)
            i = int(np.lexsort((scores[1], scores[0]))[0])
            mine = (scores[0][i].item(), scores[1][i].item())
            if best is None or mine < best:
                best, found = mine, [self._evaluated(chosen[batch[i]], cycles[i], energy_pj[i])]
        return (pareto(found) if keep_front else found), n_runs

    def _evaluated(self, number: Any, cycles: Any, energy_pj: Any) -> Evaluated:
        return Evaluated(int(cycles), float(energy_pj), self.tilings[number])

    def _counted(self, numbers: Int64Array) -> Floats:
        """Dynamic energy of the tilings, once all their work is counted."""
        kinds = self._kind[numbers]
        if not self._is_counted[kinds].all():
            for number, kind in zip(numbers.tolist(), kinds.tolist(), strict=True):
                if not self._is_counted[kind]:
                    work = count_phase(self.phase, self._costs, self.tilings[number])
                    self._unit_cycles[kind] = max(work.matrix_cycles, work.vector_cycles)
                    self._channel_bytes[kind] = work.channel_bytes
                    self._dynamic_pj[kind] = work.energy_pj
                    self._is_counted[kind] = True
        return self._dynamic_pj[kinds]

    def _bound_cycles(self, numbers: Int64Array, rate: Fraction) -> Int64Array:
        """Cycles before which no run of these tilings can end: those of its busiest unit, DRAM among them."""
        kinds = self._kind[numbers]
        n_bytes: Any = self._channel_bytes[kinds]
        up, down = rate.numerator, rate.denominator
        if max(int(n_bytes.max()) * down, up) > _LARGEST:
            n_bytes = n_bytes.astype(object)
        dram_cycles = (-(-n_bytes * down // up)).astype(np.int64)
        bound: Int64Array = np.maximum(self._unit_cycles[kinds], dram_cycles)
        return bound

    def _run(self, numbers: Int64Array, timing: Timing) -> Int64Array:
        """Exact cycles of these tilings; those not yet known are run."""
        known = self._cycles.get(timing)
        if known is None:
            while len(self._cycles) >= _MOST_TIMINGS:
                self._cycles.popitem(last=False)
            known = self._cycles[timing] = np.full(len(self.tilings), _UNKNOWN, dtype=np.int64)
        else:
            self._cycles.move_to_end(timing)
        new = numbers[known[numbers] == _UNKNOWN].tolist()
        if new:
            cycles = run_images(self._packed(new, timing), n_threads=1)
            if (cycles < 0).any():
                raise AssertionError(f"{self.phase.name} deadlocks with tiling {self.tilings[new[cycles.argmin()]]}")
            known[new] = cycles
        chosen: Int64Array = known[numbers]
        return chosen

    def _packed(self, numbers: Sequence[int], timing: Timing) -> list[Int64Array]:
        for number in numbers:
            if number not in self._images:
                self._images.add(number, pack(build_phase(self.phase, self._costs, self.tilings[number]))[0])
        if self._retimes and not self._images.set_timing(*timing):
            raise TimingTooFineError
        return self._images.images(numbers)


def _need(phase: Phase, costs: TileCosts, tiling: dict[str, int]) -> int:
    try:
        return needed_bytes(phase, costs, tiling)
    except MappingError:
        return _NEVER


def _scores(objective: Objective, cycles: Any, energy_pj: Any) -> tuple[Any, Any]:
    """As :func:`tilewright.search.objective.score`, of columns."""
    first, second = score(objective, cycles, energy_pj)
    return first, second


def _below(first: Any, second: Any, limit: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Which pairs come before ``limit``."""
    before: npt.NDArray[np.bool_] = (first < limit[0]) | ((first == limit[0]) & (second < limit[1]))
    return before
