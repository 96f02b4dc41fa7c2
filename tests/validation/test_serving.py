"""Runs of a server beside vLLM's measured ones, and layered prefill's saving beside its paper.

``pytest tests/validation/test_serving.py -s`` prints the figures of docs/serving.md. Two constants are fitted: what
vLLM's program takes for each request (on the RTX PRO 6000), and at which share of the bandwidth weights come (on the
RTX 4090).
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tilewright.search.runs.run import simulate_run
from tilewright.sim.serving.result import ServeResult
from tilewright.workloads.runs.load import parse_run

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "systems"
RUNS, REQUESTS = FOLDER / "llm_vllm_runs.csv", FOLDER / "llm_vllm_requests.csv"
FACTS = FOLDER / "llm_layered_prefill_paper_facts.csv"

pytestmark = pytest.mark.skipif(not RUNS.is_file(), reason="the shared tables of systems are not there")

_FIGURES = {
    "makespan_s": ("makespan_s", 1.0),
    "mean_ttft_ms": ("ttft_s_mean", 1e3),
    "mean_tpot_ms": ("tpot_s_mean", 1e3),
}


def served(text: str, machine: str) -> ServeResult:
    result = simulate_run(parse_run(text, name="run.yaml"), machine)
    assert isinstance(result, ServeResult)
    return result


@pytest.mark.parametrize(
    ("run", "machine", "running"),
    [("rtxpro6000_llama31_8b", "rtxpro6000", 128), ("rtx4090_llama31_8b", "rtx4090", 256)],
)
def test_vllm_on_one_card(run: str, machine: str, running: int) -> None:
    text = f"""run: serve
model: llama-3.1-8b
arrivals: {{file: {REQUESTS}, only: {{run: {run}}}}}
policy: {{tokens: 2048, running: {running}}}
cache: {{keeps: true}}
"""
    found = served(text, machine)
    measured = next(row for row in csv.DictReader(RUNS.open()) if row["run"] == run)
    for name, (own, scale) in _FIGURES.items():
        error = found.points[0].figures[own] * scale / float(measured[name]) - 1
        print(f"{machine} {name}: {error:+.1%}")
        assert abs(error) <= 0.10
    assert found.points[0].figures["most_running"] <= running
    if measured["kv_blocks"]:
        blocks = int(found.facts["blocks"].replace(",", ""))
        assert blocks == pytest.approx(float(measured["kv_blocks"]), rel=0.001)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trace", "rate", "prompt", "answer"),
    [
        ("arXiv", 1.3, "{median: 7059, p90: 12985, most: 16384}", "{median: 208, p90: 371}"),
        ("ShareGPT", 4.4, "{median: 1730, p90: 5696, most: 16384}", "{median: 415, p90: 834}"),
    ],
)
def test_layered_prefill_loads_fewer_experts(trace: str, rate: float, prompt: str, answer: str) -> None:
    text = f"""run: serve
model: qwen3-30b-a3b
routing: skew=1.28
expert_rows: 128
arrivals: {{count: 300, poisson: {rate}, seed: 1, prompt: {prompt}, answer: {answer}}}
policy: {{tokens: 512, running: 256}}
parallel: {{tensor: 2, link: {{bandwidth_gb_per_s: 450, start_us: 5}}}}
sweep: {{policy.prefill: [chunked, layered]}}
"""
    chunked, layered = (point.figures["expert_load_bytes"] for point in served(text, "h100").points)
    published = next(
        float(row["layered_prefill"])
        for row in csv.DictReader(FACTS.open())
        if row["trace"] == trace and row["quantity"] == "expert-load traffic change"
    )
    print(f"{trace}: {1 - layered / chunked:.1%} less, published {1 - published:.0%}")
    assert layered / chunked == pytest.approx(published, abs=0.03)
