"""Attention cut for many cores: pieces compute the layer, no run beats its bound, more cores are never slower."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, LinkSpec, MachineSpec
from tilewright.search.tiling import best_tiling
from tilewright.search.workload import pieces
from tilewright.sim.dataflows.attention.numbers.chip import _seen_keys
from tilewright.sim.dataflows.attention.numbers.pieces import joined, pieces_of
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.dataflows.attention.staging import StagedCore, n_sharing
from tilewright.sim.engine.program import Engine, ProgramBuilder
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program
from tilewright.sim.lowering.core import ENGINE_KINDS
from tilewright.sim.lowering.evaluation import build_phase, core_shares, count_phase, evaluate, phase_tiling
from tilewright.sim.lowering.levels import channels_by_share
from tilewright.sim.lowering.mapping import Dataflow, get_dataflow
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import reference_attention

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
LAYER = AttentionLayer(
    name="a", batch=1, query_heads=4, kv_heads=1, query_len=11, key_len=17, head_dim=8, value_dim=8
)  # fmt: skip

N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "12"))


@st.composite
def layers(draw: st.DrawFn) -> AttentionLayer:
    """Of odd extents, any mask."""
    kv_heads, of_head, rows = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 17))
    mask = draw(st.sampled_from(["none", "causal", "banded"]))
    windows = {}
    if mask == "banded":
        windows = {"window_left": draw(st.sampled_from([None, 0, 3, 7])), "window_right": draw(st.integers(0, 3))}
    return AttentionLayer(
        name="any", batch=draw(st.integers(1, 2)), query_heads=kv_heads * of_head, kv_heads=kv_heads, query_len=rows,
        key_len=rows + draw(st.integers(0, 9)), head_dim=draw(st.integers(1, 9)), value_dim=draw(st.integers(1, 9)),
        mask=mask, **windows,
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
    assert len(cuts) == 11
    for piece in cuts[::2]:
        tiling = {p.name: p.least_value(piece, EDGE) for p in flow.parameters}
        found = joined(piece, run_on_numbers(flow, piece, EDGE, tiling, *pieces_of(piece, q, k, v)))
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)


@settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layer=layers(), n_cores=st.sampled_from([2, 3, 8, 16, 64]), data=st.data())
def test_pieces_of_any_layer(layer: AttentionLayer, n_cores: int, data: st.DataObject) -> None:
    """Rows in stripes and blocks, heads apart: numbers are right, counts below the run, no run beats a bound."""
    machine = linked(n_cores)
    flow = get_dataflow(data.draw(st.sampled_from(["flash2", "mas", "fusemax", "layerwise"])))
    piece = data.draw(st.sampled_from(pieces(layer, machine, flow)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    q, k, v = (
        random.normal(size=(layer.batch, heads, n, width))
        for heads, n, width in (
            (layer.query_heads, layer.query_len, layer.head_dim),
            (layer.kv_heads, layer.key_len, layer.head_dim),
            (layer.kv_heads, layer.key_len, layer.value_dim),
        )
    )
    tiling = {p.name: data.draw(st.sampled_from(p.candidates(piece, machine))) for p in flow.parameters}
    tiling |= {"overwrite": 0} if "overwrite" in tiling else {}
    found = run_on_numbers(flow, piece, machine, tiling, *pieces_of(piece, q, k, v))
    np.testing.assert_allclose(joined(piece, found), reference_attention(layer, q, k, v), rtol=1e-10, atol=1e-12)
    result = evaluate(flow, piece, machine, tiling)
    assert flow.family.least(piece, machine) <= result.cycles
    assert result.cycles >= result.lower_bound.cycles
    assert result.lower_bound == flow.bound(layer, machine)


def test_rows_of_a_causal_mask_are_as_long_on_every_core() -> None:
    """Twice the cores take hardly more than half the time, as every core has short and long rows."""
    layer = replace(LAYER, query_heads=1, query_len=256, key_len=256, head_dim=32, value_dim=32, mask="causal")
    flow = get_dataflow("flash2")
    times = [
        best_tiling(flow, pieces(layer, linked(n), flow)[0], linked(n), fixed={"key": 16, "depth": 2}).cycles
        for n in (1, 2, 4)
    ]
    assert all(fewer <= 0.56 * more for more, fewer in pairwise(times))


@settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    layer=layers(), n_cores=st.sampled_from([2, 4, 8, 16, 64]), shares=st.booleans(), sinks=st.booleans(),
    soft_cap=st.none() | st.just(3.0), data=st.data(),
)  # fmt: skip
def test_parts_of_keys_are_merged_into_the_result(
    layer: AttentionLayer, n_cores: int, shares: bool, sinks: bool, soft_cap: float | None, data: st.DataObject
) -> None:
    """Under any mask, through a shared level or the DRAM; the engine equals the reference, counts are the run's."""
    flow = get_dataflow("flash_decoding")
    layer = replace(layer, sinks=sinks, soft_cap=soft_cap is not None).with_plain_mask()
    machine = with_level(n_cores) if shares else linked(n_cores)
    if flow.refusal(layer, machine):
        assert 2 * layer.n_groups > n_cores or layer.key_len == 1 or layer.query_len * layer.value_dim == 1
        return
    piece = data.draw(st.sampled_from(pieces(layer, machine, flow)))
    assert piece.key_parts > 1
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    heads, kv_heads = layer.query_heads, layer.kv_heads
    q = random.normal(size=(layer.batch, heads, layer.query_len, layer.head_dim))
    k = random.normal(size=(layer.batch, kv_heads, layer.key_len, layer.head_dim))
    v = random.normal(size=(layer.batch, kv_heads, layer.key_len, layer.value_dim))
    logits = random.normal(size=heads) if sinks else None
    tiling = {p.name: data.draw(st.sampled_from(p.candidates(piece, machine))) for p in flow.parameters}
    joins = {"sinks": logits, "soft_cap": soft_cap}
    found = run_on_numbers(flow, piece, machine, tiling, *pieces_of(piece, q, k, v), **joins)  # type: ignore[arg-type]
    wanted = reference_attention(layer, q, k, v, **joins)  # type: ignore[arg-type]
    np.testing.assert_allclose(joined(piece, found), wanted, rtol=1e-10, atol=1e-12)
    result, costs, total = evaluate(flow, piece, machine, tiling), flow.costs(piece, machine), 0
    for phase in flow.phases:
        program = build_phase(phase, costs, phase_tiling(phase, tiling))
        run, reference = run_program(program), run_reference(program)
        assert (run.cycles, run.busy_cycles) == (reference.cycles, reference.busy_cycles)
        counted = count_phase(phase, costs, phase_tiling(phase, tiling))
        assert counted.channel_bytes == run.channel_bytes[0]
        total += run.cycles
    assert total == result.cycles >= result.lower_bound.cycles
    assert flow.family.least(piece, machine) <= result.cycles


