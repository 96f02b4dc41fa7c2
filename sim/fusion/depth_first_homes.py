"""In which memory the data of a tile live: caches, weights, and each layer's input and output.

Every choice is the lowest memory in which the data fit together with what must be there at the same time:

* a layer's input; its output, beside the input where both share a memory; results of the group go to DRAM;
* the horizontal cache, beside the data alive at every moment of the tile;
* the vertical cache, beside these and the horizontal cache (corners that both hold count once where they share);
* the weights of all layers, beside all of that where they share a memory with it.

Caches fill layer by layer: in the first tile of a row, and in the first row of tiles, the caches of later layers are
still empty while an earlier one runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from tilewright.hw_models.hierarchy import MemorySpec
from tilewright.sim.fusion.depth_first_geometry import AxisStep, DepthFirstGeometry
from tilewright.sim.fusion.geometry import FeatureMap
from tilewright.sim.fusion.graph import members

__all__ = ["Moments", "TileShape", "lowest", "moments_of", "most_with_vertical"]


def lowest(levels: tuple[MemorySpec, ...], bits: int) -> int:
    """The first of ``levels`` that holds ``bits``; the last where none does."""
    return next((place for place, one in enumerate(levels) if one.capacity_bits >= bits), len(levels) - 1)


@dataclass(frozen=True, slots=True)
class TileShape:
    """One tile: its step along columns and along rows, and sizes in bits of what it reads, makes and keeps.

    ``word_bits``: what a value takes, None: as many bits as the map says.
    """

    plan: DepthFirstGeometry
    columns: AxisStep
    rows: AxisStep
    word_bits: int | None

    def pixel_bits(self, name: str) -> int:
        """Bits of one pixel of a map."""
        return _pixel_bits(self.plan.maps[name], self.word_bits)

    def fresh_bits(self, name: str) -> int:
        """What is computed, or fetched, of a map."""
        return self.columns[name].fresh * self.rows[name].fresh * self.pixel_bits(name)

    def read_bits(self, edge: int) -> int:
        """What the consumer of an edge reads."""
        return self.read_size(edge)[0] * self.read_size(edge)[1] * self.pixel_bits(self.plan.edges[edge][1])

    def read_size(self, edge: int) -> tuple[int, int]:
        """(width, height) of what the consumer of an edge reads."""
        (left, right), (top, bottom) = self.columns.reads[edge], self.rows.reads[edge]
        return right - left, bottom - top

    def edges_into(self, node: int) -> Iterator[int]:
        """Places of the node's edges among those of the group."""
        return (place for place, (edge, _) in enumerate(self.plan.edges) if edge.consumer == node)

    def from_left_bits(self, name: str) -> int:
        """What comes out of the horizontal cache: reused columns of all needed rows."""
        if not self.plan.columns.cached:
            return 0
        return self.columns[name].reused * self.rows[name].need * self.pixel_bits(name)

    def from_above_bits(self, name: str) -> int:
        """What comes out of the vertical cache: reused rows of the columns that are new."""
        if not self.plan.rows.cached:
            return 0
        return self.columns[name].fresh * self.rows[name].reused * self.pixel_bits(name)

    def to_right_bits(self, name: str) -> tuple[int, int]:
        """What enters the horizontal cache: (of the rows computed now, of the rows out of the vertical cache)."""
        if not self.plan.columns.cached:
            return 0, 0
        bits = self.columns[name].newly_kept * self.pixel_bits(name)
        return bits * self.rows[name].fresh, bits * self.rows[name].reused

    def to_below_bits(self, name: str) -> int:
        """What enters the vertical cache: new rows of the columns that are new."""
        if not self.plan.rows.cached:
            return 0
        return self.columns[name].fresh * self.rows[name].newly_kept * self.pixel_bits(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Bits in use while each layer of a tile runs, one entry per layer that has work: the data alive (what waits for
    later layers, the layer's inputs, its output), and these with the horizontal cache as it stands then. ``corners``:
    what both caches hold.
    """

    nodes: tuple[int, ...]
    alive: tuple[int, ...]
    with_horizontal: tuple[int, ...]
    corners: int

    @property
    def most_alive(self) -> int:
        return max(self.alive, default=0)

    @property
    def most_with_horizontal(self) -> int:
        return max(self.with_horizontal, default=0)


def moments_of(tile: TileShape) -> Moments:
    """What is on chip while a tile runs, layer by layer."""
    plan = tile.plan
    readers: dict[str, int] = {}
    for edge, name in plan.edges:
        readers[name] = edge.consumer
    old = {name: _from_cache(tile, name, before=True) for name in plan.maps}
    new = {name: _from_cache(tile, name, before=False) for name in plan.maps}
    nodes, alive, with_horizontal = list[int](), list[int](), list[int]()
    waiting: dict[str, int] = {}
    cached = sum(old.values())
    for node in members(plan.group):
        inputs = {plan.edges[place][1] for place in tile.edges_into(node)}
        result = plan.result[node]
        for name in (*(name for name in inputs if name in plan.outside), result):
            cached += new.pop(name, 0) - old.pop(name, 0)
        reading = sum(tile.read_bits(place) for place in tile.edges_into(node))
        made = tile.fresh_bits(result)
        others = sum(bits for name, bits in waiting.items() if name not in inputs)
        if made:
            nodes.append(node)
            alive.append(others + reading + made)
            with_horizontal.append(alive[-1] + cached)
        waiting[result] = made
        waiting = {name: bits for name, bits in waiting.items() if readers.get(name, -1) > node}
    corners = 0
    if plan.columns.cached and plan.rows.cached:
        corners = sum(tile.columns[n].reused * tile.rows[n].reused * tile.pixel_bits(n) for n in plan.maps)
    return Moments(nodes=tuple(nodes), alive=tuple(alive), with_horizontal=tuple(with_horizontal), corners=corners)


def _from_cache(tile: TileShape, name: str, *, before: bool) -> int:
    """The horizontal cache of one map before, or after, its layer has run."""
    if not tile.plan.columns.cached:
        return 0
    columns = tile.columns[name].reused if before else tile.columns[name].keep
    return columns * tile.rows[name].need * tile.pixel_bits(name)


def most_with_vertical(
    plan: DepthFirstGeometry, moments: Mapping[tuple[int, int], Moments], rows: Mapping[int, int], word_bits: int | None
) -> dict[tuple[int, int], int]:
    """The most bits at any moment of the tiles of each kind, the vertical cache as it stands then included.

    ``rows``: an example step of each kind of row. While a row of tiles runs, the new rows of a map take the place of
    the old ones from left to right, and layer by layer.
    """
    found: dict[tuple[int, int], int] = {}
    widths = {name: plan.columns.total(name) for name in plan.maps}
    pixel = {name: _pixel_bits(one, word_bits) for name, one in plan.maps.items()}
    for y, step in rows.items():
        before = plan.rows.steps[step - 1].parts if step else None
        old = {name: before[name].keep if before else 0 for name in plan.maps}
        gain = {name: (plan.rows.steps[step][name].keep - old[name]) * pixel[name] for name in plan.maps}
        kept = sum(old[name] * widths[name] * pixel[name] for name in plan.maps)
        for x, columns in zip(plan.columns.kinds, plan.columns.steps, strict=True):
            of_tile = moments[x, y]
            most = kept
            for name in plan.outside:
                kept += gain[name] * columns[name].fresh
            for node, bits in zip(of_tile.nodes, of_tile.with_horizontal, strict=True):
                kept += gain[plan.result[node]] * columns[plan.result[node]].fresh
                most = max(most, bits + kept)
            found[x, y] = max(found.get((x, y), 0), most)
    return found


def _pixel_bits(one: FeatureMap, word_bits: int | None) -> int:
    return ceil(one.pixel_bits) if word_bits is None else one.channels * word_bits
