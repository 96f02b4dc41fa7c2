"""``masked_text``: a diffusion language model, which fills in masked tokens block by block, several steps a block.

Every step looks at the prompt, at what is filled in and at what is still masked (no causal mask). With a cache
(Fast-dLLM, arXiv 2505.22618) the first step of a block runs all tokens and keeps their keys and values; the block's
other steps run only what comes behind the prefix (``prefix``) or the block alone (``dual``). ``refresh``: the share of
layers that a step runs over all tokens in spite of the cache (Elastic-Cache, arXiv 2510.14973).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.document import STRICT_FIELDS
from tilewright.workloads.runs.kind import RunKind, register_run

__all__ = ["MaskedTextRun"]

Text = Annotated[str, MinLen(1)]
Count = Annotated[int, Ge(1), Le(2**31 - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedTextRun:
    """``count`` texts of ``prompt`` and ``generate`` tokens, filled in by blocks of ``block`` (None: all at once).

    ``tokens_per_step``: how many a step fills in, in the mean. ``cache`` and ``refresh`` as the module says.
    ``weights`` and ``activations``: number formats (None: as the network has them).
    """

    __pydantic_config__ = STRICT_FIELDS

    run: Literal["masked_text"] = "masked_text"
    network: Text
    prompt: Count
    generate: Count
    count: Count = 1
    block: Count | None = None
    tokens_per_step: Annotated[float, Gt(0), Le(1_000_000)] = 1.0
    cache: Literal["none", "prefix", "dual"] = "none"
    refresh: Annotated[float, Ge(0), Le(1)] = 0.0
    weights: Text | None = None
    activations: Text | None = None

    def __post_init__(self) -> None:
        if self.generate % self.of_block:
            raise ValueError(f"block: given {self.of_block}; allowed a divisor of generate, {self.generate}")
        if self.tokens_per_step > self.of_block:
            raise ValueError(
                f"tokens_per_step: given {self.tokens_per_step:g}; allowed at most {self.of_block}, a block"
            )
        if self.refresh and self.cache == "none":
            raise ValueError("refresh: is for a run with a cache; given with cache none; allowed 0")

    @property
    def title(self) -> str:
        """What results call it."""
        return self.network

    @property
    def of_block(self) -> int:
        """Tokens of a block."""
        return self.generate if self.block is None else self.block

    @property
    def n_blocks(self) -> int:
        return self.generate // self.of_block

    @property
    def steps_of_block(self) -> int:
        """Steps that fill a block."""
        return ceil(self.of_block / self.tokens_per_step)


register_run(
    RunKind(
        name="masked_text", summary="a diffusion language model fills in tokens by blocks", description=MaskedTextRun
    ),
    rank=4,
)
