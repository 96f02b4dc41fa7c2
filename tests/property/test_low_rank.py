"""Attention on factors of low rank, on numbers: any sizes and any tiling give it, with every slot watched."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models.load import load_machine
from tilewright.sim.dataflows.low_rank.numbers import run_low_rank_on_numbers
from tilewright.workloads.low_rank import LowRankAttentionLayer

EDGE = load_machine("edge-16x16")


@st.composite
def layers(draw: st.DrawFn) -> tuple[LowRankAttentionLayer, dict[str, int]]:
    def of(least: int, most: int) -> int:
        return draw(st.integers(least, most))

    layer = LowRankAttentionLayer(
        name="any",
        groups=of(1, 2),
        heads=of(1, 3),
        query_len=of(1, 14),
        key_len=of(1, 20),
        rank=of(1, 6),
        head_dim=of(1, 6),
        value_dim=of(1, 6),
        input_bits=16,
        factor_bits=16,
        out_bits=16,
        compute_format="fp16",
    )
    tiling = {"query": of(1, layer.query_len), "key": of(1, layer.key_len), "depth": of(2, 4), "kept": of(0, 1)}
    return layer, tiling


@settings(max_examples=25, deadline=None)
@given(layers())
def test_any_tiling_gives_the_attention(drawn: tuple[LowRankAttentionLayer, dict[str, int]]) -> None:
    layer, tiling = drawn
    numbers = np.random.default_rng(layer.query_len + 31 * layer.key_len)
    lengths = {"q": layer.query_len, "k": layer.key_len, "v": layer.key_len}
    widths = {"q": layer.head_dim, "k": layer.head_dim, "v": layer.value_dim}
    p, u, b = (
        {one: numbers.standard_normal(shape(one)) for one in "qkv"}
        for shape in (
            lambda one: (layer.groups, lengths[one], layer.rank),
            lambda one: (layer.groups, layer.heads, widths[one], layer.rank),
            lambda one: (layer.groups, layer.heads, widths[one]),
        )
    )
    found = run_low_rank_on_numbers(layer, EDGE, tiling, p, u, b)
    made: dict[str, Any] = {one: np.einsum("glr,ghdr->ghld", p[one], u[one]) + b[one][:, :, None] for one in "qkv"}
    scores = made["q"] @ made["k"].swapaxes(2, 3) / math.sqrt(layer.head_dim)
    powers = np.exp(scores - scores.max(axis=3, keepdims=True))
    wanted = powers @ made["v"] / powers.sum(axis=3, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11)
