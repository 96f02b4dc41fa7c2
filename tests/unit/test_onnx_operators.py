"""ONNX operators beyond the plain ones: onnxruntime's, recurrent layers, control flow, sums in Einstein's notation."""

from __future__ import annotations

from collections import Counter
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
FLOAT, WHOLE = TensorProto.FLOAT, TensorProto.INT64


def held(name: str, *shape: int, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.zeros(shape, dtype), name)


def known(name: str, value: Any, dtype: Any = np.int64) -> Any:
    return numpy_helper.from_array(np.array(value, dtype), name)


def read(
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: list[str],
    kept: list[Any] | None = None,
    *,
    opset: int = 20,
    kinds: dict[str, int] | None = None,
    results: dict[str, list[int]] | None = None,
    **options: Any,
) -> OperatorStream:
    kinds = kinds or {}
    given = [helper.make_tensor_value_info(x, kinds.get(x, FLOAT), shape) for x, shape in inputs.items()]
    made = [helper.make_tensor_value_info(x, kinds.get(x, FLOAT), (results or {}).get(x)) for x in outputs]
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "net", given, made, kept or [])
    return stream_from_onnx(helper.make_model(graph, opset_imports=sets, ir_version=8), **options)


def micro(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return node(kind, inputs, outputs, domain="com.microsoft", **attributes)


def functions(stream: OperatorStream) -> list[str]:
    return [f"{op.kind} {op.text('function')}".strip() for op in stream.operators]


def attention(stream: OperatorStream) -> Operator:
    (found,) = [op for op in stream.operators if op.kind == "attention"]
    return found


# --- onnxruntime's attention -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unidirectional", [0, 1])
def test_packed_attention(unidirectional: int) -> None:
    call = micro("Attention", ["x", "w", "b"], ["y"], num_heads=12, unidirectional=unidirectional)
    stream = read([call], {"x": [1, 128, 768]}, ["y"], [held("w", 768, 2304), held("b", 2304)])
    assert functions(stream) == ["matmul", "attention"]
    seen = 128 * 129 // 2 if unidirectional else 128 * 128
    assert stream.macs == 128 * 768 * 2304 + 2 * 12 * seen * 64
    assert stream.tensor(stream.outputs[0]).shape == (1, 128, 768)
    assert stream.n_parameters == 768 * 2304 + 2304


def test_packed_attention_with_a_mask_and_a_past() -> None:
    call = micro("Attention", ["x", "w", "b", "m", "p"], ["y", "present"], num_heads=4, unidirectional=1)
    stream = read(
        [call], {"x": [2, 3, 64], "m": [2, 8], "p": [2, 2, 4, 5, 16]}, ["y", "present"],
        [held("w", 64, 192), held("b", 192)], kinds={"m": TensorProto.INT32},
    )  # fmt: skip
    operator = attention(stream)
    assert (operator.count("query_len"), operator.count("key_len"), operator.text("mask")) == (3, 8, "causal")
    assert operator.attributes["bias"] is True
    assert stream.tensor(operator.inputs[3]).shape == (2, 1, 1, 8)
    assert stream.cache_bytes == 2 * 2 * 4 * 5 * 16 * 4
    assert stream.tensor("present").shape == (2, 2, 4, 8, 16)


def test_a_mask_for_the_longest_prompt_is_read_as_far_as_it_is_needed() -> None:
    call = micro("Attention", ["x", "w", "b", "m"], ["y"], num_heads=4)
    stream = read([call], {"x": [2, 3, 64], "m": [2, 1, 9, 9]}, ["y"], [held("w", 64, 192), held("b", 192)],
                  kinds={"m": TensorProto.INT32})  # fmt: skip
    assert stream.tensor(attention(stream).inputs[3]).shape == (2, 1, 3, 3)


def test_multi_head_attention_with_bias_and_padding() -> None:
    call = micro("MultiHeadAttention", ["q", "k", "v", "", "m", "s"], ["y"], num_heads=4)
    shapes = {"q": [2, 6, 64], "k": [2, 9, 64], "v": [2, 9, 64], "m": [2, 9], "s": [1, 4, 6, 9]}
    stream = read([call], shapes, ["y"], kinds={"m": TensorProto.INT32})
    assert functions(stream) == ["elementwise add", "attention"]
    assert stream.macs == 2 * 2 * 4 * 6 * 9 * 16
    assert stream.tensor(attention(stream).inputs[3]).shape == (2, 4, 6, 9)


@pytest.mark.parametrize("window", [-1, 64])
def test_group_query_attention_of_one_token(window: int) -> None:
    call = micro(
        "GroupQueryAttention", ["q", "k", "v", "pk", "pv", "sl", "tl"], ["y", "ok", "ov"],
        num_heads=32, kv_num_heads=8, local_window_size=window,
    )  # fmt: skip
    shapes = {"q": [1, 1, 4096], "k": [1, 1, 1024], "v": [1, 1, 1024]}
    shapes |= {"pk": [1, 8, 1023, 128], "pv": [1, 8, 1023, 128]}
    kept = [known("sl", [1023], np.int32), known("tl", 1024, np.int32)]
    stream = read([call], shapes, ["y", "ok", "ov"], kept)
    assert functions(stream) == ["reshape append", "reshape append", "attention"]
    assert stream.macs == 2 * 32 * 128 * (1024 if window < 0 else window)
    assert stream.cache_bytes == 2 * 8 * 1023 * 128 * 4
    assert stream.read_bytes(stream.operators[0]) == 8 * 128 * 4


def test_group_query_attention_of_a_prompt_with_all_it_has() -> None:
    """Packed rows, rotary tables, a window of 4 keys, a soft cap, sinks."""
    call = micro(
        "GroupQueryAttention", ["qkv", "", "", "", "", "sl", "tl", "cos", "sin", "", "", "sink"], ["y", "ok", "ov"],
        num_heads=4, kv_num_heads=2, local_window_size=4, softcap=30.0, do_rotary=1,
    )  # fmt: skip
    kept = [known("sl", [9], np.int32), known("tl", 10, np.int32), held("cos", 32, 4), held("sin", 32, 4)]
    stream = read([call], {"qkv": [1, 10, 64]}, ["y"], [*kept, held("sink", 4)])
    operator = attention(stream)
    assert functions(stream) == ["elementwise rotary", "elementwise rotary", "attention"]
    assert operator.attributes["sinks"] is True and operator.attributes["soft_cap"] == 30.0
    assert operator.macs == 2 * 4 * 8 * (1 + 2 + 3 + 4 * 7)
    assert stream.read_bytes(stream.operators[0]) == 4 * (10 * 32 + 2 * 10 * 4)  # ten rows of each table


def test_attention_without_its_domain_says_what_it_is() -> None:
    call = node("Attention", ["x", "w", "b"], ["y"], num_heads=12, name="/layer/attn")
    with pytest.raises(InputError, match=r'Attention at layer\.attn: .* domain must be "com\.microsoft"'):
        read([call], {"x": [1, 8, 768]}, ["y"], [held("w", 768, 2304), held("b", 2304)], results={"y": [1, 8, 768]})


# --- onnxruntime's other operators ------------------------------------------------------------------------------------


def test_a_layer_of_an_optimised_bert() -> None:
    nodes = [
        micro("EmbedLayerNormalization", ["ids", "", "words", "places", "", "g", "b"], ["x", "m"]),
        micro("Attention", ["x", "w", "wb"], ["a"], num_heads=4),
        micro("FusedMatMul", ["a", "o"], ["ao"], transB=1),
        micro("SkipLayerNormalization", ["ao", "x", "g", "b", "ob"], ["n", "", "", "s"]),
        micro("FastGelu", ["n", "g"], ["h"]),
        micro("SkipSimplifiedLayerNormalization", ["h", "s", "g"], ["y"]),
    ]
    kept = [held("words", 100, 64), held("places", 32, 64), held("w", 64, 192), held("wb", 192), held("o", 64, 64)]
    stream = read(
        nodes, {"ids": [1, 8]}, ["y"], [*kept, *(held(x, 64) for x in ("g", "b", "ob"))], kinds={"ids": WHOLE}
    )
    assert functions(stream) == [
        "gather", "elementwise add", "norm layer", "matmul", "attention", "matmul", "elementwise add",
        "norm layer", "elementwise add", "elementwise gelu_tanh", "elementwise add", "norm rms",
    ]  # fmt: skip
    assert stream.macs == 8 * 64 * 192 + 2 * 4 * 64 * 16 + 8 * 64 * 64


def test_fused_products() -> None:
    nodes = [
        micro("FusedConv", ["x", "w", "b", "z"], ["c"], activation="Relu", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Flatten", ["c"], ["f"]),
        micro("FusedGemm", ["f", "v"], ["y"], transB=1, activation="LeakyRelu"),
    ]
    kept = [held("w", 8, 3, 3, 3), held("b", 8), held("v", 10, 8 * 16)]
    stream = read(nodes, {"x": [1, 3, 4, 4], "z": [1, 8, 4, 4]}, ["y"], kept)
    assert functions(stream) == [
        "conv", "elementwise add", "elementwise relu", "matmul", "elementwise leaky_relu",
    ]  # fmt: skip
    assert stream.macs == 16 * 8 * 27 + 8 * 16 * 10


def test_whole_number_operators_of_onnxruntime() -> None:
    kept = [known("s", 0.1, np.float32), known("z", 0, np.uint8), held("w", 8, 8, dtype=np.int8)]
    nodes = [
        micro("QLinearAdd", ["x", "s", "z", "x", "s", "z", "s", "z"], ["a"]),
        micro("QLinearSigmoid", ["a", "s", "z", "s", "z"], ["g"]),
        micro("QLinearConcat", ["s", "z", "a", "s", "z", "g", "s", "z"], ["c"], axis=0),
        micro("QGemm", ["c", "s", "z", "w", "s", "", "", "s", "z"], ["m"]),
        micro("QLinearReduceMean", ["m", "s", "z", "s", "z"], ["y"], axes=[1]),
    ]
    stream = read(nodes, {"x": [4, 8]}, ["y"], kept, kinds={"x": TensorProto.UINT8, "y": TensorProto.UINT8})
    assert Counter(functions(stream)) == Counter(
        {"quantize": 4, "elementwise add": 1, "elementwise sigmoid": 1, "reshape concat": 1, "matmul": 1,
         "reduction mean": 1}
    )  # fmt: skip
    assert stream.macs == 8 * 8 * 8
    assert stream.tensor("y").n_bytes == 8


# --- recurrent layers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers_are_written_out(kind: str, gates: int, directions: int) -> None:
    steps, batch, inputs, hidden = 5, 2, 6, 8
    way = "bidirectional" if directions == 2 else "forward"
    call = node(kind, ["x", "W", "R", "B"], ["y", "h"], hidden_size=hidden, direction=way)
    kept = [held("W", directions, gates * hidden, inputs), held("R", directions, gates * hidden, hidden)]
    stream = read([call], {"x": [steps, batch, inputs]}, ["y"], [*kept, held("B", directions, 2 * gates * hidden)])
    assert stream.macs == directions * steps * batch * gates * hidden * (inputs + hidden)
    assert stream.tensor("y").shape == (steps, directions, batch, hidden)
    assert stream.n_parameters == directions * gates * hidden * (inputs + hidden + 2)


def test_only_the_last_state_may_be_wanted() -> None:
    call = node("LSTM", ["x", "W", "R"], ["", "h"], hidden_size=4)
    stream = read([call], {"x": [3, 1, 4]}, ["h"], [held("W", 1, 16, 4), held("R", 1, 16, 4)])
    assert functions(stream) == ["matmul", *["matmul", "elementwise lstm"] * 3]


# --- control flow -----------------------------------------------------------------------------------------------------


def branch(kind: str, name: str) -> Any:
    result = helper.make_tensor_value_info(f"{name}_out", FLOAT, [1, 8])
    return helper.make_graph([node(kind, ["x"], [f"{name}_out"])], name, [], [result])


def test_the_branch_of_a_known_condition() -> None:
    call = node("If", ["c"], ["y"], then_branch=branch("Relu", "t"), else_branch=branch("Sigmoid", "e"), name="/if")
    for condition, function in ((True, "relu"), (False, "sigmoid")):
        stream = read([call], {"x": [1, 8]}, ["y"], [known("c", [condition], bool)])
        assert functions(stream) == [f"elementwise {function}"]
    kinds = {"c": TensorProto.BOOL}
    with pytest.raises(InputError, match=r"If at if: which branch is taken only a run tells"):
        read([call], {"x": [1, 8], "c": [1]}, ["y"], kinds=kinds)
    assert functions(read([call], {"x": [1, 8], "c": [1]}, ["y"], kinds=kinds, sizes={"c": 1})) == ["elementwise relu"]


def loop_body() -> Any:
    """x <- x W while the count is below 3 (or always, with ``goes``)."""
    given = [
        helper.make_tensor_value_info("i", WHOLE, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("h", FLOAT, [4, 8]),
    ]
    results = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("h2", FLOAT, [4, 8]),
        helper.make_tensor_value_info("kept", FLOAT, [4, 8]),
    ]
    nodes = [node("MatMul", ["h", "W"], ["h2"]), node("Relu", ["h2"], ["kept"]), node("Less", ["i", "three"], ["on"])]
    return helper.make_graph(nodes, "body", given, results)


@pytest.mark.parametrize(("limit", "trips"), [(2, 2), (10, 5)])
def test_a_loop_of_known_trips(limit: int, trips: int) -> None:
    call = node("Loop", ["n", "", "x"], ["y", "all"], body=loop_body())
    kept = [known("n", limit), held("W", 8, 8), known("three", 4)]
    stream = read([call], {"x": [4, 8]}, ["y", "all"], kept)
    assert stream.macs == trips * 4 * 8 * 8
    assert stream.tensor("all").shape == (trips, 4, 8)


def test_a_loop_of_too_many_trips_is_refused_soon() -> None:
    body = loop_body()
    del body.node[2]
    body.node.append(node("Identity", ["go"], ["on"]))
    call = node("Loop", ["n", "", "x"], ["y", "all"], body=body, name="/steps")
    with pytest.raises(InputError, match=r"Loop at steps: too many trips .* given 3,000,000,000 nodes"):
        read([call], {"x": [4, 8]}, ["y", "all"], [known("n", 10**9), held("W", 8, 8), known("three", 4)])


def test_a_loop_whose_trips_are_data_is_refused() -> None:
    call = node("Loop", ["n", "", "x"], ["y", "all"], body=loop_body(), name="/steps")
    with pytest.raises(InputError, match=r"Loop at steps: how many trips are made only a run tells"):
        read([call], {"x": [4, 8], "n": []}, ["y"], [held("W", 8, 8), known("three", 3)], kinds={"n": WHOLE})


def test_a_scan() -> None:
    given = [helper.make_tensor_value_info(name, FLOAT, [8]) for name in ("s", "part")]
    results = [helper.make_tensor_value_info(name, FLOAT, [8]) for name in ("s2", "o")]
    body = helper.make_graph([node("Add", ["s", "part"], ["s2"]), node("Relu", ["s2"], ["o"])], "body", given, results)
    call = node("Scan", ["s0", "x"], ["end", "y"], body=body, num_scan_inputs=1)
    stream = read([call], {"s0": [8], "x": [3, 8]}, ["end", "y"])
    assert functions(stream) == [*["elementwise add", "elementwise relu"] * 3, "reshape concat"]
    assert stream.tensor("y").shape == (3, 8)


# --- others -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("...id,...jd->...ij", [[1, 4, 16, 8], [1, 4, 16, 8]], 4 * 16 * 16 * 8),
        ("bhid,bhjd", [[2, 4, 16, 8], [2, 4, 16, 8]], 0),
        ("ij,jk,kl->il", [[4, 8], [8, 2], [2, 16]], 4 * 8 * 2 + 4 * 2 * 16),
        ("bij,jk->bik", [[3, 4, 8], [8, 2]], 3 * 4 * 8 * 2),
        ("ij,ij->ij", [[4, 8], [4, 8]], 0),
        ("ijk->ki", [[4, 8, 2]], 0),
    ],
)
def test_sums_in_einsteins_notation(equation: str, shapes: list[list[int]], macs: int) -> None:
    names = [f"x{place}" for place in range(len(shapes))]
    stream = read([node("Einsum", names, ["e"], equation=equation), node("Relu", ["e"], ["y"])],
                  dict(zip(names, shapes, strict=True)), ["y"])  # fmt: skip
    if equation == "bhid,bhjd":  # sums over b, h and d, as NumPy says
        assert stream.tensor(stream.outputs[0]).shape == (16, 16)
    else:
        assert stream.macs == macs


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12])
def test_old_operator_sets(opset: int) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
        node("Dropout", ["c"], ["d", "mask"], ratio=0.5) if opset < 12 else node("Dropout", ["c"], ["d", "mask"]),
        node("Softmax", ["d"], ["y"], axis=1),
    ]
    stream = read(nodes, {"x": [1, 8, 13, 13]}, ["y"], [held("w", 16, 8, 1, 1)], opset=opset)
    assert functions(stream) == ["conv", "softmax"]
    assert stream.operators[1].count("columns") == 16 * 13 * 13  # from the axis on, before 13


