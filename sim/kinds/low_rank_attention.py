"""Attention on factors of low rank: the layer that is mapped, and whole tensors on numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tilewright.formats import element_format, format_bits
from tilewright.sim.gpu.launches.attention import fused_attention
from tilewright.sim.gpu.launches.launch import Launch, ProductShape, Use
from tilewright.sim.gpu.launches.of_kind import register_launches, tensor_uses
from tilewright.sim.kinds.layer import register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.operators import Operator, stored_bytes
from tilewright.workloads.products import value_bits
from tilewright.workloads.stream.graph import OperatorStream

_LEAST_SCORE_BITS = 16


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> LowRankAttentionLayer:
    operator = chain[0]
    batch, heads, rows, keys, rank, width, value_width = map(
        operator.count, ("batch", "heads", "query_len", "key_len", "rank", "head_dim", "value_dim")
    )
    own = bool(operator.attributes["own"])
    formats = [element_format(stream.tensor(name).number_format) for name in operator.inputs[:6]]
    multiplied = max(formats, key=format_bits)
    return LowRankAttentionLayer(
        name="low_rank_attention",
        groups=batch * (heads if own else 1),
        heads=1 if own else heads,
        query_len=rows,
        key_len=keys,
        rank=rank,
        head_dim=width,
        value_dim=value_width,
        input_bits=max(value_bits(stream, name) for name in operator.inputs[:3]),
        factor_bits=max(value_bits(stream, name) for name in operator.inputs[3:6]),
        out_bits=value_bits(stream, operator.outputs[0]),
        compute_format=multiplied,
        row_ranks=heads if own else 1,
        head_rows=heads,
        score_bits=max(_LEAST_SCORE_BITS, format_bits(multiplied)),
        has_bias=len(operator.inputs) > 6,
    )


register_lowering("low_rank_attention", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    batch, heads, rank = (operator.count(key) for key in ("batch", "heads", "rank"))
    lengths = [operator.count(key) for key in ("query_len", "key_len", "key_len")]
    own = bool(operator.attributes["own"])
    made = []
    for at, length in enumerate(lengths):
        p = inputs[at].reshape(batch, length, heads if own else 1, rank)
        u = inputs[3 + at].reshape(heads, -1, rank)
        one = np.einsum("blhr,hdr->bhld", np.broadcast_to(p, (batch, length, heads, rank)), u)
        made.append(one + inputs[6 + at].reshape(1, heads, 1, -1) if len(inputs) > 6 else one)
    q, k, v = made
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = powers / powers.sum(axis=-1, keepdims=True)
    return np.asarray(np.einsum("bhqk,bhkd->bqhd", weights, v).reshape(shape))


register_values("low_rank_attention", _values)


def _launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    """What libraries have on a GPU: Q, K and V by a product each, written to its memory, and a fused attention."""
    batch, heads, rank, width = (operator.count(key) for key in ("batch", "heads", "rank", "head_dim"))
    lengths, widths = ("query_len", "key_len", "key_len"), ("head_dim", "head_dim", "value_dim")
    own, made, found = bool(operator.attributes["own"]), [], []
    for at, what in enumerate("qkv"):
        length, n = operator.count(lengths[at]), operator.count(widths[at])
        p, u = (stream.tensor(operator.inputs[at + 3 * one]) for one in range(2))
        result = Use(f"{operator.name}.{what}", stored_bytes((batch, length, heads * n), p.number_format))
        groups, columns = (batch * heads, n) if own else (1, heads * n)
        rows = length if own else batch * length
        shape = ProductShape(groups, rows, columns, rank, p.number_format, u.number_format, rank)
        names = operator.inputs[at::3]
        macs = batch * length * heads * n * rank
        found.append(
            Launch(
                kernel="matmul",
                operators=(operator.name,),
                reads=tensor_uses(stream, names),
                writes=(result,),
                product=shape,
                macs=macs,
            )
        )
        made.append(result)
    layer = AttentionLayer(
        name=operator.name,
        batch=batch,
        query_heads=heads,
        kv_heads=heads,
        query_len=operator.count("query_len"),
        key_len=operator.count("key_len"),
        head_dim=width,
        value_dim=operator.count("value_dim"),
        mask="none",
    )
    writes = tensor_uses(stream, operator.outputs)
    return (*found, fused_attention(layer, operator.name, tuple(made), writes))


register_launches("low_rank_attention", _launches)
