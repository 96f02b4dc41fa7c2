"""Points done on a Dask cluster whose workers come and go. This process alone writes the store.

A worker hands back what it has finished after a quarter of a second (or a point that takes longer), and the rest of
its batch follows at once to the same worker, so that a worker that is killed takes little with it and neighbouring
points still share what was counted. Dask does a batch again elsewhere when its worker is killed, and gives up a batch
that has lost several workers; then it is this batch's points that are suspected.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import re
import time
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError
from tilewright.search.executors.cluster_work import NeedsBench, OtherCode, RowsOf, do_some
from tilewright.search.executors.executor import Outcome, WorkerError
from tilewright.search.mapping_cache import code_digest
from tilewright.search.sweep.space import SweepPoint
from tilewright.search.sweep.store import ResultsStore
from tilewright.search.sweep.work import SweepBench

__all__ = ["ClusterExecutor", "check_scheduler"]

_MOMENT_S = 0.5
_POLL_S = 0.01
_SLICE_S = 0.25
_CENSUS_S = 1.0
_PATIENCE_S = 10.0  # for the scheduler to answer, at the start and after a lost connection
_AHEAD = 2
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx|ucxx)://(\[[0-9A-Fa-f:.]+\]|[^\s/:\[\]]+):\d{1,5}")
_RESUME = "the points finished so far are in the store, and the same command goes on from there"


def check_scheduler(address: str) -> None:
    """Raise InputError unless ``address`` looks like that of a Dask scheduler, and Dask is installed."""
    if not _ADDRESS.fullmatch(address):
        raise InputError(f'scheduler: not an address; given "{address}"; allowed for example tcp://10.0.0.1:8786')
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InputError("scheduler: needs Dask; install it with: pip install 'tilewright[cluster]'") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """Points on their way, and the worker for which they are meant first."""

    points: Sequence[SweepPoint]
    worker: str | None


class ClusterExecutor:
    """A client of the Dask scheduler at ``address``. Raises InputError as :func:`check_scheduler` does."""

    verdict = "worker processes were killed again and again while they ran this point (out of memory, or a crash)"

    def __init__(self, bench: SweepBench, store: ResultsStore, address: str) -> None:
        check_scheduler(address)
        self._address = address
        self._store = store
        self._bench = pickle.dumps(bench)
        self._bench_name = hashlib.sha256(self._bench).hexdigest()
        self._client: Any = None
        self._arriving: Any = None
        self._pending: dict[Any, _Sent] = {}
        self._n_workers = 1  # until they are counted
        self._counted_at = float("-inf")

    @property
    def n_workers(self) -> int:
        return self._n_workers

    def start(self) -> None:
        if self._client is not None:
            return
        from distributed import Client, as_completed

        _silence()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about versions: what matters is compared with each batch
                self._client = Client(self._address, timeout=_PATIENCE_S, set_as_default=False, name="tilewright")
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise WorkerError(
                f"no Dask scheduler answers at {self._address} ({reason}); start one with: dask scheduler, and workers "
                "with: dask worker ADDRESS --nthreads 1"
            ) from None
        self._arriving = as_completed(loop=self._client.loop, with_results=True, raise_errors=False)
        self._count_workers()

    def wants_more(self) -> bool:
        return len(self._pending) < _AHEAD * max(1, self._n_workers)

    def is_idle(self) -> bool:
        return not self._pending

    def submit(self, points: Sequence[SweepPoint]) -> None:
        self._submit(points)

    def _submit(self, points: Sequence[SweepPoint], worker: str | None = None, *, with_bench: bool = False) -> None:
        """Send ``points``, to the front of the queue of ``worker`` if it is still there.

        What all points share may be large, so that it goes only to a worker that says it does not know it.
        """
        self._be_connected()
        future = self._client.submit(
            do_some,
            code_digest(),
            self._bench_name,
            self._bench if with_bench else None,
            pickle.dumps(points),
            _SLICE_S,
            pure=False,
            workers=None if worker is None else [worker],
            allow_other_workers=worker is not None,
            priority=0 if worker is None else 1,
        )
        self._pending[future] = _Sent(points=points, worker=worker)
        self._arriving.add(future)

    def collect(self) -> list[Outcome]:
        self._be_connected()
        self._count_workers()
        give_up = time.monotonic() + _MOMENT_S
        while not self._arriving.has_ready() and time.monotonic() < give_up and self._client.status == "running":
            time.sleep(_POLL_S)
        outcomes = []
        for future, result in self._arriving.next_batch(block=False):
            sent = self._pending.pop(future, None)
            if sent is not None:
                outcomes.append(self._outcome(future.status, result, sent.points))
        return outcomes + self._dropped()

    def _outcome(self, status: str, result: Any, points: Sequence[SweepPoint]) -> Outcome:
        from distributed.scheduler import KilledWorker

        if status == "error":
            error = result[1]
            if isinstance(error, KilledWorker):
                return Outcome(counts=Counter(), left=points, killed=True)
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise WorkerError(
                f"the cluster cannot run this Tilewright ({what}); install the same version on its scheduler and "
                f"workers; {_RESUME}"
            )
        if isinstance(result, OtherCode):
            raise _other_code(result)
        if isinstance(result, NeedsBench):
            self._submit(points, result.address, with_bench=True)
            return Outcome(counts=Counter())
        if not isinstance(result, RowsOf):  # cancelled, by somebody else or because the connection was lost
            return Outcome(counts=Counter(), left=points)
        self._store.add_all(result.rows)
        rest = points[len(result.rows) :]
        if rest:
            self._submit(rest, result.address)
        return Outcome(counts=Counter(row.status for row in result.rows))

    def _dropped(self) -> list[Outcome]:
        """Batches that the scheduler does not know any more, as after a lost connection."""
        gone = [future for future in self._pending if future.status in ("cancelled", "lost")]
        return [Outcome(counts=Counter(), left=self._pending.pop(future).points) for future in gone]

    def _be_connected(self) -> None:
        """Wait while the client connects anew; raise WorkerError where the scheduler is gone."""
        while self._client.status == "connecting":
            time.sleep(_POLL_S)
        if self._client.status != "running":
            raise WorkerError(f"lost the Dask scheduler at {self._address}; {_RESUME}")

    def _count_workers(self) -> None:
        now = time.monotonic()
        if now - self._counted_at < _CENSUS_S:
            return
        with contextlib.suppress(OSError):  # a lost connection shows in the client's status
            workers = self._client.ncores()
            self._n_workers = len(workers)
            self._counted_at = now
            self._free_from_the_gone(workers)

    def _free_from_the_gone(self, workers: Collection[str]) -> None:
        """Send anew what was meant for a worker that has gone: Dask may wait for it when no other was there then.

        It goes to no worker in particular and with all it needs, so that Dask counts the workers that it kills.
        """
        if not workers:
            return
        bound = [future for future, sent in self._pending.items() if sent.worker not in (None, *workers)]
        points = [self._pending.pop(future).points for future in bound]
        self._client.cancel(bound, force=True)
        for some in points:
            self._submit(some, with_bench=True)

    def close(self) -> None:
        if self._client is None:
            return
        with contextlib.suppress(Exception):
            if self._client.status == "running":
                self._client.cancel(list(self._pending), force=True)
        with contextlib.suppress(Exception):
            self._client.close(timeout=2)


def _other_code(found: OtherCode) -> WorkerError:
    from tilewright import __version__

    return WorkerError(
        f"the worker {found.address} has another Tilewright (version {found.version}, code {found.code[:8]}) than this "
        f"process (version {__version__}, code {code_digest()[:8]}), so its results could differ; install the same one "
        f"there; {_RESUME}"
    )


def _silence() -> None:
    """Keep Dask's log off the terminal: what matters to the user is said in one sentence."""
    for name in list(logging.root.manager.loggerDict):
        if name == "distributed" or name.startswith("distributed."):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
