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

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from tilewright.hw_models.hierarchy import MemorySpec
from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.graph.geometry import FeatureMap
from tilewright.sim.fusion.tiles.axis import AxisStep, Ints
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry

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
    """Bits in use while each node of the group runs in a tile: arrays [nodes, kinds along columns, kinds along rows].

    ``alive``: its inputs with all that the tile needs of them, its output, and what waits for later nodes.
    ``with_horizontal``: these and the horizontal cache; ``shared``: what it has in common with the vertical cache. A
    map's caches change when its last reader has run: until then they hold what the tile reads of them.
    ``read_before[maps, nodes]``: whether all readers of a map stand before a node. Nodes that compute nothing have
    nothing alive.
    """

    alive: Ints
    with_horizontal: Ints
    shared: Ints
    read_before: Ints

    @property
    def most_alive(self) -> Ints:
        """By kind of tile."""
        return np.asarray(self.alive.max(axis=0))

    @property
    def most_with_horizontal(self) -> Ints:
        """By kind of tile."""
        return np.asarray(self.with_horizontal.max(axis=0))


def moments_of(plan: DepthFirstGeometry, word_bits: int | None) -> Moments:
    """What is on chip while tiles run, node by node; ``word_bits`` as in :class:`TileShape`."""
    columns, rows, names = plan.columns, plan.rows, plan.columns.names
    x, y = list(columns.examples), list(rows.examples)
    pixel = _all_pixel_bits(plan, word_bits)[:, None]
    need_x, fresh_x = columns.need[:, x] * pixel, columns.fresh[:, x] * pixel
    across, keep = columns.kept_before[:, x] * pixel, columns.keep[:, x] * pixel
    need_y, fresh_y, lasting_y = rows.need[:, y], rows.fresh[:, y], rows.lasting[:, y] * rows.cached
    place = {name: i for i, name in enumerate(names)}
    last = {name: edge.consumer for edge, name in plan.edges}
    waiting: list[int] = []
    alive, with_horizontal, shared, read_before = list[Ints](), list[Ints](), list[Ints](), list[Ints]()
    read = np.zeros(len(names), dtype=np.int64)
    for node in members(plan.group):
        inputs = sorted({place[name] for edge, name in plan.edges if edge.consumer == node})
        result = place[plan.result[node]]
        others = [one for one in waiting if one not in inputs]
        made = np.outer(fresh_x[result], fresh_y[result])
        now = made + need_x[inputs].T @ need_y[inputs] + fresh_x[others].T @ fresh_y[others]
        now = np.where(made > 0, now, 0)
        alive.append(now)
        with_horizontal.append(now + across.T @ need_y)
        shared.append(across.T @ lasting_y)
        read_before.append(read.copy())
        waiting = [one for one in {*waiting, *inputs, result} if last.get(names[one], -1) > node]
        done = [one for one in inputs if last[names[one]] == node]
        across[done], read[done] = keep[done], 1
    return Moments(
        alive=np.array(alive),
        with_horizontal=np.array(with_horizontal),
        shared=np.array(shared),
        read_before=np.array(read_before).T,
    )


def most_with_vertical(plan: DepthFirstGeometry, moments: Moments, word_bits: int | None) -> tuple[Ints, Ints]:
    """The most bits at any moment of the tiles of each kind, with both caches: in memories apart, and in the same one.

    While a row of tiles runs, the rows of a map that it keeps take the place of those that the row above kept, from
    left to right, and map by map.
    """
    columns, rows = plan.columns, plan.rows
    read = {name for _, name in plan.edges}
    pixel = _all_pixel_bits(plan, word_bits) * [name in read for name in columns.names]
    kinds = np.array(columns.kinds)
    known = np.cumsum(columns.fresh, axis=1) - columns.fresh
    apart = np.zeros((len(columns.examples), len(rows.examples)), dtype=np.int64)
    together = apart.copy()
    for y, step in enumerate(rows.examples):
        before = rows.kept_before[:, step]
        gain = (rows.keep[:, step] - before) * pixel
        kept = before * pixel @ columns.fresh.sum(axis=1) + gain @ known
        inside = columns.fresh.T @ (gain[:, None] * moments.read_before)
        bits = moments.with_horizontal[:, kinds, y].T + kept[:, None] + inside
        np.maximum.at(apart[:, y], kinds, bits.max(axis=1))
        np.maximum.at(together[:, y], kinds, (bits - moments.shared[:, kinds, y].T).max(axis=1))
    return apart, together


def _all_pixel_bits(plan: DepthFirstGeometry, word_bits: int | None) -> Ints:
    return np.array([_pixel_bits(plan.maps[name], word_bits) for name in plan.columns.names], dtype=np.int64)


def _pixel_bits(one: FeatureMap, word_bits: int | None) -> int:
    return ceil(one.pixel_bits) if word_bits is None else one.channels * word_bits
