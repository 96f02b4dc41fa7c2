"""What an earlier step left (residual, ratios of rows), on numbers."""

from __future__ import annotations

from tilewright.sim.dataflows.attention.blocks import RowBlock
from tilewright.sim.dataflows.attention.numbers.chip import Chip
from tilewright.sim.dataflows.attention.numbers.parts import Rows, rows_of_block
from tilewright.sim.dataflows.attention.online import Step
from tilewright.sim.numbers.hazards import Execution, FloatArray, Place
from tilewright.sim.numbers.interpreter import operation

__all__ = ["with_cached"]

RESIDUAL, RATIO = 0, 1  # parts of a slot


@operation("load_cached")
def _load(chip: Chip, run: Execution, block: RowBlock) -> None:
    _bring(chip, run, rows_of_block(block))


@operation("load_cached_rows")
def _load_rows(chip: Chip, run: Execution, step: Step) -> None:
    assert step.block is not None
    _bring(chip, run, Rows(step.block.group, step.block.row + step.offset, step.rows))


def _bring(chip: Chip, run: Execution, rows: Rows) -> None:
    layer, store = chip.dram.layer, chip.stores["cached"]
    opens = True
    for part, name, array, has in (
        (RESIDUAL, "residual", chip.dram.residual, bool(layer.residual_format)),
        (RATIO, "ratio", chip.dram.ratios, layer.ratios),
    ):
        if has:
            run.write(Place(store, rows.tag, part), name, array[rows.at], opens=opens)
            opens = False


def with_cached(chip: Chip, run: Execution, rows: Rows, value: FloatArray) -> FloatArray:
    """``value`` of these rows times their ratio, plus their residual, where the layer has them."""
    layer = chip.dram.layer
    if layer.ratios:
        value = value * run.read(Place(chip.stores["cached"], rows.tag, RATIO), "ratio")[:, None]
    if layer.residual_format:
        value = value + run.read(Place(chip.stores["cached"], rows.tag, RESIDUAL), "residual")
    return value
