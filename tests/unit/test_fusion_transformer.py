"""Fused blocks of transformers: found, priced, and the same numbers as the network."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.sim.fusion.fused_run import simulate_scheme
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.graph.transformer import transformer_blocks
from tilewright.sim.fusion.line_buffers.program import fused_program
from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.sim.fusion.schemes.brr import BufferReduction
from tilewright.sim.fusion.slabs.numbers import run_slabs_on_numbers
from tilewright.units import KIB, MIB
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import EncoderConfig, add_post_norm_layer, add_pre_norm_layer

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
ROOM = 2304 * KIB
CONFIG = EncoderConfig(hidden=6, heads=2, intermediate=10)


def encoder(*, post_norm: bool, batch: int = 2, seq: int = 5) -> OperatorStream:
    b = Layers("encoder")
    x = b.elementwise("relu", b.input("tokens", (batch, seq, CONFIG.hidden)), name="before")
    add = add_post_norm_layer if post_norm else add_pre_norm_layer
    return b.finish([b.elementwise("relu", add(b, x, CONFIG), name="behind")])


@pytest.mark.parametrize(
    ("post_norm", "kind"),
    [
        *((True, kind) for kind in ("attention", "mlp", "behind", "layer")),
        *((False, kind) for kind in ("attention", "mlp", "layer")),
    ],
)
@pytest.mark.parametrize(("capacity_bytes", "channels"), [(MIB, 32), (500, 4), (1, 3)])
def test_a_fused_block_computes_the_network(post_norm, kind, capacity_bytes, channels):
    stream = encoder(post_norm=post_norm)
    graph = fusion_graph(stream)
    blocks = [block for block in transformer_blocks(graph) if block.kind == kind]
    assert blocks
    values = random_values(stream, seed=1)
    wanted = network_on_numbers(stream, values)
    rules = BufferReduction(capacity_bytes=capacity_bytes, piece_channels=channels)
    for block in blocks:
        rest = [node.bit for node in graph.nodes if not node.bit & block.mask]
        known = dict(values)
        for mask in graph.order([block.mask, *rest]):
            known |= run_slabs_on_numbers(stream, graph, mask, EDGE, known, rules=rules)
        np.testing.assert_allclose(known[stream.outputs[0]], wanted[stream.outputs[0]], rtol=1e-9)


def test_the_reference_is_the_textbook_encoder():
    stream = encoder(post_norm=False, batch=1)
    values = random_values(stream, seed=3)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return (x - x.mean(axis=-1, keepdims=True)) / spread * values[f"{name}.weight"] + values[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    x = np.maximum(values["tokens"][0], 0)
    q, k, v = (linear(norm(x, "norm1"), f"attention.{name}") for name in ("query", "key", "value"))
    heads = []
    for head in range(CONFIG.heads):
        own = slice(head * CONFIG.head_dim, (head + 1) * CONFIG.head_dim)
        powers = np.exp(q[:, own] @ k[:, own].T / np.sqrt(CONFIG.head_dim))
        heads.append(powers / powers.sum(axis=1, keepdims=True) @ v[:, own])
    x = x + linear(np.concatenate(heads, axis=1), "attention.output")
    y = linear(norm(x, "norm2"), "mlp.up")
    y = y * 0.5 * (1 + np.tanh(0.7978845608 * (y + 0.044715 * y**3)))
    x = np.maximum(x + linear(y, "mlp.down"), 0)
    np.testing.assert_allclose(network_on_numbers(stream, values)[stream.outputs[0]][0], x, rtol=1e-9)


def test_a_whole_layer_of_bert_moves_its_tensors_once_in_a_sixth_of_its_weights():
    stream = load_network("bert-base")
    graph = fusion_graph(stream)
    layer = [block for block in transformer_blocks(graph) if block.kind == "layer"][1]
    scheme = get_scheme("brr", ROOM)
    cost = scheme.cost(graph, layer.mask)
    weights = sum(graph.nodes[i].weight_bytes for i in members(layer.mask))
    assert cost.valid(ROOM)
    assert cost.weight_bytes == weights
    assert cost.feature_map_bytes == 2 * 128 * 768 * 2  # fp16 in and out
    alone = sum(scheme.cost(graph, graph.nodes[i].bit).dram_bytes for i in members(layer.mask))
    assert cost.dram_bytes < 0.7 * alone
    machine = load_machine("edge-16x16")
    result = simulate_scheme(BufferReduction(capacity_bytes=ROOM), stream, graph, layer.mask, machine)
    assert result.peak_buffer_bytes == cost.buffer_bytes
    assert cost.dram_bytes <= result.dram_read_bytes + result.dram_write_bytes < cost.dram_bytes + 64 * KIB
    assert result.matrix_utilization > 0.9


def test_line_buffers_refuse_an_attention():
    stream = encoder(post_norm=True)
    graph = fusion_graph(stream)
    block = next(block for block in transformer_blocks(graph) if block.kind == "attention")
    assert "does not run row by row" in str(get_scheme("lbdf", MIB).cost(graph, block.mask).reason)
    with pytest.raises(InputError, match="attention, products of activations and look-ups"):
        fused_program(stream, graph, block.mask, EDGE)
