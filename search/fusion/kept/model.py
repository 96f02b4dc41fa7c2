"""The plan by known costs and floors, by CP-SAT: a way for each group, each node in one group, a room for everything.

A map that is on chip is there for every node between its maker and its last reader, in whatever order groups run: the
room is asked for at each node, for what is surely there with it. That is a relaxation, and exact where the groups run
in one order only; orders that wait in a circle are forbidden one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tilewright.search.cp_sat import has_answer, new_solver
from tilewright.search.fusion.kept.costs import Way
from tilewright.search.fusion.kept.tensors import Pattern, Tensors
from tilewright.search.fusion.methods.exact import circle_of
from tilewright.search.fusion.plan import Plan, ordered
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members

__all__ = ["Chosen", "chosen_groups"]


class Chosen(NamedTuple):
    """The groups in order with their patterns and ways, and what no plan of these groups is below."""

    plan: Plan
    patterns: Mapping[int, Pattern]
    ways: Mapping[int, Way]
    bound: int


class _Choice(NamedTuple):
    mask: int
    pattern: Pattern
    way: Way


def chosen_groups(
    graph: FusionGraph,
    tensors: Tensors,
    ways: Mapping[int, Mapping[Pattern, Sequence[Way]]],
    capacity: int,
    *,
    hint: Mapping[int, Pattern],
    seconds: float,
) -> Chosen | None:
    """The best plan of the groups of ``ways``; None where none was found in time."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    choices = [
        _Choice(mask, pattern, way)
        for mask, of_mask in ways.items()
        for pattern, of_pattern in of_mask.items()
        for way in of_pattern
    ]
    picked = [model.new_bool_var("") for _ in choices]
    kept = [model.new_bool_var(one.name) for one in tensors.maps]
    weights = model.new_int_var(0, capacity, "weights")
    model.add(
        weights
        == sum(
            tensors.of(choice.mask).weight_bytes * one
            for choice, one in zip(choices, picked, strict=True)
            if choice.pattern.weights
        )
    )
    of_node: list[list[int]] = [[] for _ in graph.nodes]
    for number, choice in enumerate(choices):
        for i in members(choice.mask):
            of_node[i].append(number)
    for node in graph.nodes:
        own = of_node[node.index]
        model.add_exactly_one(picked[number] for number in own)
        there = _surely_there(graph, tensors, node.index)
        for number, a_map in enumerate(tensors.maps):
            if a_map.users >> node.index & 1:
                model.add(kept[number] == sum(picked[n] for n in own if number in choices[n].pattern.maps))
        room = sum(tensors.maps[number].n_bytes * kept[number] for number in there)
        taken = sum(
            (choices[n].way.need + sum(tensors.maps[k].n_bytes for k in choices[n].pattern.maps - there)) * picked[n]
            for n in own
        )
        model.add(weights + room + taken <= capacity)
    # Among plans of one cost the one that keeps most, for it is the likeliest to be what its floors say.
    near = [len(choice.pattern.maps) + choice.pattern.weights for choice in choices]
    scale = 1 + 2 * sum(1 + one.readers.bit_count() for one in tensors.maps) + len(graph)
    model.minimize(
        sum((scale * choice.way.cost - n) * one for choice, n, one in zip(choices, near, picked, strict=True))
    )
    for choice, one in zip(choices, picked, strict=True):
        model.add_hint(one, hint.get(choice.mask) == choice.pattern)
    while True:
        solver = new_solver(seed=1, is_linear=True, seconds=seconds)
        is_answered = has_answer(solver, model)
        seconds -= solver.wall_time
        if not is_answered:
            return None
        found = [choice for choice, one in zip(choices, picked, strict=True) if solver.boolean_value(one)]
        plan = tuple(choice.mask for choice in found)
        runnable = ordered(graph, plan)
        if len(runnable) == len(plan):
            bound = int(-(-(solver.best_objective_bound - 1e-3) // scale))
            patterns = {choice.mask: choice.pattern for choice in found}
            return Chosen(runnable, patterns, {choice.mask: choice.way for choice in found}, bound)
        if seconds <= 0:
            return None
        circle = set(circle_of(graph, tuple(set(plan) - set(runnable))))
        for mask in circle:
            assert mask in ways
        # One choice of some group of the circle must not be taken.
        taken_of = {
            mask: [one for choice, one in zip(choices, picked, strict=True) if choice.mask == mask] for mask in circle
        }
        model.add(sum(one for ones in taken_of.values() for one in ones) <= len(circle) - 1)


def _surely_there(graph: FusionGraph, tensors: Tensors, i: int) -> frozenset[int]:
    """Maps that, where they are kept, are there while the group of node i runs, whatever the groups and their order."""
    above, below = graph.ancestors[i] | 1 << i, graph.descendants[i] | 1 << i
    return frozenset(
        number for number, one in enumerate(tensors.maps) if above >> one.maker & 1 and one.readers & below
    )
