"""Local search: a population of ten plans, one random edit of each at a time, and the ten best are kept."""

from __future__ import annotations

from tilewright.search.fusion.methods.method import FusionMethod, register
from tilewright.search.fusion.plan import (
    Plan,
    cuts_at,
    inner_edges,
    merged,
    random_plan,
    replaced,
    taken_out,
)
from tilewright.search.fusion.problem import FusionProblem
from tilewright.search.fusion.split import Splitter, repaired

__all__ = ["LOCAL", "POPULATION", "edited"]

POPULATION = 10
_TRIES = 20


def search(problem: FusionProblem, split: Splitter) -> None:
    """Begin with random plans; edit, repair, and keep the best of old and new until the budget is spent."""
    population: list[tuple[int, Plan]] = []
    while len(population) < POPULATION and not problem.exhausted:
        plan = repaired(problem, random_plan(problem.graph, problem.fusable, problem.random), split)
        population.append((problem.propose(plan), plan))
    while not problem.exhausted:
        for _, plan in tuple(population):
            if problem.exhausted:
                break
            other = repaired(problem, edited(problem, plan), split)
            population.append((problem.propose(other), other))
        distinct = {frozenset(plan): (value, plan) for value, plan in reversed(population)}
        population = sorted(distinct.values(), key=lambda one: one[0])[:POPULATION]


def edited(problem: FusionProblem, plan: Plan) -> Plan:
    """The plan after one random edit: a node moved to a group next to it, two groups joined, or one split.

    The same plan where none of a few tries can be done (everything is one group of one node).
    """
    for _ in range(_TRIES):
        kind = problem.random.randrange(3)
        found = (_move, _join, _split)[kind](problem, plan)
        if found is not None and found != plan:
            return found
    return plan


def _random_edge(problem: FusionProblem) -> tuple[int, int] | None:
    """A random edge between two nodes that can be in groups with others; None where there is none."""
    return problem.edges[problem.random.randrange(len(problem.edges))] if problem.edges else None


def _place(plan: Plan, node: int) -> int:
    return next(at for at, mask in enumerate(plan) if mask >> node & 1)


def _join(problem: FusionProblem, plan: Plan) -> Plan | None:
    edge = _random_edge(problem)
    if edge is None:
        return None
    first, second = (_place(plan, node) for node in edge)
    return None if first == second else merged(problem.graph, plan, first, second)


def _move(problem: FusionProblem, plan: Plan) -> Plan | None:
    edge = _random_edge(problem)
    if edge is None:
        return None
    node, target = edge if problem.random.random() < 0.5 else edge[::-1]
    at = _place(plan, node)
    if plan[at] >> target & 1:
        return None
    alone = taken_out(problem.graph, plan, at, node)
    if alone is None:
        return None
    return merged(problem.graph, alone, _place(alone, node), _place(alone, target))


def _split(problem: FusionProblem, plan: Plan) -> Plan | None:
    many = [at for at, mask in enumerate(plan) if mask & (mask - 1)]
    if not many:
        return None
    at = many[problem.random.randrange(len(many))]
    edges = inner_edges(problem.graph, plan[at])
    cuts = cuts_at(problem.graph, plan[at], edges[problem.random.randrange(len(edges))])
    return replaced(plan, at, cuts[problem.random.randrange(len(cuts))])


LOCAL = register(
    FusionMethod(name="local", summary="ten plans, random edits, the ten best kept", search=search),
    with_explanations=True,
    rank=3,
)
