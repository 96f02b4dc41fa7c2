"""The kernels of a network as PyTorch launches them operator by operator, with channels last and nothing fused.

A batch norm at inference is a kernel over the map and two over its few channels (a copy of the means, the reciprocal
of the deviations: ATen's ``batch_norm_cuda_out``), a bias of a convolution is added by a kernel behind cuDNN's, one of
a linear layer by cuBLAS itself. An activation over a map that nothing else reads writes it in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilewright.sim.gpu.launches.launch import Launch
from tilewright.sim.gpu.launches.of_kind import operator_launches
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["ASSUMPTIONS", "unfused_launches", "whole_launches"]

ASSUMPTIONS = (
    "kernels as PyTorch launches them operator by operator, channels last: a batch norm is three kernels, a bias of a "
    "convolution one, an activation that alone reads a map writes it in place",
)

#: Functions that no kernel of the framework does at once: kernels, each over the whole result.
_WRITTEN_OUT: Mapping[str, int] = {"rotary": 5, "modulate": 2}
_IN_PLACE = ("relu", "relu6", "silu", "hardswish", "hardsigmoid", "leaky_relu", "elu")


def unfused_launches(stream: OperatorStream) -> tuple[Launch, ...]:
    """The kernels of ``stream`` in the order in which they run."""
    operators = {operator.name: operator for operator in stream.operators}
    return tuple(part for one in whole_launches(stream) for part in _as_written(operators[one.operators[0]], one))


def _as_written(operator: Operator, launch: Launch) -> tuple[Launch, ...]:
    """What a framework launches for an operator that its model has as several steps."""
    usual = _WRITTEN_OUT.get(operator.text("function"), 0)
    full = int(operator.attributes.get("written_out", usual))
    small = int(operator.attributes.get("written_small", 0))
    if full + small < 2 or launch.kernel == "statistics":
        return (launch,)
    if launch.attention is not None:
        return launch.written_out or (launch,)
    few = Launch(kernel="statistics", operators=launch.operators)
    return (replace(launch, kernel="elementwise", rows=None),) * max(1, full) + (few,) * small


def whole_launches(stream: OperatorStream) -> tuple[Launch, ...]:
    """The kernels of ``stream`` with each operator as one, but for what no framework does at once."""
    readers: dict[str, int] = {}
    for operator in stream.operators:
        for name in dict.fromkeys(stream.base(one).name for one in operator.inputs):
            readers[name] = readers.get(name, 0) + 1
    outside = {stream.base(name).name for name in stream.outputs}
    found: list[Launch] = []
    for operator in stream.operators:
        kernels = operator_launches(stream, operator)
        if len(kernels) == 1 and _can_write_in_place(stream, operator, readers, outside):
            kernels = (replace(kernels[0], in_place=True),)
        found += kernels
    return tuple(found)


def _can_write_in_place(
    stream: OperatorStream, operator: Operator, readers: Mapping[str, int], outside: set[str]
) -> bool:
    if operator.text("function") not in _IN_PLACE or len(operator.inputs) != 1:
        return False
    source = stream.base(operator.inputs[0])
    return readers[source.name] == 1 and source.name not in outside and stream.producer(source.name) is not None
