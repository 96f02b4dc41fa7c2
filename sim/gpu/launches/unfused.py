"""The kernels of a network as PyTorch launches them operator by operator, with channels last and nothing fused.

A batch norm at inference is a kernel over the map and two over its few channels (a copy of the means, the reciprocal
of the deviations: ATen's ``batch_norm_cuda_out``), a bias of a convolution is added by a kernel behind cuDNN's, one of
a linear layer by cuBLAS itself. An activation over a map that nothing else reads writes it in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tilewright.formats import format_bits
from tilewright.sim.gpu.launches.launch import AttentionShape, KernelClass, Launch, ProductShape, Use
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.operators import Operator
from tilewright.workloads.products import conv_product, is_depthwise
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import on_vector_unit, vector_work

__all__ = ["ASSUMPTIONS", "attention_shape", "operator_launches", "unfused_launches"]

ASSUMPTIONS = (
    "kernels as PyTorch launches them operator by operator, channels last: a batch norm is three kernels, a bias of a "
    "convolution one, an activation that alone reads a map writes it in place",
)

_LOAD_CHANNELS = 8  # 16-bit channels of one load of 16 bytes
_CHANNEL_BYTES = 4  # fp32 statistics
_NARROW_BITS = 8  # keys of at most so many lie in the cache as fp8
_IN_PLACE = ("relu", "relu6", "silu", "hardswish", "hardsigmoid", "leaky_relu", "elu")
#: Functions that no kernel of the framework does at once: kernels, each over the whole result.
_WRITTEN_OUT: Mapping[str, int] = {"rotary": 5, "modulate": 2}
_CLASSES: Mapping[str, KernelClass] = {
    "norm": "norm", "softmax": "softmax", "reduction": "reduction", "pool": "pool", "reshape": "copy",
}  # fmt: skip


def unfused_launches(stream: OperatorStream) -> tuple[Launch, ...]:
    """The kernels of ``stream`` in the order in which they run."""
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


def operator_launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    """The kernels of one operator."""
    if operator.kind == "conv":
        return _conv(stream, operator)
    if operator.kind == "matmul":
        return (_matmul(stream, operator),)
    if operator.kind == "attention":
        return (_attention(stream, operator),)
    if operator.kind == "norm":
        return _norm(stream, operator)
    times = _WRITTEN_OUT.get(operator.text("function"), 1) if operator.kind == "elementwise" else 1
    return (_moving(stream, operator, _CLASSES.get(operator.kind, "elementwise")),) * times


def _can_write_in_place(
    stream: OperatorStream, operator: Operator, readers: Mapping[str, int], outside: set[str]
) -> bool:
    if operator.kind != "elementwise" or operator.text("function") not in _IN_PLACE or len(operator.inputs) != 1:
        return False
    source = stream.base(operator.inputs[0])
    return readers[source.name] == 1 and source.name not in outside and stream.producer(source.name) is not None


def _use(stream: OperatorStream, name: str) -> Use:
    return Use(stream.base(name).name, stream.moved_bytes(name))


def _uses(stream: OperatorStream, names: Sequence[str]) -> tuple[Use, ...]:
    return tuple(_use(stream, name) for name in dict.fromkeys(names))


def _moving(stream: OperatorStream, operator: Operator, kernel: KernelClass) -> Launch:
    """A kernel that reads its inputs and writes its results once; the operator's own count of bytes holds."""
    reads, writes = _uses(stream, operator.inputs), _uses(stream, operator.outputs)
    return Launch(
        kernel=kernel,
        operators=(operator.name,),
        reads=_shared_out(reads, stream.read_bytes(operator)),
        writes=_shared_out(writes, stream.write_bytes(operator)),
        rows=(operator.count("rows"), operator.count("columns")) if kernel in ("norm", "softmax") else None,
        operations=vector_work(operator),
    )


