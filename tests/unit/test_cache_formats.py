"""The format of a cache is what is sized, read and written: exactly, by layer, heads and tokens."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tilewright.errors import InputError
from tilewright.search.api import simulate_network
from tilewright.units import ceil_div
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.network import load_network, network_names, network_options
from tilewright.workloads.runs.cache import CachedTensor, cached_bytes, cached_tensors
from tilewright.workloads.runs.streams import with_cache_formats
from tilewright.workloads.stream.graph import OperatorStream

#: Layers with a cache, KV heads and their width.
CACHED = {
    "llama-3-8b": (32, 8, 128),
    "llama-3-8b-block": (1, 8, 128),
    "llama-3.2-1b": (16, 8, 64),
    "llama-3.2-3b": (28, 8, 128),
    "mamba2-attention-2.7b": (6, 30, 128),
    "jamba-v0.1": (4, 8, 128),
    "zamba2-2.7b": (9, 32, 160),
}
#: Bits of a value, with its part of scales and zero points.
BITS = {
    "fp16": Fraction(16),
    "int8": Fraction(8),
    "int4": Fraction(4),
    "fp8_e4m3": Fraction(8),
    "int8-g32": 8 + Fraction(16, 32),
    "int4-g32-asym": 4 + Fraction(16 + 4, 32),
    "mxfp4": 4 + Fraction(8, 32),
}


def _pair(network: str, context: int, batch: int, keys: str, values: str) -> tuple[OperatorStream, OperatorStream]:
    first, second = (
        with_cache_formats(load_network(f"{network}:decode=1,context={n},batch={batch}"), keys=keys, values=values)
        for n in (context, context + 1)
    )
    return first, second


def test_every_network_with_a_cache_is_here() -> None:
    assert {name for name in network_names() if "context" in network_options(name)} == set(CACHED)


@pytest.mark.parametrize("network", CACHED)
@pytest.mark.parametrize(
    ("keys", "values"), [("fp16", "fp16"), ("int8", "int4"), ("int8-g32", "int4-g32-asym"), ("mxfp4", "fp8_e4m3")]
)
def test_bytes_are_layers_times_heads_times_tokens(network: str, keys: str, values: str) -> None:
    n_layers, heads, width = CACHED[network]
    context, batch = 37, 2
    stream, longer = _pair(network, context, batch, keys, values)
    per_token = n_layers * heads * width * (BITS[keys] + BITS[values])
    tensors = [one for one in cached_tensors(stream, longer, n_sequences=batch) if one.axis is not None]
    assert cached_bytes(tensors, context, batch) == batch * context * per_token / 8
    assert sum(one.values_per_token for one in tensors) == n_layers * 2 * heads * width
    attentions = [attention_layer(op, stream) for op in stream.operators if op.kind == "attention"]
    assert len(attentions) == n_layers
    read = sum(layer.key_bytes + layer.value_bytes for layer in attentions)
    assert read == batch * (context + 1) * per_token / 8
    written = sum(stream.write_bytes(op) for op in stream.operators if op.name.partition("append")[1])
    assert written == batch * per_token / 8


@pytest.mark.parametrize("network", ["llama-3-8b-block"])
def test_the_dram_sees_it(network: str) -> None:
    """On a machine, a step's reads differ by exactly what keys and values have less."""
    n_layers, heads, width = CACHED[network]
    context = 63
    wide, narrow = (
        simulate_network(f"{network}:decode=1,context={context}", "edge-16x16", kv_cache=name)
        for name in ("fp16", "int8")
    )
    saved = n_layers * 2 * (context + 1) * heads * width
    assert wide.dram_read_bytes - narrow.dram_read_bytes == saved
    assert wide.dram_write_bytes - narrow.dram_write_bytes == 2 * heads * width


def test_blocks_windows_and_the_newest_tokens() -> None:
    one = CachedTensor(
        name="keys", shape=(2, 5, 64), axis=1, n_sequences=2, number_format="int4-g32", made_format="fp16", block=16
    )
    per_token = 64 * (4 + Fraction(16, 32)) / 8
    for n in (1, 15, 16, 17, 100):
        assert one.n_bytes(n, 3) == 3 * ceil_div(n, 16) * 16 * per_token
    from dataclasses import replace

    seen = replace(one, window=40, block=1)
    assert [seen.n_bytes(n) for n in (39, 40, 4000)] == [39 * per_token, 40 * per_token, 40 * per_token]
    newest = replace(one, residual=8, block=1)
    assert newest.n_bytes(5) == 5 * 64 * 2 and newest.n_bytes(50) == 42 * per_token + 8 * 64 * 2
    state = replace(one, axis=None)
    assert state.n_bytes(1) == state.n_bytes(1000) == 5 * 64 * (4 + Fraction(16, 32)) / 8


def test_groups_lie_in_one_head() -> None:
    stream = load_network("llama-3.2-1b:decode=1,context=8")
    assert with_cache_formats(stream, keys="int4-g128", values=None) == with_cache_formats(
        stream, keys="int4-g64", values=None
    )
    with pytest.raises(InputError, match="groups of 48 do not divide a head of 64"):
        with_cache_formats(stream, keys="int4-g48", values=None)


def test_scaled_formats_are_timed_on_gpus_too() -> None:
    result = simulate_network("llama-3-8b-block:decode=1,context=63", "h100", kv_cache="int8-g32")
    assert result.operators[-1].cycles > 0


def test_the_newest_tokens_are_read_as_they_are_made() -> None:
    context, residual, heads, width = 63, 32, 8, 128
    plain = with_cache_formats(load_network(f"llama-3-8b-block:decode=1,context={context}"), keys="int4", values="int4")
    stream = with_cache_formats(
        load_network(f"llama-3-8b-block:decode=1,context={context}"), keys="int4", values="int4", residual=residual
    )
    (attention,) = (op for op in stream.operators if op.kind == "attention")
    layer = attention_layer(attention, stream)
    kept = (context + 1 - residual) * 4 + residual * 16
    assert layer.key_bytes == layer.value_bytes == heads * width * kept // 8
    assert stream.read_bytes(attention) == layer.query_bytes + 2 * layer.key_bytes
    results = [simulate_network(one, "edge-16x16") for one in (plain, stream)]
    of_token = heads * width * 2
    more = 2 * heads * width * residual * 12 // 8 + 2 * of_token  # as made, and the one that leaves the window
    assert results[1].dram_read_bytes - results[0].dram_read_bytes == more
    assert results[1].dram_write_bytes - results[0].dram_write_bytes == 2 * of_token
    short = with_cache_formats(
        load_network("llama-3-8b-block:decode=1,context=7"), keys="int4", values="int4", residual=residual
    )
    (few,) = (attention_layer(op, short) for op in short.operators if op.kind == "attention")
    assert few.key_bytes == 8 * heads * width * 2


@pytest.mark.parametrize(("number_format", "bits"), [("fp16", 16), ("int8", 8), ("int4-g32", 4.5)])
def test_a_gpu_reads_its_cache_from_the_dram(number_format: str, bits: float) -> None:
    """Appending a token does not bring the rest of the cache into the L2, which weights have passed since."""
    text = "llama-3-8b-block:decode=1,context=8191,batch=4"
    result = simulate_network(text, "h100", kv_cache=number_format)
    (attention,) = (one for one in result.operators if one.kind == "attention")
    assert attention.dram_read_bytes == pytest.approx(4 * 8192 * 2 * 8 * 128 * bits / 8, rel=0.001)