@settings(max_examples=4 * N_EXAMPLES, deadline=None)
@given(layer=layers(), n_cores=st.sampled_from([2, 8, 64]), data=st.data())
def test_every_row_sees_as_many_dealt_keys_in_each_part(
    layer: AttentionLayer, n_cores: int, data: st.DataObject
) -> None:
    """Within one key, none twice or lost; a piece stands for the part that sees most."""
    layer = layer.with_plain_mask()
    cuts = [cut for cut in layer.key_cuts(n_cores) if cut.deals_keys]
    if layer.mask == "none" or not cuts:
        return
    piece = data.draw(st.sampled_from(cuts))
    seen = np.stack([_seen_keys(piece, part).sum(axis=1) for part in range(piece.key_parts)])
    for row in range(layer.query_len):
        first, stop = layer.visible_keys(row)
        assert seen[:, row].sum() == stop - first
        assert seen[:, row].max() - seen[:, row].min() <= 1
        low, high = piece.visible_keys(row)
        assert seen[:, row].max() <= high - low <= seen[:, row].max() + 1
    assert seen.sum() == layer.n_scores_per_head <= piece.key_parts * piece.n_scores_per_head


def test_few_rows_under_a_causal_mask_go_faster_by_keys() -> None:
    """Four new tokens behind many: heads and rows are fewer than cores, keys are not."""
    layer = replace(LAYER, query_heads=1, query_len=4, key_len=1024, head_dim=16, value_dim=16, mask="causal")
    machine = with_level(16).with_(**{"buffers.l2.capacity_kib": 64, "dram.bandwidth_gb_per_s": 100})
    cycles = {}
    for name, tiles in (("flash2", {}), ("flash_decoding", {"merge_rows": 1})):
        flow = get_dataflow(name)
        fixed = {"key": 32, "depth": 2, "resident": 0, **tiles}
        cuts = pieces(layer, machine, flow)
        runs = (evaluate(flow, cut, machine, {"query": cut.query_len, **fixed}) for cut in cuts)
        cycles[name] = min(run.cycles for run in runs)
    assert cycles["flash_decoding"] < 0.5 * cycles["flash2"]


