"""``tilewright decode``: what it says, what it refuses, and experts that do not fit into memory."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilewright.cli.app import app
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import simulate_network
from tilewright.search.systems.steps import DecodedStep, DecodeQuestion, decoded_step
from tilewright.sim.decoding.experts import pinned_hits
from tilewright.workloads.language.catalogue import language_model
from tilewright.workloads.language.routing import routing_of
from tilewright.workloads.language.runtimes import runtime_named
from tilewright.workloads.language.stored import storage_of

FLASH = {"weights.memory": {"name": "flash", "bandwidth_gb_per_s": 0.9, "read_pj_per_byte": 100.0}}


def question(model: str, *, routing: str = "uniform", batch: int = 1, storage: str = "q4_k_m") -> DecodeQuestion:
    described = language_model(model)
    return DecodeQuestion(
        model=described,
        storage=storage_of(storage),
        runtime=runtime_named("llama.cpp"),
        routing=routing_of(routing, described.experts),
        batch=batch,
    )


def test_tables_and_files(tmp_path: Path) -> None:
    out, rows = tmp_path / "out.json", tmp_path / "out.csv"
    command = ["decode", "llama-3.2-3b", "-a", "raspberry-pi-5", "-a", "gb10", "--batch", "1,8", "--json", str(out)]
    result = CliRunner().invoke(app, [*command, "--csv", str(rows)])
    assert result.exit_code == 0, result.output
    assert "tokens/s" in result.output and "raspberry-pi-5" in result.output
    steps = json.loads(out.read_text())["steps"]
    assert [(step["machine"], step["batch"]) for step in steps] == [
        ("raspberry-pi-5", 1),
        ("raspberry-pi-5", 8),
        ("gb10", 1),
        ("gb10", 8),
    ]
    assert steps[3]["tokens_per_s"] > 4 * steps[2]["tokens_per_s"]
    for step in steps:
        assert step["tokens_per_s"] == pytest.approx(step["batch"] / step["ms_per_step"] * 1e3)
        assert step["joules_per_token"] == pytest.approx(step["watts"] / step["tokens_per_s"])
    with rows.open(newline="") as stream:
        assert [row["machine"] for row in csv.DictReader(stream)] == [step["machine"] for step in steps]


def test_models_are_listed(tmp_path: Path) -> None:
    out = tmp_path / "models.json"
    result = CliRunner().invoke(app, ["list", "models", "--json", str(out)])
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(out.read_text())["models"]}
    assert rows["llama-3.1-8b"]["cache_bytes_a_token"] == 131_072
    assert rows["qwen3-30b-a3b"]["experts"] == "8 of 128" and rows["gpt-oss-20b"]["weights"] == "20.91 G"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["llama-3.2-3c", "-a", "gb10"], 'did you mean "llama-3.2-3b"?'),
        (["llama-3.2-3b", "-a", "gb11"], 'did you mean "gb10"?'),
        (["llama-3.2-3b", "-a", "gb10", "--runtime", "vlm"], 'did you mean "vllm"?'),
        (["llama-3.2-3b", "-a", "gb10", "--weights", "q4_k_n"], 'did you mean "q4_k_m"?'),
        (["llama-3.2-3b", "-a", "gb10", "--kv-cache", "int99"], "unknown number format"),
        (["llama-3.2-3b", "-a", "gb10", "--batch", "1,0"], "--batch: given 0; allowed whole numbers from 1"),
        (["llama-3.2-3b", "-a", "gb10", "--routing", "skew=1"], "llama-3.2-3b has no experts"),
        (["qwen3-30b-a3b", "-a", "gb10", "--routing", "skew=-1"], "allowed an exponent from 0 to 8"),
        (["llama-3.1-70b", "-a", "apple-m4"], "take 39.7 GiB; allowed 16 GiB (dram.capacity_gib)"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tilewright.__main__ import main

    with pytest.raises(SystemExit) as left:
        main(("decode", *arguments))
    text = capsys.readouterr().err
    assert left.value.code == 2 and told in text and text.count("\n") == 1


def test_a_file_with_an_expert_that_the_router_lacks(tmp_path: Path) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("expert,count\n0,3\n128,1\n")
    with pytest.raises(InputError, match="expert: given 128; allowed 0 to 127"):
        question("qwen3-30b-a3b", routing=str(counts))


def test_experts_behind_flash() -> None:
    """Those that do not fit come from there; the more skewed the routing, the more of them are hits."""
    small = load_machine("raspberry-pi-5").with_(**FLASH)
    roomy = small.with_(**{"dram.capacity_gib": 64})
    steps: list[DecodedStep] = []
    for routing in ("uniform", "skew=1.28"):
        asked = question("qwen3-30b-a3b", routing=routing)
        found, whole = decoded_step(asked, small), decoded_step(asked, roomy)
        assert whole.kept is None and "flash" not in whole.time.seconds_by_part
        assert found.kept is not None and 0 < found.kept < 128
        assert found.hits == pinned_hits(asked.routing, 128, 8, found.kept)
        experts = sum(part.n_bytes for part in found.work.parts if part.role.startswith("expert"))
        assert found.time.seconds_by_part["flash"] == pytest.approx(experts * (1 - found.hits) / 0.9e9)
        assert found.time.seconds == pytest.approx(whole.time.seconds + found.time.seconds_by_part["flash"])
        assert found.time.joules_by_part["flash"] == pytest.approx(experts * (1 - found.hits) * 1e-10)
        steps.append(found)
    assert steps[1].time.tokens_per_s > 2 * steps[0].time.tokens_per_s
    with pytest.raises(InputError, match=r"of which .* are no experts"):
        decoded_step(question("deepseek-r1-671b"), small)
    with pytest.raises(InputError, match="allowed 8 GiB"):
        decoded_step(question("qwen3-30b-a3b"), load_machine("raspberry-pi-5"))


def test_batches_share_what_they_read() -> None:
    """Dense weights come once a step; experts until all are used; caches for each sequence."""
    machine = load_machine("gb10")
    dense = [decoded_step(question("llama-3.2-3b", batch=n), machine).work for n in (1, 4)]
    assert dense[0].weight_bytes == dense[1].weight_bytes and 4 * dense[0].cache_read == dense[1].cache_read
    used = [decoded_step(question("qwen3-30b-a3b", batch=n), machine).experts for n in (1, 8, 64, 1024)]
    assert used[0] == pytest.approx(8) and used == sorted(used) and used[-1] == pytest.approx(128)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "apart"), [("raspberry-pi-5", 0.02), ("apple-m4", 0.15), ("jetson-orin-nano", 0.2)]
)
def test_the_engine_says_the_same(machine: str, apart: float) -> None:
    """The closed form beside exact schedules of every operator (on a GPU: library kernels) of the same step."""
    spec = load_machine(machine)
    run = simulate_network("llama-3.2-1b:prefill=0,decode=1,context=256", spec, weights="int4-g32")
    step = decoded_step(question("llama-3.2-1b", storage="int4-g32"), spec)
    assert step.time.seconds == pytest.approx(run.figures.seconds, rel=apart)
    assert step.work.n_bytes == pytest.approx(run.figures.dram_read_bytes + run.figures.dram_write_bytes, rel=0.02)
