"""What the commands of the dataflows that hold whole rows of S do to numbers, and what all dataflows share.

A row block has one slot for S and P, with a part per key tile, or (where S goes tile by tile) a slot per tile. Running
values carry the number of tiles that they have seen in their state, so nothing can be used too early or added twice.
"""

from __future__ import annotations

import numpy as np

from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile
from tilewright.sim.dataflows.attention.numbers.cached import with_cached
from tilewright.sim.dataflows.attention.numbers.chip import Chip
from tilewright.sim.dataflows.attention.numbers.joins import joined_scores, scores_state, sink_logits
from tilewright.sim.dataflows.attention.numbers.parts import Part, Rows, part_of_block, rows_of_block, tile_keys
from tilewright.sim.dataflows.attention.staging import Stage
from tilewright.sim.numbers.hazards import Execution, FloatArray, Place
from tilewright.sim.numbers.interpreter import after, operation

__all__ = [
    "MAXIMUM",
    "SUM",
    "load_query",
    "output_place",
    "scores_of_tile",
    "store_output",
    "weights_times_values",
]

MAXIMUM, SUM = 0, 1  # parts of a slot of row maxima and sums
K_TAIL = "K tail, then P"


# -- places ------------------------------------------------------------------------------------------------


def _key_tag(chip: Chip, block: RowBlock, tile: Tile) -> str:
    """Streamed tiles belong to the row block that they are loaded for, resident ones to their head."""
    if block.given:
        return f"keys from {tile.listed[0]} of kv head {block.group}, there since row block {tile.brought}"
    resident = block.new >= 0 and not chip.comes_again
    owner = f"kv head {block.group}" if resident else f"kv head {block.group} for row block {block.serial}"
    return f"key tile {tile.index} of {owner}"


def _key_place(chip: Chip, block: RowBlock, tile: Tile) -> Place:
    """K of a tile: in its pool, or in the tail that is loaded again for every row block."""
    if K_TAIL in chip.stores and tile.index >= _first_of_tail(chip):
        return Place(chip.stores[K_TAIL], f"K tail for row block {block.serial}", tile.index)
    return Place(chip.stores["K"], _key_tag(chip, block, tile))


def _first_of_tail(chip: Chip) -> int:
    return len(chip.stores["K"].slots)


def _query_place(chip: Chip, rows: Rows) -> Place:
    return Place(chip.stores["Q"], rows.tag)


def output_place(chip: Chip, rows: Rows) -> Place:
    """Running output of some rows."""
    return Place(chip.stores["O"], rows.tag)


def _tile_by_tile(chip: Chip) -> bool:
    """Whether a row block's S has a slot per tile (else one slot for all of them)."""
    return "S" in chip.stores


def _score_place(chip: Chip, part: Part) -> Place:
    if _tile_by_tile(chip):
        return Place(chip.stores["S"], part.tag)
    return Place(chip.stores["S/P"], part.rows.tag, part.tile.index)


def _weight_place(chip: Chip, part: Part) -> Place:
    """P of a row block: in place of S, read tile by tile from DRAM, or over the K tail."""
    if "S/P" in chip.stores:
        return Place(chip.stores["S/P"], part.rows.tag, part.tile.index)
    if "P" in chip.stores:
        return Place(chip.stores["P"], part.tag)
    return Place(chip.stores[K_TAIL], f"P of {part.rows.tag}", part.tile.index)


# -- loads and stores --------------------------------------------------------------------------------------


@operation("load_q")
def _load_q(chip: Chip, run: Execution, block: RowBlock) -> None:
    load_query(chip, run, rows_of_block(block))


def load_query(chip: Chip, run: Execution, rows: Rows) -> None:
    """Q of some rows, into the next slot."""
    run.write(_query_place(chip, rows), "Q", chip.dram.q[rows.at], opens=True)


