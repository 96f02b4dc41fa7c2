"""An attention: the layer that dataflows of attention map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tilewright.errors import InputError
from tilewright.sim.gpu.launches.attention import fused_attention, module_attention, written_attention
from tilewright.sim.gpu.launches.launch import Launch
from tilewright.sim.gpu.launches.of_kind import register_launches, tensor_uses
from tilewright.sim.kinds.layer import register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_operator import attention_inputs, attention_layer
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _attention(stream: OperatorStream, chain: Sequence[Operator]) -> AttentionLayer:
    return replace(attention_layer(chain[0], stream), name="attention").with_plain_mask()


register_lowering("attention", _attention)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    if operator.text("mask") not in ("", "none"):
        raise InputError(f"{operator.name}: a masked attention does not run on numbers")
    q, k, v = _heads(operator, inputs)
    scores = np.einsum("bhqe,bhke->bhqk", q, k) / math.sqrt(q.shape[-1])
    if "soft_cap" in operator.attributes:
        cap = float(operator.attributes["soft_cap"])
        scores = cap * np.tanh(scores / cap)
    names = attention_inputs(operator)
    if names.bias:
        bias = inputs[3].reshape(*(1,) * (4 - inputs[3].ndim), *inputs[3].shape)
        scores = scores + np.tile(bias, (len(q) // len(bias), 1, 1, 1))
    most = scores.max(axis=-1, keepdims=True)
    sinks = inputs[-1].reshape(1, -1, 1, 1) if names.sinks else np.full((1, 1, 1, 1), -np.inf)
    most = np.maximum(most, sinks)
    powers = np.exp(scores - most)
    weights = powers / (powers.sum(axis=-1, keepdims=True) + np.exp(sinks - most))
    mixed = np.einsum("bhqk,bhkf->bqhf", weights, v)
    return np.asarray(mixed.reshape(shape))  # stored token by token, all heads of each together


def _heads(operator: Operator, inputs: Sequence[FloatArray]) -> list[FloatArray]:
    """Q, K and V as (batch, query heads, length, width); they are stored token by token."""
    batch, heads, kv_heads = (operator.count(key) for key in ("batch", "query_heads", "kv_heads"))
    found = []
    for x, n, length in zip(
        inputs[:3],
        (heads, kv_heads, kv_heads),
        (operator.count("query_len"), operator.count("key_len"), operator.count("key_len")),
        strict=True,
    ):
        by_token = x.reshape(batch, length, n, -1).transpose(0, 2, 1, 3)
        found.append(np.repeat(by_token, heads // n, axis=1))
    return found


register_values("attention", _values)


def _launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    layer = attention_layer(operator, stream)
    reads, writes = tensor_uses(stream, operator.inputs), tensor_uses(stream, operator.outputs)
    own = fused_attention(layer, operator.name, reads, writes)
    if operator.attributes.get("as_module") and len(reads) > 2:
        own = replace(own, apart=module_attention(layer, operator.name, reads, writes))
    n_steps = int(operator.attributes.get("written_out", 0)) + int(operator.attributes.get("written_small", 0))
    if n_steps and len(reads) > 2:
        own = replace(own, written_out=written_attention(layer, operator.name, reads, writes, n_steps))
    return (own,)


register_launches("attention", _launches)
