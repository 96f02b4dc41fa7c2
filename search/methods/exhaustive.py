"""Every point in the order of its counted bound, until nothing left can be better: the optimum, proven."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem
from tilewright.search.tiling import Evaluated

__all__ = ["EXHAUSTIVE"]


def propose(problem: Problem) -> Iterator[list[Point]]:
    """The batches of the tiling search, which stops at the first bound that is not below the best result."""

    def best() -> Evaluated | None:
        if problem.front or not problem.results:
            return None
        return min(problem.results.values(), key=problem.search.score)

    for batch in problem.search.batches(best):
        yield [problem.point(candidate) for candidate in batch]


EXHAUSTIVE = register(
    SearchMethod(
        name="exhaustive",
        summary="every tiling that its counted bound does not rule out; the optimum is proven",
        propose=propose,
        share=1.0,
        by_chance=False,
    ),
    rank=1,
    usual=True,
)
