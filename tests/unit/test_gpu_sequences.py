"""Scans, short convolutions, single steps and attention over lists on GPUs: laws, readers, samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.load import load_machine
from tilewright.kernels.reading import read_tables
from tilewright.search.gpu.predict import kernel_energy, kernel_seconds
from tilewright.search.gpu.validate import validate
from tilewright.search.network import simulate_stream
from tilewright.workloads.network import load_network

SAMPLES = Path(__file__).resolve().parents[1] / "validation" / "gpu_samples"

#: Device, sample, family: largest mean error on rows that calibrated nothing.
SAMPLED = {
    ("h100", "gdn_prefill_chunk", "gdn_flashinfer"): 0.05,
    ("h200", "gdn_prefill_chunk", "gdn_flashinfer"): 0.05,
    ("h100", "gdn_prefill_chunk", "gdn_fla"): 0.12,
    ("b200", "mamba2_chunk_scan", "ssd_trtllm"): 0.02,
    ("h100", "conv1d_channel_last", "conv_last"): 0.06,
    ("h100", "gdn_decode", "gdn_step"): 0.03,
    ("h100", "dsa_sparse_attention", "dsa_attention"): 0.05,
    ("h200", "dsa_sparse_attention", "dsa_indexer"): 0.15,
}


@pytest.mark.parametrize("key", SAMPLED, ids="-".join)
def test_samples_that_calibrated_nothing(key: tuple[str, str, str]) -> None:
    device, sample, family = key
    machine = load_machine(device)
    found = validate(machine, calibration_of(machine), read_tables(SAMPLES / f"{sample}_sample.csv"))
    (table,) = (table for table in found.tables if table.family == family)
    assert np.abs(table.predicted_s / table.measured_s - 1).mean() <= SAMPLED[key]


def _ssd(heads: int, tokens: int) -> float:
    shape = {"key_heads": 8, "key_dim": 128, "value_dim": 64}
    return kernel_seconds(load_machine("b200"), "scan", "ssd_trtllm", batch=1, tokens=tokens, heads=heads, **shape)


def test_a_persistent_scan_goes_by_waves_and_whole_chunks() -> None:
    """64 and 128 heads are one wave of 148 multiprocessors, 256 are two; a token more is a chunk more."""
    assert _ssd(64, 32768) == _ssd(128, 32768)
    assert _ssd(256, 32768) == pytest.approx(2 * _ssd(128, 32768), rel=0.01)
    assert _ssd(64, 129) == _ssd(64, 256) > _ssd(64, 128)


def test_a_step_of_the_state_is_its_bytes_beyond_the_l2() -> None:
    """Twice the sequences, twice the bytes; beyond the L2 a read and a write of 32 bits at the memory's pace."""
    h100 = load_machine("h100")
    shape = {"heads": 32, "key_heads": 16, "key_dim": 128, "value_dim": 128}
    one, two = (kernel_seconds(h100, "state_step", "gdn_step", batch=batch, **shape) for batch in (512, 1024))
    moved = 512 * (32 * 128 * 128 * 8 + 4 * (16 + 32) * 128)
    assert moved / (two - one) == pytest.approx(3.02e12, rel=0.02)


def test_rows_of_a_list_take_the_longest_or_all() -> None:
    """Few rows: the longest decides. Many: their sum over the multiprocessors."""
    h100 = load_machine("h100")
    shape = {"batch": 1, "queries": 1024, "head_dim": 64, "row_tokens": 128, "block": 128}

    def seconds(heads: int, mean_milli: int, longest: int) -> float:
        lists = {"heads": heads, "mean_milli": mean_milli, "longest": longest}
        return kernel_seconds(h100, "block_lists", "flex_blocks", **shape, **lists)

    assert seconds(1, 2000, 8) == seconds(1, 4000, 8) < seconds(1, 2000, 16)
    assert seconds(256, 2000, 8) < seconds(256, 4000, 8) == seconds(256, 4000, 4)


def test_token_top_k_does_not_grow_with_the_context() -> None:
    """Beyond 2,048 keys the attention takes the same time, its indexer does not."""
    h100 = load_machine("h100")
    attention, indexer = (
        [kernel_seconds(h100, "token_top_k", name, batch=1, queries=16384, cached=cached) for cached in (8192, 65536)]
        for name in ("dsa_attention", "dsa_indexer")
    )
    assert attention[0] == attention[1]
    assert indexer[1] > 4 * indexer[0]
    assert indexer[0] < attention[0] < indexer[1]


