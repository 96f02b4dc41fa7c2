"""What goes on beside an attention: what an earlier step left, lists that are chosen, tokens in another order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import simulate
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.lowering.evaluation import build_phase, evaluate
from tilewright.sim.lowering.mapped_work import mapped_work
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.sim.result import SimulationResult
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import reference_attention
from tilewright.workloads.load import load_workload
from tilewright.workloads.masks.lists import TokenOrder

FLOWS = ("flash2", "fusemax", "mas")
EDGE = load_machine("edge-16x16")
TILES = "sliding_tile:canvas=4x8x8,tile=2x4x4,window=2x4x8"


def _layer(text: str) -> AttentionLayer:
    layer = load_workload(f"attention:{text}")
    assert isinstance(layer, AttentionLayer)
    return layer


def _tiling(flow: str, **tiles: int) -> dict[str, int]:
    more = {"fusemax": {"rows": 2**20, "interleave": 1}, "mas": {"overwrite": 0}}.get(flow, {})
    return {"query": 16, "key": 16, "depth": 2, "resident": 0, **more, **tiles}


def _run(text: str, flow: str, n_cores: int = 1, **tiles: int) -> SimulationResult:
    return evaluate(get_dataflow(flow), _layer(text), EDGE.with_(n_cores=n_cores), _tiling(flow, **tiles))


def _macs(text: str, flow: str, n_cores: int = 1) -> int:
    dataflow = get_dataflow(flow)
    costs = dataflow.costs(_layer(text), EDGE.with_(n_cores=n_cores))
    return mapped_work([build_phase(dataflow.phases[0], costs, _tiling(flow))]).counters.macs.get("fp16", 0)


@given(
    st.sampled_from(FLOWS), st.integers(1, 30), st.integers(0, 20), st.sampled_from(["none", "causal", "banded"]),
    st.booleans(), st.booleans(), st.sampled_from([1, 3, 16]), st.sampled_from([1, 5, 16]),
)  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_what_is_cached_on_numbers(
    flow: str, rows: int, more_keys: int, mask: Any, residual: bool, ratios: bool, query: int, key: int
) -> None:
    layer = AttentionLayer(
        name="drawn", batch=2, query_heads=2, kv_heads=1, query_len=rows, key_len=rows + more_keys, head_dim=3,
        value_dim=2, mask=mask, window_left=4 if mask == "banded" else None,
        residual_format="fp16" if residual else "", ratios=ratios,
    )  # fmt: skip
    random = np.random.default_rng(3)
    q = random.standard_normal((2, 2, rows, 3))
    k, v = (random.standard_normal((2, 1, rows + more_keys, width)) for width in (3, 2))
    cached: dict[str, Any] = {"residual": random.standard_normal((2, 2, rows, 2))} if residual else {}
    cached |= {"ratios": random.random((2, 2, rows))} if ratios else {}
    tiling = _tiling(flow, query=min(query, rows), key=min(key, rows + more_keys))
    found = run_on_numbers(get_dataflow(flow), layer, EDGE, tiling, q, k, v, **cached)
    np.testing.assert_allclose(found, reference_attention(layer, q, k, v, **cached), rtol=1e-9, atol=1e-12)
    result = evaluate(get_dataflow(flow), layer, EDGE, tiling)
    assert result.cycles >= result.lower_bound.cycles


@pytest.mark.parametrize("flow", FLOWS)
def test_what_is_cached_is_read_once_and_costs_no_product(flow: str) -> None:
    text = "heads=2,seq=256,head_dim=32,mask=banded,window_left=32,window_right=32"
    plain, other = _run(text, flow), _run(f"{text},residual_format=fp16,ratios=true", flow)
    n_values = 2 * 256 * 32
    assert other.dram_bytes - plain.dram_bytes == 2 * n_values + 4 * 2 * 256
    assert _macs(f"{text},residual_format=fp16,ratios=true", flow) == _macs(text, flow)
    assert other.cycles > plain.cycles


def test_others_refuse_what_is_cached() -> None:
    with pytest.raises(InputError, match="adds nothing that an earlier step left"):
        simulate(_layer("heads=2,seq=64,head_dim=32,residual_format=fp16"), EDGE, "flat")


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("n_cores", [1, 3])
def test_copies_move_each_tensor_twice(flow: str, n_cores: int) -> None:
    """Each of Q, K, V and O is read and written once more, and three bursts on each core mark where this begins."""
    text = f"heads=3,seq=256,head_dim=32,mask={TILES}"
    plain, copied = _run(text, flow, n_cores), _run(f"{text},reorder=copy", flow, n_cores)
    burst = EDGE.dram.burst_bytes
    least = 8 * 3 * 256 * 32 * 2 + 3 * n_cores * burst
    extra = copied.dram_bytes - plain.dram_bytes
    if n_cores == 1:
        assert extra == least
    assert least <= extra <= least + n_cores * 8 * 4 * 32 * 2  # whole runs of four tokens
    assert copied.cycles > plain.cycles
    assert copied.cycles >= copied.lower_bound.cycles > plain.lower_bound.cycles


def test_gathered_tiles_cost_rows_of_the_dram() -> None:
    """The same bytes; runs of four tokens open more rows than whole tiles do, and take longer."""
    machine = EDGE.with_(**{"dram.detail": "row_buffer"})
    text = f"heads=3,seq=256,head_dim=32,mask={TILES}"
    plain, gathered = (
        evaluate(get_dataflow("mas"), _layer(text + more), machine, _tiling("mas", query=32, key=32))
        for more in ("", ",reorder=in_place")
    )
    assert gathered.dram_bytes == plain.dram_bytes
    assert gathered.cycles > plain.cycles


@given(
    st.sampled_from(FLOWS), st.integers(1, 4), st.sampled_from([0.1, 0.5]), st.sampled_from(["top_blocks", "threshold"])
)
@settings(max_examples=12, deadline=None)
def test_choosing_is_work_of_the_run(flow: str, n_cores: int, density: float, family: str) -> None:
    text = f"heads=2,seq=200,head_dim=32,mask={family}:density={density},block=16"
    text += ",keys=16" if family == "threshold" else ""
    plain, chosen = _run(text, flow, n_cores), _run(f"{text},choosing=true", flow, n_cores)
    layer = _layer(text)
    assert layer.blocks is not None and layer.blocks.selection is not None
    what = layer.blocks.selection
    extra = _macs(f"{text},choosing=true", flow, n_cores) - _macs(text, flow, n_cores)
    assert what.macs <= extra <= what.macs + n_cores * layer.head_dim * layer.blocks.n_block_keys
    read = chosen.figures.dram_read_bytes - plain.figures.dram_read_bytes
    assert layer.query_bytes + layer.key_bytes <= read
    assert chosen.lower_bound.cycles > plain.lower_bound.cycles
    assert plain.cycles < chosen.cycles
    assert chosen.cycles >= chosen.lower_bound.cycles


def test_an_indexer_reads_its_own_operands_and_multiplies_in_its_own_format() -> None:
    text = "heads=2,seq=64,head_dim=32,mask=top_tokens:keep=8,index_heads=4,index_dim=16"
    machine = load_machine("flat-cloud")
    tiling = _tiling("flash2", query=1, key=1)
    plain, chosen = (
        evaluate(get_dataflow("flash2"), _layer(text + more), machine, tiling) for more in ("", ",choosing=true")
    )
    assert chosen.cycles > plain.cycles


@pytest.mark.parametrize(
    ("mask", "order"),
    [
        ("sliding_tile:canvas=4x8x8,tile=2x4x4,window=2x4x8", TokenOrder(4, 8)),
        ("sliding_tile:canvas=4x8x8,tile=2x4x8,window=2x4x8", TokenOrder(32, 64)),
        ("sliding_tile:canvas=4x8x8,tile=1x4x8,window=1x4x8", None),
        ("spatial_temporal:frames=8,spatial=1,near=1,block=16", TokenOrder(1, 32)),
    ],
)
def test_order_of_tokens(mask: str, order: TokenOrder | None) -> None:
    layer = _layer(f"heads=2,seq=256,head_dim=32,mask={mask}")
    assert layer.blocks is not None
    assert layer.blocks.order == order


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mask=band:density=0.2,block=16,reorder=copy", "reorder: needs a mask over tokens in an order of its own"),
        ("reorder=copy", "reorder: needs a mask"),
        ("reorder=sort", "unknown reorder"),
        ("choosing=true", "choosing: needs lists that are chosen"),
        ("mask=band:density=0.2,block=16,choosing=true", "choosing: needs lists that are chosen"),
        ("residual_format=fp17", "residual_format"),
        ("ratios=perhaps", "ratios"),
    ],
)
def test_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        _layer(f"heads=2,seq=256,head_dim=32,{text}")
    assert "\n" not in str(error.value)


def test_lists_of_all_need_neither_choice_nor_order() -> None:
    whole = _layer("heads=2,seq=256,head_dim=32,mask=top_blocks:density=1,block=16,choosing=true")
    assert whole.with_plain_mask() == replace(_layer("heads=2,seq=256,head_dim=32"), name=whole.name)
