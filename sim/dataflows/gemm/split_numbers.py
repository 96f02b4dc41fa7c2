"""Products whose sum is split over cores, executed on numbers: both phases of :mod:`.split`, on every core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.numbers import run_product_on_numbers
from tilewright.sim.dataflows.gemm.split import SplitCosts
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.evaluation import core_shares, phase_tiling
from tilewright.sim.lowering.mapping import Dataflow, Tiling
from tilewright.sim.numbers.hazards import Execution, FloatArray, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import after, given, interpret, operation
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.gemm import GemmLayer

__all__ = ["run_split_on_numbers"]


def run_split_on_numbers(
    layer: GemmLayer,
    machine: MachineSpec,
    tiling: Tiling,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    extras: Sequence[npt.ArrayLike],
    dataflow: Dataflow,
) -> FloatArray:
    """As :func:`.numbers.run_product_on_numbers`, of pieces whose k is a part of the whole's."""
    assert layer.split is not None
    n_parts, k = layer.split
    groups, (_, m, n) = layer.before_cut.groups // n_parts, layer.before_cut
    if len(extras) != len(layer.fused.extra_bits):
        raise InputError(f"extras: given {len(extras)} fused inputs, allowed {len(layer.fused.extra_bits)}")
    more = n_parts * layer.k - k
    of_a = np.pad(given("a", a, (groups, m, k)), ((0, 0), (0, 0), (0, more)))
    of_b = np.pad(given("b", b, (groups, k, n)), ((0, 0), (0, more), (0, 0)))
    of_a = of_a.reshape(groups, m, n_parts, layer.k).swapaxes(1, 2).reshape(groups * n_parts, m, layer.k)
    of_b = of_b.reshape(groups * n_parts, layer.k, n)
    costs = SplitCosts(layer, machine)
    first, second = dataflow.phases
    of_parts = replace(dataflow, phases=(first,))
    sums = run_product_on_numbers(
        costs.layer, machine, phase_tiling(first, tiling), of_a, of_b, dataflow=of_parts
    ).reshape(groups, n_parts, m, n)
    result = np.full((groups, m, n), np.nan)
    joined = [given("fused input", extra, (groups, m, n)) for extra in extras]
    begin = 0
    for share in core_shares(layer, machine):
        engines = second.core.engines_for(costs, tiling, share.n_cores)
        builder = ProgramBuilder(engines, second.core.channels(costs, tiling), unroll=True)
        core = second.core(costs, n_groups=share.n_groups, builder=builder)
        second.lower(core, tiling)
        program = builder.build()
        for number in range(share.n_cores):
            pieces = [begin + trip * share.n_cores + number for trip in range(share.n_groups)]
            interpret(program, _Adding(core, layer, costs, sums, joined, result, pieces))
        begin += share.n_cores * share.n_groups
    if np.isnan(result).any():
        group, row, column = np.argwhere(np.isnan(result))[0]
        raise HazardError(f"C of row {row} and column {column} of group {group} was never stored")
    return result


class _Adding:
    """One core's pools, and the arrays: partial sums (groups, parts, m, n), fused inputs and the result."""

    def __init__(
        self,
        core: TileCore[Any],
        layer: GemmLayer,
        costs: SplitCosts,
        sums: FloatArray,
        extras: Sequence[FloatArray],
        result: FloatArray,
        pieces: Sequence[int],
    ) -> None:
        self.layer, self.costs, self.sums, self.extras, self.result = layer, costs, sums, extras, result
        self.pieces = pieces
        reserved = core.builder.buffer_bytes
        widths = {f"extra {i}": bits for i, bits in enumerate(layer.fused.extra_bits)}
        self.stores = {
            pool.name: Store(
                pool.name,
                pool.slots,
                slot_bits=reserved[name] * BITS_PER_BYTE // pool.slots,
                bits_of=lambda state: widths.get(state, layer.accumulator_bits if state != "C" else layer.out_bits),
            )
            for name, pool in core.pools.items()
        }

    def at(self, group: int, rows: Span) -> tuple[int, slice, slice]:
        """(group, rows, columns) of a block of a core's share; columns behind the last are none."""
        whole, layer = self.layer.before_cut, self.layer
        n_m, n_n = ceil_div(whole.m, layer.m), ceil_div(whole.n, layer.n)
        of_part, place = divmod(self.pieces[group], n_m * n_n)
        of_group, part = divmod(of_part, self.costs.n_parts)
        row, column = divmod(place, n_n)
        first_row, first_column = row * layer.m + rows.start, column * layer.n + part * self.costs.columns
        last_row = min(first_row + rows.size, whole.m)
        last_column = min(first_column + self.costs.columns, (column + 1) * layer.n, whole.n)
        return of_group, slice(first_row, last_row), slice(first_column, max(first_column, last_column))

    def place(self, pool: str, group: int, rows: Span, part: int = 0) -> Place:
        return Place(self.stores[pool], f"rows {rows.start} of piece {self.pieces[group]}", part)


@operation("load_part")
def _load_sums(chip: _Adding, run: Execution, group: int, rows: Span, part: Span) -> None:
    of_group, of_rows, of_columns = chip.at(group, rows)
    place = chip.place("partial sums", group, rows)
    value = chip.sums[of_group, part.start, of_rows, of_columns]
    run.write(place._replace(tag=f"{place.tag}, part {part.start}"), "partial", value, opens=True)


@operation("add_part")
def _add_sums(chip: _Adding, run: Execution, group: int, rows: Span, part: Span) -> None:
    place = chip.place("partial sums", group, rows)
    value = run.read(place._replace(tag=f"{place.tag}, part {part.start}"), "partial")
    sums = chip.place("sums", group, rows)
    if not part.first:
        value = value + run.read(sums, after("sum", part.start))
    run.write(sums, after("sum", part.start + 1), value, opens=part.first)
    if part.last and chip.costs.last.is_near["out"] and not chip.costs.last.through_vector_unit:
        run.store(chip.result, chip.at(group, rows), value)


@operation("load_extra_to_added")
def _load_extra(chip: _Adding, run: Execution, group: int, rows: Span, number: int) -> None:
    value = chip.extras[number][chip.at(group, rows)]
    opens = number == chip.costs.last.loaded_extras[0]
    run.write(chip.place("fused input", group, rows, number), f"extra {number}", value, opens=opens)


@operation("fused_added")
def _fused(chip: _Adding, run: Execution, group: int, rows: Span) -> None:
    sums = chip.place("sums", group, rows)
    value = run.read(sums, after("sum", chip.costs.n_parts))
    for number, extra in enumerate(chip.extras):
        is_loaded = number in chip.costs.last.loaded_extras
        more = run.read(chip.place("fused input", group, rows, number), f"extra {number}") if is_loaded else None
        value = value + (extra[chip.at(group, rows)] if more is None else more)
    run.write(sums, "C", value)
    if chip.costs.last.is_near["out"]:
        run.store(chip.result, chip.at(group, rows), value)


@operation("store_added")
def _store(chip: _Adding, run: Execution, group: int, rows: Span) -> None:
    state = "C" if chip.costs.last.through_vector_unit else after("sum", chip.costs.n_parts)
    value = run.read(chip.place("sums", group, rows), state)
    at = chip.at(group, rows)
    if not np.isnan(chip.result[at]).all():
        raise run.error(f"stores rows from {rows.start} of piece {chip.pieces[group]}, stored before")
    run.store(chip.result, at, value)
