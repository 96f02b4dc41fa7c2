"""Levels behind the working buffer: whatever is staged or kept there, right numbers and one amount of work."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec, WeightMemorySpec, WeightsSpec
from tilewright.search.tiling import best_tiling
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import run_program
from tilewright.sim.lowering.core import WorkCounter
from tilewright.sim.lowering.evaluation import build_phase, count_phase, evaluate, fits
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.testing.dataflows import plain_dataflows
from tilewright.testing.products import layers, numbers, rows, tilings
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import reference_attention
from tilewright.workloads.gemm import GemmLayer, RowCut, VectorLayer
from tilewright.workloads.homes import AttentionHomes, Homes, VectorHomes

# `make fuzz N=10000` sets this; the quick suite runs some.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "30"))
thorough = settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
STAGED = get_dataflow("staged", "gemm")
(PHASE,) = STAGED.phases


@st.composite
def machines(draw: st.DrawFn, *, cores: tuple[int, ...] = (1,)) -> MachineSpec:
    """One to three levels behind the working buffer, private or shared, wide or narrow; and a memory for weights."""
    rates = st.sampled_from([0.5, 1, 3, 16, 64])
    far = [
        BufferSpec(
            name=f"l{2 + i}",
            capacity_kib=draw(st.sampled_from([0.25, 1, 64])) * 4**i,
            read_bytes_per_cycle=draw(rates),
            write_bytes_per_cycle=draw(rates),
            shared_by_cores=draw(st.booleans()),
            latency_cycles=draw(st.integers(0, 20)),
        )
        for i in range(draw(st.integers(1, 3)))
    ]
    flash = WeightMemorySpec(
        name="flash",
        bandwidth_gb_per_s=draw(rates),
        first_access_latency_ns=draw(st.integers(0, 50)),
        burst_bytes=draw(st.sampled_from([1, 32])),
        read_pj_per_byte=7,
    )
    memory = draw(st.sampled_from([None, flash]))
    machine = replace(EDGE, buffers=(*EDGE.buffers, *far), energy=_energy(far), weights=WeightsSpec(memory=memory))
    bandwidth = draw(st.sampled_from([1, 30, 3000]))
    return machine.with_(**{"n_cores": draw(st.sampled_from(cores)), "dram.bandwidth_gb_per_s": bandwidth})


def _energy(far: list[BufferSpec]) -> Any:
    pj = {"l1": 1.0, **{buffer.name: 2.0 + i for i, buffer in enumerate(far)}}
    return replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)


@st.composite
def kept(draw: st.DrawFn, machine: MachineSpec) -> GemmLayer:
    """A product whose operands live anywhere; in the working buffer of one core only."""
    layer = draw(layers())
    places = ["", *(buffer.name for buffer in machine.buffers[1:]), *(["l1"] if machine.n_cores == 1 else [])]
    place = st.sampled_from(places)
    extras = tuple(draw(place) for _ in layer.fused.extra_bits)
    memory = machine.weights.memory
    of_weights = st.sampled_from([*places, *([memory.name] if memory is not None and layer.b_is_weight else [])])
    return replace(layer, homes=Homes(draw(place), draw(of_weights), draw(place), extras))


@thorough
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_numbers_and_counts(data: st.DataObject, seed: int) -> None:
    """What is staged and kept anywhere computes the product; looped, unrolled, counted and by the reference alike."""
    machine = data.draw(machines())
    layer = data.draw(kept(machine))
    tiling = data.draw(tilings(STAGED, layer, machine))
    try:
        found, wanted = numbers(STAGED, layer, machine, tiling, np.random.default_rng(seed))
    except MappingError:
        return
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    costs = STAGED.costs(layer, machine)
    programs = []
    for unroll in (False, True):
        builder = ProgramBuilder(
            PHASE.core.engines_for(costs, tiling, 1), PHASE.core.channels(costs, tiling), unroll=unroll
        )
        PHASE.lower(PHASE.core(costs, n_groups=layer.n_groups, builder=builder), tiling)
        programs.append(builder.build())
    reference = run_reference(programs[0])
    for program in programs:
        for skip in (False, True):
            run = run_program(program, skip=skip)
            assert not run.stuck
            assert (run.cycles, run.busy_cycles) == (reference.cycles, reference.busy_cycles)
            assert run.channel_bytes == reference.channel_bytes
    counter = WorkCounter()
    PHASE.lower(PHASE.core(costs, n_groups=layer.n_groups, builder=counter), tiling)
    work = counter.totals()
    fetched = sum(shared.channel_bytes for shared in counter.shared.values())
    ports = dict(work.level_bytes)
    for shared in counter.shared.values():  # what is fetched into a level takes its write port, too
        for channel, n_bytes in shared.n_bytes.items():
            if channel in ports:
                ports[channel] += n_bytes
    assert work.matrix_cycles == reference.busy_cycles[2]
    assert work.channel_bytes + fetched == reference.channel_bytes[0]
    assert all(reference.channel_bytes[channel] == n_bytes for channel, n_bytes in ports.items())


@thorough
@given(data=st.data())
def test_bounds_and_floors(data: st.DataObject) -> None:
    """On several cores: no run beats the bound, no count is below the floor, counted is what the program does."""
    machine = data.draw(machines(cores=(1, 2, 3, 4, 6)))
    layer = data.draw(kept(machine))
    assert PHASE.floor is not None
    for piece in STAGED.family.pieces(layer, machine):
        tiling = data.draw(tilings(STAGED, piece, machine)) | {"prefetched": 0}
        costs = STAGED.costs(piece, machine)
        try:
            work = count_phase(PHASE, costs, tiling)
        except MappingError:
            continue
        result = evaluate(STAGED, piece, machine, tiling)
        assert result.cycles >= result.lower_bound.cycles
        assert result.lower_bound == STAGED.bound(piece, machine)
        run = run_program(build_phase(PHASE, costs, tiling))
        assert run.channel_bytes[0] == work.channel_bytes
        assert result.energy_pj >= work.energy_pj * (1 - 1e-9)
        floor = PHASE.floor(costs, tiling)
        assert all(least <= counted for least, counted in zip(floor[:4], work[:4], strict=True))


@pytest.mark.parametrize("n_cores", [1, 4])
def test_a_larger_level_is_never_worse(n_cores: int) -> None:
    """The best tiling with more room behind the working buffer, until both operands fit whole."""
    layer = GemmLayer(
        name="product", groups=1, m=96, k=64, n=80, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
        compute_format="int8",
    )  # fmt: skip
    far = BufferSpec(name="l2", capacity_kib=1, read_bytes_per_cycle=32, write_bytes_per_cycle=32, shared_by_cores=True)
    machine = replace(EDGE, buffers=(*EDGE.buffers, far), energy=_energy([far]), n_cores=n_cores)
    machine = machine.with_(**{"buffers.l1.capacity_kib": 2, "dram.bandwidth_gb_per_s": 1})
    found = []
    for kib in (1, 2, 4, 8, 16, 32):
        larger = machine.with_(**{"buffers.l2.capacity_kib": kib})
        best = min(
            (best_tiling(STAGED, piece, larger) for piece in STAGED.family.pieces(layer, larger)),
            key=lambda search: search.cycles,
        )
        found.append(best.cycles)
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]
    assert found[-1] == found[-2]


def test_a_fetch_takes_the_write_port_of_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port as fast as the DRAM holds nothing up, to the cycle; a slower one does; a result written there may, too."""
    layer = GemmLayer(
        name="product", groups=1, m=64, k=48, n=40, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
        compute_format="int8",
    )  # fmt: skip
    tiling = {"m": 16, "n": 8, "k": 16, "order": 2, "depth": 2, "outputs": 2, "prefetched": 0}
    tiling |= {"far": 3, "far_m": 2, "far_n": 1, "shared": 0}

    def cycles(write: float, layer: GemmLayer = layer) -> int:
        far = BufferSpec(name="l2", capacity_kib=16, read_bytes_per_cycle=64, write_bytes_per_cycle=write)
        machine = replace(EDGE, buffers=(*EDGE.buffers, far), energy=_energy([far]))
        machine = machine.with_(**{"dram.bandwidth_gb_per_s": 4})
        return evaluate(STAGED, layer, machine, tiling).cycles

    plain = [cycles(write) for write in (4, 64)]  # at a clock of 1 GHz
    assert plain[0] == plain[1] < cycles(3) < cycles(1)
    there = replace(layer, homes=Homes(out="l2"))
    with_results = cycles(4, there)
    monkeypatch.setattr(GemmCosts, "fills", lambda self, level: False)
    assert cycles(4, there) <= with_results
    monkeypatch.setattr(GemmCosts, "fills", lambda self, level: True)
    assert [cycles(write) for write in (4, 64)] == plain


