"""The latency/energy front: what brute force finds, within what is proven, and how a person sees it."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.cli import main
from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine
from tilewright.search.mapping_front import Named, workload_front
from tilewright.search.tiling import tiling_space
from tilewright.search.workload import dataflows_for, layer_of, pieces
from tilewright.sim.jobs import JobLayer
from tilewright.sim.lowering.evaluation import evaluate

PRODUCT = "gemm:m=96,n=48,k=64"
LAYER = "attention:heads=2,seq=48,head_dim=16"
ROWS = "softmax:rows=96,columns=64"
MACHINE = load_machine("edge-16x16").with_(**{"buffers.0.capacity_kib": 64})
NETWORK = "fsrcnn:height=27,width=48"


def _all_runs(layer: JobLayer) -> set[tuple[int, float]]:
    runs = set()
    for flow in dataflows_for([layer], [], MACHINE)[layer]:
        for piece in pieces(layer, MACHINE):
            spaces = [tiling_space(phase, piece, MACHINE, {}) for phase in flow.phases]
            for parts in product(*spaces):
                tiling = {name: value for part in parts for name, value in part.items()}
                try:
                    run = evaluate(flow, piece, MACHINE, tiling)
                except MappingError:
                    continue
                runs.add((run.cycles, round(run.energy_pj, 3)))
    return runs


def _front(points: set[tuple[int, float]]) -> list[tuple[int, float]]:
    kept: list[tuple[int, float]] = []
    for cycles, energy in sorted(points):
        if not kept or energy < kept[-1][1]:
            kept.append((cycles, energy))
    return kept


def _sums(*runs: set[tuple[int, float]]) -> set[tuple[int, float]]:
    total = {(0, 0.0)}
    for one in runs:
        total = set(_front({(a + c, round(b + d, 3)) for (a, b), (c, d) in product(total, _front(one))}))
    return total


@pytest.fixture(scope="module")
def by_layer() -> dict[str, set[tuple[int, float]]]:
    return {text: _all_runs(layer_of(text)) for text in (PRODUCT, ROWS)}


@pytest.mark.parametrize("text", [PRODUCT, ROWS])
def test_of_one_operator_it_is_that_of_all_runs(text: str, by_layer: dict[str, set[tuple[int, float]]]) -> None:
    front = tilewright.pareto(text, MACHINE)
    assert [(p.cycles, pytest.approx(p.energy_pj, abs=0.01)) for p in front.points] == _front(by_layer[text])
    assert front.slack_cycles == 0
    assert front.n_simulated <= front.n_candidates
    ends = [tilewright.simulate(text, MACHINE, objective=goal) for goal in ("latency", "energy")]
    assert front.points[0].cycles == ends[0].cycles
    assert front.points[-1].energy_pj == pytest.approx(ends[1].energy_pj)


def _operators(*texts: str) -> list[Named]:
    found = []
    for at, text in enumerate(texts):
        layer = layer_of(text)
        found.append(Named(f"{text.partition(':')[0]}{at}", "", layer, dataflows_for([layer], [], MACHINE)[layer]))
    return found


def test_of_several_operators_it_is_that_of_all_sums(by_layer: dict[str, set[tuple[int, float]]]) -> None:
    texts = (PRODUCT, ROWS, PRODUCT, PRODUCT)
    front = workload_front("net", _operators(*texts), MACHINE)
    wanted = _front(_sums(*(by_layer[text] for text in texts)))
    assert [p.cycles for p in front.points] == [cycles for cycles, _ in wanted]
    assert [p.energy_pj for p in front.points] == pytest.approx([energy for _, energy in wanted])
    for point in front.points:
        names = sorted(name for mapping in point.mappings for name in mapping.operators)
        assert names == ["gemm0", "gemm2", "gemm3", "softmax1"]
        assert point.cycles == sum(m.cycles * len(m.operators) for m in point.mappings)


@pytest.mark.parametrize("most", [2, 3, 5])
def test_a_thinned_front_keeps_its_word(most: int) -> None:
    larger = ("gemm:m=96,n=96,k=128", "gemm:m=64,n=160,k=96")
    operators = _operators(*larger, ROWS, *larger, *larger, larger[0])
    exact = workload_front("net", operators, MACHINE)
    thin = workload_front("net", operators, MACHINE, most_points=most)
    assert len(thin.points) <= most < len(exact.points)
    assert thin.slack_cycles > 0
    cycles = np.array([point.cycles for point in thin.points])
    energy = np.array([point.energy_pj for point in thin.points])
    for point in exact.points:
        near = (energy <= point.energy_pj * (1 + 1e-9)) & (cycles <= point.cycles + thin.slack_cycles)
        assert near.any()
    assert f"to {thin.slack_cycles:,} cycles" in thin.proof


def test_a_network_has_its_ends_and_shows_itself(tmp_path: Path) -> None:
    front = tilewright.pareto(NETWORK, "edge-16x16")
    for goal, at in (("latency", 0), ("energy", -1)):
        run = tilewright.simulate_network(NETWORK, "edge-16x16", goal, prefetch=False)
        assert (front.points[at].cycles, front.points[at].energy_pj) == (run.cycles, pytest.approx(run.energy_pj))
        assert front.points[at].dram_bytes == run.dram_bytes
    assert len(front.to_frame()) == len(front.points)
    assert "proven exactly" in repr(front) and len(repr(front)) < 1000
    assert front._repr_html_().count("<tr>") == 13
    assert front.report(tmp_path / "page").is_file()


def test_an_attention_layer_is_searched_over_its_dataflows() -> None:
    front = tilewright.pareto(LAYER, MACHINE, ["mas", "flash2"])
    rivals = [tilewright.simulate(LAYER, MACHINE, name) for name in ("mas", "flash2")]
    assert front.points[0].cycles == min(run.cycles for run in rivals)
    assert front.dataflows == ("mas", "flash2")


def test_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    pareto = ["-a", "edge-16x16", "--objective", "pareto"]
    assert _run("simulate", PRODUCT, *pareto, "--json", "a.json", "--csv", "a.csv") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "proven exactly: no other choice out of the" in " ".join(shown.split())
    data = json.loads((tmp_path / "a.json").read_text())["fronts"][0]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1 + len(data["front"])
    files = ["--markdown", "a.md", "--report", "page"]
    assert _run("compare", PRODUCT, *pareto, "-a", "flat-edge", *files) == 0
    assert "on joint front" in capsys.readouterr().out
    assert (tmp_path / "page" / "front.png").is_file()
    assert (tmp_path / "a.md").read_text().count("latency/energy front") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate", PRODUCT, "--objective", "pareto", "-t", "m=4"], "--tile: means nothing to --objective pareto"),
        (["simulate", PRODUCT, "--objective", "pareto", "--no-fuse"], "--no-fuse: is for whole networks"),
        (
            ["simulate", PRODUCT, "--objective", "paretto"],
            'edp, pareto (did you mean "pareto"?)',
        ),
        (["why", PRODUCT, "--objective", "pareto"], "allowed latency, energy, edp"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*arguments, "-a", "edge-16x16") == 2
    assert said in capsys.readouterr().err


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code
