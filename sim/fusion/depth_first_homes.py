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

    def need_bits(self, name: str) -> int:
        """All that the tile reads of a map."""
        return self.columns[name].need * self.rows[name].need * self.pixel_bits(name)

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
    """Bits in use while each node of the group runs in a tile, one entry per node.

    ``alive``: its inputs with all that the tile needs of them, its output, and what waits for later nodes.
    ``with_horizontal``: these and the horizontal cache; ``shared``: what it has in common with the vertical cache. A
    map's caches change when its last reader has run: until then they hold what the tile reads of them.
    ``last_read``: the maps of which this node is the last reader. Nodes that compute nothing have nothing alive.
    """

    alive: tuple[int, ...]
    with_horizontal: tuple[int, ...]
    shared: tuple[int, ...]
    last_read: tuple[tuple[str, ...], ...]

    @property
    def most_alive(self) -> int:
        return max(self.alive)

    @property
    def most_with_horizontal(self) -> int:
        return max(self.with_horizontal)


def moments_of(tile: TileShape) -> Moments:
    """What is on chip while a tile runs, node by node."""
    plan = tile.plan
    last = {name: edge.consumer for edge, name in plan.edges}
    across = {name: tile.columns.kept_before[name] for name in plan.maps}
    waiting: dict[str, int] = {}
    alive, with_horizontal, shared, last_read = list[int](), list[int](), list[int](), list[tuple[str, ...]]()
    for node in members(plan.group):
        inputs = {plan.edges[place][1] for place in tile.edges_into(node)}
        made = tile.fresh_bits(plan.result[node])
        others = sum(bits for name, bits in waiting.items() if name not in inputs)
        now = others + made + sum(map(tile.need_bits, inputs)) if made else 0
        columns = {name: n * tile.pixel_bits(name) for name, n in across.items()} if plan.columns.cached else {}
        alive.append(now)
        with_horizontal.append(now + sum(bits * tile.rows[name].need for name, bits in columns.items()))
        shared.append(sum(bits * tile.rows[name].lasting for name, bits in columns.items()) if plan.rows.cached else 0)
        waiting |= {name: tile.fresh_bits(name) for name in (*inputs, plan.result[node]) if last.get(name, -1) > node}
        read = tuple(name for name in inputs if last[name] == node)
        for name in read:
            across[name] = tile.columns[name].keep
            waiting.pop(name, None)
        last_read.append(read)
    return Moments(
        alive=tuple(alive), with_horizontal=tuple(with_horizontal), shared=tuple(shared), last_read=tuple(last_read)
    )


def most_with_vertical(
    plan: DepthFirstGeometry, moments: Mapping[tuple[int, int], Moments], rows: Mapping[int, int], word_bits: int | None
) -> dict[tuple[int, int], tuple[int, int]]:
    """The most bits at any moment of the tiles of each kind, with both caches: in memories apart, and in the same one.

    ``rows``: an example step of each kind of row. While a row of tiles runs, the rows of a map that it keeps take the
    place of those that the row above kept, from left to right, and map by map.
    """
    found: dict[tuple[int, int], tuple[int, int]] = {}
    read = {name for _, name in plan.edges}
    pixel = {name: _pixel_bits(one, word_bits) for name, one in plan.maps.items() if name in read}
    for y, place in rows.items():
        step = plan.rows.steps[place]
        gain = {name: (step[name].keep - step.kept_before[name]) * bits for name, bits in pixel.items()}
        kept = sum(step.kept_before[name] * plan.columns.total(name) * bits for name, bits in pixel.items())
        for x, columns in zip(plan.columns.kinds, plan.columns.steps, strict=True):
            apart, together = found.get((x, y), (0, 0))
            one = moments[x, y]
            for bits, both, names in zip(one.with_horizontal, one.shared, one.last_read, strict=True):
                apart, together = max(apart, bits + kept), max(together, bits + kept - both)
                kept += sum(gain[name] * columns[name].fresh for name in names)
            found[x, y] = apart, together
    return found


def _pixel_bits(one: FeatureMap, word_bits: int | None) -> int:
    return ceil(one.pixel_bits) if word_bits is None else one.channels * word_bits
