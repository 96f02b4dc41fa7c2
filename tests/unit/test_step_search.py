"""Does the search over steps choose within its budget, and say in a sentence what is wrong with its table?"""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tilewright.cli.app import app
from tilewright.errors import InputError
from tilewright.reports.runs.diffusion import number_ranges
from tilewright.search.steps.run import search_steps
from tilewright.workloads.diffusion.similarity import Similarities, Unit, load_similarities, save_similarities
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.diffusion import DiffusionConfig, dit
from tilewright.workloads.zoo.layers import Layers

MACHINE, N_STEPS, N_BLOCKS = "edge-16x16", 4, 3
PARTS = ("attention", "mlp")


def tiny() -> OperatorStream:
    """A diffusion transformer of three blocks."""
    config = DiffusionConfig(hidden=64, heads=2, layers=N_BLOCKS, patch=2, channels=4)
    return dit(Layers("tiny"), config, batch=1, latent=8)


def table(**more: Any) -> dict[str, Any]:
    chance = np.random.default_rng(3)
    units = [
        {"name": f"blocks.{index}.{part}", "change": chance.random(N_STEPS - 1).round(3).tolist()}
        for index in range(N_BLOCKS)
        for part in PARTS
    ]
    return {"schema": "tilewright.step_similarity", "version": 1, "steps": N_STEPS, "units": units, **more}


@pytest.fixture
def similarities(tmp_path: Path) -> Path:
    path = tmp_path / "similarities.json"
    path.write_text(json.dumps(table()))
    return path


def test_the_best_steps_keep_the_budget_when_they_are_simulated(similarities: Path) -> None:
    result = search_steps(tiny(), MACHINE, similarities, "latency=0.7x")
    assert result.proven
    assert result.run.seconds * 1e12 <= 0.7 * result.whole_price
    assert result.price <= 0.7 * result.whole_price
    assert result.run.seconds * 1e12 == pytest.approx(result.price, rel=0.05)
    assert all(unit.updates[0].step == 0 for unit in result.units)
    whole = search_steps(tiny(), MACHINE, similarities, "latency=2x", curve=True)
    assert whole.curve[-1][1] == pytest.approx(1)
    assert [point[1] for point in whole.curve] == sorted(point[1] for point in whole.curve)
    within = [value for price, value in whole.curve if price <= 0.7 * result.whole_price]
    assert max(within) == pytest.approx(result.mean_similarity, abs=0.02)
    assert whole.mean_similarity == pytest.approx(1)
    assert result.mean_similarity < 1


def test_bits_are_chosen_with_the_steps(tmp_path: Path) -> None:
    path = tmp_path / "both.json"
    formats = [{}, {"weights": "int8", "activations": "int8"}]
    path.write_text(
        json.dumps(table(formats=formats, units=[{**unit, "losses": [0, 0.001]} for unit in table()["units"]]))
    )
    both = search_steps(tiny(), MACHINE, path, "energy=0.6x")
    path.write_text(json.dumps(table()))
    alone = search_steps(tiny(), MACHINE, path, "energy=0.6x")
    assert both.mean_similarity > alone.mean_similarity
    assert both.run.energy_pj <= 0.6 * both.whole_price
    assert both.run.measure("tbops") < alone.run.measure("tbops")
    assert {row["format"] for row in both.rows()} == {"", "int8", "as it is"} & {row["format"] for row in both.rows()}
    assert any(row["format"] == "int8" for row in both.rows())


def test_blocks_before_an_updated_one_join_it(similarities: Path) -> None:
    result = search_steps(tiny(), MACHINE, similarities, "updates=2")
    alone = search_steps(tiny(), MACHINE, similarities, "updates=2", method="dp")
    steps = [{update.step for update in unit.updates} for unit in result.units]
    assert all(later <= before for before, later in pairwise(steps))
    assert all(len(unit.updates) == 2 for unit in alone.units)
    grouped = search_steps(tiny(), MACHINE, similarities, "groups=2")
    assert len({unit.updates for unit in grouped.units}) == 1


