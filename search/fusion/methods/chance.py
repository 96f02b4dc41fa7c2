"""The random baseline: plans drawn independently, repaired, and counted."""

from __future__ import annotations

from tilewright.search.fusion.methods.method import FusionMethod, register
from tilewright.search.fusion.plan import random_plan
from tilewright.search.fusion.problem import FusionProblem
from tilewright.search.fusion.split import Splitter, repaired

__all__ = ["RANDOM"]


def search(problem: FusionProblem, split: Splitter) -> None:
    """Draw plans until the budget is spent."""
    while not problem.exhausted:
        problem.propose(repaired(problem, random_plan(problem.graph, problem.fusable, problem.random), split))


RANDOM = register(
    FusionMethod(name="random", summary="plans drawn by chance, repaired", search=search),
    with_explanations=True,
    rank=5,
)
