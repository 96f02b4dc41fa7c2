"""Splitting a group that does not fit, by the greedy rule of the graph explanation technique.

The explainer's most responsible edges are made real cuts (:func:`tilewright.search.fusion.plan.cuts_at`). A cut whose
parts both fit is of category 1, one of whose parts fits of category 2, none of whose parts fits of category 3. Of
category 1, the cheapest is taken. Where there is none, the cut of category 2 whose fitting part has most nodes is, and
its other part split further. Where there is none of either, both parts of cuts of category 3 are split further, and the
cheapest outcome is taken; of those cuts, only the first few are followed, and of a large group only the first
(``_MOST_FOLLOWED``, ``_LARGE``: limits of ours, as all of them would take exponential time).

What a group splits into depends on the group alone, so it is remembered, also across searches that share a splitter.
"""

from __future__ import annotations

from tilewright.progress import Progress
from tilewright.search.fusion.explain.explainers import Explainer, check_explainer, get_explainer
from tilewright.search.fusion.explain.samples import Features, Sample
from tilewright.search.fusion.explain.training import Quality, trained_model
from tilewright.search.fusion.plan import Cut, Plan, cuts_at, inner_edges
from tilewright.search.fusion.problem import FusionProblem

__all__ = ["ExplainedSplitter", "explained_splitter"]

_MOST_EDGES = 8
_MOST_FOLLOWED = 2
_LARGE = 16  # nodes

Split = tuple[int, Plan]  # bytes, and the parts in an order in which they can run


class ExplainedSplitter:
    """A :class:`tilewright.search.fusion.split.Splitter` that asks an explainer where to cut.

    ``quality`` is that of the model which is explained.
    """

    def __init__(self, features: Features, explainer: Explainer, quality: Quality) -> None:
        self.quality = quality
        self._features = features
        self._explainer = explainer
        self._known: dict[int, Split] = {}

    def __call__(self, problem: FusionProblem, mask: int) -> Plan:
        return self._split(problem, mask)[1]

    def _split(self, problem: FusionProblem, mask: int) -> Split:
        value = problem.value(mask)
        if value is not None:
            return value, (mask,)
        known = self._known.get(mask)
        if known is None:
            known = self._known[mask] = self._chosen(problem, mask, self._cuts(problem, mask))
        return known

    def _cuts(self, problem: FusionProblem, mask: int) -> list[Cut]:
        """Distinct cuts at the most responsible edges."""
        edges = inner_edges(problem.graph, mask)
        sample = Sample.of_group(self._features, mask, problem.capacity_bytes)
        order = self._explainer(sample)[:_MOST_EDGES]
        return list(dict.fromkeys(cut for at in order for cut in cuts_at(problem.graph, mask, edges[at])))

    def _chosen(self, problem: FusionProblem, mask: int, cuts: list[Cut]) -> Split:
        both: list[Split] = []
        one: list[tuple[int, Cut]] = []
        for first, second in cuts:
            a, b = problem.value(first), problem.value(second)
            if a is not None and b is not None:
                both.append((a + b, (first, second)))
            elif a is not None or b is not None:
                one.append(((second if a is None else first).bit_count(), (first, second)))
        if both:
            return min(both, key=lambda split: split[0])
        if one:
            most = max(n for n, _ in one)
            return self._joined(problem, next(cut for n, cut in one if n == most))
        followed = 1 if mask.bit_count() > _LARGE else _MOST_FOLLOWED
        return min((self._joined(problem, cut) for cut in cuts[:followed]), key=lambda split: split[0])

    def _joined(self, problem: FusionProblem, cut: Cut) -> Split:
        first, second = (self._split(problem, part) for part in cut)
        return first[0] + second[0], first[1] + second[1]


def explained_splitter(
    problem: FusionProblem, explainer: str, *, progress: Progress | None = None
) -> ExplainedSplitter:
    """A splitter for the problem's graph, scheme and buffer; trains what is not in the cache folder.

    Raises InputError for an unknown explainer, and where PyTorch is not installed.
    """
    check_explainer(explainer)
    trained = trained_model(problem.scheme.name, progress=progress)
    return ExplainedSplitter(Features(problem.graph), get_explainer(explainer, trained), trained.quality)
