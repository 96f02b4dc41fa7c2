"""A server of a language model: blocks, steps by hand, laws of conservation, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tilewright.cli.run import run as run_command
from tilewright.errors import InputError
from tilewright.search.runs.run import simulate_run
from tilewright.sim.serving.blocks import BlockPool
from tilewright.sim.serving.costs import Batch, StepCost
from tilewright.sim.serving.engine import Engine, EngineRules
from tilewright.sim.serving.requests import Request
from tilewright.sim.serving.result import ServeResult
from tilewright.sim.serving.server import Served, serve
from tilewright.workloads.runs.arrivals import arrivals_of
from tilewright.workloads.runs.kinds.serve import ArrivalsSpec, LengthSpec
from tilewright.workloads.runs.load import parse_run

SMALL = """run: serve
model: llama-3.2-1b
arrivals: {count: 6, rate: 50, prompt: {tokens: 40}, answer: {tokens: 5}}
policy: {tokens: 64, running: 4}
"""


class OneSecond:
    """Every step takes a second for each token of a prompt and one for all that make tokens; all steps are noted."""

    told = "by hand"

    def __init__(self) -> None:
        self.steps: list[Batch] = []

    def step(self, batch: Batch, *, beside: int = 0) -> StepCost:
        self.steps.append(Batch(batch.decodes, batch.context, batch.new, batch.looks, sampled=batch.sampled))
        return StepCost(seconds=batch.new + (batch.decodes > 0), n_bytes=1.0)


def asked(*shapes: tuple[float, int, int]) -> list[Request]:
    return [
        Request(number=n, arrival_s=seconds, prompt=prompt, answer=answer)
        for n, (seconds, prompt, answer) in enumerate(shapes)
    ]


def rules(**changes: object) -> EngineRules:
    given = {"tokens": 8, "running": 4, "block": 4, "blocks": 100, "layers": 4, **changes}
    return EngineRules(**given)  # type: ignore[arg-type]


def run(requests: list[Request], costs: OneSecond | None = None, **changes: object) -> Served:
    return serve(requests, rules(**changes), costs or OneSecond())


def test_two_requests_by_hand() -> None:
    """Budget 8: [8 of the first], [2 of it, 6 of the second], [a token of the first], then one of each."""
    costs, requests = OneSecond(), asked((0.0, 10, 3), (1.0, 6, 2))
    served = run(requests, costs)
    assert [(one.decodes, one.context, one.new, one.sampled) for one in costs.steps] == [
        (0, 0, 8, 0),
        (0, 0, 8, 2),
        (2, 16, 0, 2),
        (1, 11, 0, 1),
    ]
    # Pairs of a new token and what it looks at: 1 + ... + 8, then 9 + 10 and 1 + ... + 6.
    assert [one.looks for one in costs.steps] == [36, 19 + 21, 0, 0]
    assert (requests[0].first_s, requests[0].last_s) == (16.0, 18.0)
    assert (requests[1].first_s, requests[1].last_s) == (16.0, 17.0)
    assert served.seconds == 18.0
    assert requests[1].ttft_s == 15.0
    assert requests[0].tpot_s == 1.0


def test_the_server_waits_for_the_next_arrival() -> None:
    requests = asked((0.0, 2, 1), (50.0, 3, 1))
    assert run(requests).seconds == 53.0
    assert [one.ttft_s for one in requests] == [2.0, 3.0]


def test_the_last_one_let_in_gives_up_its_blocks_and_reads_all_anew() -> None:
    """Three blocks of four tokens: both prompts take one each; the first takes the third with its fifth token."""
    costs, requests = OneSecond(), asked((0.0, 4, 6), (0.0, 4, 6))
    served = run(requests, costs, blocks=3)
    assert served.preemptions == requests[1].preemptions == 1
    assert requests[0].preemptions == 0
    assert served.reread == 5  # its prompt and the token that it had made
    assert served.most_blocks == 3
    assert served.prompt_tokens == 4 + 4 + 5


def test_what_was_given_up_is_found_again_where_blocks_are_kept() -> None:
    requests = asked((0.0, 4, 4), (0.0, 8, 4))
    served = run(requests, tokens=12, blocks=3, keeps=True)
    assert served.preemptions == 1
    # The first took one of its two blocks, the later one; the earlier is found.
    assert (served.found, served.reread) == (4, 5)


def test_blocks_are_taken_in_the_order_they_were_given_up() -> None:
    pool = BlockPool(6, keeps=True)
    pool.take(6)
    pool.give(2, owner=1)
    pool.give(3, owner=2)
    pool.take(1)
    assert (pool.free, pool.kept(1), pool.kept(2)) == (4, 1, 3)
    pool.take(2)
    assert (pool.kept(1), pool.kept(2)) == (0, 2)
    assert pool.take_again(2) == 2
    assert (pool.free, pool.used) == (0, 6)


def test_layered_prefill_takes_a_group_of_layers_a_step() -> None:
    """Ten tokens in groups of four: three steps, in each all ten through a third of the layers."""
    engine = Engine(rules(prefill="layered", group_tokens=4))
    engine.waiting.extend(asked((0.0, 10, 2)))
    seen = []
    for step in range(4):
        batch = engine.plan(float(step))
        seen.append((batch.new, batch.groups, batch.group, batch.sampled, batch.decodes))
        engine.done(float(step))
    assert seen == [(10, 3, 0, 0, 0), (10, 3, 1, 0, 0), (10, 3, 2, 1, 0), (0, 1, 0, 1, 1)]
    assert engine.is_idle
    assert engine.pool.used == 0


@pytest.mark.parametrize("prefill", ["chunked", "whole", "layered"])
@pytest.mark.parametrize("blocks", [30, 1000])
@pytest.mark.parametrize("keeps", [False, True])
def test_every_token_is_made_once_and_every_block_comes_back(prefill: str, blocks: int, keeps: bool) -> None:
    spec = ArrivalsSpec(
        count=60,
        poisson=0.2,
        seed=3,
        prompt=LengthSpec(median=20, p90=40, most=60),
        answer=LengthSpec(median=9, p90=30, most=50),
    )
    requests = asked(*((one.seconds, one.prompt, one.answer) for one in arrivals_of(spec)))
    served = run(requests, blocks=blocks, prefill=prefill, keeps=keeps, group_tokens=8)
    assert served.tokens == sum(one.answer for one in requests)
    found = served.found if keeps else 0
    assert served.prompt_tokens + found >= sum(one.prompt for one in requests)
    if not served.preemptions:
        assert served.prompt_tokens == sum(one.prompt for one in requests)
    assert all(one.arrival_s <= one.admitted_s <= one.first_s <= one.last_s <= served.seconds for one in requests)
    assert all(one.made == one.answer for one in requests)
    assert served.occupancy[-1].blocks == served.occupancy[-1].running == 0
    assert served.most_blocks <= blocks
    assert (served.preemptions > 0) == (blocks == 30)


def test_points_of_the_cache_do_not_grow_with_tokens() -> None:
    served = run(asked((0.0, 4, 5000)), blocks=10_000)
    assert served.steps == 5000
    assert len(served.occupancy) <= 512


def test_engines_deal_requests_out_in_turn() -> None:
    requests = asked(*((0.0, 4, 2) for _ in range(4)))
    apart = serve(requests, rules(running=1), OneSecond(), engines=2)
    assert apart.seconds == 10.0  # two each, one after the other
    together = serve(asked(*((0.0, 4, 2) for _ in range(4))), rules(running=1), OneSecond(), engines=2, in_step=True)
    assert (together.seconds, together.tokens) == (10.0, 8)


def test_a_sweep_runs_every_combination() -> None:
    text = SMALL + "sweep: {policy.tokens: [32, 64], arrivals.rate: [10, 50, 100]}\n"
    result = simulate_run(parse_run(text, name="run.yaml"), "apple-m4")
    assert isinstance(result, ServeResult)
    assert [tuple(point.values.values()) for point in result.points] == [
        (tokens, rate) for tokens in (32, 64) for rate in (10, 50, 100)
    ]
    assert all(row["ttft_s_p50"] <= row["ttft_s_p99"] for row in result.rows())
    alone = simulate_run(parse_run(SMALL, name="run.yaml"), "apple-m4")
    assert isinstance(alone, ServeResult)
    assert alone.points[0].figures == result.points[4].figures
    assert len(alone.to_dict()["requests"]) == 6


def test_the_example_is_short_and_runs() -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "serving.yaml"
    text = path.read_text()
    assert len(text.splitlines()) < 20
    small = text.replace("llama-3.1-8b", "llama-3.2-1b").replace("count: 200", "count: 12")
    result = simulate_run(parse_run(small, name=path.name), "apple-m4")
    assert isinstance(result, ServeResult)
    assert len(result.points) == 6
    assert result.rows() == simulate_run(parse_run(small, name=path.name), "apple-m4").rows()


def test_any_machine_serves_in_closed_form() -> None:
    result = simulate_run(parse_run(SMALL, name="run.yaml"), "raspberry-pi-5")
    assert result.measure("tokens_per_s") < simulate_run(parse_run(SMALL, name="r"), "apple-m4").measure("tokens_per_s")
    assert any("closed form" in text for text in result.assumptions)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ("policy: {tokens: 2, running: 4}", "policy.tokens: given 2 for 4 running requests"),
        ("cache: {blocks: 9000000}", "blocks fit beside the weights"),
        ("cache: {blocks: 2}", "the cache holds 2 blocks of 16, which are 32 tokens"),
        ("cache: {format: int-3}", "format"),
        ("routing: skew=1.2", "llama-3.2-1b has no experts"),
        ("parallel: {tensor: 2}", "link: missing"),
        ("parallel: {tensor: 3, link: {bandwidth_gb_per_s: 50}}", "allowed a divisor of both"),
        ("sweep: {policy.token: [1]}", "policy.token: names no field"),
        ("sweep: {policy.tokens: [64, 2]}", "given 2 for 4 running"),
        ("model: llama-3.2-1x", "llama-3.2-1b"),
        ("arrivals: {count: 3, prompt: {tokens: 200000}, answer: {tokens: 5}}", "llama-3.2-1b allows 131,072 in all"),
        ("arrivals: {file: none.csv}", "none.csv"),
        ("arrivals: {count: 3}", "prompt: missing"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes: str, told: str) -> None:
    key = changes.split(":")[0]
    kept = "".join(line + "\n" for line in SMALL.splitlines() if not line.startswith(key + ":"))
    with pytest.raises(InputError) as refused:
        simulate_run(parse_run(kept + changes + "\n", name="run.yaml"), "rtx4090")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_experts_that_the_router_does_not_have(tmp_path: Path) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text("expert,count\n200,5\n")
    text = SMALL.replace("llama-3.2-1b", "qwen3-30b-a3b") + f"routing: {counts}\n"
    with pytest.raises(InputError, match="expert: given 200; allowed 0 to 127"):
        simulate_run(parse_run(text, name="run.yaml"), "h100")


def test_a_changed_card_keeps_what_was_not_changed() -> None:
    described = parse_run(SMALL.replace("count: 6", "count: 1"), name="run.yaml")
    as_sold, faster, larger = (
        simulate_run(described, name)
        for name in ("rtx4090", "rtx4090 with dram.bandwidth_gb_per_s=2016", "rtx4090 with dram.capacity_gib=48")
    )
    assert faster.facts["blocks"] == as_sold.facts["blocks"] != larger.facts["blocks"]
    assert larger.capacity_bytes == 48 * 2**30
    assert larger.measure("tpot_s_mean") == as_sold.measure("tpot_s_mean") > faster.measure("tpot_s_mean")


@pytest.mark.parametrize("option", ["--no-fuse", "--objective=energy", "--weights=int4", "--dataflow=flash2"])
def test_options_that_mean_nothing_are_refused(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(SMALL)
    assert run_command(["simulate", "--run", str(path), "-a", "apple-m4", option]) == 2
    assert f"{option.partition('=')[0]}: means nothing for a server" in capsys.readouterr().err


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "run.yaml", tmp_path / "out.json"
    path.write_text(SMALL)
    given = ["simulate", "--run", str(path), "-a", "apple-m4", "--kv-cache", "int8", "--json", str(out)]
    assert run_command([*given, "--csv", str(tmp_path / "out.csv"), "--report", str(tmp_path / "page")]) == 0
    assert "by point" in capsys.readouterr().out
    document = json.loads(out.read_text())
    assert len(document["requests"]) == 6
    assert (tmp_path / "out.csv").read_text().count("\n") >= 2
    assert "Points" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("2.0,5,5\n1.0,5,5\n", "arrival_s: given 1 behind 2; allowed in the order of arrival"),
        ("0,0,5\n", "input_tokens: given 0; allowed whole numbers from 1"),
        ("0,5,1.5\n", "output_tokens: given 1.5"),
        ("soon,5,5\n", "arrival_s: given soon"),
        ("", "no request"),
    ],
)
def test_files_of_requests(rows: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    with pytest.raises(InputError) as refused:
        arrivals_of(ArrivalsSpec(file=str(path)))
    assert told in str(refused.value)


def test_hits_of_a_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,hit_tokens,kind\n0,20,2,16,a\n0,20,2,0,b\n1,9,2,0,a\n")
    found = arrivals_of(ArrivalsSpec(file=str(path), only={"kind": "a"}))
    assert [(one.prompt, one.hit) for one in found] == [(20, 16), (9, 0)]
    requests = [Request(number=0, arrival_s=0.0, prompt=20, answer=2, hit=16)]
    assert run(requests).prompt_tokens == 4


def test_drawn_arrivals_are_the_same_for_a_seed() -> None:
    spec = ArrivalsSpec(
        count=2000, poisson=4, seed=7, prompt=LengthSpec(median=100, p90=300), answer=LengthSpec(tokens=3)
    )
    found = arrivals_of(spec)
    assert found == arrivals_of(spec)
    assert found[-1].seconds == pytest.approx(500, rel=0.1)
    lengths = sorted(one.prompt for one in found)
    assert lengths[1000] == pytest.approx(100, rel=0.1)
    assert lengths[1800] == pytest.approx(300, rel=0.1)
