"""The proven optimum over all groups that fit: dynamic programming, and CP-SAT.

**Dynamic programming** over what has been done so far: a set of nodes closed under what they read (a downset). The
groups of any plan that can run, in an order in which they can, lead from the empty set to all nodes through such sets;
so the cheapest way through them is the optimum, for every graph. Chains have as many downsets as nodes and graphs of
few parallel branches (series-parallel ones, all usual convolutional networks) hardly more; a graph of many long
parallel branches has too many, and is refused.

**CP-SAT** chooses among the same groups, each node in exactly one. Where the groups of a solution wait for each other
in a circle, that circle is forbidden and the rest solved again; bounds of the looser problem hold for the whole.
"""

from __future__ import annotations

import math

from tilewright.errors import InputError
from tilewright.search.cp_sat import has_answer, new_solver
from tilewright.search.fusion.groups import fitting_groups
from tilewright.search.fusion.methods.method import FusionMethod, register
from tilewright.search.fusion.plan import Plan, ordered
from tilewright.search.fusion.problem import FusionProblem
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members

__all__ = ["by_constraints", "by_dynamic_programming", "circle_of", "ready_nodes"]

_MOST_DOWNSETS = 200_000
_DETERMINISTIC_SECONDS = 60.0


def by_dynamic_programming(problem: FusionProblem) -> None:
    """Propose the optimum and set its value as the proven bound; raises InputError for too wide a graph."""
    groups = fitting_groups(problem)
    problem.n_groups_listed = len(groups)
    problem.propose(_cheapest_way(problem.graph, groups))
    problem.lower_bound = problem.best_value


def _cheapest_way(graph: FusionGraph, groups: dict[int, int]) -> Plan:
    first_node: list[list[tuple[int, int, int]]] = [[] for _ in graph.nodes]
    for mask, value in groups.items():
        needs = 0
        for i in members(mask):
            needs |= graph.predecessor_masks[i]
        first_node[(mask & -mask).bit_length() - 1].append((mask, needs & ~mask, value))
    # By number of nodes done: the least cost of each downset, the group that led to it.
    best: list[dict[int, tuple[int, int]]] = [{} for _ in range(len(graph) + 1)]
    best[0][0] = (0, 0)
    n_downsets = 0
    for size in range(len(graph)):
        n_downsets += len(best[size])
        if n_downsets > _MOST_DOWNSETS:
            raise InputError(
                f"{graph.name}: dp: more than {_MOST_DOWNSETS:,} sets of finished operators; too many parallel "
                "branches for it; allowed cp_sat"
            )
        for done, (cost, _) in best[size].items():
            for i in ready_nodes(graph, done):
                for mask, needs, value in first_node[i]:
                    if needs & ~done or mask & done:
                        continue
                    after, total = done | mask, cost + value
                    level = best[after.bit_count()]
                    known = level.get(after)
                    if known is None or total < known[0]:
                        level[after] = (total, mask)
    plan: list[int] = []
    done = graph.all_mask
    while done:
        mask = best[done.bit_count()][done][1]
        plan.append(mask)
        done &= ~mask
    return tuple(reversed(plan))


def ready_nodes(graph: FusionGraph, done: int) -> list[int]:
    """Nodes that are not done, and everything that they read is. Usual networks have one or few."""
    left = graph.all_mask & ~done
    found = []
    while left:
        low = left & -left
        i = low.bit_length() - 1
        if not graph.predecessor_masks[i] & ~done:
            found.append(i)
        left &= ~(low | graph.descendants[i])
    return found


def by_constraints(problem: FusionProblem) -> None:
    """Propose what CP-SAT finds, and set the bound that it proves. One worker, so that a seed repeats."""
    from ortools.sat.python import cp_model

    graph = problem.graph
    groups = fitting_groups(problem)
    problem.n_groups_listed = len(groups)
    unit = math.gcd(*groups.values())  # smaller figures are easier on the solver
    model = cp_model.CpModel()
    chosen = {mask: model.new_bool_var(f"group{at}") for at, mask in enumerate(groups)}
    for node in graph.nodes:
        model.add_exactly_one(variable for mask, variable in chosen.items() if mask & node.bit)
    model.minimize(sum(value // unit * chosen[mask] for mask, value in groups.items()))
    hinted = set(problem.best)
    for mask, variable in chosen.items():
        model.add_hint(variable, mask in hinted)
    seconds_left = _DETERMINISTIC_SECONDS
    while seconds_left > 0:
        solver = new_solver(seed=problem.seed, is_linear=True, deterministic_seconds=seconds_left)
        is_answered = has_answer(solver, model)
        seconds_left -= solver.response_proto.deterministic_time
        # Of whole numbers of units; what the solver's floats add to one is far less than a thousandth.
        problem.lower_bound = max(0, unit * math.ceil(solver.best_objective_bound - 1e-3))
        if not is_answered:
            return
        plan = tuple(mask for mask, variable in chosen.items() if solver.boolean_value(variable))
        runnable = ordered(graph, plan)
        if len(runnable) == len(plan):
            problem.propose(runnable)
            return
        circle = circle_of(graph, tuple(set(plan) - set(runnable)))
        model.add_bool_or(~chosen[mask] for mask in circle)


def circle_of(graph: FusionGraph, groups: Plan) -> Plan:
    """Some groups that wait for each other in a circle, of groups none of which can run first."""
    owner = {i: mask for mask in groups for i in members(mask)}
    way: list[int] = [min(groups)]
    while True:
        mask = way[-1]
        needed = {owner[p] for i in members(mask) for p in graph.predecessors[i] if p in owner} - {mask}
        before = min(needed)
        if before in way:
            return tuple(way[way.index(before) :])
        way.append(before)


register(
    FusionMethod(
        name="dp",
        summary="proven optimum by dynamic programming over what is done so far",
        search=lambda problem, split: by_dynamic_programming(problem),
        by_chance=False,
        has_budget=False,
    ),
    rank=1,
    usual=True,
)
register(
    FusionMethod(
        name="cp_sat",
        summary="OR-Tools chooses among all groups that fit; proven optimum, or bound and gap",
        search=lambda problem, split: by_constraints(problem),
        has_budget=False,
    ),
    rank=2,
)
