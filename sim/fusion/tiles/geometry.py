"""What every layer of a group computes, reads again and keeps for each tile of the last layer's output.

Depth-first execution (Goetschalckx and Verhelst, JETCAS 2019; the three modes: DeFiNES, Mei et al., HPCA 2023) cuts
the output of a group into tiles and brings each through all layers before the next. Neighbouring tiles need
overlapping parts of the maps between; along each axis these are computed again or kept in a cache:

======================== =================== ================
mode                     columns (sideways)  rows (downwards)
======================== =================== ================
fully_recompute          computed again      computed again
h_cached_v_recompute     kept                computed again
fully_cached             kept                kept
======================== =================== ================

Rows and columns are independent: along each axis a tile asks for an interval of every map, found from the last layer
backwards as the hull of what its consumers need, cut to the map. Where an axis is cached only what lies beyond
everything computed before is new (fresh), and only the fresh part asks for inputs. Of a group with several results the
last in order is tiled with the given size and the others in proportion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

from tilewright.errors import InputError, unknown
from tilewright.sim.fusion.graph.fusion_graph import FusionEdge, FusionGraph, members
from tilewright.sim.fusion.graph.geometry import FeatureMap
from tilewright.sim.fusion.tiles.axis import AxisPlan, plan_axis

__all__ = ["MODES", "DepthFirstGeometry", "Mode", "geometry"]

Mode: TypeAlias = Literal["fully_recompute", "h_cached_v_recompute", "fully_cached"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DepthFirstGeometry:
    """A group cut into tiles: ``columns`` and ``rows`` are independent, a tile is one step of each.

    ``maps``: every feature map of the group by name, those from outside (``outside``) included; ``result`` names the
    map of each node; ``edges`` are those of the group, each with the name of the map that it reads.
    """

    graph: FusionGraph
    group: int
    mode: Mode
    tile: tuple[int, int]
    columns: AxisPlan
    rows: AxisPlan
    maps: Mapping[str, FeatureMap]
    outside: tuple[str, ...]
    result: Mapping[int, str]
    edges: tuple[tuple[FusionEdge, str], ...]

    @property
    def n_tiles(self) -> int:
        """Tiles of the last layer's output."""
        return self.columns.n_steps * self.rows.n_steps

    @property
    def tile_kinds(self) -> Counter[tuple[int, int]]:
        """How many tiles there are of each kind (kind along columns, kind along rows)."""
        across, down = Counter(self.columns.kinds), Counter(self.rows.kinds)
        return Counter({(x, y): n * m for x, n in across.items() for y, m in down.items()})

    def computed_pixels(self, node: int) -> int:
        """Output pixels that the node computes over all tiles of one image, again and again where it recomputes."""
        name = self.result[node]
        return self.columns.total(name) * self.rows.total(name)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all tiles of all images."""
        return sum(self.node_macs(node) for node in members(self.group))

    def node_macs(self, node: int) -> int:
        """Multiply-accumulates of one node over all tiles of all images."""
        one = self.graph.nodes[node]
        per_pixel, rest = divmod(one.macs, one.output.height * one.output.width)
        if rest:
            raise InputError(f"{one.name}: its multiply-accumulates do not divide among its output pixels")
        return per_pixel * self.computed_pixels(node)

    @property
    def fetched_pixels(self) -> int:
        """Pixels of maps from outside that are fetched over all tiles of one image."""
        return sum(self.columns.total(name) * self.rows.total(name) for name in self.outside)

    def horizontal_cache_pixels(self, name: str) -> int:
        """Most pixels of the map that are kept for the next tile of a row of tiles."""
        place = self.columns.names.index(name)
        return int(self.columns.keep[place].max() * self.rows.need[place].max())

    def vertical_cache_pixels(self, name: str) -> int:
        """Most pixels of the map that are kept for the next row of tiles: whole rows of all that is computed."""
        return int(self.rows.keep[self.rows.names.index(name)].max() * self.columns.total(name))


@lru_cache(maxsize=16)
def geometry(graph: FusionGraph, group: int, mode: Mode, tile: tuple[int, int]) -> DepthFirstGeometry:
    """The tiling of ``group`` (a mask of nodes) with tiles of (columns, rows) ``tile`` of the last layer's output.

    A tile that is larger than the output is cut to it. Raises InputError for an unknown mode, a tile of no pixels, or
    a group without a result.
    """
    if mode not in MODES:
        raise unknown("mode of depth-first tiling", mode, MODES)
    if min(tile) < 1:
        raise InputError(f"tile: must be at least one pixel; given {tile[0]} x {tile[1]}; allowed 1 or more")
    results = graph.needed_outside(group)
    if not results:
        raise InputError(f"{graph.name}: the group has no result that anything reads")
    result = {node: graph.nodes[node].output.name for node in members(group)}
    edges = tuple(
        (edge, result.get(edge.producer, edge.tensor.name)) for node in result for edge in graph.edges_in[node]
    )
    made = set(result.values())
    outside = {name: edge.tensor for edge, name in edges if name not in made}
    maps = {**outside, **{result[node]: graph.nodes[node].output for node in result}}
    last = graph.nodes[results[-1]].output
    return DepthFirstGeometry(
        graph=graph,
        group=group,
        mode=mode,
        tile=(min(tile[0], last.width), min(tile[1], last.height)),
        columns=plan_axis(
            {name: one.width for name, one in maps.items()},
            [(result[edge.consumer], name, edge.columns) for edge, name in edges],
            [result[node] for node in results],
            min(tile[0], last.width),
            cached=mode != "fully_recompute",
        ),
        rows=plan_axis(
            {name: one.height for name, one in maps.items()},
            [(result[edge.consumer], name, edge.rows) for edge, name in edges],
            [result[node] for node in results],
            min(tile[1], last.height),
            cached=mode == "fully_cached",
        ),
        maps=maps,
        outside=tuple(outside),
        result=result,
        edges=edges,
    )
