"""Counts of scans and linear attention: worked values of the literature, and loops written out."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.workloads.scan_counts import (
    ChunkedScan,
    conv_counts,
    delta_rule_counts,
    gated_linear_counts,
    linear_attention_counts,
    sana_counts,
    selective_scan_counts,
    ssd_counts,
    step_counts,
)

#: batch, tokens, heads, groups, chunk, then GFLOP of C B^T, chunk states, passing, within chunks, from states, in all.
_SSD = {
    "mamba2-130m": ((1, 4096, 24, 1, 256), (0.1342, 1.611, 0.006291, 1.611, 1.611, 4.9723)),
    "mamba2-2.7b": ((1, 32768, 80, 1, 256), (1.074, 42.95, 0.1678, 42.95, 42.95, 130.09)),
    "nemotron nano mixer": ((1, 32768, 64, 8, 128), (4.295, 34.36, 0.2684, 17.18, 34.36, 90.463)),
}


def _ssd(batch: int, n_tokens: int, n_heads: int, n_groups: int, chunk: int) -> ChunkedScan:
    return ChunkedScan(
        batch=batch, n_tokens=n_tokens, n_heads=n_heads, key_dim=128, value_dim=64, chunk=chunk, n_key_heads=n_groups
    )


@pytest.mark.parametrize("name", _SSD)
def test_ssd_has_the_flop_of_its_mixers(name: str) -> None:
    """The worked values of three mixers, stage by stage."""
    extents, (scores, states, passing, within, across, total) = _SSD[name]
    counts = ssd_counts(_ssd(*extents))
    assert counts.stage("scores").flop / 1e9 == pytest.approx(scores, rel=1e-3)
    assert counts.stage("chunk_states").flop / 1e9 == pytest.approx(states, rel=1e-3)
    assert counts.stage("state_passing").flop / 1e9 == pytest.approx(passing, rel=1e-3)
    assert counts.stage("chunk_scan").flop / 1e9 == pytest.approx(within + across, rel=1e-3)
    assert (counts.flop - counts.stage("cumulative_sum").flop) / 1e9 == pytest.approx(total, rel=1e-4)


def test_chunk_scan_of_the_published_table() -> None:
    """21.475 GFLOP: at 0.169 ms the published 127 TFLOP/s."""
    assert ssd_counts(_ssd(8, 1024, 80, 1, 256)).stage("chunk_scan").flop == 21_474_836_480


def test_delta_rule_of_a_token() -> None:
    """180,224 FLOP a token and head at chunks of 64 and heads of 128, and C^2 / 3 for the inverse."""
    scan = ChunkedScan(batch=1, n_tokens=6400, n_heads=3, n_key_heads=3, key_dim=128, value_dim=128, chunk=64)
    counts = delta_rule_counts(scan)
    inverse = counts.stage("inverse").flop
    assert counts.flop - inverse == 180_224 * 6400 * 3
    assert inverse / (6400 * 3) == pytest.approx(64**2 / 3, rel=1e-4)


def test_linear_attention_of_a_token() -> None:
    """C (Dk + Dv) + 4 Dk Dv, the causal half; a gate a key channel adds vector work and no product."""
    scan = ChunkedScan(batch=2, n_tokens=512, n_heads=4, n_key_heads=4, key_dim=64, value_dim=32, chunk=128)
    plain = linear_attention_counts(scan)
    assert plain.flop == 2 * 512 * 4 * (128 * (64 + 32) + 4 * 64 * 32)
    gated = gated_linear_counts(scan)
    assert [gated.stage(s.name).flop for s in plain.stages] == [s.flop for s in plain.stages]
    assert gated.stage("diagonal").n_exponentials == 2 * 512 * 4 * 64 * 16


def test_a_ragged_chunk_costs_a_whole_one() -> None:
    """129 tokens in chunks of 128 are two chunks."""
    ragged, whole = (ssd_counts(_ssd(1, n_tokens, 2, 1, 128)) for n_tokens in (129, 256))
    assert [s.flop for s in ragged.stages[1:]] == [s.flop for s in whole.stages[1:]]
    assert ragged.fused_bytes < whole.fused_bytes


def test_bytes_of_one_token() -> None:
    """6.476 GB: the state of 1,024 sequences of 48 heads read and written, 16 key heads."""
    counts = step_counts(batch=1024, n_heads=48, n_key_heads=16, key_dim=128, value_dim=128, delta_rule=True)
    assert counts.dram_bytes == counts.fused_bytes
    assert counts.fused_bytes / 1e9 == pytest.approx(6.476, rel=1e-3)


def test_convolution_selective_scan_and_sana() -> None:
    """8 FLOP and 2 e bytes a value; 9 FLOP and one exponential a state; 4 L Dk Dv and two sums of keys."""
    conv = conv_counts(batch=2, n_tokens=100, n_channels=512)
    assert (conv.flop, conv.fused_bytes) == (8 * 2 * 100 * 512, 2 * 2 * 100 * 512 * 2)
    scan = selective_scan_counts(batch=2, n_tokens=100, n_channels=512, n_states=16)
    assert (scan.flop, scan.n_exponentials) == (9 * 2 * 100 * 512 * 16, 2 * 100 * 512 * 16)
    assert scan.fused_bytes == 4 * 2 * 100 * 512 * 2 + 2 * 2 * 100 * 16 * 2
    sana = sana_counts(batch=1, n_tokens=1024, n_heads=2, key_dim=32, value_dim=32)
    assert sana.flop == 2 * 1024 * (4 * 32 * 32 + 3 * 32)


def test_extents_that_cannot_be() -> None:
    """One line with the field and what is allowed."""
    with pytest.raises(InputError, match="n_tokens: given 0; allowed 1 or more"):
        _ssd(1, 0, 2, 1, 128)
    with pytest.raises(InputError, match="given 3 with 2 key heads; allowed a multiple"):
        _ssd(1, 8, 3, 2, 128)
