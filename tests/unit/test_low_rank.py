"""Attention on factors of low rank (FlashSVD): on numbers, what it moves and holds, its bound, its cuts for cores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tilewright
from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.sim.dataflows.low_rank.costs import low_rank_bound
from tilewright.sim.dataflows.low_rank.numbers import run_low_rank_on_numbers
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.sim.kinds.layer import layer_of
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.network import load_network
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import EncoderConfig, bert, feed_forward, self_attention

EDGE = load_machine("edge-16x16")
SMALL = {"layers": 2, "batch": 2, "seq": 11}


def layer_named(text: str) -> LowRankAttentionLayer:
    stream = load_network(text)
    layer = layer_of(stream, stream.operators)
    assert isinstance(layer, LowRankAttentionLayer)
    return layer


def plain(rows: dict[str, Any], factors: dict[str, Any], biases: dict[str, Any]) -> Any:
    """Head by head from the definition: whole Q, K and V."""
    groups, heads = factors["q"].shape[:2]
    found = []
    for g, h in np.ndindex(groups, heads):
        q, k, v = (rows[one][g] @ factors[one][g, h].T + biases[one][g, h] for one in "qkv")
        s = q @ k.T / math.sqrt(q.shape[1])
        powers = np.exp(s - s.max(axis=1, keepdims=True))
        found.append(powers @ v / powers.sum(axis=1, keepdims=True))
    return np.reshape(found, (groups, heads, *found[0].shape))


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize(
    ("query_len", "key_len", "heads", "query", "key", "depth"),
    [(13, 11, 3, 5, 4, 2), (7, 9, 1, 7, 9, 2), (9, 23, 2, 4, 4, 3), (6, 10, 2, 3, 5, 2), (1, 12, 2, 1, 4, 2)],
)
def test_tiles_made_on_chip_give_the_attention(
    kept: int, query_len: int, key_len: int, heads: int, query: int, key: int, depth: int
) -> None:
    layer = replace(
        layer_named("low_rank_attention:heads=3,seq=13,rank=6,head_dim=8,batch=2"),
        heads=heads,
        query_len=query_len,
        key_len=key_len,
        value_dim=5,
    )
    numbers = np.random.default_rng(query_len + kept)
    lengths, widths = {"q": query_len, "k": key_len, "v": key_len}, {"q": 8, "k": 8, "v": 5}
    rows = {one: numbers.standard_normal((layer.groups, n, 6)) for one, n in lengths.items()}
    factors = {one: numbers.standard_normal((layer.groups, heads, n, 6)) for one, n in widths.items()}
    biases = {one: numbers.standard_normal((layer.groups, heads, n)) for one, n in widths.items()}
    tiling = {"query": query, "key": key, "depth": depth, "kept": kept}
    found = run_low_rank_on_numbers(layer, EDGE, tiling, rows, factors, biases)
    np.testing.assert_allclose(found, plain(rows, factors, biases), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("own", [0, 1])
def test_the_operator_is_attention_of_the_products_of_its_factors(own: int) -> None:
    stream = load_network(f"low_rank_attention:heads=3,seq=7,rank=5,head_dim=4,batch=2,own={own}")
    values = random_values(stream, 5)
    found = network_on_numbers(stream, values)[stream.outputs[0]].reshape(2, 7, 3, 4)
    p = {one: values[f"P_{one}"].reshape(2, 7, 3 if own else 1, 5) for one in "qkv"}
    u = {one: values[f"U_{one}"].reshape(3, 4, 5) for one in "qkv"}
    b = {one: values[f"b_{one}"].reshape(3, 4) for one in "qkv"}
    for batch, head in np.ndindex(2, 3):
        rows = {one: p[one][batch, :, head if own else 0][None] for one in "qkv"}
        factors = {one: u[one][head][None, None] for one in "qkv"}
        biases = {one: b[one][head][None, None] for one in "qkv"}
        np.testing.assert_allclose(found[batch, :, head], plain(rows, factors, biases)[0, 0], rtol=1e-10)


def test_kept_rows_move_once_and_what_is_made_never() -> None:
    """DRAM bytes are those of P, factors and results alone; the buffer holds rows of P and tiles, to the byte."""
    text = "low_rank_attention:heads=4,seq=96,rank=16,head_dim=32"
    layer = layer_named(text)
    kept = tilewright.simulate(text, EDGE, tiling={"query": 32, "key": 48, "depth": 2, "kept": 1})
    inputs, factors, results = 3 * 96 * 16 * 2, 4 * 17 * 96 * 2, 4 * 96 * 32 * 2
    assert layer.compulsory_bytes == inputs + factors + results
    assert kept.dram_read_bytes == inputs + factors and kept.dram_write_bytes == results
    rows, tiles = 3 * 96 * 16 * 2, (32 + 48 + 48) * 32 * 2
    scores, sums = 2 * 32 * 48 * 2, 2 * 32 * 32 * 4 + 4 * 32 * 4
    assert kept.peak_buffer_bytes == {"l1": 2 * 17 * 96 * 2 + rows + tiles + scores + sums}
    anew = tilewright.simulate(text, EDGE, tiling={"query": 32, "key": 48, "depth": 2, "kept": 0})
    blocks = 4 * 3  # heads, blocks of queries
    assert anew.dram_read_bytes == factors + 4 * 96 * 16 * 2 + blocks * 2 * 96 * 16 * 2
    assert sum(anew.peak_buffer_bytes.values()) == sum(kept.peak_buffer_bytes.values()) - 96 * 16 * 2 + 2 * 32 * 16 * 2


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_no_run_is_faster_than_its_bound(cores: int) -> None:
    text = "low_rank_attention:heads=3,seq=70,rank=9,head_dim=16"
    machine = EDGE.with_(n_cores=cores)
    result = tilewright.simulate(text, machine)
    bound = low_rank_bound(layer_named(text), machine)
    assert result.cycles >= max(bound.matrix_cycles, bound.vector_cycles, bound.dram_cycles)


@pytest.mark.parametrize("head_rank", [0, 5])
def test_bert_of_low_rank_with_its_attention_fused_is_the_same_network(head_rank: int) -> None:
    """On numbers, and in parameters; what is made on chip is neither written nor read."""
    apart, fused = (
        bert(
            Layers("bert"),
            EncoderConfig(hidden=24, heads=3, intermediate=40, rank=7, head_rank=head_rank, fused=fused),
            **SMALL,
        )
        for fused in (False, True)
    )
    assert apart.n_parameters == fused.n_parameters and apart.n_weights == fused.n_weights
    values = random_values(apart, 2)
    one, other = network_on_numbers(apart, values), network_on_numbers(fused, values)
    for name, mine in zip(apart.outputs, fused.outputs, strict=True):
        np.testing.assert_allclose(other[mine], one[name], rtol=1e-9, atol=1e-12)
    less = sum(map(apart.write_bytes, apart.operators)) - sum(map(fused.write_bytes, fused.operators))
    assert less == 2 * 3 * 2 * 11 * 24 * 2  # layers, Q K V, batch, tokens, columns, bytes


@pytest.mark.parametrize(("half", "batch", "seq"), [("mlp", 1, 13), ("mlp", 2, 7), ("attention", 2, 9)])
def test_halves_of_a_layer_as_one_group_keep_what_passes_on_chip(half: str, batch: int, seq: int) -> None:
    """In slabs, on odd shapes, in as little room as the scheme says; only inputs, weights and the result move."""
    b = Layers(half)
    x = b.input("x", (batch, seq, 20))
    config = EncoderConfig(hidden=20, heads=4, intermediate=52, rank=7)
    stream = b.finish([{"mlp": feed_forward, "attention": self_attention}[half](b, x, config)])
    graph = fusion_graph(stream)
    group = (1 << len(graph.nodes)) - 1
    least = get_scheme("brr", 10_000).cost(graph, group).buffer_bytes
    scheme = get_scheme("brr", least)
    cost = scheme.cost(graph, group)
    size = batch * seq * 20 * 2
    assert (cost.dram_read_bytes, cost.dram_write_bytes) == (size, size) and cost.buffer_bytes <= least
    values = random_values(stream, 4)
    found = next(iter(scheme.programs(stream, graph, group, EDGE))).on_numbers(values)
    wanted = network_on_numbers(stream, values)
    for name in stream.outputs:
        np.testing.assert_allclose(found[name].reshape(wanted[name].shape), wanted[name], rtol=1e-9, atol=1e-10)


def test_what_does_not_fit_or_is_not_there_is_told() -> None:
    text = "low_rank_attention:heads=4,seq=96,rank=16,head_dim=32"
    with pytest.raises(InputError, match="needs 7,124 bytes of buffer l1"):
        tilewright.simulate(text, EDGE.with_(**{"buffers.l1.capacity_kib": 1}))
    with pytest.raises((InputError, MappingError), match="int4"):
        tilewright.simulate(f"{text},format=int4", EDGE)
    with pytest.raises(InputError, match="rank: given 0"):
        replace(layer_named(text), rank=0)
