"""A deformable convolution: depthwise, work of the vector unit; else its sampled values times the weight, on the array.

The sampled values are (pixels, channels x taps), as the product reads them; the vector unit makes them on its tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.layer import JobLayer, product_layer, register_lowering, vector_layer
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.deformable_conv import is_depthwise_deformable
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["places", "sampled"]


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> JobLayer:
    operator = chain[0]
    if is_depthwise_deformable(operator):
        return vector_layer(stream, chain)
    groups = operator.count("groups")
    return product_layer(
        stream,
        chain,
        name="deformable_conv",
        groups=groups,
        m=operator.count("batch") * math.prod(operator.sizes("out_size")),
        k=operator.count("in_channels") // groups * math.prod(operator.sizes("kernel")),
        n=operator.count("out_channels") // groups,
        columns=operator.count("out_channels"),
    )


register_lowering("deformable_conv", _layer)


def places(operator: Operator, offsets: FloatArray) -> FloatArray:
    """Row and column of every tap in x, (batch, taps, 2, out height, out width), as offsets are bounded."""
    bound = operator.count("bound")
    offsets = np.clip(offsets, -bound, bound) if bound else offsets
    (kh, kw), (sh, sw) = operator.sizes("kernel"), operator.sizes("stride")
    (dh, dw), (top, left) = operator.sizes("dilation"), operator.sizes("padding")[:2]
    height, width = operator.sizes("out_size")
    batch = operator.count("batch")
    taps = np.stack(np.meshgrid(np.arange(kh), np.arange(kw), indexing="ij"), -1).reshape(-1, 2)
    starts = np.stack(np.meshgrid(np.arange(height) * sh - top, np.arange(width) * sw - left, indexing="ij"))
    fixed = starts[None] + (taps * (dh, dw))[:, :, None, None]
    if operator.text("shape") == "square":
        away = (taps - (np.array((kh, kw)) - 1) / 2)[None, :, :, None, None]
        return np.asarray(fixed[None] + away * offsets.reshape(batch, 1, 1, height, width))
    return np.asarray(fixed[None] + offsets.reshape(batch, len(taps), 2, height, width))


def sampled(operator: Operator, x: FloatArray, where: FloatArray) -> FloatArray:
    """Values of x (batch, channels, height, width) at the places, (batch, channels, taps, out height, out width);
    beyond the map they are 0.
    """
    batch, channels, height, width = x.shape
    flat, index = x.reshape(batch, channels, -1), np.arange(batch)[:, None, None, None]

    def at(row: FloatArray, column: FloatArray) -> FloatArray:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        place = (np.clip(row, 0, height - 1) * width + np.clip(column, 0, width - 1)).astype(np.int64)
        return np.asarray(np.moveaxis(flat[index, :, place], -1, 1) * inside[:, None])

    row, column = where[:, :, 0], where[:, :, 1]
    if operator.text("sampling") == "nearest":
        return at(np.floor(row + 0.5), np.floor(column + 0.5))
    top, left = np.floor(row), np.floor(column)
    y = np.zeros((batch, channels, *row.shape[1:]))
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (row - top)) * np.abs(1 - right - (column - left))
            y += at(top + down, left + right) * share[:, None]
    return y


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x, weight, offsets = inputs[:3]
    groups, outs = operator.count("groups"), operator.count("out_channels")
    values = sampled(operator, x, places(operator, offsets))
    batch, channels, n_taps, height, width = values.shape
    parts = values.reshape(batch, groups, channels // groups, n_taps, height, width)
    y = np.einsum("bgcthw,goct->bgohw", parts, weight.reshape(groups, outs // groups, channels // groups, n_taps))
    y = np.asarray(y.reshape(shape))
    return np.asarray(y + inputs[3].reshape(1, -1, 1, 1)) if len(inputs) > 3 else y


register_values("deformable_conv", _values)
