"""Operator streams: what is checked, counted, grouped, saved and drawn."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.sim.fusion.reference import network_on_numbers
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.network import load_network
from tilewright.workloads.operators import Attributes, Operator, TensorSpec
from tilewright.workloads.stream.file import load_stream, stream_from_json, stream_to_json
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.stream.table import repeated_blocks, size_text
from tilewright.workloads.vector_work import is_reducing, vector_work
from tilewright.workloads.zoo.layers import Layers


def small() -> OperatorStream:
    """x (2, 4) -> linear 4 to 6 -> relu -> the first 3 columns -> linear 3 to 3."""
    b = Layers("small")
    y = b.elementwise("relu", b.linear(b.input("x", (2, 4)), 6, "up"))
    return b.finish([b.linear(b.part(y, 0, 3), 3, "down", bias=False)])


def attention_stream(mask: str = "causal", heads: int = 4, kv_heads: int = 2) -> OperatorStream:
    b = Layers("attention")
    q, k, v = (b.input(name, (1, 8, width * 16)) for name, width in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
    return b.finish([b.attention(q, k, v, "sdpa", head_dim=16, mask=mask)])  # type: ignore[arg-type]


def changed(stream: OperatorStream, index: int, **changes: Any) -> OperatorStream:
    operators = list(stream.operators)
    operators[index] = dataclasses.replace(operators[index], **changes)
    return dataclasses.replace(stream, operators=tuple(operators))


# --- totals ---------------------------------------------------------------------------------------------------------


def test_totals_by_hand() -> None:
    stream = small()
    assert stream.macs == 2 * 4 * 6 + 2 * 3 * 3
    assert stream.n_weights == 4 * 6 + 6 + 3 * 3
    assert stream.weight_bytes == 2 * stream.n_weights
    assert stream.n_activations == 2 * (4 + 6 + 6 + 3)
    assert stream.counts == {"matmul": 2, "elementwise": 1}


def test_a_view_is_read_in_part() -> None:
    stream = small()
    up, relu, down = stream.operators
    assert stream.read_bytes(up) == 2 * (8 + 24 + 6)
    assert stream.write_bytes(relu) == 2 * 12
    assert stream.read_bytes(down) == 2 * (6 + 9)
    assert stream.producer(down.inputs[0]) is relu
    assert stream.predecessors(down) == (relu,)


def test_a_gather_reads_the_rows_that_it_needs() -> None:
    b = Layers("lookup")
    stream = b.finish([b.embedding(b.indices("tokens", 1, 7), 1000, 16, "table")])
    assert stream.read_bytes(stream.operators[0]) == 7 * 16 * 2 + 7 * 4
    assert stream.n_weights == 16_000


def test_macs_of_a_grouped_and_of_a_transposed_convolution() -> None:
    b = Layers("conv")
    x = b.input("x", (2, 8, 10, 10))
    y = b.conv(x, 16, 3, "grouped", groups=4, stride=2)
    stream = b.finish([y])
    assert stream.macs == 2 * 16 * 5 * 5 * 2 * 9
    turned = {**stream.operators[0].attributes, "transposed": True}
    assert dataclasses.replace(stream.operators[0], attributes=turned).macs == 2 * 8 * 10 * 10 * 4 * 9


def test_vector_work_counts_by_hand() -> None:
    relu, softmax = small().operators[1], attention_stream().with_split_attention().operators[1]
    assert vector_work(relu) == (("max", 12),)
    n_values = 4 * 8 * 8
    assert dict(vector_work(softmax)) == {
        "add": 2 * n_values,  # the sum, and the mask
        "sub": n_values,
        "mul": n_values,
        "max": n_values,
        "exp": n_values,
        "div": n_values,
    }
    assert is_reducing(softmax)
    assert not is_reducing(relu)
    assert vector_work(small().operators[0]) == ()


# --- attention ------------------------------------------------------------------------------------------------------


def test_an_attention_operator_is_an_attention_layer() -> None:
    stream = attention_stream()
    layer = attention_layer(stream.operators[0], stream)
    assert (layer.query_heads, layer.kv_heads, layer.mask, layer.qkv_format) == (4, 2, "causal", "fp16")
    assert stream.macs == layer.macs == 4 * 36 * 32


def test_attention_splits_into_two_products_and_a_softmax() -> None:
    whole = attention_stream(mask="none")
    apart = whole.with_split_attention()
    assert [op.kind for op in apart.operators] == ["matmul", "softmax", "matmul"]
    assert apart.macs == whole.macs
    first = apart.operators[0]
    assert [first.count(key) for key in ("batch", "m", "k", "n")] == [2, 16, 16, 8]


# --- grouping -------------------------------------------------------------------------------------------------------


def test_distinct_groups_by_kind_sizes_formats_and_roles() -> None:
    b = Layers("twins")
    x = b.input("x", (4, 8))
    for index in range(3):
        with b.scope("layers", index):
            x = b.elementwise("relu", b.linear(x, 8, "linear"))
    stream = b.finish([x])
    assert [(group.operator.name, group.count) for group in stream.distinct()] == [
        ("layers.0.linear", 3),
        ("layers.0.relu", 3),
    ]
    assert [(block.first, block.n_operators, block.count) for block in repeated_blocks(stream)] == [(0, 2, 3)]
    tensors = tuple(
        dataclasses.replace(one, number_format="int8") if one.name == "layers.1.linear.weight" else one
        for one in stream.tensors
    )
    assert len(dataclasses.replace(stream, tensors=tensors).distinct()) == 3


def test_rows_and_frame() -> None:
    rows = small().rows()
    assert rows[0]["size"] == "(2x4)(4x6)"
    assert rows[0]["macs"] == 48
    assert rows[0]["formats"] == "fp16 -> fp16"
    frame = load_network("bert-base").to_frame(distinct=True)
    assert len(frame) == 11
    assert int((frame["macs"] * frame["count"]).sum()) == load_network("bert-base").macs


def test_sizes_in_words() -> None:
    assert size_text(attention_stream().operators[0]) == "4/2 heads 8x8 width 16 causal"
    convs = [op for op in load_network("mobilenet-v2").operators if op.kind == "conv"]
    assert size_text(convs[1]) == "32->32 3x3 112x112->112x112 groups 32"


# --- what is refused ------------------------------------------------------------------------------------------------


def test_operators_are_checked() -> None:
    with pytest.raises(InputError, match=r'kind: unknown kind; given "matmull".*did you mean "matmul"'):
        Operator(name="a", kind="matmull", inputs=(), outputs=())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a: n: missing; a matmul needs batch, m, k, n"):
        Operator(name="a", kind="matmul", inputs=(), outputs=(), attributes={"batch": 1, "m": 1, "k": 1})
    with pytest.raises(InputError, match="a: m: must be counted in whole numbers; given 0"):
        Operator(name="a", kind="matmul", inputs=(), outputs=(), attributes={"batch": 1, "m": 0, "k": 1, "n": 1})
    with pytest.raises(InputError, match="x: number_format: unknown number format"):
        TensorSpec(name="x", shape=(1,), number_format="int99")
    with pytest.raises(InputError, match="x: shape"):
        TensorSpec(name="x", shape=(0,), number_format="int8")


@pytest.mark.parametrize(
    ("index", "changes", "says"),
    [
        (0, {"inputs": ("y", "up.weight")}, 'small: up: inputs: unknown tensor; given "y"'),
        (0, {"inputs": ("relu.out", "up.weight")}, 'up: reads "relu.out" before anything has written it'),
        (0, {"inputs": ("x", "down.weight")}, "up: its attributes ask for 24 values in down.weight; given 3x3"),
        (1, {"outputs": ("up.out",)}, 'relu: writes "up.out", which is there already'),
        (1, {"outputs": ("relu.out.from_0",)}, 'relu: writes "relu.out.from_0", which is a view'),
        (1, {"name": "up"}, 'the operator name "up" is used 2 times'),
    ],
)
def test_streams_are_checked(index: int, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as fault:
        changed(small(), index, **changes)
    assert says in str(fault.value)


def test_outputs_must_be_there() -> None:
    stream = small()
    with pytest.raises(InputError, match='unknown tensor; given "z"'):
        dataclasses.replace(stream, outputs=("z",))
    with pytest.raises(InputError, match="n_steps"):
        dataclasses.replace(stream, n_steps=0)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["efficientnet-b3", "llama-3.2-1b:decode=1,context=9", "dit-xl-2:steps=3"])
def test_a_stream_comes_back_from_its_file(tmp_path: Path, name: str) -> None:
    stream = load_network(name)
    path = tmp_path / "net.json"
    stream.save(path)
    assert load_stream(path) == stream == load_network(str(path))
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"version": 1', '"version": 2', "net.json: version: given 2; allowed 1"),
        ('"schema": "tilewright.operator_stream"', '"schema": "other"', "is no operator stream"),
        ('"kind": "matmul"', '"kind": "matmuls"', 'net.json: up: kind: unknown kind; given "matmuls"'),
        ('"shape": [2, 4]', '"shape": [2, -4]', "net.json: tensors.0.shape.1: out of range"),
        ('"number_format": "fp16"', '"number_format": "fp15"', "net.json: x: number_format: unknown number format"),
        ('"m": 2', '"m": 3', "net.json: small: up: its attributes ask for 12 values in x"),
        ('"x"', "'x'", "operator stream: not valid JSON"),
    ],
)
def test_a_faulty_file_is_one_clear_line(old: str, new: str, says: str) -> None:
    text = stream_to_json(small()).replace(old, new, 1)
    with pytest.raises(InputError) as fault:
        stream_from_json(text, name="net.json")
    assert says in str(fault.value)


def test_a_truncated_file_names_line_and_column() -> None:
    text = stream_to_json(small())
    with pytest.raises(InputError, match=r"net.json:\d+:\d+: operator stream: not valid JSON"):
        stream_from_json(text[: len(text) // 2], name="net.json")


def test_streams_travel_between_processes() -> None:
    stream = load_network("resnet-18")
    again = pickle.loads(pickle.dumps(stream))
    assert again == stream
    assert again.distinct() == stream.distinct()


def test_attributes_do_not_change() -> None:
    attributes = Attributes({"b": [1, 2], "a": 1})
    assert dict(attributes) == {"a": 1, "b": (1, 2)}
    assert hash(attributes) == hash(Attributes({"a": 1, "b": (1, 2)}))
    with pytest.raises(TypeError):
        attributes["a"] = 2  # type: ignore[index]


# --- drawing --------------------------------------------------------------------------------------------------------


def test_the_drawing_shows_repeated_layers_once() -> None:
    image = load_network("bert-base").to_svg()
    root = ElementTree.fromstring(image)
    boxes = [node for node in root.iter() if node.tag.endswith("}g")]
    assert "x 12" in image
    assert len(boxes) == 150 - 11 * 12 - 1  # two adds in the embedding are one as well


def test_names_are_escaped_in_the_drawing() -> None:
    stream = dataclasses.replace(small(), name='<a href="x">&')
    assert "<a" not in stream.to_svg()
    ElementTree.fromstring(stream.to_svg())


def test_every_kind_is_drawn_and_listed() -> None:
    assert set(KINDS.names()) >= set(load_network("sd-1.5-unet").counts)


def conv_stream(**changes: object) -> OperatorStream:
    """One convolution of 8x8 pixels, with some attributes changed."""
    attributes: dict[str, object] = {
        "batch": 1, "groups": 1, "in_channels": 4, "out_channels": 4, "in_size": [8, 8], "out_size": [8, 8],
        "kernel": [3, 3], "stride": [1, 1], "dilation": [1, 1], "padding": [1, 1, 1, 1], "transposed": False,
    }  # fmt: skip
    shapes = {"x": (1, 4, 8, 8), "w": (4, 4, 3, 3), "y": (1, 4, 8, 8)}
    tensors = [
        TensorSpec(name=name, shape=shape, number_format="fp16", role="weight" if name == "w" else "activation")
        for name, shape in shapes.items()
    ]
    inputs = ("x", "w") if "inputs" not in changes else changes.pop("inputs")
    operator = Operator(name="c", kind="conv", inputs=inputs, outputs=("y",), attributes=attributes | changes)  # type: ignore[arg-type]
    return OperatorStream(name="s", tensors=tuple(tensors), operators=(operator,), inputs=("x",), outputs=("y",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": [1]}, r"c: batch: must be counted in whole numbers; given \(1,\); allowed 1 to 2\^48"),
        ({"kernel": 3}, "c: kernel: must be whole numbers, one for each dimension; given 3; allowed 1 to 2147483648"),
        ({"kernel": [3]}, "given 2 numbers; allowed 1|given 4 numbers; allowed 2"),
        ({"kernel": [2**31, 2**31]}, "s: c: its attributes ask for"),
        ({"padding": [1, 1, 1]}, r"c: padding: given 3 numbers; allowed 4 \(for 2 dimensions\)"),
        ({"padding": [-1, 1, 1, 1]}, "c: padding: must be whole numbers"),
        ({"stride": [0, 1]}, "c: stride: must be whole numbers"),
        ({"stride": [2, 2]}, r"kernel 3, stride 2 and padding do not lead from in_size 8 to out_size 8"),
        ({"dilation": [2**40, 1]}, "c: dilation: must be whole numbers"),
        ({"groups": 3}, "c: groups: given 3; allowed what divides in_channels, which is 4"),
        ({"transposed": 1}, "c: transposed: given 1; allowed true or false"),
        ({"inputs": ("x",)}, "c: inputs: too few; given 1; allowed 2 or more"),
        ({"in_channels": 2**60}, r"c: in_channels: must be counted .* allowed 1 to 2\^48"),
    ],
)
def test_attributes_are_of_their_kind_and_fit_together(changes: dict[str, object], said: str) -> None:
    conv_stream()
    with pytest.raises(InputError, match=said):
        conv_stream(**changes)


def test_sizes_beyond_reason_are_refused() -> None:
    with pytest.raises(InputError, match=r"x: shape: too large; given 2147483648x2147483648; allowed at most 2\^50"):
        TensorSpec(name="x", shape=(2**31, 2**31), number_format="fp16")


BROKEN = Path(__file__).parents[3] / "shared/cases/break"


@pytest.mark.skipif(not BROKEN.exists(), reason="needs ../shared/cases")
@pytest.mark.parametrize("case", sorted(BROKEN.glob("*.json")), ids=lambda path: path.stem[:40])
def test_streams_that_once_ended_in_a_traceback_or_did_not_end(case: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", str(case), "-a", "edge-16x16", "--weights", "int8"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"tilewright: error: {case}: ")
    assert "unexpected" not in said


# --- views that say what they read ----------------------------------------------------------------------------------


def _viewed(**how: tuple[int, ...]) -> OperatorStream:
    """x (4, 6), read as ``how`` says in the shape (3, 2, 2) or, of a part, (2, 3)."""
    shape = (2, 3) if "start" in how else (3, 2, 4)
    seen = TensorSpec(name="seen", shape=shape, number_format="fp16", view_of="x", **how)
    operator = Operator(
        name="copy",
        kind="elementwise",
        inputs=("seen",),
        outputs=("y",),
        attributes={"function": "relu", "n_elements": math.prod(shape)},
    )
    return OperatorStream(
        name="viewed",
        tensors=(
            TensorSpec(name="x", shape=(4, 6), number_format="fp16"),
            seen,
            TensorSpec(name="y", shape=shape, number_format="fp16"),
        ),
        operators=(operator,),
        inputs=("x",),
        outputs=("y",),
    )


def test_a_view_that_says_what_it_reads_is_kept_in_a_file_and_is_that_on_numbers() -> None:
    x = np.arange(24.0).reshape(4, 6) - 5
    for stream, wanted in (
        (_viewed(as_shape=(4, 3, 2), order=(1, 2, 0)), x.reshape(4, 3, 2).transpose(1, 2, 0)),
        (_viewed(start=(1, 2)), x[1:3, 2:5]),
        (_viewed(order=(1, 0), start=(3, 1)), x.T[3:5, 1:4]),
    ):
        assert stream_from_json(stream_to_json(stream), name="file") == stream
        assert np.array_equal(network_on_numbers(stream, {"x": x})["y"], np.maximum(wanted, 0))


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"as_shape": (5, 5)}, "as_shape: given 5x5; allowed a shape of the 24 values of x"),
        ({"order": (0, 2)}, "order: given 0, 2; allowed each of the dimensions 0 to 1 once"),
        ({"start": (3, 0)}, "start: given 3, 0 for 2x3; allowed a part of 4x6"),
        ({"start": (1,)}, "start: given 1 for 2x3; allowed a part of 4x6"),
    ],
)
def test_a_view_that_cannot_read_what_it_says_is_refused(how: dict[str, tuple[int, ...]], field: str) -> None:
    with pytest.raises(InputError, match=field):
        _viewed(**how)
