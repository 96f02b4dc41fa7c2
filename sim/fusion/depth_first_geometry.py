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
from typing import Literal, NamedTuple, TypeAlias, get_args

from tilewright.errors import InputError, did_you_mean
from tilewright.sim.fusion.geometry import AxisWindow, FeatureMap
from tilewright.sim.fusion.graph import FusionEdge, FusionGraph, members

__all__ = ["MODES", "AxisPlan", "DepthFirstGeometry", "Mode", "Part", "geometry"]

Mode: TypeAlias = Literal["fully_recompute", "h_cached_v_recompute", "fully_cached"]
MODES: tuple[Mode, ...] = get_args(Mode)


class Part(NamedTuple):
    """One map along one axis for one tile, as positions [begin, end).

    ``need``: all that the tile reads of it. ``fresh``: what is computed (or fetched) now. ``keep``: what lies in the
    cache afterwards; empty where the axis is not cached.
    """

    need_begin: int
    need_end: int
    fresh_begin: int
    fresh_end: int
    keep_begin: int
    keep_end: int

    @property
    def need(self) -> int:
        """Positions that the tile reads."""
        return self.need_end - self.need_begin

    @property
    def fresh(self) -> int:
        """Positions that the tile computes."""
        return self.fresh_end - self.fresh_begin

    @property
    def keep(self) -> int:
        """Positions in the cache after the tile."""
        return self.keep_end - self.keep_begin

    @property
    def reused(self) -> int:
        """Needed positions that come from the cache."""
        return max(0, min(self.fresh_begin, self.need_end) - self.need_begin)

    @property
    def lasting(self) -> int:
        """Positions that the tile needs and the cache holds afterwards."""
        return max(0, min(self.keep_end, self.need_end) - max(self.keep_begin, self.need_begin))

    @property
    def newly_kept(self) -> int:
        """Positions that enter the cache with this tile."""
        return max(0, self.keep_end - max(self.keep_begin, self.fresh_begin)) if self.keep else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisStep:
    """What one tile does along one axis: the part of every map, and what every edge reads as [begin, end).

    ``kept_before``: positions of every map that the cache holds when the tile begins.
    """

    parts: Mapping[str, Part]
    reads: tuple[tuple[int, int], ...]
    kept_before: Mapping[str, int]

    def __getitem__(self, name: str) -> Part:
        return self.parts[name]

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """What the cost of a tile depends on."""
        return (
            *((one.need, one.fresh, one.reused, one.newly_kept, one.keep, one.lasting) for one in self.parts.values()),
            tuple(end - begin for begin, end in self.reads),
            tuple(self.kept_before.values()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisPlan:
    """One axis of the tiling: ``steps[i]`` for the i-th tile; ``kinds[i]`` numbers steps that are alike in size."""

    cached: bool
    steps: tuple[AxisStep, ...]
    kinds: tuple[int, ...]

    def total(self, name: str) -> int:
        """Positions of the map that are computed, over all tiles."""
        return sum(step[name].fresh for step in self.steps)


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
        return len(self.columns.steps) * len(self.rows.steps)

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
        if not self.columns.cached:
            return 0
        return max(step[name].keep for step in self.columns.steps) * max(step[name].need for step in self.rows.steps)

    def vertical_cache_pixels(self, name: str) -> int:
        """Most pixels of the map that are kept for the next row of tiles: whole rows of all that is computed."""
        if not self.rows.cached:
            return 0
        return max(step[name].keep for step in self.rows.steps) * self.columns.total(name)


@lru_cache(maxsize=16)
def geometry(graph: FusionGraph, group: int, mode: Mode, tile: tuple[int, int]) -> DepthFirstGeometry:
    """The tiling of ``group`` (a mask of nodes) with tiles of (columns, rows) ``tile`` of the last layer's output.

    A tile that is larger than the output is cut to it. Raises InputError for an unknown mode, a tile of no pixels, or
    a group without a result.
    """
    if mode not in MODES:
        raise InputError(
            f'unknown mode of depth-first tiling; given "{mode}"; allowed {", ".join(MODES)}{did_you_mean(mode, MODES)}'
        )
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
        columns=_plan(
            {name: one.width for name, one in maps.items()},
            [(result[edge.consumer], name, edge.columns) for edge, name in edges],
            [result[node] for node in results],
            min(tile[0], last.width),
            cached=mode != "fully_recompute",
        ),
        rows=_plan(
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


def _plan(
    extents: Mapping[str, int],
    edges: list[tuple[str, str, AxisWindow]],
    results: list[str],
    tile: int,
    *,
    cached: bool,
) -> AxisPlan:
    """One axis: maps with their ``extents`` in an order in which they are made, edges (consumer, tensor, window)."""
    length = extents[results[-1]]
    readers: dict[str, list[tuple[str, AxisWindow]]] = {name: [] for name in extents}
    for consumer, tensor, window in edges:
        readers[tensor].append((consumer, window))
    order = _backwards(extents, readers)
    known = dict.fromkeys(extents, 0)
    needs: list[dict[str, tuple[int, int, int, int]]] = []
    for begin in range(0, length, tile):
        end = min(begin + tile, length)
        parts: dict[str, tuple[int, int, int, int]] = {}
        for name in order:
            wanted = [
                (window.first(parts[reader][2]), window.last(parts[reader][3] - 1) + 1)
                for reader, window in readers[name]
                if parts[reader][3] > parts[reader][2]
            ]
            if name in results:
                own = extents[name]
                wanted.append((begin * own // length, end * own // length))
            parts[name] = _part(wanted, known[name] if cached else None)
            known[name] = max(known[name], parts[name][3])
        needs.append(parts)
    steps = []
    kept = dict.fromkeys(extents, 0)
    for whole in _with_caches(needs, extents, cached=cached):
        seen = tuple(_reads(window, whole[consumer]) for consumer, _, window in edges)
        steps.append(AxisStep(parts=whole, reads=seen, kept_before=kept))
        kept = {name: part.keep for name, part in whole.items()}
    numbers: dict[tuple[tuple[int, ...], ...], int] = {}
    kinds = tuple(numbers.setdefault(step.sizes, len(numbers)) for step in steps)
    return AxisPlan(cached=cached, steps=tuple(steps), kinds=kinds)


def _reads(window: AxisWindow, consumer: Part) -> tuple[int, int]:
    """What the consumer reads to compute the fresh part of its result."""
    if not consumer.fresh:
        return 0, 0
    return window.first(consumer.fresh_begin), window.last(consumer.fresh_end - 1) + 1


def _backwards(extents: Mapping[str, int], readers: Mapping[str, list[tuple[str, AxisWindow]]]) -> list[str]:
    """Every map after all maps that are made from it."""
    left = {name: {consumer for consumer, _ in found} for name, found in readers.items()}
    order: list[str] = []
    done: set[str] = set()
    while len(order) < len(extents):
        ready = [name for name in extents if name not in done and left[name] <= done]
        order += ready
        done |= set(ready)
    return order


def _part(wanted: list[tuple[int, int]], known: int | None) -> tuple[int, int, int, int]:
    """(need begin, need end, fresh begin, fresh end) from what is wanted and how far the map is known already."""
    real = [(begin, end) for begin, end in wanted if end > begin]
    if not real:
        place = known or 0
        return place, place, place, place
    begin, end = min(one[0] for one in real), max(one[1] for one in real)
    if known is None:
        return begin, end, begin, end
    return begin, end, known, max(known, end)


def _with_caches(
    needs: list[dict[str, tuple[int, int, int, int]]], extents: Mapping[str, int], *, cached: bool
) -> tuple[dict[str, Part], ...]:
    """What stays in the caches: from the first position that any later tile reads to the last one computed."""
    steps: list[dict[str, Part]] = []
    later = dict(extents)
    for parts in reversed(needs):
        step: dict[str, Part] = {}
        for name in extents:
            need_begin, need_end, fresh_begin, fresh_end = parts[name]
            keep_begin = min(later[name], fresh_end) if cached else fresh_end
            step[name] = Part(need_begin, need_end, fresh_begin, fresh_end, keep_begin, fresh_end)
            if need_end > need_begin:
                later[name] = min(later[name], need_begin)
        steps.append(step)
    return tuple(reversed(steps))
