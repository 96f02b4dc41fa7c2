"""Attention layers: how they are named and written, what is refused, and what they compute."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import reference_attention
from tilewright.workloads.load import load_workload, workload_names, workload_source

# TileFlow (MICRO 2023), Table 2: heads, sequence length, hidden size.
TILEFLOW = {
    "bert-small": (8, 512, 512),
    "bert-base": (12, 512, 768),
    "bert-large": (16, 512, 1024),
    "vit-b-14": (12, 256, 768),
    "vit-l-14": (16, 256, 1024),
    "vit-h-14": (16, 256, 1280),
    "vit-b-16": (12, 196, 768),
    "vit-l-16": (16, 196, 1024),
    "vit-h-16": (16, 196, 1280),
    "t5": (16, 1024, 1024),
    "xlm": (12, 1024, 768),
}
# FuseMax (MICRO 2024): heads and head width, at batch 64.
FUSEMAX = {"fusemax-bert": (12, 64), "fusemax-trxl": (16, 64), "fusemax-t5-small": (8, 64), "fusemax-xlm": (16, 128)}


def small_layer(**changes: Any) -> AttentionLayer:
    extents = {"batch": 1, "query_heads": 2, "kv_heads": 1, "query_len": 3, "key_len": 5, "head_dim": 4, "value_dim": 6}
    return AttentionLayer(name="small", **{**extents, **changes})


# --- named networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TILEFLOW)
def test_tileflow_networks_are_those_of_its_table(name: str) -> None:
    heads, seq, hidden = TILEFLOW[name]
    layer = load_workload(name)
    assert (layer.name, layer.batch, layer.mask) == (name, 1, "none")
    assert layer.query_heads == layer.kv_heads == heads
    assert layer.query_len == layer.key_len == seq
    assert layer.head_dim * heads == layer.value_dim * heads == hidden
    assert "TileFlow" in workload_source(name)


@pytest.mark.parametrize("name", FUSEMAX)
def test_fusemax_networks_have_batch_64_and_any_length(name: str) -> None:
    heads, head_dim = FUSEMAX[name]
    layer = load_workload(f"{name}:seq=4096")
    assert (layer.batch, layer.query_heads, layer.head_dim) == (64, heads, head_dim)
    assert layer.query_len == layer.key_len == 4096
    # FuseMax counts 4 u of traffic, u = 2 N L E bytes with N = 64 H, where nothing is fetched twice.
    traffic = layer.query_bytes + layer.key_bytes + layer.value_bytes + layer.output_bytes
    assert traffic == 4 * 2 * 64 * heads * 4096 * head_dim


def test_llama_groups_its_heads() -> None:
    layer = load_workload("llama-3-8b")
    assert (layer.query_heads, layer.kv_heads, layer.queries_per_kv_head, layer.head_dim) == (32, 8, 4, 128)
    assert (layer.query_len, layer.key_len, layer.mask) == (2048, 2048, "causal")
    decode = load_workload("llama-3-8b-decode")
    assert (decode.query_len, decode.key_len, decode.queries_per_kv_head) == (1, 4096, 4)


def test_every_built_in_network_loads_under_its_name_and_has_a_source() -> None:
    assert set(workload_names()) == {*TILEFLOW, *FUSEMAX, "llama-3-8b", "llama-3-8b-decode"}
    for name in workload_names():
        assert load_workload(name).name == name
        assert workload_source(name)


def test_formats_left_out_are_fp16_and_fp32_sums() -> None:
    layer = load_workload("bert-base")
    assert (layer.qkv_format, layer.score_format, layer.accumulator_format) == ("fp16", "fp16", "fp32")
    assert (layer.qkv_bits, layer.score_bits, layer.accumulator_bits) == (16, 16, 32)


# --- written as text ------------------------------------------------------------------------------------------------


def test_a_layer_of_ones_own() -> None:
    text = (
        "attention: batch=2, heads=8, kv_heads=2, query_len=7, key_len=1_000, head_dim=32, value_dim=16, mask=banded, "
        "window_left=9, window_right=0, qkv_format=int8, score_format=bf16, accumulator_format=int32"
    )
    assert load_workload(text) == AttentionLayer(
        name=text.replace(" ", ""),
        batch=2,
        query_heads=8,
        kv_heads=2,
        query_len=7,
        key_len=1000,
        head_dim=32,
        value_dim=16,
        mask="banded",
        window_left=9,
        window_right=0,
        qkv_format="int8",
        score_format="bf16",
        accumulator_format="int32",
    )


def test_the_shortest_layer() -> None:
    layer = load_workload("attention:heads=12,seq=1e6,hidden=768")
    assert (layer.batch, layer.kv_heads, layer.query_len, layer.key_len) == (1, 12, 1_000_000, 1_000_000)
    assert (layer.head_dim, layer.value_dim, layer.mask) == (64, 64, "none")


def test_seq_stands_for_the_length_that_is_not_given() -> None:
    layer = load_workload("attention:heads=1,seq=64,query_len=1,head_dim=8")
    assert (layer.query_len, layer.key_len) == (1, 64)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("bert-base:mask=causal", {"mask": "causal"}),
        ("bert-base:key_len=1024", {"query_len": 512, "key_len": 1024}),
        ("bert-base:heads=6", {"query_heads": 6, "kv_heads": 6, "head_dim": 128}),
        ("bert-base:head_dim=32", {"query_heads": 12, "head_dim": 32, "value_dim": 32}),
        ("llama-3-8b-decode:seq=64", {"query_len": 64, "key_len": 64}),
        ("llama-3-8b-decode:key_len=64", {"query_len": 1, "key_len": 64}),
        ("llama-3-8b:hidden=2048", {"head_dim": 64, "kv_heads": 8}),
        (" t5 : batch = 4 ", {"batch": 4}),
    ],
)
def test_a_built_in_network_with_changes(text: str, fields: dict[str, Any]) -> None:
    layer = load_workload(text)
    assert layer.name == text.replace(" ", "")
    assert {field: getattr(layer, field) for field in fields} == fields


_KEYS = (
    "batch, heads, kv_heads, seq, query_len, key_len, head_dim, value_dim, hidden, mask, window_left, window_right, "
    "reorder, bias, bias_batch, bias_heads, bias_rows, sinks, soft_cap, choosing, ratios, qkv_format, key_format, "
    "value_format, output_format, bias_format, sink_format, residual_format, score_format, probability_format, "
    "accumulator_format"
)
_WHOLE = "allowed whole numbers from 1 to 2147483647"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "bert-bas",
            'unknown workload; given "bert-bas"; allowed a built-in name, NAME:key=value,..., attention:key=value,... '
            'or a YAML file (did you mean "bert-base"?)',
        ),
        (
            "atention:heads=1",
            'unknown workload; given "atention:heads=1"; allowed a built-in name, NAME:key=value,..., '
            'attention:key=value,... or a YAML file (did you mean "attention"?)',
        ),
        (
            "attention:heads=12,seq=0,head_dim=64",
            f"attention:heads=12,seq=0,head_dim=64: seq: out of range; given 0; {_WHOLE}",
        ),
        ("attention:heads=12x", f'attention:heads=12x: heads: must be a whole number; given "12x"; {_WHOLE}'),
        ("attention:heads=1.5", f'attention:heads=1.5: heads: must be a whole number; given "1.5"; {_WHOLE}'),
        ("attention:heads=nan", f'attention:heads=nan: heads: must be a whole number; given "nan"; {_WHOLE}'),
        ("attention:heads=inf", f'attention:heads=inf: heads: must be a whole number; given "inf"; {_WHOLE}'),
        ("bert-base:seq=-4", f"bert-base:seq=-4: seq: out of range; given -4; {_WHOLE}"),
        ("bert-base:seq=9999999999", f"bert-base:seq=9999999999: seq: out of range; given 9999999999; {_WHOLE}"),
        (
            "bert-base:sequence=4",
            f'bert-base:sequence=4: unknown key; given "sequence"; allowed {_KEYS} (did you mean "seq"?)',
        ),
        ("bert-base:seq", f'bert-base:seq: expected key=value; given "seq"; allowed keys {_KEYS}'),
        ("bert-base:", f'bert-base: expected key=value; given ""; allowed keys {_KEYS}'),
        ("attention", f'attention: expected key=value; given ""; allowed keys {_KEYS}'),
        ("t5:seq=4,,batch=2", f't5:seq=4,,batch=2: expected key=value; given ""; allowed keys {_KEYS}'),
        ("t5:seq=4,seq=8", 't5:seq=4,seq=8: seq: given twice; given "4" and "8"; allowed once'),
        (
            "t5:mask=casual",
            't5:mask=casual: mask: unknown mask; given "casual"; allowed none, causal, banded, sliding_tile, '
            "spatial_temporal, band, radial, frame_windows, vertical_slash, sink_window, top_blocks, threshold, "
            'top_tokens, file (did you mean "causal"?)',
        ),
        (
            "attention:heads=2,head_dim=8",
            "attention:heads=2,head_dim=8: seq or query_len: missing; given heads=2, head_dim=8; allowed 1 or more",
        ),
        (
            "attention:heads=2,seq=8",
            "attention:heads=2,seq=8: head_dim or hidden: missing; given heads=2, seq=8; allowed 1 or more",
        ),
        ("attention:seq=8", "attention:seq=8: heads: missing; given seq=8; allowed 1 or more"),
        (
            "attention:heads=3,seq=8,hidden=8",
            "attention:heads=3,seq=8,hidden=8: hidden: must be a multiple of heads; given 8; allowed multiples of 3",
        ),
        (
            "bert-base:hidden=768,head_dim=64",
            "bert-base:hidden=768,head_dim=64: hidden: stands for head_dim; given both; "
            "allowed one of hidden, head_dim",
        ),
        (
            "bert-base:kv_heads=5",
            "bert-base:kv_heads=5: kv_heads: must divide the number of query heads; given 5; allowed a divisor of 12",
        ),
        (
            "bert-base:mask=causal,key_len=100",
            "bert-base:mask=causal,key_len=100: key_len: a causal mask needs as many keys as queries, or more; "
            "given 100; allowed 512 or more",
        ),
        (
            "bert-base:mask=banded",
            'bert-base:mask=banded: window_left: a banded mask needs a window; given "none"; '
            "allowed window_left, window_right or both",
        ),
        (
            "bert-base:window_left=3",
            "bert-base:window_left=3: window_left: a window needs mask=banded; given 3; "
            "allowed mask=banded, or no window",
        ),
        (
            "bert-base:mask=banded,key_len=100,window_right=0",
            "bert-base:mask=banded,key_len=100,window_right=0: window_right: the first query row would see no key; "
            "given 0; allowed 412 or more for 512 queries and 100 keys",
        ),
        (
            "bert-base:mask=banded,window_left=-1",
            "bert-base:mask=banded,window_left=-1: window_left: out of range; given -1; "
            "allowed whole numbers from 0 to 2147483647",
        ),
    ],
)
def test_wrong_text_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as fault:
        load_workload(text)
    assert str(fault.value) == message


def test_text_too_long_for_a_file_name_is_an_input_error() -> None:
    with pytest.raises(InputError, match="unknown workload"):
        load_workload("a" * 5000)


def test_an_unknown_number_format_is_refused_with_its_key() -> None:
    with pytest.raises(
        InputError, match=r'qkv_format: unknown number format; given "f16"; .* \(did you mean "fp16"\?\)$'
    ):
        load_workload("bert-base:qkv_format=f16")


def test_the_source_of_an_unknown_network_is_refused() -> None:
    with pytest.raises(
        InputError, match=r'unknown workload; given "t6"; allowed bert-small, .* \(did you mean "t5"\?\)'
    ):
        workload_source("t6")


@given(st.text(max_size=60))
def test_any_text_that_is_no_workload_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        load_workload(f"no {text}")
    for start in ("attention:", "bert-base:"):
        with pytest.raises(InputError):
            load_workload(start + text + "=")


# --- from a file ----------------------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    path = folder / "layer.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_yaml_file(tmp_path: Path) -> None:
    path = write(tmp_path, "name: mine\nheads: 4\nkv_heads: 2\nseq: 33\nhidden: 32\nmask: causal\nqkv_format: int8\n")
    layer = load_workload(path)
    assert layer == load_workload(str(path))
    assert (layer.name, layer.query_heads, layer.kv_heads, layer.query_len, layer.head_dim) == ("mine", 4, 2, 33, 8)
    assert (layer.mask, layer.qkv_format) == ("causal", "int8")


@pytest.mark.parametrize(
    ("text", "line", "wanted"),
    [
        ("name: a\nheads: 4\nseq: 0\nhead_dim: 8\n", 3, ("seq", "given 0")),
        ("name: a\nheads: 12x\nseq: 9\nhead_dim: 8\n", 2, ("heads", '"12x"')),
        ("name: a\nheads: 4\nseqq: 9\nhead_dim: 8\n", 3, ("seqq", 'did you mean "seq"?')),
        (
            "name: a\nheads: 4\nseq: 9\nhead_dim: 8\nmask: casual\n",
            5,
            ("mask", "none", "banded", 'did you mean "causal"?'),
        ),
        ("name: a\nheads: 4\nseq: 9\nhead_dim: 8\nqkv_format: f16\n", 5, ("qkv_format", "f16", 'did you mean "fp16"?')),
        ("name: a\nheads: 4\nkv_heads: 3\nseq: 9\nhead_dim: 8\n", 3, ("kv_heads", "given 3", "a divisor of 4")),
        ("name: a\nheads: 4\nhead_dim: 8\n", 1, ("seq or query_len: missing",)),
        ("heads: 4\nseq: 9\nhead_dim: 8\n", 1, ("name", "missing")),
        ("name: a\nheads: 4\nseq: 9\nseq: 9\nhead_dim: 8\n", 4, ("seq", "twice")),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_field(
    tmp_path: Path, text: str, line: int, wanted: tuple[str, ...]
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as fault:
        load_workload(path)
    message = str(fault.value)
    assert message.startswith(f"{path}:{line}:")
    assert "\n" not in message
    assert all(part in message for part in wanted), message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_workload(tmp_path / "absent.yaml")


# --- the layer itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim"])
@pytest.mark.parametrize("value", [0, -1, 2**31, 1.0, "4", None, True])
def test_an_extent_that_is_no_whole_number_in_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(
        InputError, match=f"^small: {field}: (must be a whole number|out of range); given .*; allowed whole"
    ):
        small_layer(**{field: value})


def test_a_layer_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_layer().batch = 2  # type: ignore[misc]


LAYERS = st.builds(
    dict,
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    query_len=st.integers(1, 9),
    key_len=st.integers(1, 9),
    head_dim=st.integers(1, 5),
    value_dim=st.integers(1, 5),
    mask=st.sampled_from(["none", "causal", "banded"]),
    left=st.none() | st.integers(0, 6),
    right=st.none() | st.integers(0, 6),
)


def drawn_layer(draw: dict[str, Any]) -> AttentionLayer:
    """A legal layer near the one drawn."""
    mask, left, right, shift = draw["mask"], draw["left"], draw["right"], draw["key_len"] - draw["query_len"]
    if mask == "causal" and shift < 0:
        mask = "none"
    if mask == "banded" and left is None and right is None:
        left = 2
    if mask == "banded" and right is not None:
        right = max(right, -shift)
    return small_layer(
        batch=draw["batch"],
        query_heads=draw["kv_heads"] * draw["group"],
        kv_heads=draw["kv_heads"],
        query_len=draw["query_len"],
        key_len=draw["key_len"],
        head_dim=draw["head_dim"],
        value_dim=draw["value_dim"],
        mask=mask,
        window_left=left if mask == "banded" else None,
        window_right=right if mask == "banded" else None,
    )


def sees(layer: AttentionLayer, row: int, key: int) -> bool:
    """Whether a query row sees a key, straight from the definition."""
    position = row + layer.key_len - layer.query_len
    if layer.mask == "causal":
        return key <= position
    if layer.mask == "banded":
        left = math.inf if layer.window_left is None else layer.window_left
        right = math.inf if layer.window_right is None else layer.window_right
        return position - left <= key <= position + right
    return True


@given(LAYERS)
def test_visible_and_common_keys_and_counts_are_those_of_the_definition(draw: dict[str, Any]) -> None:
    layer = drawn_layer(draw)
    seen = [{key for key in range(layer.key_len) if sees(layer, row, key)} for row in range(layer.query_len)]
    for first in range(layer.query_len):
        for n_rows in range(1, layer.query_len - first + 1):
            rows = seen[first : first + n_rows]
            assert set(range(*layer.visible_keys(first, n_rows))) == set.union(*rows)
            assert set(range(*layer.common_keys(first, n_rows))) == set.intersection(*rows)
    n_pairs = sum(map(len, seen))
    heads = layer.batch * layer.query_heads
    assert layer.n_scores_per_head == n_pairs
    assert layer.n_scores == heads * n_pairs
    assert layer.macs == heads * n_pairs * (layer.head_dim + layer.value_dim)
    n_seen = len(set.union(*seen))
    assert layer.key_bytes == layer.batch * layer.kv_heads * n_seen * layer.head_dim * 2
    assert layer.value_bytes == layer.batch * layer.kv_heads * n_seen * layer.value_dim * 2


def test_the_count_of_scores_costs_nothing_at_a_million_tokens() -> None:
    n = 2**20
    causal = small_layer(query_len=n, key_len=n, mask="causal")
    assert causal.n_scores_per_head == n * (n + 1) // 2
    banded = small_layer(query_len=n, key_len=n, mask="banded", window_left=1023, window_right=0)
    assert banded.n_scores_per_head == 1024 * n - 1023 * 1024 // 2


def test_bytes_of_narrow_formats_round_up_to_whole_bytes() -> None:
    layer = small_layer(qkv_format="int4", score_format="fp6_e3m2", query_len=1, key_len=1, head_dim=1, value_dim=3)
    assert (layer.query_bytes, layer.key_bytes, layer.value_bytes, layer.output_bytes) == (1, 1, 2, 3)
    assert layer.score_bytes == 2


# --- reference attention --------------------------------------------------------------------------------------------


def operands(layer: AttentionLayer, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(layer.batch, layer.query_heads, layer.query_len, layer.head_dim)),
        random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.head_dim)),
        random.normal(size=(layer.batch, layer.kv_heads, layer.key_len, layer.value_dim)),
    )


def attention_row_by_row(layer: AttentionLayer, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The definition as four loops, without a matrix product."""
    output = np.zeros((layer.batch, layer.query_heads, layer.query_len, layer.value_dim))
    for b in range(layer.batch):
        for h in range(layer.query_heads):
            g = h // (layer.query_heads // layer.kv_heads)
            for i in range(layer.query_len):
                keys = [j for j in range(layer.key_len) if sees(layer, i, j)]
                scores = [math.fsum(q[b, h, i] * k[b, g, j]) / math.sqrt(layer.head_dim) for j in keys]
                weights = [math.exp(score) for score in scores]
                total = math.fsum(weights)
                for weight, j in zip(weights, keys, strict=True):
                    output[b, h, i] += weight / total * v[b, g, j]
    return output


