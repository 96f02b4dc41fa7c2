"""Engines with ways of their own for certain kernels: the published model of NE16, and what it leaves open."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tilewright.hw_models.block_kernels import kernel_cost
from tilewright.hw_models.block_steps import ConvShape
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.spec import BlockSpec, KernelSpec, MatrixUnitSpec

KERNELS = (
    KernelSpec(height=3, width=3, load_cycles=45, column_cycles=8),
    KernelSpec(height=1, width=1, load_cycles=33, column_cycles=1),
)
BLOCK = BlockSpec(
    style="dot_product_tree",
    depth=16,
    step_cycles=8,
    pipeline_cycles=0,
    kernels=KERNELS,
    patch_columns=3,
    strided_rows=2,
    finish_cycles=30,
    finish_column_cycles=1.125,
)
NE16 = MatrixUnitSpec(
    rows=9,
    columns=32,
    stationarity="output",
    fill_drain="per_command",
    multiplies_per_pe_per_cycle={"int8": 1},
    block=BLOCK,
)


def cycles(kernel: int, height: int, width: int, n: int, channels: int, stride: int = 1) -> int:
    conv = ConvShape(kernel, kernel, width, stride)
    return product(NE16, height * width, kernel * kernel * channels, n, "int8", conv).cycles


@pytest.mark.parametrize(
    ("layer", "published"),
    [
        # Ne16PerfModel of eml-eda/match, 8-bit weights, 32-bit scales and biases, for (height, width, out, in)
        ((1, 18, 51, 32, 32), 19_992),
        ((3, 32, 32, 16, 16), 26_741),
        ((3, 8, 8, 64, 64), 22_860),
        ((1, 3, 3, 256, 128), 4_688),
        ((3, 7, 10, 40, 20), 11_100),
    ],
)
def test_cycles_are_those_of_the_published_model(layer: tuple[int, ...], published: int) -> None:
    kernel, *sizes = layer
    assert cycles(kernel, *sizes) == published


def test_a_stride_leaves_fewer_results_in_a_patch() -> None:
    one_patch = cycles(3, 3, 3, 32, 16)
    assert cycles(3, 6, 6, 32, 16) == 4 * one_patch
    assert cycles(3, 6, 6, 32, 16, stride=2) == 9 * one_patch


def test_other_kernels_are_made_up_of_those_listed() -> None:
    big, small = (KERNELS[0].load_cycles + 8 * 32, KERNELS[1].load_cycles + 32)
    finish = 30 + 36
    found = kernel_cost(NE16, BLOCK, 9, 5 * 5 * 16, 32, ConvShape(5, 5, 3))
    assert found.cycles == big + (25 - 9) * small + finish
    found = kernel_cost(NE16, BLOCK, 9, 10 * 4 * 16, 32, ConvShape(10, 4, 3))
    assert found.cycles == 3 * big + 13 * small + finish


def test_a_product_is_one_of_single_taps() -> None:
    assert product(NE16, 9, 48, 32, "int8").cycles == 3 * (33 + 32) + 30 + 36
    assert product(NE16, 1, 48, 32, "int8").cycles == product(NE16, 9, 48, 32, "int8").cycles


def test_a_part_of_a_row_is_patches_of_its_own() -> None:
    conv = ConvShape(1, 1, 9)
    one = product(NE16, 1, 16, 32, "int8", conv).cycles
    assert product(NE16, 9, 16, 32, "int8", conv).cycles == 3 * one  # a row of the map
    assert product(NE16, 27, 16, 32, "int8", conv).cycles == 3 * one  # three rows
    assert product(NE16, 31, 16, 32, "int8", conv).cycles == 5 * one  # and four pixels of the next


def test_nothing_is_faster_than_the_bound_takes_it_to_be() -> None:
    assert NE16.n_multipliers == Fraction(9 * 9 * 16 * 32, 45 + 8 * 32)  # a whole patch of 3 x 3 kernels
    macs = 9 * 9 * 16 * 32
    assert cycles(3, 3, 3, 32, 16) * NE16.n_multipliers >= macs
    assert cycles(1, 300, 300, 32, 16) * NE16.n_multipliers >= 90_000 * 16 * 32


def test_inputs_of_a_patch_are_read_with_their_halo() -> None:
    cost = product(NE16, 9, 9 * 16, 32, "int8", ConvShape(3, 3, 3))
    assert (cost.read_elements_a, cost.read_elements_b, cost.write_elements) == (25 * 16, 9 * 16 * 32, 9 * 32)


def test_output_channels_may_come_all_at_once() -> None:
    tap = KernelSpec(height=1, width=1, load_cycles=1, column_cycles=0)
    unit = replace(NE16, rows=1, block=replace(BLOCK, depth=3, patch_columns=1, kernels=(tap,), finish_cycles=0))
    unit = replace(unit, block=replace(unit.block, finish_column_cycles=0))
    assert unit.n_multipliers == 3 * 32
    assert product(unit, 7, 12, 33, "int8").cycles == 7 * 4 * 2
    with pytest.raises(ValueError, match="column_cycles: 0 as load_cycles is"):
        replace(tap, load_cycles=0)


def test_engines_in_a_chain_share_input_channels() -> None:
    tap = KernelSpec(height=1, width=1, load_cycles=2, column_cycles=0, engines=4, channels_each=128)
    unit = replace(NE16, rows=1, block=replace(BLOCK, depth=3, patch_columns=1, kernels=(tap,), finish_cycles=0))
    unit = replace(unit, block=replace(unit.block, finish_column_cycles=0))
    assert unit.n_multipliers == 4 * 3 * 32 / 2
    found = {k: product(unit, 1, k, 32, "int8").cycles for k in (30, 128, 256, 512, 1024)}
    assert found == {30: 2 * 10, 128: 2 * 43, 256: 2 * 43, 512: 2 * 43, 1024: 2 * 86}
    with pytest.raises(ValueError, match="channels_each: given, but engines is 1"):
        replace(tap, engines=1)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"block\.kernels: given with stationarity weight"):
        replace(NE16, stationarity="weight")
    with pytest.raises(ValueError, match="9 rows in patches 2 wide"):
        replace(NE16, block=replace(BLOCK, patch_columns=2))
    with pytest.raises(ValueError, match="kernels: none, but finish_cycles"):
        replace(BLOCK, kernels=())