@st.composite
def kept_rows(draw: st.DrawFn, machine: MachineSpec) -> VectorLayer:
    """Rows whose bytes come from and go to any memories, whole or cut into pieces."""
    layer = draw(rows())
    places = ["", *(buffer.name for buffer in machine.buffers)]
    left, reads = layer.read_bytes, []
    for place in draw(st.lists(st.sampled_from(places[1:]), unique=True, max_size=2)):
        reads.append((place, draw(st.integers(0, left))))
        left -= reads[-1][1]
    cut = draw(st.none() | st.sampled_from([RowCut(n, layer.operations) for n in (2, 5)]))
    homes = VectorHomes(tuple(found for found in reads if found[1]), draw(st.sampled_from(places)))
    return replace(layer, homes=homes, cut=cut)


@thorough
@given(data=st.data())
def test_vector_work_moves_what_is_elsewhere(data: st.DataObject) -> None:
    """The reference agrees, the DRAM's bytes are those that live there, and no run beats the bound."""
    machine = data.draw(machines())
    layer = data.draw(kept_rows(machine))
    flow = get_dataflow("vector", "vector")
    tiling = data.draw(tilings(flow, layer, machine))
    (phase,) = flow.phases
    program = build_phase(phase, flow.costs(layer, machine), tiling)
    run, reference = run_program(program), run_reference(program)
    assert not run.stuck
    assert (run.cycles, run.busy_cycles, run.channel_bytes) == (
        reference.cycles,
        reference.busy_cycles,
        reference.channel_bytes,
    )
    result = evaluate(flow, layer, machine, tiling)
    assert result.cycles >= result.lower_bound.cycles
    assert result.dram_bytes >= layer.compulsory_bytes
    if not layer.compulsory_bytes:
        assert result.dram_bytes == 0


