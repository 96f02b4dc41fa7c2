"""Attention written out in ONNX, and Attention of the standard set: what a mask leaves, and what is moved for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tilewright[onnx]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tilewright.workloads.extract.onnx import stream_from_onnx  # noqa: E402

pytestmark = pytest.mark.extras
node = helper.make_node
HEADS, KV_HEADS, WIDTH = 4, 2, 8


def known(name: str, value: Any, dtype: Any = np.int64) -> Any:
    return numpy_helper.from_array(np.array(value, dtype), name)


def read(
    nodes: list[Any], inputs: dict[str, list[int]], kept: list[Any], *, kinds: dict[str, int] | None = None,
    opset: int = 23, **options: Any,
) -> OperatorStream:  # fmt: skip
    given = [
        helper.make_tensor_value_info(x, (kinds or {}).get(x, TensorProto.FLOAT), shape) for x, shape in inputs.items()
    ]
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", given, made, kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return stream_from_onnx(model, **options)


def attention(stream: OperatorStream) -> Operator:
    (found,) = [op for op in stream.operators if op.kind == "attention"]
    assert {op.kind for op in stream.operators} <= {"attention", "elementwise", "reshape"}
    return found


def seen(rows: int, keys: int, left: int | None = None, right: int | None = None, offset: int = 0) -> int:
    """Scores that a band leaves: key j of row i with i + offset - left <= j <= i + offset + right."""
    total = 0
    for row in range(rows):
        first = 0 if left is None else max(0, row + offset - left)
        last = keys - 1 if right is None else min(keys - 1, row + offset + right)
        total += max(0, last - first + 1)
    return total


# --- masks built in the graph -----------------------------------------------------------------------------------------


def written_out(rows: int, keys: int, mask: list[Any], how: str, *, soft_cap: bool = False) -> list[Any]:
    """softmax(Q K^T / sqrt(E) + mask) V; ``how`` the mask named "seen" is used: where, added or a choice of scores."""
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "kt"], ["s0"]),
        node("Mul", ["s0", "scale"], ["s1"]),
    ]
    last = "s1"
    if soft_cap:
        nodes += [node("Div", ["s1", "cap"], ["c0"]), node("Tanh", ["c0"], ["c1"]), node("Mul", ["c1", "cap"], ["c2"])]
        last = "c2"
    nodes += mask
    if how == "choice":
        nodes.append(node("Where", ["seen", last, "low"], ["s2"]))
    elif how == "added":
        nodes += [node("Where", ["seen", "none", "low"], ["m"]), node("Add", [last, "m"], ["s2"])]
    else:
        nodes += [node("Add", [last, "seen"], ["s2"])]
    return [*nodes, node("Softmax", ["s2"], ["p"], axis=-1), node("MatMul", ["p", "v"], ["y"])]


def positions(rows: int, keys: int) -> list[Any]:
    """Rows and keys as columns and rows of positions, as exporters make them."""
    return [
        node("Range", ["zero", "n_rows", "one"], ["r0"]),
        node("Add", ["r0", "shift"], ["r1"]),
        node("Unsqueeze", ["r1", "last"], ["row"]),
        node("Range", ["zero", "n_keys", "one"], ["k0"]),
        node("Unsqueeze", ["k0", "first"], ["key"]),
    ]


def numbers(rows: int, keys: int, window: int = 1) -> list[Any]:
    kept = [known(name, value) for name, value in (("zero", 0), ("one", 1), ("n_rows", rows), ("n_keys", keys))]
    kept += [known("shift", keys - rows), known("last", [1]), known("first", [0]), known("window", window)]
    kept += [known(name, value, np.float32) for name, value in (("scale", 0.35), ("low", -3e38), ("none", 0.0))]
    return [*kept, known("cap", 30.0, np.float32)]


CAUSAL = [node("LessOrEqual", ["key", "row"], ["seen"])]
WINDOW = [
    node("LessOrEqual", ["key", "row"], ["causal"]),
    node("Sub", ["row", "window"], ["edge"]),
    node("Greater", ["key", "edge"], ["near"]),
    node("And", ["causal", "near"], ["seen"]),
]


def shapes(rows: int, keys: int, heads: int = HEADS) -> dict[str, list[int]]:
    return {"q": [1, heads, rows, WIDTH], "k": [1, heads, keys, WIDTH], "v": [1, heads, keys, WIDTH]}


@pytest.mark.parametrize("how", ["choice", "added"])
@pytest.mark.parametrize(("rows", "keys"), [(6, 6), (3, 9), (1, 7), (8192, 8192)])
@pytest.mark.parametrize("window", [None, 4, 4096])
def test_a_mask_of_positions(how: str, rows: int, keys: int, window: int | None) -> None:
    mask = [*positions(rows, keys), *(CAUSAL if window is None else WINDOW)]
    stream = read(written_out(rows, keys, mask, how), shapes(rows, keys), numbers(rows, keys, window or 1))
    left = None if window is None else window - 1
    assert attention(stream).macs == 2 * HEADS * WIDTH * seen(rows, keys, left, 0, keys - rows)
    assert len(attention(stream).inputs) == 3


@pytest.mark.parametrize("size", [5, 6000])
def test_a_triangle_of_large_negative_numbers(size: int) -> None:
    mask = [
        node("ConstantOfShape", ["sizes"], ["full"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [-1e9])),
        node("Trilu", ["full", "one"], ["seen"], upper=1),
    ]
    kept = [*numbers(size, size), known("sizes", [size, size])]
    stream = read(written_out(size, size, mask, "sum"), shapes(size, size), kept)
    assert attention(stream).text("mask") == "causal"


def test_soft_cap_and_padding_beside_a_causal_mask() -> None:
    rows = 6
    mask = [
        *positions(rows, rows), *CAUSAL[:0],
        node("LessOrEqual", ["key", "row"], ["causal"]),
        node("Where", ["causal", "none", "low"], ["band"]),
        node("Where", ["padding", "none", "low"], ["hidden"]),
        node("Add", ["band", "hidden"], ["seen"]),
    ]  # fmt: skip
    stream = read(
        written_out(rows, rows, mask, "sum", soft_cap=True), shapes(rows, rows) | {"padding": [1, 1, 1, rows]},
        numbers(rows, rows), kinds={"padding": TensorProto.BOOL},
    )  # fmt: skip
    operator = attention(stream)
    assert (operator.text("mask"), operator.attributes["bias"]) == ("causal", True)
    assert operator.attributes["soft_cap"] == pytest.approx(30.0)
    assert operator.macs == 2 * HEADS * WIDTH * seen(rows, rows, None, 0)


def test_a_mask_that_is_no_band_is_refused_by_place_or_counted() -> None:
    mask = [*positions(6, 6), node("Mod", ["key", "window"], ["rest"]), node("Equal", ["rest", "zero"], ["seen"])]
    nodes = written_out(6, 6, mask, "choice")
    with pytest.raises(InputError, match=r"net: p: attention: its mask"):
        read(nodes, shapes(6, 6), numbers(6, 6, 2))
    stream = read(nodes, shapes(6, 6), numbers(6, 6, 2), unknown="memory")
    assert attention(stream).macs == 2 * HEADS * WIDTH * 36


# --- the standard operator --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads_apart", [True, False])
@pytest.mark.parametrize("past", [0, 5])
@pytest.mark.parametrize(("rows", "keys"), [(6, 6), (1, 1), (3, 8), (8, 3)])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(("left", "right"), [(-1, -1), (2, -1), (2, 1), (0, 0)])
def test_attention_of_the_standard_set(
    heads_apart: bool, past: int, rows: int, keys: int, causal: int, left: int, right: int
) -> None:
    q = [2, HEADS, rows, WIDTH] if heads_apart else [2, rows, HEADS * WIDTH]
    kv = [2, KV_HEADS, keys, WIDTH] if heads_apart else [2, keys, KV_HEADS * WIDTH]
    inputs = {"q": q, "k": kv, "v": kv}
    if past:
        inputs |= {"pk": [2, KV_HEADS, past, WIDTH], "pv": [2, KV_HEADS, past, WIDTH]}
    heads = {} if heads_apart else {"q_num_heads": HEADS, "kv_num_heads": KV_HEADS}
    names = ["q", "k", "v", *(["", "pk", "pv"] if past else [])]
    call = node(
        "Attention", names, ["y", *(["ok", "ov"] if past else [])], is_causal=causal, softcap=20.0,
        left_window_size=left, right_window_size=right, **heads,
    )  # fmt: skip
    reach = (None if left < 0 else left), (0 if causal else None if right < 0 else right)
    wanted = 2 * 2 * HEADS * WIDTH * seen(rows, past + keys, *reach, offset=past)
    hides_a_row = left >= 0 and any(row + past - left > past + keys - 1 for row in range(rows))
    if hides_a_row:  # a row without any key
        return
    stream = read([call], inputs, [], opset=25)
    operator = attention(stream)
    assert operator.macs == wanted
    assert operator.attributes["soft_cap"] == 20.0
    assert stream.cache_bytes == (2 * 2 * KV_HEADS * past * WIDTH * 4 if past else 0)


@pytest.mark.parametrize("shape", [[6, 9], [1, 1, 6, 9], [2, 1, 1, 9], [2, HEADS, 6, 9]])
def test_a_bias_is_read_once(shape: list[int]) -> None:
    inputs = {"q": [2, HEADS, 6, WIDTH], "k": [2, HEADS, 9, WIDTH], "v": [2, HEADS, 9, WIDTH], "b": shape}
    stream = read([node("Attention", ["q", "k", "v", "b"], ["y"])], inputs, [])
    operator = attention(stream)
    n_q, n_k = 2 * HEADS * 6 * WIDTH, 2 * HEADS * 9 * WIDTH
    assert stream.read_bytes(operator) == 4 * (n_q + 2 * n_k + int(np.prod(shape)))
    assert operator.attributes["bias"] is True
