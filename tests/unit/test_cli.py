"""The command line: what it prints, what it writes, and its answer to every mistake."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import tilewright
from tilewright.cli import main
from tilewright.cli.options import tiling_of
from tilewright.errors import InputError

BASE = ["bert-base", "-a", "edge-16x16"]


class Ran:
    """What a run of the command line left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Run = Callable[..., Ran]


@pytest.fixture
def tw(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command line in a fresh folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        assert "Traceback" not in captured.err
        return Ran(stopped.value.code, captured.out, captured.err)

    return run


# --- mistakes: one line, exit code 2, nothing written ----------------------------------------------------------------

MACHINES_HEAD = 'tilewright: error: unknown machine; given "edge-16x61"; allowed '
MISTAKES = [
    (
        ["simulate", "bert-bas", "-a", "edge-16x16"],
        'tilewright: error: unknown workload; given "bert-bas"; allowed a built-in name, NAME:key=value,..., '
        "attention:key=value,..., an operator as gemm:m=512,n=768,k=768, a YAML file, or a model as .onnx or .json "
        '(did you mean "bert-base"?)',
    ),
    (
        ["simulate", "resnet-51", "-a", "edge-16x16"],
        'tilewright: error: unknown workload; given "resnet-51"; allowed a built-in name, ',
    ),
    (
        ["simulate", "resnet-18:image=big", "-a", "edge-16x16"],
        "tilewright: error: resnet-18:image=big: image: must be a whole number; ",
    ),
    (
        ["simulate", "llama-3-8b:decode=1", "-a", "edge-16x16"],
        "tilewright: error: llama-3-8b:decode=1: context: missing; ",
    ),
    (
        ["simulate", "no.json", "-a", "edge-16x16"],
        "tilewright: error: no.json: no such file; ",
    ),
    (
        ["simulate", "resnet-18", "-a", "edge-16x16", "--weights", "in8"],
        'tilewright: error: --weights: unknown number format; given "in8"; ',
    ),
    (
        ["simulate", "resnet-18", "-a", "edge-16x16", "--tile", "m=4"],
        'tilewright: error: --tile: is for attention layers and operators; given the network "resnet-18"',
    ),
    (
        ["simulate", "t5", "-a", "edge-16x16", "--no-fuse"],
        'tilewright: error: --no-fuse: is for whole networks; given the attention layer "t5"',
    ),
    (
        ["search", "resnet-18", "-a", "edge-16x16", "--over", "tiling"],
        'tilewright: error: this takes attention layers and single operators; given the network "resnet-18"; '
        "networks go into simulate, compare and why ",
    ),
    (
        ["simulate", "attention:heads=12,seq=0,head_dim=64", "-a", "edge-16x16"],
        "tilewright: error: attention:heads=12,seq=0,head_dim=64: ",
    ),
    (
        ["simulate", *BASE, "--dataflow", "flsh2"],
        'tilewright: error: --dataflow: unknown dataflow; given "flsh2"; allowed layerwise, soft_pipe, flat, tileflow, '
        'fusemax, flash2, mas, flash2_staged, mas_staged, flash_decoding (did you mean "flash2"?)',
    ),
    (
        ["compare", *BASE, "-d", "mas", "-d", "nas"],
        'tilewright: error: --dataflow: unknown dataflow; given "nas"; allowed layerwise, soft_pipe, flat, tileflow, '
        'fusemax, flash2, mas, flash2_staged, mas_staged, flash_decoding (did you mean "mas"?)',
    ),
    (
        ["simulate", *BASE, "--tile", "query"],
        'tilewright: error: --tile: not of the form NAME=SIZE; given "query"; allowed for example query=64',
    ),
    (
        ["simulate", *BASE, "--tile", "query=-1"],
        'tilewright: error: --tile: query: not a whole number; given "-1"; allowed for example query=64',
    ),
    (
        ["simulate", *BASE, "--tile", "query=6.5"],
        'tilewright: error: --tile: query: not a whole number; given "6.5"; allowed for example query=64',
    ),
    (
        ["simulate", *BASE, "--tile", "query=64", "--tile", "query=32"],
        "tilewright: error: --tile: query is given twice, as 64 and as 32; allowed once",
    ),
    (
        ["simulate", *BASE, "--tile", "quarry=64"],
        'tilewright: error: mas: unknown size; given "quarry"; allowed query, key',
    ),
    (
        ["simulate", *BASE, "--tile", "query=1024"],
        "tilewright: error: the mapping needs 9,000,000 bytes of l1, which has 5,242,880 bytes; "
        "a smaller query tile would fit",
    ),
    (
        ["simulate", *BASE, "--objective", "enrgy"],
        'tilewright: error: --objective: unknown objective; given "enrgy"; allowed latency, energy, edp, '
        'pareto (did you mean "energy"?)',
    ),
    (
        ["compare", "-a", "edge-16x16"],
        "tilewright: error: no workload is given; allowed one or more names, or --all",
    ),
    (
        ["list", "machine"],
        'tilewright: error: unknown list; given "machine"; allowed machines, workloads, operators, networks, '
        'dataflows, engines, schedules, models, memories (did you mean "machines"?)',
    ),
    (
        ["simulate", *BASE, "--json", "no/a.json"],
        "tilewright: error: --json: cannot write no/a.json, because the folder ",
    ),
    (
        ["simulate", *BASE, "--csv", "."],
        "tilewright: error: --csv: . is a folder; give the name of a file",
    ),
    (
        ["why", *BASE, "--report", "no/deep"],
        "tilewright: error: --report: cannot write no/deep, because the folder ",
    ),
    (
        ["compare", *BASE, "--report", "-"],
        "tilewright: error: --report: a report is a folder of files; given -; allowed the name of a folder",
    ),
    (
        ["simulate", *BASE, "--json", "-", "--csv", "-"],
        "tilewright: error: --json and --csv both write to standard output; give each its own place",
    ),
    (
        ["simulate", *BASE, "--json", "a", "--csv", "./a"],
        "tilewright: error: --json and --csv both write to ./a; give each its own place",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], text: str, tw: Run, stand_in_api: ModuleType, tmp_path: Path
) -> None:
    ran = tw(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith(text)
    assert ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_unknown_machine_names_the_nearest(tw: Run, stand_in_api: ModuleType) -> None:
    ran = tw("simulate", "bert-base", "-a", "edge-16x61")
    assert ran.code == 2
    assert ran.err.startswith(MACHINES_HEAD)
    assert ran.err.endswith('(did you mean "edge-16x16"?)\n')
    assert ran.err.count("\n") == 1


def test_every_fault_of_a_machine_file_gets_its_line(tw: Run, stand_in_api: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("name: m\nclock_gzh: 1\n")
    ran = tw("simulate", "bert-base", "-a", "m.yaml")
    assert ran.code == 2
    lines = ran.err.splitlines()
    assert len(lines) > 1
    assert all(line.startswith("tilewright: error: m.yaml:") for line in lines)
    assert any("clock_gzh" in line and 'did you mean "clock_ghz"' in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["smulate"], "tilewright: error: no such command 'smulate'. Did you mean 'simulate'?; see tilewright --help"),
        (["compare", "--al"], "tilewright: error: no such option: --al"),
        (["why"], "tilewright: error: missing argument 'WORKLOAD'; see tilewright why --help"),
        (["simulate", "x"], "tilewright: error: missing option '--machine' / '-a'; see tilewright simulate --help"),
    ],
)
def test_misuse_is_one_line_with_the_nearest_name(arguments: list[str], wanted: str, tw: Run) -> None:
    ran = tw(*arguments)
    assert ran.code == 2
    assert ran.err.startswith(wanted)
    assert ran.err.count("\n") == 1


def test_outputs_are_checked_before_the_work_begins(tw: Run, stand_in_api: ModuleType) -> None:
    assert tw("compare", *BASE, "--csv", "no/a.csv").code == 2
    assert stand_in_api.calls == []


def test_an_unexpected_error_is_one_line_unless_debugging(
    tw: Run, stand_in_api: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(stand_in_api, "simulate", fail)
    ran = tw("simulate", *BASE)
    assert ran.code == 1
    assert ran.err == "tilewright: error: unexpected ZeroDivisionError: by; set TILEWRIGHT_DEBUG=1 to see where\n"
    monkeypatch.setenv("TILEWRIGHT_DEBUG", "1")
    with pytest.raises(SystemExit):
        main(["simulate", *BASE])
    assert "Traceback" in capsys.readouterr().err


def test_interruption_is_one_line_and_exit_code_130(
    tw: Run, stand_in_api: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stand_in_api, "trace", interrupt)
    ran = tw("simulate", "t5", "-a", "edge-16x16", "--report", "out")
    assert (ran.code, ran.err) == (130, "tilewright: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_when_nothing_can_run_the_reason_is_said(
    tw: Run, stand_in_api: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tw("compare", "attention:heads=1,seq=200000,head_dim=64", "-a", "edge-16x16", "-d", "flat")
    assert ran.code == 2
    assert ran.err.startswith("tilewright: error: no dataflow can run on edge-16x16: whole rows do not fit")
    assert "cannot run" in ran.out


# --- what is printed and written -------------------------------------------------------------------------------------


def test_version_and_help(tw: Run) -> None:
    assert tw("--version").out == f"tilewright {tilewright.__version__}\n"
    for arguments in ([], ["--help"], ["-h"]):
        ran = tw(*arguments)
        assert ran.code == 0
        for command in ("simulate", "compare", "why", "list", "show"):
            assert command in ran.out


def test_simulate_prints_readable_numbers(tw: Run, stand_in_api: ModuleType) -> None:
    ran = tw("simulate", *BASE)
    assert ran.code == 0
    for wanted in ("bert-base on edge-16x16 with mas", "560,000", "560 us", "393,216 cycles, set by matrix", "1.424"):
        assert wanted in ran.out
    note = "bert-base is taken as its attention layer; the whole network is network:bert-base"
    assert ran.err == f"tilewright: {note}\n"
    assert tw("simulate", "attention:bert-base", "-a", "edge-16x16").err == ""


def test_compare_marks_the_best_row(tw: Run, stand_in_api: ModuleType) -> None:
    ran = tw("compare", *BASE)
    assert ran.code == 0
    assert "* mas" in ran.out
    assert "1.79x" in ran.out
    assert "arXiv" not in ran.out


def test_compare_of_many_prints_one_summary_beside_the_published_headline(tw: Run, stand_in_api: ModuleType) -> None:
    ran = tw("compare", "--all", "-a", "edge-16x16")
    assert ran.code == 0
    for wanted in ("bert-small", "xlm", "llama-3-8b", "mas vs flat", "2.75x", "1.42x", "arXiv 2411.17720"):
        assert wanted in ran.out
    assert "fusemax-bert" not in ran.out


def test_why_prints_path_what_ifs_and_assumptions(tw: Run, stand_in_api: ModuleType) -> None:
    ran = tw("why", *BASE)
    assert ran.code == 0
    for wanted in ("waiting for a buffer slot", "2x matrix rows", "1.40x", "- the energy table is for 45 nm"):
        assert wanted in ran.out


REQUIRED = {
    *("workload", "machine", "dataflow", "tiling", "cycles", "seconds", "energy_pj", "energy_by_component"),
    *("dram_read_bytes", "dram_write_bytes", "matrix_utilization", "vector_utilization", "dram_utilization"),
    *("peak_buffer_bytes", "lower_bound_cycles"),
}


def test_json_on_standard_output_stands_alone(tw: Run, stand_in_api: ModuleType) -> None:
    data = json.loads(tw("simulate", *BASE, "--json", "-").out)
    assert set(data) >= REQUIRED
    data = json.loads(tw("compare", *BASE, "--json", "-").out)
    assert [r["dataflow"] for r in data["results"]] == ["layerwise", "flat", "flash2", "mas"]
    assert data["published"]["source"].endswith("2411.17720")
    assert json.loads(tw("why", *BASE, "--json", "-").out)["what_ifs"][0]["speedup"] == 1.4


def test_csv_has_one_row_per_result(tw: Run, stand_in_api: ModuleType, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(tw("compare", *BASE, "--csv", "-").out)))
    assert [row["cycles"] for row in rows] == ["1500000", "1000000", "720000", "560000"]
    ran = tw("compare", *BASE, "--csv", "a.csv", "--json", "a.json", "--markdown", "a.md")
    assert ran.err.splitlines()[1:] == [f"tilewright: wrote a.{ending}" for ending in ("json", "csv", "md")]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 5
    assert "* mas" in ran.out


def test_report_of_one_workload(tw: Run, stand_in_api: ModuleType, tmp_path: Path) -> None:
    for command in ("simulate", "why", "compare"):
        ran = tw(command, *BASE, "--report", command)
        assert ran.code == 0
        assert ran.err.splitlines()[-1] == f"tilewright: wrote {command}/index.html"
        names = {p.name for p in (tmp_path / command).iterdir()}
        assert {"index.html", "timeline.png", "trace.json"} <= names
        page = (tmp_path / command / "index.html").read_text()
        assert f"tilewright {command} bert-base -a edge-16x16 --report {command}" in page
    assert sorted(p.name for p in tmp_path.iterdir()) == ["compare", "simulate", "why"]


def test_report_of_many_workloads(tw: Run, stand_in_api: ModuleType, tmp_path: Path) -> None:
    ran = tw("compare", "bert-base", "t5", "-a", "edge-16x16", "--report", "out")
    assert ran.code == 0
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"index.html", "bert-base.html", "t5.html", "t5.timeline.png", "t5.trace.json"} <= names


@pytest.mark.parametrize("kind", ["machines", "workloads", "networks", "dataflows"])
def test_list(kind: str, tw: Run, stand_in_api: ModuleType) -> None:
    data = json.loads(tw("list", kind, "--json", "-").out)[kind]
    text = tw("list", kind).out
    assert len(data) >= 4
    assert all(row["name"] in text for row in data)


def test_show_gives_every_figure_a_source(tw: Run) -> None:
    data = json.loads(tw("show", "edge-16x16", "--json", "-").out)
    by_name = {row["figure"]: row for row in data["figures"]}
    assert by_name["matrix.rows"]["value"] == 16
    assert by_name["dram.bandwidth_gb_per_s"]["unit"] == "GB/s"
    assert all(row["kind"] in ("datasheet", "paper", "measured", "assumed") for row in data["figures"])
    text = tw("show", "edge-16x16").out
    assert "dram.bandwidth_gb_per_s" in text
    assert "assumed" in text


# --- reading options -------------------------------------------------------------------------------------------------


def test_tiles_may_stand_in_one_text() -> None:
    assert tiling_of(None) is None
    assert tiling_of([]) is None
    assert tiling_of(["query=64,key=128", " depth = 2 "]) == {"query": 64, "key": 128, "depth": 2}
    assert tiling_of(["overwrite=0"]) == {"overwrite": 0}
    for wrong in ("", "=4", "a=-1", "a=１", "a=1=2", "a=1,", "a=" + "9" * 5000):
        with pytest.raises(InputError):
            tiling_of([wrong])


# --- start-up --------------------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from tilewright.cli.run import run\n"
        "run(['--help'])\n"
        "heavy = {'numpy', 'numba', 'pandas', 'matplotlib', 'scipy', 'simpy', 'jinja2', 'pydantic', 'yaml'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m tilewright list workloads --json - | head -c 10"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
