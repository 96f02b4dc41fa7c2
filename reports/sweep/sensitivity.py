"""How much each parameter decides: its share of the variance of the objective, and the best at each of its values.

The share is the correlation ratio of an analysis of variance with one factor (main effects; in a full grid the same as
the first-order index of Sobol): with y = log(objective) of the n finished points of a workload, n_v with value v,

    share = sum over v of n_v (mean of y at v - mean of y)^2  /  sum over all points of (y - mean of y)^2.

The logarithm is taken because parameters multiply latency and energy rather than add to them. Points that were drawn
and not laid out in a grid differ in the other parameters too, which alone makes means differ; there the share that as
many values without any effect would get is taken off (epsilon squared, Kelley 1935): (SS_v - (k - 1) s^2) / SS with
s^2 = (SS - SS_v) / (n - k) for k values, not below 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tilewright.reports.sweep.case import SweepCase
from tilewright.search.sweep.spec import Axis

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Effect", "ValueBest", "sensitivity"]

_MOST_VALUES = 12
_BINS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBest:
    """The best objective within the limits at one value of a parameter, by workload (those that have one), and the
    geometric mean of its ratio to the best of all; None where a workload has no such point."""

    value: str
    by_workload: Mapping[str, float]
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """``name``: the parameter's paths (those that vary together are one), or "dataflow". ``share`` of the variance is
    the mean of those ``by_workload``. ``binned``: values are ranges that hold equally many points."""

    name: str
    paths: tuple[str, ...]
    share: float
    by_workload: Mapping[str, float]
    values: tuple[ValueBest, ...]
    binned: bool


def sensitivity(case: SweepCase) -> tuple[Effect, ...]:
    """The effect of every parameter with more than one value among the finished points, the largest share first."""
    if case.points.empty:
        return ()
    sweep = case.opened.sweep
    adjusted = sweep.sampling.method != "grid"
    factors = [*sweep.axes, Axis(paths=("dataflow",))]
    effects = []
    for axis in factors:
        levels, names, binned = _levels(case.points, axis)
        if len(names) > 1:
            effects.append(_effect(case, axis, levels, names, binned, adjusted))
    return tuple(sorted(effects, key=lambda effect: -effect.share))


def _levels(points: pd.DataFrame, axis: Axis) -> tuple[np.ndarray, list[str], bool]:
    """The number of each point's value, and what the values are called; many different numbers fall into bins."""
    columns = points[list(axis.paths)]
    if len(axis.paths) == 1:
        values = columns.iloc[:, 0]
        is_number = not any(isinstance(value, str | bool) for value in values)
        if is_number and values.nunique() > _MOST_VALUES:
            return _bins(values.to_numpy(dtype=float))
    settings = list(map(tuple, columns.to_numpy(dtype=object).tolist()))
    known = sorted(set(settings), key=lambda setting: [(isinstance(v, str), v) for v in setting])
    places = {setting: at for at, setting in enumerate(known)}
    names = [" x ".join(_value_text(value) for value in setting) for setting in known]
    return np.array([places[setting] for setting in settings]), names, False


def _bins(values: np.ndarray) -> tuple[np.ndarray, list[str], bool]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)))
    levels = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    names = [f"{_value_text(low)} to {_value_text(high)}" for low, high in pairwise(edges)]
    return levels, names, True


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _effect(
    case: SweepCase, axis: Axis, levels: np.ndarray, names: Sequence[str], binned: bool, adjusted: bool
) -> Effect:
    objective = case.points[case.objective].to_numpy(dtype=float)
    within = case.points["within_limits"].to_numpy(dtype=bool)
    workloads = case.points["workload"].to_numpy(dtype=object)
    shares: dict[str, float] = {}
    bests: list[dict[str, float]] = [{} for _ in names]
    overall: dict[str, float] = {}
    for workload in case.workloads:
        own = workloads == workload
        shares[workload] = _share(np.log(np.maximum(objective[own], 1e-300)), levels[own], adjusted)
        legal = own & within
        if legal.any():
            overall[workload] = float(objective[legal].min())
        for level, best in enumerate(bests):
            chosen = legal & (levels == level)
            if chosen.any():
                best[workload] = float(objective[chosen].min())
    values = tuple(
        ValueBest(value=name, by_workload=best, ratio=_mean_ratio(best, overall))
        for name, best in zip(names, bests, strict=True)
    )
    mean = sum(shares.values()) / len(shares)
    name = " and ".join(axis.paths)
    return Effect(name=name, paths=axis.paths, share=mean, by_workload=shares, values=values, binned=binned)


def _share(y: np.ndarray, levels: np.ndarray, adjusted: bool) -> float:
    """The formula of this module's head; 0 where nothing varies."""
    total = float(((y - y.mean()) ** 2).sum())
    if total <= 1e-12 * max(1.0, float((y**2).sum())):
        return 0.0
    counts = np.bincount(levels)
    sums = np.bincount(levels, weights=y)
    there = counts > 0
    between = float((counts[there] * (sums[there] / counts[there] - y.mean()) ** 2).sum())
    n, k = len(y), int(there.sum())
    if adjusted and n > k:
        between -= (k - 1) * (total - between) / (n - k)
    return min(1.0, max(0.0, between / total))


def _mean_ratio(best: Mapping[str, float], overall: Mapping[str, float]) -> float | None:
    if not overall or set(best) != set(overall):
        return None
    return math.exp(sum(math.log(best[name] / overall[name]) for name in overall) / len(overall))