def with_level(n_cores: int, *, is_shared: bool = True, write: float = 32) -> MachineSpec:
    level = BufferSpec(
        name="l2", capacity_kib=4, read_bytes_per_cycle=32, write_bytes_per_cycle=write, shared_by_cores=is_shared
    )  # fmt: skip
    pj = {"l1": 1.0, "l2": 2.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    return replace(EDGE, n_cores=n_cores, buffers=(*EDGE.buffers, level), energy=energy)


@settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    layer=layers(), n_cores=st.sampled_from([1, 2, 4, 8, 16, 64]), is_shared=st.booleans(),
    link=st.sampled_from(["", "bus", "mesh", "crossbar", "ring"]), data=st.data(),
)  # fmt: skip
def test_staged_and_sent_keys_and_values(
    layer: AttentionLayer, n_cores: int, is_shared: bool, link: str, data: st.DataObject
) -> None:
    """K and V through a private or shared level, sent to the cores of a head or not: numbers, reference, counts."""
    flow, layer = get_dataflow(data.draw(st.sampled_from(["flash2_staged", "mas_staged"]))), layer.with_plain_mask()
    machine = with_level(n_cores, is_shared=is_shared)
    if link:
        spec = LinkSpec(kind=link, bytes_per_cycle=16, hop_cycles=2, multicast=True)  # type: ignore[arg-type]
        machine = replace(machine, links=spec)
    piece = data.draw(st.sampled_from(pieces(layer, machine, flow)))
    tiling = {p.name: data.draw(st.sampled_from(p.candidates(piece, machine))) for p in flow.parameters}
    tiling |= {"resident": 0} if tiling["far"] else {}
    try:
        result = evaluate(flow, piece, machine, tiling)
    except MappingError:
        return
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    q = random.normal(size=(layer.batch, layer.query_heads, layer.query_len, layer.head_dim))
    k = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.head_dim))
    v = random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.value_dim))
    found = run_on_numbers(flow, piece, machine, tiling, *pieces_of(piece, q, k, v))
    np.testing.assert_allclose(joined(piece, found), reference_attention(layer, q, k, v), rtol=1e-10, atol=1e-12)
    costs, (phase,) = flow.costs(piece, machine), flow.phases
    program = build_phase(phase, costs, tiling)
    run, reference, counted = run_program(program), run_reference(program), count_phase(phase, costs, tiling)
    assert (run.cycles, run.busy_cycles, run.channel_bytes) == (
        reference.cycles, reference.busy_cycles, reference.channel_bytes
    )  # fmt: skip
    assert counted.channel_bytes == run.channel_bytes[0]
    if len(core_shares(piece, machine)) == 1:  # else the cores of each share have ports of their own
        assert all(run.channel_bytes[channel] == n_bytes for channel, n_bytes in counted.level_bytes)
    assert result.cycles == run.cycles >= result.lower_bound.cycles
    assert flow.family.least(piece, machine) <= result.cycles


class WrittenOut(StagedCore):
    """Core ``number`` of many; what serves several (``members``) is written once, by the first of them, for all."""

    number = 0
    own_semaphores = 0
    places: dict[int, tuple[int, tuple[int, ...]]]

    def move(
        self, engine: int, work: Any, n_cores: int, *, waits: list[int], signals: list[int], label: str, run: Any
    ) -> None:
        place, members = self.places[len(ENGINE_KINDS) + engine]
        if members[0] != self.number:
            return
        others = [self.own_semaphores * (other - self.number) for other in members]
        assert self._program is not None
        self._program.transfer(
            place,
            n_bytes=work.n_bytes,
            latency_cycles=work.cycles,
            channel=self._channels[work.channel] if self._channels else work.channel,
            waits=[wait + other for wait in waits for other in others],
            signals=[signal + other for signal in signals for other in others],
            label=label,
        )


