"""Tiles along one axis: which positions of every map each tile needs, computes and keeps.

Everything is worked out for all tiles at once, from the last map backwards: arrays have one row per map (in the order
of ``names``) or edge, and one entry per tile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.fusion.graph.geometry import AxisWindow

__all__ = ["AxisPlan", "AxisStep", "Ints", "Part", "plan_axis"]

Ints = npt.NDArray[np.int64]


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
    def newly_kept(self) -> int:
        """Positions that enter the cache with this tile."""
        return max(0, self.keep_end - max(self.keep_begin, self.fresh_begin)) if self.keep else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisStep:
    """What one tile does along one axis: the part of every map, and what every edge reads as [begin, end)."""

    parts: Mapping[str, Part]
    reads: tuple[tuple[int, int], ...]

    def __getitem__(self, name: str) -> Part:
        return self.parts[name]


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisPlan:
    """One axis of the tiling. Arrays [maps, tiles] and, for ``reads_``, [edges, tiles]; see :class:`Part`."""

    names: tuple[str, ...]
    cached: bool
    need_begin: Ints
    need_end: Ints
    fresh_begin: Ints
    fresh_end: Ints
    keep_begin: Ints
    reads_begin: Ints
    reads_end: Ints

    @property
    def n_steps(self) -> int:
        """Tiles along the axis."""
        return int(self.need_begin.shape[1])

    @cached_property
    def need(self) -> Ints:
        """Positions that each tile reads of each map."""
        return self.need_end - self.need_begin

    @cached_property
    def fresh(self) -> Ints:
        """Positions that each tile computes of each map."""
        return self.fresh_end - self.fresh_begin

    @cached_property
    def keep(self) -> Ints:
        """Positions of each map in the cache after each tile."""
        return self.fresh_end - self.keep_begin

    @cached_property
    def kept_before(self) -> Ints:
        """Positions of each map in the cache before each tile."""
        return np.concatenate([np.zeros_like(self.keep[:, :1]), self.keep[:, :-1]], axis=1)

    @cached_property
    def lasting(self) -> Ints:
        """Positions that the tile needs and the cache holds afterwards."""
        begin = np.maximum(self.keep_begin, self.need_begin)
        return np.asarray(np.maximum(0, np.minimum(self.fresh_end, self.need_end) - begin))

    @cached_property
    def kinds(self) -> tuple[int, ...]:
        """Numbers of the tiles: alike where all their sizes are; counted in the order in which they first occur."""
        reused = np.minimum(self.fresh_begin, self.need_end) - self.need_begin
        newly = self.fresh_end - np.maximum(self.keep_begin, self.fresh_begin)
        read = self.reads_end - self.reads_begin
        sizes = np.concatenate([self.need, self.fresh, self.keep, self.kept_before, self.lasting, reused, newly, read])
        _, first, inverse = np.unique(sizes, axis=1, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        return tuple(int(kind) for kind in rank[inverse.reshape(-1)])

    @cached_property
    def examples(self) -> tuple[int, ...]:
        """The first tile of every kind."""
        kinds = self.kinds
        return tuple(kinds.index(kind) for kind in range(max(kinds) + 1))

    @cached_property
    def steps(self) -> tuple[AxisStep, ...]:
        """The tiles one by one."""
        return tuple(self.step(i) for i in range(self.n_steps))

    def step(self, i: int) -> AxisStep:
        """The i-th tile."""
        bounds = (self.need_begin, self.need_end, self.fresh_begin, self.fresh_end, self.keep_begin, self.fresh_end)
        parts = {name: Part(*(int(bound[m, i]) for bound in bounds)) for m, name in enumerate(self.names)}
        reads = zip(self.reads_begin[:, i].tolist(), self.reads_end[:, i].tolist(), strict=True)
        return AxisStep(parts=parts, reads=tuple(reads))

    def total(self, name: str) -> int:
        """Positions of the map that are computed, over all tiles."""
        return int(self.fresh[self.names.index(name)].sum())


def plan_axis(
    extents: Mapping[str, int],
    edges: Sequence[tuple[str, str, AxisWindow]],
    results: Sequence[str],
    tile: int,
    *,
    cached: bool,
) -> AxisPlan:
    """Tiles of ``tile`` positions of the last of ``results``, the others in proportion.

    ``extents``: positions of every map. ``edges``: (consumer, tensor, window) by the names of maps.
    """
    names = tuple(extents)
    length = extents[results[-1]]
    begins = np.arange(0, length, tile, dtype=np.int64)
    ends = np.minimum(begins + tile, length)
    readers: dict[str, list[tuple[str, AxisWindow]]] = {name: [] for name in names}
    for consumer, tensor, window in edges:
        readers[tensor].append((consumer, window))
    need: dict[str, tuple[Ints, Ints]] = {}
    fresh: dict[str, tuple[Ints, Ints]] = {}
    for name in _backwards(names, readers):
        wanted = [_read(window, *fresh[reader]) for reader, window in readers[name]]
        if name in results:
            wanted.append((begins * extents[name] // length, ends * extents[name] // length))
        if not wanted:  # nobody reads it: nothing of it is made
            wanted = [(np.zeros_like(begins), np.zeros_like(ends))]
        need[name], fresh[name] = _parts(wanted, extents[name], cached=cached)
    need_begin, need_end, fresh_begin, fresh_end = (
        np.array([table[name][side] for name in names]) for table in (need, fresh) for side in (0, 1)
    )
    reads = [_read(window, *fresh[consumer]) for consumer, _, window in edges]
    none = [np.zeros_like(begins)] if not reads else []
    return AxisPlan(
        names=names,
        cached=cached,
        need_begin=need_begin,
        need_end=need_end,
        fresh_begin=fresh_begin,
        fresh_end=fresh_end,
        keep_begin=_keep_begin(need_begin, need_end, fresh_end) if cached else fresh_end,
        reads_begin=np.array([one[0] for one in reads] or none),
        reads_end=np.array([one[1] for one in reads] or none),
    )


def _backwards(names: Sequence[str], readers: Mapping[str, Sequence[tuple[str, AxisWindow]]]) -> list[str]:
    """Every map after all maps that are made from it."""
    left = {name: {consumer for consumer, _ in readers[name]} for name in names}
    order: list[str] = []
    done: set[str] = set()
    while len(order) < len(names):
        ready = [name for name in names if name not in done and left[name] <= done]
        order += ready
        done |= set(ready)
    return order


def _read(window: AxisWindow, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """What is read to compute [begin, end); [0, 0) where that is nothing."""
    if window.whole:
        first, last = np.zeros_like(begin), np.full_like(begin, window.n_in - 1)
    else:
        top = window.n_in - 1
        first = np.clip((begin * window.stride - window.pad) // window.up, 0, top)
        last = np.clip(((end - 1) * window.stride - window.pad + window.reach - 1) // window.up, 0, top)
    some = end > begin
    return np.where(some, first, 0), np.where(some, last + 1, 0)


def _parts(
    wanted: list[tuple[Ints, Ints]], extent: int, *, cached: bool
) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """(need, fresh) of a map from what its readers want; what a cached axis knew before is not fresh."""
    lows = np.array([np.where(end > begin, begin, extent) for begin, end in wanted]).min(axis=0)
    highs = np.array([np.where(end > begin, end, 0) for begin, end in wanted]).max(axis=0)
    some = highs > 0
    if not cached:
        need = np.where(some, lows, 0), np.where(some, highs, 0)
        return need, need
    known_after = np.maximum.accumulate(highs)
    known = np.concatenate([[0], known_after[:-1]])
    need = np.where(some, lows, known), np.where(some, highs, known)
    return need, (known, known_after)


def _keep_begin(need_begin: Ints, need_end: Ints, fresh_end: Ints) -> Ints:
    """The first position that any later tile reads, or the end of what is known."""
    far = np.iinfo(np.int64).max
    wanted = np.where(need_end > need_begin, need_begin, far)[:, ::-1]
    later = np.minimum.accumulate(wanted, axis=1)[:, ::-1]
    later = np.concatenate([later[:, 1:], np.full_like(later[:, :1], far)], axis=1)
    return np.minimum(later, fresh_end)
