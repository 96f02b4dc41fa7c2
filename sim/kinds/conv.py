"""A convolution: a product over its windows, on the array.

* A transposed convolution with stride s is computed by output phase (Shi et al., arXiv 1609.05158): each of the s x s
  phases is a plain convolution with every s-th tap, so all together are one with s x s times the channels. Where s
  does not divide the kernel, the missing taps are multiplied as zeros.
* A convolution over three dimensions reads, for each plane of its output, as many planes of its input as its kernel is
  deep, as if they were channels.
* A convolution with one input channel per group (depthwise) goes to the vector unit: a multiply and an add per tap.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.sim.kinds.layer import JobLayer, product_layer, register_lowering, vector_layer
from tilewright.workloads.operators import Operator
from tilewright.workloads.products import conv_product, is_depthwise
from tilewright.workloads.stream.graph import OperatorStream


def _conv(stream: OperatorStream, chain: Sequence[Operator]) -> JobLayer:
    operator = chain[0]
    if is_depthwise(operator):
        return vector_layer(stream, chain)
    product = conv_product(operator)
    return product_layer(
        stream,
        chain,
        name="conv",
        groups=product.groups,
        m=product.m,
        k=product.k,
        n=product.n,
        columns=operator.count("out_channels"),
        window=product.window,
    )


register_lowering("conv", _conv)
