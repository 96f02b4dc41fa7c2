"""Units that multiply blocks: cube, tensor core, dot-product tree."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine, machine_text
from tilewright.hw_models.matrix_blocks import DAVINCI_CUBE, DIANNAO_TREE, TENSOR_CORE_A100, TENSOR_CORE_V100
from tilewright.hw_models.matrix_unit import fill_drain_once, product
from tilewright.hw_models.spec import BlockSpec, MatrixUnitSpec

UNITS = (DAVINCI_CUBE, TENSOR_CORE_A100, TENSOR_CORE_V100, DIANNAO_TREE)


@pytest.mark.parametrize(
    ("unit", "number_format", "per_cycle"),
    [
        (DAVINCI_CUBE, "fp16", 4096),
        (DAVINCI_CUBE, "int8", 8192),
        (TENSOR_CORE_A100, "fp16", 256),
        (TENSOR_CORE_A100, "int4", 1024),
        (TENSOR_CORE_V100, "fp16", 64),
        (DIANNAO_TREE, "int16", 256),
    ],
)
def test_a_large_product_runs_at_the_published_rate(unit: MatrixUnitSpec, number_format: str, per_cycle: int) -> None:
    cost = product(unit, 512, 1024, 512, number_format)
    assert Fraction(cost.macs, cost.cycles - cost.fill_drain_cycles) == per_cycle
    assert cost.fill_drain_cycles == fill_drain_once(unit)
    rate = Fraction(str(unit.multiplies_per_pe_per_cycle[number_format]))
    assert unit.n_multipliers * rate == per_cycle


def test_a100_peaks_at_its_published_tensor_rates() -> None:
    cores, clock_ghz = 108 * 4, Fraction("1.41")
    for name, tera in (("tf32", 156), ("fp16", 312), ("int8", 624), ("int4", 1248), ("int1", 4992)):
        rate = Fraction(str(TENSOR_CORE_A100.multiplies_per_pe_per_cycle[name]))
        peak = 2 * TENSOR_CORE_A100.n_multipliers * rate * cores * clock_ghz / 1000
        assert float(peak) == pytest.approx(tera, rel=0.002)


def test_a_cube_by_hand() -> None:
    cost = product(DAVINCI_CUBE, 17, 33, 16, "fp16")  # 2 x 1 blocks of C, 3 steps each
    assert (cost.cycles, cost.fill_drain_cycles) == (6 + 6, 6)
    assert (cost.read_elements_a, cost.read_elements_b, cost.write_elements) == (17 * 33, 33 * 16 * 2, 17 * 16)
    assert product(DAVINCI_CUBE, 17, 33, 16, "int8").cycles == 4 + 6
    assert product(replace(DAVINCI_CUBE, fill_drain="hidden"), 17, 33, 16, "fp16").cycles == 6
    assert product(replace(DAVINCI_CUBE, fill_drain="per_pass"), 17, 33, 16, "fp16").cycles == 6 + 2 * 6


def test_a_tree_reads_its_weights_for_every_row() -> None:
    cost = product(DIANNAO_TREE, 3, 32, 16, "int16")
    assert cost.cycles - cost.fill_drain_cycles == 3 * 2
    assert cost.read_elements_b == 3 * 32 * 16


@given(unit=st.sampled_from(UNITS), m=st.integers(1, 200), k=st.integers(1, 200), n=st.integers(1, 200))
def test_no_block_unit_is_faster_than_its_multipliers(unit: MatrixUnitSpec, m: int, k: int, n: int) -> None:
    for name, rate in unit.multiplies_per_pe_per_cycle.items():
        cost = product(unit, m, k, n, name)
        assert cost.cycles - cost.fill_drain_cycles >= cost.macs / (unit.n_multipliers * rate)
        assert cost.read_elements_a >= m * k and cost.read_elements_b >= k * n and cost.write_elements == m * n


def test_a_block_stands_in_a_machine_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = machine_text("edge-16x16")
    given_block = "\n  block: {style: cube, depth: 16, step_cycles: 1, pipeline_cycles: 6}\n"
    path = tmp_path / "cube.yaml"
    path.write_text(text.replace("\n  fill_drain: per_command\n", "\n  fill_drain: per_command" + given_block))
    matrix = load_machine(path).matrix
    assert matrix.block == BlockSpec(style="cube", depth=16, step_cycles=1, pipeline_cycles=6)
    assert load_machine("edge-16x16").matrix.block is None
    for old, new, message in (
        ("6}", "6, stripe: {least_steps: 4, most_steps: 8}}", 'block.stripe: given with stationarity "output"'),
        ("6}", "6, joined_values: 32}", "joined_values: for sums: by_tap"),
        ("6}", "6, joined_rows: 2}", "joined_rows: given 2 without joined_values"),
        ("per_command", "scale_sim", "fill_drain: scale_sim is for systolic arrays"),
    ):
        path.write_text(
            text.replace("\n  fill_drain: per_command\n", "\n  fill_drain: per_command" + given_block).replace(old, new)
        )
        with pytest.raises(InputError, match=message):
            load_machine(path)
