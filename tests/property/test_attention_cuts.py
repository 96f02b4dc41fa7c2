"""Attention cut for many cores: pieces compute the layer, no run beats its bound, more cores are never slower."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import LinkSpec, MachineSpec
from tilewright.search.tiling import best_tiling
from tilewright.search.workload import pieces
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import reference_attention

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
LAYER = AttentionLayer(
    name="a", batch=1, query_heads=4, kv_heads=1, query_len=11, key_len=17, head_dim=8, value_dim=8
)  # fmt: skip


def linked(n_cores: int) -> MachineSpec:
    return replace(EDGE, n_cores=n_cores, links=LinkSpec(kind="bus", bytes_per_cycle=64, multicast=True))


@pytest.mark.parametrize("name", ["flash2", "mas", "fusemax"])
@pytest.mark.parametrize("mask", ["none", "causal"])
def test_pieces_compute_the_layer(name: str, mask: str) -> None:
    layer = replace(LAYER, mask=mask)  # type: ignore[arg-type]
    flow, random = get_dataflow(name), np.random.default_rng(0)
    q, k, v = (random.normal(size=(1, heads, n, 8)) for heads, n in ((4, 11), (1, 17), (1, 17)))
    wanted = reference_attention(layer, q, k, v)
    cuts = pieces(layer, linked(16), flow)
    assert len(cuts) == (11 if mask == "none" else 3)
    for piece in cuts[::2]:
        blocks, heads = piece.batch, piece.kv_heads
        rows = np.pad(q, ((0, 0), (0, 0), (0, blocks * piece.query_len - 11), (0, 0)))
        rows = rows.reshape(4, blocks, piece.query_len, 8).swapaxes(0, 1)
        keys, values = (np.tile(x, (blocks, heads, 1, 1)) for x in (k, v))
        tiling = {p.name: p.least_value(piece, EDGE) for p in flow.parameters}
        found = run_on_numbers(flow, piece, EDGE, tiling, rows, keys, values)
        found = found.swapaxes(0, 1).reshape(1, 4, blocks * piece.query_len, 8)[:, :, :11]
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_no_piece_beats_the_bound_and_more_cores_are_never_slower() -> None:
    flow, best = get_dataflow("flash2"), []
    for n_cores in (1, 2, 4, 8):
        machine, cycles = linked(n_cores), []
        for piece in pieces(LAYER, machine, flow):
            result = evaluate(flow, piece, machine, best_tiling(flow, piece, machine).tiling)
            assert flow.family.least(piece, machine) <= result.cycles
            assert flow.bound(LAYER, machine) == result.lower_bound
            assert result.cycles >= result.lower_bound.cycles
            cycles.append(result.cycles)
        best.append(min(cycles))
    assert best == sorted(best, reverse=True)
    assert best[-1] < 0.6 * best[0]


def test_what_is_not_cut() -> None:
    assert pieces(LAYER, EDGE.with_(n_cores=4)) == (LAYER,)  # nothing is shared there
    assert LAYER.cuts(1) == (LAYER,)
    decoding = replace(LAYER, query_len=1, query_heads=8, kv_heads=2)
    assert [cut.kv_heads for cut in decoding.cuts(8)] == [8, 4, 2]
    with_bias = replace(LAYER, bias_batch=1, bias_heads=1, bias_rows=11)
    assert {cut.batch for cut in with_bias.cuts(64)} == {1}
    with pytest.raises(InputError):
        replace(LAYER, kv_heads=3)
