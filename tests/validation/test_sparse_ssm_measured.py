"""Scans, convolutions, single steps, sparse attention against measured tables; published ratios and break-evens.

The tables are not part of the repository (``TILEWRIGHT_SHARED``, else ``shared`` beside the checkout). ``pytest
tests/validation/test_sparse_ssm_measured.py -s`` prints the errors on rows that calibrated nothing.
"""

from __future__ import annotations

import csv
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tilewright.hw_models.gpu.calibration import calibration_of, load_calibration
from tilewright.hw_models.load import load_machine
from tilewright.kernels.reading import read_tables
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.search.gpu.split import calibration_rows
from tilewright.search.gpu.validate import TableValidation, Validation, validate
from tilewright.workloads.scan_counts import ChunkedScan, delta_rule_counts, ssd_counts, step_counts

pytestmark = pytest.mark.validation

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
TABLES = SHARED / "sparse_ssm"
_GDN, _STEP, _LAST, _FIRST = (
    "gdn_prefill_chunk_ms",
    "gdn_decode_ms",
    "conv1d_channel_last_prefill_ms",
    "conv1d_channel_first_prefill_ms",
)
_KDA, _KDA_STEP, _TOP_K = "kda_prefill_ms", "kda_decode_ms", "dsa_glm5_sparse_attention_ms"

#: Device, table, family: largest mean error on rows held out, and what a fit of two to four figures reaches (per cent).
WORTH = {
    ("b200", "mamba2_chunk_scan_b200_trtllm", "ssd_trtllm"): (1.4, 1.0),
    ("b200", "mamba2_chunk_scan_b200_trtllm", "ssd_trtllm_short"): (3.3, None),
    ("h800", "mamba2_chunk_scan_h800", "ssd_chunk_scan_tilelang"): (1.0, None),
    ("h100", _GDN, "gdn_flashinfer"): (4.3, 6.0),
    ("h200", _GDN, "gdn_flashinfer"): (3.4, 4.3),
    ("h100", _GDN, "gdn_fla"): (9.5, 14.0),
    ("b200", _GDN, "gdn_fla"): (6.5, 10.4),
    ("l40s", _GDN, "gdn_fla"): (9.5, 29.4),
    ("rtxpro6000", _GDN, "gdn_fla"): (7.0, 19.6),
    ("h100", _GDN, "gdn_trtllm"): (8.2, 14.2),
    ("h200", _GDN, "gdn_trtllm"): (8.1, 13.4),
    ("h100", _KDA, "kda_fla"): (3.2, 24.4),
    ("h200", _KDA, "kda_fla"): (5.6, 22.2),
    ("b200", _KDA, "kda_fla"): (3.8, 20.8),
    ("l40s", _KDA, "kda_fla"): (10.5, 51.1),
    ("h100", _KDA, "kda_flashkda"): (6.7, 15.5),
    ("h200", _KDA, "kda_flashkda"): (7.3, 17.2),
    ("b200", _KDA, "kda_flashkda"): (6.7, None),
    ("h100", _KDA, "conv_last_qkv"): (4.2, None),
    ("h100", _STEP, "gdn_step"): (1.1, 12.8),
    ("h200", _STEP, "gdn_step_vllm"): (1.5, 7.9),
    ("b200", _STEP, "gdn_step"): (3.0, 6.7),
    ("l40s", _STEP, "gdn_step"): (2.2, 32.3),
    ("rtxpro6000", _STEP, "gdn_step"): (2.8, 26.8),
    ("a100", _STEP, "gdn_step_0510"): (5.6, None),
    ("h100", _STEP, "conv_update"): (1.3, None),
    ("h100", _KDA_STEP, "kda_step"): (3.1, None),
    ("h100", _KDA_STEP, "kda_step_vllm"): (6.0, None),
    ("h200", _KDA_STEP, "kda_step"): (4.0, None),
    ("b200", _KDA_STEP, "kda_step"): (5.6, None),
    ("h100", _LAST, "conv_last"): (3.4, 8.1),
    ("h200", _LAST, "conv_last_vllm"): (3.0, 7.4),
    ("b200", _LAST, "conv_last"): (3.5, 8.1),
    ("l40s", _LAST, "conv_last"): (4.2, 29.9),
    ("rtxpro6000", _LAST, "conv_last"): (4.2, 25.9),
    ("h100", _FIRST, "conv_first"): (3.5, 19.2),
    ("h200", _FIRST, "conv_first"): (5.3, 17.5),
    ("b200", _FIRST, "conv_first"): (5.8, 15.4),
    ("l40s", _FIRST, "conv_first"): (7.0, 28.0),
    ("a100", _FIRST, "conv_first"): (11.8, 6.0),
    ("h100", _TOP_K, "dsa_attention"): (3.9, None),
    ("h200", _TOP_K, "dsa_attention"): (3.9, None),
    ("h100", _TOP_K, "dsa_indexer"): (7.5, 27.9),
    ("h200", _TOP_K, "dsa_indexer"): (5.8, 25.7),
    ("h100", "mamba2_conv1d_update_decode_ms", "conv_update_trtllm"): (6.0, None),
    ("h100", "nsa_kernel_ms", "nsa"): (2.5, None),
    ("h100", "linear_attention_kernels_published_ms", "retention_fla"): (2.5, None),
}

