"""Geometry of a convolution: which input values a run of output pixels needs.

Output pixels are counted row by row, image by image. Rows and columns that lie in the padding, and rows that no
output needs (a 1x1 kernel with stride 2), are not counted; within a row everything between the first and the last
needed column is.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

from tilewright.units import ceil_div

__all__ = ["ConvWindow", "Slab", "spanned"]


class Slab(NamedTuple):
    """``rows`` input rows, ``row_step`` apart, of ``columns`` neighbouring pixels each."""

    rows: int
    columns: int
    row_step: int = 1

    @property
    def pixels(self) -> int:
        return self.rows * self.columns


class ConvWindow(NamedTuple):
    """Input and output maps of one of ``images`` images, kernel, stride, dilation, and the padding before.

    ``shift_height``, ``shift_width``: by how many inputs the windows of one output place differ (an output place of a
    transposed convolution holds several outputs).
    """

    in_height: int
    in_width: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    images: int = 1
    dilation_height: int = 1
    dilation_width: int = 1
    pad_top: int = 0
    pad_left: int = 0
    shift_height: int = 0
    shift_width: int = 0

    @property
    def taps(self) -> int:
        return self.kernel_height * self.kernel_width

    @property
    def reach_height(self) -> int:
        """Input rows from the first to the last that one output needs."""
        return (self.kernel_height - 1) * self.dilation_height + 1 + self.shift_height

    @property
    def reach_width(self) -> int:
        return (self.kernel_width - 1) * self.dilation_width + 1 + self.shift_width

    @property
    def needed_pixels(self) -> int:
        """Input pixels that some output needs, over all images: what must be loaded at least once."""
        return self.images * len(_rows(self, 0, self.out_height - 1)) * len(_columns(self))

    def slab_at(self, first_pixel: int, n_pixels: int) -> Slab:
        """What the output pixels [first_pixel, first_pixel + n_pixels) need."""
        return _slab_at(self, first_pixel, n_pixels)

    def largest_slab(self, n_pixels: int, *, tile: int) -> Slab:
        """What covers any ``n_pixels`` (at most ``tile``) output pixels that begin at a multiple of ``tile``.

        Exact inside an image for tiles of whole output rows; a tile that begins within a row may be charged
        for one row more than it needs, one that reaches into the next image for its padding.
        """
        return _largest_slab(self, n_pixels, tile)


def spanned(n: int, tile: int, unit: int) -> int:
    """The most units of ``unit`` that ``n`` neighbours can lie in when they begin at a multiple of ``tile``."""
    return ceil_div(unit - gcd(tile, unit) + n, unit)


def _rows(window: ConvWindow, first: int, last: int) -> list[int]:
    """Input rows of one image that the output rows first..last need."""
    found = {
        row * window.stride_height + tap * window.dilation_height + shift - window.pad_top
        for row in range(first, last + 1)
        for tap in range(window.kernel_height)
        for shift in range(window.shift_height + 1)
    }
    return sorted(row for row in found if 0 <= row < window.in_height)


def _columns(window: ConvWindow) -> set[int]:
    """Input columns that some output needs."""
    found = {
        column * window.stride_width + tap * window.dilation_width + shift - window.pad_left
        for column in range(window.out_width)
        for tap in range(window.kernel_width)
        for shift in range(window.shift_width + 1)
    }
    return {column for column in found if 0 <= column < window.in_width}


def _reach_of_columns(window: ConvWindow, first: int, last: int) -> int:
    """Input columns from the first to the last that the output columns first..last need."""
    begin = max(0, first * window.stride_width - window.pad_left)
    end = min(window.in_width, last * window.stride_width - window.pad_left + window.reach_width)
    return max(1, end - begin)


@lru_cache(maxsize=65536)
def _slab_at(window: ConvWindow, first_pixel: int, n_pixels: int) -> Slab:
    width, height = window.out_width, window.out_height
    first, last = first_pixel // width, (first_pixel + n_pixels - 1) // width
    one_row = first == last
    columns = _reach_of_columns(
        window, first_pixel % width if one_row else 0, (first_pixel + n_pixels - 1) % width if one_row else width - 1
    )
    n_rows, step = 0, 1
    for image in range(first // height, last // height + 1):
        rows = _rows(window, max(0, first - image * height), min(height - 1, last - image * height))
        n_rows += len(rows)
        step = max(step, _step(rows))
    return Slab(max(1, n_rows), columns, step)


@lru_cache(maxsize=65536)
def _largest_slab(window: ConvWindow, n_pixels: int, tile: int) -> Slab:
    width, height = window.out_width, window.out_height
    n_rows = min(spanned(n_pixels, tile, width), height * window.images)
    columns = _reach_of_columns(window, 0, width - 1)
    if n_rows == 1:
        columns = min(columns, (n_pixels - 1) * window.stride_width + window.reach_width)
    images = min(window.images, spanned(n_rows, tile // width if tile % width == 0 else 1, height))
    unpadded = window._replace(pad_top=0, in_height=(n_rows - 1) * window.stride_height + window.reach_height)
    inside = _rows(unpadded, 0, n_rows - 1)
    halos = (images - 1) * max(0, window.reach_height - window.stride_height)
    of_images = images * len(_rows(window, 0, height - 1))
    return Slab(max(1, min(len(inside) + halos, of_images)), columns, _step(inside))


def _step(rows: list[int]) -> int:
    """Mean distance of neighbouring rows, rounded down."""
    return (rows[-1] - rows[0]) // (len(rows) - 1) if len(rows) > 1 else 1
