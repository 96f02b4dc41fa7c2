"""Operators as loop nests of the array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilewright.errors import InputError
from tilewright.hw_models.hierarchy import HierarchySpec
from tilewright.sim.fusion.graph.fusion_graph import FusionNode
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry
from tilewright.sim.fusion.tiles.homes import TileShape
from tilewright.sim.hierarchy.nest import LoopNest

__all__ = ["RUNNABLE", "nest_of", "weight_bits"]

#: Kinds of operators that have a loop nest here.
RUNNABLE = ("conv", "depthwise", "dense", "pool", "elementwise", "concat", "pad", "upsample", "reduction")


def weight_bits(node: FusionNode, hierarchy: HierarchySpec) -> int:
    """Bits of the node's multiplying weights, in words of the hierarchy."""
    if node.kind not in ("conv", "depthwise", "dense"):
        return 0
    groups = node.groups if node.kind != "dense" else 1
    taps = node.kernel[0] * node.kernel[1] if node.kind != "dense" else 1
    return node.output.channels * (node.in_channels // groups) * taps * hierarchy.weight_bits


def nest_of(plan: DepthFirstGeometry, tile: TileShape, node: int, edges: Sequence[int]) -> LoopNest:
    """The loops of ``node`` on one tile, which reads the edges at these places of the group's.

    A transposed convolution gives each output every up-th tap. Raises InputError for an operator without loops.
    """
    one, result = plan.graph.nodes[node], plan.result[node]
    if one.kind not in RUNNABLE:
        raise InputError(
            f"{one.name}: depth-first tiling has no loops for this kind of operator; given {one.kind}; allowed "
            f"{', '.join(RUNNABLE)}"
        )
    columns, rows = tile.columns[result].fresh, tile.rows[result].fresh
    sizes = [tile.read_size(place) for place in edges]
    width, height = max(size[0] for size in sizes), max(size[1] for size in sizes)
    first = plan.edges[edges[0]][0]
    stride = (max(1, first.columns.stride // first.columns.up), max(1, first.rows.stride // first.rows.up))
    taps = -(-one.kernel[1] // first.columns.up), -(-one.kernel[0] // first.rows.up)
    plain = LoopNest(ox=columns, oy=rows, map_width=width, map_height=height)
    sliding = replace(plain, fx=taps[0], fy=taps[1], stride=stride, dilation=(one.dilation[1], one.dilation[0]))
    channels, groups = one.output.channels, one.groups
    match one.kind:
        case "conv" | "depthwise":
            return replace(sliding, k=channels // groups, c=one.in_channels // groups, g=groups)
        case "dense":
            return replace(plain, k=channels, c=one.in_channels)
        case "pool":
            return replace(sliding, g=channels, weighted=False)
    return replace(plain, g=channels, n_inputs=len(edges), weighted=False)
