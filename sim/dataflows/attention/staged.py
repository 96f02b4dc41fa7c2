"""FlashAttention-2 and MAS-Attention with K and V in a level behind the working buffer, or sent to several cores."""

from __future__ import annotations

from tilewright.sim.dataflows.attention import flash2, mas, parts
from tilewright.sim.dataflows.attention.staging import FAR, SHARED, StagedCore, is_distinct, legal, no_staging
from tilewright.sim.lowering.mapping import Dataflow, Phase, register

ASSUMPTIONS = (
    "K and V of a head are staged whole, fetched tile by tile at their first use by a mover of their own for "
    "each, once for the cores that work on the same head; a fetch takes the DRAM's channel, and the "
    "level's write port as it comes (not followed where that is faster and nothing else is written there)",
    "what a link sends to several cores is with one of them before; the others keep a slot free for it",
)
PARAMETERS = (*parts.STANDARD, FAR, SHARED)
FLASH2_STAGED = register(
    Dataflow(
        name="flash2_staged",
        heeds_homes=True,
        summary="flash2 with K and V staged in a level on chip and read from there again, or sent to several cores",
        source="FlashAttention-2, arXiv 2307.08691, at two levels of memory",
        phases=(
            Phase(
                name="attention",
                parameters=PARAMETERS,
                lower=flash2.lower,
                legal=legal,
                distinct=is_distinct,
                core=StagedCore,
            ),
        ),
        assumptions=(*flash2.ASSUMPTIONS, *ASSUMPTIONS),
        refusal=no_staging,
        fills_buffers=True,
    ),
    rank=8,
)
MAS_STAGED = register(
    Dataflow(
        name="mas_staged",
        heeds_homes=True,
        summary="mas with K and V staged in a level on chip and read from there again, or sent to several cores",
        source="MAS-Attention, arXiv 2411.17720, at two levels of memory",
        phases=(
            Phase(
                name="attention",
                parameters=PARAMETERS,
                lower=mas.lower,
                legal=legal,
                distinct=is_distinct,
                core=StagedCore,
            ),
        ),
        assumptions=(*mas.ASSUMPTIONS, *ASSUMPTIONS),
        refusal=no_staging,
        fills_buffers=True,
    ),
    rank=9,
)
