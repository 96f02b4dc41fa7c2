"""What an engine with a way of its own for certain kernels takes: all taps of a kernel in one go, channel by channel.

Such an engine (NE16 of GAP9, after the Reconfigurable Binary Engine) holds a patch of output pixels. For every
``depth`` input channels and every ``columns`` output channels it first brings the patch's inputs (``load_cycles``),
then works through the output channels one by one (``column_cycles`` each, all taps and input channels at once). What
the patch has gathered is scaled and written when its sums are complete (``finish_cycles``, and
``finish_column_cycles`` a channel).

A kernel that is not listed is done as often with the largest listed one as that fits into it, and the taps that are
left with the smallest one. With a stride of 2 a patch has fewer results (``strided_rows``). Several engines in a chain
may share the input channels of a kernel (``engines``, ``channels_each``: the 1 x 1 mode of ST's accelerators).

Source: Ne16PerfModel of the network compilers for GAP9 (eml-eda/match, eml-eda/plinio), for the engine of
pulp-platform/ne16; kernels that are not its own, and strides: the same models, and ne16_nnx_dispatch_stride2x2 of
pulp-platform/pulp-nnx.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from tilewright.hw_models.block_steps import ConvShape
from tilewright.hw_models.spec import BlockSpec, KernelSpec, MatrixUnitSpec
from tilewright.units import ceil_div, exact

__all__ = ["KernelCost", "kernel_cost"]

_POINT = ConvShape(1, 1, 0)


class KernelCost(NamedTuple):
    """Cycles of a tile, of which ``idle`` finish results; elements of A that are read, and of B."""

    cycles: int
    idle: int
    read_a: int
    read_b: int


def kernel_cost(unit: MatrixUnitSpec, block: BlockSpec, m: int, k: int, n: int, conv: ConvShape | None) -> KernelCost:
    """``m`` output pixels by ``n`` channels, with a sum of ``k``: taps x channels of a convolution, else plainly a
    product's.
    """
    shape = conv or _POINT
    taps = shape.kernel_height * shape.kernel_width
    channels = ceil_div(k, taps)
    patches, side = _patches(unit, block, m, shape)
    groups = ceil_div(n, unit.columns)
    cycles = read_a = 0
    for kernel, times in _in_kernels(block, shape):
        chain = min(kernel.engines, ceil_div(channels, kernel.channels_each))
        depths = ceil_div(ceil_div(channels, chain), block.depth)
        cycles += times * patches * depths * (groups * kernel.load_cycles + n * kernel.column_cycles)
        inputs = ((side[0] - 1) * shape.stride + kernel.height) * ((side[1] - 1) * shape.stride + kernel.width)
        read_a += times * patches * inputs * channels * groups
    idle = patches * (groups * block.finish_cycles + ceil(exact(block.finish_column_cycles) * n))
    return KernelCost(cycles + idle, idle, read_a, patches * channels * taps * n)


def _patches(unit: MatrixUnitSpec, block: BlockSpec, m: int, conv: ConvShape) -> tuple[int, tuple[int, int]]:
    """How many patches ``m`` pixels take, and the height and width of one."""
    width = block.patch_columns
    height = unit.rows // width
    if conv.stride > 1 and block.strided_rows:
        height = width = block.strided_rows
    if not conv.out_width:
        return ceil_div(m, height * width), (1, height * width)
    rows, rest = divmod(m, conv.out_width)
    whole = ceil_div(rows, height) * ceil_div(conv.out_width, width)
    return whole + (ceil_div(rest, width) if rest and rows % height == 0 else 0), (height, width)


def _in_kernels(block: BlockSpec, conv: ConvShape) -> list[tuple[KernelSpec, int]]:
    """The listed kernels that make up that of ``conv``, and how often each."""
    height, width = conv.kernel_height, conv.kernel_width
    for kernel in block.kernels:
        if (kernel.height, kernel.width) == (height, width):
            return [(kernel, 1)]
    large = max(block.kernels, key=lambda kernel: kernel.height * kernel.width)
    small = min(block.kernels, key=lambda kernel: kernel.height * kernel.width)
    times = (height // large.height) * (width // large.width)
    rest = height * width - times * large.height * large.width
    parts = [(large, times), (small, ceil_div(rest, small.height * small.width))]
    return [(kernel, n) for kernel, n in parts if n]
