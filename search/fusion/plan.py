"""Partitions of a fusion graph, and the edits that keep them runnable.

A plan is a tuple of disjoint groups (bit masks) that cover the graph, in an order in which they can run: so its
quotient graph is acyclic. Every function here that takes a plan gives one; none looks at what a group costs.
"""

from __future__ import annotations

import random
from typing import TypeAlias

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members

__all__ = [
    "Cut",
    "Plan",
    "crossed",
    "cuts_at",
    "inner_edges",
    "merged",
    "ordered",
    "random_plan",
    "replaced",
    "singles",
    "taken_out",
]

Plan: TypeAlias = tuple[int, ...]
Cut: TypeAlias = tuple[int, int]  # the part that runs first, and the other
Edge: TypeAlias = tuple[int, int]


def singles(graph: FusionGraph) -> Plan:
    """Every node alone."""
    return tuple(node.bit for node in graph.nodes)


def ordered(graph: FusionGraph, groups: Plan) -> Plan:
    """The groups in an order in which they can run; shorter than ``groups`` where they wait for each other."""
    owner = {i: at for at, mask in enumerate(groups) for i in members(mask)}
    needs = [
        {owner[p] for i in members(mask) for p in graph.predecessors[i] if p in owner} - {at}
        for at, mask in enumerate(groups)
    ]
    users: list[list[int]] = [[] for _ in groups]
    for at, before in enumerate(needs):
        for one in before:
            users[one].append(at)
    n_waiting = [len(before) for before in needs]
    ready = sorted((at for at, n in enumerate(n_waiting) if not n), key=lambda at: -(groups[at] & -groups[at]))
    found: list[int] = []
    while ready:
        at = ready.pop()
        found.append(groups[at])
        for user in users[at]:
            n_waiting[user] -= 1
            if not n_waiting[user]:
                ready.append(user)
    return tuple(found)


def inner_edges(graph: FusionGraph, mask: int) -> list[Edge]:
    """The edges between nodes of the group, each once."""
    return [(p, i) for i in members(mask) for p in graph.predecessors[i] if mask >> p & 1]


def random_plan(graph: FusionGraph, fusable: int, chance: random.Random) -> Plan:
    """Each node joins, with one probability that is drawn for the whole plan, the group of a node that it reads.

    It may only join the one made last of the groups that it reads: then no two groups wait for each other.
    """
    keep = chance.random()
    groups: list[int] = []
    group_of: list[int] = [0] * len(graph)
    for i, before in enumerate(graph.predecessors):
        last = max((group_of[p] for p in before), default=-1)
        joins = last >= 0 and fusable >> i & 1 and groups[last] & fusable and chance.random() < keep
        if not joins:
            last = len(groups)
            groups.append(0)
        groups[last] |= 1 << i
        group_of[i] = last
    return tuple(groups)


def cuts_at(graph: FusionGraph, mask: int, edge: Edge) -> tuple[Cut, ...]:
    """The ways to cut a connected, convex group in two that ``edge`` suggests, its ends in different parts.

    Removing one edge seldom parts a group: skips over it, or the body under it where it is a skip itself, still join
    the two sides, and are cut too. What must run before the edge's end goes to the first part, or else what must run
    after its begin goes to the second; both parts are connected and convex, and nothing in the first needs the second.
    """
    begin, end = edge
    first = graph.component(mask & graph.ancestors[end], begin)
    second = graph.component(mask & ~first, end)
    early = (mask & ~second, second)
    second = graph.component(mask & graph.descendants[begin], end)
    first = graph.component(mask & ~second, begin)
    late = (first, mask & ~first)
    return (early,) if early == late else (early, late)


def replaced(plan: Plan, at: int, parts: Plan) -> Plan:
    """The plan with its group ``at`` in parts, given in the order in which they run."""
    return (*plan[:at], *parts, *plan[at + 1 :])


def merged(graph: FusionGraph, plan: Plan, first: int, second: int) -> Plan | None:
    """The plan with the groups at the two places joined; None when the result could not run."""
    if first > second:
        first, second = second, first
    left, right = plan[first], plan[second]
    reached, before, after = left, [], []
    for mask in plan[first + 1 : second]:
        if _needs(graph, mask) & reached:
            reached |= mask
            after.append(mask)
        else:
            before.append(mask)
    if _needs(graph, right) & reached & ~left:
        return None
    return (*plan[:first], *before, left | right, *after, *plan[second + 1 :])


def _needs(graph: FusionGraph, mask: int) -> int:
    found, rest = 0, mask
    before = graph.predecessor_masks
    while rest:
        low = rest & -rest
        found |= before[low.bit_length() - 1]
        rest ^= low
    return found & ~mask


def taken_out(graph: FusionGraph, plan: Plan, at: int, node: int) -> Plan | None:
    """The plan with ``node`` out of its group ``at`` and alone; what no longer hangs together becomes several groups.

    None when the node stands in the middle of its group: what runs before and after it would wait for each other.
    """
    mask = plan[at]
    rest = mask & ~(1 << node)
    if not rest:
        return plan
    if not graph.predecessor_masks[node] & rest:
        return replaced(plan, at, (1 << node, *graph.components(rest)))
    if not graph.successor_masks[node] & rest:
        return replaced(plan, at, (*graph.components(rest), 1 << node))
    return None


def crossed(graph: FusionGraph, outer: Plan, inner: Plan, first: int, last: int) -> Plan:
    """The groups of ``inner`` for the nodes first..last-1, those of ``outer`` for the others.

    Nodes below an index are closed under what they read, so groups cut there can still run; parts that no longer hang
    together become several groups.
    """
    below, within = (1 << first) - 1, (1 << last) - (1 << first)
    found: list[int] = []
    for plan, region in ((outer, below), (inner, within), (outer, graph.all_mask & ~below & ~within)):
        for mask in plan:
            kept = mask & region
            if kept == mask:
                found.append(mask)
            elif kept:
                found.extend(graph.components(kept))
    return tuple(found)
