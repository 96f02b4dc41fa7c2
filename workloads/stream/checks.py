"""What must hold in every operator stream: names, edges, order, and sizes that agree with the tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tilewright.errors import InputError, unknown
from tilewright.workloads.attention_operator import attention_inputs, attention_layer
from tilewright.workloads.operators import MOST_MACS, Operator, TensorSpec

if TYPE_CHECKING:
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["check_stream"]


def check_stream(stream: OperatorStream) -> None:
    """Raise InputError for the first fault of ``stream``."""
    if type(stream.n_steps) is not int or stream.n_steps < 1:
        raise InputError(f"{stream.name}: n_steps: must be a whole number; given {stream.n_steps}; allowed 1 or more")
    for what, names in (
        ("tensor", [tensor.name for tensor in stream.tensors]),
        ("operator", [operator.name for operator in stream.operators]),
    ):
        name, times = Counter(names).most_common(1)[0] if names else ("", 1)
        if times > 1:
            raise InputError(f'{stream.name}: the {what} name "{name}" is used {times} times; allowed once')
    tensors = {tensor.name: tensor for tensor in stream.tensors}
    for name in (*stream.inputs, *stream.outputs):
        _need_tensor(stream.name, "inputs and outputs", name, tensors)
    _check_views(stream, tensors)
    _check_order(stream, tensors)
    for operator in stream.operators:
        _check_sizes(stream, operator)
        if operator.kind in ("conv", "pool"):
            _check_windows(stream, operator)
        if operator.macs > MOST_MACS:
            raise InputError(
                f"{stream.name}: {operator.name}: too large; given {operator.macs:,} multiply-accumulates; "
                f"allowed at most 2^{MOST_MACS.bit_length() - 1}"
            )


def _need_tensor(stream: str, place: str, name: str, tensors: Mapping[str, TensorSpec]) -> None:
    if name not in tensors:
        raise unknown("tensor", name, tensors, place=f"{stream}: {place}", shown="the name of a tensor")


def _check_views(stream: OperatorStream, tensors: Mapping[str, TensorSpec]) -> None:
    for tensor in stream.tensors:
        seen = {tensor.name}
        here = tensor
        while here.view_of is not None:
            _need_tensor(stream.name, f"{here.name}.view_of", here.view_of, tensors)
            here = tensors[here.view_of]
            if here.name in seen:
                raise InputError(f"{stream.name}: {tensor.name}: is a view of itself")
            seen.add(here.name)


def _check_order(stream: OperatorStream, tensors: Mapping[str, TensorSpec]) -> None:
    """Every tensor is there before it is read, and is written once."""
    there = {tensor.name for tensor in stream.tensors if tensor.role in ("weight", "constant") and not tensor.view_of}
    there |= set(stream.inputs)
    written: set[str] = set()
    for operator in stream.operators:
        for name in operator.inputs:
            _need_tensor(stream.name, f"{operator.name}: inputs", name, tensors)
            base = stream.base(name).name
            if base not in there:
                raise InputError(f'{stream.name}: {operator.name}: reads "{name}" before anything has written it')
        for name in operator.outputs:
            _need_tensor(stream.name, f"{operator.name}: outputs", name, tensors)
            if name in there or name in written:
                raise InputError(f'{stream.name}: {operator.name}: writes "{name}", which is there already')
            if tensors[name].view_of is not None:
                raise InputError(f'{stream.name}: {operator.name}: writes "{name}", which is a view')
            written.add(name)
        there |= set(operator.outputs)
    for name in stream.outputs:
        if stream.base(name).name not in there:
            raise InputError(f'{stream.name}: nothing writes the output "{name}"')


def _check_sizes(stream: OperatorStream, operator: Operator) -> None:
    wanted = _EXPECTED.get(operator.kind)
    if wanted is None:
        return
    if operator.kind == "attention":
        attention_layer(operator, stream)  # its inputs, and the extents of its bias
    names = [*operator.inputs[:2]]
    if operator.kind == "attention":
        names = [*operator.inputs[:3], operator.outputs[0], *filter(None, [attention_inputs(operator).sinks])]
    if operator.kind in ("matmul", "conv"):
        names = [*names, operator.outputs[0]]
    elif operator.kind not in ("attention",):
        names = [operator.inputs[0]] if operator.kind in ("softmax", "norm", "reduction") else [operator.outputs[0]]
    for name, allowed in zip(names, wanted(operator), strict=False):
        n_elements = stream.tensor(name).n_elements
        if n_elements not in allowed:
            shape = "x".join(map(str, stream.tensor(name).shape)) or "1"
            raise InputError(
                f"{stream.name}: {operator.name}: its attributes ask for {allowed[0]:,} values in {name}; given {shape}"
            )


def _check_windows(stream: OperatorStream, operator: Operator) -> None:
    """A window lies in the padded input, and there are no more of them than strides lead to."""
    n_dimensions = len(operator.sizes("kernel"))
    dilations = operator.sizes("dilation") if "dilation" in operator.attributes else (1,) * n_dimensions
    if operator.attributes.get("transposed"):  # an input value is spread over a window of the output
        sides, strides = ("out_size", "in_size"), operator.sizes("stride")
    else:
        sides, strides = ("in_size", "out_size"), operator.sizes("stride")
    wide, narrow = (operator.sizes(side) for side in sides)
    padding = operator.sizes("padding")
    for at, (extent, n, kernel) in enumerate(zip(wide, narrow, operator.sizes("kernel"), strict=True)):
        reach = (kernel - 1) * dilations[at] + 1
        padded = extent + padding[at] + padding[at + n_dimensions]
        most = -(-max(0, padded - reach) // strides[at]) + 1
        if reach > padded + strides[at] or n > most:
            raise InputError(
                f"{stream.name}: {operator.name}: kernel {kernel}, stride {strides[at]} and padding do not lead from "
                f"{sides[0]} {extent} to {sides[1]} {n}"
            )


def _matmul_sizes(operator: Operator) -> list[tuple[int, ...]]:
    batch, m, k, n = (operator.count(key) for key in ("batch", "m", "k", "n"))
    return [(batch * m * k, m * k), (batch * k * n, k * n), (batch * m * n,)]


def _conv_sizes(operator: Operator) -> list[tuple[int, ...]]:
    batch, groups, ins, outs = (operator.count(key) for key in ("batch", "groups", "in_channels", "out_channels"))
    images = [batch * n * math.prod(operator.sizes(key)) for n, key in ((ins, "in_size"), (outs, "out_size"))]
    weights = ins * outs // groups * math.prod(operator.sizes("kernel"))
    return [(images[0],), (weights,), (images[1],)]


def _attention_sizes(operator: Operator) -> list[tuple[int, ...]]:
    batch, heads, kv_heads = (operator.count(key) for key in ("batch", "query_heads", "kv_heads"))
    rows, keys, width, value_width = (operator.count(key) for key in ("query_len", "key_len", "head_dim", "value_dim"))
    return [
        (batch * heads * rows * width,),
        (batch * kv_heads * keys * width,),
        (batch * kv_heads * keys * value_width,),
        (batch * heads * rows * value_width,),
        (heads,),
    ]


def _table_sizes(operator: Operator) -> list[tuple[int, ...]]:
    return [(operator.count("rows") * operator.count("columns"),)]


def _element_sizes(operator: Operator) -> list[tuple[int, ...]]:
    return [(operator.count("n_elements"),)]


_EXPECTED: Mapping[str, Callable[[Operator], list[tuple[int, ...]]]] = {
    "matmul": _matmul_sizes,
    "conv": _conv_sizes,
    "attention": _attention_sizes,
    "softmax": _table_sizes,
    "norm": _table_sizes,
    "reduction": _table_sizes,
    "gather": _table_sizes,
    "elementwise": _element_sizes,
    "quantize": _element_sizes,
    "dequantize": _element_sizes,
}
