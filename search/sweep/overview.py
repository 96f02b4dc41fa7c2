"""How far a sweep is and what is best so far, in one pass that reads full rows only of the winners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tilewright.search.objective import score
from tilewright.search.sweep.best import SweepBest, mean_score
from tilewright.search.sweep.design_figures import base_values
from tilewright.search.sweep.plan import planned_points
from tilewright.search.sweep.rows import design_check, flat_row, n_broken_limits
from tilewright.search.sweep.space import SweepPoint, count_points, design_values
from tilewright.search.sweep.spec import Sweep
from tilewright.search.sweep.store import PointFigures, ResultsStore

__all__ = ["SweepOverview", "sweep_overview"]

_LOOK_UP = 512

Score = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOverview:
    """``counts``: points by how they ended, and those ``missing``; ``best``: of the finished ones."""

    counts: Counter[str]
    best: SweepBest


def sweep_overview(sweep: Sweep, store: str | Path) -> SweepOverview:
    """As :func:`tilewright.search.sweep.run.sweep_status` and :func:`tilewright.search.sweep.best.best_of_sweep`
    together.

    The store may not exist yet.
    """
    if not Path(store).exists():
        missing = Counter(missing=count_points(sweep))
        return SweepOverview(counts=missing, best=SweepBest(by_workload={}, design=[], n_within=0))
    with ResultsStore(store, create=False) as opened:
        opened.check()
        race = _Race(sweep)
        check = design_check(sweep)
        for batch in _batches(planned_points(sweep, opened)):
            known = opened.figures((point.key for point in batch), check=check)
            for point in batch:
                race.take(point, known.get(point.key))
        counts = race.counts
        if counts["missing"] and sweep.sampling.is_adaptive:
            counts["missing"] = count_points(sweep) - counts.total() + counts["missing"]
        return SweepOverview(counts=counts, best=race.best(opened))


@dataclass(slots=True)
class _Best:
    """The best score of each workload so far, and the key of its row."""

    scores: dict[int, tuple[Score, str]] = field(default_factory=dict)

    def take(self, layer: int, mine: Score, key: str) -> None:
        there = self.scores.get(layer)
        if there is None or mine < there[0]:
            self.scores[layer] = mine, key


class _Race:
    """Takes the points of a sweep in its order, those of a design one after another."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.counts: Counter[str] = Counter()
        self.n_within = 0
        self._base = base_values(sweep.machine)
        self._of_all = _Best()
        self._of_design = _Best()
        self._design: Any = None
        self._winner: tuple[Score, _Best] | None = None

    def take(self, point: SweepPoint, figures: PointFigures | None) -> None:
        if point.design is not self._design:
            self._close_design()
            self._design = point.design
        if figures is None:
            self.counts["missing"] += 1
            return
        self.counts[figures.status] += 1
        if (
            figures.status != "done"
            or figures.seconds is None
            or figures.energy_pj is None
            or not self._is_within(point, figures)
        ):
            return
        self.n_within += 1
        mine = score(self.sweep.objective, figures.seconds, figures.energy_pj)
        self._of_all.take(point.layer, mine, point.key)
        self._of_design.take(point.layer, mine, point.key)

    def best(self, store: ResultsStore) -> SweepBest:
        """The winners, with all that the store knows about them."""
        self._close_design()
        layers = range(len(self.sweep.layers))
        names = [layer.name for layer in self.sweep.layers]
        of_all, of_design = self._of_all.scores, self._winner[1].scores if self._winner else {}
        keys = [scores[layer][1] for scores in (of_all, of_design) for layer in layers if layer in scores]
        kept = store.rows(dict.fromkeys(keys), check=design_check(self.sweep))
        rows = {row.key: flat_row(self.sweep, self._base, row) for row in kept}
        return SweepBest(
            by_workload={names[layer]: rows[of_all[layer][1]] for layer in layers if layer in of_all},
            design=[rows[of_design[layer][1]] for layer in layers if layer in of_design],
            n_within=self.n_within,
        )

    def _is_within(self, point: SweepPoint, figures: PointFigures) -> bool:
        if not self.sweep.limits:
            return True
        values = design_values(self.sweep, self._base, point.design)
        return n_broken_limits(self.sweep, values | figures._asdict()) == 0

    def _close_design(self) -> None:
        served = self._of_design
        if not served.scores:
            return
        self._of_design = _Best()
        if len(served.scores) < len(self.sweep.layers) or self._is_far_behind(served):
            return
        mean = mean_score([served.scores[layer][0] for layer in range(len(self.sweep.layers))])
        if self._winner is None or mean < self._winner[0]:
            self._winner = mean, served

    def _is_far_behind(self, served: _Best) -> bool:
        """Whether a design is worse than the best one for every workload, by more than roundings of a mean."""
        if self._winner is None:
            return False
        best = self._winner[1].scores
        return all(mine[0] > 1.000001 * best[layer][0][0] > 0 for layer, (mine, _) in served.scores.items())


def _batches(points: Iterable[SweepPoint]) -> Iterator[list[SweepPoint]]:
    them = iter(points)
    while batch := list(islice(them, _LOOK_UP)):
        yield batch