def test_dimensions_that_share_a_name() -> None:
    call = node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1] * 4)

    def macs(**sizes: int) -> int:
        return read([call], {"x": [1, 3, "?", "?"]}, ["y"], [held("w", 8, 3, 3, 3)], sizes=sizes).macs

    assert macs(**{"?": 48}) == 48 * 48 * 8 * 27
    assert macs(**{"x.2": 48, "x.3": 192}) == macs(**{"?": 192, "x.2": 48}) == 48 * 192 * 8 * 27
    with pytest.raises(InputError, match=r"dimensions left open: \? \(of x\).*by its place: x\.2=1"):
        macs()
    with pytest.raises(InputError, match=r"dimensions left open: \? \(of x\)"):
        macs(**{"x.2": 48})


@pytest.mark.parametrize(
    ("made", "shapes", "kinds"),
    [
        (node("LRN", ["x"], ["y"], size=5), {"x": [1, 8, 4, 4]}, ["elementwise lrn"]),
        (node("MeanVarianceNormalization", ["x"], ["y"]), {"x": [1, 8, 4, 4]}, ["norm instance"]),
        (node("TopK", ["x", "k"], ["y", "i"]), {"x": [4, 16]}, ["reshape sort"]),
        (node("CumSum", ["x", "k"], ["y"]), {"x": [4, 16]}, ["elementwise add"]),
        (node("GridSample", ["x", "g"], ["y"]), {"x": [1, 8, 4, 4], "g": [1, 6, 6, 2]}, ["reshape sample"]),
        (node("Hardmax", ["x"], ["y"]), {"x": [4, 16]}, ["reduction max", "elementwise compare"]),
        (node("InstanceNormalization", ["x", "g8", "g8"], ["y"]), {"x": [1, 8, 4, 4]}, ["norm instance"]),
    ],
)
def test_further_operators(made: Any, shapes: dict[str, list[Any]], kinds: list[str]) -> None:
    kept = [known("k", [1]), held("g8", 8)]
    assert functions(read([made], shapes, ["y"], kept)) == kinds


