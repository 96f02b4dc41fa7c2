"""Soft-Pipe, a baseline of MAS-Attention: S stays on chip, P goes to DRAM, P V is a second pass.

First phase: the matrix unit makes S of block i+1 while the vector unit does softmax of block i, and P of block i is
stored. Second phase: O = P V, with P read back.
"""

from __future__ import annotations

from tilewright.sim.dataflows.attention import parts, passes
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register


def lower_softmax(core: AttentionCore, tiling: Tiling) -> None:
    """Scores of the new block while the old one goes through softmax and its P to DRAM."""
    tiling = passes.prefixed(tiling, "qk")
    data = parts.Operands(core, tiling, values=False)
    s = parts.score_pool(core, tiling, slots=2)
    joins = parts.joins_of(core, tiling)
    scores_made = core.semaphore("S rows ready")
    normalised = core.semaphore("P tile ready")
    blocks = core.row_blocks(tiling["query"], tiling["key"], resident=data.resident)
    for new, old in core.windows(blocks, 2):
        if old is not None:
            joins.load_row(core, old)
        if new is not None:
            parts.scores_stage(core, data, new, first_waits=[s.free], last_signals=[scores_made])
        if old is not None:
            passes.softmax_rows(core, old, data.key, joins, first_waits=[scores_made], ready=normalised)
            passes.store_rows(core, old, data.key, ready=normalised, pool=s)


def lower_values(core: AttentionCore, tiling: Tiling) -> None:
    """O = P V with P from DRAM."""
    passes.values_pass(core, passes.prefixed(tiling, "pv"))


SOFT_PIPE = register(
    Dataflow(
        name="soft_pipe",
        heeds_homes=True,
        summary="Q K^T and softmax pipelined over row blocks, P through DRAM, then P V",
        source="baseline of MAS-Attention, arXiv 2411.17720 (TileFlow: Uni-pipe)",
        phases=(
            Phase(
                name="scores and softmax",
                parameters=parts.prefixed_standard("qk"),
                lower=lower_softmax,
                legal=parts.legal_prefixed("qk"),
            ),
            Phase(
                name="values",
                parameters=parts.prefixed_standard("pv"),
                lower=lower_values,
                legal=parts.legal_prefixed("pv"),
            ),
        ),
        assumptions=("P is written to DRAM whole and read back in a second pass that starts when all P is there",),
    ),
    rank=2,
)
