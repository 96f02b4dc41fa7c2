"""The command line on the real simulator, from the words typed to the files on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tilewright
from tilewright.cli import main
from tilewright.testing.dataflows import plain_dataflows

SMALL = ["attention:heads=2,seq=96,head_dim=32", "-a", "edge-16x16"]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compile first, so that the news of it is in nobody's standard error."""
    from tilewright.sim.engine import run as engine

    engine.warm_up()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


@pytest.mark.parametrize("dataflow", plain_dataflows())
def test_command_and_function_say_the_same(capsys: pytest.CaptureFixture[str], dataflow: str) -> None:
    code, out, _ = run(capsys, "simulate", *SMALL, "-d", dataflow, "--json", "-")
    assert code == 0
    told, wanted = json.loads(out), tilewright.simulate(SMALL[0], "edge-16x16", dataflow).to_dict()
    assert told.pop("header")["machines"][0]["name"] == "edge-16x16"
    for data in (told, wanted):
        data["search"].pop("seconds")
    assert told == wanted


def test_a_tiling_that_was_found_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    found = tilewright.simulate(SMALL[0], "edge-16x16", "mas")
    tiles = [f"--tile={name}={size}" for name, size in found.tiling.items()]
    code, out, _ = run(capsys, "simulate", *SMALL, *tiles, "--json", "-")
    assert code == 0
    assert json.loads(out)["cycles"] == found.cycles


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--tile", "query=0"], 'tilewright: error: tile "query": given 0, allowed 1 to 96'),
        (["--tile", "query=97"], 'tilewright: error: tile "query": given 97, allowed 1 to 96'),
        (["--tile", "quary=8"], 'tilewright: error: mas: unknown tile; given "quary"; allowed query, '),
        (["-d", "flatt"], 'tilewright: error: --dataflow: unknown dataflow; given "flatt"; allowed '),
    ],
)
def test_mistakes_in_a_mapping(capsys: pytest.CaptureFixture[str], arguments: list[str], text: str) -> None:
    code, out, err = run(capsys, "simulate", *SMALL, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(text)
    assert err.count("\n") == 1


def test_a_mapping_that_does_not_fit_names_need_limit_and_what_helps(capsys: pytest.CaptureFixture[str]) -> None:
    long = "attention:heads=1,seq=1000000,head_dim=64"
    code, out, err = run(capsys, "simulate", long, "-a", "flat-edge", "-d", "flat")
    assert (code, out) == (2, "")
    assert err.startswith("tilewright: error: the mapping needs ")
    assert "which has 524,288 bytes; " in err
    assert err.count("\n") == 1


def test_compare_lists_what_cannot_run(capsys: pytest.CaptureFixture[str]) -> None:
    long = "attention:heads=1,seq=1000000,head_dim=64"
    code, out, _ = run(capsys, "compare", long, "-a", "flat-edge", "-d", "flat", "-d", "flash2")
    assert code == 0
    assert "* flash2" in out
    assert "cannot run" in out


def test_machine_file_with_a_fault_is_refused_with_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tilewright.hw_models.load import machine_text

    file = tmp_path / "mine.yaml"
    lines = machine_text("edge-16x16").splitlines()
    number = next(i for i, line in enumerate(lines) if "bandwidth_gb_per_s: 30" in line)
    lines[number] = lines[number].replace("30", "0", 1)
    file.write_text("\n".join(lines))
    code, out, err = run(capsys, "simulate", SMALL[0], "-a", str(file))
    assert (code, out) == (2, "")
    assert err.startswith(f"tilewright: error: {file}:{number + 1}:")
    assert "dram.bandwidth_gb_per_s: out of range; given 0; allowed a number greater than 0" in err
    assert err.count("\n") == 1


def test_report_of_a_comparison(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    code, _, err = run(capsys, "compare", *SMALL, "--report", str(folder))
    assert code == 0
    assert err.splitlines()[-1] == f"tilewright: wrote {folder}/index.html"
    trace = json.loads((folder / "trace.json").read_text())
    ends = [e["args"]["end_cycle"] for e in trace["traceEvents"] if e["ph"] == "X"]
    assert trace["otherData"]["complete"] is True
    assert max(ends) == trace["otherData"]["total_cycles"]
    page = (folder / "index.html").read_text()
    assert f"{max(ends):,}" in page
    assert "What if" in page
    assert "Assumptions in force" in page


def test_why_says_what_would_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "why", *SMALL, "--json", "-")
    assert code == 0
    told = json.loads(out)
    assert {w["label"] for w in told["what_ifs"]} >= {"2x vector lanes", "2x DRAM bandwidth"}
    assert told["result"]["lower_bound_cycles"] <= told["result"]["cycles"]


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m tilewright simulate {' '.join(SMALL)} --json - | head -c 10"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
