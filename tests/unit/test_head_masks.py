"""``search --over mask``: the cheapest masks that keep enough attention are those that enumeration finds."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tilewright.cli.run import run
from tilewright.search.head_masks import choose_masks
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.load import load_workload

LAYER = "attention:heads=3,seq=256,head_dim=32"
MASKS = ["top_blocks:density=0.5,block=32", "top_blocks:density=0.25,block=32"]
MASSES = [(0.99, 0.9), (0.95, 0.6), (0.8, 0.3)]


FAST = "edge-16x16 with dram.bandwidth_gb_per_s=300"
CYCLES = {"dense": 1000, MASKS[0]: 530, MASKS[1]: 290}


def _fake(layer: AttentionLayer) -> Any:
    """A run whose cycles are those of the head's mask."""
    assert layer.query_heads == layer.kv_heads == 1
    text = "dense" if layer.blocks is None else layer.blocks.text
    return SimpleNamespace(cycles=CYCLES[text], energy_pj=1.0)


@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("least", [0.0, 0.3, 0.5, 0.6, 0.8, 0.85, 0.9, 0.93, 0.96, 1.0])
def test_the_choice_is_that_of_enumeration(mean: bool, least: float) -> None:
    statistics = [dict(zip(MASKS, masses, strict=True)) for masses in MASSES]
    found = choose_masks(load_workload(LAYER), statistics, least, _fake, mean=mean)
    best = min(
        sum(CYCLES[text] for text, _ in choice)
        for choice in itertools.product(*([("dense", 1.0), *head.items()] for head in statistics))
        if (sum(mass for _, mass in choice) / 3 if mean else min(mass for _, mass in choice)) >= least - 1e-9
    )
    assert found.cycles == best
    assert (found.mean_mass if mean else min(one.mass for one in found.choices)) >= least - 1e-6


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "heads.json", tmp_path / "out.json"
    file.write_text(json.dumps({"heads": [dict(zip(MASKS, masses, strict=True)) for masses in MASSES]}))
    arguments = ["--sensitivity", str(file), "--budget", "0.9", "-d", "flash2", "--json", str(out)]
    assert run(["search", LAYER, "--over", "mask", "-a", FAST, *arguments]) == 0
    found = json.loads(out.read_text())
    assert [head["mask"] for head in found["heads"]] == [MASKS[1], MASKS[0], "dense"]
    assert found["cycles"] == sum(head["cycles"] for head in found["heads"]) < found["dense_cycles"]
    assert "proven: no other choice of these masks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "budget", "says"),
    [
        ('{"heads": [{}, {}]}', "0.9", "heads: given 2"),
        ('{"heads": [{}, {}, {"band:density=0.1": 2}]}', "0.9", "head 2: band:density=0.1: given 2"),
        ('{"heads": [{}, {}, {"bant:density=0.1": 1}]}', "0.9", "unknown mask"),
        ("[]", "0.9", "no statistics of heads"),
        ('{"heads": [{}, {}, {}]}', "1.5", "--budget: given"),
        ('{"heads": [{}, {}, {}]}', "least=0.5", "--budget: given"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, text: str, budget: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "heads.json"
    file.write_text(text)
    arguments = ["--over", "mask", "-a", "edge-16x16", "--sensitivity", str(file), "--budget", budget]
    assert run(["search", LAYER, *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("tilewright: error: ") and says in lines[-1]
