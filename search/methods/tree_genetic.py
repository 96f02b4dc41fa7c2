"""MAS-Attention's combination (arXiv 2411.17720): a tree search proposes, a genetic search refines what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from tilewright.search.methods import genetic, tree
from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem

__all__ = ["MCTS_GENETIC"]


def propose(problem: Problem) -> Iterator[Sequence[Point]]:
    """Half of the budget by the tree, one point at a time; then generations from the best of them."""
    yield from islice(tree.propose(problem), (problem.budget + 1) // 2)
    yield from genetic.refine(problem)


MCTS_GENETIC = register(
    SearchMethod(name="mcts_genetic", summary="the tree search proposes, the genetic one refines", propose=propose),
    rank=5,
)
