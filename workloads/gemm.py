"""One matrix product or convolution as it is mapped: extents, formats, what is fused behind it.

``C[m, n] = A[m, k] B[k, n]`` for each of ``groups`` independent pieces. A convolution is the same product with
m output pixels, k = kernel x input channels and n output channels; its window tells how many input values a tile of
outputs really needs, so that what is loaded is the input slab with its halo and not its unrolled copy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.units import ceil_div

__all__ = ["ConvWindow", "Fused", "GemmLayer", "VectorLayer"]


class ConvWindow(NamedTuple):
    """Geometry of a convolution: input and output maps, kernel, stride (padding is not loaded)."""

    in_height: int
    in_width: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int

    @property
    def taps(self) -> int:
        return self.kernel_height * self.kernel_width

    def slab(self, n_pixels: int) -> tuple[int, int]:
        """(rows, columns) of the input that ``n_pixels`` consecutive output pixels need."""
        if n_pixels < self.out_width:
            columns = min(self.in_width, (n_pixels - 1) * self.stride_width + self.kernel_width)
            return min(self.in_height, self.kernel_height), columns
        out_rows = ceil_div(n_pixels, self.out_width)
        return min(self.in_height, (out_rows - 1) * self.stride_height + self.kernel_height), self.in_width


class Fused(NamedTuple):
    """Vector work on every output element behind the product, before it is stored.

    ``operations``: (kind, times per element). ``extra_inputs``: further tensors of the output's shape that are
    loaded (a residual). ``reduces``: whether rows are reduced (statistics of a norm).
    """

    operations: tuple[tuple[str, int], ...] = ()
    extra_inputs: int = 0
    reduces: bool = False


NOTHING_FUSED = Fused()


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmLayer:
    """A product to be mapped; extents of one group.

    ``compute_format`` is what the matrix unit multiplies in; storage bits are per element with scales
    included. ``b_is_weight``: B is a parameter, stored in the order in which its tiles are read.
    """

    name: str
    groups: int
    m: int
    k: int
    n: int
    a_bits: int
    b_bits: int
    out_bits: int
    accumulator_bits: int
    compute_format: str
    b_is_weight: bool = True
    fused: Fused = NOTHING_FUSED
    window: ConvWindow | None = None

    def __post_init__(self) -> None:
        for field in ("groups", "m", "k", "n"):
            if getattr(self, field) < 1:
                raise InputError(f"{self.name}: {field}: given {getattr(self, field)}, allowed 1 or more")

    @property
    def n_groups(self) -> int:
        return self.groups

    @property
    def macs(self) -> int:
        return self.groups * self.m * self.k * self.n

    @property
    def compulsory_bits(self) -> int:
        """A, B, C and the fused inputs, each moved once."""
        a_elements = self.m * self.k
        if self.window is not None:
            a_elements = self.window.in_height * self.window.in_width * (self.k // self.window.taps)
        out = self.m * self.n * self.out_bits * (1 + self.fused.extra_inputs)
        return self.groups * (a_elements * self.a_bits + self.k * self.n * self.b_bits + out)

    def for_cores(self, n_cores: int) -> GemmLayer:
        """The same product cut along n into enough equal groups to give every core work (n rounded up)."""
        if self.groups >= n_cores or n_cores == 1:
            return self
        parts = min(self.n, ceil_div(n_cores, self.groups))
        return replace(self, groups=self.groups * parts, n=ceil_div(self.n, parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorLayer:
    """Element-wise, reduction, normalisation or memory work, row by row.

    ``operations``: (kind, how many) for one row. Each row reads ``read_bytes`` from DRAM and writes
    ``write_bytes``; either may be 0, not both.
    """

    name: str
    rows: int
    read_bytes: int
    write_bytes: int
    operations: tuple[tuple[str, int], ...] = ()
    reduces: bool = False

    @property
    def n_groups(self) -> int:
        return 1

    @property
    def compulsory_bytes(self) -> int:
        """Bytes moved over all rows."""
        return self.rows * (self.read_bytes + self.write_bytes)
