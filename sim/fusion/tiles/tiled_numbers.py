"""A depth-first tiling executed on numbers, tile by tile, with the caches of its mode really kept.

Each tile has a buffer for the part of every map that it needs. It is filled from the horizontal cache (what the tile
to the left left there), from the vertical cache (the row of tiles above), and by computing, or fetching, what is fresh;
anything else stays NaN. Multiply-accumulates and the sizes of the caches are counted as they occur.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.tiles.axis import AxisStep, Part
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry
from tilewright.sim.fusion.tiles.values import TileReader, Values, Window

__all__ = ["TileState", "TiledRun", "empty_results", "fresh_spans", "make_part", "run_tiled"]


@dataclass(slots=True, kw_only=True)
class TiledRun:
    """What a tiled run gave: results by name, and what it counted.

    ``computed_pixels`` by node; ``fetched_pixels`` of maps from outside; the most values that each cache ever held of a
    map, by name, in pixels.
    """

    results: dict[str, Values]
    computed_pixels: dict[int, int] = field(default_factory=dict)
    fetched_pixels: int = 0
    horizontal_pixels: dict[str, int] = field(default_factory=dict)
    vertical_pixels: dict[str, int] = field(default_factory=dict)


def run_tiled(plan: DepthFirstGeometry, inputs: Mapping[str, Values], reader: TileReader) -> TiledRun:
    """Execute ``plan`` on one image: ``inputs`` [channels, height, width] by name, weights as ``reader`` has them.

    The results of the group are NaN where no tile wrote them.
    """
    state = TileState(plan)
    found = TiledRun(results=empty_results(plan))
    for j, rows in enumerate(plan.rows.steps):
        for i, columns in enumerate(plan.columns.steps):
            seen: dict[str, Window] = {}
            for name in plan.outside:
                spans = fresh_spans(columns[name], rows[name])
                seen[name] = state.advance(name, i, j, inputs[name][:, slice(*spans[0]), slice(*spans[1])])
                found.fetched_pixels += columns[name].fresh * rows[name].fresh
            for node in members(plan.group):
                name = plan.result[node]
                made = make_part(plan, node, seen, reader, columns, rows)
                seen[name] = state.advance(name, i, j, made)
                if name in found.results:
                    spans = fresh_spans(columns[name], rows[name])
                    found.results[name][:, slice(*spans[0]), slice(*spans[1])] = made
                pixels = columns[name].fresh * rows[name].fresh
                found.computed_pixels[node] = found.computed_pixels.get(node, 0) + pixels
    found.horizontal_pixels, found.vertical_pixels = state.horizontal_pixels, state.vertical_pixels
    return found


def empty_results(plan: DepthFirstGeometry) -> dict[str, Values]:
    """Room for the results of a group, by name."""
    names = [plan.result[node] for node in plan.graph.needed_outside(plan.group)]
    sizes = {name: plan.maps[name].size for name in names}
    return {name: np.full(size, np.nan) for name, size in sizes.items()}


def fresh_spans(columns: Part, rows: Part) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) that are computed now."""
    return (rows.fresh_begin, rows.fresh_end), (columns.fresh_begin, columns.fresh_end)


def make_part(
    plan: DepthFirstGeometry,
    node: int,
    seen: Mapping[str, Window],
    reader: TileReader,
    columns: AxisStep,
    rows: AxisStep,
) -> Values:
    """What a node computes in a tile, from what the tile has of its inputs."""
    one, name = plan.graph.nodes[node], plan.result[node]
    fresh = columns[name].fresh, rows[name].fresh
    if not all(fresh):
        return np.zeros((one.output.channels, fresh[1], fresh[0]))
    inputs = {source: (plan.maps[source], seen[source]) for edge, source in plan.edges if edge.consumer == node}
    return reader.part(one, inputs, *fresh_spans(columns[name], rows[name]))


