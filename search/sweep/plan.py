"""Which points a sweep has: known beforehand for grids and sequences, found on the way for an adaptive search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilewright.search.sweep.adaptive import Scores, generations
from tilewright.search.sweep.design_figures import base_values
from tilewright.search.sweep.front import DesignScore, score_design
from tilewright.search.sweep.rows import design_check, flat_row
from tilewright.search.sweep.space import Design, SweepPoint, points, points_of
from tilewright.search.sweep.spec import Sweep
from tilewright.search.sweep.store import ResultsStore

__all__ = ["planned_points", "stored_scores"]


def planned_points(sweep: Sweep, store: ResultsStore) -> Iterator[SweepPoint]:
    """The points of ``sweep`` in its order; of an adaptive search those that follow from the results in ``store``.

    An adaptive search whose last points are not in the store goes on from there; otherwise it has ended.
    """
    if not sweep.sampling.is_adaptive:
        yield from points(sweep)
        return
    for designs in generations(sweep, stored_scores(sweep, store)):
        batch = list(points_of(sweep, designs))
        yield from batch
        if len(store.statuses(point.key for point in batch)) < len(batch):
            return


def stored_scores(sweep: Sweep, store: ResultsStore) -> Scores:
    """A function that reads the scores of designs, all of whose points are in ``store``."""
    base = base_values(sweep.machine)
    check = design_check(sweep)
    n_each = len(sweep.layers) * len(sweep.dataflows)

    def scores(designs: Sequence[Design]) -> list[DesignScore]:
        keys = [point.key for point in points_of(sweep, designs)]
        rows = [flat_row(sweep, base, row) for row in store.rows(keys, check=check)]
        return [score_design(sweep, rows[at : at + n_each])[0] for at in range(0, len(rows), n_each)]

    return scores
