"""Are the search methods repeatable, honest about what they prove, and never better than the proven optimum?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

import tilewright
from tilewright.cli.options import METHODS
from tilewright.cli.run import run
from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.methods.method import METHODS as REGISTERED
from tilewright.search.methods.method import SearchMethod, get_method, method_names, register
from tilewright.search.methods.outcome import SearchOutcome
from tilewright.search.methods.problem import Point, Problem
from tilewright.search.methods.run import run_method
from tilewright.search.objective import OBJECTIVES, check_objective
from tilewright.search.tiling import best_tiling
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.testing.dataflows import plain_dataflows
from tilewright.testing.methods import check_optimum, check_repeatable
from tilewright.workloads.load import load_workload, workload_names

pytestmark = pytest.mark.extras  # two of the methods are libraries

LAYER = "attention:heads=3,seq=80,head_dim=24"
LIBRARY = {"nsga2": "pymoo", "tpe": "optuna"}


def small(**changes: object) -> MachineSpec:
    """The edge machine with a small buffer, so that not everything fits."""
    return load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": 24, **changes})


def search(method: str, dataflow: str, objective: str = "latency", layer: str = LAYER, **options: Any) -> SearchOutcome:
    if method in LIBRARY:
        pytest.importorskip(LIBRARY[method], reason="not installed: pip install 'tilewright[search]'")
    machine = options.pop("machine", None) or small()
    return run_method(
        get_method(method),
        get_dataflow(dataflow),
        load_workload(layer),
        machine,
        objective=check_objective(objective),
        **options,
    )


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("dataflow", plain_dataflows())
def test_exhaustive_is_the_tiling_search(dataflow: str, objective: str) -> None:
    found = search("exhaustive", dataflow, objective)
    same = best_tiling(get_dataflow(dataflow), load_workload(LAYER), small(), objective=check_objective(objective))
    assert (found.tiling, found.cycles, found.n_evaluations) == (same.tiling, same.cycles, same.summary.n_simulated)
    assert found.energy_pj == pytest.approx(same.energy_pj)
    assert (found.proven, found.gap, found.lower_bound) == (True, 0.0, found.value)


def known(method: str) -> SearchMethod:
    if method in LIBRARY:
        pytest.importorskip(LIBRARY[method], reason="not installed: pip install 'tilewright[search]'")
    return get_method(method)


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("dataflow", plain_dataflows())
def test_no_method_is_better_than_the_optimum(dataflow: str, method: str) -> None:
    check_optimum(known(method), dataflow)


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("dataflow", ["layerwise", "mas"])
def test_a_seed_makes_a_method_repeatable(dataflow: str, method: str) -> None:
    check_repeatable(known(method), dataflow)


@pytest.mark.parametrize("method", method_names())
def test_the_curve_ends_at_the_result_and_the_budget_holds(method: str) -> None:
    found = search(method, "layerwise", budget=15)
    numbers, values = zip(*found.curve, strict=True)
    assert list(numbers) == sorted(set(numbers))
    assert list(values) == sorted(set(values), reverse=True)
    assert values[-1] == found.value
    assert numbers[-1] <= found.n_evaluations <= 15
    assert list(found.curve_frame().columns) == ["evaluation", "best"]
    (row,) = found.to_frame().to_dict("records")
    assert (row["method"], row["value"], row["n_evaluations"]) == (method, found.value, found.n_evaluations)


@pytest.mark.parametrize("method", method_names())
def test_the_least_budget_runs_each_phase_once(method: str) -> None:
    """Batches are cut where runs are kept for other phases, and what was cut is run later."""
    for budget in (3, 7, 40):
        found = search(method, "layerwise", budget=budget)
        assert found.n_evaluations <= budget
        assert found.curve[0][0] >= 3


@pytest.mark.parametrize("method", ["cp_sat", "mcts", "genetic", "mcts_genetic", "random"])
def test_with_budget_for_everything_every_method_proves_the_optimum(method: str) -> None:
    best = search("exhaustive", "flat")
    found = search(method, "flat", budget=best.n_fitting)
    assert (found.value, found.proven, found.gap) == (best.value, True, 0.0)


@pytest.mark.parametrize("method", ["mcts", "genetic", "mcts_genetic"])
@pytest.mark.parametrize(("network", "dataflow"), [("bert-base", "mas"), ("bert-small", "tileflow")])
def test_tree_and_genetic_search_come_near_with_a_twentieth_of_the_runs(
    network: str, dataflow: str, method: str
) -> None:
    machine = load_machine("edge-16x16")
    best = search("exhaustive", dataflow, layer=network, machine=machine)
    found = search(method, dataflow, layer=network, machine=machine, budget=best.n_fitting // 20)
    assert found.value <= 1.01 * best.value


def test_cp_sat_proves_by_bounds_alone() -> None:
    """Bounds that meet the result end the search before everything was run."""
    machine = load_machine("edge-16x16")
    found = search("cp_sat", "mas", "energy", "bert-small", machine=machine)
    assert found.proven
    assert found.n_evaluations < found.n_fitting / 10


def test_held_tiles_are_held() -> None:
    found = search("mcts", "mas", fixed={"query": 16})
    assert found.tiling["query"] == 16


def test_a_method_of_ones_own_goes_through_the_same_door() -> None:
    def propose(problem: Problem) -> Iterator[list[Point]]:
        while True:  # the same again: costs nothing and comes to an end
            yield [problem.points[0]]

    with REGISTERED.only_for_now():
        register(SearchMethod(name="first", summary="the first tiling", propose=propose))
        found = search("first", "mas")
        assert (found.n_evaluations, found.proven) == (1, False)
        with pytest.raises(InputError, match='method: registered already; given "first"'):
            register(SearchMethod(name="first", summary="again", propose=propose))


def test_proposing_what_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = SearchMethod(name="wrong", summary="nonsense", propose=lambda problem: iter([[(0,) * 5]]))
    with pytest.raises(InputError, match="is no tiling that fits on chip"):
        run_method(wrong, get_dataflow("mas"), load_workload(LAYER), small())


def test_faults_are_one_line() -> None:
    with pytest.raises(InputError, match=r'unknown method; given "mtcs"; allowed .*did you mean "mcts"'):
        tilewright.search_tiling(LAYER, small(), "mas", method="mtcs")
    with pytest.raises(InputError, match=r"budget: given 2; allowed 3 or more"):
        tilewright.search_tiling(LAYER, small(), "layerwise", method="random", budget=2)
    with pytest.raises(MappingError, match="no tiling of this dataflow needs less"):
        tilewright.search_tiling(LAYER, small(**{"buffers.l1.capacity_kib": 0.1}), "flat", method="genetic")


@pytest.mark.parametrize(("method", "library"), LIBRARY.items())
def test_a_missing_library_is_said_with_the_way_to_get_it(
    method: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"method {method} needs .*pip install 'tilewright\[search\]'"):
        tilewright.search_tiling(LAYER, small(), "mas", method=method)


def test_simulate_and_compare_take_a_method() -> None:
    result = tilewright.simulate(LAYER, small(), "flat", method="random", seed=1)
    found = tilewright.search_tiling(LAYER, small(), "flat", method="random", seed=1)
    assert (result.cycles, result.tiling) == (found.cycles, found.tiling)
    assert result.search is not None and (result.search.proven, result.search.n_simulated) == (False, 8)
    (same,) = tilewright.compare(LAYER, small(), ["flat"], method="random", seed=1).results
    assert same.cycles == result.cycles
    with pytest.raises(InputError, match=r'unknown method; given "rondom"'):
        tilewright.compare(LAYER, small(), method="rondom")


def test_the_command_line_knows_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert method_names() == METHODS
    arguments = ["simulate", LAYER, "-a", "edge-16x16", "-d", "mas", "--seed", "1", "--method"]
    assert run([*arguments, "mcts"]) == 0
    assert "simulated in" in capsys.readouterr().out
    assert run([*arguments, "mtcs"]) == 2
    assert 'did you mean "mcts"' in capsys.readouterr().err
    assert run(["simulate", "resnet-18", "-a", "edge-16x16", "--method", "mcts"]) == 2
    assert "--method: is for attention layers" in capsys.readouterr().err


def test_the_methods_are_listed_with_a_line_each() -> None:
    listed = tilewright.search_methods()
    assert tuple(listed) == method_names()
    assert all(listed.values())


def test_many_searches_are_one_frame() -> None:
    frame = tilewright.search_tilings(
        LAYER, small(), ["mas", "flash2"], ["exhaustive", "mcts"], seeds=(0, 1), budget=None
    )
    assert len(frame) == 8 and frame["proven"][frame["method"] == "exhaustive"].all()
    best = frame[frame["method"] == "exhaustive"].groupby("dataflow")["value"].min()
    assert (frame["value"] >= frame["dataflow"].map(best)).all()
    assert (frame["infeasible"] == "").all()


def test_a_search_in_which_nothing_fits_is_a_row_with_the_reason() -> None:
    tiny = load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": 1})
    frame = tilewright.search_tilings("bert-base", tiny, ["flat"])
    assert frame["infeasible"].str.contains("l1").all()


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in method_names() if name != "exhaustive"])
@pytest.mark.parametrize("network", [name for name in workload_names() if not name.startswith("fusemax-")])
def test_no_method_is_better_than_the_optimum_of_a_network(network: str, method: str) -> None:
    if method in LIBRARY:
        pytest.importorskip(LIBRARY[method], reason="not installed: pip install 'tilewright[search]'")
    frame = tilewright.search_tilings(network, "edge-16x16", methods=["exhaustive", method])
    assert frame["proven"][frame["method"] == "exhaustive"].all()
    best = frame[frame["method"] == "exhaustive"].set_index("dataflow")["value"]
    assert (frame["value"] >= frame["dataflow"].map(best)).all()
