"""Tables of measured networks and layers on any machine: what is read, what is told, and what is fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilewright.cli.app import app
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine, machine_names
from tilewright.hw_models.machine_text import machine_yaml
from tilewright.kernels.reading.runs import MeasuredRun, is_run_table, read_runs
from tilewright.search.devices.calibrate import calibrate_device, is_fitted_on
from tilewright.search.devices.predict import subject_of
from tilewright.search.devices.validate import validate_device

EDGE = load_machine("edge-16x16")
LAYERS = [f"gemm:m={m},n={n},k=64" for m in (16, 64) for n in (32, 128, 512)]


def table(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def measured(name: str, seconds: float, kind: str = "layer", joules: float | None = None) -> MeasuredRun:
    return MeasuredRun(
        name=name,
        kind=kind,
        seconds=seconds,
        joules=joules,
        batch=None,
        weights="int8",
        activations="int8",
        notes="",
        place="x:1",
    )


def test_a_table_is_read_as_a_person_writes_it(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "Network, MS ,fps,w,batch,weights,notes,board\n"
        "resnet-18,2.5,,4,,int8,warm,mine\n"
        "resnet-50,,100,,4,,,\n"
        "\n"
        "mobilenet-v2,,,,,,,\n",
    )
    found = read_runs(path)
    assert [run.seconds for run in found.runs] == [0.0025, 0.04]
    assert found.runs[0].joules == pytest.approx(0.01) and found.runs[0].notes == "warm"
    assert found.runs[1].batch == 4 and found.runs[1].place.endswith(":3")
    assert [reason for _, reason in found.left_out] == ["has no time"] and "mobilenet-v2" in found.left_out[0][0]
    assert found.ignored == ("board",)
    assert is_run_table(path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model,ms\nresnet-18,1\n", "lacks a column with what was run; given model, ms; allowed network"),
        ("netwrok,ms\nresnet-18,1\n", 'did you mean "network"?'),
        ("network,latency\nresnet-18,1\n", "lacks a column with the time"),
        ("network,ms,weigths\nresnet-18,1,int8\n", 'unknown column; given "weigths"'),
        ("network,ms,wieghts\nresnet-18,1,int8\n", 'did you mean "weights"?'),
        ("network,ms\nresnet-18,fast\n", ":2: ms: given fast; allowed a number above 0"),
        ("network,ms\nresnet-18,-1\n", ":2: ms: given -1"),
        ("network,ms,batch\nresnet-18,1,1.5\n", ":2: batch: given 1.5; allowed a whole number"),
        ("network,ms\nresnet-18,1,2\n", ":2: 3 cells under 2 columns"),
        ("network,ms,MS\nresnet-18,1,2\n", "two columns are called so"),
        ("network,ms\nresnet-18,\n", "holds no measured times"),
        ("", "lacks a column with what was run; given nothing"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, text: str, part: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_runs(path)
    assert part in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_rows_are_compared_and_those_that_name_nothing_are_named() -> None:
    subject = subject_of(measured(LAYERS[0], 1.0), EDGE)
    exact = subject.predict(EDGE).seconds
    runs = [measured(LAYERS[0], exact, joules=1e-6), measured(LAYERS[1], 1.0), measured("resnt-18", 1.0, "network")]
    found = validate_device(EDGE, runs)
    assert found.rows[0].error == pytest.approx(0)
    assert found.overall.n == 2 and found.overall.worst == pytest.approx(1, abs=1e-3)
    assert found.energy is not None and found.energy.n == 1
    [(name, reason)] = found.left_out
    assert name.startswith("resnt-18 (x:1)") and 'did you mean "resnet-18"?' in reason
    with pytest.raises(InputError, match="no row can be compared"):
        validate_device(EDGE, runs[2:])


def test_a_layer_has_the_cost_of_a_command_and_an_attention_layer_is_one() -> None:
    costly = EDGE.with_(**{"overheads.per_layer_us": 10, "overheads.per_inference_us": 1000})
    for name in (LAYERS[0], "attention:heads=1,seq=32,head_dim=16"):
        subject = subject_of(measured(name, 1.0), EDGE)
        plain, with_costs = subject.predict(EDGE), subject.predict(costly)
        assert with_costs.cycles == plain.cycles + 10_000 == plain.cycles + with_costs.fixed_cycles
        assert with_costs.energy_pj > plain.energy_pj and with_costs.limited_by == "fixed"


def test_a_fit_finds_the_figures_that_a_device_has() -> None:
    device = EDGE.with_(**{"overheads.per_layer_us": 12, "dram.sustained_share": 0.5})
    runs = [measured(name, subject_of(measured(name, 1.0), device).predict(device).seconds) for name in LAYERS]
    found = calibrate_device(EDGE, runs, names=("per_layer_us", "sustained_share"), table="mine.csv")
    assert found.fitted.overheads.per_layer_us == pytest.approx(12, rel=0.01)
    assert found.held_out_after.overall.mape < 0.01 < found.held_out_before.overall.mape
    assert found.fitted_before.overall.n == sum(is_fitted_on(run) for run in runs)
    assert found.carries_over and found.to_dict()["carries_over"]
    swapped = replace(found, held_out_before=found.held_out_after, held_out_after=found.held_out_before)
    assert not swapped.carries_over
    source = found.fitted.sources[0]
    assert source.kind == "measured" and "mine.csv" in source.source and "0 before" in source.source
    with pytest.raises(InputError, match=r'given "per_leyer_us".*did you mean "per_layer_us"'):
        calibrate_device(EDGE, runs, names=("per_leyer_us",))
    with pytest.raises(InputError, match="rows to fit 2 figures to and"):
        calibrate_device(EDGE, runs[:1], names=("per_layer_us", "sustained_share"))


@pytest.mark.parametrize("name", machine_names())
def test_the_text_of_a_machine_is_the_machine(tmp_path: Path, name: str) -> None:
    machine = load_machine(name)
    path = tmp_path / "copy.yaml"
    path.write_text(machine_yaml(machine), encoding="utf-8")
    assert load_machine(path) == machine


def test_the_commands_write_what_they_say(tmp_path: Path) -> None:
    rows = "".join(f'"{name}",{0.02 + 0.01 * at}\n' for at, name in enumerate(LAYERS))
    path = table(tmp_path, f"layer,ms\n{rows}relu,1\n")
    told = CliRunner().invoke(
        app,
        [
            "validate",
            str(path),
            "-a",
            "edge-16x16",
            "--report",
            str(tmp_path / "page"),
            "--json",
            str(tmp_path / "v.json"),
        ],
    )
    assert told.exit_code == 0, told.output
    assert "not compared: relu" in told.output and "after one factor" in told.output
    data = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    assert data["overall"]["n"] == len(LAYERS) and data["left_out"][0]["name"].startswith("relu")
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "Error by row" in page and LAYERS[0] in page and "data:image/png" in page
    fitted = tmp_path / "my npu.yaml"
    told = CliRunner().invoke(
        app, ["calibrate", str(path), "-a", "edge-16x16", "-o", str(fitted), "--fit", "per_layer_us"]
    )
    assert told.exit_code == 0, told.output
    assert load_machine(fitted).name == "my-npu" and load_machine(fitted).overheads.per_layer_us > 0
