"""Diffusion language models: steps over all tokens, and over what is not cached."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.search.runs.run import simulate_run
from tilewright.workloads.network import load_network
from tilewright.workloads.runs.kinds.masked_text import MaskedTextRun
from tilewright.workloads.runs.load import parse_run

BLOCK, MACHINE = "llama-3-8b-block", "h100"
#: Multiply-adds of a token in the products of the block, and of a pair of tokens in its attention.
PRODUCTS, PAIR = load_network(f"{BLOCK}:prefill=1").macs - 2 * 32 * 128, 2 * 32 * 128


def _run(**changes: object) -> MaskedTextRun:
    given = {"network": BLOCK, "prompt": 32, "generate": 32, "block": 8, **changes}
    return MaskedTextRun(**given)  # type: ignore[arg-type]


def _macs(new: int, of: int) -> int:
    return new * PRODUCTS + new * of * PAIR


def test_without_a_cache_every_step_runs_all_tokens() -> None:
    result = simulate_run(_run(), MACHINE)
    assert [phase.n_steps for phase in result.phases] == [8] * 4
    assert result.macs == 32 * _macs(64, 64)
    assert result.measure("speedup") == pytest.approx(1)
    faster = simulate_run(_run(tokens_per_step=4), MACHINE)
    assert faster.macs == 8 * _macs(64, 64) and faster.measure("speedup") == pytest.approx(4)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_leaves_the_block_or_what_is_behind_the_prefix(cache: str) -> None:
    result = simulate_run(_run(cache=cache), MACHINE)
    widths = [8] * 4 if cache == "dual" else [32, 24, 16, 8]
    assert [phase.macs for phase in result.phases] == [_macs(64, 64) + 7 * _macs(n, 64) for n in widths]
    assert result.memory[0].cache_bytes == 64 * 2 * 8 * 128 * 2
    half = simulate_run(_run(cache=cache, refresh=0.5), MACHINE)
    bound = simulate_run(_run(), MACHINE)
    assert half.seconds == pytest.approx((result.seconds + bound.seconds) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("block: 5", "block: given 5; allowed a divisor of generate, 32"),
        ("tokens_per_step: 40", "tokens_per_step: given 40; allowed at most 32, a block"),
        ("refresh: 0.2", "refresh: is for a run with a cache"),
        ("cache: duel", 'did you mean "dual"'),
    ],
)
def test_a_faulty_file_is_one_line(text: str, fault: str) -> None:
    with pytest.raises(InputError) as error:
        parse_run(f"run: masked_text\nnetwork: x\nprompt: 4\ngenerate: 32\n{text}\n", name="mine.yaml")
    assert fault in str(error.value) and "\n" not in str(error.value)
