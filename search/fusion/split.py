"""Repairing plans: groups that do not fit are split until their parts do, by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tilewright.search.fusion.plan import Plan, cuts_at, inner_edges
from tilewright.search.fusion.problem import FusionProblem

__all__ = ["Splitter", "random_splitter", "repaired"]

#: Parts that fit of a connected, convex group that does not, in an order in which they can run.
Splitter: TypeAlias = Callable[[FusionProblem, int], Plan]


def random_splitter(problem: FusionProblem, mask: int) -> Plan:
    """Cut at a random edge, and again where a part does not fit."""
    if problem.fits(mask):
        return (mask,)
    edges = inner_edges(problem.graph, mask)
    cuts = cuts_at(problem.graph, mask, edges[problem.random.randrange(len(edges))])
    first, second = cuts[problem.random.randrange(len(cuts))]
    return (*random_splitter(problem, first), *random_splitter(problem, second))


def repaired(problem: FusionProblem, plan: Plan, split: Splitter) -> Plan:
    """The plan with every group that does not fit split by ``split``; by chance, where that gives a plan known already.

    (A join of two groups that is cut where they met before is such a plan.)
    """
    if all(problem.fits(mask) for mask in plan):
        return plan
    found = _all_split(problem, plan, split)
    return _all_split(problem, plan, random_splitter) if problem.was_proposed(found) else found


def _all_split(problem: FusionProblem, plan: Plan, split: Splitter) -> Plan:
    found: list[int] = []
    for mask in plan:
        if problem.fits(mask):
            found.append(mask)
            continue
        problem.n_split += 1
        found.extend(split(problem, mask))
    return tuple(found)
