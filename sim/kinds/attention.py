"""An attention: the layer that dataflows of attention map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilewright.sim.kinds.layer import register_lowering
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _attention(stream: OperatorStream, chain: Sequence[Operator]) -> AttentionLayer:
    return replace(attention_layer(chain[0], stream), name="attention").with_plain_mask()


register_lowering("attention", _attention)
