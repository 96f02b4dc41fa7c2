"""Convolutions that keep the rows which the next tile needs: right results, no halo loaded twice, room for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import simulate
from tilewright.sim.dataflows.gemm.kept_halo import KEPT_HALO, refusal, whole_tiling
from tilewright.sim.dataflows.gemm.lower import GEMM
from tilewright.sim.dataflows.gemm.numbers import convolution, run_product_on_numbers
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import GemmLayer

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4, "dram.burst_bytes": 1})


def a_conv(
    size: int, kernel: int, stride: int, pad: int, *, channels: int = 2, n: int = 5, groups: int = 1
) -> GemmLayer:
    out = (size + 2 * pad - kernel) // stride + 1
    window = ConvWindow(size, size + 1, out, out, kernel, kernel, stride, stride, pad_top=pad, pad_left=pad)
    return GemmLayer(
        name="conv", groups=groups, m=out * out, k=kernel * kernel * channels, n=n, a_bits=8, b_bits=8, out_bits=8,
        accumulator_bits=32, compute_format="int8", window=window,
    )  # fmt: skip


def tiling_of(layer: GemmLayer, rows: int, n: int, **more: int) -> dict[str, int]:
    assert layer.window is not None
    return (
        {"m": min(layer.m, rows * layer.window.out_width), "n": min(n, layer.n), "depth": 2, "outputs": 2}
        | {"prefetched": 0}
        | more
    )


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(3, 11), kernel=st.integers(2, 5), stride=st.integers(1, 3), pad=st.integers(0, 2),
    rows=st.integers(1, 5), n=st.integers(1, 5), groups=st.integers(1, 2), depth=st.integers(1, 3),
)  # fmt: skip
def test_results_are_right_and_every_row_is_loaded_once_a_pass(
    size: int, kernel: int, stride: int, pad: int, rows: int, n: int, groups: int, depth: int
) -> None:
    assume(size + 2 * pad >= kernel > stride and pad < kernel)
    layer = a_conv(size, kernel, stride, pad, groups=groups)
    window = layer.window
    assert window is not None
    tiling = tiling_of(layer, rows, n, depth=depth)
    random = np.random.default_rng(1)
    a = random.normal(size=(groups, 1, window.in_height, window.in_width, 2))
    b = random.normal(size=(groups, layer.k, layer.n))
    expected = np.stack([convolution(window, x, w) for x, w in zip(a, b, strict=True)])
    assert np.allclose(run_product_on_numbers(layer, EDGE, tiling, a, b, [], dataflow=KEPT_HALO), expected)
    found = evaluate(KEPT_HALO, layer, EDGE, tiling)
    plain = evaluate(GEMM, layer, EDGE, whole_tiling(layer, tiling))
    assert found.dram_read_bytes <= plain.dram_read_bytes
    passes = groups * -(-layer.n // tiling["n"])
    n_rows = found.dram_read_bytes - groups * layer.k * layer.n
    row_bytes = window.slab_at(0, window.out_width).columns * 2
    out_rows = tiling["m"] // window.out_width
    assert n_rows <= passes * row_bytes * (window.in_height + out_rows * stride + 1)
    assert found.cycles >= found.lower_bound.cycles


def test_the_bytes_of_a_map_by_hand() -> None:
    """3 x 3 over 16 rows of 17 x 2 in tiles of 4 rows: 5, 4, 4 and 3 rows, where gemm loads 5, 6, 6, 5."""
    layer = a_conv(16, 3, 1, 1)
    tiling = tiling_of(layer, 4, 5)
    weights, row = layer.k * layer.n, 17 * 2
    assert evaluate(KEPT_HALO, layer, EDGE, tiling).dram_read_bytes == weights + 16 * row
    assert evaluate(GEMM, layer, EDGE, whole_tiling(layer, tiling)).dram_read_bytes == weights + 22 * row


def test_the_halo_takes_room() -> None:
    layer = a_conv(16, 3, 1, 1)
    tiling = tiling_of(layer, 4, 5)
    need = sum(evaluate(KEPT_HALO, layer, EDGE, tiling).peak_buffer_bytes.values())
    assert need == sum(evaluate(GEMM, layer, EDGE, whole_tiling(layer, tiling)).peak_buffer_bytes.values()) + 2 * 17 * 2
    evaluate(KEPT_HALO, layer, EDGE.with_(**{"buffers.l1.capacity_kib": need / 1024}), tiling)
    with pytest.raises(MappingError):
        evaluate(KEPT_HALO, layer, EDGE.with_(**{"buffers.l1.capacity_kib": (need - 1) / 1024}), tiling)


def test_its_best_moves_fewer_bytes_where_room_is_short() -> None:
    machine = load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": 24})
    text = "conv:in=32x56x56,out_channels=32,kernel=3,padding=1,a_format=int8,b_format=int8"
    kept, plain = (simulate(text, machine, flow, objective="energy") for flow in ("kept_halo", "gemm"))
    assert kept.dram_bytes < plain.dram_bytes and kept.energy_pj < plain.energy_pj


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (a_conv(8, 1, 1, 0), "needs windows that have rows in common"),
        (a_conv(8, 2, 2, 0), "needs windows that have rows in common"),
    ],
)
def test_what_has_no_halo_is_refused(layer: GemmLayer, said: str) -> None:
    assert refusal(layer, EDGE) == said
    with pytest.raises(InputError, match=said):
        evaluate(KEPT_HALO, layer, EDGE, tiling_of(layer, 2, 5))
