"""Paths that share a prompt and are pruned, and speculative decoding: what is held, what a round costs."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.search.api import simulate_network
from tilewright.search.runs.run import simulate_run
from tilewright.workloads.runs.cache import CachedTensor, cached_bytes, shared_bytes
from tilewright.workloads.runs.kinds.generate import CacheSpec, GenerateRun, PruneSpec, RequestSpec, SpeculativeSpec
from tilewright.workloads.runs.load import parse_run

BLOCK, MACHINE = "llama-3-8b-block", "h100"
TOKEN = 2 * 8 * 128 * 2  # bytes of keys and values of a token


def _paths(**changes: object) -> GenerateRun:
    given = {"prompt": 20, "generate": 9, "count": 4, "shared": 20, **changes}
    return GenerateRun(network=BLOCK, requests=(RequestSpec(**given),))  # type: ignore[arg-type]


def test_paths_hold_their_prompt_once() -> None:
    result = simulate_run(_paths(), MACHINE)
    assert [(phase.name, phase.n_made) for phase in result.phases] == [("prefill", 4), ("decode", 32)]
    assert result.phases[0].cycles == simulate_network(f"{BLOCK}:prefill=20", MACHINE).cycles
    assert result.memory[-1].cache_bytes == (20 + 4 * 8) * TOKEN
    apart = simulate_run(_paths(shared=0), MACHINE)
    assert apart.memory[-1].cache_bytes == 4 * 28 * TOKEN


def test_pruned_paths_leave_with_what_is_theirs() -> None:
    result = simulate_run(_paths(prune=(PruneSpec(after=5, keep=2),)), MACHINE)
    assert [phase.n_made for phase in result.phases] == [4, 4 * 4, 2 * 4]
    at_end = [[point for point in result.memory if point.what == f"decode {n}"][-1].cache_bytes for n in (1, 2)]
    assert at_end == [(20 + 4 * 4) * TOKEN, (20 + 2 * 8) * TOKEN]
    assert (
        result.phases[2].points[0].seconds == simulate_network(f"{BLOCK}:decode=1,context=24,batch=2", MACHINE).seconds
    )


def test_a_shared_beginning_is_read_once() -> None:
    result = simulate_run(_paths(shared=12), MACHINE)
    assert [phase.name for phase in result.phases] == ["prefill shared", "prefill rest", "decode"]
    rest = simulate_network(f"{BLOCK}:decode=8,context=12,batch=4", MACHINE)
    assert result.phases[1].seconds == rest.seconds
    in_blocks = GenerateRun(
        network=BLOCK,
        requests=(RequestSpec(prompt=20, generate=2, count=4, shared=12),),
        cache=CacheSpec(block=8),
    )
    held = simulate_run(in_blocks, MACHINE).memory[-1].cache_bytes
    assert held == (8 + 4 * (24 - 8)) * TOKEN  # one whole block of 8 is held once; 21 tokens take three


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{prompt: 5, generate: 2, shared: 6}", "requests.0.shared: more than the prompt; given 6; allowed 0 to 5"),
        ("{prompt: 5, generate: 4, count: 8, prune: [{after: 4, keep: 2}]}", "prune.0.after: given 4; allowed 1 to 3"),
        ("{prompt: 5, generate: 4, count: 8, prune: [{after: 2, keep: 8}]}", "prune.0.keep: given 8; allowed 1 to 7"),
    ],
)
def test_faulty_paths_are_one_line(text: str, fault: str) -> None:
    with pytest.raises(InputError) as error:
        parse_run(f"run: generate\nnetwork: x\nrequests: [{text}]\n", name="mine.yaml")
    assert fault in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("acceptance", "n_rounds"), [(0.0, 6), (1.0, 2), (0.5, 4)])
def test_a_round_is_guesses_and_a_check(acceptance: float, n_rounds: int) -> None:
    """Two guesses: a round makes 1, 3 or 1.75 tokens."""
    run = GenerateRun(
        network=BLOCK,
        requests=(RequestSpec(prompt=20, generate=7),),
        speculative=SpeculativeSpec(draft=BLOCK, tokens=2, acceptance=acceptance),
    )
    result = simulate_run(run, MACHINE)
    assert [phase.name for phase in result.phases] == ["prefill", "prefill draft", "decode"]
    decode = result.phases[-1]
    assert (decode.n_steps, decode.n_made) == (n_rounds, 6)
    begins = [20 + int(number * (6 / n_rounds if acceptance != 0.5 else 1.75)) for number in range(n_rounds)]
    cycles = 0
    for context in begins:
        cycles += simulate_network(f"{BLOCK}:decode=3,context={context}", MACHINE).cycles
        cycles += sum(simulate_network(f"{BLOCK}:decode=1,context={context + n}", MACHINE).cycles for n in (0, 1))
    assert decode.cycles == cycles
    assert result.memory[0].weight_bytes == 2 * simulate_network(f"{BLOCK}:prefill=20", MACHINE).weight_bytes


#: GB of Guided by Gut's figure by model, strategy and paths; digitised, and the numbers of paths inferred.
GUIDED_BY_GUT = [
    ("1.5B", "BoN", 32, 18),
    ("1.5B", "BoN", 64, 32),
    ("1.5B", "GG", 32, 11),
    ("1.5B", "GG", 64, 18),
    ("7B", "BoN", 64, 72),
    ("7B", "GG", 32, 31),
    ("7B", "GG", 64, 45),
]


@pytest.mark.parametrize(("model", "strategy", "n_paths", "gigabytes"), GUIDED_BY_GUT)
def test_the_memory_of_guided_by_gut(model: str, strategy: str, n_paths: int, gigabytes: float) -> None:
    """Weights and 16,384 tokens a path, half of the paths pruned where the gut guides: within 6 % of the figure."""
    layers, heads, parameters = {"1.5B": (28, 2, 1.54e9), "7B": (28, 4, 7.62e9)}[model]
    tensors = [
        CachedTensor(
            name=f"{layer}.{part}",
            shape=(1, 1, heads * 128),
            axis=1,
            n_sequences=1,
            number_format="bf16",
            made_format="bf16",
        )
        for layer in range(layers)
        for part in "kv"
    ]
    assert cached_bytes(tensors, 1) == {"1.5B": 28672, "7B": 57344}[model]
    alive, n_tokens, prompt = n_paths // (2 if strategy == "GG" else 1), 16384, 128
    held = cached_bytes(tensors, n_tokens, alive) - (alive - 1) * shared_bytes(tensors, prompt, n_tokens)
    assert 2 * parameters + held == pytest.approx(gigabytes * 1e9, rel=0.06)