def _shared_out(uses: tuple[Use, ...], n_bytes: int) -> tuple[Use, ...]:
    """``uses`` with ``n_bytes`` in all: a gather reads some rows of its table, an append nothing of its cache."""
    total = sum(use.n_bytes for use in uses)
    if total == n_bytes or not total:
        return uses
    return tuple(Use(use.tensor, use.n_bytes * n_bytes // total) for use in uses)


def _conv(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    x, weight = (_use(stream, name) for name in operator.inputs[:2])
    (result,) = _uses(stream, operator.outputs[:1])
    raw = Use(f"{result.tensor} before its norm", result.n_bytes)
    with_norm = bool(operator.attributes.get("batch_norm"))
    written = raw if with_norm else result
    names = (operator.name,)
    if is_depthwise(operator):
        found = [
            Launch(
                kernel="depthwise",
                operators=names,
                reads=(x, weight),
                writes=(written,),
                operations=on_vector_unit(operator),
            )
        ]
    else:
        product = conv_product(operator)
        channels = operator.count("in_channels") // product.groups
        shape = ProductShape(
            product.groups,
            product.m,
            product.n,
            product.k,
            stream.tensor(operator.inputs[0]).number_format,
            stream.tensor(operator.inputs[1]).number_format,
            product.k // channels * ceil_div(channels, _LOAD_CHANNELS) * _LOAD_CHANNELS,
        )
        found = [
            Launch(
                kernel="conv", operators=names, reads=(x, weight), writes=(written,), product=shape, macs=operator.macs
            )
        ]
    n_results = stream.tensor(operator.outputs[0]).n_elements
    if with_norm:
        found += _batch_norm(operator, raw, result, operator.count("out_channels"), n_results)
    elif len(operator.inputs) > 2:
        found.append(
            Launch(
                kernel="elementwise",
                operators=names,
                reads=(result,),
                writes=(result,),
                in_place=True,
                operations=(("add", n_results),),
            )
        )
    return tuple(found)


def _batch_norm(operator: Operator, x: Use, y: Use, n_channels: int, n_values: int) -> list[Launch]:
    names = (operator.name,)
    channels = tuple(Use(f"{y.tensor} {what}", n_channels * _CHANNEL_BYTES) for what in ("mean", "deviation"))
    prepared = [Launch(kernel="statistics", operators=names, writes=(use,)) for use in channels]
    applied = Launch(
        kernel="elementwise",
        operators=names,
        reads=(x, *channels),
        writes=(y,),
        operations=(("add", n_values), ("mul", n_values)),
    )
    return [*prepared, applied]


def _norm(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    function = operator.text("function")
    if function == "batch":
        x, y = _use(stream, operator.inputs[0]), _use(stream, operator.outputs[0])
        shape = stream.tensor(operator.outputs[0]).shape
        n_channels = shape[1] if len(shape) > 1 else 1
        return tuple(_batch_norm(operator, x, y, n_channels, math.prod(shape)))
    one = _moving(stream, operator, "norm")
    if function not in ("group", "instance"):
        return (one,)
    few = Use(f"{one.writes[0].tensor} statistics", operator.count("rows") * 2 * _CHANNEL_BYTES)
    moments = Launch(kernel="norm", operators=one.operators, reads=one.reads[:1], writes=(few,), rows=one.rows)
    prepared = Launch(kernel="statistics", operators=one.operators, reads=(few,), writes=(few,))
    applied = Launch(
        kernel="elementwise",
        operators=one.operators,
        reads=(*one.reads, few),
        writes=one.writes,
        operations=one.operations,
    )
    return (moments, prepared, applied)


def _matmul(stream: OperatorStream, operator: Operator) -> Launch:
    m, n, k = (operator.count(key) for key in ("m", "n", "k"))
    shape = ProductShape(
        operator.count("batch"),
        m,
        n,
        k,
        operator.text("activations_as") or stream.tensor(operator.inputs[0]).number_format,
        stream.tensor(operator.inputs[1]).number_format,
        k,
    )
    return Launch(
        kernel="matmul",
        operators=(operator.name,),
        reads=_uses(stream, operator.inputs),
        writes=_uses(stream, operator.outputs),
        product=shape,
        macs=operator.macs,
    )


def _attention(stream: OperatorStream, operator: Operator) -> Launch:
    return Launch(
        kernel="attention",
        operators=(operator.name,),
        reads=_uses(stream, operator.inputs),
        writes=_uses(stream, operator.outputs),
        attention=attention_shape(attention_layer(operator, stream)),
        macs=operator.macs,
    )


def attention_shape(layer: AttentionLayer) -> AttentionShape:
    """What a fused kernel is asked for: a band on the right but the causal one is masked tile by tile, at full cost."""
    causal = layer.mask == "causal" or (layer.mask == "banded" and layer.window_right == 0)
    window = layer.window_left or 0 if causal else 0
    return AttentionShape(
        layer.batch,
        layer.query_len,
        layer.key_len,
        layer.query_heads,
        layer.kv_heads,
        layer.head_dim,
        window,
        causal and layer.query_len > 1,
        8 if format_bits(layer.key_format) <= _NARROW_BITS else 16,
    )
