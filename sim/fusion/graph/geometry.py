"""Feature maps, and which rows (or columns) of an operator's input a run of its output rows needs."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tilewright.units import bits_to_bytes

__all__ = ["AxisWindow", "FeatureMap"]


class FeatureMap(NamedTuple):
    """A tensor as rows of pixels: ``batch`` images of ``height`` rows of ``width`` pixels of ``channels`` values.

    A sequence has its tokens as rows of one pixel, a vector one row of one pixel. ``bits`` is what one value takes,
    its part of shared scales included. ``extra_bytes``: further results of the same operator, moved with it.
    ``channels_first``: the tensor's shape is (batch, channels, height, width) and not (batch, height, channels).
    """

    name: str
    channels: int
    height: int
    width: int
    bits: int | Fraction
    batch: int = 1
    extra_bytes: int = 0
    channels_first: bool = False

    @property
    def n_elements(self) -> int:
        """Values of all images."""
        return self.batch * self.height * self.width * self.channels

    @property
    def n_bytes(self) -> int:
        """Bytes of all images."""
        return bits_to_bytes(self.n_elements * self.bits) + self.extra_bytes

    @property
    def pixel_bits(self) -> int | Fraction:
        """Bits of all channels of one pixel."""
        return self.channels * self.bits

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of one image."""
        return bits_to_bytes(self.width * self.channels * self.bits)

    @property
    def size(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width


class AxisWindow(NamedTuple):
    """What the outputs first..last along one axis need of an input with ``n_in`` positions along that axis.

    From floor((first * stride - pad) / up) to floor((last * stride - pad + reach - 1) / up), cut to the input.
    A convolution has up = 1 and reach = (kernel - 1) * dilation + 1; a transposed one and an upsampling have up > 1.
    ``whole``: every output needs all of the input (global pooling, the keys of an attention).
    """

    n_in: int
    stride: int = 1
    pad: int = 0
    reach: int = 1
    up: int = 1
    whole: bool = False

    def first(self, output: int) -> int:
        """The first input position that the outputs from ``output`` on need."""
        if self.whole:
            return 0
        return min(max((output * self.stride - self.pad) // self.up, 0), self.n_in - 1)

    def last(self, output: int) -> int:
        """The last input position that the outputs up to ``output`` need."""
        if self.whole:
            return self.n_in - 1
        return min(max((output * self.stride - self.pad + self.reach - 1) // self.up, 0), self.n_in - 1)

    @property
    def is_pointwise(self) -> bool:
        """Each output needs the input at its own place only."""
        return not self.whole and self[1:5] == (1, 0, 1, 1)

    @property
    def most(self) -> int:
        """The most positions that one output needs (cuts at the borders left out)."""
        return self.n_in if self.whole else min(self.n_in, -(-(self.reach - 1) // self.up) + 1)
