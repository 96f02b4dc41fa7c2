"""Row-stationary convolutions as a dataflow: on numbers, within bounds, in networks and from the command line."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import tilewright
from tests.unit.test_row_stationary import Numbers, convolution, in_order_of_time
from tilewright.cli.run import run as run_command
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.network import simulate_stream
from tilewright.search.tiling import PhaseSearch, best_tiling
from tilewright.search.workload import layer_on
from tilewright.sim.dataflows.row_stationary.floor import work_floor
from tilewright.sim.dataflows.row_stationary.flow import ROW_STATIONARY
from tilewright.sim.dataflows.row_stationary.lower import RowCore
from tilewright.sim.dataflows.row_stationary.space import convolution_of
from tilewright.sim.engine.activity import activity_of
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.evaluation import build_phase, count_phase, evaluate
from tilewright.workloads.gemm import Fused, GemmLayer
from tilewright.workloads.single_operator import operator_stream

MACHINE = load_machine("eyeriss")
(PHASE,) = ROW_STATIONARY.phases
LAYERS = {
    "padded": "conv:in=5x9x8,out_channels=6,kernel=3,padding=1,batch=2,format=int16",
    "strided groups": "conv:in=6x13x12,out_channels=4,kernel=5,stride=2,groups=2,format=int16",
    "one dimension": "conv:in=3x20,out_channels=4,kernel=3,format=int16",
    "points": "conv:in=20x6x5,out_channels=7,kernel=1,format=int16",
}
each_layer = pytest.mark.parametrize("name", LAYERS)


@cache
def searched(name: str) -> PhaseSearch:
    return PhaseSearch(PHASE, ROW_STATIONARY.costs(a_layer(name), MACHINE), "latency", {})


def a_layer(name: str, fused: Fused = Fused()) -> GemmLayer:  # noqa: B008
    layer = layer_on(LAYERS[name], MACHINE)[0]
    assert isinstance(layer, GemmLayer)
    return replace(layer, fused=fused)


def some_tilings(name: str, n: int) -> list[dict[str, int]]:
    return random.Random(5).sample([one.tiling for one in searched(name).candidates], n)


@each_layer
@pytest.mark.parametrize("fused", [Fused(), Fused(operations=(("add", 1),), extra_bits=(16,))], ids=["plain", "sum"])
def test_mappings_of_the_space_compute_the_convolution(name: str, fused: Fused) -> None:
    layer = a_layer(name, fused)
    for tiling in some_tilings(name, 3):
        costs = ROW_STATIONARY.costs(layer, MACHINE)
        builder = ProgramBuilder(RowCore.engines(1), [RowCore.channel(costs)], unroll=True)
        PHASE.lower(PHASE.core(costs, n_groups=layer.groups, builder=builder), tiling)
        numbers = Numbers(convolution_of(layer, layer.groups))
        for what, step in in_order_of_time(builder.build()):
            getattr(numbers, what)(step)
        assert np.array_equal(numbers.out, convolution(numbers) + (numbers.extras if fused.extra_bits else 0))


@each_layer
def test_floor_count_run_and_bound_are_in_this_order(name: str) -> None:
    search, layer = searched(name), a_layer(name)
    for tiling in some_tilings(name, 12):
        floor, count = work_floor(search.costs, tiling), count_phase(PHASE, search.costs, tiling)
        run = evaluate(ROW_STATIONARY, layer, MACHINE, tiling)
        assert all(ours <= theirs for ours, theirs in zip(floor, count, strict=True))
        assert max(count.matrix_cycles, run.lower_bound.cycles) <= run.cycles
        assert count.energy_pj == pytest.approx(run.energy_pj)


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_pruning_loses_nothing(objective: str) -> None:
    layer = layer_on("conv:in=4x6x6,out_channels=4,kernel=3,format=int16", MACHINE)[0]
    best = best_tiling(ROW_STATIONARY, layer, MACHINE, objective=objective)  # type: ignore[arg-type]
    all_of_them = best_tiling(ROW_STATIONARY, layer, MACHINE, objective=objective, prune=False)  # type: ignore[arg-type]
    assert (best.cycles, best.energy_pj) == pytest.approx((all_of_them.cycles, all_of_them.energy_pj))
    assert best.summary.n_simulated < all_of_them.summary.n_simulated


def test_more_room_or_a_faster_link_is_never_worse() -> None:
    layer = layer_on(LAYERS["padded"], MACHINE)[0]
    for field, values in (("buffers.global.capacity_kib", (1, 4, 100)), ("dram.bandwidth_gb_per_s", (0.1, 0.48, 3))):
        cycles = [best_tiling(ROW_STATIONARY, layer, MACHINE.with_(**{field: value})).cycles for value in values]
        assert all(one >= two for one, two in pairwise(cycles))


def test_a_rectifier_on_the_way_out_costs_nothing() -> None:
    relu = Fused(operations=(("max", 1),))
    tiling, plain, rectified = some_tilings("padded", 1)[0], a_layer("padded"), a_layer("padded", relu)
    runs = [evaluate(ROW_STATIONARY, layer, MACHINE, tiling) for layer in (plain, rectified)]
    assert runs[0].cycles == runs[1].cycles
    assert runs[1].lower_bound.vector_cycles == 0
    without = MACHINE.with_(**{"matrix.scratchpads.rectifier": False})
    slow = evaluate(ROW_STATIONARY, rectified, without, tiling)
    assert slow.lower_bound.vector_cycles == 2 * 6 * 9 * 8
    assert slow.cycles > runs[1].cycles


REFUSED: dict[str, tuple[str, str]] = {
    "conv:in=4x6x6,out_channels=4,kernel=3,dilation=2,format=int16": ("eyeriss", "without dilation"),
    "conv:in=4x6x6,out_channels=4,kernel=3,stride=1x2,format=int16": ("eyeriss", "one stride for rows and columns"),
    "gemm:m=8,n=8,k=8,format=int16": ("eyeriss", "not matrix products"),
    "conv:in=4x6x6,out_channels=4,kernel=3,format=fp16": ("edge-16x16", r"needs matrix\.scratchpads, which edge-16x16"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_run_is_refused_with_the_reason(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    machine, reason = REFUSED[text]
    with pytest.raises(InputError, match=f"dataflow: row_stationary .*{reason}"):
        tilewright.simulate(text, machine, "row_stationary")
    assert run_command(["simulate", text, "-a", machine, "--dataflow", "row_stationary"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert tilewright.simulate(text, machine).dataflow == "gemm"
    compared = [run.dataflow for run in tilewright.compare(text, machine).results]
    assert "gemm" in compared and "row_stationary" not in compared


def test_it_is_the_usual_one_where_the_machine_is_made_for_it() -> None:
    text = LAYERS["padded"]
    found = tilewright.compare(text, "eyeriss")
    assert [run.dataflow for run in found.results] == ["gemm", "row_stationary"]
    usual = tilewright.simulate(text, "eyeriss")
    assert (usual.dataflow, usual.cycles) == ("row_stationary", found.results[1].cycles)
    assert any(note.startswith("row-stationary: partial sums") for note in found.results[1].assumptions)
    assert not any("nothing is kept in buffers behind" in note for note in found.results[1].assumptions)


def test_machines_side_by_side_run_what_they_are_made_for() -> None:
    text = "conv:in=8x12x12,out_channels=16,kernel=3"
    for named, taken in ((None, "row_stationary"), (["gemm"], "gemm")):
        runs = tilewright.compare([text], ["eyeriss", "edge-16x16"], named).runs
        assert [run.dataflow for run in runs] == [taken, "gemm"]
    usual = tilewright.simulate(text, "eyeriss")
    assert tilewright.compare([text], ["eyeriss", "edge-16x16"]).runs[0].cycles == usual.cycles


def test_no_unit_is_busier_than_always() -> None:
    """Maps and filters have a queue each: what loads is busy by half when one of them is."""
    tiling = some_tilings("padded", 1)[0]
    costs = ROW_STATIONARY.costs(a_layer("padded"), MACHINE)
    programs = [build_phase(PHASE, costs, tiling)]
    for kind, busy in activity_of(programs, n_spans=7, n_cores=1).busy.items():
        assert busy.max() <= 1 + 1e-12, kind


def test_operators_of_a_network_take_the_dataflow_that_runs_them() -> None:
    stream = operator_stream(LAYERS["padded"])

    def taken(*names: str) -> str:
        return simulate_stream(stream, MACHINE, attention_dataflows=names).operators[0].dataflow

    assert taken() == taken("mas") == taken("row_stationary") == "row_stationary"
    assert taken("gemm") == "gemm"


def test_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command(
            ["simulate", LAYERS["padded"], "-a", "eyeriss", "--dataflow", "row_stationary", "--tile", "strip=9"]
        )
        == 0
    )
    assert "row_stationary" in capsys.readouterr().out
    assert run_command(["show", "row_stationary"]) == 0
    assert "set_filters" in capsys.readouterr().out
    assert run_command(["simulate", "bert-base", "-a", "eyeriss", "--dataflow", "row_stationary"]) == 2