@pytest.mark.parametrize("kind", ["NonZero", "Unique", "Compress"])
def test_sizes_that_are_data_are_refused_by_name_and_place(kind: str) -> None:
    inputs = ["x", "c"] if kind == "Compress" else ["x"]
    made = node(kind, inputs, ["y"], name="/block/pick")
    with pytest.raises(InputError, match=rf"{kind} at block\.pick: the size of its result depends on values"):
        read([made], {"x": [4, 3], "c": [4]}, ["y"], kinds={"c": TensorProto.BOOL})


def test_a_cache_that_comes_back_longer_is_appended_to() -> None:
    made = node("Concat", ["past", "new"], ["present"], axis=2)
    stream = read(
        [node("Relu", ["x"], ["new"]), made, node("Sqrt", ["present"], ["y"])],
        {"past": [1, 8, 99, 16], "x": [1, 8, 1, 16]}, ["present", "y"],
    )  # fmt: skip
    assert "reshape append" in functions(stream)
    assert stream.cache_bytes == 8 * 99 * 16 * 4


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_experts(rows: int) -> None:
    """Two of eight experts a row: rows x 2 products, and no more experts read than those."""
    call = micro("MoE", ["x", "p", "w1", "", "w2"], ["y"], k=2, activation_type="gelu")
    kept = [held("w1", 8, 64, 32), held("w2", 8, 32, 64)]
    stream = read([call], {"x": [rows, 32], "p": [rows, 8]}, ["y"], kept)
    assert stream.macs == rows * 2 * (32 * 64 + 64 * 32)
    product = next(op for op in stream.operators if op.kind == "matmul")
    assert stream.tensor(product.inputs[1]).shape == (min(8, 2 * rows), 64, 32)
    assert stream.n_parameters == 2 * 8 * 64 * 32


