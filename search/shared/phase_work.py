"""The search of one phase on one machine, on columns: that of :mod:`tilewright.search.tiling`, to the last figure.

Same bounds, same order, same batches, same result. Sums of energies are made in the order in which counting makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.energy import Counters
from tilewright.search.objective import Objective, score
from tilewright.search.paces import Pacer, cycles_below
from tilewright.search.shared.phase_table import PhaseTable, Setting
from tilewright.search.tiling import BATCH, FIRST_BATCH, Evaluated, pareto
from tilewright.sim.engine.program import MAX_CYCLES, too_long
from tilewright.sim.lowering.asked_costs import Answers
from tilewright.sim.lowering.core import MATRIX, STORE, VECTOR
from tilewright.sim.lowering.mapped_work import MappedWork

__all__ = ["OtherProgramError", "PhaseWork", "mapped_work_of"]

Int64Array = npt.NDArray[np.int64]

_LARGEST = 2**62


class OtherProgramError(Exception):
    """The recorded programs are not those of this machine."""


class PhaseWork:
    """The work of a table's tilings on the machine that gave ``answers``: columns by record."""

    def __init__(self, table: PhaseTable, answers: Answers) -> None:
        self.table = table
        self.answers = answers
        self._unit_cycles = self._channel_bytes = np.empty(0, dtype=np.int64)  # of the busier unit
        self._dynamic_pj = np.empty(0, dtype=np.float64)

    def search(
        self,
        fitting: Int64Array,
        setting: Setting,
        static_pj: float,
        objective: Objective,
        *,
        keep_front: bool,
        pacer: Callable[[], Pacer],
    ) -> tuple[list[Evaluated], int]:
        """The best of the ``fitting`` tilings, or (``keep_front``) all that no other beats in both cycles and energy.

        ``static_pj``: idle energy of a cycle; ``pacer``: for runs at another pace of the ports, of which the best may
        be one. With it how many exact runs the search needs; the ones known from earlier searches count too, so that
        the number does not depend on what came before. Raises OtherProgramError.
        """
        records = self.table.records(fitting)
        self.count()
        dynamic_pj, bound_cycles = self._dynamic_pj[records], self._bound_cycles(records, setting.rate)
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
            cycles = self._run(chosen[batch], setting)
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
        if keep_front:
            return pareto(found), n_runs
        assert best is not None
        may = np.flatnonzero(first[:at] < best[0])
        least = self.table.least_cycles(chosen[may], setting, self.answers)
        for i in np.argsort(least, kind="stable").tolist():
            number, its_pj = int(chosen[may[i]]), float(dynamic_pj[may[i]])
            own = int(self.table.cycles(chosen[may[i] : may[i] + 1], setting)[0])
            limit = cycles_below(partial(_is_below, objective, best[0], its_pj, static_pj), int(least[i]), own)
            if least[i] >= limit:
                continue
            paced = pacer().better_of(self.table.tilings[number], limit)
            if paced is not None:
                energy = its_pj + static_pj * paced.cycles
                best = score(objective, paced.cycles, energy)
                found = [Evaluated(paced.cycles, energy, self.table.tilings[number] | paced.pace)]
        return found, n_runs

    def _evaluated(self, number: Any, cycles: Any, energy_pj: Any) -> Evaluated:
        return Evaluated(int(cycles), float(energy_pj), self.table.tilings[number])

    def _run(self, numbers: Int64Array, setting: Setting) -> Int64Array:
        new = self.table.prepare(numbers, setting)
        if new:
            self._agree()
            self.table.run(new, setting, self.answers)
        return self.table.cycles(numbers, setting)

    def _agree(self) -> None:
        if not self.answers.update():
            raise OtherProgramError

    def count(self) -> None:
        """Add up what was noted since the last time. Raises OtherProgramError."""
        table, answers = self.table, self.answers
        n_cores = [share.n_cores for share in table.shares]
        n_new, n_shares = table.n_records - len(self._unit_cycles), len(n_cores)
        if not n_new:
            return
        self._agree()
        new = table.entries[-n_new * n_shares :]
        engine, times, number = np.concatenate(new).T
        segment = np.repeat(np.arange(len(new)), [len(entries) for entries in new])

        def total(column: Int64Array, which: Any) -> Int64Array:
            sums = np.zeros(len(new), dtype=np.int64)
            np.add.at(sums, segment[which], times[which] * column[number[which]])
            about = np.bincount(segment[which], times[which].astype(np.float64) * column[number[which]])
            if about.max(initial=0.0) > MAX_CYCLES:
                raise too_long("what is to be done")  # before it turns over in 64 bits
            return sums.reshape(n_new, n_shares)

        matrix, vector = total(answers.cycles, engine == MATRIX), total(answers.cycles, engine == VECTOR)
        busier = np.maximum(matrix, vector)[:, 0]  # the first share has the most pieces
        n_bytes = total(answers.n_bytes, engine <= STORE) @ np.array(n_cores)
        each_pj = np.bincount(segment, times * answers.energy_pj[number], minlength=len(new)).reshape(n_new, n_shares)
        dynamic_pj = np.zeros(n_new)
        for i, n in enumerate(n_cores):
            dynamic_pj += each_pj[:, i] * n
        self._unit_cycles = np.append(self._unit_cycles, busier)
        self._channel_bytes = np.append(self._channel_bytes, n_bytes)
        self._dynamic_pj = np.append(self._dynamic_pj, dynamic_pj)

    def _bound_cycles(self, records: Int64Array, rate: Fraction) -> Int64Array:
        """Cycles before which no run of these tilings can end: those of its busiest unit, DRAM among them."""
        n_bytes: Any = self._channel_bytes[records]
        up, down = rate.numerator, rate.denominator
        if max(int(n_bytes.max()) * down, up) > _LARGEST:
            n_bytes = n_bytes.astype(object)
        bound: Int64Array = np.maximum(self._unit_cycles[records], (-(-n_bytes * down // up)).astype(np.int64))
        return bound


def mapped_work_of(parts: Sequence[tuple[PhaseWork, int]]) -> MappedWork:
    """The work of a mapping whose phases have the tilings with these numbers, all of them counted."""
    counters = Counters()
    cycles = {MATRIX: 0, VECTOR: 0}
    channel_bytes = 0
    for work, number in parts:
        table, answers = work.table, work.answers
        (record,) = table.records(np.array([number]))
        work.count()
        n_shares = len(table.shares)
        for share, entries in zip(table.shares, table.entries[record * n_shares :][:n_shares], strict=True):
            for engine in range(VECTOR + 1):  # as the queues of a program stand
                times: dict[int, int] = {}
                for _, n, question in entries[entries[:, 0] == engine].tolist():
                    times[question] = times.get(question, 0) + n * share.n_cores
                for question, n in times.items():
                    done = answers.works[question]
                    counters = counters + done.counters * n
                    if engine <= STORE:
                        channel_bytes += done.n_bytes * n
                    else:
                        cycles[engine] += done.cycles * n
    return MappedWork(
        counters=counters,
        matrix_cycles=cycles[MATRIX],
        vector_cycles=cycles[VECTOR],
        channel_bytes=channel_bytes,
        peak_buffer_bytes=max(int(work.table.needs[number]) for work, number in parts),
    )


def _scores(objective: Objective, cycles: Any, energy_pj: Any) -> tuple[Any, Any]:
    """As :func:`tilewright.search.objective.score`, of columns."""
    first, second = score(objective, cycles, energy_pj)
    return first, second


def _is_below(objective: Objective, best: float, dynamic_pj: float, static_pj: float, cycles: int) -> bool:
    """Whether a run of so many cycles has a score below ``best``."""
    return score(objective, cycles, dynamic_pj + static_pj * cycles)[0] < best


def _below(first: Any, second: Any, limit: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Which pairs come before ``limit``."""
    before: npt.NDArray[np.bool_] = (first < limit[0]) | ((first == limit[0]) & (second < limit[1]))
    return before
