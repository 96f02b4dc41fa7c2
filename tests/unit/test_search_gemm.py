"""Tilings of products, convolutions and vector work: pruning, capacity, cores written out, what a result says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.objective import OBJECTIVES, check_objective
from tilewright.search.tiling import best_tiling
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.engine.run import simulate
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.evaluation import build_phase, core_shares, count_phase, evaluate, fits
from tilewright.sim.lowering.mapping import Dataflow, get_dataflow
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import Fused, GemmLayer, VectorLayer, Whole


def a_layer(**changes: Any) -> GemmLayer:
    values: dict[str, Any] = {
        "name": "product", "groups": 1, "m": 70, "k": 90, "n": 50, "a_bits": 8, "b_bits": 8, "out_bits": 8,
        "accumulator_bits": 32, "compute_format": "int8",
    }  # fmt: skip
    return GemmLayer(**(values | changes))


CONV = a_layer(m=2 * 12 * 12, k=9 * 20, n=24, window=ConvWindow(12, 12, 12, 12, 3, 3, 1, 1, 2, pad_top=1, pad_left=1))
LAYERS: dict[str, GemmLayer | VectorLayer] = {
    "product": a_layer(),
    "product with residual": a_layer(groups=2, fused=Fused((("add", 1), ("exp", 1)), extra_bits=(16,))),
    "decode": a_layer(m=1, n=300, b_bits=4),
    "convolution": CONV,
    "one long output row": a_layer(m=200, k=15, n=20, window=ConvWindow(1, 204, 1, 200, 1, 5, 1, 1)),
    "vector work": VectorLayer(name="rows", rows=300, read_bytes=100, write_bytes=50, operations=(("exp", 50),)),
    "vector work in pieces": VectorLayer(name="rows", rows=77, read_bytes=64, write_bytes=64, groups=3),
}


def small(**changes: object) -> MachineSpec:
    """A buffer that does not hold everything."""
    return load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": 12, **changes})


def flow_of(layer: GemmLayer | VectorLayer) -> Dataflow:
    name = "gemm" if isinstance(layer, GemmLayer) else "vector"
    return get_dataflow(name, name)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_pruning_does_not_lose_the_optimum(layer: GemmLayer | VectorLayer, objective: str) -> None:
    flow, goal = flow_of(layer), check_objective(objective)
    machines = (small(), small(**{"dram.bandwidth_gb_per_s": 1.5}), small(**{"vector.lanes": 1, "n_cores": 2}))
    chosen = {"latency": slice(3), "energy": slice(1, 2), "edp": slice(2, 3)}[objective]
    for machine in machines[chosen]:
        pruned = best_tiling(flow, layer, machine, objective=goal)
        whole = best_tiling(flow, layer, machine, objective=goal, prune=False)
        assert (pruned.cycles, pruned.energy_pj) == (whole.cycles, pytest.approx(whole.energy_pj))
        assert pruned.summary.n_simulated <= whole.summary.n_simulated == whole.summary.n_fitting
        result = evaluate(flow, layer, machine, pruned.tiling)
        assert (result.cycles, result.energy_pj) == (pruned.cycles, pytest.approx(pruned.energy_pj))
        assert result.cycles >= result.lower_bound.cycles


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_counted_work_is_what_runs(layer: GemmLayer | VectorLayer) -> None:
    """Of every third candidate; and what the buffers hold is what ``fits`` says."""
    machine, (phase,) = small(), flow_of(layer).phases
    costs = flow_of(layer).costs(layer, machine)
    n_fitting = 0
    for tiling in list(phase.space(layer, machine))[::3]:
        if not fits(phase, costs, tiling):
            with pytest.raises(MappingError, match=r"which has 12,288 bytes; use smaller tiles"):
                build_phase(phase, costs, tiling)
            continue
        n_fitting += 1
        work, program = count_phase(phase, costs, tiling), build_phase(phase, costs, tiling)
        run = simulate(program)
        assert (run.busy_cycles[2], run.busy_cycles[3]) == (work.matrix_cycles, work.vector_cycles)
        assert run.channel_bytes[0] == work.channel_bytes
        assert sum(program.buffer_bytes.values()) <= machine.buffers[0].capacity_bytes
    assert n_fitting > 3


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_capacity_is_tight(layer: GemmLayer | VectorLayer) -> None:
    flow, machine = flow_of(layer), small()
    tiling = best_tiling(flow, layer, machine).tiling
    need = evaluate(flow, layer, machine, tiling).peak_buffer_bytes["l1"]
    exact = machine.with_(**{"buffers.l1.capacity_kib": need / 1024})
    assert evaluate(flow, layer, exact, tiling).peak_buffer_bytes["l1"] == need
    with pytest.raises(MappingError, match=f"needs {need:,} bytes of buffer l1, which has {need - 1:,} bytes"):
        evaluate(flow, layer, machine.with_(**{"buffers.l1.capacity_kib": (need - 1) / 1024}), tiling)


def test_everything_on_chip_takes_its_size_once() -> None:
    """One tile of each: no second slot for a tile that never comes."""
    layer = a_layer()
    tiling = {"m": 70, "n": 50, "k": 90, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0}
    result = evaluate(flow_of(layer), layer, load_machine("edge-16x16"), tiling)
    assert result.peak_buffer_bytes["l1"] == 70 * 90 + 90 * 50 + 4 * 70 * 50
    assert result.dram_read_bytes == 64 * -(-70 * 90 // 64) + 64 * -(-90 * 50 // 64)


def test_a_long_sum_is_cut_where_the_buffer_is_small() -> None:
    """512 x 1024 x 1024 in fp16: the sums of a tile stay, A and B pass by; no jump where a panel just fits (36 KiB).

    32 KiB hold 64 x 64 sums (16,384 bytes) and two tiles each of A and B, 32 deep (4 x 4,096): each of 4,096 products
    takes 16 x 32 cycles and 46 to fill and drain the array, each of 128 stores shows.
    """
    layer = a_layer(m=512, k=1024, n=1024, a_bits=16, b_bits=16, out_bits=16, compute_format="fp16")
    cycles = []
    for kib in (24, 32, 36, 64):
        found = best_tiling(flow_of(layer), layer, small(**{"buffers.l1.capacity_kib": kib}))
        cycles.append(found.cycles)
        assert found.tiling["order"] == 2
    assert cycles[1:] == [2_355_885, 2_355_885, 2_192_482]
    assert cycles[0] < 1.3 * cycles[1]


def test_a_held_combination_is_taken_as_it_is() -> None:
    """Also one that does the same as another, which the search alone would leave out."""
    layer = a_layer()
    held = {"order": 2, "k": layer.k, "outputs": 1, "depth": 2, "m": layer.m, "n": layer.n}
    found = best_tiling(flow_of(layer), layer, load_machine("edge-16x16"), fixed=held)
    assert found.tiling.items() >= held.items() and found.summary.n_candidates == 1


@pytest.mark.parametrize("name", ["product", "product with residual", "decode", "convolution"])
def test_more_buffer_never_makes_the_best_slower(name: str) -> None:
    layer, last = LAYERS[name], 2**62
    for kib in (4, 5, 6, 8, 11, 16, 22):
        cycles = best_tiling(flow_of(layer), layer, small(**{"buffers.l1.capacity_kib": kib})).cycles
        assert cycles <= last
        last = cycles


def test_nothing_fits_is_said_without_advice_on_attention() -> None:
    with pytest.raises(MappingError, match=r"a narrower number format$"):
        best_tiling(flow_of(CONV), CONV, small(**{"buffers.l1.capacity_kib": 8 / 1024}))


@pytest.mark.parametrize("name", ["product", "product with residual", "decode", "convolution", "vector work"])
def test_the_least_need_is_told_exactly(name: str) -> None:
    """Refused with the room that the smallest tiles take, and run with just that."""
    layer, flow = LAYERS[name], flow_of(LAYERS[name])
    with pytest.raises(MappingError, match="no tiling of this dataflow needs less") as refusal:
        best_tiling(flow, layer, small(**{"buffers.l1.capacity_kib": 2 / 1024}))
    need = refusal.value.demand
    found = best_tiling(flow, layer, small(**{"buffers.l1.capacity_kib": need / 1024}))
    assert evaluate(flow, layer, small(), found.tiling).peak_buffer_bytes["l1"] == need
    with pytest.raises(MappingError, match=f"needs {need:,} bytes"):
        best_tiling(flow, layer, small(**{"buffers.l1.capacity_kib": (need - 1) / 1024}))


def test_a_format_that_the_array_cannot_multiply_is_refused() -> None:
    layer = a_layer(compute_format="fp64")
    with pytest.raises(InputError, match=r'no multiply rate .*given "fp64"'):
        evaluate(
            flow_of(layer),
            layer,
            small(),
            {"m": 1, "n": 1, "k": 1, "order": 0, "depth": 1, "outputs": 2, "prefetched": 0},
        )


# -- several cores -----------------------------------------------------------------------------------------


def test_cuts_give_every_core_a_piece() -> None:
    layer = a_layer(m=1000, n=10)
    assert layer.cuts(1) == (layer,)
    assert replace(layer, groups=4).cuts(4) == (replace(layer, groups=4),)
    by_columns, by_rows = layer.cuts(4)
    assert (by_columns.groups, by_columns.m, by_columns.n) == (4, 1000, 3)
    assert (by_rows.groups, by_rows.m, by_rows.n) == (4, 250, 10)
    assert by_columns.whole == by_rows.whole == Whole(1, 1000, 10)
    assert [(cut.groups, cut.n) for cut in replace(layer, m=1, n=5).cuts(4)] == [(3, 2)]  # not 4 pieces of 2
    assert replace(layer, m=1, n=1).cuts(4) == (replace(layer, m=1, n=1),)
    assert {cut.groups for cut in replace(layer, groups=3).cuts(4)} == {6, 12}


def test_a_convolution_is_cut_between_output_rows() -> None:
    assert [(cut.m, cut.n, cut.groups) for cut in CONV.cuts(4)] == [(288, 6, 4), (72, 24, 4)]
    by_rows = CONV.cuts(5)[1]
    assert (by_rows.m, by_rows.groups) == (60, 5)


def test_vector_work_is_dealt_out_to_the_cores() -> None:
    layer = VectorLayer(name="rows", rows=10, read_bytes=8, write_bytes=8, operations=(("exp", 8),))
    assert (layer.for_cores(4).rows, layer.for_cores(4).groups) == (3, 4)
    assert (layer.for_cores(7).rows, layer.for_cores(7).groups) == (2, 5)
    assert layer.for_cores(1) == layer


@pytest.mark.parametrize("bandwidth", [0.7, 60.0])
@pytest.mark.parametrize("name", ["product", "product with residual", "convolution", "vector work"])
def test_lock_step_equals_all_cores(name: str, bandwidth: float) -> None:
    """Four cores of one machine against four cores written out, for every way to cut the layer."""
    layer = LAYERS[name]
    machine = load_machine("tileflow-edge").with_(**{"dram.bandwidth_gb_per_s": bandwidth})
    flow, (phase,) = flow_of(layer), flow_of(layer).phases
    pieces = layer.cuts(4) if isinstance(layer, GemmLayer) else (layer.for_cores(4), replace(layer, groups=5))
    for piece in pieces:
        costs = flow.costs(piece, machine)
        tiling = best_tiling(flow, piece, small(n_cores=4)).tiling
        in_step = simulate(build_phase(phase, costs, tiling))
        groups = [share.n_groups for share in core_shares(piece, machine) for _ in range(share.n_cores)]
        assert sum(groups) == piece.n_groups
        engines = [engine for i in range(len(groups)) for engine in TileCore.engines(1, f" {i}")]
        builder = ProgramBuilder(engines, [TileCore.channel(costs)])
        for i, n_groups in enumerate(groups):
            core = phase.core(costs, n_groups=n_groups, builder=builder, first_engine=4 * i, name=f" {i}")
            phase.lower(core, tiling)
        written_out = simulate(builder.build())
        assert (in_step.cycles, in_step.channel_bytes) == (written_out.cycles, written_out.channel_bytes)


# -- what a result says ------------------------------------------------------------------------------------


def test_assumptions_are_those_of_products() -> None:
    tiling = {"m": 48, "n": 16, "k": 90, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0}
    result = evaluate(flow_of(a_layer()), a_layer(), load_machine("edge-16x16"), tiling)
    text = "\n".join(result.assumptions)
    assert "weights lie in DRAM in the order in which their tiles are read" in text
    assert "unrolls it on the way into the array" in text
    assert "kept in the working buffer as wide as they are summed" in text
    assert "energy are counted per byte" in text
    assert "softmax" not in "\n".join(note for note in result.assumptions if note not in small().assumptions)


def test_sums_are_as_wide_as_the_accumulators() -> None:
    """Partial sums through the buffer cost their width: int32 behind int8, however narrow the result is."""
    layer = a_layer(m=16, n=16, k=64)
    tiling = {"m": 16, "n": 16, "k": 16, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0}
    machine = load_machine("edge-16x16")
    result = evaluate(flow_of(layer), layer, machine, tiling)
    operands = 4 * (16 * 16 + 16 * 16)
    assert result.buffer_read_bytes["l1"] == operands + 3 * 16 * 16 * 4 + result.dram_write_bytes
    assert result.buffer_write_bytes["l1"] == 4 * 16 * 16 * 4 + result.dram_read_bytes
