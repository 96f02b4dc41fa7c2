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
import numpy.typing as npt

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
    """Tap by tap, all outputs that one reaches at a time."""
    x, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    groups, transposed = operator.count("groups"), bool(operator.attributes["transposed"])
    (sh, sw), (dh, dw) = operator.sizes("stride"), operator.sizes("dilation")
    (kh, kw), (top, left) = operator.sizes("kernel"), operator.sizes("padding")[:2]
    out_height, out_width = operator.sizes("out_size")
    batch, channels, height, width = x.shape
    y = np.zeros((batch, groups, operator.count("out_channels") // groups, out_height, out_width))
    by_group = x.reshape(batch, groups, channels // groups, height, width)
    # (group, in of it, out of it, taps): a transposed weight is stored by its inputs
    taps = weight.reshape(groups, -1, weight.shape[1], kh, kw)
    taps = taps if transposed else taps.transpose(0, 2, 1, 3, 4)
    for i in range(kh):
        rows = _reached(out_height, height, sh, i * dh - top, transposed=transposed)
        for j in range(kw):
            columns = _reached(out_width, width, sw, j * dw - left, transposed=transposed)
            part = by_group[:, :, :, rows[1]][..., columns[1]]
            y[:, :, :, rows[0][:, None], columns[0]] += np.einsum("bgchw,gco->bgohw", part, taps[..., i, j])
    result = y.reshape(batch, -1, out_height, out_width)
    return result if bias is None else result + bias[None, :, None, None]


def _reached(
    n_out: int, n_in: int, stride: int, tap: int, *, transposed: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The outputs that a tap reaches along one side, and the input of each."""
    out = np.arange(n_out)
    at, rest = np.divmod(out - tap, stride) if transposed else (out * stride + tap, np.zeros(n_out))
    seen = (at >= 0) & (at < n_in) & (rest == 0)
    return out[seen], at[seen]


register_values("conv", _values)
register_launches("conv", conv_launches)
