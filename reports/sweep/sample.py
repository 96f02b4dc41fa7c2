"""Which points a page holds: all of them, or of a large sweep the front whole and an even choice of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.reports.sweep.case import SweepCase
from tilewright.reports.sweep.front import front_mask

__all__ = ["PagePoints", "choose_points"]

_MOST_VALUES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePoints:
    """``rows`` of the frame that the page holds, of ``n_all``; ``n_front`` of them are there because of a front, or as
    the best at a value.

    ``complete``: the page holds every point. ``fronts_cut``: there was no room even for all points of the fronts.
    """

    rows: np.ndarray
    n_all: int
    n_front: int
    fronts_cut: bool

    @property
    def complete(self) -> bool:
        return len(self.rows) == self.n_all


def choose_points(case: SweepCase, most: int) -> PagePoints:
    """At most ``most`` points. First the front of each workload over latency, energy and area, within the limits and
    without them; then the front of each pair of these, of each dataflow, and the best at each value of a parameter;
    then points of each workload and dataflow (in proportion to their number), evenly in the order of the objective.
    """
    n = len(case.points)
    if n <= most:
        return PagePoints(rows=np.arange(n), n_all=n, n_front=0, fronts_cut=False)
    chosen = np.zeros(n, dtype=bool)
    fronts_cut = False
    for front in _fronts(case):
        new = np.flatnonzero(front & ~chosen)
        room = most - int(chosen.sum())
        if len(new) > room:
            fronts_cut = True
            new = new[_evenly(len(new), room)]
        chosen[new] = True
    n_front = int(chosen.sum())
    _fill(case, chosen, most)
    return PagePoints(rows=np.flatnonzero(chosen), n_all=n, n_front=n_front, fronts_cut=fronts_cut)


def _fronts(case: SweepCase) -> Iterator[np.ndarray]:
    points = case.points
    costs = points[case.goals].to_numpy(dtype=float)
    within = points["within_limits"].to_numpy(dtype=bool)
    workload = points["workload"].to_numpy(dtype=object)
    dataflow = points["dataflow"].to_numpy(dtype=object)
    everything = np.ones(len(points), dtype=bool)
    pairs = [[a, b] for a in range(len(case.goals)) for b in range(a)]
    all_goals = list(range(len(case.goals)))
    for allowed in (within, everything):
        for goals in (all_goals, *(pair for pair in pairs if pair != all_goals)):
            for name in case.workloads:
                yield _front_of(costs, goals, allowed & (workload == name))
    for name in case.workloads:
        for flow in case.opened.sweep.dataflows:
            yield _front_of(costs, [0, 1], within & (workload == name) & (dataflow == flow))
    yield _best_of_values(case)


def _best_of_values(case: SweepCase) -> np.ndarray:
    """The least latency, energy and area at each value of each parameter with few values, of each workload."""
    mask = np.zeros(len(case.points), dtype=bool)
    within = case.points[case.points["within_limits"]]
    for path in case.opened.sweep.paths:
        if within[path].nunique() <= _MOST_VALUES:
            for goal in case.goals:
                mask[within.groupby(["workload", path])[goal].idxmin().to_numpy()] = True
    return mask


def _front_of(costs: np.ndarray, goals: Sequence[int], own: np.ndarray) -> np.ndarray:
    mask = np.zeros(len(costs), dtype=bool)
    rows = np.flatnonzero(own)
    mask[rows[front_mask(costs[rows][:, list(goals)])]] = True
    return mask


def _fill(case: SweepCase, chosen: np.ndarray, most: int) -> None:
    """Add points until there are ``most``: of each workload and dataflow its share, evenly over the objective."""
    points = case.points
    objective = points[case.objective].to_numpy(dtype=float)
    room = most - int(chosen.sum())
    n_left = len(points) - int(chosen.sum())
    for indices in points.groupby(["workload", "dataflow"], sort=False).indices.values():
        rows = np.asarray(indices)
        left = rows[~chosen[rows]]
        left = left[np.argsort(objective[left], kind="stable")]
        chosen[left[_evenly(len(left), room * len(left) // max(1, n_left))]] = True


def _evenly(n: int, wanted: int) -> np.ndarray:
    """``wanted`` places of ``n``, as far apart as they can be, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, wanted)).round().astype(int)) if wanted > 0 else np.empty(0, int)