#: Three mixers of Mamba-2: extents of the scan, by the name of their worked values.
SSD_MIXERS: dict[str, dict[str, int]] = {
    name: {
        "batch": 1,
        "n_tokens": n_tokens,
        "n_heads": n_heads,
        "n_key_heads": n_groups,
        "key_dim": 128,
        "value_dim": 64,
        "chunk": chunk,
    }
    for name, n_tokens, n_heads, n_groups, chunk in (
        ("SSD-mamba2-130m", 4096, 24, 1, 256),
        ("SSD-mamba2-2.7b", 32768, 80, 1, 256),
        ("SSD-nemotron nano mixer", 32768, 64, 8, 128),
    )
}


@cache
def compared(machine: str, place: Path, calibration: str = "") -> Validation:
    if not place.exists():
        pytest.skip(f"the measured times are not here: {place} (or set TILEWRIGHT_SHARED)")
    spec = load_machine(machine)
    return validate(spec, load_calibration(calibration) if calibration else calibration_of(spec), read_tables(place))


@pytest.mark.parametrize("key", WORTH, ids=lambda key: f"{key[0]}-{key[2]}-{key[1]}")
def test_mean_error(key: tuple[str, str, str]) -> None:
    machine, name, family = key
    found = compared(machine, TABLES / f"{name}.csv").tables
    (table,) = (table for table in found if table.family == family)
    allowed, fitted = WORTH[key]
    print(
        f"{machine:10s} {family:24s} {table.overall.n:6,} rows ({table.scope}) {table.overall.mape * 100:5.1f} %  "
        f"median {table.overall.median * 100:5.1f}  worst {table.overall.worst * 100:4.0f}  plain fit {fitted or '-'}"
    )
    assert table.scope == "held out"
    assert table.overall.mape * 100 <= allowed


def held_out(machine: str, name: str, family: str) -> tuple[TableValidation, dict[str, np.ndarray]]:
    """A table as it was compared, and the columns of its rows that were held out, in the same order."""
    (found,) = (one for one in compared(machine, TABLES / f"{name}.csv").tables if one.family == family)
    (table,) = (one for one in read_tables(TABLES / f"{name}.csv") if one.name == found.name)
    rows = ~calibration_rows(table)
    assert found.scope == "held out" and len(found.measured_s) == rows.sum()
    return found, {column: values[rows] for column, values in table.columns.items()}


