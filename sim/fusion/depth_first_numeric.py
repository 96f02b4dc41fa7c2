"""A depth-first tiling executed on numbers, tile by tile, with the caches of its mode really kept.

Each tile has a buffer for the part of every map that it needs. It is filled from the horizontal cache (what the tile
to the left left there), from the vertical cache (the row of tiles above), and by computing, or fetching, what is fresh;
anything else stays NaN. Multiply-accumulates and the sizes of the caches are counted as they occur.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tilewright.sim.fusion.depth_first_geometry import AxisStep, DepthFirstGeometry, Part
from tilewright.sim.fusion.depth_first_values import Values, Window, compute
from tilewright.sim.fusion.graph import members

__all__ = ["TiledRun", "run_tiled"]


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


def run_tiled(plan: DepthFirstGeometry, inputs: Mapping[str, Values], weights: Mapping[int, Values]) -> TiledRun:
    """Execute ``plan`` on ``inputs`` [channels, height, width] by name, with the weights of each node by its index.

    The results of the group are NaN where no tile wrote them.
    """
    run = _Run(plan, inputs, weights)
    for j, rows in enumerate(plan.rows.steps):
        run.start_row(j)
        for columns in plan.columns.steps:
            run.tile(columns, rows)
        run.end_row(rows)
    return run.run


class _Run:
    def __init__(self, plan: DepthFirstGeometry, inputs: Mapping[str, Values], weights: Mapping[int, Values]) -> None:
        self.plan, self.inputs, self.weights = plan, inputs, weights
        wanted = [plan.result[node] for node in plan.graph.needed_outside(plan.group)]
        self.run = TiledRun(
            results={
                name: np.full((plan.maps[name].channels, plan.maps[name].height, plan.maps[name].width), np.nan)
                for name in wanted
            }
        )
        #: Rows kept from the row of tiles above, and those that this one leaves, as windows on whole rows.
        self.above: dict[str, Window] = {}
        self.below: dict[str, Values] = {}
        #: Columns kept from the tile to the left.
        self.left: dict[str, Window] = {}

    def start_row(self, row: int) -> None:
        """The horizontal caches are empty at the start of a row of tiles."""
        self.left = {}
        self.below = {}
        for name, one in self.plan.maps.items():
            part = self.plan.rows.steps[row][name]
            self.below[name] = np.full((one.channels, part.keep, one.width), np.nan)

    def end_row(self, rows: AxisStep) -> None:
        """What was kept for the next row of tiles becomes the vertical cache."""
        for name, values in self.below.items():
            self.above[name] = self._window(name, values, rows[name].keep_begin, 0)
            held = rows[name].keep * self.plan.columns.total(name) if self.plan.rows.cached else 0
            self.run.vertical_pixels[name] = max(self.run.vertical_pixels.get(name, 0), held)

    def _window(self, name: str, values: Values, top: int, left: int) -> Window:
        one = self.plan.maps[name]
        return Window(values=values, top=top, left=left, height=one.height, width=one.width)

    def tile(self, columns: AxisStep, rows: AxisStep) -> None:
        """One tile through all layers."""
        buffers: dict[str, Window] = {}
        for name in self.plan.outside:
            buffers[name] = self._buffer(name, columns[name], rows[name])
            self._write(buffers[name], self._fetch(name, columns[name], rows[name]), columns[name], rows[name])
            self._keep(name, buffers[name], columns[name], rows[name])
        for node in members(self.plan.group):
            name = self.plan.result[node]
            buffers[name] = self._buffer(name, columns[name], rows[name])
            fresh = self._compute(node, buffers, columns[name], rows[name])
            self._write(buffers[name], fresh, columns[name], rows[name])
            self._keep(name, buffers[name], columns[name], rows[name])

    def _buffer(self, name: str, columns: Part, rows: Part) -> Window:
        """Room for what the tile needs of a map, filled with what the caches have of it."""
        left, top = min(columns.need_begin, columns.fresh_begin), min(rows.need_begin, rows.fresh_begin)
        right, bottom = max(columns.need_end, columns.fresh_end), max(rows.need_end, rows.fresh_end)
        values = np.full((self.plan.maps[name].channels, bottom - top, right - left), np.nan)
        if self.plan.columns.cached and name in self.left:
            values[:, :, : columns.fresh_begin - left] = self.left[name].cut((top, bottom), (left, columns.fresh_begin))
        if self.plan.rows.cached and name in self.above:
            fresh = self.above[name].cut((top, rows.fresh_begin), (columns.fresh_begin, right))
            values[:, : rows.fresh_begin - top, columns.fresh_begin - left :] = fresh
        return self._window(name, values, top, left)

    def _fetch(self, name: str, columns: Part, rows: Part) -> Values:
        self.run.fetched_pixels += columns.fresh * rows.fresh
        source = self.inputs[name]
        return source[:, rows.fresh_begin : rows.fresh_end, columns.fresh_begin : columns.fresh_end]

    def _compute(self, node: int, buffers: Mapping[str, Window], columns: Part, rows: Part) -> Values:
        one = self.plan.graph.nodes[node]
        self.run.computed_pixels[node] = self.run.computed_pixels.get(node, 0) + columns.fresh * rows.fresh
        if not columns.fresh or not rows.fresh:
            return np.zeros((one.output.channels, rows.fresh, columns.fresh))
        seen = [(edge, buffers[name]) for edge, name in self.plan.edges if edge.consumer == node]
        spans = (rows.fresh_begin, rows.fresh_end), (columns.fresh_begin, columns.fresh_end)
        found = compute(one, seen, self.weights.get(node), *spans)
        result = self.run.results.get(self.plan.result[node])
        if result is not None:
            result[:, slice(*spans[0]), slice(*spans[1])] = found
        return found

    def _write(self, buffer: Window, fresh: Values, columns: Part, rows: Part) -> None:
        top, left = rows.fresh_begin - buffer.top, columns.fresh_begin - buffer.left
        buffer.values[:, top : top + rows.fresh, left : left + columns.fresh] = fresh

    def _keep(self, name: str, buffer: Window, columns: Part, rows: Part) -> None:
        """Move into the caches what later tiles need."""
        if self.plan.columns.cached:
            needed = rows.need_begin, rows.need_end
            kept = buffer.cut(needed, (columns.keep_begin, columns.keep_end))
            older = buffer.left - columns.keep_begin
            if older > 0 and name in self.left:
                kept[:, :, :older] = self.left[name].cut(needed, (columns.keep_begin, buffer.left))
            self.left[name] = self._window(name, kept, rows.need_begin, columns.keep_begin)
            held = columns.keep * rows.need
            self.run.horizontal_pixels[name] = max(self.run.horizontal_pixels.get(name, 0), held)
        if self.plan.rows.cached:
            across = columns.fresh_begin, columns.fresh_end
            kept = buffer.cut((rows.keep_begin, rows.keep_end), across)
            older = buffer.top - rows.keep_begin
            if older > 0 and name in self.above:
                kept[:, :older] = self.above[name].cut((rows.keep_begin, buffer.top), across)
            self.below[name][:, :, slice(*across)] = kept
