"""Dataflows over lists of key blocks: right numbers, exact work, never below the bound, fair shares of cores."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.api import simulate
from tilewright.sim.dataflows.attention.kept import Stretch, dealt_in_stretches
from tilewright.sim.dataflows.attention.listed import dealt, kinds_of
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.lowering.evaluation import build_phase, count_phase, evaluate
from tilewright.sim.lowering.mapped_work import mapped_work
from tilewright.sim.lowering.mapping import DATAFLOWS, get_dataflow
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import reference_attention
from tilewright.workloads.load import load_workload
from tilewright.workloads.masks.family import lists_of
from tilewright.workloads.masks.lists import BlockMask

FLOWS = ("flash2", "fusemax", "mas")
EDGE = load_machine("edge-16x16")


def _layer(text: str) -> AttentionLayer:
    return load_workload(f"attention:{text}")


@st.composite
def layers(draw: st.DrawFn) -> AttentionLayer:
    rows, keys = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    causal = draw(st.booleans())
    keys = max(rows, keys) if causal else keys
    block_rows, block_keys = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    kv_heads, shared = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    shape = ceil_div(rows, block_rows), ceil_div(keys, block_keys)
    allowed = np.ones(shape, dtype=bool)
    if causal:
        last = np.minimum((np.arange(shape[0]) + 1) * block_rows, rows) - 1 + keys - rows
        allowed = np.arange(shape[1])[None] * block_keys <= last[:, None]
    random = np.random.default_rng(draw(st.integers(0, 10**6)))
    share = draw(st.sampled_from([0.0, 0.2, 0.5, 0.9]))
    mask = BlockMask(
        text="drawn", query_len=rows, key_len=keys, block_rows=block_rows, block_keys=block_keys,
        patterns=tuple(lists_of((random.random(shape) < share) & allowed) for _ in range(2)),
        of_head=tuple(int(i) for i in random.integers(0, 2, size=kv_heads * shared)), causal=causal,
    )  # fmt: skip
    return AttentionLayer(
        name="drawn", batch=draw(st.integers(1, 2)), query_heads=kv_heads * shared, kv_heads=kv_heads, query_len=rows,
        key_len=keys, head_dim=3, value_dim=2, mask="blocks", blocks=mask, sinks=draw(st.booleans()),
        soft_cap=draw(st.booleans()), residual_format=draw(st.sampled_from(["", "fp16"])), ratios=draw(st.booleans()),
    )  # fmt: skip


def _tiling(flow: str, layer: AttentionLayer, data: st.DataObject) -> dict[str, int]:
    mask = layer.blocks
    assert mask is not None
    block = mask.block_keys
    most = ceil_div(layer.key_len, block)
    keys = [min(n * block, layer.key_len) for n in range(1, most + 1)]
    keys += [n for n in range(1, block + 1) if block % n == 0 and n <= layer.key_len]
    query = data.draw(st.integers(1, min(mask.block_rows, layer.query_len)))
    tiling = {"query": query, "key": data.draw(st.sampled_from(keys)), "depth": data.draw(st.sampled_from([1, 2, 3]))}
    if flow == "fusemax":
        rows = data.draw(st.integers(1, query))
        tiling |= {"rows": rows if rows < query else 2**20, "interleave": data.draw(st.sampled_from([0, 1]))}
    if flow == "mas":
        tiling["overwrite"] = 0
    divides = block % tiling["key"] == 0 or tiling["key"] == mask.key_len <= block
    return tiling | {"resident": data.draw(st.sampled_from([0, 1, 2])) if divides else 0}


@given(layers(), st.sampled_from(FLOWS), st.data())
@settings(max_examples=25, deadline=None)
def test_lists_on_numbers(layer: AttentionLayer, flow: str, data: st.DataObject) -> None:
    random = np.random.default_rng(5)
    q = random.standard_normal((layer.batch, layer.query_heads, layer.query_len, layer.head_dim))
    k = random.standard_normal((layer.batch, layer.kv_heads, layer.key_len, layer.head_dim))
    v = random.standard_normal((layer.batch, layer.kv_heads, layer.key_len, layer.value_dim))
    more: dict[str, Any] = {"sinks": random.standard_normal(layer.query_heads)} if layer.sinks else {}
    more |= {"soft_cap": 2.0} if layer.soft_cap else {}
    rows = (layer.batch, layer.query_heads, layer.query_len)
    more |= {"residual": random.standard_normal((*rows, layer.value_dim))} if layer.residual_format else {}
    more |= {"ratios": random.random(rows)} if layer.ratios else {}
    tiling = _tiling(flow, layer, data)
    found = run_on_numbers(get_dataflow(flow), layer, EDGE, tiling, q, k, v, **more)
    np.testing.assert_allclose(found, reference_attention(layer, q, k, v, **more), rtol=1e-9, atol=1e-12)


@given(layers(), st.sampled_from(FLOWS), st.integers(1, 5), st.data())
@settings(max_examples=25, deadline=None)
def test_traffic_and_bound(layer: AttentionLayer, flow: str, n_cores: int, data: st.DataObject) -> None:
    machine = EDGE.with_(n_cores=n_cores)
    dataflow, tiling = get_dataflow(flow), _tiling(flow, layer, data)
    result = evaluate(dataflow, layer, machine, tiling)
    assert result.cycles >= result.lower_bound.cycles
    mask = layer.with_plain_mask().blocks
    if mask is None:
        return
    costs = dataflow.costs(layer, machine)
    counted = [count_phase(phase, costs, tiling) for phase in dataflow.phases]
    work = mapped_work([build_phase(phase, costs, tiling) for phase in dataflow.phases])
    assert work.counters.macs.get("fp16", 0) == layer.batch * mask.n_computed_pairs * (3 + 2)
    assert sum(one.channel_bytes for one in counted) == work.channel_bytes
    assert result.cycles >= max(one.matrix_cycles for one in counted)
    assert work.counters.dram_read_bytes + work.counters.dram_write_bytes >= layer.compulsory_bytes


@pytest.mark.parametrize("causal", ["false", "true"])
@pytest.mark.parametrize("flow", FLOWS)
def test_lists_of_all_take_exactly_what_no_lists_take(flow: str, causal: str) -> None:
    lists = _layer(f"heads=3,seq=200,head_dim=32,mask=top_blocks:density=1,block=16,causal={causal}")
    plain = _layer("heads=3,seq=200,head_dim=32" + (",mask=causal" if causal == "true" else ""))
    one, other = (simulate(layer, EDGE, flow) for layer in (lists, plain))
    assert (one.cycles, one.energy_pj, one.dram_bytes, one.tiling) == (
        other.cycles,
        other.energy_pj,
        other.dram_bytes,
        other.tiling,
    )
    almost = _layer(f"heads=3,seq=200,head_dim=32,mask=top_blocks:density=0.5,block=16,causal={causal}")
    assert simulate(almost, EDGE, flow).cycles < one.cycles


@given(layers(), st.sampled_from(FLOWS), st.sampled_from([1, 2]), st.integers(1, 4), st.data())
@settings(max_examples=25, deadline=None)
def test_blocks_that_stay_are_loaded_as_enumeration_says(
    layer: AttentionLayer, flow: str, resident: int, n_cores: int, data: st.DataObject
) -> None:
    """Bytes of K and V, pair by pair of neighbouring row blocks; never more than where nothing stays."""
    layer = replace(layer.with_plain_mask(), sinks=False, residual_format="", ratios=False)
    mask = layer.blocks
    if mask is None:
        return
    most = min(mask.block_keys, mask.key_len)
    key = data.draw(st.sampled_from([n for n in range(1, most + 1) if mask.block_keys % n == 0]))
    tiling = _tiling(flow, layer, data) | {"key": key, "resident": resident}
    machine = EDGE.with_(n_cores=n_cores, **{"dram.burst_bytes": 1})
    costs = get_dataflow(flow).costs(layer, machine)
    n_keys = mask.keys_in(np.arange(mask.n_block_keys)).tolist()
    sizes = [
        sum(costs.load_keys(part).n_bytes + costs.load_values(part).n_bytes for part in _parts(n, key)) for n in n_keys
    ]
    expected = sum(
        n * cores * sum(sizes[block] for block in _brought(layer, stretch, resident))
        for stretches, cores in dealt_in_stretches(layer, n_cores)
        for stretch, n in stretches
    )
    whole = evaluate(get_dataflow(flow), layer, machine, tiling)
    rows = sum(kind.rows * n for kind, n in kinds_of(layer) if kind.keys)
    assert whole.figures.dram_read_bytes == expected + rows * layer.head_dim * 2
    again = evaluate(get_dataflow(flow), layer, machine, tiling | {"resident": 0})
    assert whole.dram_bytes <= again.dram_bytes
    assert whole.cycles >= whole.lower_bound.cycles


def _parts(n_keys: int, key: int) -> list[int]:
    return [min(key, n_keys - first) for first in range(0, n_keys, key)]


def _brought(layer: AttentionLayer, stretch: Stretch, resident: int) -> list[int]:
    """The blocks that come, row block by row block, with what is there before as a set."""
    assert layer.blocks is not None
    there: set[int] = set()
    came: list[int] = []
    for row in range(stretch.first, stretch.stop):
        for pattern in stretch.patterns:
            listed = set(layer.blocks.patterns[pattern].of_row(row).tolist())
            if listed:
                came += listed - there
                there = there | listed if resident == 2 else listed
    return came


def test_gathered_loads_pay_for_bursts_and_rows_of_the_dram() -> None:
    """As many keys in blocks of one: each is whole bursts, and rows of the DRAM are opened more often than for blocks
    of 64 (a key of 24 values is 48 bytes of a burst of 64).
    """
    machine = EDGE.with_(**{"dram.detail": "row_buffer"})
    tiling = {"query": 1, "key": 64, "depth": 2, "resident": 0}
    one, many = (
        evaluate(get_dataflow("flash2"), _layer(f"heads=1,seq=512,head_dim=24,mask={mask}"), machine, tiling)
        for mask in ("top_tokens:keep=64", "top_blocks:keep=1,block=64")
    )
    n_loads = 512 * 64 * 2
    assert one.figures.dram_read_bytes == n_loads * EDGE.dram.burst_bytes + 512 * EDGE.dram.burst_bytes
    assert many.figures.dram_read_bytes == 8 * 64 * 64 * 2 * 48 + 512 * EDGE.dram.burst_bytes
    assert one.cycles > many.cycles


def test_blocks_that_stay_lift_a_machine_short_of_bandwidth() -> None:
    """A sliding window of blocks: each comes once for a head and not for each of its row blocks; 16 rows of the
    same block use it, too.
    """
    layer = _layer("heads=2,seq=2048,head_dim=64,mask=band:density=0.2,block=128")
    slow = EDGE.with_(**{"dram.bandwidth_gb_per_s": 2.0})
    best, anew = simulate(layer, slow, "mas"), simulate(layer, slow, "mas", tiling={"resident": 0})
    assert best.tiling["resident"]
    assert best.dram_bytes == layer.compulsory_bytes
    assert best.cycles < 0.7 * anew.cycles


def test_tiles_that_stay_are_parts_of_one_block() -> None:
    layer = _layer("heads=2,seq=256,head_dim=32,mask=band:density=0.2,block=16")
    with pytest.raises(InputError, match='tile "key": blocks stay on chip'):
        simulate(layer, EDGE, "mas", tiling={"query": 16, "key": 32, "depth": 2, "resident": 1, "overwrite": 0})


def test_only_those_that_follow_lists_take_them() -> None:
    layer = _layer("heads=2,seq=256,head_dim=32,mask=band:density=0.2,block=16")
    for name, flow in DATAFLOWS.items():
        if flow.operator == "attention":
            assert bool(flow.refusal(layer, EDGE)) == (name not in FLOWS)
    with pytest.raises(InputError, match="follows no lists"):
        simulate(layer, EDGE, "flat")


def test_rows_are_dealt_evenly() -> None:
    layer = _layer("heads=5,seq=4096,head_dim=32,mask=threshold:density=0.1,spread=80,block=64")
    total = sum(kind.rows * kind.keys * n for kind, n in kinds_of(layer))
    for n_cores in (1, 2, 3, 7):
        shares = dealt(layer, n_cores)
        assert sum(n for _, n in shares) == n_cores
        loads = [sum(kind.rows * kind.keys * n for kind, n in kinds) for kinds, cores in shares for _ in range(cores)]
        assert sum(loads) == total
        assert max(loads) <= total / n_cores * 1.01


def test_one_long_row_sets_the_pace() -> None:
    blocks = np.zeros((8, 64), dtype=bool)
    blocks[:, 0] = True
    blocks[3] = True
    mask = BlockMask(
        text="uneven", query_len=8 * 16, key_len=64 * 16, block_rows=16, block_keys=16, patterns=(lists_of(blocks),),
        of_head=(0,),
    )  # fmt: skip
    layer = AttentionLayer(
        name="uneven", batch=1, query_heads=1, kv_heads=1, query_len=128, key_len=1024, head_dim=32, value_dim=32,
        mask="blocks", blocks=mask,
    )  # fmt: skip
    tiling = {"query": 16, "key": 64, "depth": 2, "resident": 0}
    one, four = (_cycles(layer, n, tiling) for n in (1, 4))
    alone = replace(layer, blocks=None, mask="none", query_len=16)
    assert _cycles(alone, 1, tiling) <= four < one


@pytest.mark.parametrize("n_cores", [2, 4, 7])
def test_uneven_rows_take_what_an_event_simulation_of_their_dealing_takes(n_cores: int) -> None:
    """Rows longest first, each to the core that is free first; a row takes what one more of it takes on one core."""
    layer = _layer("heads=4,seq=4096,head_dim=32,mask=threshold:density=0.2,spread=60,block=128,keys=128")
    machine = EDGE.with_(**{"n_cores": n_cores, "dram.bandwidth_gb_per_s": 3000.0})
    tiling = {"query": 128, "key": 128, "depth": 2, "resident": 0}
    free = [0.0] * n_cores
    for kind, count in kinds_of(layer):
        times = [_of_rows(kind.keys, n, tiling) for n in (1, 5)]
        for _ in range(count):
            heapq.heapreplace(free, free[0] + (times[1] - times[0]) / 4)
    found = evaluate(get_dataflow("flash2"), layer, machine, tiling)
    assert found.cycles == pytest.approx(max(free), rel=0.02)


def _of_rows(keys: int, n_rows: int, tiling: dict[str, int]) -> int:
    """Cycles of ``n_rows`` blocks of 128 rows that see so many keys, on one core."""
    layer = _layer(f"heads={n_rows},query_len=128,key_len={keys},head_dim=32")
    return evaluate(get_dataflow("flash2"), layer, EDGE.with_(**{"dram.bandwidth_gb_per_s": 3000.0}), tiling).cycles


def _cycles(layer: AttentionLayer, n_cores: int, tiling: dict[str, int]) -> int:
    machine: MachineSpec = EDGE.with_(n_cores=n_cores)
    return evaluate(get_dataflow("flash2"), layer, machine, tiling).cycles


def test_a_program_grows_with_the_kinds_of_rows_and_not_with_the_length() -> None:
    dataflow = get_dataflow("flash2")
    sizes = []
    for n in (2048, 8192, 17_408):
        layer = _layer(f"heads=24,seq={n},head_dim=64,mask=top_blocks:keep=10,by=layer")
        assert len(kinds_of(layer)) == 1
        program = build_phase(
            dataflow.phases[0], dataflow.costs(layer, EDGE), {"query": 64, "key": 128, "depth": 2, "resident": 0}
        )
        sizes.append(sum(1 for _ in program.commands()))
    assert len(set(sizes)) == 1
