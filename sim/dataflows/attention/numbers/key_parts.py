"""Attention whose keys are split, executed on numbers: both phases of :mod:`..key_parts`."""

from __future__ import annotations

import numpy as np

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.key_parts import KeyPartsCosts
from tilewright.sim.dataflows.attention.numbers.chip import Dram
from tilewright.sim.dataflows.attention.numbers.run import run_phase
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.mapping import Dataflow, Tiling
from tilewright.sim.numbers.hazards import Execution, FloatArray, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import after, interpret, operation
from tilewright.units import BITS_PER_BYTE
from tilewright.workloads.attention import AttentionLayer

__all__ = ["run_key_parts_on_numbers"]


def run_key_parts_on_numbers(
    dataflow: Dataflow, layer: AttentionLayer, machine: MachineSpec, tiling: Tiling, dram: Dram
) -> FloatArray:
    """The result (batch, query_heads, query_len, value_dim) of the whole, of which ``dram`` has all the pieces."""
    costs = dataflow.costs(layer, machine)
    assert isinstance(costs, KeyPartsCosts) and layer.whole is not None
    first, second = dataflow.phases
    of_parts = Dram(
        costs.layer,
        dram.q.reshape(layer.batch, layer.query_heads, layer.query_len, layer.head_dim) * np.sqrt(layer.head_dim),
        dram.k.reshape(layer.batch, layer.kv_heads, layer.key_len, layer.head_dim),
        dram.v.reshape(layer.batch, layer.kv_heads, layer.key_len, layer.value_dim),
        soft_cap=dram.soft_cap,
    )
    run_phase(first, costs, tiling, of_parts)
    of_parts.output()  # all is there
    n_pieces = layer.n_groups
    engines, channels = second.core.engines_for(costs, tiling, 1), second.core.channels(costs, tiling)
    builder = ProgramBuilder(engines, channels, unroll=True)
    core = second.core(costs, n_groups=n_pieces, builder=builder)
    second.lower(core, tiling)
    chip = _Merging(core, layer, costs, of_parts, dram.sinks)
    interpret(builder.build(), chip)
    if np.isnan(chip.result).any():
        group, row, column = np.argwhere(np.isnan(chip.result))[0]
        raise HazardError(f"O of row {row} and column {column} of kv head {group} was never stored")
    whole = layer.whole
    return chip.result.reshape(whole.batch, whole.query_heads, whole.query_len, whole.value_dim)


class _Merging:
    """One core's pools, and the arrays: partial outputs (groups, parts, rows, F), their maxima and sums (..., 2), the
    result (groups, rows, F).
    """

    def __init__(
        self,
        core: TileCore[KeyPartsCosts],
        layer: AttentionLayer,
        costs: KeyPartsCosts,
        of_parts: Dram,
        sinks: FloatArray,
    ) -> None:
        self.layer, self.costs, self.sinks = layer, costs, sinks
        groups = layer.batch // layer.key_parts, layer.key_parts, layer.kv_heads
        self.parts, self.row_sums = (
            array.reshape(*groups, *array.shape[1:]).swapaxes(1, 2).reshape(-1, layer.key_parts, *array.shape[1:])
            for array in (of_parts.o, of_parts.row_sums)
        )
        self.result = np.full((len(self.parts), *of_parts.o.shape[1:]), np.nan)
        reserved = core.builder.buffer_bytes
        self.stores = {
            name: Store(
                name,
                pool.slots,
                slot_bits=reserved[name] * BITS_PER_BYTE // pool.slots,
                bits_of=lambda state: layer.accumulator_bits,
            )
            for name, pool in core.pools.items()
        }
        self.stores["sinks"] = Store("sinks", 1)

    def at(self, group: int, rows: Span) -> tuple[int, slice, slice]:
        """(group of the whole, rows, columns) of a block of a piece's share; what is behind the last is none."""
        costs, layer = self.costs, self.layer
        entry, head = divmod(group, layer.kv_heads)
        entry, share = divmod(entry, layer.key_parts)
        row_share, column_share = divmod(share, costs.n_parts // costs.row_shares)
        row = row_share * costs.rows + rows.start
        column = column_share * costs.columns
        end = min(row + rows.size, (row_share + 1) * costs.rows, costs.all_rows)
        return (
            entry * layer.kv_heads + head,
            slice(row, max(row, end)),
            slice(column, max(column, min(column + costs.columns, layer.value_dim))),
        )

    def place(self, pool: str, group: int, rows: Span, more: str = "") -> Place:
        return Place(self.stores[pool], f"rows {rows.start} of piece {group}{more}")

    def sink_logits(self, run: Execution, group: int, rows: slice) -> FloatArray:
        """The logit of each row's head."""
        layer = self.layer
        logits = run.read(Place(self.stores["sinks"], "sinks"), "sinks")
        heads = np.arange(rows.start, rows.stop) // layer.query_len
        found: FloatArray = logits[group % layer.kv_heads * layer.queries_per_kv_head + heads]
        return found


@operation("load_sinks_to_merge")
def _load_sinks(chip: _Merging, run: Execution) -> None:
    run.write(Place(chip.stores["sinks"], "sinks"), "sinks", chip.sinks, opens=True)


@operation("load_sums_of_parts")
def _load_sums(chip: _Merging, run: Execution, group: int, rows: Span) -> None:
    of_group, of_rows, _ = chip.at(group, rows)
    run.write(chip.place("maxima and sums", group, rows), "sums", chip.row_sums[of_group, :, of_rows], opens=True)


@operation("weigh_parts")
def _weigh(chip: _Merging, run: Execution, group: int, rows: Span) -> None:
    of_group, of_rows, _ = chip.at(group, rows)
    place = chip.place("maxima and sums", group, rows)
    maxima, sums = np.moveaxis(run.read(place, "sums"), -1, 0)
    most, more = maxima.max(axis=0), 0.0
    if chip.layer.sinks:
        logits = chip.sink_logits(run, of_group, of_rows)
        most = np.maximum(most, logits)
        more = np.exp(logits - most)
    weights = np.exp(maxima - most)
    run.write(place, "weights", weights / ((weights * sums).sum(axis=0) + more))


@operation("load_part_of_o")
def _load_part(chip: _Merging, run: Execution, group: int, rows: Span, part: Span) -> None:
    of_group, of_rows, of_columns = chip.at(group, rows)
    value = chip.parts[of_group, part.start, of_rows, of_columns]
    run.write(chip.place("part of O", group, rows, f", part {part.start}"), "part", value, opens=True)


@operation("add_part_of_o")
def _add_part(chip: _Merging, run: Execution, group: int, rows: Span, part: Span) -> None:
    weights = run.read(chip.place("maxima and sums", group, rows), "weights")[part.start]
    value = weights[:, None] * run.read(chip.place("part of O", group, rows, f", part {part.start}"), "part")
    place = chip.place("O", group, rows)
    if not part.first:
        value = value + run.read(place, after("O", part.start))
    run.write(place, after("O", part.start + 1), value, opens=part.first)


@operation("store_merged")
def _store(chip: _Merging, run: Execution, group: int, rows: Span) -> None:
    at = chip.at(group, rows)
    value = run.read(chip.place("O", group, rows), after("O", chip.costs.n_parts))
    if not np.isnan(chip.result[at]).all():
        raise run.error(f"stores rows from {rows.start} of piece {group}, stored before")
    run.store(chip.result, at, value)
