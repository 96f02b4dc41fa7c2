"""What formats, biases, sinks, soft caps and masks of an attention cost on a machine."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import tilewright
from tilewright.hw_models.load import load_machine
from tilewright.search.shared.shared_search import SearchMemory
from tilewright.search.tiling import best_tiling
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.dataflows.attention.limit import longest_sequence
from tilewright.sim.dataflows.attention.parts import row_width
from tilewright.sim.jobs import jobs_of
from tilewright.sim.lowering.asked_costs import AskedCosts
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.testing.dataflows import plain_dataflows
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.load import load_workload
from tilewright.workloads.stream.file import load_stream

EDGE = load_machine("edge-16x16")
BYTEWISE = EDGE.with_(**{"dram.burst_bytes": 1})  # no run of a strided tile is rounded up
CASES = Path(__file__).parents[2].parent / "shared" / "cases"
LAYER = "attention:heads=4,kv_heads=2,seq=200,head_dim=32"
TILES = {
    "query": 64,
    "key": 48,
    "depth": 2,
    "resident": 0,
    "heads": 1,
    "overlap": 0,
    "overwrite": 0,
    "rows": 16,
    "interleave": 1,
}


def tiling_of(name: str, layer: AttentionLayer) -> dict[str, int]:
    parameters = get_dataflow(name).parameters
    return {p.name: min(TILES[p.name.split("_")[-1]], p.largest(layer)) for p in parameters}


def longest(text: str, name: str) -> int:
    return longest_sequence(get_dataflow(name), load_workload(text), EDGE)


def run(name: str, text: str, machine: Any = EDGE) -> Any:
    layer = load_workload(text)
    return evaluate(get_dataflow(name), layer, machine, tiling_of(name, layer))


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plain_dataflows())
def test_every_dataflow_moves_keys_and_values_in_their_own_formats(name: str) -> None:
    whole, keys, both = (
        run(name, f"{LAYER}{text}") for text in ("", ",key_format=int8", ",key_format=int8,value_format=int8")
    )
    tiles = ceil_div(200, 64) * 4  # row blocks of all heads, each with all keys
    one_byte = tiles * 200 * 32
    assert whole.dram_read_bytes - keys.dram_read_bytes == one_byte
    assert keys.dram_read_bytes - both.dram_read_bytes == one_byte
    assert whole.dram_write_bytes == both.dram_write_bytes
    assert both.cycles <= keys.cycles <= whole.cycles
    assert both.energy_pj < keys.energy_pj < whole.energy_pj
    assert max(both.peak_buffer_bytes.values()) <= max(whole.peak_buffer_bytes.values())
    assert both.lower_bound.dram_cycles < whole.lower_bound.dram_cycles
    assert any("wider of the formats of Q and K" in note for note in both.assumptions)


def test_a_narrower_cache_saves_its_bytes() -> None:
    """One layer of Llama 3 8B that decodes behind 8,192 tokens: 16.8 MB of keys and values less in int8, 25.2 in int4.

    On 16 x 16 PEs the four query heads of a group fill a quarter of the rows, so that the array, not the DRAM, is then
    what takes longest; on 4 x 64 PEs all of the DRAM's time is saved.
    """
    stream = tilewright.load_network("llama-3-8b:decode=1,context=8192")
    found = {}
    for number_format in ("fp16", "int8", "int4"):
        jobs = [job for job in jobs_of(stream.with_formats(cache=number_format)) if job.kind == "attention"]
        assert len({job.layer for job in jobs}) == 1 and len(jobs) == 32
        layer = jobs[0].layer
        wide = EDGE.with_(**{"matrix.rows": 4, "matrix.columns": 64})
        tiling = {"query": 4, "key": 1184, "depth": 2, "resident": 0, "overwrite": 0}
        found[number_format] = [evaluate(get_dataflow("mas"), layer, machine, tiling) for machine in (EDGE, wide)]
    n_values = 2 * 8193 * 8 * 128
    for square, wide_result in zip(found["fp16"], found["int8"], strict=True):
        assert square.dram_read_bytes - wide_result.dram_read_bytes == n_values
    for half, quarter in zip(found["int8"], found["int4"], strict=True):
        assert half.dram_read_bytes - quarter.dram_read_bytes == n_values // 2
    saved = [found["fp16"][at].cycles - found["int8"][at].cycles for at in (0, 1)]
    assert found["int8"][0].matrix_utilization > 0.98
    assert 32 * n_values == 536_936_448
    assert 0 < saved[0] < saved[1]
    assert 32 * saved[1] == pytest.approx(17.9e6, rel=0.01)


def test_costs_that_are_asked_on_other_machines_know_the_formats() -> None:
    layer = load_workload(f"{LAYER},key_format=int8,value_format=int4,bias=head,sinks=true,soft_cap=true")
    machine = EDGE.with_(**{"dram.bandwidth_gb_per_s": 11.0, "vector.lanes": 32})
    for name in ("mas", "fusemax"):
        flow, memory = get_dataflow(name), SearchMemory()
        memory.of(flow, layer, EDGE)
        shared = memory.of(flow, layer, machine)
        found = shared.best(machine, "latency")
        alone = best_tiling(flow, layer, machine)
        assert (found.cycles, found.energy_pj) == (alone.cycles, pytest.approx(alone.energy_pj))
    asked = AskedCosts(AttentionCosts(layer, EDGE))
    work = asked.load_bias(16, 48)
    assert work.counters.dram_read_bytes == 16 * 128  # in whole bursts


# --- bias, sinks, soft cap --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plain_dataflows())
def test_what_joins_the_scores_is_moved_and_computed(name: str) -> None:
    plain = run(name, LAYER, BYTEWISE)
    n_scores = 4 * 200 * 200
    for text, n_bytes in (
        ("bias=head", 2 * n_scores),
        ("bias=shared", 2 * n_scores),
        ("bias=head,bias_format=fp32", 4 * n_scores),
    ):
        biased = run(name, f"{LAYER},{text}", BYTEWISE)
        assert biased.dram_read_bytes - plain.dram_read_bytes == n_bytes
        assert biased.cycles >= plain.cycles
        assert biased.energy_pj > plain.energy_pj
        assert biased.vector_utilization * biased.cycles > plain.vector_utilization * plain.cycles
        assert any("a bias is loaded" in note for note in biased.assumptions)
    sunk = run(name, f"{LAYER},sinks=true", BYTEWISE)
    assert sunk.dram_read_bytes - plain.dram_read_bytes == 4 * 2
    capped = run(name, f"{LAYER},soft_cap=30", BYTEWISE)
    assert capped.dram_read_bytes == plain.dram_read_bytes
    # Of the four rows and of every score, one for each lane: what softmax does in addition.
    cycles, lanes = EDGE.vector.cycles, EDGE.vector.lanes
    of_cap = 3 * cycles["mul"] + cycles["exp"] + cycles["add"] + cycles["div"] + cycles["sub"]
    of_sink = cycles["max"] + cycles["sub"] + cycles["exp"] + cycles["add"]
    busy = [result.vector_utilization * result.cycles for result in (plain, sunk, capped)]
    assert busy[2] - busy[0] == pytest.approx(n_scores * of_cap / lanes, rel=0.05)
    assert 4 * 200 * (of_sink - cycles["max"] - cycles["add"]) / lanes <= busy[1] - busy[0] <= 4 * 200 * of_sink
    assert sum("soft cap" in note for note in capped.assumptions) == 1
    assert not any("soft cap" in note or "sinks" in note or "bias is" in note for note in plain.assumptions)


def test_an_array_that_does_softmax_adds_the_bias_too_and_leaves_a_soft_cap_to_the_lanes() -> None:
    machine = load_machine("fusemax-cloud")
    plain, biased, capped = (run("fusemax", f"{LAYER}{text}", machine) for text in ("", ",bias=head", ",soft_cap=30"))
    assert biased.dram_read_bytes - plain.dram_read_bytes == 4 * 200 * 200 * 2
    assert biased.matrix_utilization * biased.cycles > plain.matrix_utilization * plain.cycles
    assert capped.vector_utilization * capped.cycles > 4 * 200 * 200 * 12 / 256
    for result in (plain, biased, capped):
        assert result.cycles >= result.lower_bound_cycles


def test_a_bias_in_a_stream_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = CASES / "attention_bias_stream.py"
    if not script.exists():
        pytest.skip(f"no shared data at {CASES}")
    monkeypatch.setattr(sys, "argv", [script.name, str(tmp_path)])
    runpy.run_path(str(script))
    read = {}
    for name in ("att_plain", "att_bias"):
        stream = load_stream(tmp_path / f"{name}.json")
        layer = jobs_of(stream)[0].layer
        tiling = {"query": 64, "key": 512, "depth": 2, "resident": 1, "overwrite": 0}
        read[name] = evaluate(get_dataflow("mas"), layer, EDGE, tiling).dram_read_bytes
        assert stream.read_bytes(stream.operators[0]) == read[name]
    assert read == {"att_plain": 1_572_864, "att_bias": 5_767_168}


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plain_dataflows())
def test_a_band_that_hides_nothing_costs_what_no_mask_costs(name: str) -> None:
    small = "attention:heads=2,query_len=50,key_len=70,head_dim=16"
    for texts in (
        ("", ",mask=banded,window_left=69", ",mask=banded,window_left=500,window_right=49"),
        (",mask=causal", ",mask=banded,window_right=0", ",mask=banded,window_left=69,window_right=0"),
    ):
        found = [tilewright.simulate(f"{small}{text}", EDGE, name) for text in texts]
        assert {(r.cycles, r.energy_pj, r.dram_read_bytes, tuple(r.tiling.items())) for r in found[1:]} == {
            (found[0].cycles, found[0].energy_pj, found[0].dram_read_bytes, tuple(found[0].tiling.items()))
        }
        assert len({longest(f"{small}{text}", name) for text in texts[:1]}) == 1
    resident = {**tiling_of(name, load_workload(small)), **({"resident": 1} if name in ("mas", "flash2") else {})}
    assert tilewright.simulate(f"{small},mask=banded,window_left=69", EDGE, name, resident).cycles > 0


@pytest.mark.parametrize("name", plain_dataflows())
def test_a_window_of_one_row_costs_what_its_keys_cost(name: str) -> None:
    """Decoding in a sliding window: the keys before it are not touched, wherever the window begins."""
    row = "attention:heads=4,kv_heads=2,query_len=1,head_dim=16"
    window = tilewright.simulate(f"{row},key_len=101,mask=banded,window_left=36", BYTEWISE, name)
    plain = tilewright.simulate(f"{row},key_len=37", BYTEWISE, name)
    assert (window.cycles, window.dram_read_bytes) == (plain.cycles, plain.dram_read_bytes)
    whole = {p.name: 1 for p in get_dataflow(name).parameters if p.name.split("_")[-1] in ("query", "depth")}
    keys = {p.name: 101 for p in get_dataflow(name).parameters if p.name.split("_")[-1] == "key"}
    again = tilewright.simulate(f"{row},key_len=101,mask=banded,window_left=36", BYTEWISE, name, whole | keys)
    assert {again.tiling[key] for key in keys} == {37}


def test_the_widest_row_block_of_a_band_is_found_without_walking() -> None:
    for query_len, key_len, left, right, query, key in (
        (60, 60, 13, 5, 7, 4),
        (60, 80, 31, None, 16, 16),
        (37, 50, None, 9, 8, 6),
        (50, 41, 4, 20, 9, 10),
        (23, 23, 0, 0, 5, 7),
    ):
        layer = AttentionLayer(
            name="a", batch=1, query_heads=1, kv_heads=1, query_len=query_len, key_len=key_len, head_dim=1, value_dim=1,
            mask="banded", window_left=left, window_right=right,
        )  # fmt: skip
        blocks = [layer.visible_keys(row, min(query, query_len - row)) for row in range(0, query_len, query)]
        widest = max(ceil_div(stop, key) - first // key for first, stop in blocks)
        assert row_width(layer, key, query) == min(key_len, widest * key)


def test_the_longest_sequence_is_worked_out_when_asked_for_and_soon() -> None:
    text = "attention:heads=12,seq=4096,head_dim=64,mask=banded,window_left=1024,window_right=0"
    tiling = {"query": 64, "key": 64, "depth": 2, "resident": 0, "overwrite": 0}
    begun = time.process_time()
    result = tilewright.simulate(text, EDGE, "mas", tiling)
    assert "value" not in vars(type(result)) and result.longest_sequence == 2**31 - 1
    assert time.process_time() - begun < 20  # it was hours
    assert longest("attention:heads=2,query_len=64,key_len=128,head_dim=8,mask=banded,window_right=3", "mas") > 64
