"""Points done in this process, one after another."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence

from tilewright.search.executors.executor import Outcome
from tilewright.search.sweep.row_writer import RowWriter
from tilewright.search.sweep.space import SweepPoint
from tilewright.search.sweep.store import ResultsStore
from tilewright.search.sweep.work import SweepBench

__all__ = ["InlineExecutor"]

_MOMENT_S = 0.1


class InlineExecutor:
    """No other process: a point that kills this one is not known afterwards."""

    verdict = ""
    n_workers = 1

    def __init__(self, bench: SweepBench, store: ResultsStore) -> None:
        self._bench = bench
        self._path = store.path
        self._writer: RowWriter | None = None
        self._waiting: deque[SweepPoint] = deque()

    def start(self) -> None:
        from tilewright.search import api  # noqa: F401 (registers the dataflows)

    def wants_more(self) -> bool:
        return not self._waiting

    def is_idle(self) -> bool:
        return not self._waiting

    def submit(self, points: Sequence[SweepPoint]) -> None:
        self._waiting.extend(points)

    def collect(self) -> list[Outcome]:
        """Do the next points, for a moment; at least one."""
        counts: Counter[str] = Counter()
        if not self._waiting:
            return []
        self._writer = self._writer or RowWriter(self._path)
        until = time.monotonic() + _MOMENT_S
        try:
            while self._waiting and (not counts or time.monotonic() < until):
                row = self._bench.run(self._waiting[0])
                self._writer.add(row)
                self._waiting.popleft()
                counts[row.status] += 1
        finally:
            self._writer.finish()
        return [Outcome(counts=counts)]

    def close(self) -> None:
        self._waiting.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
