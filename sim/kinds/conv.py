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

import numpy as np

from tilewright.sim.gpu.launches.convolutions import conv_launches
from tilewright.sim.gpu.launches.of_kind import register_launches
from tilewright.sim.kinds.layer import JobLayer, product_layer, register_lowering, vector_layer
from tilewright.sim.kinds.values import FloatArray, register_values
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


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    """Tap by tap over the whole padded image."""
    x, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    groups, transposed = operator.count("groups"), bool(operator.attributes["transposed"])
    (sh, sw), (dh, dw) = operator.sizes("stride"), operator.sizes("dilation")
    (kh, kw), (top, left) = operator.sizes("kernel"), operator.sizes("padding")[:2]
    out_height, out_width = operator.sizes("out_size")
    batch, _, height, width = x.shape
    out_channels = operator.count("out_channels")
    y = np.zeros((batch, out_channels, out_height, out_width))
    of_group, from_group = out_channels // groups, x.shape[1] // groups
    for g in range(groups):
        part = x[:, g * from_group : (g + 1) * from_group]
        into = y[:, g * of_group : (g + 1) * of_group]
        for i in range(kh):
            for j in range(kw):
                for r in range(out_height):
                    for c in range(out_width):
                        row, column = r * sh + i * dh - top, c * sw + j * dw - left
                        if transposed:  # what input, if any, comes to this output through this tap
                            (row, rest), (column, odd) = divmod(r + top - i * dh, sh), divmod(c + left - j * dw, sw)
                            if rest or odd:
                                continue
                        if 0 <= row < height and 0 <= column < width:
                            if transposed:
                                taps = weight[g * from_group : (g + 1) * from_group, :, i, j]
                                into[:, :, r, c] += part[:, :, row, column] @ taps
                            else:
                                taps = weight[g * of_group : (g + 1) * of_group, :, i, j]
                                into[:, :, r, c] += part[:, :, row, column] @ taps.T
    return y if bias is None else y + bias[None, :, None, None]


register_values("conv", _values)
register_launches("conv", conv_launches)
