"""Products, convolutions and vector work of any shape: right numbers, and one amount of work however it is run."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_blocks import DAVINCI_CUBE, TENSOR_CORE_A100
from tilewright.hw_models.spec import MachineSpec, MatrixUnitSpec
from tilewright.search.tiling import best_tiling
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.engine.run import run_program
from tilewright.sim.lowering.core import TileCore, WorkCounter
from tilewright.sim.lowering.evaluation import core_shares, count_phase, evaluate
from tilewright.sim.lowering.mapping import Dataflow, get_dataflow
from tilewright.testing.products import layers, numbers
from tilewright.workloads.gemm import GemmLayer, RowCut, VectorLayer

# `make fuzz N=10000` sets this; the quick suite runs some.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "30"))
thorough = settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})


def multiplying_by(unit: MatrixUnitSpec) -> MachineSpec:
    """The edge machine with another unit, in the formats that it knows energies for."""
    rates = {name: unit.multiplies_per_pe_per_cycle.get(name, 1) for name in EDGE.matrix.multiplies_per_pe_per_cycle}
    return replace(EDGE, matrix=replace(unit, multiplies_per_pe_per_cycle=rates))


MACHINES = (
    EDGE,
    EDGE.with_(**{"vector.lanes": 2, "dram.bandwidth_gb_per_s": 50}),
    EDGE.with_(**{"dram.bandwidth_gb_per_s": 3000, "dram.first_access_latency_ns": 0, "dram.burst_bytes": 1}),
    EDGE.with_(**{"dram.detail": "row_buffer", "matrix.stationarity": "weight"}),
    multiplying_by(DAVINCI_CUBE),
    multiplying_by(TENSOR_CORE_A100),
)
SIZES = st.integers(1, 9)
OPERATIONS = st.sampled_from([(), (("max", 1),), (("add", 2), ("exp", 1))])


class Case(NamedTuple):
    layer: GemmLayer | VectorLayer
    machine: MachineSpec
    tiling: dict[str, int]

    @property
    def dataflow(self) -> Dataflow:
        name = "gemm" if isinstance(self.layer, GemmLayer) else "vector"
        return get_dataflow(name, name)


@st.composite
def products(draw: st.DrawFn) -> Case:
    layer = draw(layers())
    tiling = {name: draw(st.integers(1, getattr(layer, name))) for name in ("m", "n", "k")}
    if layer.window is not None and draw(st.booleans()):
        tiling["m"] = min(layer.m, layer.window.out_width * draw(st.integers(1, 4)))
    tiling |= {"order": draw(st.integers(0, 2)), "depth": draw(st.integers(1, 4))}
    tiling |= {"outputs": draw(st.integers(1, 2)), "prefetched": 0}
    if layer.groups == 1 and layer.b_is_weight:
        tiling["prefetched"] = draw(st.integers(0, 1))
    return Case(layer, draw(st.sampled_from(MACHINES)), tiling)


@st.composite
def row_cuts(draw: st.DrawFn, layer: VectorLayer) -> RowCut:
    """Element-wise, sums (of what is read), or with a pass for statistics."""
    cut = RowCut(draw(st.integers(2, 9)), layer.operations)
    way = draw(st.integers(0, 2)) if layer.read_bytes else 0
    if way == 1:
        return cut._replace(sums=True, kept_bytes=draw(st.integers(1, 20)))
    if way == 2:
        return cut._replace(first=(("add", 3),), first_read_bytes=layer.read_bytes, kept_bytes=8)
    return cut


@st.composite
def vector_work(draw: st.DrawFn) -> Case:
    layer = VectorLayer(
        name="rows",
        rows=draw(st.integers(1, 40)),
        read_bytes=draw(st.integers(0, 70)),
        write_bytes=draw(st.integers(0, 70)),
        operations=draw(OPERATIONS),
        reduces=draw(st.booleans()),
        groups=draw(st.integers(1, 3)),
    )
    cut = draw(st.none() | row_cuts(layer))
    layer = replace(layer, cut=cut)
    tiling = {"rows": draw(st.integers(1, layer.rows)), "depth": draw(st.integers(1, 4))}
    tiling["columns"] = draw(st.integers(1, layer.columns))
    return Case(layer, draw(st.sampled_from(MACHINES)), tiling)


@thorough
@given(case=products(), seed=st.integers(0, 2**32))
def test_every_mapping_computes_the_product(case: Case, seed: int) -> None:
    assert isinstance(case.layer, GemmLayer)
    check_numbers(case.layer, case.machine, case.tiling, seed)


def check_numbers(layer: GemmLayer, machine: MachineSpec, tiling: dict[str, int], seed: int) -> None:
    """The commands of ``tiling`` compute the product of random operands."""
    found, wanted = numbers(get_dataflow("gemm", "gemm"), layer, machine, tiling, np.random.default_rng(seed))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def holding(machine: MachineSpec, n_bytes: int) -> MachineSpec:
    return machine.with_(**{"buffers.l1.capacity_kib": n_bytes / 1024})


@settings(thorough, max_examples=max(1, N_EXAMPLES // 3))
@given(layer=layers(), machine=st.sampled_from(MACHINES), n_bytes=st.integers(1, 700), seed=st.integers(0, 2**32))
def test_the_best_in_a_small_buffer(layer: GemmLayer, machine: MachineSpec, n_bytes: int, seed: int) -> None:
    """Right on numbers; needs what it says, to the byte; not slower in a larger buffer. What is refused runs in the
    room that the refusal names.
    """
    flow = get_dataflow("gemm", "gemm")
    try:
        found = best_tiling(flow, layer, holding(machine, n_bytes))
    except MappingError as refusal:
        less, n_bytes = n_bytes, refusal.demand
        found = best_tiling(flow, layer, holding(machine, n_bytes))
        assert less < n_bytes
    check_numbers(layer, holding(machine, n_bytes), found.tiling, seed)
    result = evaluate(flow, layer, machine, found.tiling)
    assert result.lower_bound.cycles <= result.cycles == found.cycles
    need = result.peak_buffer_bytes["l1"]
    assert need <= n_bytes
    assert evaluate(flow, layer, holding(machine, need), found.tiling).cycles == found.cycles
    with pytest.raises(MappingError, match=f"needs {need:,} bytes"):
        evaluate(flow, layer, holding(machine, need - 1), found.tiling)
    assert best_tiling(flow, layer, holding(machine, n_bytes + 1 + n_bytes // 2)).cycles <= found.cycles


def outcome(case: Case, *, unroll: bool, skip: bool) -> tuple[Any, ...]:
    (phase,) = case.dataflow.phases
    costs = case.dataflow.costs(case.layer, case.machine)
    builder = ProgramBuilder(TileCore.engines(1), [TileCore.channel(costs)], unroll=unroll)
    phase.lower(phase.core(costs, n_groups=case.layer.n_groups, builder=builder), case.tiling)
    run = run_program(builder.build(), skip=skip)
    assert not run.stuck
    return run.cycles, run.busy_cycles, run.channel_bytes, run.n_commands


@thorough
@given(case=products() | vector_work())
def test_loops_skipping_and_counting_change_nothing(case: Case) -> None:
    """Looped and unrolled program, skipping or not: one result; the counted work is the busy time."""
    ((cycles, busy, (n_bytes,), _),) = {
        outcome(case, unroll=unroll, skip=skip) for unroll in (False, True) for skip in (False, True)
    }
    (phase,) = case.dataflow.phases
    costs, counter = case.dataflow.costs(case.layer, case.machine), WorkCounter()
    phase.lower(phase.core(costs, n_groups=case.layer.n_groups, builder=counter), case.tiling)
    assert counter.totals()[:3] == (busy[2], busy[3], n_bytes)
    assert cycles >= max(busy)


@thorough
@given(case=products() | vector_work(), n_cores=st.integers(1, 5))
def test_no_run_beats_the_bound(case: Case, n_cores: int) -> None:
    """Also when the layer is cut for several cores, whose pieces do all of it."""
    machine = case.machine.with_(n_cores=n_cores)
    pieces = case.layer.cuts(n_cores) if isinstance(case.layer, GemmLayer) else (case.layer.for_cores(n_cores),)
    for piece in pieces:
        tiling = {**case.tiling, "prefetched": 0} if isinstance(piece, GemmLayer) else dict(case.tiling)
        for name in tiling.keys() & {"m", "n", "k", "rows"}:
            tiling[name] = min(tiling[name], getattr(piece, name))
        result = evaluate(case.dataflow, piece, machine, tiling)
        assert result.cycles >= result.lower_bound.cycles
        assert result.lower_bound == case.dataflow.bound(piece, machine)
        if isinstance(piece, GemmLayer) and isinstance(case.layer, GemmLayer):
            whole = case.layer
            assert piece.macs == whole.macs <= piece.groups * piece.m * piece.k * piece.n
            assert piece.compulsory_bits == whole.compulsory_bits
        assert sum(share.n_groups * share.n_cores for share in core_shares(piece, machine)) == piece.n_groups


@thorough
@given(case=products(), n_cores=st.integers(1, 3))
def test_no_count_is_below_the_floor(case: Case, n_cores: int) -> None:
    """What lets a search leave tilings uncounted; also of the pieces of a layer that is cut for several cores."""
    (phase,) = case.dataflow.phases
    machine = case.machine.with_(n_cores=n_cores)
    assert isinstance(case.layer, GemmLayer) and phase.floor is not None
    for piece in case.layer.cuts(n_cores):
        tiling = case.tiling | {name: min(case.tiling[name], getattr(piece, name)) for name in "mnk"}
        costs = case.dataflow.costs(piece, machine)
        floor, work = phase.floor(costs, tiling), count_phase(phase, costs, tiling)
        assert all(least <= counted for least, counted in zip(floor, work, strict=True))
