"""Weights of 0 that a matrix unit leaves out: rates, what is stored, and what networks become of it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.sparsity import skipping
from tilewright.hw_models.spec import SparsitySpec
from tilewright.search.api import simulate_network
from tilewright.workloads.stream.file import stream_from_json, stream_to_json
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

TWO_OF_FOUR = SparsitySpec(kept=2, of=4, index_bits=2)
ANY = SparsitySpec(most_speedup=4, index_bits=4)
EDGE = load_machine("edge-16x16")


def test_two_of_four_halves_the_sum_and_stores_an_index_beside_each_weight() -> None:
    assert skipping(TWO_OF_FOUR, 0.5, 8) == (2, Fraction(1, 2) * (8 + 2))
    assert skipping(TWO_OF_FOUR, 0.3, 8) == (2, 5)  # more zeros do not help
    assert skipping(TWO_OF_FOUR, 0.51, 8) == (1, 8)  # the pattern is not there
    assert skipping(TWO_OF_FOUR, 1, 8) == skipping(None, 0.5, 8) == (1, 8)


def test_any_zero_is_left_out_as_far_as_the_unit_keeps_up() -> None:
    assert skipping(ANY, 0.5, 8) == (2, 6)
    assert skipping(ANY, 0.1, 8) == (4, Fraction(12, 10))
    assert skipping(ANY, 0.9, 8) == (Fraction(10, 9), 8)  # indices would take more room than the zeros


def test_a_product_is_as_short_as_its_sum() -> None:
    unit = replace(EDGE.matrix, fill_drain="hidden")
    dense, half = (product(unit, 16, 64, 16, "int8", speed=Fraction(n)) for n in (1, 2))
    assert (half.cycles, half.macs) == (dense.cycles // 2, dense.macs // 2)
    assert (
        product(unit, 16, 3, 16, "int8", speed=Fraction(2)).cycles
        == -(-3 // 2) * product(unit, 16, 1, 16, "int8").cycles
    )


def network() -> OperatorStream:
    b = Layers("two", activations="int8", weights="int8")
    return b.finish([b.conv(b.conv(b.input("x", (1, 16, 8, 8)), 64, 3, "a", padding=1), 64, 3, "b", padding=1)])


def test_a_network_with_half_its_weights_takes_half_the_multiply_adds_and_fewer_bytes() -> None:
    dense = EDGE.with_(**{"matrix.rows": 4, "matrix.columns": 4, "dram.bandwidth_gb_per_s": 1000})
    sparse = dense.with_(**{"matrix.sparsity": {"kept": 2, "of": 4, "index_bits": 2}})
    plain = simulate_network(network(), dense, keep_mappings=False)
    assert simulate_network(network(), sparse, keep_mappings=False).cycles == plain.cycles  # no weight is said to be 0
    half = simulate_network(network(), sparse, weight_density=0.5, keep_mappings=False)
    assert half.cycles < 0.6 * plain.cycles and half.cycles >= half.lower_bound_cycles
    weights = 9 * (16 * 64 + 64 * 64)
    assert plain.dram_bytes - half.dram_bytes == pytest.approx(weights * (1 - 5 / 8), abs=256)
    assert any("weights of 0" in said for said in half.assumptions)
    assert simulate_network(network(), sparse, weight_density=0.9, keep_mappings=False).cycles == plain.cycles


def test_a_density_without_effect_is_refused() -> None:
    with pytest.raises(InputError, match="leaves no zeros out"):
        simulate_network(network(), EDGE, weight_density=0.5)
    with pytest.raises(InputError, match="density: given 0; allowed above 0"):
        network().with_weight_density(0)


def test_a_stream_keeps_its_density() -> None:
    stream = network().with_weight_density(0.25)
    assert stream_from_json(stream_to_json(stream), name="x") == stream
    assert "density" not in stream_to_json(network())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kept": 4, "of": 4, "index_bits": 2}, "kept: given 4 of 4; allowed less than of"),
        ({"kept": 2, "of": 4, "index_bits": 2, "most_speedup": 3}, "most_speedup: given 3 beside 2 of 4"),
    ],
)
def test_faults_are_said(given: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        EDGE.with_(**{"matrix.sparsity": given})
    with pytest.raises(InputError, match="sparsity: given beside scratchpads"):
        load_machine("eyeriss").with_(**{"matrix.sparsity": {"index_bits": 2}})
