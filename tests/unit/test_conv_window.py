"""The inputs that windows need: as counted one by one, and in no time for any size."""

from __future__ import annotations

import itertools
import random

import pytest

from tilewright.errors import InputError
from tilewright.workloads.conv_window import ConvWindow


def counted(first: int, last: int, kernel: int, stride: int, dilation: int, shift: int, pad: int, extent: int) -> set:
    found = {
        place * stride + tap * dilation + moved - pad
        for place in range(first, last + 1)
        for tap in range(kernel)
        for moved in range(shift + 1)
    }
    return {one for one in found if 0 <= one < extent}


def test_needed_inputs_are_those_counted_one_by_one() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        rows = [chance.randint(*ends) for ends in ((1, 6), (1, 5), (1, 3), (0, 1), (-1, 8), (1, 20))]
        columns = [chance.randint(*ends) for ends in ((1, 6), (1, 5), (1, 3), (0, 1), (-1, 8), (1, 20))]
        out_height, out_width, images = (chance.randint(1, 9) for _ in range(3))
        window = ConvWindow(
            rows[5], columns[5], out_height, out_width, rows[0], columns[0], rows[1], columns[1], images,
            rows[2], columns[2], rows[4], columns[4], rows[3], columns[3],
        )  # fmt: skip
        n_rows, n_columns = (len(counted(0, n - 1, *sizes)) for n, sizes in ((out_height, rows), (out_width, columns)))
        assert window.needed_pixels == images * n_rows * n_columns
        begin = chance.randrange(out_height)
        end = chance.randrange(begin, out_height)
        slab = window.slab_at(begin * out_width, (end - begin + 1) * out_width)
        assert slab.rows == max(1, len(counted(begin, end, *rows)))


@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, 7), (1, 3))))
def test_a_large_kernel_takes_no_time(stride: int, dilation: int) -> None:
    window = ConvWindow(16, 16, 8, 8, 2**31, 2**31, stride, stride, 1, dilation, dilation, 2**30, 2**30)
    assert window.needed_pixels == 256 or dilation > 1


def test_long_signals_take_no_time() -> None:
    assert ConvWindow(1, 2**31, 1, 2**31, 1, 7, 1, 1, pad_left=3).needed_pixels == 2**31
    assert ConvWindow(1, 2**31, 1, 2**27, 1, 7, 1, 16).needed_pixels == 7 * 2**27
    with pytest.raises(InputError, match="a dilated convolution over"):
        _ = ConvWindow(1, 2**31, 1, 2**31, 1, 7, 1, 1, dilation_width=2).needed_pixels
