"""FlashAttention-2 on one core: queries outside, one-pass softmax, one correction per key tile.

The vector unit does the online softmax of a tile and rescales the running output; the matrix unit adds P V
to it; the division comes at the end. What a GPU user runs, and the bridge to measured GPU kernels.
"""

from __future__ import annotations

from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.flash2_steps import lower_steps
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register


def lower(core: AttentionCore, tiling: Tiling) -> None:
    """Scores of the new step, softmax and values of the middle one, division of the old one."""
    lower_steps(core, tiling)


ASSUMPTIONS = ("the running output is kept on chip and corrected once per key tile",)

FLASH2 = register(
    Dataflow(
        name="flash2",
        heeds_homes=True,
        heeds_lists=True,
        summary="FlashAttention-2: one-pass softmax on the vector unit, queries outside, keys inside",
        source="FlashAttention-2, arXiv 2307.08691",
        phases=(Phase(name="attention", parameters=parts.STANDARD, lower=lower, legal=parts.legal),),
        assumptions=ASSUMPTIONS,
    ),
    rank=6,
)
