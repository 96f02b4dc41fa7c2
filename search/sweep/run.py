"""Run a sweep: every design with its best mapping, on all cores or a cluster, into a store that survives anything.

Each finished point is in the store before it is counted, so nothing that was finished is ever lost. Points in the
hands of a worker that is killed are done again one at a time, and one that kills its worker again is set aside
(quarantined) with that as its error.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.hw_models.override import given_data
from tilewright.search.executors.calls import n_cores
from tilewright.search.executors.cluster import ClusterExecutor, check_scheduler
from tilewright.search.executors.dispatch import Dispatcher
from tilewright.search.executors.executor import Executor, WorkerError
from tilewright.search.executors.inline import InlineExecutor
from tilewright.search.executors.pool import PoolExecutor
from tilewright.search.sweep.adaptive import generations
from tilewright.search.sweep.design_figures import base_values
from tilewright.search.sweep.plan import planned_points, stored_scores
from tilewright.search.sweep.rows import design_check, flat_row
from tilewright.search.sweep.space import SweepPoint, count_points, points, points_of
from tilewright.search.sweep.spec import Sweep, load_sweep
from tilewright.search.sweep.store import RETRIED, OnDamaged, ResultsStore
from tilewright.search.sweep.work import SweepBench

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SweepProgress", "WorkerError", "flat_row", "run_sweep", "sweep", "sweep_rows", "sweep_status"]

_LOOK_UP = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepProgress:
    """How far a sweep is: points ``done`` of ``total``, those of this run each second, and the seconds left.

    ``counts`` says how many of the points of this run ended in which status; ``n_workers`` processes are at work.
    """

    done: int
    total: int
    points_per_s: float
    seconds_left: float | None
    counts: Mapping[str, int]
    n_workers: int


Watch = Callable[[SweepProgress], None]


def sweep(
    spec: str | Path | Mapping[str, Any] | Sweep,
    store: str | Path | None = None,
    jobs: int | None = None,
    *,
    scheduler: str | None = None,
    retry_failed: bool = False,
    progress: Watch | None = None,
) -> pd.DataFrame:
    """Run the sweep in a file (or a mapping of the same fields) and give its rows, one a design point.

    ``store``: the file that keeps the results, from which a sweep that was broken off goes on; None: a temporary one.
    ``jobs``: worker processes, all cores when None; 1 works in this process. A script that uses more needs
    ``if __name__ == "__main__":``. ``scheduler``: a Dask scheduler (``tcp://host:port``) whose workers do the
    points instead. ``retry_failed``: do failed points again. See :func:`sweep_rows` for the columns.
    """
    import pandas as pd

    checked = spec if isinstance(spec, Sweep) else load_sweep(spec)
    with contextlib.ExitStack() as stack:
        if store is None:
            store = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sweep.db"
        run_sweep(checked, store, jobs=jobs, scheduler=scheduler, retry_failed=retry_failed, progress=progress)
        return pd.DataFrame(sweep_rows(checked, store))


def run_sweep(
    sweep: Sweep,
    store: str | Path,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    progress: Watch | None = None,
) -> Counter[str]:
    """Do every point of ``sweep`` that is not in ``store`` yet; how many of them ended in which status.

    ``jobs`` processes of this machine do them (None: one a core), or the workers of the Dask ``scheduler``.
    Raises StoreError when the store cannot be written, KeyboardInterrupt once the workers have finished
    the points in their hands, WorkerError when no worker can start or the scheduler cannot be reached.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs: out of range; given {jobs}; allowed a whole number of at least 1")
    if jobs is not None and scheduler is not None:
        raise InputError("jobs: says how many processes of this machine work; with a scheduler its own workers do")
    if scheduler is not None:
        check_scheduler(scheduler)
    with ResultsStore(store) as opened:
        opened.check()
        machine = given_data(sweep.machine)
        opened.note_sweep(sweep.text, sweep.name, machine)
        if retry_failed:
            keys = (point.key for point in planned_points(sweep, opened))
            opened.forget(list(keys) if sweep.sampling.is_adaptive else keys, RETRIED)
        bench = SweepBench(machine=sweep.machine, layers=sweep.layers, objective=sweep.objective, area=sweep.area)
        with contextlib.closing(_executor(bench, opened, jobs, scheduler)) as executor:
            return _Run(sweep, opened, bench, executor, progress).all()


def _executor(bench: SweepBench, store: ResultsStore, jobs: int | None, scheduler: str | None) -> Executor:
    if scheduler is not None:
        return ClusterExecutor(bench, store, scheduler)
    n_jobs = n_cores() if jobs is None else jobs
    return InlineExecutor(bench, store) if n_jobs == 1 else PoolExecutor(bench, store, n_jobs)


def sweep_status(sweep: Sweep, store: str | Path) -> Counter[str]:
    """How many points of ``sweep`` ended in which status, and how many are ``missing`` or have a ``damaged`` row; the
    store may not exist yet.

    Of an adaptive search that has not ended as many points are missing as it may still have.
    """
    if not Path(store).exists():
        return Counter(missing=count_points(sweep))
    counts: Counter[str] = Counter()
    with ResultsStore(store, create=False) as opened:
        opened.check()
        for batch in _batches(planned_points(sweep, opened), _LOOK_UP):
            known = opened.statuses(point.key for point in batch)
            counts.update(known.values())
            counts["missing"] += len(batch) - len(known)
    if counts["missing"] and sweep.sampling.is_adaptive:
        counts["missing"] = count_points(sweep) - counts.total() + counts["missing"]
    return counts


def sweep_rows(sweep: Sweep, store: str | Path, *, damaged: OnDamaged | None = None) -> Iterator[dict[str, Any]]:
    """The finished points of ``sweep`` as flat rows, in its order.

    A row that is not as it was written is handed to ``damaged`` and left out; without that, it is an InputError.

    Columns: ``machine``, ``workload``, ``dataflow``, ``objective``, one for each parameter by its path, ``area_mm2``
    (None where not known), ``peak_tops``, ``status`` (done, infeasible, failed, quarantined), ``cycles``, ``seconds``,
    ``energy_pj``, ``power_w`` (average, DRAM included), ``within_limits``, further figures of the result (``tile_...``,
    ``energy_..._pj``), ``error``, ``evaluation_s``, ``key``.
    """
    base = base_values(sweep.machine)
    with ResultsStore(store, create=False, damaged=damaged) as opened:
        planned = (point.key for point in planned_points(sweep, opened))
        for point in opened.rows(planned, check=design_check(sweep)):
            yield flat_row(sweep, base, point)


class _Run:
    def __init__(
        self, sweep: Sweep, store: ResultsStore, bench: SweepBench, executor: Executor, progress: Watch | None
    ) -> None:
        self.sweep = sweep
        self.store = store
        self.bench = bench
        self.executor = executor
        self.progress = progress
        self.total = count_points(sweep)
        self.n_found = 0
        self.counts: Counter[str] = Counter()
        self.begun = time.monotonic()

    def all(self) -> Counter[str]:
        """Do every missing point; how many ended in which status."""
        dispatcher = Dispatcher(self.executor, set_aside=self.set_aside, told=self.told)
        if not self.sweep.sampling.is_adaptive:
            dispatcher.do(self.missing(points(self.sweep)), self.total)
            return self.counts
        for designs in generations(self.sweep, stored_scores(self.sweep, self.store)):
            n_points = len(designs) * self.total // (self.sweep.sampling.n or 1)
            dispatcher.do(self.missing(points_of(self.sweep, designs)), n_points)
        self.total = self.n_found + self.counts.total()  # fewer where the space has no more designs
        self.told(Counter())
        return self.counts

    def missing(self, wanted: Iterator[SweepPoint]) -> Iterator[SweepPoint]:
        """Those of ``wanted`` that the store does not have, looked up a few hundred at a time."""
        for batch in _batches(wanted, _LOOK_UP):
            known = self.store.statuses(point.key for point in batch)
            self.n_found += len(known)
            self.told(Counter())
            yield from (point for point in batch if point.key not in known)

    def set_aside(self, point: SweepPoint, error: str) -> None:
        """Keep ``point`` as one that must not be run again."""
        self.store.add(self.bench.row(point, status="quarantined", error=error))
        self.told(Counter(quarantined=1))

    def told(self, counts: Counter[str]) -> None:
        """Pass on how far the sweep is, now that more points have finished."""
        self.counts.update(counts)
        if self.progress is None:
            return
        n_new = self.counts.total()
        elapsed = time.monotonic() - self.begun
        rate = n_new / elapsed if elapsed > 0 else 0.0
        done = self.n_found + n_new
        left = (self.total - done) / rate if rate else None
        self.progress(
            SweepProgress(
                done=done,
                total=self.total,
                points_per_s=rate,
                seconds_left=left,
                counts=dict(self.counts),
                n_workers=self.executor.n_workers,
            )
        )


def _batches(items: Iterator[SweepPoint], n: int) -> Iterator[list[SweepPoint]]:
    some: list[SweepPoint] = []
    for item in items:
        some.append(item)
        if len(some) == n:
            yield some
            some = []
    if some:
        yield some
