"""Points drawn by chance, each once: what a method must be better than."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem

__all__ = ["RANDOM"]

_BATCH = 2


def propose(problem: Problem) -> Iterator[list[Point]]:
    """A random order of all points, in batches."""
    order = list(problem.points)
    problem.random.shuffle(order)
    for at in range(0, len(order), _BATCH):
        yield order[at : at + _BATCH]


RANDOM = register(
    SearchMethod(name="random", summary="tilings drawn by chance, as a baseline", propose=propose), rank=8
)
