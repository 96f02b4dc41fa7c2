"""All groups that can run on the machine, listed once each.

Every connected, convex group of more than one node is a smaller such group and one node more: of the nodes without
which it still hangs together, one reads nothing or feeds nothing inside it (the outermost block of its nodes has both a
first and a last node, and at most one of the two holds the block to the rest). So growing from single nodes finds all.

What a group needs on chip is not assumed to grow with the group: a node more may turn a result that had to be kept for
DRAM into one that is used up at once. Growing stops only where a floor, which does grow with the group, passes the
capacity: the weights, for a scheme that keeps all of them on chip.
"""

from __future__ import annotations

from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.search.fusion.problem import FusionProblem
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members

__all__ = ["MOST_GROUPS", "fitting_groups"]

MOST_GROUPS = 2_000_000


def fitting_groups(problem: FusionProblem, *, most: int = MOST_GROUPS) -> dict[int, int]:
    """Every group that fits with its objective in bytes, single nodes included.

    Raises InputError when more than ``most`` groups would have to be looked at.
    """
    graph = problem.graph
    found: dict[int, int] = {}
    frontier = {node.bit: _Grown.single(graph, node.index) for node in graph.nodes}
    n_seen = len(frontier)
    size = 0
    while frontier:
        size += 1
        if problem.progress is not None:
            problem.progress(size, len(graph), "sizes of groups")
        grown: dict[int, _Grown] = {}
        for mask, group in frontier.items():
            value = problem.value(mask)
            if value is not None:
                found[mask] = value
            if mask & ~problem.fusable:
                continue
            for i in members(group.near & ~mask & problem.fusable):
                larger = mask | 1 << i
                if larger in grown or not group.stays_convex(graph, mask, i):
                    continue
                if problem.floor_bytes(larger) <= problem.capacity_bytes:
                    grown[larger] = group.with_node(graph, i)
        n_seen += len(grown)
        if n_seen > most:
            raise InputError(
                f"{graph.name}: exact search: more than {most:,} groups to look at; allowed a smaller network or "
                "buffer, or one of the methods local, nsga2, random"
            )
        frontier = grown
    return found


class _Grown(NamedTuple):
    """All nodes next to a group, above it and below it, its own among them."""

    near: int
    above: int
    below: int

    @classmethod
    def single(cls, graph: FusionGraph, node: int) -> _Grown:
        near = graph.predecessor_masks[node] | graph.successor_masks[node]
        return cls(near, graph.ancestors[node], graph.descendants[node])

    def with_node(self, graph: FusionGraph, node: int) -> _Grown:
        """The same of the group with ``node``."""
        other = self.single(graph, node)
        return _Grown(self.near | other.near, self.above | other.above, self.below | other.below)

    def stays_convex(self, graph: FusionGraph, mask: int, node: int) -> bool:
        """Whether no path leaves the convex group and comes back through ``node``, or the other way round."""
        if graph.ancestors[node] & mask:  # paths lead from the group to the node
            return not graph.ancestors[node] & self.below & ~mask
        return not graph.descendants[node] & self.above & ~mask
