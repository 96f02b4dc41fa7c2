"""Rows that are cut into pieces, executed on numbers: the lowering of :mod:`tilewright.sim.dataflows.vector.lower`.

As in :mod:`tilewright.sim.numbers.interpreter`: what the simulated commands do to NumPy arrays, in the order in which
they finish,
with the slots that the lowering reserved. A value is one column of the layer.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.dataflows.vector.lower import VECTOR, Piece, VectorCosts
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.mapping import Dataflow, Tiling, check_tiling
from tilewright.sim.numbers.hazards import Execution, FloatArray, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import after, given, interpret, operation
from tilewright.units import BITS_PER_BYTE
from tilewright.workloads.gemm import VectorLayer

__all__ = ["RowFunction", "RowMaximum", "RowSoftmax", "RowSquares", "run_rows_on_numbers"]


class RowFunction(Protocol):
    """What is computed of a row: what a piece does to what is kept, and the results of a piece given what is kept."""

    def keep(self, kept: FloatArray | None, x: FloatArray) -> FloatArray: ...

    def results(self, kept: FloatArray, x: FloatArray) -> FloatArray: ...


class RowMaximum(NamedTuple):
    """A reduction: one result a row."""

    def keep(self, kept: FloatArray | None, x: FloatArray) -> FloatArray:
        highest = np.asarray(x.max(keepdims=True))
        return highest if kept is None else np.asarray(np.maximum(kept, highest))

    def results(self, kept: FloatArray, x: FloatArray) -> FloatArray:
        return kept


class RowSquares(NamedTuple):
    """Element-wise work: nothing is kept."""

    def keep(self, kept: FloatArray | None, x: FloatArray) -> FloatArray:
        return np.zeros(0)

    def results(self, kept: FloatArray, x: FloatArray) -> FloatArray:
        return x * x


class RowSoftmax(NamedTuple):
    """Statistics of the whole row first: its maximum and the sum of exponentials."""

    def keep(self, kept: FloatArray | None, x: FloatArray) -> FloatArray:
        old_maximum, old_sum = kept if kept is not None else (-np.inf, 0.0)
        maximum = max(old_maximum, float(x.max()))
        return np.array([maximum, old_sum * np.exp(old_maximum - maximum) + np.exp(x - maximum).sum()])

    def results(self, kept: FloatArray, x: FloatArray) -> FloatArray:
        return np.asarray(np.exp(x - kept[0]) / kept[1])


def run_rows_on_numbers(
    layer: VectorLayer,
    machine: MachineSpec,
    tiling: Tiling,
    function: RowFunction,
    x: npt.ArrayLike,
    *,
    dataflow: Dataflow = VECTOR,
) -> FloatArray:
    """``function`` of the rows of ``x`` (groups, rows, columns), as the commands of ``tiling`` compute it.

    The result has as many columns, or one where the pieces add up. Raises InputError for a wrong shape or tiling and
    for rows that are not cut, MappingError when the pieces do not fit the working buffer, HazardError when a command
    uses data that is not there.
    """
    check_tiling(dataflow, layer, tiling)
    if layer.cut is None or tiling["columns"] >= layer.columns:
        raise InputError(f"{layer.name}: only rows that are cut into pieces run on numbers")
    costs = VectorCosts(layer, machine)
    (phase,) = dataflow.phases
    builder = ProgramBuilder(TileCore.engines(1), phase.core.channels(costs, tiling), unroll=True)
    core = phase.core(costs, n_groups=layer.groups, builder=builder)
    phase.lower(core, tiling)
    chip = _RowChip(core, layer, function, given("x", x, (layer.groups, layer.rows, layer.columns)))
    interpret(builder.build(), chip)
    if np.isnan(chip.y).any():
        raise HazardError("a result was never stored to DRAM")
    return chip.y


class _RowChip:
    """DRAM arrays and the pools."""

    def __init__(self, core: TileCore[VectorCosts], layer: VectorLayer, function: RowFunction, x: FloatArray) -> None:
        assert layer.cut is not None
        self.layer, self.cut, self.function, self.x = layer, layer.cut, function, x
        self.y = np.full((*x.shape[:2], 1 if layer.cut.sums else x.shape[2]), np.nan)
        self.n_passes = 2 if layer.cut.first else 1
        reserved = core.builder.buffer_bytes
        self.stores = {
            pool.name: Store(
                pool.name, pool.slots, slot_bits=reserved[name] * BITS_PER_BYTE // pool.slots, bits_of=self._bits_of
            )
            for name, pool in core.pools.items()
        }

    def _bits_of(self, state: str) -> int | Fraction:
        if state in ("x", "y"):
            n_bytes = self.layer.read_bytes if state == "x" else self.layer.write_bytes
            return Fraction(n_bytes * BITS_PER_BYTE, self.layer.columns)
        n_kept = 2 if self.cut.first else 1
        return Fraction(self.cut.kept_bytes * BITS_PER_BYTE, n_kept)

    def place(self, at: Piece) -> Place:
        tag = f"columns {at.columns.start} of row {at.row.start} of group {at.group} in pass {at.number}"
        return Place(self.stores["rows"], tag)

    def kept(self, group: int, row: Span) -> Place:
        return Place(self.stores["kept of a row"], f"row {row.start} of group {group}")


def _range(span: Span) -> slice:
    return slice(span.start, span.start + span.size)


@operation("load_piece")
def _load_piece(chip: _RowChip, run: Execution, at: Piece) -> None:
    run.write(chip.place(at), "x", chip.x[at.group, at.row.start, _range(at.columns)], opens=True)


@operation("row_work")
def _work(chip: _RowChip, run: Execution, at: Piece) -> None:
    x, kept = run.read(chip.place(at), "x"), np.zeros(0)
    is_last_pass = at.number == chip.n_passes - 1
    if chip.cut.sums or not is_last_pass:
        before = None
        if not at.columns.first:
            before = run.read(chip.kept(at.group, at.row), after("kept", at.columns.start))
        kept = chip.function.keep(before, x)
        state = after("kept", at.columns.start + at.columns.size)
        run.write(chip.kept(at.group, at.row), state, kept, opens=at.columns.first)
    elif chip.cut.first:
        kept = run.read(chip.kept(at.group, at.row), after("kept", chip.layer.columns))
    if is_last_pass and not chip.cut.sums:
        run.write(chip.place(at), "y", chip.function.results(kept, x))


@operation("store_piece")
def _store_piece(chip: _RowChip, run: Execution, at: Piece) -> None:
    run.store(chip.y, (at.group, at.row.start, _range(at.columns)), run.read(chip.place(at), "y"))


@operation("store_sums")
def _store_sums(chip: _RowChip, run: Execution, group: int, row: Span) -> None:
    kept = run.read(chip.kept(group, row), after("kept", chip.layer.columns))
    run.store(chip.y, (group, row.start, slice(0, 1)), kept)
