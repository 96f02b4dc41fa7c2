"""FuseMax (arXiv 2406.10491): one-pass softmax as a cascade spread over both units.

On a machine whose matrix array can do element-wise work, the tile's maximum, exponential and sum run there (the
exponential as a chain of multiply-adds), S never leaves the array, and the vector unit keeps the running
maximum, denominator and output. On another machine these tile-wide operations run on the vector unit.

Software pipelining over steps: S of step i+2, exponentials and P V of step i+1, update of the output of step i. With
``interleave=0`` a step begins when the one before it has ended (the study's "+Architecture").
"""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention import online, parts
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.joins import Joins
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register
from tilewright.workloads.attention import AttentionLayer


def lower(core: AttentionCore, tiling: Tiling) -> None:
    """Scores of the new step, exponentials and P V of the middle one, output update of the old one."""
    costs, width = core.costs, core.layer.value_dim
    array = costs.array_does_softmax
    data = online.OnlineData(core, tiling, scores_in_buffer=not array)
    block_bytes = costs.accumulator_bytes(data.sub * width)
    pv = core.pool("P V of a tile", slots=2, slot_bytes=block_bytes, holds="sums")
    made = core.semaphore("S tile ready")
    max_ready = core.semaphore("running maximum ready")
    p_ready = core.semaphore("P tile ready")
    sum_ready = core.semaphore("tile sum ready")
    serial = not tiling["interleave"]
    turn = [core.semaphore("step finished", 1)] if serial else []
    for window in core.distinct_windows(online.steps(core, tiling, data.sub), 1 if serial else 3):
        new, middle, old = window[0], window[len(window) // 2], window[-1]
        if new is not None:
            online.load_for_scores(core, data, new)
            work = costs.scores_in_array(new.rows, new.keys) if array else None
            online.score_command(core, data, new, waits=turn, signals=[] if array else [made], work=work)
            if array:
                core.matrix(
                    costs.maximum_on_array(new.rows, new.keys),
                    waits=data.joins.waits,
                    signals=[made, *data.joins.signals],
                    label="tile maximum",
                    run=("tile_maximum_rows", new),
                )
        if middle is not None:
            _running_maximum(core, middle, data.joins, made, max_ready, array=array)
            _exponentials(core, middle, max_ready, p_ready, sum_ready, array=array)
            online.load_for_values(core, data, middle)
            values = costs.values_in_array if array else costs.values_of_tile
            core.matrix(
                values(middle.rows, middle.keys),
                waits=[p_ready, pv.free, *((data.v.full,) if data.loads(middle) else ())],
                signals=[pv.full, data.s.free, *((data.v.free,) if data.gives_back(middle) else ())],
                label="P V",
                run=("values_rows", middle),
            )
        if serial:  # the division that may follow needs this step's own sum
            _running_sum(core, middle, sum_ready)
        if old is not None:
            _update_output(core, data, old, pv.full, pv.free, last_signals=turn)
        if middle is not None and not serial:
            _running_sum(core, middle, sum_ready)
        if old is not None and old.last:
            online.store_rows(core, data, old, data.o)
    online.store_empty(core, data, tiling)


def _running_maximum(
    core: AttentionCore, step: online.Step, joins: Joins, made: int, max_ready: int, *, array: bool
) -> None:
    """Running maximum of the rows; then the correction of the old sum and output, for a first tile the sinks' sum."""
    costs, rows = core.costs, step.rows
    n = rows * step.keys
    state = rows * costs.accumulator_bits
    joining = costs.joining(0 if array else n)
    operations = [("max", rows)] if array else [*joining.operations, ("max", n), ("max", rows)]
    core.vector(
        costs.vector(
            tuple(operations),
            reads_bits=state + (0 if array else n * costs.score_bits) + joining.reads_bits,
            writes_bits=state + joining.writes_bits,
            reduces=not array,
        ),
        waits=[made, *(() if array else joins.waits)],
        signals=[max_ready, *(() if array else joins.signals)],
        label="running maximum",
        run=("running_maximum_rows", step),
    )
    if not step.first:
        core.vector(
            costs.vector((("sub", rows), ("exp", rows), ("mul", rows)), reads_bits=3 * state, writes_bits=2 * state),
            label="correction",
            run=("correction_rows", step),
        )
    elif core.layer.sinks:
        core.vector(
            costs.vector((("sub", rows), ("exp", rows)), reads_bits=2 * state, writes_bits=state),
            label="sinks",
            run=("sinks_rows", step),
        )


def _exponentials(
    core: AttentionCore, step: online.Step, max_ready: int, p_ready: int, sum_ready: int, *, array: bool
) -> None:
    costs, n = core.costs, step.rows * step.keys
    if array:
        core.matrix(
            costs.on_array(("sub", "exp", "add"), step.rows, step.keys),
            waits=[max_ready],
            signals=[p_ready, sum_ready],
            label="exponentials and sum",
            run=("exponentials_rows", step),
        )
        return
    bits = n * costs.score_bits
    core.vector(
        costs.vector((("sub", n), ("exp", n), ("add", n)), reads_bits=bits, writes_bits=bits, reduces=True),
        waits=[max_ready],
        signals=[p_ready, sum_ready],
        label="exponentials and sum",
        run=("exponentials_rows", step),
    )


def _running_sum(core: AttentionCore, step: online.Step, sum_ready: int) -> None:
    state = step.rows * core.costs.accumulator_bits
    core.vector(
        core.costs.vector((("add", step.rows),), reads_bits=state, writes_bits=state),
        waits=[sum_ready],
        label="running sum",
        run=("running_sum_rows", step),
    )


def _update_output(
    core: AttentionCore,
    data: online.OnlineData,
    step: online.Step,
    full: int,
    free: int,
    *,
    last_signals: Sequence[int],
) -> None:
    """Correct the running output, add the tile's P V, and divide after the last tile."""
    costs, n = core.costs, step.rows * core.layer.value_dim
    bits = n * costs.accumulator_bits
    if not step.first:
        core.vector(
            costs.vector((("mul", n),), reads_bits=bits, writes_bits=bits),
            label="rescale O",
            run=("rescale_output_rows", step),
        )
    core.vector(
        costs.vector((("add", n),), reads_bits=2 * bits, writes_bits=bits),
        waits=[full, *((data.o.free,) if step.first else ())],
        signals=[free, *(() if step.last else last_signals)],
        label="update O",
        run=("update_output_rows", step),
    )
    if step.last:
        core.vector(
            costs.vector(
                (("div", n), *data.cached.operations(n)),
                reads_bits=bits + data.cached.reads_bits(core, step.rows),
                writes_bits=bits,
            ),
            waits=data.cached.waits,
            signals=[data.o.full, *data.cached.signals, *last_signals],
            label="divide by row sum",
            run=("divide_rows", step),
        )


WHOLE_BLOCK = 2**20  # `rows` beyond any query block: no sub-blocks


def _sub_blocks(layer: AttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    """One array of rows, or the whole query block at once."""
    return (machine.matrix.rows, WHOLE_BLOCK)


def _legal(layer: AttentionLayer, tiling: Tiling) -> bool:
    whole = tiling["rows"] == WHOLE_BLOCK
    return parts.legal(layer, tiling) and (whole or tiling["rows"] < tiling["query"])


INTERLEAVE = Parameter(
    name="interleave",
    meaning="1 overlaps neighbouring steps, 0 runs them one after the other",
    candidates=lambda layer, machine: (1,),
    smallest=0,
    largest=lambda layer: 1,
)

ROWS = Parameter(
    name="rows",
    meaning="query rows of one step inside the resident query block",
    candidates=_sub_blocks,
    least=lambda layer, machine: WHOLE_BLOCK,
)

FUSEMAX = register(
    Dataflow(
        name="fusemax",
        heeds_homes=True,
        heeds_lists=True,
        summary="one-pass softmax as a cascade over both units; buffer need independent of the length",
        source="FuseMax, arXiv 2406.10491 (MICRO 2024)",
        phases=(Phase(name="attention", parameters=(*parts.STANDARD, ROWS, INTERLEAVE), lower=lower, legal=_legal),),
        assumptions=(
            "tile maximum, exponential and sum run on the matrix array where the machine's array can do them and all "
            "that joins the scores before, else on the vector unit",
        ),
    ),
    rank=5,
)