@pytest.mark.parametrize(("machine", "family"), [("h100", "gdn_step"), ("h200", "gdn_step_vllm"), ("b200", "gdn_step")])
def test_steps_beyond_the_l2(machine: str, family: str) -> None:
    """At most 3 % on the rows held out whose states, in fp32, are above 100 MB."""
    found, columns = held_out(machine, _STEP, family)
    state_bytes = 4 * columns["batch"] * columns["heads"] * columns["key_dim"] * columns["value_dim"]
    far = state_bytes > 100e6
    error = np.abs(found.predicted_s[far] / found.measured_s[far] - 1).mean()
    print(f"{machine}: {far.sum()} of {len(far)} rows above 100 MB of state, {error * 100:.2f} %")
    assert 0 < far.sum() < len(far)
    assert error <= 0.03


@pytest.mark.parametrize("machine", ["h100", "h200"])
def test_token_top_k_from_512_tokens(machine: str) -> None:
    """At most 3.5 % on the rows held out of 512 new tokens and more (the plain fit 3.6 %)."""
    found, columns = held_out(machine, _TOP_K, "dsa_attention")
    many = columns["batch"] * columns["queries"] >= 512
    error = np.abs(found.predicted_s[many] / found.measured_s[many] - 1).mean()
    print(f"{machine}: token top-k, {many.sum()} rows held out from 512 tokens, {error * 100:.2f} %")
    assert 0 < many.sum() < len(many)
    assert error <= 0.035


def test_an_h200_by_the_h100s_figures() -> None:
    """Nothing of the H200 is looked at; the persistent scan and token top-k hang on its multiprocessors alone."""
    for name, family, allowed in ((_GDN, "gdn_flashinfer", 4.0), (_TOP_K, "dsa_attention", 4.0)):
        found = compared("h200", TABLES / f"{name}.csv", "h100").tables
        (table,) = (table for table in found if table.family == family)
        print(f"h200 by h100 {family}: {table.overall.n} rows {table.overall.mape * 100:.1f} %")
        assert table.scope == "all" and table.overall.mape * 100 <= allowed


def test_block_lists_of_our_own() -> None:
    """flex_attention over lists of blocks, rows held out, and the rows that calibrated."""
    found = compared("h100", SHARED / "measured" / "own_gpu" / "h100_block_sparse_attention.csv").tables
    (table,) = found
    print(f"flex_blocks {table.overall.n} rows {table.overall.mape * 100:.1f} %")
    assert table.overall.mape <= 0.065 and table.overall.worst <= 0.13


def _listed(batch: int, tokens: int, heads: int, kept: float, longest: int = 0) -> float:
    rows = tokens // 128
    shape = {"batch": batch, "heads": heads, "queries": tokens, "head_dim": 128, "row_tokens": 128, "block": 128}
    mean_milli = max(1, round(kept / rows * 1000))
    return kernel_seconds(
        load_machine("a100"), "block_lists", "fa2_blocks", **shape, mean_milli=mean_milli, longest=longest or rows
    )


def _dense(batch: int, tokens: int) -> float:
    shape = {"batch": batch, "queries": tokens, "keys": tokens, "heads": 32, "kv_heads": 32, "head_dim": 128}
    return kernel_seconds(load_machine("a100"), "attention", "fa2_prefill", **shape)


def _whole(tokens: int) -> float:
    rows = tokens // 128
    return rows * (rows + 1) / 2