def test_a_cache_before_its_first_use() -> None:
    nodes = [node("Concat", ["past", "x"], ["present"], axis=2), node("Relu", ["present"], ["y"])]
    stream = read(nodes, {"past": [1, 8, "p", 16], "x": [1, 8, 6, 16]}, ["present", "y"], sizes={"p": 0})
    assert functions(stream) == ["elementwise relu"]
    assert stream.tensor("y").shape == (1, 8, 6, 16)
    with pytest.raises(InputError, match="allowed 0 or more"):
        read(nodes, {"past": [1, 8, "p", 16], "x": [1, 8, 6, 16]}, ["present", "y"], sizes={"p": -1})


def test_an_operator_of_another_domain() -> None:
    made = node("Secret", ["x"], ["y"], domain="acme", name="/a/secret")
    with pytest.raises(InputError, match=r"Secret at a\.secret: ONNX does not know this operator of acme"):
        read([made], {"x": [4, 3]}, ["y"])
    assert functions(read([made], {"x": [4, 3]}, ["y"], unknown={"Secret": "elementwise:tanh"})) == ["elementwise tanh"]
    with pytest.raises(InputError, match=r"operators not understood: Secret at a\.secret"):
        read([made], {"x": [4, 3]}, ["y"], results={"y": [4, 3]})
    assert functions(read([made], {"x": [4, 3]}, ["y"], results={"y": [4, 3]}, unknown="memory")) == ["memory Secret"]


def test_a_scan_of_more_inputs_than_there_are_is_refused() -> None:
    body = helper.make_graph([node("Relu", ["a"], ["b"])], "body", [helper.make_tensor_value_info("a", FLOAT, [8])],
                             [helper.make_tensor_value_info("b", FLOAT, [8])])  # fmt: skip
    call = node("Scan", ["x"], ["y"], body=body, num_scan_inputs=(1 << 62) + 1, name="/scan")
    with pytest.raises(InputError, match=r"Scan at scan: its inputs or attributes do not fit \(num_scan_inputs is"):
        read([call], {"x": [3, 8]}, ["y"])


def test_a_damaged_node_is_refused_by_its_place() -> None:
    made = node("MaxPool", ["x"], ["y"], name="/stem/pool")
    with pytest.raises(InputError, match=r"net: (MaxPool at )?stem\.pool: "):
        read([made], {"x": [1, 3, 8, 8]}, ["y"], results={"y": [1, 3, 8, 8]})
    call = micro("MultiHeadAttention", ["x", "x", "x"], ["y"], name="/attn")
    with pytest.raises(InputError, match=r'MultiHeadAttention at attn: .* \("num_heads" is missing\)'):
        read([call], {"x": [1, 3, 8]}, ["y"])
