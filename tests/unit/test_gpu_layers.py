"""Mixtures of experts and latent attention on a GPU: how tokens fall, what tiles waste, what the host hides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.kernels.reading import read_tables
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.sim.gpu.routing import TILE_ROWS, expert_load

HEAD = (
    "kernel_source,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,moe_ep_size,"
    "distribution,latency\n"
)
LAYER = {"hidden": 4096, "inner": 1536, "top_k": 8, "experts": 128, "tensor_parts": 1, "expert_parts": 1}


def layer_ms(family: str = "moe_bf16", skew_milli: int = 0, tokens: int = 1024, **changes: int) -> float:
    shape = {**LAYER, "tokens": tokens, "skew_milli": skew_milli, **changes}
    return kernel_seconds(load_machine("h200"), "experts", family, **shape) * 1e3


def test_tokens_that_fall_evenly_fill_every_expert() -> None:
    tiles, active, rows = expert_load(128, 1, 1024, 8, 0)
    assert active == 128 and rows == 1024 * 8
    assert tiles == tuple(128 * np.ceil(64 / size) for size in TILE_ROWS)
    _, few, rows_of_few = expert_load(256, 1, 1, 8, 0)
    assert few == 8 and rows_of_few == 8
    _, _, part = expert_load(128, 4, 1024, 8, 0)
    assert part == 1024 * 8 / 4


@pytest.mark.parametrize("skew", [1010, 1200])
@pytest.mark.parametrize("tokens", [1, 7, 64, 4096])
def test_a_power_law_loads_one_group_more(skew: int, tokens: int) -> None:
    tiles, active, rows = expert_load(64, 8, tokens, 4, skew)
    assert rows >= tokens * 4 / 8 and active <= 8
    assert list(tiles) == sorted(tiles, reverse=True)  # larger tiles are fewer
    assert all(count * size >= rows for count, size in zip(tiles, TILE_ROWS, strict=True))
    _, _, whole = expert_load(64, 1, tokens, 4, skew)
    assert whole <= tokens * 4 and whole > tokens * 3  # a token goes to an expert once


def test_layers_of_experts_obey_what_binds_them() -> None:
    few, many = layer_ms(tokens=1), layer_ms(tokens=16)
    weights_ms = 3 * 4096 * 1536 * 2 * 8 / 4.8e12 * 1e3
    assert few > weights_ms and many > 10 * weights_ms  # each token has experts of its own
    assert layer_ms(tokens=64) == pytest.approx(layer_ms(tokens=128), rel=0.15)  # all weights are read once
    assert layer_ms(tokens=4096, skew_milli=1200) > layer_ms(tokens=4096)  # tiles that are filled in part
    assert layer_ms("moe_fp8", tokens=16) < 0.65 * layer_ms(tokens=16)
    assert layer_ms(tokens=8192, expert_parts=8) < layer_ms(tokens=8192) / 3


def latent_us(family: str, batch: int, queries: int, keys: int, heads: int = 16) -> float:
    shape = {"batch": batch, "queries": queries, "keys": keys, "heads": heads}
    return kernel_seconds(load_machine("h100"), "latent", family, **shape) * 1e6


def test_short_latent_attention_takes_the_host_s_time() -> None:
    assert latent_us("mla_decode", 1, 1, 1024) == latent_us("mla_decode", 4, 1, 64) == pytest.approx(165, abs=10)
    long = latent_us("mla_decode", 128, 1, 131072)
    read_us = 128 * 131072 * 576 * 2 / 3.35e12 * 1e6  # the latents once, for all heads
    assert read_us < long < 1.3 * read_us
    assert latent_us("mla_prefill", 1, 32768, 32768) > 3 * latent_us("mla_prefill", 1, 16384, 16384)


def test_relatives_of_experts_and_latent_attention_are_known() -> None:
    assert layer_ms("moe_fp8_block") > 0
    assert latent_us("mla_prefill_fp8", 4, 4096, 4096) == pytest.approx(
        latent_us("mla_prefill", 4, 4096, 4096), rel=0.3
    )
    h200 = kernel_seconds(load_machine("h200"), "latent", "mla_decode", batch=64, queries=1, keys=65536, heads=16)
    assert h200 < latent_us("mla_decode", 64, 1, 65536) * 1e-6  # the same kernels with more bandwidth


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a,bfloat16,1,64,64,2,8,1,1,uniform,0.1", "distribution: given uniform; allowed balanced, or power_law_A"),
        ("a,bfloat16,1,64,64,2,8,1,1,power_law_0.5,0.1", "given power_law_0.5; allowed balanced"),
        ("a,bfloat16,1,64,64,2,8,1,3,balanced,0.1", "num_experts: given 8 in 3 parts; allowed a multiple"),
        ("a,bfloat16,0,64,64,2,8,1,1,balanced,0.1", "num_tokens: given 0; allowed whole numbers from 1"),
        ("a,bfloat16,1,64,64,9,8,1,1,balanced,0.1", "topk: given 9 of 8 experts; allowed at most all of them"),
    ],
)
def test_a_bad_table_of_experts_is_said(row: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "h200_moe_vllm_1.csv"
    path.write_text(HEAD + row + "\n")
    with pytest.raises(InputError, match=said):
        read_tables(path)
