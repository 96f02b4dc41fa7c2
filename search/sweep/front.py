"""Designs weighed against each other: the objectives of a design over all workloads, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.search.objective import score
from tilewright.search.sweep.rows import n_broken_limits
from tilewright.search.sweep.sampling_spec import FrontObjective
from tilewright.search.sweep.spec import Sweep

__all__ = ["FRONT_UNITS", "DesignScore", "FrontDesign", "front_of_sweep", "score_design"]

Row = Mapping[str, Any]

_COLUMNS: dict[FrontObjective, str] = {"latency": "seconds", "energy": "energy_pj", "power": "power_w"}
#: The unit of each objective.
FRONT_UNITS: dict[FrontObjective, str] = {"latency": "s", "energy": "pJ", "power": "W", "area": "mm2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignScore:
    """``objectives`` of a design, less is better (None: some workload does not run on it); ``violation``: 0 when every
    workload runs within the limits, and more the more limits are broken."""

    objectives: tuple[float, ...] | None
    violation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontDesign:
    """A design that no other beats in every objective: ``design`` by path, and its ``rows``, one a workload."""

    design: Mapping[str, Any]
    objectives: tuple[float, ...]
    rows: Sequence[Row]


def score_design(sweep: Sweep, rows: Iterable[Row]) -> tuple[DesignScore, list[Row]]:
    """The score of one design from its rows (:func:`tilewright.search.sweep.run.sweep_rows`), and the row of each
    workload.

    Each workload takes the dataflow that breaks fewest limits, and of those the one that is best in the objective of
    the sweep. Latency (seconds), energy (pJ) and power (W) of the design are geometric means over the workloads,
    so that each workload weighs the same whatever its size; area (mm2) is that of the design.
    """
    best: dict[str, tuple[tuple[int, tuple[float, float]], Row]] = {}
    for row in rows:
        if row["status"] != "done":
            continue
        rank = n_broken_limits(sweep, row), score(sweep.objective, row["seconds"], row["energy_pj"])
        there = best.get(row["workload"])
        if there is None or rank < there[0]:
            best[row["workload"]] = rank, row
    n_missing = len(sweep.layers) - len(best)
    violation = sum(broken for (broken, _), _ in best.values()) + n_missing * (len(sweep.limits) + 1)
    chosen = [best[layer.name][1] for layer in sweep.layers if layer.name in best]
    if n_missing:
        return DesignScore(objectives=None, violation=violation), chosen
    objectives = tuple(_objective(name, chosen) for name in sweep.sampling.objectives)
    return DesignScore(objectives=objectives, violation=violation), chosen


def _objective(name: FrontObjective, rows: Sequence[Row]) -> float:
    if name == "area":
        return float(rows[0]["area_mm2"])
    return math.exp(sum(math.log(max(row[_COLUMNS[name]], 1e-300)) for row in rows) / len(rows))


def front_of_sweep(sweep: Sweep, rows: Iterable[Row]) -> list[FrontDesign]:
    """The designs within the limits that no other beats in every objective of the sampling, best in the first first."""
    by_design: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        by_design.setdefault(tuple(row[path] for path in sweep.paths), []).append(row)
    found = []
    for values, own in by_design.items():
        scored, chosen = score_design(sweep, own)
        if scored.objectives is not None and scored.violation == 0:
            design = dict(zip(sweep.paths, values, strict=True))
            found.append(FrontDesign(design=design, objectives=scored.objectives, rows=chosen))
    front: list[FrontDesign] = []
    for one in sorted(found, key=lambda one: one.objectives):  # none is beaten by one that comes later
        if not any(_beats(other.objectives, one.objectives) for other in front):
            front.append(one)
    return front


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))