@operation("load_k")
def _load_k(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    run.write(_key_place(chip, block, tile), "K", chip.dram.k[block.group, tile_keys(chip, tile)], opens=True)


@operation("load_k_tail")
def _load_k_tail(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    first = tile.index == _first_of_tail(chip)
    run.write(_key_place(chip, block, tile), "K", chip.dram.k[block.group, tile_keys(chip, tile)], opens=first)


@operation("load_v")
def _load_v(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    place = Place(chip.stores["V"], _key_tag(chip, block, tile))
    run.write(place, "V", chip.dram.v[block.group, tile_keys(chip, tile)], opens=True)


@operation("load_s")
def _load_s(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    run.write(_score_place(chip, part), "S", _from_dram(chip, run, chip.dram.s, part, "S"), opens=part.seen == 0)


@operation("load_p")
def _load_p(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    run.write(_weight_place(chip, part), "P", _from_dram(chip, run, chip.dram.p, part, "P"), opens=True)


@operation("fetch_k", "fetch_v")
def _fetch(chip: Chip, run: Execution, stage: Stage, block: RowBlock, tile: Tile) -> None:
    place = _stage_place(chip, stage, block, tile)
    run.write(place, stage.operand, _of_head(chip, stage, block, tile), opens=tile.first)


@operation("bring_k", "bring_v")
def _bring(chip: Chip, run: Execution, stage: Stage, block: RowBlock, tile: Tile) -> None:
    run.write(_sent_place(chip, stage, block, tile), stage.operand, _come(chip, run, stage, block, tile), opens=True)


@operation("load_k_sent", "load_v_sent")
def _load_sent(chip: Chip, run: Execution, stage: Stage, block: RowBlock, tile: Tile) -> None:
    value = run.read(_sent_place(chip, stage, block, tile), stage.operand)
    place = Place(chip.stores[stage.operand], _key_tag(chip, block, tile))
    run.write(place, stage.operand, value, opens=True)


@operation("load_k_staged", "load_v_staged")
def _load_staged(chip: Chip, run: Execution, stage: Stage, block: RowBlock, tile: Tile) -> None:
    place = Place(chip.stores[stage.operand], _key_tag(chip, block, tile))
    run.write(place, stage.operand, _come(chip, run, stage, block, tile), opens=True)


def _come(chip: Chip, run: Execution, stage: Stage, block: RowBlock, tile: Tile) -> FloatArray:
    """A tile of K or V from the level that it is staged in, or from its home."""
    if stage.level is None:
        return _of_head(chip, stage, block, tile)
    return run.read(_stage_place(chip, stage, block, tile), stage.operand)


def _of_head(chip: Chip, stage: Stage, block: RowBlock, tile: Tile) -> FloatArray:
    array = chip.dram.k if stage.operand == "K" else chip.dram.v
    value: FloatArray = array[block.group, tile_keys(chip, tile)]
    return value


def _stage_place(chip: Chip, stage: Stage, block: RowBlock, tile: Tile) -> Place:
    store = chip.registers(f"{stage.operand} in {stage.level}", stage.slots)
    return Place(store, f"kv head {block.group}", tile.index)


def _sent_place(chip: Chip, stage: Stage, block: RowBlock, tile: Tile) -> Place:
    """With the core that brings it: as many places as its pool has slots."""
    store = chip.registers(f"{stage.operand} to send", len(chip.stores[stage.operand].slots))
    return Place(store, f"tile {tile.index} for row block {block.serial}")


def _from_dram(chip: Chip, run: Execution, array: FloatArray, part: Part, what: str) -> FloatArray:
    value = array[_tile_at(chip, part)].copy()
    if np.isnan(value).any():
        raise run.error(f"loads {what} of {part.tag}, which is not all in DRAM yet")
    return value


@operation("store_s")
def _store_s(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    _tile_to_dram(chip, run, chip.dram.s, part, "S", run.read(_score_place(chip, part), "S"))


@operation("store_p")
def _store_p(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    _tile_to_dram(chip, run, chip.dram.p, part, "P", run.read(_weight_place(chip, part), "P"))


def _tile_to_dram(chip: Chip, run: Execution, array: FloatArray, part: Part, what: str, value: FloatArray) -> None:
    at = _tile_at(chip, part)
    untouched = np.isnan(array[at]) | ~chip.dram.visible[at]
    if not untouched.all():
        raise run.error(f"stores {what} of {part.tag}, which was stored before")
    run.store(array, at, value)


def _tile_at(chip: Chip, part: Part) -> tuple[int, slice, slice]:
    keys = tile_keys(chip, part.tile)
    assert isinstance(keys, slice)  # rows of S and P in the DRAM are those of a band
    return (*part.rows.at, keys)


@operation("clear")
def _clear(chip: Chip, run: Execution, block: RowBlock) -> None:
    rows = rows_of_block(block)
    zeros = with_cached(chip, run, rows, np.zeros((rows.n, chip.dram.layer.value_dim)))
    run.write(_zeros_place(chip, rows), "O", zeros, opens=True)


def _zeros_place(chip: Chip, rows: Rows) -> Place:
    return Place(chip.stores["zeros"], rows.tag)


@operation("add_cached")
def _add_cached(chip: Chip, run: Execution, block: RowBlock) -> None:
    rows = rows_of_block(block)
    place, state = output_place(chip, rows), after("O", block.tiles)
    run.write(place, state, with_cached(chip, run, rows, run.read(place, state)))


@operation("store_zeros")
def _store_zeros(chip: Chip, run: Execution, block: RowBlock) -> None:
    rows = rows_of_block(block)
    _rows_to_dram(chip, run, rows, run.read(_zeros_place(chip, rows), "O"))


@operation("store_o")
def _store_o(chip: Chip, run: Execution, block: RowBlock) -> None:
    store_output(chip, run, rows_of_block(block), after("O", block.tiles))


def store_output(chip: Chip, run: Execution, rows: Rows, state: str) -> None:
    """O of some rows to DRAM; it must be in ``state``."""
    _rows_to_dram(chip, run, rows, run.read(output_place(chip, rows), state))


def _rows_to_dram(chip: Chip, run: Execution, rows: Rows, value: FloatArray) -> None:
    if not np.isnan(chip.dram.o[rows.at]).all():
        raise run.error(f"stores O of {rows.tag}, which was stored before")
    run.store(chip.dram.o, rows.at, value)


# -- Q K^T -------------------------------------------------------------------------------------------------


def scores_of_tile(chip: Chip, run: Execution, part: Part) -> FloatArray:
    """S of one tile, minus infinity where the mask hides it."""
    place = _key_place(chip, part.block, part.tile)
    keys = run.read(place, "K")
    if part.is_last_use:
        run.release(place)
    product = run.read(_query_place(chip, part.rows), "Q") @ keys.T
    return np.where(chip.dram.visible[part.rows.at][:, tile_keys(chip, part.tile)], product, -np.inf)


@operation("scores", "scores_tiled")
def _scores(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    opens = _tile_by_tile(chip) or part.seen == 0
    run.write(_score_place(chip, part), "S", scores_of_tile(chip, run, part), opens=opens)


# -- softmax of a row block in three passes ----------------------------------------------------------------


def _row_state(chip: Chip, part: Part, which: int) -> Place:
    return Place(chip.registers("row maxima and sums", 1), part.rows.tag, which)


@operation("row_maximum")
def _row_maximum(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    place = _row_state(chip, part, MAXIMUM)
    value = joined_scores(chip, run, part, _score_place(chip, part)).max(axis=1)
    sinks = sink_logits(chip, run, part.rows)
    if part.seen:
        value = np.maximum(value, run.read(place, after("maximum", part.seen)))
    elif sinks is not None:
        value = np.maximum(value, sinks)
    run.write(place, after("maximum", part.seen + 1), value, opens=part.seen == 0)


@operation("exponentials")
def _exponentials(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    run.write(_score_place(chip, part), "exp(S)", _exponentials_and_sum(chip, run, part))


@operation("exponentials_over_k")
def _exponentials_over_k(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    value = _exponentials_and_sum(chip, run, part)
    run.write(_weight_place(chip, part), "exp(S)", value, opens=part.seen == 0)


def _exponentials_and_sum(chip: Chip, run: Execution, part: Part) -> FloatArray:
    maximum = run.read(_row_state(chip, part, MAXIMUM), after("maximum", part.tiles))
    seen = np.where(np.isneginf(maximum), 0.0, maximum)  # rows that see nothing of a listed block
    value = np.exp(run.read(_score_place(chip, part), scores_state(chip)) - seen[:, None])
    place = _row_state(chip, part, SUM)
    total = value.sum(axis=1)
    sinks = sink_logits(chip, run, part.rows)
    if part.seen:
        total = total + run.read(place, after("sum", part.seen))
    elif sinks is not None:
        total = total + np.exp(sinks - seen)
    run.write(place, after("sum", part.seen + 1), total)
    return value


@operation("normalise", "normalise_over_k")
def _normalise(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    total = run.read(_row_state(chip, part, SUM), after("sum", part.tiles))
    place = _weight_place(chip, part)
    total = np.where(total == 0, 1.0, total)  # of rows that see nothing: 0
    run.write(place, "P", run.read(place, "exp(S)") / total[:, None])


# -- P V ---------------------------------------------------------------------------------------------------


def weights_times_values(chip: Chip, run: Execution, part: Part, weights: Place) -> FloatArray:
    """P V of one tile."""
    place = Place(chip.stores["V"], _key_tag(chip, part.block, part.tile))
    values = run.read(place, "V")
    if part.is_last_use:
        run.release(place)
    return run.read(weights, "P") @ values


@operation("values", "values_from_dram")
def _values(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    part = part_of_block(block, tile)
    value = weights_times_values(chip, run, part, _weight_place(chip, part))
    place = output_place(chip, part.rows)
    if part.seen:
        value = value + run.read(place, after("O", part.seen))
    run.write(place, after("O", part.seen + 1), value, opens=part.seen == 0)
