"""Machines side by side, and the reasons of a whole network: figures of the single runs, tables, files and pages."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tilewright
from tilewright.cli import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import why_network
from tilewright.search.what_if import doubled_resources
from tilewright.sim.result import SimulationResult

NETWORK = "fsrcnn:height=27,width=48"
LAYER = "attention:heads=2,seq=64,head_dim=32"
PRODUCT = "gemm:m=64,n=48,k=32"
MACHINES = ["edge-16x16", "flat-edge"]


@pytest.fixture(autouse=True, scope="module")
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Mappings kept for this file's tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_CACHE", str(tmp_path_factory.mktemp("mappings")))
        yield


@pytest.mark.parametrize("objective", ["latency", "energy"])
def test_each_pair_is_the_run_that_it_is_alone(objective: str) -> None:
    found = tilewright.compare([NETWORK, LAYER, PRODUCT], MACHINES, objective=objective)
    assert [(run.workload, run.machine) for run in found.runs] == [
        (workload, machine) for workload in (NETWORK, LAYER, PRODUCT) for machine in MACHINES
    ]
    for run in found.of_workload(NETWORK):
        alone = tilewright.simulate_network(NETWORK, run.machine, objective)
        assert (run.cycles, run.energy_pj, run.dram_bytes) == (alone.cycles, alone.energy_pj, alone.dram_bytes)
        assert 0 < run.array_use <= run.matrix_utilization <= 1
        assert 0 < run.dram_utilization <= 1
    for run in found.of_workload(LAYER):
        rivals = tilewright.compare(LAYER, run.machine, objective=objective).results
        assert found.merit(run) == min(_merit(rival, objective) for rival in rivals)
    for run in found.of_workload(PRODUCT):
        assert run.cycles == tilewright.simulate(PRODUCT, run.machine, objective=objective).cycles
    best = found.best(LAYER)
    assert found.merit(best) == min(found.merit(run) for run in found.of_workload(LAYER))
    assert len(found.to_frame()) == 6


def _merit(result: SimulationResult, objective: str) -> tuple[float, float]:
    figures = (result.seconds, result.energy_pj)
    return figures if objective == "latency" else figures[::-1]


def test_what_cannot_run_on_one_machine_runs_on_the_others() -> None:
    narrow = load_machine("edge-16x16").with_(name="narrow", **{"buffers.0.capacity_kib": 0.03125})
    found = tilewright.compare([LAYER], [narrow, load_machine("edge-16x16")])
    assert [run.machine for run in found.runs] == ["edge-16x16"]
    assert "which has 32 bytes" in found.infeasible[LAYER, "narrow"]


def test_mistakes_in_python_are_one_sentence() -> None:
    with pytest.raises(InputError, match='machines: "edge-16x16" is given twice'):
        tilewright.compare(LAYER, ["edge-16x16", "edge-16x16"])
    with pytest.raises(InputError, match="machines: given none"):
        tilewright.compare(LAYER, [])
    with pytest.raises(InputError, match="compare with a list of machines, why_network"):
        tilewright.compare("resnet-18", "edge-16x16")


def test_why_a_network_takes_its_time() -> None:
    machine = load_machine("edge-16x16")
    reasons = why_network(NETWORK, machine)
    alone = tilewright.simulate_network(NETWORK, machine)
    assert reasons.result.cycles == alone.cycles
    assert [item.label for item in reasons.what_ifs] == list(doubled_resources(machine))
    for item, change in zip(reasons.what_ifs, doubled_resources(machine).values(), strict=True):
        again = tilewright.simulate_network(NETWORK, machine.with_(**change))
        assert item.cycles <= again.cycles
        assert item.cycles <= item.cycles_same_mappings
        assert sum(item.operator_cycles) == item.cycles
        assert len(item.operator_cycles) == len(alone.operators)
    assert reasons.what_ifs[0].cycles < 0.8 * alone.cycles
    assert len(reasons.to_frame()) == len(reasons.what_ifs)


def test_the_tables_files_and_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    files = ["--json", "a.json", "--csv", "a.csv", "--markdown", "a.md", "--report", "page"]
    assert _run("compare", NETWORK, PRODUCT, "-a", "edge-16x16", "-a", "flat-edge", *files) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"edge-16x16 .*[\d.]+ [um]s", shown)
    data = json.loads((tmp_path / "a.json").read_text())
    assert [run["machine"] for run in data["runs"]] == MACHINES * 2
    assert len(data["header"]["machines"]) == 2
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [int(row["cycles"]) for row in rows] == [run["cycles"] for run in data["runs"]]
    assert (tmp_path / "a.md").read_text().count("| flat-edge |") + (tmp_path / "a.md").read_text().count(
        "| **flat-edge** |"
    ) == 2
    assert "2 workloads on 2 machines" in (tmp_path / "page/index.html").read_text()

    assert _run("why", NETWORK, "-a", "edge-16x16", "--json", "w.json", "--csv", "w.csv", "--report", "why") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "what takes the time, and what helps" in shown
    assert "2x matrix rate" in shown
    reasons = json.loads((tmp_path / "w.json").read_text())
    assert reasons["operators"][0]["cycles, 2x matrix rate"] > 0
    assert "What takes the time, and what helps" in (tmp_path / "why/index.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", LAYER, "-a", "edge-16x16", "--weights", "int8"], "--weights: is for whole networks; given layers"),
        (["compare", NETWORK, LAYER, "-a", "edge-16x16", "-d", "mass"], '--dataflow: unknown dataflow; given "mass"'),
        (["compare", LAYER, "-a", "edge-16x16", "-a", "edge-16x16"], 'machines: "edge-16x16" is given twice'),
        (["why", NETWORK, "-a", "edge-16x16", "-t", "m=4"], "--tile: is for layers and operators; given the network"),
        (["why", PRODUCT, "-a", "edge-16x16", "--weights", "int8"], "--weights: is for whole networks"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*arguments) == 2
    assert said in capsys.readouterr().err


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_a_machine_without_the_networks_format_runs_it_in_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = tilewright.compare([NETWORK], ["edge-16x16", "nvdla-2048"])
    assert found.of_workload(NETWORK)[0].result.assumptions[0][:13] != "number format"
    other = found.of_workload(NETWORK)[1].result
    assert other.assumptions[0].startswith("number format: int8, the machine's own, instead of fp16")
    assert other.cycles == tilewright.simulate_network(NETWORK, "nvdla-2048").cycles
    assert why_network(NETWORK, "nvdla-2048").result.cycles == other.cycles
    assert tilewright.pareto(NETWORK, "nvdla-2048").assumptions[0] == other.assumptions[0]
    kept = tilewright.compare([NETWORK], ["nvdla-2048"], keep_formats=["fp16"])
    assert "no multiply rate" in kept.infeasible[NETWORK, "nvdla-2048"]
    layers = tilewright.compare([PRODUCT, LAYER], ["nvdla-2048", "edge-16x16"], ["mas"])
    assert not layers.infeasible
    assert layers.of_workload(PRODUCT)[0].cycles == tilewright.simulate(PRODUCT, "nvdla-2048").cycles
    assert layers.of_workload(LAYER)[1].cycles == tilewright.simulate(LAYER, "edge-16x16", "mas").cycles
    assert _run("compare", NETWORK, PRODUCT, "-a", "edge-16x16", "-a", "nvdla-2048") == 0
    assert "nvdla-2048: number format: int8, the machine's own" in capsys.readouterr().err