@given(LAYERS, st.integers(0, 2**32 - 1))
def test_reference_attention_equals_the_definition(draw: dict[str, Any], seed: int) -> None:
    layer = drawn_layer(draw)
    q, k, v = operands(layer, seed)
    result = reference_attention(layer, q, k, v)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, attention_row_by_row(layer, q, k, v), rtol=1e-12, atol=1e-12)


def test_one_head_without_mask_by_hand() -> None:
    layer = small_layer(query_heads=1, query_len=1, key_len=2, head_dim=1, value_dim=1)
    q, k, v = np.array([[[[1.0]]]]), np.array([[[[0.0], [math.log(3)]]]]), np.array([[[[4.0], [8.0]]]])
    assert reference_attention(layer, q, k, v).item() == pytest.approx(0.25 * 4 + 0.75 * 8)


def test_large_scores_do_not_overflow_and_rows_of_weights_sum_to_one() -> None:
    layer = small_layer(mask="causal")
    q, k, v = operands(layer, 3)
    result = reference_attention(layer, q * 1e4, k * 1e4, np.ones_like(v))
    np.testing.assert_allclose(result, 1.0)


def test_one_query_sees_the_same_with_and_without_a_causal_mask() -> None:
    plain, causal = (small_layer(query_len=1, mask=mask) for mask in ("none", "causal"))
    q, k, v = operands(plain, 4)
    np.testing.assert_array_equal(reference_attention(plain, q, k, v), reference_attention(causal, q, k, v))


def test_operands_of_another_shape_are_refused() -> None:
    layer = small_layer()
    q, k, v = operands(layer, 0)
    with pytest.raises(InputError, match=r"small: k: wrong shape; given \(1, 2, 5, 4\); allowed \(1, 1, 5, 4\)"):
        reference_attention(layer, q, np.repeat(k, 2, axis=1), v)