def test_the_command_writes_a_schedule_that_runs(similarities: Path, tmp_path: Path) -> None:
    schedule = tmp_path / "schedule.csv"
    network = tmp_path / "tiny.json"
    tiny().save(network)
    command = ["search", str(network), "--over", "steps", "-a", MACHINE, "--sensitivity", str(similarities)]
    told = CliRunner().invoke(
        app, [*command, "--budget", "latency=0.7x", "--csv", str(schedule), "--report", str(tmp_path / "page")]
    )
    assert told.exit_code == 0, told.output
    assert "proven" in told.output
    rows = list(csv.DictReader(schedule.read_text().splitlines()))
    assert len(rows) == N_STEPS * N_BLOCKS * 2
    page = (tmp_path / "page" / "index.html").read_text()
    assert "Steps that are alike" in page
    assert "blocks.2" in (tmp_path / "page" / "steps.svg").read_text()
    run = tmp_path / "run.yaml"
    run.write_text(f"run: diffusion\nnetwork: {network}\nsteps: {N_STEPS}\nschedule: {schedule}\n")
    again = CliRunner().invoke(app, ["simulate", "--run", str(run), "-a", MACHINE, "--json", "-"])
    assert again.exit_code == 0, again.output
    kinds = [step["kind"] for step in json.loads(again.stdout)["steps"]]
    assert kinds[0] == "full"
    assert "cached" in kinds


@pytest.mark.parametrize(
    ("change", "budget", "fault"),
    [
        ({}, "latncy=0.5x", 'did you mean "latency"'),
        ({}, "latency=0.5h", "unknown unit"),
        ({}, "updates=9", "updates: given 9; allowed 1 to 4"),
        ({}, "updates=1.5", "a whole number"),
        ({}, "latency=0.01x", "every unit computed once takes"),
        ({"schema": "other"}, "latency=0.5x", "is no table of similarities"),
        ({"steps": 5}, "latency=0.5x", "units.0.change: must be 4 numbers; given 3"),
        ({"untis": []}, "latency=0.5x", 'did you mean "units"'),
        ({"units": [{"name": "block.0", "change": [0, 0, 0]}]}, "latency=0.5x", 'did you mean "blocks.0"'),
        ({"units": [{"name": "blocks.0"}]}, "latency=0.5x", "given neither of similarity and change"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path, change: dict[str, Any], budget: str, fault: str) -> None:
    path = tmp_path / "similarities.json"
    path.write_text(json.dumps(table(**change)))
    with pytest.raises(InputError) as error:
        search_steps(tiny(), MACHINE, path, budget)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_tables_are_written_and_read_again(tmp_path: Path) -> None:
    similarity = np.triu(np.random.default_rng(1).random((3, 3)).round(3))
    one = Similarities(
        network="n", n_steps=3, units=(Unit(name="blocks.0", similarity=similarity, losses=np.zeros((1, 3))),)
    )
    save_similarities(one, tmp_path / "one.json", measured_by="nothing")
    again = load_similarities(tmp_path / "one.json")
    assert np.array_equal(again.units[0].similarity, similarity)
    rows = [f"blocks.0,{i},{j},{similarity[i, j]}" for i in range(3) for j in range(i, 3)]
    (tmp_path / "one.csv").write_text("\n".join(["block,from,to,similarity", *rows]))
    read = load_similarities(tmp_path / "one.csv").units[0]
    assert np.array_equal(read.gains(), again.units[0].gains()) or similarity[0, 0] != 1


def test_numbers_are_told_as_ranges() -> None:
    assert number_ranges([0, 4, 15, 26, 37, 48]) == "0, 4-48:11"
    assert number_ranges([0, 1, 2, 5, 7]) == "0-2, 5, 7"
    assert number_ranges([3]) == "3"


@pytest.mark.extras
def test_similarities_are_measured_from_a_module() -> None:
    torch = pytest.importorskip("torch")
    from tilewright.search.steps.measure import measure_step_similarities

    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())
    inputs = [torch.tensor([1.0, 0, 0, 0]), torch.tensor([1.0, 0.01, 0, 0]), torch.tensor([0, 0, 0, 1.0])]
    found = measure_step_similarities(module, {"0": "blocks.0"}, lambda: [module(one) for one in inputs])
    similarity = found.units[0].similarity
    assert found.n_steps == 3
    assert found.units[0].name == "blocks.0"
    assert similarity[0, 1] > 0.99 > similarity[0, 2]
    with pytest.raises(InputError, match="unknown block"):
        measure_step_similarities(module, ["2"], lambda: None)
