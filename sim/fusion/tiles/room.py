"""Room and DRAM traffic of a depth-first tiling in one working buffer."""

from __future__ import annotations

from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.scheme import GroupCost
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry
from tilewright.sim.fusion.tiles.homes import moments_of, most_with_vertical
from tilewright.units import bits_to_bytes

__all__ = ["group_cost"]


def group_cost(plan: DepthFirstGeometry) -> GroupCost:
    """Room and DRAM traffic of a tiling in one working buffer, maps in their own formats."""
    graph, nodes = plan.graph, plan.graph.nodes
    weights = sum(nodes[i].weight_bytes for i in members(plan.group))
    reads = 0
    for name in plan.outside:
        one = plan.maps[name]
        pixels = plan.columns.total(name) * plan.rows.total(name) * one.batch
        reads += bits_to_bytes(pixels * one.pixel_bits)
    writes = sum(nodes[i].output.n_bytes for i in graph.needed_outside(plan.group))
    return GroupCost(
        buffer_bytes=weights + bits_to_bytes(_most_bits(plan)),
        dram_read_bytes=reads,
        dram_write_bytes=writes,
        weight_bytes=weights,
    )


def _most_bits(plan: DepthFirstGeometry) -> int:
    """The most bits of maps and caches at any moment."""
    _, together = most_with_vertical(plan, moments_of(plan, None), None)
    return int(together.max())
