"""What the commands of the one-pass dataflows (`fusemax`, `flash2`) do to numbers, operation by operation.

A *step* is one key tile against some rows of a row block. Its S and P fill a slot of their own; running maximum, sum
and output belong to the rows.
"""

from __future__ import annotations

import numpy as np

from tilewright.sim.dataflows.attention.numbers.cached import with_cached
from tilewright.sim.dataflows.attention.numbers.chip import Chip
from tilewright.sim.dataflows.attention.numbers.joins import joined_scores, scores_state, sink_logits
from tilewright.sim.dataflows.attention.numbers.parts import Part, Rows, step_part
from tilewright.sim.dataflows.attention.numbers.stages import (
    MAXIMUM,
    SUM,
    load_query,
    output_place,
    scores_of_tile,
    store_output,
    weights_times_values,
)
from tilewright.sim.dataflows.attention.online import Step
from tilewright.sim.numbers.hazards import Execution, FloatArray, Place
from tilewright.sim.numbers.interpreter import after, operation

__all__: list[str] = []  # importing this module registers the operations

OLD_MAXIMUM = 2  # part of a slot of running maxima and sums, beside MAXIMUM and SUM


def _place(chip: Chip, part: Part, store: str = "S/P", n_slots: int = 2) -> Place:
    return Place(chip.registers(store, n_slots), part.tag)


# -- Q, S and O --------------------------------------------------------------------------------------------


@operation("load_q_rows")
def _load_q(chip: Chip, run: Execution, step: Step) -> None:
    load_query(chip, run, step_part(step).rows)


