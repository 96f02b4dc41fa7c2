"""TileFlow's best fused attention (MICRO 2023): a three-stage pipeline over blocks, advancing together.

Step i: the matrix unit makes S of block i and O of block i-2, the vector unit does softmax of block i-1. A step
lasts as long as its slowest stage: nobody starts the next one before both units have finished this one.
"""

from __future__ import annotations

from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register


def lower(core: AttentionCore, tiling: Tiling) -> None:
    """Steps of three neighbouring blocks with a barrier between steps."""
    data = parts.Operands(core, tiling)
    s = parts.score_pool(core, tiling, slots=3)
    joins = parts.joins_of(core, tiling)
    scores_made = core.semaphore("S rows ready")
    softmax_done = core.semaphore("P rows ready")
    # The barrier between steps; the vector unit has nothing to do in the first step.
    matrix_step = core.semaphore("matrix step finished")
    vector_step = core.semaphore("vector step finished", 2)
    blocks = core.row_blocks(tiling["query"], tiling["key"], resident=data.resident)
    for new, middle, old in core.windows(blocks, 3):
        if middle is not None:
            joins.load_row(core, middle)
        if new is not None:
            parts.scores_stage(
                core,
                data,
                new,
                first_waits=[s.free, vector_step],
                last_signals=[scores_made, *([] if old is not None else [matrix_step])],
            )
        if middle is not None:
            parts.softmax_stage(
                core,
                middle,
                data.key,
                joins,
                first_waits=[scores_made, matrix_step],
                last_signals=[softmax_done, vector_step],
            )
        if old is not None:
            parts.values_stage(
                core,
                data,
                old,
                first_waits=[softmax_done, *([] if new is not None else [vector_step])],
                last_signals=[s.free, matrix_step],
            )


TILEFLOW = register(
    Dataflow(
        name="tileflow",
        heeds_homes=True,
        summary="three-stage pipeline (Q K^T, softmax, P V) over blocks with a barrier between steps",
        source="TileFlow, MICRO 2023",
        phases=(Phase(name="attention", parameters=parts.STANDARD, lower=lower, legal=parts.legal),),
        assumptions=("three row blocks of S/P are on chip; a pipeline step lasts as long as its slowest stage",),
    ),
    rank=4,
)