def test_published_ratios_on_an_a100() -> None:
    """Block-Sparse-Attention over FlashAttention-2: every point within 0.05 (twelve of them fitted)."""
    place = TABLES / "block_sparse_a100_relative_time.csv"
    if not place.exists():
        pytest.skip(f"the published ratios are not here: {place} (or set TILEWRIGHT_SHARED)")
    loss = calibration_of(load_machine("a100")).family("block_lists", "fa2_blocks").parameters["dense_loss"]
    with place.open() as stream:
        points = [row for row in csv.DictReader(stream) if row["L"]]
    for point in points:
        tokens, batch = int(point["L"]), int(point["B"] or 1)
        if point["pattern"] == "block_sparse":
            kept = _whole(tokens) * (1 - float(point["sparsity_pct_or_rule"]) / 100)
            ratio = _listed(batch, tokens, 32, kept) / _dense(batch, tokens)
        else:  # half of the heads whole, the others four blocks a row
            listed = _listed(batch, tokens, 16, 4 * tokens // 128 - 6, longest=4)
            ratio = listed / _dense(batch, tokens) + 0.5 * (1 + loss)
        print(f"{point['pattern']:24s} {batch} {tokens:7,} {ratio:.3f} published {point['time_over_dense_fa2']}")
        assert abs(ratio - float(point["time_over_dense_fa2"])) <= 0.05
    assert len(points) == 22


@pytest.mark.parametrize("tokens", [16384, 65536])
def test_break_even_of_block_sparsity_on_an_a100(tokens: int) -> None:
    """Between 15 and 20 % of the blocks left out (published, not fitted); with nearly all of them 1.19 times."""
    ratio = {
        share: _listed(1, tokens, 32, _whole(tokens) * (1 - share)) / _dense(1, tokens) for share in (0.015, 0.15, 0.2)
    }
    assert ratio[0.15] > 1 > ratio[0.2]
    assert ratio[0.015] == pytest.approx(1.19, abs=0.02)


def test_sliding_tiles_on_an_h100() -> None:
    """9 % of 115,200 tokens: 25.4 ms with ThunderKittens, 36.4 with flex_attention; no figure was fitted to either."""
    h100 = load_machine("h100")
    kept = {"batch": 1, "queries": 115_200, "keys": 10_368, "heads": 24, "kv_heads": 24, "head_dim": 128}
    tiled = kernel_seconds(h100, "attention", "fa3_encoder", **kept)
    lists = {"batch": 1, "heads": 24, "queries": 115_200, "head_dim": 128, "row_tokens": 128, "block": 128}
    flexible = kernel_seconds(h100, "block_lists", "flex_blocks", **lists, mean_milli=81_000, longest=81)
    print(f"sliding tiles {tiled * 1e3:.2f} ms (25.38 published), flex_attention {flexible * 1e3:.2f} (36.36)")
    assert tiled * 1e3 == pytest.approx(25.38, rel=0.10)
    assert flexible * 1e3 == pytest.approx(36.36, rel=0.10)


def test_where_native_sparse_attention_pays() -> None:
    """Between 4,096 and 8,192 tokens, against causal FlashAttention-2 (its table's 328 TFLOP/s) of 64 heads."""
    h100 = load_machine("h100")

    def ratio(tokens: int) -> float:
        kept = float(np.minimum(np.arange(tokens) // 64 + 1, 16).mean()) + 1
        lists = {"batch": 4, "heads": 4, "queries": tokens, "head_dim": 128, "row_tokens": 1, "block": 64}
        sparse = kernel_seconds(h100, "block_lists", "nsa", **lists, mean_milli=round(kept * 1000), longest=17)
        whole = {"batch": 4, "queries": tokens, "keys": tokens, "heads": 64, "kv_heads": 4, "head_dim": 128}
        return sparse / kernel_seconds(h100, "attention", "fa2_prefill", **whole)

    print(f"NSA over FlashAttention-2: {ratio(4096):.2f} at 4,096, {ratio(8192):.2f} at 8,192, {ratio(16384):.2f}")
    assert ratio(4096) > 1 > ratio(8192)


def test_where_retention_pays() -> None:
    """Between 2,048 and 4,096 tokens on an H100, against causal FlashAttention-2: four sequences, 8 heads of 256."""
    h100 = load_machine("h100")

    def ratio(tokens: int) -> float:
        scan = {"batch": 4, "tokens": tokens, "heads": 8, "key_heads": 8, "key_dim": 256, "value_dim": 256}
        whole = {"batch": 4, "queries": tokens, "keys": tokens, "heads": 8, "kv_heads": 8, "head_dim": 256}
        chunked = kernel_seconds(h100, "scan", "retention_fla", **scan)
        return chunked / kernel_seconds(h100, "attention", "fa2_prefill", **whole)

    print(f"retention over FlashAttention-2: {ratio(2048):.2f} at 2,048, {ratio(4096):.2f} at 4,096")
    assert ratio(2048) > 1 > ratio(4096)


def _worked() -> dict[str, tuple[str, str]]:
    place = TABLES / "closed_forms.csv"
    if not place.exists():
        pytest.skip(f"the worked values are not here: {place} (or set TILEWRIGHT_SHARED)")
    with place.open() as stream:
        return {row["id"]: (row["value"], row["basis"]) for row in csv.DictReader(stream)}


def test_worked_values_of_scans() -> None:
    """FLOP of Mamba-2's mixers by stage, of the delta rule a token, bytes of a step, as the table of worked values."""
    worked = _worked()
    for name, extents in SSD_MIXERS.items():
        value, basis = worked[name]
        counts = ssd_counts(ChunkedScan(**extents))
        across = counts.stage("state_passing").flop * extents["chunk"]  # from states: once a token
        within = counts.stage("chunk_scan").flop - across
        stages = [counts.stage(stage).flop for stage in ("scores", "chunk_states", "state_passing")]
        figures = [*stages, within, across]
        assert [flop / 1e9 for flop in figures] == pytest.approx([float(x) for x in value.split("/")], rel=1e-3)
        assert sum(figures) / 1e9 == pytest.approx(float(basis.removeprefix("sum ")), rel=1e-4)
    chunk_scan = ssd_counts(ChunkedScan(**SSD_MIXERS["SSD-mamba2-2.7b"] | {"batch": 8, "n_tokens": 1024}))
    assert chunk_scan.stage("chunk_scan").flop / 1e9 == pytest.approx(float(worked["SSD-H800-1K"][0]), abs=1e-3)
    token = ChunkedScan(batch=1, n_tokens=64, n_heads=1, key_dim=128, value_dim=128, chunk=64)
    delta = delta_rule_counts(token)
    assert (delta.flop - delta.stage("inverse").flop) / 64 == float(worked["LIN-gdn-per-token-head"][0])
    step = step_counts(batch=1024, n_heads=48, n_key_heads=16, key_dim=128, value_dim=128)
    assert step.fused_bytes / 1e9 == pytest.approx(float(worked["GDN-decode-bytes"][0]), abs=1e-3)


@pytest.mark.parametrize("n_tokens", [2048, 4096, 8192, 16384, 32768, 65536, 131072])
def test_worked_shares_of_half_streaming_heads(n_tokens: int) -> None:
    """Half of the heads whole, the others the first and three blocks: pairs over those of all heads whole."""
    share = 0.5 + 0.5 * (4 * n_tokens // 128 - 6) / _whole(n_tokens)
    assert share == pytest.approx(float(_worked()[f"BSA-hybrid-{n_tokens}"][0]), abs=6e-4)


def test_sparse_latent_attention_reaches_the_published_rates() -> None:
    """16,384 tokens behind any context: 4.673 TFLOP in 7.1 to 8.2 ms; an indexer of 52.23 TFLOP in 29.27 ms."""
    h100, worked = load_machine("h100"), _worked()
    flop = 16_384 * 2048 * 64 * (576 + 512) * 2
    assert flop / 1e12 == pytest.approx(float(worked["DSA-attn"][0]), abs=1e-3)
    for cached in (0, 4096, 186_368):
        seconds = kernel_seconds(h100, "token_top_k", "dsa_attention", batch=1, queries=16_384, cached=cached)
        assert 7.1e-3 <= seconds <= 8.2e-3
    pairs = 16_384 * (186_368 + (16_384 + 1) / 2)
    assert pairs * 64 * 128 * 2 / 1e12 == pytest.approx(float(worked["DSA-index"][0]), abs=0.01)
    seconds = kernel_seconds(h100, "token_top_k", "dsa_indexer", batch=1, queries=16_384, cached=186_368)
    assert seconds == pytest.approx(29.27e-3, rel=0.1)
