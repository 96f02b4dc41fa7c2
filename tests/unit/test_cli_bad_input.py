"""Clumsy and hostile input to the commands: one clear sentence, exit code 2, and nothing lost."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

import tilewright
from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.kernels.measurement import MeasurementDevice, MeasurementFile
from tilewright.kernels.reading import read_tables
from tilewright.reports.files import write_file
from tilewright.workloads.network import load_network


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that the command line answers with."""
    capsys.readouterr()
    code = run(arguments)
    said = capsys.readouterr().err.splitlines()
    assert code == 2, said
    assert len(said) == 1, said
    return said[0].removeprefix("tilewright: error: ")


def test_no_command_writes_over_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read = tmp_path / "h200_gemm_x_1.csv"
    read.write_text("m,n,k,latency_ms\n")
    name = str(read)
    for arguments in (
        ["report", name, "-o", name],
        ["report", name, "--csv", name],
        ["sweep", name, "--store", "x.db", "--json", name],
        ["sweep", "x.yaml", "--store", name, "--csv", name],
        ["validate", name, "-a", "h200", "--csv", name],
        ["validate", "x.csv", "-a", "h200", "--calibration", name, "--json", name],
        ["calibrate", name, "-a", "h200", "-o", name],
        ["search", "resnet-18", "--over", "bits", "--sensitivity", name, "--json", name],
        ["search", f"{name}:batch=1", "--over", "fusion", "-a", "h200", "--json", name],
        ["simulate", "resnet-18", "-a", name, "--json", name],
        ["compare", name, "-a", "edge-16x16", "--markdown", name],
        ["why", name, "-a", "edge-16x16", "--csv", name],
        ["show", name, "--json", name],
    ):
        assert f"{name} is read by this command; allowed another file" in refused(arguments, capsys)
    assert read.read_text() == "m,n,k,latency_ms\n"


def test_what_needs_a_file_does_not_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["calibrate", "x.csv", "-a", "h200", "-o", "-"], ["report", "x.db", "-o", "-"]):
        assert refused(arguments, capsys).startswith("--output: cannot go to standard output")
    assert (
        refused(["report", "x.db", "-o", ""], capsys)
        == "--output: the name of the file is empty or has a null character in it"
    )


def test_searches_refuse_what_would_mean_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fusion = ["search", "resnet-18", "--over", "fusion", "-a", "edge-16x16"]
    said = refused([*fusion, "--explainer", "gnn"], capsys)
    assert said == "--explainer: means nothing to --method dp; allowed with methods that begin with get-"
    said = refused([*fusion, "--weights", ""], capsys)
    assert said.startswith('weights: unknown number format; given ""; allowed int1 to int16')
    said = refused([*fusion, "--buffer", "9999999MiB"], capsys)
    assert said == '--buffer: out of range; given "9999999MiB"; allowed at most 1048576MiB'
    said = refused(["simulate", "resnet-18", "-a", "edge-16x16", "--weights", ""], capsys)
    assert said.startswith('--weights: unknown number format; given ""')


def test_bounds_of_the_joint_search_are_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.json"
    options = [{"weights": "int8", "activations": "int8", "sensitivity": 0}]
    layers = [{"name": "c", "n_weights": 1, "macs": 1, "options": options}]
    head = {"schema": "tilewright.sensitivity", "version": 1, "network": "a", "measured_by": "b"}
    table.write_text(json.dumps({**head, "layers": layers}))
    joint = ["search", "resnet-18", "--over", "joint", "-a", "edge-16x16", "--sensitivity", str(table)]
    assert refused(joint, capsys) == "--budget: missing; allowed for example sensitivity=0.5"
    said = refused([*joint, "--budget", "sensitivity=1e400"], capsys)
    assert said == "--budget: sensitivity: out of range; given 1e400; allowed at most 1e+30"


def test_a_network_may_be_called_one() -> None:
    assert load_network("network:resnet-18") == load_network("resnet-18")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{from: 1, to: 1e300, step: 1e-300}", "inf values; allowed at most 100,000"),
        ("{from: 1e-300, to: 1e300, factor: 1.0000000000000002}", "6.22e+18 values; allowed at most 100,000"),
        ("{from: 1, to: 100001, step: 1}", "100,001 values; allowed at most 100,000"),
    ],
)
def test_endless_ranges_of_a_sweep_are_refused(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"machine: edge-16x16\nworkloads: [bert-base]\nparameters:\n  vector.lanes: {text}\n")
    assert refused(["sweep", str(file), "--store", str(tmp_path / "a.db")], capsys).endswith(said)
    assert not (tmp_path / "a.db").exists()


def test_a_wrong_format_of_a_sweep_is_at_its_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("machine: edge-16x16\nworkloads: [resnet-18]\nformats: {activations: int99}\n")
    said = refused(["sweep", str(file), "--store", str(tmp_path / "a.db")], capsys)
    assert said.startswith(f'{file}:3:24: formats.activations: unknown number format; given "int99"; allowed int1')


def test_no_device_or_pipe_is_replaced_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said = refused(["report", "x.db", "--parquet", str(pipe)], capsys)
    assert said == f"cannot write {pipe}: Parquet needs a file, and this is a device, a pipe or a folder"
    for name in (str(pipe), str(tmp_path), "-", ""):
        said = refused(["measure", "--suite", "tiny", "-o", name], capsys)
        assert said.endswith(": not a file; allowed the name of a file, which keeps the results")
    assert pipe.is_fifo()


def test_a_pipe_that_nobody_reads_is_not_waited_for_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tilewright.reports.files.READER_S", 0.1)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said = refused(["list", "machines", "--json", str(pipe)], capsys)
    assert said == f"cannot write {pipe}: nobody reads this pipe (waited 0.1 s)"
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)


def test_spaces_about_the_names_of_columns_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "steps.csv"
    table.write_text("  Hk,Hv,B,L,h100_flashinfer\n4,4,1,16,0.01\n")
    with pytest.raises(InputError, match="columns have spaces about their names; given '  Hk'"):
        read_tables(table)


def test_measurements_are_as_readable_as_other_files(tmp_path: Path) -> None:
    file = MeasurementFile(device=MeasurementDevice(name="h200", kind="gpu"), taken="2026-11-20")
    before = os.umask(0o027)
    try:
        file.save(tmp_path / "a.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["budget", "buffer_bytes", "seed"])
@pytest.mark.parametrize("value", [float("nan"), 1.5, -1, "x"])
def test_counts_of_a_fusion_search_are_whole(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"search_fusion: {name}: given {value!r}; allowed a whole number"):
        tilewright.search_fusion("resnet-18", "edge-16x16", method="local", **{name: value})


@pytest.mark.parametrize("value", [float("nan"), 1.5, 0])
def test_a_budget_of_runs_is_whole(value: object) -> None:
    with pytest.raises(InputError, match=f"budget: given {value!r}; allowed 1 or more"):
        tilewright.search_tiling("bert-base", "edge-16x16", "flash2", "random", budget=value)  # type: ignore[arg-type]


def test_a_report_writes_each_file_to_its_own_place(tmp_path: Path) -> None:
    place = tmp_path / "a"
    with pytest.raises(InputError, match=f"output and csv both write to {place}; give each its own place"):
        tilewright.report_sweep("x.db", place, csv=str(place))


def test_a_gpu_in_the_engine_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "attention:heads=1,seq=64,head_dim=16", "-a", "h200", "--dataflow", "flat"]) == 0
    assert "h200 is a GPU; here it runs the engine's schedules" in capsys.readouterr().err
    assert run(["show", "h200"]) == 0
    assert "is a GPU" not in capsys.readouterr().err
