"""Formats of each tensor of an attention, and what joins its scores (bias, sinks, soft cap), as layer and stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.network import simulate_stream
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_operator import attention_layer, split_attention
from tilewright.workloads.attention_reference import bias_shape, reference_attention
from tilewright.workloads.load import load_workload
from tilewright.workloads.operators import Operator, TensorSpec
from tilewright.workloads.stream.file import stream_from_json
from tilewright.workloads.stream.graph import OperatorStream

TEXT = "attention:batch=2,heads=4,kv_heads=2,query_len=6,key_len=9,head_dim=8"


def stream_of(
    inputs: dict[str, tuple[tuple[int, ...], str]] | None = None, attributes: dict[str, Any] | None = None
) -> OperatorStream:
    """Attention of 2 entries, 4 heads on 2, 6 queries, 9 keys, width 8; ``inputs`` are those behind Q, K and V."""
    shapes = {"q": (2, 4, 6, 8), "k": (2, 2, 9, 8), "v": (2, 2, 9, 8), "o": (2, 4, 6, 8)}
    formats = {"q": "fp16", "k": "int8", "v": "int4", "o": "bf16"}
    extents = {"batch": 2, "query_heads": 4, "kv_heads": 2, "query_len": 6, "key_len": 9, "head_dim": 8, "value_dim": 8}
    more = inputs or {}
    tensors = [TensorSpec(name=name, shape=shape, number_format=formats[name]) for name, shape in shapes.items()]
    tensors += [TensorSpec(name=name, shape=shape, number_format=fmt) for name, (shape, fmt) in more.items()]
    names = ("q", "k", "v", *more)
    operator = Operator(
        name="sdpa",
        kind="attention",
        inputs=names,
        outputs=("o",),
        attributes={**extents, "mask": "none", **(attributes or {})},
    )
    return OperatorStream(name="one", tensors=tuple(tensors), operators=(operator,), inputs=names, outputs=("o",))


# --- formats ----------------------------------------------------------------------------------------------------------


def test_each_tensor_of_an_operator_has_its_own_format() -> None:
    stream = stream_of()
    layer = attention_layer(stream.operators[0], stream)
    assert (layer.qkv_format, layer.key_format, layer.value_format, layer.output_format) == (
        "fp16",
        "int8",
        "int4",
        "bf16",
    )
    assert (layer.score_product_format, layer.value_product_format, layer.score_format) == ("fp16", "fp16", "fp16")
    assert stream.read_bytes(stream.operators[0]) == layer.read_bytes == 2 * (4 * 6 * 8 * 2 + 2 * 9 * 8 * 3 // 2)
    assert stream.write_bytes(stream.operators[0]) == layer.output_bytes


def test_formats_left_out_are_those_of_q_and_may_have_scales() -> None:
    layer = load_workload(f"{TEXT},qkv_format=bf16,key_format=int8-g8,value_format=mxfp4")
    assert (layer.output_format, layer.bias_format, layer.sink_format) == ("bf16", "bf16", "bf16")
    assert layer.key_bytes == 2 * 2 * 9 * (8 + 2)  # a scale of 16 bits for each 8 values
    assert layer.value_bytes == 2 * 2 * 9 * (4 + 1)  # and of 8 bits for each (part of) 32
    with pytest.raises(InputError, match=r'key_format: unknown number format; given "int33"'):
        load_workload(f"{TEXT},key_format=int33")


# --- bias, sinks, soft cap --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "extents"),
    [
        ((2, 4, 6, 9), (2, 4, 6)),
        ((4, 6, 9), (1, 4, 6)),
        ((6, 9), (1, 1, 6)),
        ((2, 1, 1, 9), (2, 1, 1)),
        ((9,), (1, 1, 1)),
    ],
)
def test_a_bias_spreads_over_the_scores(shape: tuple[int, ...], extents: tuple[int, int, int]) -> None:
    stream = stream_of({"bias": (shape, "fp32")}, {"bias": True})
    operator = stream.operators[0]
    layer = attention_layer(operator, stream)
    assert (layer.bias_batch, layer.bias_heads, layer.bias_rows) == extents
    bias_bytes = 4 * int(np.prod(shape))
    assert layer.bias_bytes == bias_bytes
    assert stream.read_bytes(operator) == stream_of().read_bytes(stream_of().operators[0]) + bias_bytes


@pytest.mark.parametrize(
    ("inputs", "attributes", "message"),
    [
        ({"bias": ((4, 6, 8), "fp16")}, {}, "sdpa: bias: must spread over the scores; given 4x6x8; allowed 2x4x6x9"),
        ({"bias": ((3, 6, 9), "fp16")}, {}, "sdpa: bias: must spread over the scores; given 3x6x9"),
        ({}, {"bias": True}, r"sdpa: inputs: given 3; allowed 4 \(Q, K, V, bias\)"),
        ({"bias": ((6, 9), "fp16")}, {"bias": False}, r"sdpa: inputs: given 4; allowed 3 \(Q, K, V\)"),
        ({"sinks": ((3,), "fp16")}, {"sinks": True}, "its attributes ask for 4 values in sinks; given 3"),
        ({}, {"sinks": 1}, "sdpa: sinks: given 1; allowed true or false"),
        ({}, {"soft_cap": 0.0}, "sdpa: soft_cap: given 0.0; allowed a number above 0"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stream_of(inputs, attributes)


def test_a_stream_file_keeps_bias_sinks_and_cap() -> None:
    stream = stream_of({"bias": ((4, 6, 9), "fp16"), "sinks": ((4,), "fp32")}, {"sinks": True, "soft_cap": 50.0})
    again = stream_from_json(stream.to_json(), name="file")
    assert again == stream
    layer = attention_layer(again.operators[0], again)
    assert (layer.bias_heads, layer.sinks, layer.soft_cap, layer.sink_bytes) == (4, True, True, 16)
    assert again.rows()[0]["size"].endswith("bias sinks soft cap")
    softmax = stream.with_split_attention().operators[1]
    assert softmax.inputs[1:] == ("bias", "sinks")
    assert (softmax.attributes["stages"], softmax.attributes["soft_cap"], softmax.attributes["sinks"]) == (
        2,
        50.0,
        True,
    )


@pytest.mark.parametrize(
    ("word", "extents"),
    [
        ("none", (0, 0, 0)),
        ("keys", (2, 1, 1)),
        ("shared", (1, 1, 6)),
        ("entry", (2, 1, 6)),
        ("head", (1, 4, 6)),
        ("full", (2, 4, 6)),
    ],
)
def test_a_layer_in_words(word: str, extents: tuple[int, int, int], tmp_path: Path) -> None:
    layer = load_workload(f"{TEXT},bias={word},sinks=yes,soft_cap=30,bias_format=fp32")
    assert (layer.bias_batch, layer.bias_heads, layer.bias_rows) == extents
    assert (layer.sinks, layer.soft_cap) == (True, True)
    keys = {"batch": 2, "heads": 4, "kv_heads": 2, "query_len": 6, "key_len": 9, "head_dim": 8}
    path = tmp_path / "layer.yaml"
    path.write_text(
        json.dumps({"name": "attention", **keys, "bias": word, "sinks": True, "soft_cap": 30, "bias_format": "fp32"})
    )
    from_file = load_workload(str(path))
    assert {f: getattr(from_file, f) for f in from_file.__slots__ if f != "name"} == {
        f: getattr(layer, f) for f in layer.__slots__ if f != "name"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bias=heads", r'bias: unknown bias; given "heads"; allowed none, keys.* \(did you mean "head"\?\)'),
        ("bias_rows=3", "bias_batch: missing"),
        (
            "bias_batch=1,bias_heads=3,bias_rows=6",
            "bias_heads: a bias must spread over the scores; given 3; allowed 1 or 4",
        ),
        ("bias=full,bias_rows=6", "bias: says what bias_rows says"),
        ("sinks=perhaps", 'sinks: must be true or false; given "perhaps"; allowed true, false'),
        ("soft_cap=-3", "soft_cap: must be true or false"),
    ],
)
def test_a_layer_in_wrong_words_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_workload(f"{TEXT},{text}")


def test_the_reference_caps_adds_the_bias_and_counts_the_sink() -> None:
    layer = load_workload(f"{TEXT},mask=causal,bias=head,sinks=true,soft_cap=true")
    random = np.random.default_rng(1)
    q, k, v = (random.normal(size=shape) for shape in ((2, 4, 6, 8), (2, 2, 9, 8), (2, 2, 9, 8)))
    bias, sinks, cap = random.normal(size=bias_shape(layer)), random.normal(size=4), 0.7
    result = reference_attention(layer, q, k, v, bias=bias, sinks=sinks, soft_cap=cap)
    for entry, head, row in ((0, 0, 0), (1, 3, 5), (1, 2, 3)):
        seen = row + 4
        scores = cap * np.tanh(k[entry, head // 2, :seen] @ q[entry, head, row] / np.sqrt(8) / cap)
        weights = np.exp(scores + bias[0, head, row, :seen])
        expected = weights @ v[entry, head // 2, :seen] / (weights.sum() + np.exp(sinks[head]))
        np.testing.assert_allclose(result[entry, head, row], expected, rtol=1e-12)
    for wrong in ({"sinks": sinks, "soft_cap": cap}, {"bias": bias, "sinks": sinks}, {"bias": bias, "soft_cap": cap}):
        with pytest.raises(InputError, match="given"):
            reference_attention(layer, q, k, v, **wrong)


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"mask": "causal", "query_len": 1}, ("none", None, None)),
        ({"mask": "banded", "window_left": 8}, ("none", None, None)),
        ({"mask": "banded", "window_left": 8, "window_right": 5}, ("none", None, None)),
        ({"mask": "banded", "window_left": 100, "window_right": 0}, ("causal", None, None)),
        ({"mask": "banded", "window_left": 7, "window_right": 5}, ("banded", 7, None)),
        ({"mask": "banded", "window_left": 7, "window_right": 4}, ("banded", 7, 4)),
        ({"mask": "banded", "window_left": 0, "query_len": 1}, ("none", None, None)),
        ({"mask": "banded", "window_left": 3, "query_len": 2}, ("banded", 3, None)),
    ],
)
def test_the_plainest_mask_that_hides_the_same(given: dict[str, Any], plain: tuple[Any, ...]) -> None:
    extents = {"batch": 1, "query_heads": 2, "kv_heads": 1, "query_len": 6, "key_len": 9, "head_dim": 4, "value_dim": 6}
    layer = AttentionLayer(name="one", **{**extents, **given})
    found = layer.with_plain_mask()
    assert (found.mask, found.window_left, found.window_right) == plain
    for row in range(layer.query_len):
        dropped = layer.key_len - found.key_len  # early keys that no row sees
        assert [dropped + key for key in found.visible_keys(row)] == list(layer.visible_keys(row))
    assert found.visible_keys(0)[0] == 0
    assert (found.read_bytes, found.macs) == (layer.read_bytes, layer.macs)
    assert found.with_plain_mask() is found


# --- what earlier steps left ------------------------------------------------------------------------------------------


def test_an_operator_takes_what_an_earlier_step_left() -> None:
    """It is no tensor of the stream, but is read; a fused group has no place for it."""
    plain, cached = stream_of(), stream_of(attributes={"residual_format": "fp16", "ratios": True})
    layer = attention_layer(cached.operators[0], cached)
    assert layer.cached_bytes == 2 * 4 * 6 * (8 * 2 + 4)
    assert cached.read_bytes(cached.operators[0]) == plain.read_bytes(plain.operators[0]) + layer.cached_bytes
    machine = load_machine("edge-16x16")
    one, other = (simulate_stream(stream, machine) for stream in (plain, cached))
    assert one.cycles <= other.cycles
    assert other.dram_bytes > one.dram_bytes
    with pytest.raises(InputError, match="has no parts to fuse"):
        split_attention(cached.operators[0], cached)
