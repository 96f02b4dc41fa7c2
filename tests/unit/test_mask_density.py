"""``compare --mask-density``: attention by density beside dense, choosing lists, and where sparse begins to pay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.mask_density import at_density
from tilewright.sim.dataflows.attention.selection import selection_cost
from tilewright.workloads.load import load_workload

EDGE = load_machine("edge-16x16")
LAYER = "attention:heads=2,seq=512,head_dim=32"


def _compared(tmp_path: Path, *more: str, machine: str = "edge-16x16", layer: str = LAYER) -> dict[str, object]:
    file = tmp_path / "out.json"
    assert run(["compare", layer, "-a", machine, "--mask-density", *more, "--json", str(file)]) == 0
    data: dict[str, object] = json.loads(file.read_text())
    return data


def test_points_and_break_even(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = _compared(tmp_path, "1,0.5,0.25", "-d", "flash2")
    points = data["points"]
    assert isinstance(points, list)
    dense = data["dense"]
    assert isinstance(dense, dict)
    assert points[0]["cycles"] == dense["cycles"] and points[0]["selection_cycles"] == 0
    assert [point["density"] for point in points] == [1.0, 0.5, 0.25]
    assert points[2]["attention_cycles"] < points[1]["attention_cycles"] < dense["cycles"]
    assert points[1]["selection_cycles"] == points[2]["selection_cycles"] > 0
    # on a straight line from all blocks, with their choice, to half of them
    slow, fast = dense["cycles"] + points[1]["selection_cycles"], points[1]["cycles"]
    assert data["break_even_density"] == pytest.approx(0.5 + 0.5 * (dense["cycles"] - fast) / (slow - fast))
    assert "break-even: sparse, choosing included, takes less time below a density of" in capsys.readouterr().out


def test_sparse_may_never_pay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = "attention:heads=2,seq=64,head_dim=32"
    data = _compared(
        tmp_path, "0.9,0.8", "-d", "flash2", machine="edge-16x16 with dram.bandwidth_gb_per_s=0.5", layer=layer
    )
    assert data["break_even_density"] is None
    assert "never, at these densities" in capsys.readouterr().out


def test_the_family_of_the_layer_is_kept() -> None:
    layer = load_workload(f"{LAYER},mask=threshold:density=0.5,spread=10,block=32")
    sparse = at_density(layer, 0.2)
    assert sparse.blocks is not None
    assert sparse.blocks.text == "threshold:density=0.2,spread=10,block=32"
    causal = at_density(load_workload(f"{LAYER},mask=causal"), 0.5)
    assert causal.blocks is not None and causal.blocks.causal
    for text, says in (
        (f"{LAYER},mask=radial:frames=8", "radial has no density"),
        (f"{LAYER},mask=banded,window_left=3", "a band has no density"),
    ):
        with pytest.raises(InputError, match=says):
            at_density(load_workload(text), 0.5)


def test_what_a_choice_takes() -> None:
    layer = load_workload(f"{LAYER},mask=top_blocks:keep=2")
    chosen = selection_cost(layer, EDGE)
    scores = 2 * 8 * 8
    unit, lanes = EDGE.matrix, EDGE.vector.lanes
    vector = scores * sum(EDGE.vector.cycles[kind] for kind in ("sub", "exp", "add", "max"))
    vector += 2 * 2 * 512 * 32 * EDGE.vector.cycles["add"]
    n_bytes = 2 * 2 * 512 * 32 * 2
    on_units = scores * 32 / unit.n_multipliers + vector / lanes
    assert chosen.cycles == pytest.approx(max(on_units, n_bytes / EDGE.dram.bandwidth_gb_per_s * EDGE.clock_ghz), abs=1)
    assert chosen.energy_pj > 0
    given = load_workload(f"{LAYER},mask=band:density=0.2")
    assert selection_cost(given, EDGE) == (0, 0.0)
    assert selection_cost(load_workload(LAYER), EDGE) == (0, 0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([LAYER, "--mask-density", "1,1.5"], '--mask-density: given "1.5"'),
        ([LAYER, "--mask-density", "half"], '--mask-density: given "half"'),
        ([LAYER, "bert-base", "--mask-density", "1"], "--mask-density: is for one attention layer on one machine"),
        (["gemm:m=8,n=8,k=8", "--mask-density", "1"], "--mask-density: is for attention layers"),
        (["resnet-18", "--mask-density", "1"], "--mask-density: is for one attention layer"),
        ([LAYER, "-d", "flat", "--mask-density", "0.5"], "dataflow: flat follows no lists"),
    ],
)
def test_refused_in_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *arguments, "-a", "edge-16x16"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"tilewright: error: {message}")
