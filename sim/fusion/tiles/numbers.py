"""A depth-first program on numbers: its commands compute parts of maps from what the tile has of their inputs.

As in :mod:`tilewright.sim.numbers.interpreter`: the commands of the program without loops work in the order in which
they finish, on slots that refuse what is not there and what no token protects. A slot holds what one tile has of a map;
the caches of a map belong to the engine that makes, or loads, it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.row_values import from_maps, to_maps
from tilewright.sim.fusion.tiles.geometry import DepthFirstGeometry
from tilewright.sim.fusion.tiles.program import SLOTS, TiledProgram
from tilewright.sim.fusion.tiles.tiled_numbers import TileState, empty_results, fresh_spans, make_part
from tilewright.sim.fusion.tiles.values import TileReader, Values, Window
from tilewright.sim.numbers.hazards import Execution, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import interpret, operation
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["run_tiles_on_numbers"]


def run_tiles_on_numbers(
    stream: OperatorStream,
    plan: DepthFirstGeometry,
    machine: MachineSpec,
    values: Mapping[str, Values],
    *,
    homes: GroupHomes = GROUP_IN_DRAM,
) -> dict[str, Values]:
    """The tensors that a group stores, as its program computes them.

    ``values``: the stored tensors that it reads and its weights, in the shapes of the stream. Raises MappingError when
    the group does not fit, DeadlockError when the program gets stuck and HazardError when a command uses data that is
    not there.
    """
    made = TiledProgram(stream, plan, machine, homes)
    chip = _Chip(plan, made.images, TileReader(stream, values), values)
    interpret(made.program(unroll=True), chip)
    found = {}
    for name in chip.results:
        whole = np.stack([results[name] for results in chip.stored])
        if np.isnan(whole).any():
            raise HazardError(f"some of {name} was never stored to DRAM")
        found[name] = from_maps(plan.maps[name], whole, stream.tensor(name).shape)
    return found


class _Chip:
    """DRAM, slots for tiles of maps, weights, and the caches of the image that each map is at."""

    def __init__(
        self, plan: DepthFirstGeometry, n_images: int, reader: TileReader, values: Mapping[str, Values]
    ) -> None:
        self.plan, self.reader = plan, reader
        self.inputs = {name: to_maps(plan.maps[name], np.asarray(values[name])) for name in plan.outside}
        self.stored = [empty_results(plan) for _ in range(n_images)]
        self.results = tuple(self.stored[0])
        self.states = [TileState(plan) for _ in range(n_images)]
        moving = {*plan.outside, *self.results}
        self.stores = {name: Store(name, SLOTS if name in moving else 1) for name in plan.maps}
        weighty = [node for node in plan.result if plan.graph.nodes[node].weight_bytes]
        self.resident = {node: Store(f"weights of {node}", 1) for node in weighty}
        self.windows: dict[str, dict[tuple[int, int, int], Window]] = {name: {} for name in plan.maps}
        self.next: dict[str, tuple[int, int, int]] = dict.fromkeys(plan.maps, (0, 0, 0))

    def place(self, name: str, image: int, i: int, j: int) -> Place:
        """Where tile (i, j) of a map lies."""
        return Place(self.stores[name], f"tile {i}, {j} of {name}, image {image}")

    def advance(self, name: str, image: int, i: int, j: int, fresh: Values) -> Window:
        """Tile (i, j) of a map, behind tiles that had nothing fresh of it."""
        self.skip(name, image, i, j)
        return self._advance(name, image, i, j, fresh)

    def skip(self, name: str, image: int, i: int, j: int) -> None:
        """Bring the caches of a map past the tiles before (i, j) that have nothing fresh of it."""
        while self.next[name] != (image, i, j):
            before, x, y = self.next[name]
            self._advance(name, before, x, y, self._nothing(name, x, y))

    def _nothing(self, name: str, i: int, j: int) -> Values:
        columns, rows = self.plan.columns.steps[i][name], self.plan.rows.steps[j][name]
        if columns.fresh and rows.fresh:
            raise HazardError(f"tile {i}, {j} of {name} was left out")
        return np.zeros((self.plan.maps[name].channels, rows.fresh, columns.fresh))

    def _advance(self, name: str, image: int, i: int, j: int, fresh: Values) -> Window:
        window = self.windows[name][image, i, j] = self.states[image].advance(name, i, j, fresh)
        n_columns, n_rows = self.plan.columns.n_steps, self.plan.rows.n_steps
        down, across = divmod(j * n_columns + i + 1, n_columns)
        self.next[name] = (image + 1, 0, 0) if down == n_rows else (image, across, down)
        return window

    def read(self, run: Execution, name: str, image: int, i: int, j: int) -> Window:
        """What the tile has of a map; where nothing of it is fresh, that is what the caches have."""
        columns, rows = self.plan.columns.steps[i][name], self.plan.rows.steps[j][name]
        if columns.fresh and rows.fresh:
            run.read(self.place(name, image, i, j), "part")
        elif (image, i, j) not in self.windows[name]:
            self.advance(name, image, i, j, self._nothing(name, i, j))
        return self.windows[name][image, i, j]


@operation("tile weights")
def _weights(chip: _Chip, run: Execution, node: int) -> None:
    run.write(Place(chip.resident[node], "weights"), "weights", np.zeros(1), opens=True)


@operation("tile load")
def _load(chip: _Chip, run: Execution, name: str, image: int, i: int, j: int) -> None:
    spans = fresh_spans(chip.plan.columns.steps[i][name], chip.plan.rows.steps[j][name])
    window = chip.advance(name, image, i, j, chip.inputs[name][image][:, slice(*spans[0]), slice(*spans[1])])
    run.write(chip.place(name, image, i, j), "part", window.values, opens=True)


@operation("tile make")
def _make(chip: _Chip, run: Execution, node: int, image: int, i: int, j: int) -> None:
    plan = chip.plan
    columns, rows = plan.columns.steps[i], plan.rows.steps[j]
    if node in chip.resident:
        run.read(Place(chip.resident[node], "weights"), "weights")
    seen = {name: chip.read(run, name, image, i, j) for edge, name in plan.edges if edge.consumer == node}
    name = plan.result[node]
    made = make_part(plan, node, seen, chip.reader, columns, rows)
    run.write(chip.place(name, image, i, j), "part", chip.advance(name, image, i, j, made).values, opens=True)


@operation("tile store")
def _store(chip: _Chip, run: Execution, name: str, image: int, i: int, j: int) -> None:
    columns, rows = chip.plan.columns.steps[i][name], chip.plan.rows.steps[j][name]
    run.read(chip.place(name, image, i, j), "part")
    spans = fresh_spans(columns, rows)
    value = chip.windows[name][image, i, j].cut(*spans)
    result = chip.stored[image][name]
    at = (slice(None), slice(*spans[0]), slice(*spans[1]))
    if chip.plan.columns.cached and not np.isnan(result[at]).all() and chip.plan.rows.cached:
        raise run.error(f"stores tile {i}, {j} of {name}, image {image}, which was stored before")
    run.store(result, at, value)
