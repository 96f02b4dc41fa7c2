"""The kernels of a convolution: cuDNN's, then the batch norm or the bias that the framework keeps apart."""

from __future__ import annotations

from tilewright.formats import element_format, format_bits
from tilewright.sim.gpu.launches.launch import Launch, ProductShape, Use
from tilewright.sim.gpu.launches.of_kind import batch_norm_launches, tensor_use
from tilewright.units import ceil_div
from tilewright.workloads.operators import Operator
from tilewright.workloads.products import conv_product, is_depthwise
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import on_vector_unit

__all__ = ["conv_launches"]

_LOAD_CHANNELS = 8  # 16-bit channels of one load of 16 bytes
_WIDE_BITS, _WIDE_CHANNELS = 32, 4  # of 32 bits


def conv_launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    """One kernel, or one behind it for a bias, or three for a batch norm."""
    result = tensor_use(stream, operator.outputs[0])
    n_results = stream.tensor(operator.outputs[0]).n_elements
    if operator.attributes.get("batch_norm"):
        raw = Use(f"{result.tensor} before its norm", result.n_bytes)
        own = _product(stream, operator, raw)
        return (own, *batch_norm_launches(operator, raw, result, operator.count("out_channels"), n_results))
    own = _product(stream, operator, result)
    if len(operator.inputs) == 2:
        return (own,)
    bias = Launch(
        kernel="elementwise",
        operators=(operator.name,),
        reads=(result,),
        writes=(result,),
        in_place=True,
        operations=(("add", n_results),),
    )
    return (own, bias)


def _product(stream: OperatorStream, operator: Operator, written: Use) -> Launch:
    reads = tuple(tensor_use(stream, name) for name in operator.inputs[:2])
    names = (operator.name,)
    if is_depthwise(operator):
        work = on_vector_unit(operator)
        return Launch(kernel="depthwise", operators=names, reads=reads, writes=(written,), operations=work)
    product = conv_product(operator)
    channels = operator.count("in_channels") // product.groups
    number_format = stream.tensor(operator.inputs[0]).number_format
    load = _WIDE_CHANNELS if format_bits(element_format(number_format)) == _WIDE_BITS else _LOAD_CHANNELS
    shape = ProductShape(
        product.groups,
        product.m,
        product.n,
        product.k,
        number_format,
        stream.tensor(operator.inputs[1]).number_format,
        product.k // channels * ceil_div(channels, load) * load,
    )
    return Launch(kernel="conv", operators=names, reads=reads, writes=(written,), product=shape, macs=operator.macs)
