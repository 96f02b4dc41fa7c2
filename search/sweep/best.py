"""The best of a sweep: for each workload, and the one design that serves all workloads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.search.objective import score
from tilewright.search.sweep.spec import Sweep

__all__ = ["SweepBest", "best_of_sweep", "mean_score"]

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepBest:
    """``by_workload``: the best row of each workload within the limits. ``design``: rows of the one design that is best
    over all workloads (least geometric mean of the objective, each workload with its best dataflow); empty when no
    design serves them all. ``n_within``: rows within the limits."""

    by_workload: Mapping[str, Row]
    design: Sequence[Row]
    n_within: int


@dataclass(slots=True)
class _Served:
    """The best row of each workload on one design."""

    rows: dict[str, Row] = field(default_factory=dict)


def best_of_sweep(sweep: Sweep, rows: Iterable[Row]) -> SweepBest:
    """The best of ``rows`` (:func:`tilewright.search.sweep.run.sweep_rows`); they may come one at a time.

    Latency is compared in seconds, since designs may differ in their clock.
    """
    by_workload: dict[str, Row] = {}
    by_design: dict[tuple[Any, ...], _Served] = {}
    n_within = 0
    for row in rows:
        if row["status"] != "done" or not row["within_limits"]:
            continue
        n_within += 1
        served = by_design.setdefault(tuple(row[path] for path in sweep.paths), _Served())
        for best in (by_workload, served.rows):
            there = best.get(row["workload"])
            if there is None or _score(sweep, row) < _score(sweep, there):
                best[row["workload"]] = row
    names = [layer.name for layer in sweep.layers]
    complete = [served for served in by_design.values() if len(served.rows) == len(names)]

    def mean(served: _Served) -> tuple[float, float]:
        return mean_score([_score(sweep, served.rows[name]) for name in names])

    design = min(complete, key=mean, default=None)
    return SweepBest(
        by_workload={name: by_workload[name] for name in names if name in by_workload},
        design=[] if design is None else [design.rows[name] for name in names],
        n_within=n_within,
    )


def _score(sweep: Sweep, row: Row) -> tuple[float, float]:
    return score(sweep.objective, row["seconds"], row["energy_pj"])


def mean_score(scores: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Geometric means over the workloads, as logarithms: the objective, then what decides between equals."""
    return tuple(sum(math.log(max(part, 1e-300)) for part in parts) for parts in zip(*scores, strict=True))  # type: ignore[return-value]
