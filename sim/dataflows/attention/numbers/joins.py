"""What joins the scores (bias, soft cap, sinks), on numbers; what all dataflows share of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilewright.errors import ProgramError
from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile
from tilewright.sim.dataflows.attention.numbers.chip import JOINED, Chip
from tilewright.sim.dataflows.attention.numbers.parts import Part, Rows, part_of_block, step_part, tile_keys
from tilewright.sim.dataflows.attention.online import Step
from tilewright.sim.numbers.hazards import Execution, FloatArray, Place
from tilewright.sim.numbers.interpreter import operation

__all__ = ["joined_scores", "scores_state", "sink_logits"]


@operation("load_sinks")
def _load_sinks(chip: Chip, run: Execution) -> None:
    run.write(Place(chip.stores["sinks"], "sinks"), "sinks", chip.dram.sinks, opens=True)


@operation("load_bias")
def _load_bias(chip: Chip, run: Execution, block: RowBlock, tile: Tile) -> None:
    _load(chip, run, part_of_block(block, tile))


@operation("load_bias_rows")
def _load_bias_of_step(chip: Chip, run: Execution, step: Step) -> None:
    _load(chip, run, step_part(step))


def _load(chip: Chip, run: Execution, part: Part) -> None:
    """The rows of the bias that some rows of the block have, each once."""
    which, _ = np.unique(_bias_rows(chip, part.rows), return_inverse=True)
    layer = chip.dram.layer
    entry = part.rows.group // layer.kv_heads % layer.bias_batch
    value = chip.dram.bias[entry].reshape(-1, layer.key_len)[which, tile_keys(chip, part.tile)]
    run.write(_bias_place(chip, part), "bias", value, opens=True)


def _bias_place(chip: Chip, part: Part) -> Place:
    return Place(chip.stores["bias"], f"bias of {part.tag}")


def _bias_rows(chip: Chip, rows: Rows) -> npt.NDArray[np.int64]:
    """The row of the bias that each of ``rows`` has, counted over its heads and rows."""
    layer = chip.dram.layer
    of_group, row = np.divmod(np.arange(rows.first, rows.first + rows.n), layer.query_len)
    head = rows.group % layer.kv_heads * layer.queries_per_kv_head + of_group
    which: npt.NDArray[np.int64] = head % layer.bias_heads * layer.bias_rows + row % layer.bias_rows
    return which


def scores_state(chip: Chip) -> str:
    """The state in which softmax finds the scores after its first pass."""
    return JOINED if chip.dram.layer.has_bias or chip.dram.layer.soft_cap else "S"


def joined_scores(chip: Chip, run: Execution, part: Part, place: Place) -> FloatArray:
    """S of one tile with all that joins it, left in ``place``; what the mask hides stays minus infinity."""
    scores, layer, cap = run.read(place, "S"), chip.dram.layer, chip.dram.soft_cap
    if scores_state(chip) == "S":
        return scores
    hidden = np.isneginf(scores)
    joined = np.where(hidden, 0.0, scores)
    if cap is not None:
        joined = cap * np.tanh(joined / cap)
    if layer.has_bias:
        _, inverse = np.unique(_bias_rows(chip, part.rows), return_inverse=True)
        joined = joined + run.read(_bias_place(chip, part), "bias")[inverse]
    joined = np.where(hidden, -np.inf, joined)
    run.write(place, JOINED, joined)
    return joined


def sink_logits(chip: Chip, run: Execution, rows: Rows) -> FloatArray | None:
    """The sink's logit of each of ``rows``; None for a layer without sinks."""
    layer = chip.dram.layer
    if not layer.sinks:
        return None
    if "sinks" not in chip.stores:
        raise ProgramError("a layer with sinks whose lowering does not load them")
    of_group = np.arange(rows.first, rows.first + rows.n) // layer.query_len
    logits = run.read(Place(chip.stores["sinks"], "sinks"), "sinks")
    result: FloatArray = logits[rows.group % layer.kv_heads * layer.queries_per_kv_head + of_group]
    return result
