"""Geometry of a convolution: which input values a run of output pixels needs.

Output pixels are counted row by row, image by image. Rows and columns that lie in the padding, and rows that no
output needs (a 1x1 kernel with stride 2), are not counted; within a row everything between the first and the last
needed column is.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.units import ceil_div

__all__ = ["ConvWindow", "Slab", "spanned"]

_MOST_SINGLE = 2**22  # inputs that are counted one by one


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
        return self.images * _rows(self, 0, self.out_height - 1).n * _columns(self).n

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


class _Needed(NamedTuple):
    """How many input rows (or columns), and the first and the last of them."""

    n: int
    first: int
    last: int

    @property
    def step(self) -> int:
        """Mean distance of neighbours, rounded down."""
        return (self.last - self.first) // (self.n - 1) if self.n > 1 else 1


def _rows(window: ConvWindow, first: int, last: int) -> _Needed:
    """Input rows of one image that the output rows first..last need."""
    return _needed(
        (first, last),
        window.kernel_height,
        window.stride_height,
        window.dilation_height,
        window.shift_height,
        window.pad_top,
        window.in_height,
    )


def _columns(window: ConvWindow) -> _Needed:
    """Input columns that some output needs."""
    return _needed(
        (0, window.out_width - 1),
        window.kernel_width,
        window.stride_width,
        window.dilation_width,
        window.shift_width,
        window.pad_left,
        window.in_width,
    )


@lru_cache(maxsize=4096)
def _needed(
    outputs: tuple[int, int], kernel: int, stride: int, dilation: int, shift: int, padding: int, extent: int
) -> _Needed:
    """What of the inputs [0, extent) the windows of the outputs first..last need, in time that no size makes long.

    Without dilation a window is a run of ``length`` inputs; runs overlap or lie apart. Dilation leaves gaps that the
    next window's may fill: there each tap's inputs are a run of their own, ``stride`` apart.
    """
    first, last = outputs
    if dilation == 1 or kernel == 1:
        return _of_runs(first * stride - padding, last - first + 1, stride, kernel + shift, extent)
    found: set[int] = set()
    for tap in _taps_within(first, last, kernel, stride, dilation, shift, padding, extent):
        for moved in range(shift + 1):
            begin = first * stride + tap * dilation + moved - padding
            least = max(0, ceil_div(-begin, stride))
            most = min(last - first, (extent - 1 - begin) // stride)
            if (most - least + 1) + len(found) > _MOST_SINGLE:
                raise InputError(f"a dilated convolution over {extent:,} inputs; allowed at most {_MOST_SINGLE:,}")
            found.update(range(begin + least * stride, begin + most * stride + 1, stride))
    return _Needed(len(found), min(found), max(found)) if found else _Needed(0, 0, 0)


def _taps_within(
    first: int, last: int, kernel: int, stride: int, dilation: int, shift: int, padding: int, extent: int
) -> range:
    """The taps of a dilated kernel that some window of the outputs first..last lays on an input."""
    least = max(0, ceil_div(padding - last * stride - shift, dilation))
    most = min(kernel - 1, (extent - 1 + padding - first * stride) // dilation)
    return range(least, most + 1)


def _of_runs(begin: int, n: int, stride: int, length: int, extent: int) -> _Needed:
    """The inputs in [0, extent) that ``n`` runs of ``length`` inputs need; the first begins at ``begin``, and each next
    one ``stride`` further.
    """
    least = max(0, ceil_div(1 - length - begin, stride))  # the first run that reaches beyond 0
    most = min(n - 1, (extent - 1 - begin) // stride)  # the last one that begins before the end
    if least > most:
        return _Needed(0, 0, 0)
    first = max(0, begin + least * stride)
    last = min(extent, begin + most * stride + length) - 1
    if length >= stride:
        return _Needed(last - first + 1, first, last)
    inside = (most - least + 1) * length
    cut = (first - (begin + least * stride)) + (begin + most * stride + length - 1 - last)
    return _Needed(inside - cut, first, last)


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
        n_rows += rows.n
        step = max(step, rows.step)
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
    of_images = images * _rows(window, 0, height - 1).n
    return Slab(max(1, min(inside.n + halos, of_images)), columns, inside.step)
