"""The cheapest plan of groups, and the cheapest with each of them, by dynamic programming over what has been done.

As :mod:`tilewright.search.fusion.methods.exact`, which says why this finds the optimum; here also from behind.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilewright.errors import InputError
from tilewright.search.fusion.methods.exact import ready_nodes
from tilewright.search.fusion.plan import Plan
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members

__all__ = ["Steps"]

MOST_STEPS = 2_000_000


class Steps:
    """The steps from one set of finished nodes to the next by ``groups``; found once, for any costs of the groups."""

    def __init__(self, graph: FusionGraph, groups: Mapping[int, int]) -> None:
        first_node: list[list[tuple[int, int]]] = [[] for _ in graph.nodes]
        for mask in groups:
            needs = 0
            for i in members(mask):
                needs |= graph.predecessor_masks[i]
            first_node[(mask & -mask).bit_length() - 1].append((mask, needs & ~mask))
        self.graph = graph
        #: (what was done before, the group), sets of fewer nodes first
        self.steps: list[tuple[int, int]] = []
        levels: list[set[int]] = [set() for _ in range(len(graph) + 1)]
        levels[0].add(0)
        for size in range(len(graph)):
            for done in sorted(levels[size]):
                for i in ready_nodes(graph, done):
                    for mask, needs in first_node[i]:
                        if not (needs & ~done or mask & done):
                            self.steps.append((done, mask))
                            levels[size + mask.bit_count()].add(done | mask)
            if len(self.steps) > MOST_STEPS:
                raise InputError(
                    f"{graph.name}: too many parallel branches to plan groups and what stays on chip together; "
                    "allowed --residency none"
                )

    def best(self, costs: Mapping[int, int]) -> Plan:
        """The cheapest plan, in an order in which it can run."""
        best: dict[int, tuple[int, int]] = {0: (0, 0)}
        for done, mask in self.steps:
            known = best.get(done)
            if known is not None and mask in costs:
                total, after = known[0] + costs[mask], done | mask
                if after not in best or total < best[after][0]:
                    best[after] = (total, mask)
        plan, done = [], self.graph.all_mask
        while done:
            mask = best[done][1]
            plan.append(mask)
            done &= ~mask
        return tuple(reversed(plan))

    def with_each(self, costs: Mapping[int, int]) -> dict[int, int]:
        """The cost of the cheapest plan with each group."""
        before, behind = {0: 0}, {self.graph.all_mask: 0}
        for done, mask in self.steps:
            if done in before and mask in costs:
                total = before[done] + costs[mask]
                before[done | mask] = min(total, before.get(done | mask, total))
        found: dict[int, int] = {}
        for done, mask in reversed(self.steps):
            after = done | mask
            if done in before and after in behind and mask in costs:
                total = costs[mask] + behind[after]
                behind[done] = min(total, behind.get(done, total))
                whole = before[done] + total
                found[mask] = min(whole, found.get(mask, whole))
        return found
