"""``attention``: softmax(Q K^T / sqrt(E)) V as in :class:`tilewright.workloads.attention.AttentionLayer`.

Inputs (Q, K, V[, bias][, sinks]). ``mask``, ``window_left`` and ``window_right`` say which keys are seen; ``bias``
(true or false): an input that is added to the scores, whose shape spreads over (batch, query_heads, query_len, key_len)
and which hides nothing; ``sinks``: one logit per query head; ``soft_cap``: the number that caps the scores.
``choosing``, ``reorder``, ``residual_format`` and ``ratios`` as of a layer (what an earlier step left is no tensor of
the stream, but is read). ``as_module``: the model calls its framework's own module for all heads (PyTorch's
``nn.MultiheadAttention``), which at inference takes kernels of its own on some GPUs. ``written_out`` and
``written_small``: the model has it as so many steps, each a kernel of its framework.
"""

from __future__ import annotations

from tilewright.workloads.attention_operator import attention_inputs, attention_layer, split_attention
from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

_EXTENTS = ("batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim")


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    attention_layer(operator, stream)  # its inputs, and the extents of its bias
    batch, heads, kv_heads, rows, keys, width, value_width = (operator.count(key) for key in _EXTENTS)
    need_elements(operator, stream, operator.inputs[0], batch * heads * rows * width)
    need_elements(operator, stream, operator.inputs[1], batch * kv_heads * keys * width)
    need_elements(operator, stream, operator.inputs[2], batch * kv_heads * keys * value_width)
    need_elements(operator, stream, operator.outputs[0], batch * heads * rows * value_width)
    sinks = attention_inputs(operator).sinks
    if sinks:
        need_elements(operator, stream, sinks, heads)


def _macs(operator: Operator) -> int:
    return attention_layer(operator).macs


def _read_bytes(operator: Operator, stream: OperatorStream) -> int:
    """Of keys and values what the mask leaves, of the bias the entries that are added to one of these scores."""
    layer, inputs = attention_layer(operator, stream), attention_inputs(operator)
    seen = {inputs.keys: layer.key_bytes, inputs.values: layer.value_bytes, inputs.bias: layer.bias_bytes}
    whole = layer.n_scores_per_head == layer.query_len * layer.key_len  # nothing is hidden: what is stored
    moved = {name: stream.moved_bytes(name) for name in filter(None, inputs)}
    if layer.newest_keys:  # stored in two formats
        moved |= {inputs.keys: layer.key_bytes, inputs.values: layer.value_bytes}
    own = sum(n if whole else min(n, seen.get(name, n)) for name, n in moved.items())
    return own + layer.cached_bytes


def _size(operator: Operator) -> str:
    heads, kv_heads = operator.count("query_heads"), operator.count("kv_heads")
    shared = f"/{kv_heads}" if kv_heads != heads else ""
    lengths = f"{operator.count('query_len')}x{operator.count('key_len')}"
    text = f"{heads}{shared} heads {lengths} width {operator.count('head_dim')}"
    mask = operator.text("mask")
    also = [mask] if mask != "none" else []
    inputs = attention_inputs(operator)
    also += ["bias"] * bool(inputs.bias) + ["sinks"] * bool(inputs.sinks)
    return " ".join([text, *also, *["soft cap"] * ("soft_cap" in operator.attributes)])


register_kind(
    OperatorKind(
        name="attention",
        word="attention",
        attributes={**dict.fromkeys(_EXTENTS, "count"), "mask": "text"},
        optional={
            "window_left": "whole",
            "window_right": "whole",
            "newest_keys": "whole",
            "bias": "flag",
            "sinks": "flag",
            "soft_cap": "number",
            "choosing": "flag",
            "reorder": "text",
            "residual_format": "text",
            "ratios": "flag",
            "as_module": "flag",
            "written_out": "whole",
            "written_small": "whole",
        },
        least_inputs=3,
        sizes=_sizes,
        macs=_macs,
        on_array=always,
        read_bytes=_read_bytes,
        n_operands=3,
        leads=False,
        parts=split_attention,
        size=_size,
        colour="#c2453d",
    ),
    rank=3,
)
