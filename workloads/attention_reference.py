"""The result of an attention layer by its definition, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.workloads.attention import AttentionLayer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["bias_shape", "reference_attention", "spread_bias", "visible_pairs"]


def reference_attention(
    layer: AttentionLayer,
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    *,
    bias: FloatArray | None = None,
    sinks: FloatArray | None = None,
    soft_cap: float | None = None,
    residual: FloatArray | None = None,
    ratios: FloatArray | None = None,
) -> FloatArray:
    """The layer's result, softmax(Q K^T / sqrt(E)) V with its mask and what joins its scores, in float64.

    A row that sees no key at all is 0.

    Shapes: ``q`` (batch, query_heads, query_len, head_dim), ``k`` (batch, kv_heads, key_len, head_dim), ``v`` (batch,
    kv_heads, key_len, value_dim); the result is (batch, query_heads, query_len, value_dim). Masked scores are minus
    infinity before the softmax, whose row maximum is subtracted first. A layer with them also takes ``bias``
    (bias_batch, bias_heads, bias_rows, key_len), ``sinks`` (query_heads) and ``soft_cap`` (above 0): the scores S
    become soft_cap tanh(S / soft_cap) + bias, and the sum of a row's exponentials has one more of the sink's logit.
    ``ratios`` (batch, query_heads, query_len) multiply the rows of the result, to which ``residual``, as large as it,
    is added.
    Raises InputError when a shape is another, and for an array that the layer has not or lacks.
    """
    import numpy as np

    _require_shapes(
        layer, {"q": q, "k": k, "v": v, "bias": bias, "sinks": sinks, "residual": residual, "ratios": ratios}
    )
    _require_cap(layer, soft_cap)
    grouped = np.asarray(q, dtype=np.float64).reshape(
        layer.batch, layer.kv_heads, layer.queries_per_kv_head, layer.query_len, layer.head_dim
    )
    keys, values = np.asarray(k, dtype=np.float64), np.asarray(v, dtype=np.float64)
    scores = np.einsum("bgrme,bgne->bgrmn", grouped, keys) / math.sqrt(layer.head_dim)
    if soft_cap is not None:
        scores = soft_cap * np.tanh(scores / soft_cap)
    if bias is not None:
        scores = scores + spread_bias(layer, bias).reshape(scores.shape)
    scores = np.where(visible_pairs(layer), scores, -np.inf)
    highest = scores.max(axis=-1, keepdims=True)
    if sinks is not None:
        logits = np.asarray(sinks, dtype=np.float64).reshape(1, layer.kv_heads, layer.queries_per_kv_head, 1, 1)
        highest = np.maximum(highest, logits)
    highest = np.where(np.isneginf(highest), 0.0, highest)  # a row that sees nothing has weights of 0
    weights = np.exp(scores - highest)
    total = weights.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(logits - highest)
    total = np.where(total == 0, 1.0, total)
    output: FloatArray = np.einsum("bgrmn,bgnf->bgrmf", weights / total, values)
    output = output.reshape(layer.batch, layer.query_heads, layer.query_len, layer.value_dim)
    if ratios is not None:
        output = output * np.asarray(ratios, dtype=np.float64)[..., None]
    return output if residual is None else output + np.asarray(residual, dtype=np.float64)


def visible_pairs(layer: AttentionLayer) -> npt.NDArray[np.bool_]:
    """Which keys each row sees, (1, kv_heads or 1, query heads of each or 1, query_len, key_len)."""
    import numpy as np

    if layer.blocks is not None:
        heads = np.stack([layer.blocks.visible(head) for head in range(layer.query_heads)])
        return heads.reshape(1, layer.kv_heads, layer.queries_per_kv_head, layer.query_len, layer.key_len)
    seen = np.zeros((layer.query_len, layer.key_len), dtype=bool)
    for row in range(layer.query_len):
        seen[row, slice(*layer.visible_keys(row))] = True
    return seen[None, None, None]


def bias_shape(layer: AttentionLayer) -> tuple[int, int, int, int]:
    """The shape of the layer's bias: batch entries, heads, query rows, keys."""
    return layer.bias_batch, layer.bias_heads, layer.bias_rows, layer.key_len


def spread_bias(layer: AttentionLayer, bias: FloatArray) -> FloatArray:
    """The bias of each score, (batch, query_heads, query_len, key_len).

    Entries of a bias that stands for several batch entries follow each other as the batch's leading dimensions do.
    """
    import numpy as np

    values = np.asarray(bias, dtype=np.float64)
    values = np.tile(values, (layer.batch // layer.bias_batch, 1, 1, 1))
    return np.broadcast_to(values, (layer.batch, layer.query_heads, layer.query_len, layer.key_len))


def _require_shapes(layer: AttentionLayer, given: Mapping[str, FloatArray | None]) -> None:
    keys = (layer.batch, layer.kv_heads, layer.key_len)
    rows = (layer.batch, layer.query_heads, layer.query_len)
    wanted: dict[str, tuple[int, ...] | None] = {
        "q": (layer.batch, layer.query_heads, layer.query_len, layer.head_dim),
        "k": (*keys, layer.head_dim),
        "v": (*keys, layer.value_dim),
        "bias": bias_shape(layer) if layer.has_bias else None,
        "sinks": (layer.query_heads,) if layer.sinks else None,
        "residual": (*rows, layer.value_dim) if layer.residual_format else None,
        "ratios": rows if layer.ratios else None,
    }
    for field, array in given.items():
        shape = wanted[field]
        found = None if array is None else tuple(array.shape)
        if found != shape:
            raise InputError(f"{layer.name}: {field}: wrong shape; given {found or 'none'}; allowed {shape or 'none'}")


def _require_cap(layer: AttentionLayer, soft_cap: float | None) -> None:
    if layer.soft_cap == (soft_cap is not None) and (soft_cap is None or 0 < soft_cap < math.inf):
        return
    allowed = "a number above 0" if layer.soft_cap else "none"
    raise InputError(f"{layer.name}: soft_cap: given {soft_cap}; allowed {allowed}")