def test_another_gpu_has_these_kernels_by_its_relative() -> None:
    """A GB200 is timed by the B200's kernels, at its clock."""
    shape = {"batch": 4, "tokens": 4096, "heads": 64, "key_heads": 8, "key_dim": 128, "value_dim": 64}
    assert kernel_seconds(load_machine("gb200"), "scan", "ssd_trtllm", **shape) == pytest.approx(
        kernel_seconds(load_machine("b200"), "scan", "ssd_trtllm", **shape), rel=0.02
    )


def test_what_is_refused(tmp_path: Path) -> None:
    """A bad cell is told with its line; a shape needs all of its columns."""
    bad = tmp_path / "gdn_prefill_chunk_ms.csv"
    bad.write_text("Hk,Hv,B,L,h100_fla\n1,2,1,2,0.02\n1,2,0,2,0.02\n")
    with pytest.raises(InputError, match=r":3: B: given 0(\.0)?; allowed whole numbers from 1"):
        read_tables(bad)
    h100 = load_machine("h100")
    assert kernel_energy(h100, "short_conv", "conv_last", batch=1, tokens=8, channels=512).joules > 0
    lists = {"batch": 1, "heads": 1, "queries": 512, "head_dim": 64, "row_tokens": 128, "block": 128}
    with pytest.raises(
        InputError, match="mean_milli: given 5000 with a longest list of 4 blocks; allowed at most 4000"
    ):
        kernel_seconds(h100, "block_lists", "flex_blocks", **lists, mean_milli=5000, longest=4)
    with pytest.raises(InputError, match="allowed batch, tokens, channels"):
        kernel_seconds(h100, "short_conv", "conv_last", batch=1, tokens=8)


#: An operator, a machine, and the kernels that time it there.
OPERATORS = {
    ("ssd:tokens=4096,heads=64,key_heads=8,key_dim=128,value_dim=64", "b200"): "ssd_trtllm",
    ("ssd:tokens=4096,heads=64,key_heads=8,key_dim=128,value_dim=64", "h100"): "chunked_triton",
    ("delta_rule:tokens=4096,heads=32,key_heads=16,key_dim=128,value_dim=128", "h100"): "gdn_fla",
    ("delta_rule:tokens=1,heads=32,key_heads=16,key_dim=128,value_dim=128,batch=64,state=yes", "h100"): "gdn_step",
    ("causal_conv:tokens=4096,channels=8192", "l40s"): "conv_last",
}


@pytest.mark.parametrize(("text", "name"), OPERATORS, ids=lambda part: part.partition(":")[0])
def test_operators_that_scan_are_these_kernels(text: str, name: str) -> None:
    """What ``simulate`` says of an operator alone is its calibrated kernel, and never below the bound."""
    machine = load_machine(name)
    result = tilewright.simulate(text, machine)
    assert result.dataflow == OPERATORS[text, name]
    assert result.cycles >= result.lower_bound.cycles


def test_a_step_simulated_is_the_step_predicted() -> None:
    """To a cycle."""
    h100 = load_machine("h100")
    text = "delta_rule:tokens=1,heads=32,key_heads=16,key_dim=128,value_dim=128,batch=64,state=yes"
    result = tilewright.simulate(text, h100)
    shape = {"batch": 64, "heads": 32, "key_heads": 16, "key_dim": 128, "value_dim": 128}
    assert result.seconds == pytest.approx(kernel_seconds(h100, "state_step", "gdn_step", **shape), rel=1e-4)


def test_a_selective_scan_takes_its_exponentials_on_the_lanes() -> None:
    """16 states: 18 exponentials a value at 16 a cycle; one state: the bytes of an element-wise kernel."""
    machine = load_machine("h100")
    seconds = {}
    for states in (1, 16, 32):
        stream = load_network(f"selective_scan:tokens=16384,channels=1536,states={states}")
        result = simulate_stream(stream, machine)
        assert any("no kernel of them is measured" in one for one in result.assumptions)
        seconds[states] = result.seconds
    values = 16384 * 1536
    lanes = (values * 18 / 16 + values * (1 + 4 * 16 + 2) / 128) / (132 * 1.98e9)
    assert seconds[16] == pytest.approx(lanes, rel=0.01)
    assert 1.8 < seconds[32] / seconds[16] < 2
    assert seconds[1] < seconds[16] / 2