def every_core(flow: Dataflow, piece: AttentionLayer, machine: MachineSpec, tiling: dict[str, int]) -> Any:
    """The program with each core's engines of its own, and one mover for the cores that share what it brings."""
    costs: Any = flow.costs(piece, machine)
    (share,) = core_shares(piece, machine)
    n, own, sharing = share.n_cores, len(ENGINE_KINDS), n_sharing(piece, machine)
    whole = piece.whole or piece
    heads, blocks = piece.kv_heads // whole.kv_heads, piece.batch // whole.batch
    sets: dict[tuple[int, int], list[int]] = {}
    for core in range(n):
        entry, head = divmod(core, piece.kv_heads)
        sets.setdefault((entry // blocks, head // heads) if sharing > 1 else (core, 0), []).append(core)
    kinds = StagedCore.engines_for(costs, tiling, n)
    engines = [Engine(f"{name} {i}", kind) for i in range(n) for name, kind, _ in kinds[:own]]
    places: list[dict[int, tuple[int, tuple[int, ...]]]] = [{} for _ in range(n)]
    for at, (name, kind, weight) in enumerate(kinds[own:], own):
        served = sharing if name.startswith("send") else n // weight
        for members in sets.values() if served > 1 else [[core] for core in range(n)]:
            assert len(members) == served
            for core in members:
                places[core][at] = len(engines), tuple(members)
            engines.append(Engine(f"{name} {members[0]}", kind, weight * served // n))
    channels, (private,) = channels_by_share(machine, StagedCore.channels(costs, tiling), [n])
    probe = ProgramBuilder(kinds, channels)
    flow.phases[0].lower(StagedCore(costs, n_groups=share.n_groups, builder=probe), tiling)
    builder = ProgramBuilder(engines, channels)
    for i in range(n):
        one = WrittenOut(costs, n_groups=share.n_groups, builder=builder, first_engine=own * i, channels=private)
        one.number, one.places, one.own_semaphores = i, places[i], len(probe.build().semaphores)
        flow.phases[0].lower(one, tiling)
    return builder.build()


@settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    layer=layers(), n_cores=st.sampled_from([2, 4, 6, 8]), is_shared=st.booleans(), write=st.sampled_from([0.5, 32]),
    link=st.sampled_from(["", "bus", "mesh", "crossbar", "ring"]), data=st.data(),
)  # fmt: skip
def test_one_core_in_lock_step_is_all_of_them(
    layer: AttentionLayer, n_cores: int, is_shared: bool, write: float, link: str, data: st.DataObject
) -> None:
    """The engine's run of one core for all equals SimPy's of every core written out, what they share included."""
    flow = get_dataflow(data.draw(st.sampled_from(["flash2_staged", "mas_staged"])))
    machine = with_level(n_cores, is_shared=is_shared, write=write)
    if link:
        spec = LinkSpec(kind=link, bytes_per_cycle=16, hop_cycles=2, multicast=True)  # type: ignore[arg-type]
        machine = replace(machine, links=spec)
    piece = data.draw(st.sampled_from(pieces(layer.with_plain_mask(), machine, flow)))
    assume(len(core_shares(piece, machine)) == 1)
    tiling = {p.name: data.draw(st.sampled_from(p.candidates(piece, machine))) for p in flow.parameters}
    tiling |= {"resident": 0} if tiling["far"] else {}
    try:
        program = build_phase(flow.phases[0], flow.costs(piece, machine), tiling)
    except MappingError:
        return
    run, reference = run_program(program), run_reference(every_core(flow, piece, machine, tiling))
    assert run.cycles == reference.cycles
    assert run.channel_bytes == reference.channel_bytes


def test_keys_and_values_are_fetched_once() -> None:
    """Row blocks of a head on four cores read K and V from the level; the DRAM gives every byte once."""
    layer = replace(LAYER, query_heads=1, query_len=64, key_len=64, mask="causal")
    machine = with_level(4).with_(**{"dram.burst_bytes": 1})
    flow = get_dataflow("flash2_staged")
    piece = pieces(layer, machine, flow)[0]
    tiling = {"query": 4, "key": 16, "depth": 2, "resident": 0, "far": 1, "shared": 0}
    staged = evaluate(flow, piece, machine, tiling)
    plain = evaluate(flow, piece, machine, tiling | {"far": 0})
    assert staged.dram_read_bytes == layer.read_bytes
    assert staged.buffer_read_bytes["l2"] > 4 * layer.key_bytes
    assert plain.dram_read_bytes > 4 * staged.dram_read_bytes
    assert staged.cycles < plain.cycles


def test_one_row_of_few_heads_occupies_all_cores() -> None:
    """Decoding with two key/value heads on 8 cores: much faster than on the two that have a head."""
    layer = replace(LAYER, query_heads=8, kv_heads=2, query_len=1, key_len=1024, head_dim=32, value_dim=32)
    machine = linked(8).with_(**{"dram.bandwidth_gb_per_s": 200})
    held = {"key": 32, "depth": 2, "resident": 0}
    whole, split = (
        min(best_tiling(flow, piece, machine, fixed=held).cycles for piece in pieces(layer, machine, flow))
        for flow in (get_dataflow("flash2"), get_dataflow("flash_decoding"))
    )
    assert split < 0.45 * whole


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
