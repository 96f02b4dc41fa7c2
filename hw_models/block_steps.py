"""How many blocks a product takes along its sum and its rows, in a unit with its own way to do convolutions.

An unrolled convolution is a product whose k runs over kernel and channels together. Engines for convolutions step
through the kernel instead, and sum over the channels of one tap at a time: c channels take ceil(c / depth) blocks *for
each tap* ("by_tap"), so that 3 channels of a picture take as long as 16 or 64. Two remedies are published for first
layers: a kernel's row is laid out as one run of kernel_width x channels values (NVDLA's pre-extension, the channel
augmentation of AMD's DPU), and 2 or 4 rows behind each other where they fit the depth (NVDLA's post-extension).

The rows of a block may be pixels that must lie in one row of the map (``pixels: of_a_row``): a map of width w then
takes ceil(w / rows) blocks a row.

Sources: NVDLA hardware manual, unit description, "Direct Convolution" and "Convolution with Image Input"; PG338
(DPUCZDX8G), "Architecture" and "Channel Augmentation".
"""

from __future__ import annotations

from typing import NamedTuple

from tilewright.hw_models.spec import BlockSpec

__all__ = ["ConvShape", "depth_steps", "row_steps"]


class ConvShape(NamedTuple):
    """What a unit must know of the convolution that a product is a tile of: its kernel, the width of its result (0 for
    none), and its stride.
    """

    kernel_height: int
    kernel_width: int
    out_width: int
    stride: int = 1


def depth_steps(block: BlockSpec, k: int, up: int, down: int, conv: ConvShape | None) -> int:
    """Blocks along a sum of ``k`` at rate up/down; k counts channel by channel, all taps of one before the next."""
    if conv is None or block.sums == "joined":
        return _blocks(k, block, up, down)
    taps = conv.kernel_height * conv.kernel_width
    channels, rest = divmod(k, taps)
    if 0 < conv.kernel_width * (channels + (rest > 0)) <= block.joined_values:
        return _joined_steps(block, conv, channels + (rest > 0), up, down)
    return rest * _blocks(channels + 1, block, up, down) + (taps - rest) * _blocks(channels, block, up, down)


def row_steps(block: BlockSpec, rows: int, m: int, conv: ConvShape | None) -> int:
    """Blocks along ``m`` output pixels, which begin at the first of a row or stay within one."""
    if conv is None or not conv.out_width or block.pixels == "any":
        return -(-m // rows)
    whole, rest = divmod(m, conv.out_width)
    return whole * -(-conv.out_width // rows) + -(-rest // rows)


def _joined_steps(block: BlockSpec, conv: ConvShape, channels: int, up: int, down: int) -> int:
    run, together = conv.kernel_width * channels, 1
    while 2 * together <= block.joined_rows and 2 * together * run * down <= block.depth * up:
        together *= 2
    return -(-conv.kernel_height // together) * _blocks(run * together, block, up, down)


def _blocks(n: int, block: BlockSpec, up: int, down: int) -> int:
    return -(-n * down // (block.depth * up))
