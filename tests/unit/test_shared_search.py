"""Do searches that share what was counted and run find what each finds alone, to the last figure?"""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

import tilewright
from tilewright.errors import InputError, MappingError
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.objective import OBJECTIVES, check_objective
from tilewright.search.shared import shared_search
from tilewright.search.shared.shared_search import SearchMemory
from tilewright.search.tiling import best_tiling
from tilewright.sim.engine.image import pack
from tilewright.sim.lowering.asked_costs import Answers, AskedCosts
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.evaluation import build_phase, evaluate
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.sim.lowering.retiming import RetimedImages

LAYERS = {
    "square": "attention:heads=3,seq=40,head_dim=16",
    "causal": "attention:heads=2,seq=96,head_dim=16,mask=causal",
    "decode": "attention:heads=8,kv_heads=2,query_len=1,key_len=150,head_dim=32",
}
CHOICES: dict[str, list[Any]] = {
    "matrix.rows": [8, 16],
    "vector.lanes": [16, 256],
    "clock_ghz": [0.5, 0.7, 1, 2],
    "n_cores": [1, 2],
    "dram.bandwidth_gb_per_s": [4, 8, 16, 17, 60, 33.3],
    "dram.first_access_latency_ns": [0, 100],
    "buffers.l1.capacity_kib": [4, 12, 16, 64],
    "energy.static_mw": [0, 500],
}


def machines(n: int, seed: int, **fixed: object) -> list[MachineSpec]:
    base, chance = tilewright.load_machine("edge-16x16"), random.Random(seed)
    return [base.with_(**({name: chance.choice(values) for name, values in CHOICES.items()} | fixed)) for _ in range(n)]