@operation("scores_rows")
def _scores(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    run.write(_place(chip, part), "S", scores_of_tile(chip, run, part), opens=True)


@operation("divide_rows")
def _divide(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    place = output_place(chip, part.rows)
    total = run.read(_running(chip, part, SUM), after("sum", part.tiles))
    total = np.where(total == 0, 1.0, total)  # rows of a listed block that the causal rule hides see nothing: 0
    divided = run.read(place, after("O", part.tiles)) / total[:, None]
    run.write(place, "O divided", with_cached(chip, run, part.rows, divided))


@operation("clear_rows")
def _clear(chip: Chip, run: Execution, step: Step) -> None:
    rows = _rows_of(step)
    zeros = with_cached(chip, run, rows, np.zeros((rows.n, chip.dram.layer.value_dim)))
    run.write(output_place(chip, rows), "O divided", zeros, opens=True)


def _rows_of(step: Step) -> Rows:
    assert step.block is not None
    return Rows(step.block.group, step.block.row + step.offset, step.rows)


@operation("store_o_rows")
def _store_o(chip: Chip, run: Execution, step: Step) -> None:
    store_output(chip, run, _rows_of(step), "O divided")


@operation("store_undivided_rows")
def _store_undivided(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    store_output(chip, run, part.rows, after("O", part.tiles))


@operation("store_row_sums")
def _store_row_sums(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    both = [
        run.read(_running(chip, part, which), after(name, part.tiles))
        for which, name in ((MAXIMUM, "maximum"), (SUM, "sum"))
    ]
    run.store(chip.dram.row_sums, part.rows.at, np.stack(both, axis=-1))


# -- one-pass softmax --------------------------------------------------------------------------------------


def _running(chip: Chip, part: Part, which: int) -> Place:
    return Place(chip.registers("running maxima and sums", len(chip.stores["O"].slots)), part.rows.tag, which)


def _exp(value: FloatArray, maximum: FloatArray) -> FloatArray:
    """exp(value - maximum), 0 for rows of which nothing has been seen yet (maximum minus infinity)."""
    result: FloatArray = np.exp(value - np.where(np.isneginf(maximum), 0.0, maximum))
    return result


def _update_maximum(chip: Chip, run: Execution, part: Part, of_tile: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Running maximum with the tile's, as (old, new); the old one stays readable beside it.

    It begins with the sinks' logits, or minus infinity.
    """
    place = _running(chip, part, MAXIMUM)
    sinks = sink_logits(chip, run, part.rows)
    old = np.full(len(of_tile), -np.inf) if sinks is None else sinks
    if part.seen:
        old = run.read(place, after("maximum", part.seen))
    new = np.maximum(old, of_tile)
    run.write(place, after("maximum", part.seen + 1), new, opens=part.seen == 0)
    run.write(_running(chip, part, OLD_MAXIMUM), after("maximum", part.seen), old)
    return old, new


# -- flash2: the whole one-pass softmax of a step in one command -------------------------------------------


@operation("online_softmax_rows")
def _online_softmax(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    place = _place(chip, part)
    scores = joined_scores(chip, run, part, place)
    old, new = _update_maximum(chip, run, part, scores.max(axis=1))
    correction, weights = _exp(old, new), _exp(scores, new[:, None])
    total = weights.sum(axis=1)
    if part.seen:
        total = total + correction * run.read(_running(chip, part, SUM), after("sum", part.seen))
    elif chip.dram.layer.sinks:
        total = total + correction
    run.write(_running(chip, part, SUM), after("sum", part.seen + 1), total)
    run.write(place, "P", weights)
    run.write(_place(chip, part, "corrections"), "correction", correction, opens=True)


@operation("rescale_rows", "rescale_output_rows")
def _rescale(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    place = output_place(chip, part.rows)
    correction = run.read(_place(chip, part, "corrections"), "correction")
    value = correction[:, None] * run.read(place, after("O", part.seen))
    run.write(place, after("O rescaled", part.seen), value)


@operation("add_values_rows")
def _add_values(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    place = output_place(chip, part.rows)
    value = weights_times_values(chip, run, part, _place(chip, part))
    if part.seen:
        value = value + run.read(place, after("O rescaled", part.seen))
    run.write(place, after("O", part.seen + 1), value, opens=part.seen == 0)


# -- fusemax: the one-pass softmax of a step spread over both units ----------------------------------------


def _tile_maxima(chip: Chip, part: Part) -> Place:
    return _place(chip, part, "tile maxima", len(chip.stores["S/P"].slots))


@operation("tile_maximum_rows")
def _tile_maximum(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    value = joined_scores(chip, run, part, _place(chip, part)).max(axis=1)
    run.write(_tile_maxima(chip, part), "tile maximum", value, opens=True)


@operation("running_maximum_rows")
def _running_maximum(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    if "tile maxima" in chip.stores:  # the array made it
        of_tile = run.read(_tile_maxima(chip, part), "tile maximum")
    else:
        of_tile = joined_scores(chip, run, part, _place(chip, part)).max(axis=1)
    _update_maximum(chip, run, part, of_tile)


@operation("correction_rows")
def _correction(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    old = run.read(_running(chip, part, OLD_MAXIMUM), after("maximum", part.seen))
    new = run.read(_running(chip, part, MAXIMUM), after("maximum", part.seen + 1))
    correction = _exp(old, new)
    place = _running(chip, part, SUM)
    total = correction * run.read(place, after("sum", part.seen))
    run.write(place, after("sum corrected", part.seen), total)
    run.write(_place(chip, part, "corrections"), "correction", correction, opens=True)


@operation("sinks_rows")
def _sinks(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    old = run.read(_running(chip, part, OLD_MAXIMUM), after("maximum", 0))
    new = run.read(_running(chip, part, MAXIMUM), after("maximum", 1))
    run.write(_running(chip, part, SUM), after("sum corrected", 0), _exp(old, new))


@operation("exponentials_rows")
def _exponentials_of_step(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    place = _place(chip, part)
    maximum = run.read(_running(chip, part, MAXIMUM), after("maximum", part.seen + 1))
    weights = _exp(run.read(place, scores_state(chip)), maximum[:, None])
    run.write(place, "P", weights)
    run.write(_place(chip, part, "tile sums", 1), "tile sum", weights.sum(axis=1), opens=True)


@operation("values_rows")
def _values_of_step(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    value = weights_times_values(chip, run, part, _place(chip, part))
    run.write(_place(chip, part, "P V of a tile"), "P V", value, opens=True)


@operation("running_sum_rows")
def _running_sum(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    place = _running(chip, part, SUM)
    total = run.read(_place(chip, part, "tile sums", 1), "tile sum")
    if part.seen or chip.dram.layer.sinks:
        total = total + run.read(place, after("sum corrected", part.seen))
    run.write(place, after("sum", part.seen + 1), total)


@operation("update_output_rows")
def _update_output(chip: Chip, run: Execution, step: Step) -> None:
    part = step_part(step)
    place = output_place(chip, part.rows)
    value = run.read(_place(chip, part, "P V of a tile"), "P V")
    if part.seen:
        value = value + run.read(place, after("O rescaled", part.seen))
    run.write(place, after("O", part.seen + 1), value, opens=part.seen == 0)
