"""Points done by worker processes of this machine, which write each finished one into the store themselves.

A worker that is killed takes its pool with it; the pool is then built anew, and what was in its hands comes back.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tilewright.search.executors.calls import deaf_to_interrupts
from tilewright.search.executors.executor import Outcome, WorkerError
from tilewright.search.sweep.space import SweepPoint
from tilewright.search.sweep.store import ResultsStore
from tilewright.search.sweep.work import SweepBench, begin_worker, do_points, is_ready

__all__ = ["PoolExecutor"]

_MOMENT_S = 0.5
_AHEAD = 2  # batches for each worker, so that none waits for this process


class PoolExecutor:
    """Spawned workers; they end with the points in their hands when told to."""

    verdict = "the worker process was killed twice while it ran this point (out of memory, or a crash)"

    def __init__(self, bench: SweepBench, store: ResultsStore, n_workers: int) -> None:
        self.n_workers = n_workers
        self._context = multiprocessing.get_context("spawn")
        self._stop: Any = self._context.RawValue("b", 0)  # no lock that a killed worker could keep
        self._arguments = (bench, store.path.absolute(), self._stop)
        self._store = store
        self._pool: ProcessPoolExecutor | None = None
        self._pending: dict[Future[Counter[str]], Sequence[SweepPoint]] = {}
        self._refused: list[Sequence[SweepPoint]] = []

    def start(self) -> None:
        if self._pool is None:
            self._pool = self._new_pool()

    def wants_more(self) -> bool:
        return len(self._pending) < _AHEAD * self.n_workers and not self._refused

    def is_idle(self) -> bool:
        return not self._pending and not self._refused

    def submit(self, points: Sequence[SweepPoint]) -> None:
        assert self._pool is not None
        try:
            with deaf_to_interrupts():  # a worker inherits that until it has set itself up
                self._pending[self._pool.submit(do_points, points)] = points
        except BrokenProcessPool:
            self._refused.append(points)

    def collect(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        try:
            for future in wait(self._pending, timeout=_MOMENT_S, return_when=FIRST_COMPLETED).done:
                outcomes.append(Outcome(counts=future.result()))
                del self._pending[future]
        except BrokenProcessPool:
            return outcomes + self._after_a_crash()
        return outcomes + (self._after_a_crash() if self._refused else [])

    def _after_a_crash(self) -> list[Outcome]:
        """What was handed over and not finished, once there are new workers."""
        lost = [*self._pending.values(), *self._refused]
        self._pending.clear()
        self._refused.clear()
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = self._new_pool()
        outcomes = []
        for points in lost:
            finished = self._store.statuses(point.key for point in points)
            left = [point for point in points if point.key not in finished]
            outcomes.append(Outcome(counts=Counter(finished.values()), left=left, killed=True))
        return outcomes

    def _new_pool(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            self.n_workers, mp_context=self._context, initializer=begin_worker, initargs=self._arguments
        )
        try:
            with deaf_to_interrupts():
                ready = pool.submit(is_ready)
            ready.result()
        except BrokenProcessPool:
            pool.shutdown()
            raise WorkerError(
                'the worker processes cannot start; a script that runs a sweep needs if __name__ == "__main__": around '
                "it (or jobs=1), and the store must be writable"
            ) from None
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        return pool

    def close(self) -> None:
        self._stop.value = 1
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