@pytest.mark.parametrize("name", plain_dataflows())
@pytest.mark.parametrize("home", ["l1", "l2"])
def test_attention_on_chip(name: str, home: str) -> None:
    """Q, K, V and the output on chip: the same result, nothing of them from or to the DRAM, and never slower."""
    far = BufferSpec(name="l2", capacity_kib=64, read_bytes_per_cycle=64, write_bytes_per_cycle=64)
    machine = replace(EDGE, buffers=(*EDGE.buffers, far), energy=_energy([far]))
    flow = get_dataflow(name, "attention")
    layer = AttentionLayer(
        name="a", batch=1, query_heads=4, kv_heads=2, query_len=13, key_len=17, head_dim=8, value_dim=8, mask="causal"
    )
    there = replace(layer, homes=AttentionHomes(home, home, home, home, held=(("l1", 1000),)))
    tiling = best_tiling(flow, there, machine).tiling
    random = np.random.default_rng(0)
    q, k, v = (random.normal(size=(1, heads, n, 8)) for heads, n in ((4, 13), (2, 17), (2, 17)))
    found = run_on_numbers(flow, there, machine, tiling, q, k, v)
    np.testing.assert_allclose(found, reference_attention(layer, q, k, v), rtol=1e-10, atol=1e-12)
    kept, plain = evaluate(flow, there, machine, tiling), evaluate(flow, layer, machine, tiling)
    moved = layer.read_bytes + layer.output_bytes
    assert kept.dram_bytes <= plain.dram_bytes - moved
    assert kept.lower_bound.dram_cycles == 0
    assert kept.lower_bound.cycles <= kept.cycles <= plain.cycles
    assert kept.peak_buffer_bytes["l1"] == plain.peak_buffer_bytes["l1"] + 1000


@settings(thorough, max_examples=max(1, N_EXAMPLES // 2))
@given(data=st.data())
def test_all_tilings_at_once(data: st.DataObject) -> None:
    """The same tilings fit as one by one, and the floor of each is not above its run."""
    machine = data.draw(machines(cores=(1, 2, 4)))
    machine = machine.with_(**{"buffers.l1.capacity_kib": data.draw(st.sampled_from([0.1, 0.3, 1, 5120]))})
    piece = data.draw(st.sampled_from(STAGED.family.pieces(data.draw(kept(machine)), machine)))
    costs = STAGED.costs(piece, machine)
    some = [data.draw(tilings(STAGED, piece, machine)) | {"prefetched": 0} for _ in range(8)]
    some += [tiling | {"prefetched": 1} for tiling in some[:2]]
    assert PHASE.screen is not None
    told = PHASE.screen(costs, some, None)
    assert told is not None
    assert told.fits.tolist() == [fits(PHASE, costs, tiling) for tiling in some]
    most = data.draw(st.sampled_from(sorted(told.bound_cycles.tolist())))
    few = PHASE.screen(costs, some, most)
    assert few is not None and few.fits.tolist() == told.fits.tolist()
    for at in range(len(some)):
        assert few.bound_cycles[at] <= told.bound_cycles[at]
        if told.bound_cycles[at] <= most:
            assert few.bound_cycles[at] == told.bound_cycles[at] and few.energy_pj[at] == told.energy_pj[at]
        else:
            assert few.bound_cycles[at] > most
    for at in np.flatnonzero(told.fits).tolist():
        assert told.bound_cycles[at] <= evaluate(STAGED, piece, machine, some[at]).cycles
        assert told.energy_pj[at] <= count_phase(PHASE, costs, some[at]).energy_pj


def test_more_room_in_a_level_leaves_no_less_to_choose_from() -> None:
    """Parts of what is staged do not follow the room: the best with 8 KiB is there with 16 KiB, where all fits."""
    layer = GemmLayer(
        name="product", groups=1, m=11, k=88, n=96, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
        compute_format="int8",
    )  # fmt: skip
    far = BufferSpec(name="l2", capacity_kib=8, read_bytes_per_cycle=16, write_bytes_per_cycle=16, shared_by_cores=True)
    machine = replace(EDGE, buffers=(*EDGE.buffers, far), energy=_energy([far]))
    machine = machine.with_(**{"buffers.l1.capacity_kib": 2, "dram.bandwidth_gb_per_s": 2})
    larger = (machine.with_(**{"buffers.l2.capacity_kib": kib}) for kib in (4, 8, 16, 32, 64))
    found = [best_tiling(STAGED, layer, one).cycles for one in larger]
    assert found == sorted(found, reverse=True)
