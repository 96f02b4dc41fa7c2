"""What must hold in every operator stream: names, edges, order, and sizes that agree with the tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from operator import gt
from typing import TYPE_CHECKING

from tilewright.errors import InputError, unknown
from tilewright.workloads.operators import MOST_MACS, TensorSpec

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
        operator.of_kind.sizes(operator, stream)
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
        if tensor.view_of is not None and tensor.view_of in tensors:
            _check_reading(stream.name, tensor, tensors[tensor.view_of])
        seen = {tensor.name}
        here = tensor
        while here.view_of is not None:
            _need_tensor(stream.name, f"{here.name}.view_of", here.view_of, tensors)
            here = tensors[here.view_of]
            if here.name in seen:
                raise InputError(f"{stream.name}: {tensor.name}: is a view of itself")
            seen.add(here.name)


def _check_reading(stream: str, view: TensorSpec, base: TensorSpec) -> None:
    """The shape, order and start of a view belong to what it reads."""
    read = view.as_shape or base.shape
    if view.as_shape and math.prod(view.as_shape) != base.n_elements:
        raise InputError(
            f"{stream}: {view.name}: as_shape: given {_shape(view.as_shape)}; allowed a shape of the "
            f"{base.n_elements} values of {base.name}"
        )
    if view.order and sorted(view.order) != list(range(len(read))):
        raise InputError(
            f"{stream}: {view.name}: order: given {', '.join(map(str, view.order))}; allowed each of the dimensions "
            f"0 to {len(read) - 1} once"
        )
    read = tuple(read[at] for at in view.order) if view.order else read
    ends = [first + n for first, n in zip(view.start, view.shape, strict=False)]
    if view.start and (len({len(view.start), len(view.shape), len(read)}) > 1 or any(map(gt, ends, read))):
        raise InputError(
            f"{stream}: {view.name}: start: given {', '.join(map(str, view.start))} for {_shape(view.shape)}; "
            f"allowed a part of {_shape(read)}"
        )


def _shape(extents: Iterable[int]) -> str:
    return "x".join(map(str, extents))


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
