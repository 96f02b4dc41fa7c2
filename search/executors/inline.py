"""Points done in this process, one after another."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from tilewright.search.executors.executor import Outcome
from tilewright.search.store import ResultsStore
from tilewright.search.sweep_space import SweepPoint
from tilewright.search.sweep_work import SweepBench

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """No other process: a point that kills this one is not known afterwards."""

    verdict = ""
    n_workers = 1

    def __init__(self, bench: SweepBench, store: ResultsStore) -> None:
        self._bench = bench
        self._store = store
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
        """Do the next point."""
        if not self._waiting:
            return []
        row = self._bench.run(self._waiting[0])
        self._store.add(row)
        self._waiting.popleft()
        return [Outcome(counts=Counter([row.status]))]

    def close(self) -> None:
        self._waiting.clear()
