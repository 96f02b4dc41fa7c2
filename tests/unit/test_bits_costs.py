"""Bit widths on a machine: costs from the simulator, budgets held to whole runs, the command line and its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import tilewright
from tilewright.cli import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.bits.budget import parse_budgets
from tilewright.search.bits.choose import choose_bits
from tilewright.search.bits.costs import BitCosts, SimulationSettings, simulated_costs
from tilewright.search.bits.program import InfeasibleError
from tilewright.search.bits.sensitivity import (
    LayerSensitivity,
    OptionSensitivity,
    Sensitivity,
    load_sensitivity,
    save_sensitivity,
)
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

MACHINE = load_machine("edge-16x16-bitfusion")
PAIRS = (("int8", "int8"), ("int4", "int8"), ("int4", "int4"))


def network() -> OperatorStream:
    """A small perceptron with a residual: four products, two of them large."""
    b = Layers("small")
    x = b.input("x", (48, 128))
    for name, width in (("a", 256), ("b", 256), ("c", 128)):
        x = b.elementwise("relu", b.linear(x, width, name))
    return b.finish([b.linear(x, 16, "d")])


def table(stream: OperatorStream) -> Sensitivity:
    products = [operator for operator in stream.operators if operator.kind == "matmul"]
    layers = []
    for at, operator in enumerate(products):
        loss = (3.0, 1.0, 2.0, 9.0)[at]
        options = tuple(
            OptionSensitivity(
                weights=w, activations=a, sensitivity=loss * {"int8int8": 0.01, "int4int8": 0.4, "int4int4": 1.0}[w + a]
            )
            for w, a in PAIRS
        )
        n_weights = stream.tensor(operator.inputs[1]).n_elements
        layers.append(LayerSensitivity(name=operator.name, n_weights=n_weights, macs=operator.macs, options=options))
    return Sensitivity(network="small", measured_by="made up", layers=tuple(layers))


@pytest.fixture(scope="module")
def costs() -> BitCosts:
    stream = network()
    return simulated_costs(stream, MACHINE, table(stream), SimulationSettings(cache=ForgetfulCache()))


def test_uniform_networks_cost_what_the_simulator_says(costs: BitCosts) -> None:
    for weights, activations in PAIRS:
        run = tilewright.simulate_network(
            network().with_formats(weights=weights, activations=activations), MACHINE, keep_mappings=False
        )
        model = costs.problem.costs(costs.problem.uniform(weights, activations))
        if (weights, activations) == ("int8", "int8"):
            assert model["latency"] == run.cycles
            assert model["dram"] == run.dram_bytes
            assert model["energy"] == pytest.approx(1000 * run.energy_pj, rel=1e-9)
            assert model["size"] == 8 * run.weight_bytes
        assert model["latency"] == pytest.approx(run.cycles, rel=0.01)
        # The results that leave the network stay in int8, as everything that no layer decides.
        assert model["dram"] == pytest.approx(run.dram_bytes, rel=0.05)


def test_a_mixed_network_is_near_the_sum_of_its_operators(costs: BitCosts) -> None:
    for assignment in ((0, 1, 2, 0), (2, 0, 2, 0), (2, 2, 2, 1)):
        model, real = costs.problem.costs(assignment), costs.real_costs(assignment)
        assert model["size"] == real["size"]
        assert model["latency"] == pytest.approx(real["latency"], rel=0.1)
        assert model["dram"] == pytest.approx(real["dram"], rel=0.25)


def test_a_machine_with_an_engine_sees_other_costs() -> None:
    """Where narrow weights are multiplied no faster, they save no time; on MixPE's array of quarter slots they do, and
    of the pairs with narrow weights the one that the engine does costs the least time.
    """
    stream = network()
    rates = {"fp16": 1.0, "bf16": 1.0, "int8": 1.0}
    wide = {"dram.bandwidth_gb_per_s": 300, "matrix.multiplies_per_pe_per_cycle": rates}
    plain = load_machine("edge-16x16").with_(**wide)
    mixpe = plain.with_(**{"matrix.engine": "mixpe", "matrix.engine_options": {"slots": "1/4", "weights": "int4-g64"}})
    settings = SimulationSettings(cache=ForgetfulCache())
    of_plain, of_mixpe = (simulated_costs(stream, one, table(stream), settings) for one in (plain, mixpe))
    slow, fast = (
        [costs.problem.costs(costs.problem.uniform(*pair))["latency"] for pair in PAIRS]
        for costs in (of_plain, of_mixpe)
    )
    assert slow[1] > 0.97 * slow[0] == 0.97 * fast[0]
    assert fast[1] < 0.6 * min(fast[0], fast[2])
    found = choose_bits(of_mixpe, parse_budgets(["latency=0.7x"]))
    chosen = of_mixpe.problem.by_layer(found.chosen.assignment).values()
    assert {(option.weights, option.activations) for option in chosen} == {("int8", "int8"), ("int4", "int8")}
    with pytest.raises(InputError, match="latency"):
        choose_bits(of_plain, parse_budgets(["latency=0.7x"]))


@pytest.mark.parametrize("budget", ["latency=0.6x", "energy=0.7x", "dram=0.75x,latency=0.9x", "size=0.7x", "bops=0.5x"])
def test_the_whole_run_keeps_every_budget(costs: BitCosts, budget: str) -> None:
    result = choose_bits(costs, parse_budgets([budget]))
    assert all(result.chosen.costs[kind] <= limit for kind, limit in result.limits.items())
    assert result.proven
    assert result.reference.sensitivity < result.chosen.sensitivity < 15.0
    assert set(result.binding) <= set(result.limits)
    assert result.binding


def test_the_curve_is_a_front_of_whole_runs_with_the_choice_on_it(costs: BitCosts) -> None:
    result = choose_bits(costs, parse_budgets(["latency=0.7x"]), curve="latency")
    cycles = [point.costs["latency"] for point in result.curve]
    assert cycles == sorted(cycles)
    losses = [point.sensitivity for point in result.curve]
    assert losses == sorted(losses, reverse=True)
    better = [p for p in result.curve if p.costs["latency"] <= result.limits["latency"]]
    assert min(point.sensitivity for point in better) <= result.chosen.sensitivity
    assert {point.name for point in result.uniform} == {"int8/int8", "int4/int8", "int4/int4"}


def test_a_budget_below_the_least_says_the_least(costs: BitCosts) -> None:
    with pytest.raises(InfeasibleError, match=r"latency: given .* cycles; the least possible is .* cycles"):
        choose_bits(costs, parse_budgets(["latency=0.01x"]))
    with pytest.raises(InputError, match="none given"):
        choose_bits(costs, [])


def test_layers_that_are_no_operators_are_refused() -> None:
    stream = network()
    wrong = Sensitivity(
        network="small",
        measured_by="",
        layers=(LayerSensitivity(name="aa", n_weights=1, macs=1, options=table(stream).layers[0].options),),
    )
    with pytest.raises(InputError, match='aa: small has no product of that name; given "aa"'):
        simulated_costs(stream, MACHINE, wrong)
    twice = Sensitivity(
        network="small",
        measured_by="",
        layers=tuple(
            LayerSensitivity(
                name=n, operators=("a",), n_weights=32_768, macs=1, options=table(stream).layers[0].options
            )
            for n in ("p", "q")
        ),
    )
    with pytest.raises(InputError, match="operator a belongs to layer p too"):
        simulated_costs(stream, MACHINE, twice)


def test_a_table_of_another_network_with_the_same_names_is_refused() -> None:
    stream = network()
    other = replace(table(stream), network="large")
    first, *rest = other.layers
    other = replace(other, layers=(replace(first, n_weights=first.n_weights + 1), *rest))
    with pytest.raises(
        InputError, match=r"n_weights: given 32769; allowed 32768, as small has \(the table is of \"large"
    ):
        simulated_costs(stream, MACHINE, other)


# --- the command line ------------------------------------------------------------------------------------------------


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    stream = network()
    stream.save(tmp_path / "net.json")
    save_sensitivity(table(stream), tmp_path / "sens.json")
    return tmp_path


def test_the_command_writes_tables_data_and_a_page(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["search", str(files / "net.json"), "-a", MACHINE.name, "--over", "bits"]
    given = [*base, "--sensitivity", str(files / "sens.json"), "--budget", "latency=0.6x", "--budget", "size=0.9x"]
    outputs = ["--json", str(files / "out.json"), "--csv", str(files / "out.csv"), "--report", str(files / "report")]
    assert run(*given, "--pareto", *outputs) == 0
    said = capsys.readouterr().out
    assert "binds" in said
    assert "formats by layer" in said
    data = json.loads((files / "out.json").read_text())
    assert data["binding"]
    assert [row["layer"] for row in data["layers"]] == ["a", "b", "c", "d"]
    assert data["curve_over"] == "latency"
    assert (files / "out.csv").read_text().splitlines()[0].startswith("layer,weights,activations")
    page = (files / "report" / "index.html").read_text()
    assert "Bit widths of small on edge-16x16-bitfusion" in page
    assert (files / "report" / "curve.png").stat().st_size > 10_000
    assert (files / "report" / "layers.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "latency=0.6x"], "--sensitivity: missing; this search needs to know"),
        (["--sensitivity", "{}/sens.json"], "--budget: missing; allowed for example latency=0.6x"),
        (["--sensitivity", "{}/sens.json", "--budget", "12"], "budget: not of the form COST=AMOUNT"),
        (["--sensitivity", "{}/sens.json", "--budget", "latency=0.01x"], "the least possible is"),
        (["--sensitivity", "{}/none.json", "--budget", "size=0.5x"], "none.json: no such file"),
        (["--seed", "3", "--budget", "size=0.5x"], "--seed: means nothing to --over bits"),
    ],
)
def test_mistakes_are_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    base = ["search", str(files / "net.json"), "-a", MACHINE.name, "--over", "bits"]
    assert run(*base, *[argument.format(files) for argument in arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def conv_network() -> OperatorStream:
    b = Layers("two")
    y = b.elementwise("relu", b.conv(b.input("x", (1, 8, 16, 16)), 16, 3, name="a", padding=1))
    return b.finish([b.conv(y, 8, 3, name="b", padding=1)])


def test_the_joint_search_shows_both_sequences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = conv_network()
    options = tuple(
        OptionSensitivity(weights=name, activations=name, sensitivity=loss)
        for name, loss in (("int8", 0.1), ("int4", 1))
    )
    layers = tuple(LayerSensitivity(name=n, n_weights=1152, macs=294_912, options=options) for n in ("a", "b"))
    stream.save(tmp_path / "net.json")
    save_sensitivity(Sensitivity(network="two", measured_by="made up", layers=layers), tmp_path / "sens.json")
    base = ["search", str(tmp_path / "net.json"), "-a", MACHINE.name, "--over", "joint", "--buffer", "3KiB"]
    base += ["--sensitivity", str(tmp_path / "sens.json")]
    assert run(*base, "--budget", "sensitivity=2.5", "--json", str(tmp_path / "out.json")) == 0
    assert "fusion, then bits" in capsys.readouterr().out
    data = json.loads((tmp_path / "out.json").read_text())
    names = [design["design"] for design in data["designs"]]
    assert names == ["widest formats", "bits, then fusion", "fusion, then bits", "together"]
    traffic = [design["dram_bytes"] for design in data["designs"]]
    assert traffic[3] <= min(traffic)
    assert run(*base, "--budget", "latency=0.5x") == 2
    assert "--budget: not of the form sensitivity=AMOUNT" in capsys.readouterr().err
    assert run(*base, "--budget", "sensitivity=0.5x") == 2
    assert "sensitivity: given at most 0.1; the least possible is 0.2" in capsys.readouterr().err


def test_budgets_of_other_searches_are_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("search", "bert-base", "-a", "edge-16x16", "--over", "tiling", "--budget", "latency=0.6x") == 2
    assert '--budget: not a count; given "latency=0.6x"' in capsys.readouterr().err


def test_the_example_file_fits_its_network() -> None:
    path = Path(__file__).parents[2] / "examples" / "sensitivity-resnet-18.json"
    given = load_sensitivity(path)
    names = {operator.name for operator in tilewright.load_network("resnet-18").operators}
    assert {layer.name for layer in given.layers} <= names
    assert len(given.layers) == 21
