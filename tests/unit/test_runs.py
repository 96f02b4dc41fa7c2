"""Runs over time: read from files and names, evaluated step by step, refused in one sentence."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tilewright.cli.app import app
from tilewright.errors import InputError
from tilewright.search.api import simulate_network
from tilewright.search.runs.run import simulate_run
from tilewright.workloads.runs.kinds.generate import CacheSpec, GenerateRun, RequestSpec
from tilewright.workloads.runs.load import is_run, load_run, parse_run

BLOCK = "llama-3-8b-block"


def test_a_name_with_options_is_a_run() -> None:
    run = load_run("llama-3.2-1b:prompt=512,generate=16,batch=4,kv=int8,values=int4-g32,weights=int4-g128,block=16")
    assert run == GenerateRun(
        network="llama-3.2-1b:weights=int4-g128",
        requests=(RequestSpec(prompt=512, generate=16, count=4),),
        cache=CacheSpec(keys="int8", values="int4-g32", block=16),
    )
    assert not is_run("llama-3.2-1b:prefill=512") and not is_run("gemm:m=1,n=2,k=3")


def test_a_file_is_a_run() -> None:
    text = "run: generate\nnetwork: x\nrequests: [{prompt: 5, generate: 2}]\ncache: {keys: int8-g32}\nhead: fp16\n"
    run = parse_run(text, name="mine.yaml")
    assert run == GenerateRun(
        network="x", requests=(RequestSpec(prompt=5, generate=2),), cache=CacheSpec(keys="int8-g32"), head="fp16"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("network: x", "mine.yaml: run: this field is missing; allowed generate"),
        ("run: generat", 'mine.yaml: run: unknown kind of run; given "generat"; allowed generate'),
        ("run: generate\nnetwork: x\nrequests: []", "requests: too few entries"),
        ("run: generate\nnetwork: x\nrequests: [{prompt: 0, generate: 1}]", "requests.0.prompt: out of range"),
        ("run: generate\nnetwork: x\nrequest: [{prompt: 1, generate: 1}]", 'did you mean "requests"'),
        ("run: generate\nnetwork: x\nrequests: [{prompt: 1, generate: 1}]\ncache: {keys: int99}", "keys: unknown"),
        ("- 1", "mine.yaml: "),
    ],
)
def test_a_faulty_file_is_one_line(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=r".+") as error:
        parse_run(text, name="mine.yaml")
    assert fault in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["llama-3.2-1b:prompt=5"], "generate: missing; a generation is written NAME:prompt=512,generate=16"),
        (["llama-3.2-1b:prompt=5,generate=0"], "generate: must be a whole number"),
        (["llama-3.2-1b:prompt=5,generate=2,decode=1"], "decode: the run says this itself"),
        (["bert-base:prompt=5,generate=2"], "reads no prompt and writes no tokens"),
        (["llama-3.2-1b:prefill=5,decode=2"], "llama-3.2-1b:prompt=5,generate=2"),
        (["--run", "nowhere.yaml"], "no such file"),
        (["llama-3.2-1b:prompt=5,generate=2", "--tile", "query=4"], "--tile: means nothing for a run over time"),
        (["llama-3.2-1b:prompt=5,generate=2", "--objective", "pareto"], "--objective: pareto"),
        (
            ["llama-3-8b-block:prompt=5,generate=900000", "--set", "dram.capacity_gib=1"],
            "holds 1,024 MiB (dram.capacity_gib); 155,",
        ),
        ([], "workload: missing"),
    ],
)
def test_a_faulty_call_is_one_line(arguments: list[str], fault: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *arguments, "-a", "edge-16x16"])
    assert isinstance(result.exception, InputError) and fault in str(result.exception)


def test_a_generation_is_its_steps() -> None:
    """The prompt, then every token alone, in cycles, bytes and energy."""
    result = simulate_run(f"{BLOCK}:prompt=6,generate=3,kv=int8", "edge-16x16")
    texts = [f"{BLOCK}:prefill=6,batch=1", *(f"{BLOCK}:decode=1,context={n},batch=1" for n in (6, 7))]
    alone = [simulate_network(text, "edge-16x16", kv_cache="int8") for text in texts]
    assert result.cycles == sum(one.cycles for one in alone)
    assert result.dram_read_bytes == sum(one.dram_read_bytes for one in alone)
    assert result.energy_pj == pytest.approx(sum(one.energy_pj for one in alone), rel=1e-12)
    assert result.measure("time_to_first_token_s") == alone[0].seconds
    assert result.measure("time_per_token_s") == pytest.approx((alone[1].seconds + alone[2].seconds) / 2)
    assert [phase.n_made for phase in result.phases] == [1, 2]
    assert result.peak_bytes > alone[0].weight_bytes + 2 * 8 * 128 * 8


@pytest.mark.parametrize(
    ("network", "machine", "prompt", "batch", "kv_cache"),
    [
        (BLOCK, "edge-16x16", 30, 3, "int8"),
        (f"{BLOCK}:concatenated=1", "edge-16x16", 12, 1, None),  # more than the keys of attention grows
        (BLOCK, "h100", 30, 1, None),
    ],
)
def test_a_total_is_that_of_each_token_alone(
    network: str, machine: str, prompt: int, batch: int, kv_cache: str | None
) -> None:
    sign = "," if ":" in network else ":"
    run = simulate_run(f"{network}{sign}prompt={prompt},generate=4,batch={batch}", machine, kv_cache=kv_cache)
    decode = run.phases[-1]
    texts = [f"{network}{sign}decode=1,context={prompt + n},batch={batch}" for n in range(3)]
    alone = [simulate_network(text, machine, kv_cache=kv_cache) for text in texts]
    for name in ("cycles", "dram_read_bytes", "dram_write_bytes", "macs"):
        assert getattr(decode, name) == sum(getattr(one, name) for one in alone), name
    assert decode.energy_pj == pytest.approx(sum(one.energy_pj for one in alone), rel=1e-9)
    assert decode.seconds == pytest.approx(sum(one.seconds for one in alone), rel=1e-12)
    assert [point.seconds for point in decode.points] == pytest.approx([one.seconds for one in alone], rel=1e-12)


def test_a_window_of_newest_tokens_slides_along() -> None:
    run = simulate_run(f"{BLOCK}:prompt=60,generate=6,kv=int4,residual=32", "edge-16x16")
    held = [point.cache_bytes for point in run.memory if point.what == "decode"]
    of_token = 2 * 8 * 128
    assert held == [of_token * ((61 + n - 32) * 4 + 32 * 16) // 8 for n in range(5)]
    reads = [point.dram_bytes for point in run.phases[-1].points]
    assert [b - a for a, b in pairwise(reads)] == [of_token * 4 // 8] * 4


def test_requests_of_unlike_lengths_attend_each_to_its_own_keys() -> None:
    """Two sequences in a step: what does not look back is done for both, attention for each alone."""
    run = GenerateRun(
        network=BLOCK, requests=(RequestSpec(prompt=40, generate=3), RequestSpec(prompt=9, generate=2, count=2))
    )
    result = simulate_run(run, "edge-16x16")
    assert [phase.name for phase in result.phases] == ["prefill 1", "prefill 2", "decode 1", "decode 2"]
    assert [phase.n_made for phase in result.phases] == [1, 2, 3, 1]
    both = simulate_network(f"{BLOCK}:decode=1,context=40,batch=3", "edge-16x16")
    of_keys = 2 * 8 * 128 * 2
    assert both.dram_read_bytes - result.phases[2].dram_read_bytes == 2 * (40 - 9) * of_keys
    alone = simulate_network(f"{BLOCK}:decode=1,context=41", "edge-16x16")
    assert result.phases[3].cycles == alone.cycles


def test_many_tokens_cost_programs_not_tokens() -> None:
    few = simulate_run(f"{BLOCK}:prompt=30,generate=100,bucket=32", "edge-16x16")
    assert any("a program for every 32 numbers of keys" in text for text in few.assumptions)
    first, *_, last = few.phases[-1].points
    assert first.size == 30 and last.size == 128 and len(few.phases[-1].points) == 99
    at_bucket = simulate_network(f"{BLOCK}:decode=1,context=63", "edge-16x16")
    assert few.phases[-1].points[10].seconds == at_bucket.seconds  # 41 keys, done as 64
    last_of_all = simulate_run(f"{BLOCK}:prompt=30,generate=100", "edge-16x16").phases[-1]
    assert 0.99 < last_of_all.seconds / few.phases[-1].seconds < 1


def test_the_command_writes_the_same(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"run: generate\nnetwork: {BLOCK}\nrequests: [{{prompt: 6, generate: 2}}]\n", encoding="utf-8")
    told, rows = tmp_path / "run.json", tmp_path / "run.csv"
    done = CliRunner().invoke(
        app, ["simulate", "--run", str(file), "-a", "edge-16x16", "--json", str(told), "--csv", str(rows)]
    )
    assert done.exit_code == 0, done.output
    data = json.loads(told.read_text(encoding="utf-8"))
    result = simulate_run(file, "edge-16x16")
    assert data["measures"]["seconds"] == result.seconds and data["run"] == "generate"
    assert len(rows.read_text(encoding="utf-8").splitlines()) == 1 + len(result.phases)
    assert "time to first token" in done.output