class TileState:
    """The caches of every map, and what each tile has of it; a map's tiles come in order, rows of tiles outermost."""

    def __init__(self, plan: DepthFirstGeometry) -> None:
        self.plan = plan
        self.horizontal_pixels: dict[str, int] = {}
        self.vertical_pixels: dict[str, int] = {}
        #: Rows kept from the row of tiles above, and those that this one leaves.
        self._above: dict[str, Window] = {}
        self._below: dict[str, Values] = {}
        #: Columns kept from the tile to the left.
        self._left: dict[str, Window] = {}

    def advance(self, name: str, i: int, j: int, fresh: Values) -> Window:
        """Tile (i, j) of a map: ``fresh`` joins what the caches hold, and what later tiles need is kept."""
        columns, rows = self.plan.columns.steps[i][name], self.plan.rows.steps[j][name]
        if i == 0:
            self._start_row(name, j, rows)
        buffer = self._buffer(name, columns, rows)
        top, left = rows.fresh_begin - buffer.top, columns.fresh_begin - buffer.left
        buffer.values[:, top : top + rows.fresh, left : left + columns.fresh] = fresh
        self._keep(name, buffer, columns, rows)
        return buffer

    def cached(self, name: str, i: int, j: int) -> set[tuple[int, int]]:
        """The pixels (row, column) of a map in either cache when tile (i, j) begins, i = 0 to the number of tiles."""
        found: set[tuple[int, int]] = set()
        if self.plan.columns.cached and i:
            found |= _pixels(self._left[name])
        if self.plan.rows.cached and i:
            known = self.plan.columns.steps[i - 1][name].fresh_end
            kept = self._window(name, self._below[name], self.plan.rows.steps[j][name].keep_begin, 0)
            found |= {pixel for pixel in _pixels(kept) if pixel[1] < known}
            found |= {pixel for pixel in _pixels(self._above[name]) if pixel[1] >= known} if j else set()
        elif self.plan.rows.cached and j:
            found |= _pixels(self._window(name, self._below[name], self.plan.rows.steps[j - 1][name].keep_begin, 0))
        return found

    def _start_row(self, name: str, j: int, rows: Part) -> None:
        """The horizontal cache is empty at the start of a row of tiles; what the last row kept is now above."""
        self._left.pop(name, None)
        if j:
            self._above[name] = self._window(name, self._below[name], self.plan.rows.steps[j - 1][name].keep_begin, 0)
        one = self.plan.maps[name]
        self._below[name] = np.full((one.channels, rows.keep, one.width), np.nan)
        held = rows.keep * self.plan.columns.total(name) if self.plan.rows.cached else 0
        self.vertical_pixels[name] = max(self.vertical_pixels.get(name, 0), held)

    def _window(self, name: str, values: Values, top: int, left: int) -> Window:
        one = self.plan.maps[name]
        return Window(values=values, top=top, left=left, height=one.height, width=one.width)

    def _buffer(self, name: str, columns: Part, rows: Part) -> Window:
        """Room for what the tile needs of a map, filled with what the caches have of it."""
        left, top = min(columns.need_begin, columns.fresh_begin), min(rows.need_begin, rows.fresh_begin)
        right, bottom = max(columns.need_end, columns.fresh_end), max(rows.need_end, rows.fresh_end)
        values = np.full((self.plan.maps[name].channels, bottom - top, right - left), np.nan)
        if self.plan.columns.cached and name in self._left:
            kept = self._left[name].cut((top, bottom), (left, columns.fresh_begin))
            values[:, :, : columns.fresh_begin - left] = kept
        if self.plan.rows.cached and name in self._above:
            kept = self._above[name].cut((top, rows.fresh_begin), (columns.fresh_begin, right))
            values[:, : rows.fresh_begin - top, columns.fresh_begin - left :] = kept
        return self._window(name, values, top, left)

    def _keep(self, name: str, buffer: Window, columns: Part, rows: Part) -> None:
        """Move into the caches what later tiles need."""
        if self.plan.columns.cached:
            needed = rows.need_begin, rows.need_end
            kept = buffer.cut(needed, (columns.keep_begin, columns.keep_end))
            older = buffer.left - columns.keep_begin
            if older > 0 and name in self._left:
                kept[:, :, :older] = self._left[name].cut(needed, (columns.keep_begin, buffer.left))
            self._left[name] = self._window(name, kept, rows.need_begin, columns.keep_begin)
            self.horizontal_pixels[name] = max(self.horizontal_pixels.get(name, 0), kept.shape[1] * kept.shape[2])
        if self.plan.rows.cached:
            across = columns.fresh_begin, columns.fresh_end
            kept = buffer.cut((rows.keep_begin, rows.keep_end), across)
            older = buffer.top - rows.keep_begin
            if older > 0 and name in self._above:
                kept[:, :older] = self._above[name].cut((rows.keep_begin, buffer.top), across)
            self._below[name][:, :, slice(*across)] = kept


def _pixels(window: Window) -> set[tuple[int, int]]:
    """The pixels (row, column) that a window has."""
    there = np.argwhere(~np.isnan(window.values[0]))
    return {(int(row) + window.top, int(column) + window.left) for row, column in there}