@pytest.mark.parametrize("detail", ["bandwidth", "row_buffer"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dataflow", tilewright.dataflow_names())
def test_shared_searches_find_what_each_finds_alone(dataflow: str, name: str, detail: str) -> None:
    layer, flow, memory = tilewright.load_workload(LAYERS[name]), get_dataflow(dataflow), SearchMemory()
    n_found = 0
    for i, machine in enumerate(machines(7 if detail == "bandwidth" else 2, seed=5, **{"dram.detail": detail})):
        objective = check_objective(OBJECTIVES[i % len(OBJECTIVES)])
        shared = memory.of(flow, layer, machine)
        refusal = None
        try:
            plain = best_tiling(flow, layer, machine, objective=objective)
        except MappingError as error:
            refusal = str(error)
        if refusal is not None:
            with pytest.raises(MappingError) as caught:
                shared.best(machine, objective)
            assert str(caught.value) == refusal
            continue
        found = shared.best(machine, objective)
        assert (found.tiling, found.cycles, found.energy_pj) == (plain.tiling, plain.cycles, plain.energy_pj)
        for figure in ("n_candidates", "n_fitting", "n_simulated", "proven", "objective"):
            assert getattr(found.summary, figure) == getattr(plain.summary, figure)
        assert shared.result(machine, found) == evaluate(flow, layer, machine, plain.tiling)
        n_found += 1
    assert n_found or detail == "row_buffer"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_neighbours_share_and_change_nothing(objective: str) -> None:
    """Many machines of one signature, in an order in which every kind of memory is used again."""
    layer, flow, memory = tilewright.load_workload(LAYERS["square"]), get_dataflow("mas"), SearchMemory()
    base, goal = tilewright.load_machine("edge-16x16"), check_objective(objective)
    for bandwidth in (3, 20, 3, 17.5):
        for clock in (0.3, 1):
            for capacity in (64, 8, 13, 5120):
                machine = base.with_(
                    **{
                        "dram.bandwidth_gb_per_s": bandwidth,
                        "clock_ghz": clock,
                        "buffers.l1.capacity_kib": capacity,
                        "energy.static_mw": 20 * clock,
                    }
                )
                plain = best_tiling(flow, layer, machine, objective=goal)
                found = memory.of(flow, layer, machine).best(machine, goal)
                assert (found.tiling, found.cycles, found.energy_pj) == (plain.tiling, plain.cycles, plain.energy_pj)
                assert found.summary.n_simulated == plain.summary.n_simulated
    assert len(memory.searches) > 1  # more bandwidth, more channels
    assert len(memory.recordings) == 1


def test_memory_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_search, "_MOST_BYTES", 1)
    layer, flow, memory = tilewright.load_workload(LAYERS["square"]), get_dataflow("flash2"), SearchMemory()
    for machine in machines(3, seed=1):
        memory.of(flow, layer, machine)
        assert len(memory.recordings) == 1


def test_rates_that_are_no_short_fraction_are_shared_too() -> None:
    layer, flow, memory = tilewright.load_workload(LAYERS["square"]), get_dataflow("mas"), SearchMemory()
    base = tilewright.load_machine("edge-16x16").with_(n_cores=2)
    for clock in (1, 1.00000000000001):
        machine = base.with_(clock_ghz=clock, **{"dram.bandwidth_gb_per_s": 30.0000000000001})
        plain, shared = best_tiling(flow, layer, machine), memory.of(flow, layer, machine)
        found = shared.best(machine, "latency")
        assert (found.tiling, found.cycles, found.energy_pj) == (plain.tiling, plain.cycles, plain.energy_pj)
        assert shared.result(machine, found) == evaluate(flow, layer, machine, plain.tiling)


def test_retimed_images_are_those_of_the_other_machine() -> None:
    layer, flow = tilewright.load_workload(LAYERS["square"]), get_dataflow("mas")
    (phase,) = flow.phases
    tilings = [
        {"query": 16, "key": 16, "depth": 2, "resident": 0, "overwrite": 0},
        {"query": 40, "key": 8, "depth": 2, "resident": 1, "overwrite": 0},
    ]
    base = tilewright.load_machine("edge-16x16").with_(n_cores=2)  # two cores with unequal shares of the channel
    asked = AskedCosts(flow.costs(layer, base))
    retimed = RetimedImages()
    for number, tiling in enumerate(tilings):
        retimed.add(number, build_phase(phase, cast(TileCosts, asked), tiling))
    for changes in (
        {"clock_ghz": 0.6, "dram.bandwidth_gb_per_s": 7, "vector.lanes": 8},
        {"matrix.rows": 5, "matrix.fill_drain": "hidden"},
        {"dram.detail": "row_buffer", "dram.bandwidth_gb_per_s": 45},
        {"clock_ghz": 0.6, "dram.bandwidth_gb_per_s": 5.20202020202020234},
    ):
        other = base.with_(**changes)
        answers = Answers(asked, flow.costs(layer, other))
        assert answers.update()
        for latency_cycles in (None, 60) if "clock_ghz" in changes else (None,):
            retimed.set_costs(answers.cycles, answers.n_bytes, bytes_per_cycle(other), latency_cycles)
            for image, tiling in zip(retimed.images([0, 1]), tilings, strict=True):
                np.testing.assert_array_equal(image, pack(build_phase(phase, flow.costs(layer, other), tiling))[0])
    with pytest.raises(InputError, match="longer than"):
        retimed.set_costs(answers.cycles, answers.n_bytes, Fraction(1, 10**18), None)


@pytest.mark.parametrize("dataflow", ["fusemax", "flash2", "mas"])
def test_machines_of_another_make_get_a_recording_of_their_own(dataflow: str) -> None:
    """One machine's array does softmax, the other's does not; nothing else tells their tilings apart."""
    layer, flow, memory = tilewright.load_workload(LAYERS["square"]), get_dataflow(dataflow), SearchMemory()
    shape = {"matrix.rows": 16, "matrix.columns": 16, "n_cores": 1, "clock_ghz": 1, "buffers.0.capacity_kib": 64}
    for name in ("fusemax-cloud", "edge-16x16", "fusemax-cloud", "edge-16x16"):
        for bandwidth in (10, 40):
            machine = tilewright.load_machine(name).with_(**shape, **{"dram.bandwidth_gb_per_s": bandwidth})
            plain = best_tiling(flow, layer, machine, objective="energy")
            shared = memory.of(flow, layer, machine)
            found = shared.best(machine, "energy")
            assert (found.tiling, found.cycles, found.energy_pj) == (plain.tiling, plain.cycles, plain.energy_pj)
            assert shared.result(machine, found) == evaluate(flow, layer, machine, plain.tiling)


def test_lowering_with_works_of_its_own_is_searched_alone() -> None:
    layer, flow, memory = tilewright.load_workload(LAYERS["square"]), get_dataflow("flash2"), SearchMemory()
    real = flow.phases[0].lower

    def twice(core: Any, tiling: Any) -> None:
        real(core, tiling)
        core.vector(core.costs.row_maximum(8, 8)._replace(cycles=7), label="more")

    own = replace(flow, name="own", phases=(replace(flow.phases[0], lower=twice),))
    for machine in machines(2, seed=2, **{"buffers.l1.capacity_kib": 64}):
        plain = best_tiling(own, layer, machine)
        shared = memory.of(own, layer, machine)
        found = shared.best(machine, "latency")
        assert (found.tiling, found.cycles, found.energy_pj) == (plain.tiling, plain.cycles, plain.energy_pj)
        assert shared.result(machine, found) == evaluate(own, layer, machine, plain.tiling)


def test_format_that_one_machine_cannot_multiply_is_no_fault_of_the_other() -> None:
    flow, memory = get_dataflow("mas"), SearchMemory()
    layer = tilewright.load_workload(LAYERS["square"] + ",qkv_format=int8")
    able = tilewright.load_machine("edge-16x16")
    data = {"matrix.multiplies_per_pe_per_cycle": {"fp16": 1}, "energy.multiply_accumulate_pj": {"fp16": 2.0}}
    for machine in (able.with_(**data), able, able.with_(**data), able):
        shared = memory.of(flow, layer, machine)
        if machine is able:
            assert shared.best(machine, "latency").tiling == best_tiling(flow, layer, machine).tiling
        else:
            with pytest.raises(InputError, match="no multiply rate"):
                shared.best(machine, "latency")
