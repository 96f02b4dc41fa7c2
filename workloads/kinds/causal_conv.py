"""``causal_conv``: a short causal convolution of each channel over the tokens before, with SiLU.

Inputs (x, weight[, bias][, state]): x (batch, tokens, channels), weight (channels, width), bias (channels), state
(batch, channels, width - 1): the last tokens before these, which is read and written in place. y[t] = silu(bias + sum
of weight[i] x[t - width + 1 + i]). ``plain``: without the SiLU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import ELEMENTWISE, times

_EXTENTS = ("batch", "tokens", "channels", "width")


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    batch, tokens, channels, width = (operator.count(key) for key in _EXTENTS)
    for name in (operator.inputs[0], operator.outputs[0]):
        need_elements(operator, stream, name, batch * tokens * channels)
    need_elements(operator, stream, operator.inputs[1], channels * width)
    if operator.attributes.get("state") and width > 1:
        need_elements(operator, stream, operator.inputs[-1], batch * channels * (width - 1))


def _n_values(operator: Operator) -> int:
    return operator.count("batch") * operator.count("tokens") * operator.count("channels")


def _macs(operator: Operator) -> int:
    return _n_values(operator) * operator.count("width")


def _work(operator: Operator) -> Counter[str]:
    """The bias is the first summand."""
    if operator.attributes.get("plain"):
        return Counter()
    return times(ELEMENTWISE["silu"], _n_values(operator))


def _write_bytes(operator: Operator, stream: OperatorStream) -> int:
    state = stream.moved_bytes(operator.inputs[-1]) if operator.attributes.get("state") else 0
    return state + sum(stream.moved_bytes(name) for name in operator.outputs)


def _build(built: StreamBuilder, given: TextKeys) -> str:
    sizes = {
        "batch": given.count("batch", 1),
        "tokens": given.count("tokens"),
        "channels": given.count("channels"),
        "width": given.count("width", 4),
    }
    batch, tokens, channels, width = (sizes[key] for key in _EXTENTS)
    inputs = [built.input("x", (batch, tokens, channels), number_format=given.format("a_format"))]
    inputs.append(built.weight("weight", (channels, width), number_format=given.format("b_format")))
    inputs.append(built.weight("bias", (channels,), number_format=given.format("b_format")))
    has_state = given.word("state", ("no", "yes")) == "yes" and width > 1
    if has_state:
        shape = (batch, channels, width - 1)
        inputs.append(built.input("state", shape, role="cache", number_format=given.format("a_format")))
    attributes = {**sizes, **({"state": True} if has_state else {})}
    return add_result(built, given, "causal_conv", inputs, (batch, tokens, channels), attributes)


def _of_shapes(inputs: Sequence[tuple[int, ...]], result: tuple[int, ...]) -> dict[str, Any]:
    (batch, tokens, channels), width = inputs[0], inputs[1][-1]
    has_state = len(inputs) > 2 and len(inputs[-1]) == len(inputs[0])
    return dict(zip(_EXTENTS, (batch, tokens, channels, width), strict=True)) | ({"state": True} if has_state else {})


register_kind(
    OperatorKind(
        name="causal_conv",
        word="a short causal convolution",
        attributes=dict.fromkeys(_EXTENTS, "count"),
        optional={"state": "flag", "plain": "flag"},
        least_inputs=2,
        of_shapes=_of_shapes,
        sizes=_sizes,
        macs=_macs,
        work=_work,
        write_bytes=_write_bytes,
        colour="#2c789f",
        text=OperatorText(
            example="causal_conv:tokens=2048,channels=1536",
            keys=("tokens", "channels", "width", "batch", "state", *TWO_FORMATS),
            needed=("tokens", "channels"),
            build=_build,
        ),
        assumptions=("a short causal convolution keeps the tokens that it needs again on chip",),
    ),
    rank=16,
)
