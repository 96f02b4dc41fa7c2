"""Cascades of networks and runs, keys and values predicted by a helper: sums of what each costs alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.search.api import simulate_network
from tilewright.search.runs.run import simulate_run
from tilewright.workloads.network import load_network
from tilewright.workloads.runs.kinds.cascade import CascadeRun, CascadeStage
from tilewright.workloads.runs.kinds.generate import GenerateRun, RequestSpec
from tilewright.workloads.runs.load import parse_run

BLOCK, MACHINE = "llama-3-8b-block", "h100"
TTFT = Path(__file__).resolve().parents[3] / "shared" / "systems" / "llm_kv_prediction_ttft_m2pro.csv"
LARGER = TTFT.with_name("llm_kv_prediction_openelm3b.csv")
#: Parameters of OpenELM (arXiv 2404.14619), in millions: what a token of the prompt multiplies with.
OPENELM = {"270M": 271.5, "450M": 457.2, "1.1B": 1079.9, "3B": 3036.7}


def test_a_cascade_is_its_stages() -> None:
    stages = (
        CascadeStage(network="mobilenet-v2", times=3, weights="int8", activations="int8"),
        CascadeStage(network=f"{BLOCK}:prompt=6,generate=2"),
    )
    result = simulate_run(CascadeRun(stages=stages, name="look and tell"), MACHINE)
    pictures = simulate_network("mobilenet-v2", MACHINE, weights="int8", activations="int8")
    text = simulate_run(f"{BLOCK}:prompt=6,generate=2", MACHINE)
    assert [phase.name for phase in result.phases] == ["1. mobilenet-v2 x 3", "2. prefill", "2. decode"]
    assert result.cycles == 3 * pictures.cycles + text.cycles
    assert result.seconds == pytest.approx(3 * pictures.seconds + text.seconds)
    assert result.phases[1].start_seconds == pytest.approx(3 * pictures.seconds)
    assert {point.weight_bytes for point in result.memory} == {pictures.weight_bytes + text.memory[0].weight_bytes}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("run: cascade\nstages: []", "stages: too few entries"),
        ("run: cascade\nstages: [{network: x, times: 0}]", "stages.0.times: out of range"),
        (
            "run: generate\nnetwork: x\npredicted_by: y\nrequests: [{prompt: 4, generate: 2, shared: 2}]",
            "predicted_by: reads whole prompts",
        ),
    ],
)
def test_a_faulty_file_is_one_line(text: str, fault: str) -> None:
    with pytest.raises(InputError) as error:
        parse_run(text, name="mine.yaml")
    assert fault in str(error.value) and "\n" not in str(error.value)


def test_predicted_keys_and_values_cost_the_helper_the_products_and_one_token() -> None:
    n_tokens = 40
    run = GenerateRun(
        network="llama-3-8b", requests=(RequestSpec(prompt=n_tokens, generate=1),), predicted_by="llama-3.2-1b"
    )
    result = simulate_run(run, MACHINE)
    helper = load_network(f"llama-3.2-1b:prefill={n_tokens}").macs
    products = n_tokens * 32 * 2 * (8 * 64) * (8 * 128)  # keys and values of 32 layers, of those of 16
    last = load_network(f"llama-3-8b:decode=1,context={n_tokens - 1}").macs
    assert [phase.macs for phase in result.phases] == [helper, products, last]
    assert result.measure("time_to_first_token_s") == result.seconds


def _reductions(path: Path) -> dict[str, float]:
    if not path.is_file():
        pytest.skip(f"the published table is not here: {path}")
    with path.open(encoding="utf-8") as file:
        return {row["model"]: float(row["flops_reduction"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("path", "base", "helpers"), [(TTFT, "1.1B", ("450M", "270M")), (LARGER, "3B", ("1.1B", "450M", "270M"))]
)
def test_the_published_reductions_are_those_of_the_helper(path: Path, base: str, helpers: tuple[str, ...]) -> None:
    """N tokens of the helper, against N of the network: products and the one token are left out there."""
    told = _reductions(path)
    for helper in helpers:
        closed = OPENELM[base] / OPENELM[helper]
        assert told[f"OE{base}-KVP-C-{helper}"] == pytest.approx(closed, rel=0.005)
        assert told[f"OE{helper}"] == pytest.approx(closed, rel=0.005)
