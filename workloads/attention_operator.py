"""Attention in a stream: as the layer that the attention dataflows run, and split into its products and softmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.errors import InputError
from tilewright.formats import element_format, format_bits
from tilewright.workloads.attention import MASKS, AttentionLayer
from tilewright.workloads.masks.family import Site, kept_mask
from tilewright.workloads.operators import Operator, TensorSpec

if TYPE_CHECKING:
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["AttentionInputs", "attention_inputs", "attention_layer", "split_attention"]

_EXTENTS = ("batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim")
LEAST_SCORE_BITS = 16
_OPTIONAL = ("mask", "window_left", "window_right", "choosing", "reorder", "residual_format", "ratios", "newest_keys")


class AttentionInputs(NamedTuple):
    """The tensors that an attention operator reads; empty names for those that it does not have."""

    query: str
    keys: str
    values: str
    bias: str = ""
    sinks: str = ""


def attention_inputs(operator: Operator) -> AttentionInputs:
    """The inputs of an operator of kind attention by what they are.

    Q, K, V, then the bias (attribute ``bias``; an input more than the attributes tell of is one, too), then the sinks
    (attribute ``sinks``). Raises InputError when there are more or fewer.
    """
    flags = {key: operator.attributes.get(key) for key in ("bias", "sinks")}
    for key, value in flags.items():
        if value is not None and type(value) is not bool:
            raise InputError(f"{operator.name}: {key}: must be true or false; given {value}; allowed true, false")
    sinks = bool(flags["sinks"])
    bias = len(operator.inputs) > 3 + sinks if flags["bias"] is None else bool(flags["bias"])
    if len(operator.inputs) != 3 + bias + sinks:
        wanted = ", ".join(["Q", "K", "V", *["bias"] * bias, *["sinks"] * sinks])
        raise InputError(
            f"{operator.name}: inputs: given {len(operator.inputs)}; allowed {3 + bias + sinks} ({wanted})"
        )
    rest = iter(operator.inputs[3:])
    query, keys, values = operator.inputs[:3]
    return AttentionInputs(query, keys, values, next(rest) if bias else "", next(rest) if sinks else "")


def attention_layer(operator: Operator, stream: OperatorStream | None = None) -> AttentionLayer:
    """The attention layer that an operator of kind attention describes.

    With ``stream``, each tensor has its own format; the scores have the wider of those of Q and K, unless that has
    fewer than 16 bits: softmax is then done in fp16, as SageAttention does. Without, all are in fp16 and a bias has the
    scores' full extents. Raises InputError when the extents or inputs do not fit together.
    """
    given: dict[str, Any] = {key: operator.count(key) for key in _EXTENTS}
    given |= {key: operator.attributes[key] for key in _OPTIONAL if key in operator.attributes}
    given |= _lists(operator, given)
    inputs = attention_inputs(operator)
    given |= {"sinks": bool(inputs.sinks), "soft_cap": _has_soft_cap(operator)}
    if stream is None:
        whole = {"bias_batch": given["batch"], "bias_heads": given["query_heads"], "bias_rows": given["query_len"]}
        return AttentionLayer(name=operator.name, **given, **(whole if inputs.bias else {}))
    given |= _formats(operator, inputs, stream)
    if inputs.bias:
        given |= _bias_extents(operator, stream.tensor(inputs.bias).shape)
    return AttentionLayer(name=operator.name, **given)


def _lists(operator: Operator, given: dict[str, Any]) -> dict[str, Any]:
    """Lists of key blocks in place of a mask that is one of a family, by its text."""
    text = operator.text("mask")
    if text in (*MASKS, "blocks"):
        return {}
    heads, kv_heads = given["query_heads"], given["kv_heads"]
    site = Site(
        heads=heads,
        kv_heads=kv_heads if heads % kv_heads == 0 else heads,
        query_len=given["query_len"],
        key_len=given["key_len"],
        head_dim=given["head_dim"],
    )
    return {"mask": "blocks", "blocks": kept_mask(text, site, what=operator.name)}


def _has_soft_cap(operator: Operator) -> bool:
    cap = operator.attributes.get("soft_cap")
    if cap is None:
        return False
    if type(cap) not in (int, float) or not 0 < cap < math.inf:
        raise InputError(f"{operator.name}: soft_cap: given {cap}; allowed a number above 0")
    return True


def _formats(operator: Operator, inputs: AttentionInputs, stream: OperatorStream) -> dict[str, str]:
    names = {
        "qkv_format": inputs.query,
        "key_format": inputs.keys,
        "value_format": inputs.values,
        "output_format": operator.outputs[0],
        "bias_format": inputs.bias,
        "sink_format": inputs.sinks,
    }
    stored = {field: stream.tensor(name).number_format for field, name in names.items() if name}
    multiplied = (element_format(stored[field]) for field in ("qkv_format", "key_format"))
    widest = max(multiplied, key=format_bits)
    return stored | {"score_format": widest if format_bits(widest) >= LEAST_SCORE_BITS else "fp16"}


def _bias_extents(operator: Operator, shape: tuple[int, ...]) -> dict[str, int]:
    """Batch entries, heads and rows of a bias of ``shape``, which must spread over the scores."""
    batch, heads, rows, keys = (operator.count(key) for key in ("batch", "query_heads", "query_len", "key_len"))
    *lead, last_rows, last_keys = (1,) * (2 - len(shape)) + shape
    n_entries, n_heads = math.prod(lead[:-1]), lead[-1] if lead else 1
    if heads == 1:  # its heads may be entries of the batch
        n_entries, n_heads = n_entries * n_heads, 1
    fits = batch % n_entries == 0 and n_heads in (1, heads) and last_rows in (1, rows) and last_keys == keys
    if not fits:
        given = "x".join(map(str, shape)) or "1"
        raise InputError(
            f"{operator.name}: bias: must spread over the scores; given {given}; allowed "
            f"{batch}x{heads}x{rows}x{keys}, or 1 in place of any but the last"
        )
    return {"bias_batch": n_entries, "bias_heads": n_heads, "bias_rows": last_rows}


def split_attention(operator: Operator, stream: OperatorStream) -> tuple[tuple[Operator, ...], tuple[TensorSpec, ...]]:
    """The operators Q K^T, softmax and P V that stand for an attention, and the two tensors (S and P) between them.

    The products are computed in full: a mask saves nothing once they are apart. Query heads that share one key/value
    head are rows of one product: batch x kv_heads products of (query_len x shared heads, head_dim). The scale, the soft
    cap, the bias, the mask and the sinks are applied in the softmax (attributes ``stages``: 1 for the scale, and 1 each
    for a bias and a mask; ``soft_cap`` and ``sinks`` as here).
    """
    layer = attention_layer(operator, stream)
    if layer.takes_cached:
        raise InputError(
            f"{operator.name}: residual_format: an attention that adds what an earlier step left has no parts to fuse; "
            f"given {layer.residual_format or 'ratios'}; allowed none in a fused group"
        )
    query, keys, values = operator.inputs[:3]
    shape = (layer.batch, layer.query_heads, layer.query_len, layer.key_len)
    scores, weights = (
        TensorSpec(name=f"{operator.name}.{part}", shape=shape, number_format=layer.score_format) for part in "SP"
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
            "stages": 1 + (layer.mask != "none") + layer.has_bias,
            **({"soft_cap": operator.attributes["soft_cap"]} if layer.soft_cap else {}),
            **({"sinks": True} if layer.sinks else {}),
        },
        path=operator.path,
    )
    parts = (
        product("QK", (query, keys), scores.name, layer.head_dim, layer.key_len),
        softmax,
        product("PV", (weights.name, values), operator.outputs[0], layer.key_len, layer.value_dim),
    )
    return parts, (scores, weights)
