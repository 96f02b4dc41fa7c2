"""Deals points out to an executor, and sets aside those that kill their worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tilewright.search.executors.executor import Executor, Outcome
from tilewright.search.sweep.space import SweepPoint

__all__ = ["Dispatcher"]

_LARGEST = 64
_SHARES = 16  # at least so many batches for each worker, so that all end at about the same time


class Dispatcher:
    """Hands batches of neighbouring points (they share what was counted and run) to ``executor``.

    When a worker was killed, any point in its hands may be the reason: they are done again one at a time,
    with nothing beside, and one whose worker is killed again is given to ``set_aside`` with the verdict.
    ``told`` hears of what finished, and is called from time to time with nothing.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        set_aside: Callable[[SweepPoint, str], None],
        told: Callable[[Counter[str]], None],
    ) -> None:
        self._executor = executor
        self._set_aside = set_aside
        self._told = told

    def do(self, points: Iterator[SweepPoint], n_points: int) -> None:
        """Do all ``points`` (about ``n_points``), and come back when each is in the store."""
        first = next(points, None)
        if first is None:
            return
        executor = self._executor
        executor.start()
        size = max(1, min(_LARGEST, n_points // (_SHARES * max(1, executor.n_workers))))
        batches = _batches(first, points, size)
        batch: list[SweepPoint] | None = next(batches)
        suspects: list[SweepPoint] = []
        while batch is not None or not executor.is_idle():
            while batch is not None and not suspects and executor.wants_more():
                executor.submit(batch)
                batch = next(batches, None)
            for outcome in self._collected():
                if outcome.killed:
                    suspects += outcome.left
                elif outcome.left:
                    executor.submit(outcome.left)
            if suspects and executor.is_idle():
                self._try_alone(suspects)
                suspects = []

    def _collected(self) -> list[Outcome]:
        outcomes = self._executor.collect()
        counts: Counter[str] = Counter()
        for outcome in outcomes:
            counts.update(outcome.counts)
        self._told(counts)
        return outcomes

    def _try_alone(self, suspects: Sequence[SweepPoint]) -> None:
        for point in suspects:
            self._executor.submit([point])
            while not self._executor.is_idle():
                for outcome in self._collected():
                    if outcome.left and outcome.killed:
                        self._set_aside(point, self._executor.verdict)
                    elif outcome.left:
                        self._executor.submit(outcome.left)


def _batches(first: SweepPoint, rest: Iterator[SweepPoint], n: int) -> Iterator[list[SweepPoint]]:
    some = [first]
    for point in rest:
        if len(some) == n:
            yield some
            some = []
        some.append(point)
    yield some
