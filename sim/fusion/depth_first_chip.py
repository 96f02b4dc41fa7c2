"""A depth-first program on numbers: its commands compute parts of maps from what the tile has of their inputs.

As in :mod:`tilewright.sim.numbers.attention`: the commands of the program without loops work in the order in which
they finish,
on slots that refuse what is not there and what no token protects. A slot holds what one tile has of a map; the caches
of a map belong to the engine that makes, or loads, it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.depth_first_geometry import DepthFirstGeometry
from tilewright.sim.fusion.depth_first_numeric import TileState, empty_results, fresh_spans, make_part
from tilewright.sim.fusion.depth_first_program import SLOTS, TiledProgram
from tilewright.sim.fusion.depth_first_values import Values, Window
from tilewright.sim.numbers.attention import interpret, operation
from tilewright.sim.numbers.hazards import Execution, HazardError, Place, Store
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["run_tiles_on_numbers"]


def run_tiles_on_numbers(
    stream: OperatorStream,
    plan: DepthFirstGeometry,
    machine: MachineSpec,
    inputs: Mapping[str, Values],
    weights: Mapping[int, Values],
) -> dict[str, Values]:
    """The results of a group as its program computes them; ``inputs`` [channels, height, width] by name.

    Raises MappingError when the group does not fit, DeadlockError when the program gets stuck and HazardError when a
    command uses data that is not there.
    """
    made = TiledProgram(stream, plan, machine)
    chip = _Chip(plan, inputs, weights)
    interpret(made.program(unroll=True), chip)
    for name, values in chip.results.items():
        if np.isnan(values).any():
            raise HazardError(f"some of {name} was never stored to DRAM")
    return chip.results


class _Chip:
    """DRAM, slots for tiles of maps, weights, and the caches."""

    def __init__(self, plan: DepthFirstGeometry, inputs: Mapping[str, Values], weights: Mapping[int, Values]) -> None:
        self.plan, self.inputs, self.weights = plan, inputs, weights
        self.results = empty_results(plan)
        self.state = TileState(plan)
        moving = {*plan.outside, *self.results}
        self.stores = {name: Store(name, SLOTS if name in moving else 1) for name in plan.maps}
        self.resident = {node: Store(f"weights of {node}", 1) for node in weights}
        self.windows: dict[str, dict[tuple[int, int], Window]] = {name: {} for name in plan.maps}
        self.next: dict[str, tuple[int, int]] = dict.fromkeys(plan.maps, (0, 0))

    def place(self, name: str, i: int, j: int) -> Place:
        """Where tile (i, j) of a map lies."""
        return Place(self.stores[name], f"tile {i}, {j} of {name}")

    def advance(self, name: str, i: int, j: int, fresh: Values) -> Window:
        """Tile (i, j) of a map, behind tiles that had nothing fresh of it."""
        self.skip(name, i, j)
        return self._advance(name, i, j, fresh)

    def skip(self, name: str, i: int, j: int) -> None:
        """Bring the caches of a map past the tiles before (i, j) that have nothing fresh of it."""
        while self.next[name] != (i, j):
            x, y = self.next[name]
            self._advance(name, x, y, self._nothing(name, x, y))

    def _nothing(self, name: str, i: int, j: int) -> Values:
        columns, rows = self.plan.columns.steps[i][name], self.plan.rows.steps[j][name]
        if columns.fresh and rows.fresh:
            raise HazardError(f"tile {i}, {j} of {name} was left out")
        return np.zeros((self.plan.maps[name].channels, rows.fresh, columns.fresh))

    def _advance(self, name: str, i: int, j: int, fresh: Values) -> Window:
        window = self.windows[name][i, j] = self.state.advance(name, i, j, fresh)
        self.next[name] = (0, j + 1) if i + 1 == self.plan.columns.n_steps else (i + 1, j)
        return window

    def read(self, run: Execution, name: str, i: int, j: int) -> Window:
        """What the tile has of a map; where nothing of it is fresh, that is what the caches have."""
        columns, rows = self.plan.columns.steps[i][name], self.plan.rows.steps[j][name]
        if columns.fresh and rows.fresh:
            run.read(self.place(name, i, j), "part")
        elif (i, j) not in self.windows[name]:
            self.advance(name, i, j, self._nothing(name, i, j))
        return self.windows[name][i, j]


@operation("tile weights")
def _weights(chip: _Chip, run: Execution, node: int) -> None:
    if node in chip.resident:
        run.write(Place(chip.resident[node], "weights"), "weights", chip.weights[node], opens=True)


@operation("tile load")
def _load(chip: _Chip, run: Execution, name: str, i: int, j: int) -> None:
    spans = fresh_spans(chip.plan.columns.steps[i][name], chip.plan.rows.steps[j][name])
    window = chip.advance(name, i, j, chip.inputs[name][:, slice(*spans[0]), slice(*spans[1])])
    run.write(chip.place(name, i, j), "part", window.values, opens=True)


@operation("tile make")
def _make(chip: _Chip, run: Execution, node: int, i: int, j: int) -> None:
    plan = chip.plan
    columns, rows = plan.columns.steps[i], plan.rows.steps[j]
    if node in chip.resident:
        run.read(Place(chip.resident[node], "weights"), "weights")
    seen = {name: chip.read(run, name, i, j) for edge, name in plan.edges if edge.consumer == node}
    name = plan.result[node]
    made = make_part(plan, node, seen, chip.weights.get(node), columns, rows)
    run.write(chip.place(name, i, j), "part", chip.advance(name, i, j, made).values, opens=True)


@operation("tile store")
def _store(chip: _Chip, run: Execution, name: str, i: int, j: int) -> None:
    columns, rows = chip.plan.columns.steps[i][name], chip.plan.rows.steps[j][name]
    run.read(chip.place(name, i, j), "part")
    spans = fresh_spans(columns, rows)
    value = chip.windows[name][i, j].cut(*spans)
    at = (slice(None), slice(*spans[0]), slice(*spans[1]))
    if chip.plan.columns.cached and not np.isnan(chip.results[name][at]).all() and chip.plan.rows.cached:
        raise run.error(f"stores tile {i}, {j} of {name}, which was stored before")
    run.store(chip.results[name], at, value)
