"""What a worker of a Dask cluster does: some points of a batch, handed back as rows."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.search.mapping_cache import code_digest
from tilewright.search.sweep.space import SweepPoint
from tilewright.search.sweep.store import StoredPoint
from tilewright.search.sweep.work import SweepBench

__all__ = ["NeedsBench", "OtherCode", "RowsOf", "do_some"]

_benches: dict[str, SweepBench] = {}  # at most one; it remembers what was counted for its last points
_one_at_a_time = threading.Lock()  # a bench and the compiled engine serve one thread


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOf:
    """Rows of the first points of a batch, from the worker at ``address``."""

    address: str
    rows: Sequence[StoredPoint]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeedsBench:
    """The worker at ``address`` is new to this sweep: the points must come with the bench."""

    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherCode:
    """The worker at ``address`` has code whose results belong under other content keys."""

    address: str
    version: str
    code: str


def do_some(
    code: str, name: str, bench: bytes | None, points: bytes, seconds: float
) -> RowsOf | NeedsBench | OtherCode:
    """Run ``points`` for about ``seconds``, at least one of them, if this is the code that answers to ``code``.

    ``bench`` and ``points`` are pickled, and not read when the code differs; a bench is kept under ``name``.
    """
    from distributed import get_worker

    from tilewright import __version__

    address = str(get_worker().address)
    if code_digest() != code:
        return OtherCode(address=address, version=__version__, code=code_digest())
    with _one_at_a_time:
        if bench is not None and name not in _benches:
            _set_up(name, bench)
        if name not in _benches:
            return NeedsBench(address=address)
        return RowsOf(address=address, rows=_rows(_benches[name], pickle.loads(points), seconds))


def _rows(bench: SweepBench, points: Sequence[SweepPoint], seconds: float) -> list[StoredPoint]:
    until = time.monotonic() + seconds
    rows = []
    for point in points:
        rows.append(bench.run(point))
        if time.monotonic() > until:
            break
    return rows


def _set_up(name: str, bench: bytes) -> None:
    from tilewright.search import api  # noqa: F401 (registers the dataflows)
    from tilewright.sim.engine import run as engine

    engine.warm_up()
    _benches.clear()
    _benches[name] = pickle.loads(bench)
