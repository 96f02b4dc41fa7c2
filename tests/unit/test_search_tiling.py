"""Does the pruned tiling search find what the search without pruning finds, and say so when nothing fits?"""

from __future__ import annotations

import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.objective import OBJECTIVES, check_objective
from tilewright.search.tiling import best_tiling
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.engine.run import simulate
from tilewright.sim.lowering.evaluation import build_phase, count_phase, evaluate, fits, phase_tiling
from tilewright.sim.lowering.mapping import get_dataflow, tile_sizes
from tilewright.testing.dataflows import plain_dataflows
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.load import load_workload

LAYERS = {
    "square": "attention:heads=3,seq=80,head_dim=24",
    "causal": "attention:heads=2,seq=96,head_dim=16,mask=causal",
    "decode": "attention:heads=8,kv_heads=2,query_len=1,key_len=150,head_dim=32",
}


def small(**changes: object) -> MachineSpec:
    """The edge machine with a small array and a buffer that does not hold everything."""
    return load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": 24, **changes})


def layer(name: str) -> AttentionLayer:
    return load_workload(LAYERS[name])


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dataflow", plain_dataflows())
def test_pruning_does_not_lose_the_optimum(dataflow: str, name: str, objective: str) -> None:
    flow, goal = get_dataflow(dataflow), check_objective(objective)
    machines = (small(), small(**{"dram.bandwidth_gb_per_s": 1.5}), small(**{"vector.lanes": 4}))
    chosen = {"latency": slice(3), "energy": slice(1, 2), "edp": slice(2, 3)}[objective]
    for machine in machines[chosen]:
        pruned = best_tiling(flow, layer(name), machine, objective=goal)
        whole = best_tiling(flow, layer(name), machine, objective=goal, prune=False)
        assert (pruned.cycles, pruned.energy_pj) == (whole.cycles, pytest.approx(whole.energy_pj))
        assert pruned.summary.n_simulated <= whole.summary.n_simulated == whole.summary.n_fitting
        result = evaluate(flow, layer(name), machine, pruned.tiling)
        assert result.cycles == pruned.cycles
        assert result.energy_pj == pytest.approx(pruned.energy_pj)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dataflow", plain_dataflows())
def test_no_run_beats_its_bounds(dataflow: str, name: str) -> None:
    """The counted work of a candidate is what its run keeps busy, and no run ends before it."""
    machine = small()
    costs = AttentionCosts(layer(name), machine)
    for phase in get_dataflow(dataflow).phases:
        for i, tiling in enumerate(phase.space(layer(name), machine)):
            if i % 5 or not fits(phase, costs, tiling):
                continue
            work = count_phase(phase, costs, tiling)
            program = build_phase(phase, costs, tiling)
            run = simulate(program)
            assert run.busy_cycles[2] == work.matrix_cycles
            assert run.busy_cycles[3] == work.vector_cycles
            assert run.channel_bytes[0] == work.channel_bytes
            assert run.cycles >= max(run.busy_cycles[2], run.busy_cycles[3], run.channel_bytes[0] / costs.rate)


def test_capacity_is_tight() -> None:
    """A mapping is refused one byte below its need and accepted at it."""
    flow, machine = get_dataflow("mas"), load_machine("edge-16x16")
    tiling = {"query": 16, "key": 32, "depth": 2, "resident": 0, "overwrite": 0}
    need = evaluate(flow, layer("square"), machine, tiling).peak_buffer_bytes["l1"]
    exact = machine.with_(**{"buffers.l1.capacity_kib": need / 1024})
    assert evaluate(flow, layer("square"), exact, tiling).peak_buffer_bytes["l1"] == need
    with pytest.raises(MappingError, match=f"needs {need:,} bytes of buffer l1, which has {need - 1:,} bytes"):
        evaluate(flow, layer("square"), machine.with_(**{"buffers.l1.capacity_kib": (need - 1) / 1024}), tiling)


def test_nothing_fits_is_said_with_the_least_need() -> None:
    """And that no tiling needs less only where no tiling that a user may give does."""
    by_hand = (
        r"needs 10,240 bytes .* no tiling that is tried needs less, smaller tiles given by hand do \(from 544 bytes\)"
    )
    with pytest.raises(MappingError, match=by_hand):
        best_tiling(get_dataflow("flat"), layer("square"), small(**{"buffers.l1.capacity_kib": 1}))
    with pytest.raises(MappingError, match=r"needs 544 bytes .* no tiling of this dataflow needs less"):
        best_tiling(get_dataflow("flat"), layer("square"), small(**{"buffers.l1.capacity_kib": 0.5}))


def test_held_tiles_are_held() -> None:
    found = best_tiling(
        get_dataflow("mas"), layer("square"), load_machine("edge-16x16"), fixed={"query": 48, "depth": 2}
    )
    assert (found.tiling["query"], found.tiling["depth"]) == (48, 2)


def test_bad_tiles_are_refused() -> None:
    flow = get_dataflow("mas")
    with pytest.raises(InputError, match=r'mas: unknown tile; given "quer"; .*did you mean "query"'):
        best_tiling(flow, layer("square"), small(), fixed={"quer": 16})
    with pytest.raises(InputError, match='tile "query": given 0, allowed 1 to 80'):
        best_tiling(flow, layer("square"), small(), fixed={"query": 0})
    with pytest.raises(InputError, match="allows no mapping"):
        best_tiling(flow, layer("causal"), small(), fixed={"resident": 1, "depth": 3})
    with pytest.raises(InputError, match=r'unknown dataflow; given "mass"; .*did you mean "mas"'):
        get_dataflow("mass")
    with pytest.raises(InputError, match=r'unknown objective; given "latencyy"; .*did you mean "latency"'):
        check_objective("latencyy")


def test_tile_sizes_are_all_that_can_win() -> None:
    for extent in (1, 5, 16, 100, 196, 512, 1000, 4097):
        for granule in (1, 16, 48):
            n = ceil_div(extent, granule)
            want = (
                {min(extent, ceil_div(n, parts) * granule) for parts in range(1, n + 1)}
                if extent > granule
                else {extent}
            )
            assert set(tile_sizes(extent, granule, most=10**6)) == want
    assert len(tile_sizes(2**31 - 1, 16)) == 40
    assert (
        len(tile_sizes(2**40, 1024)) == 40
    )  # found in as many steps as there are different sizes, about its square root
    assert phase_tiling(
        get_dataflow("flash2").phases[0], {"query": 1, "key": 2, "depth": 2, "resident": 0, "x": 9}
    ) == {
        "query": 1,
        "key": 2,
        "depth": 2,
        "resident": 0,
    }


@pytest.mark.parametrize("value", [32.0, True, "64"])
def test_a_tile_is_a_whole_number(value: object) -> None:
    tiling = {"query": value, "key": 32, "depth": 2, "resident": 0, "overwrite": 0}
    with pytest.raises(InputError, match='tile "query": not a whole number; given'):
        evaluate(get_dataflow("mas"), layer("square"), small(), tiling)  # type: ignore[arg-type]
