"""Clumsy and hostile input to the commands: one clear sentence, exit code 2, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilewright.cli.run import run


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
    assert refused(["report", "x.db", "-o", ""], capsys) == "--output: the name of the file is empty"
