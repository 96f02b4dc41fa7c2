"""Attention in a stream: as the layer that the attention dataflows run, and split into its products and softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tilewright.formats import element_format, format_bits
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.operators import Operator, TensorSpec

if TYPE_CHECKING:
    from tilewright.workloads.stream import OperatorStream

__all__ = ["attention_layer", "split_attention"]

_EXTENTS = ("batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim")
LEAST_SCORE_BITS = 16
_OPTIONAL = ("mask", "window_left", "window_right")


def attention_layer(operator: Operator, stream: OperatorStream | None = None) -> AttentionLayer:
    """The attention layer that an operator of kind attention describes.

    With ``stream``, Q, K and V take the element format of its first input, and so do the scores unless it has fewer
    than 16 bits: softmax is then done in fp16, as SageAttention does. Without, fp16. Raises InputError
    when the extents do not fit together.
    """
    given: dict[str, Any] = {key: operator.count(key) for key in _EXTENTS}
    given |= {key: operator.attributes[key] for key in _OPTIONAL if key in operator.attributes}
    if stream is not None:
        number_format = element_format(stream.tensor(operator.inputs[0]).number_format)
        scores = number_format if format_bits(number_format) >= LEAST_SCORE_BITS else "fp16"
        given |= {"qkv_format": number_format, "score_format": scores}
    return AttentionLayer(name=operator.name, **given)


def split_attention(operator: Operator, stream: OperatorStream) -> tuple[tuple[Operator, ...], tuple[TensorSpec, ...]]:
    """The operators Q K^T, softmax and P V that stand for an attention, and the two tensors (S and P) between them.

    The products are computed in full: a mask saves nothing once they are apart. Query heads that share one key/value
    head are rows of one product: batch x kv_heads products of (query_len x shared heads, head_dim). The scale and the
    mask are applied in the softmax (attribute ``stages``: 1 for the scale, 2 with a mask).
    """
    layer = attention_layer(operator)
    query, keys, values = operator.inputs[:3]
    number_format = stream.tensor(query).number_format
    shape = (layer.batch, layer.query_heads, layer.query_len, layer.key_len)
    scores, weights = (
        TensorSpec(name=f"{operator.name}.{part}", shape=shape, number_format=number_format) for part in "SP"
    )
    n_products = layer.batch * layer.kv_heads
    rows = layer.query_len * layer.queries_per_kv_head

    def product(name: str, inputs: tuple[str, str], output: str, k: int, n: int) -> Operator:
        return Operator(
            name=f"{operator.name}.{name}",
            kind="matmul",
            inputs=inputs,
            outputs=(output,),
            attributes={"batch": n_products, "m": rows, "k": k, "n": n},
            path=operator.path,
        )

    softmax = Operator(
        name=f"{operator.name}.softmax",
        kind="softmax",
        inputs=(scores.name, *operator.inputs[3:]),
        outputs=(weights.name,),
        attributes={
            "rows": layer.batch * layer.query_heads * layer.query_len,
            "columns": layer.key_len,
            "stages": 1 if layer.mask == "none" else 2,
        },
        path=operator.path,
    )
    parts = (
        product("QK", (query, keys), scores.name, layer.head_dim, layer.key_len),
        softmax,
        product("PV", (weights.name, values), operator.outputs[0], layer.key_len, layer.value_dim),
    )
    return parts, (scores, weights)
