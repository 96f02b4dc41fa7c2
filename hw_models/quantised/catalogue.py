"""Quantised engines by name."""

from __future__ import annotations

from tilewright.hw_models.quantised.attention import (
    SAGE_ATTENTION,
    SAGE_ATTENTION_2,
    SAGE_ATTENTION_2_INT4,
    SAGE_ATTENTION_3,
    QuantisedAttention,
)
from tilewright.hw_models.quantised.bit_level import BitFusion, BitSerial
from tilewright.hw_models.quantised.demand import Engine
from tilewright.hw_models.quantised.dequantise import DequantiseFirst, Plain
from tilewright.hw_models.quantised.group_scaled import MixPE, OnlineScales
from tilewright.hw_models.quantised.low_rank import LowRankBranch
from tilewright.hw_models.quantised.mixed import MixedBlocks, MixedChannels
from tilewright.registry import Registry

__all__ = ["ATTENTION_ENGINES", "ENGINES", "engine_named"]

#: Every engine with its usual formats; change one with ``dataclasses.replace``.
ENGINES: Registry[Engine] = Registry("quantised engine")

for _engine in (
    Plain(),
    Plain(name="w8a8", weights="int8-channel", activations="int8-token", multiply_format="int8"),
    DequantiseFirst(),
    MixPE(),
    BitSerial(),
    BitFusion(),
    MixedBlocks(),
    MixedChannels(),
    LowRankBranch(),
    LowRankBranch(name="svdquant-unfused", fused=False),
    OnlineScales(),
):
    ENGINES.register(_engine.name, _engine)


#: Engines of whole attentions.
ATTENTION_ENGINES: Registry[QuantisedAttention] = Registry("quantised engine of attention")

for _attention in (SAGE_ATTENTION, SAGE_ATTENTION_2, SAGE_ATTENTION_2_INT4, SAGE_ATTENTION_3):
    ATTENTION_ENGINES.register(_attention.name, _attention)


def engine_named(name: str) -> Engine:
    """The engine called ``name``; raises InputError, with the names that exist and the nearest one, for another."""
    return ENGINES.get(name)
