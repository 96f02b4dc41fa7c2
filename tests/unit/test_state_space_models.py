"""State-space models of the zoo: parameters, dimensions, prefill and decode."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.workloads.network import load_network

DIMENSIONS = Path(__file__).resolve().parents[3] / "shared" / "sparse_ssm" / "ssm_model_dims.csv"

# From the published dimensions, the padded vocabularies counted once for embedding and head.
PARAMETERS = {
    "mamba-130m": 129_135_360,
    "mamba-370m": 371_516_416,
    "mamba-790m": 793_204_224,
    "mamba-1.4b": 1_372_178_432,
    "mamba-2.8b": 2_768_345_600,
    "mamba2-130m": 128_989_632,
    "mamba2-370m": 368_346_624,
    "mamba2-780m": 780_161_280,
    "mamba2-1.3b": 1_343_757_312,
    "mamba2-2.7b": 2_702_599_680,
}


@pytest.mark.parametrize("name", ["mamba-130m", "mamba-2.8b", "mamba2-130m", "mamba2-1.3b"])
def test_parameters_follow_from_published_dimensions(name: str) -> None:
    stream = load_network(f"{name}:seq=1")
    assert stream.n_parameters == stream.n_weights == PARAMETERS[name]


def test_parameters_follow_from_the_dimensions() -> None:
    """Counted once more, from the published table."""
    if not DIMENSIONS.exists():
        pytest.skip(f"{DIMENSIONS} is not there")
    with DIMENSIONS.open(encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    for name, n_parameters in PARAMETERS.items():
        row = rows[name]
        d, inner, n, width = (int(row[key]) for key in ("d_model", "d_inner", "d_state", "d_conv"))
        if row["kind"] == "mamba1":
            rank, vocabulary = int(row["chunk_or_dt_rank"]), 50_280
            mixer = 2 * d * inner + inner * (width + 1) + inner * (rank + 2 * n) + inner * (rank + 1) + inner * (n + 1)
        else:
            heads, shared, vocabulary = int(row["heads"]), 2 * int(row["groups"]) * n, 50_288
            mixer = d * (2 * inner + shared + heads) + (inner + shared) * (width + 1) + 3 * heads + inner
        assert n_parameters == int(row["layers"]) * (mixer + inner * d + d) + vocabulary * d + d


def test_a_step_reads_states_of_a_fixed_size() -> None:
    step = load_network("mamba2-130m:decode=1")
    assert step.cache_bytes == 24 * (24 * 128 * 64 * 4 + (1536 + 256) * 3 * 2)
    halved = load_network("mamba2-130m:decode=1,cache=fp16")
    assert halved.cache_bytes == 24 * (24 * 128 * 64 * 2 + (1536 + 256) * 3 * 2)
    behind = [load_network(f"mamba2-attention-2.7b:decode=1,context={n}").cache_bytes for n in (100, 200)]
    assert behind[1] - behind[0] == 6 * 2 * 30 * 128 * 100 * 2


def test_jamba_has_experts_of_which_a_token_reads_two() -> None:
    """Counted from the dimensions: 28 layers of Mamba, 4 of attention, 16 perceptrons and 16 times 16 experts."""
    hidden, inner, rank, states, wide = 4096, 8192, 256, 16, 14336
    mixer = 2 * hidden * inner + 5 * inner + inner * (rank + 2 * states) + inner * (rank + 1) + inner * (states + 1)
    mixer += rank + 2 * states + inner * hidden
    attention = hidden * hidden * 2 + 2 * hidden * 1024
    perceptron = 3 * hidden * wide
    others = 16 * (16 * perceptron + 16 * hidden) + 16 * perceptron + 65 * hidden + 2 * 65536 * hidden
    step = load_network("jamba-v0.1:decode=1,context=1000")
    assert step.n_parameters == 28 * mixer + 4 * attention + others
    read = sum(step.read_bytes(one) for one in step.operators if "experts" in one.name and one.kind == "matmul")
    assert read // 2 == 16 * (2 * perceptron + 16 * hidden + hidden + 4 * (hidden + wide // 2))
    longer = load_network("jamba-v0.1:decode=1,context=1001")
    assert longer.cache_bytes - step.cache_bytes == 4 * 2 * 1024 * 2


def test_zamba_reads_its_shared_blocks_again_and_again() -> None:
    """Counted from the dimensions: 54 layers of Mamba-2, two shared blocks, nine adapters and products of their own."""
    hidden, inner, states, wide = 2560, 5120, 64, 10240
    mixed = inner + 2 * states
    mixer = hidden * (inner + mixed + 80) + 5 * mixed + 3 * 80 + inner + inner * hidden + hidden
    shared = 2 * hidden + 3 * (2 * hidden) ** 2 + 2 * hidden**2 + hidden + 3 * hidden * wide
    own = 128 * (hidden + 2 * wide) + hidden**2
    prompt = load_network("zamba2-2.7b:prefill=16")
    assert prompt.n_parameters == 54 * mixer + 2 * shared + 9 * own + 32000 * hidden + hidden
    uses = [one for one in prompt.operators if one.name.endswith("shared.down")]
    assert len(uses) == 9 and len({one.inputs[1] for one in uses}) == 2
    assert sum(one.kind == "attention" for one in prompt.operators) == 9


def test_a_network_is_simulated() -> None:
    result = tilewright.simulate_network("mamba2-130m:decode=1", "edge-16x16")
    assert all(operator.bound_ratio >= 1 for operator in result.operators)
    kinds = {operator.kind for operator in result.operators}
    assert {"ssd", "causal_conv", "matmul"} <= kinds


def test_options_that_are_refused() -> None:
    with pytest.raises(InputError, match="seq: is another run than decode; given both"):
        load_network("mamba-130m:seq=5,decode=1")
    with pytest.raises(InputError, match=r'seq: must be a whole number; given "0"'):
        load_network("mamba-130m:seq=0")
    with pytest.raises(InputError, match='unknown option; given "context"'):
        load_network("mamba-130m:decode=1,context=5")


TABLE = Path(__file__).resolve().parents[2] / "docs" / "ssm.md"


@pytest.mark.slow
def test_the_table_by_length_is_what_comes_out() -> None:
    """Seconds of one prompt on edge-16x16, as one command compares them; the README shows some of these rows."""
    of_prompts = TABLE.read_text(encoding="utf-8").partition("## From which length")[2].partition("One token behind")[0]
    lines = [line for line in of_prompts.splitlines() if line.startswith("| ") and "**" in line]
    rows = [[cell.strip(" *").replace(",", "") for cell in line.strip("|").split("|")] for line in lines]
    table = {int(row[0]): row[1:] for row in rows}
    for tokens in (512, 2048, 8192, 12288, 32768):
        names = (f"mamba-1.4b:seq={tokens}", f"mamba2-1.3b:seq={tokens}", f"llama-3.2-1b:prefill={tokens}")
        found = [tilewright.simulate_network(name, "edge-16x16").seconds for name in names]
        assert [float(f"{one:.4g}") for one in found] == list(map(float, table[tokens]))
