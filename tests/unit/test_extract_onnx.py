"""ONNX files: what is read, formats from quantise and dequantise nodes, and what is refused in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tilewright[onnx]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tilewright.workloads.extract.onnx import stream_from_onnx  # noqa: E402

pytestmark = pytest.mark.extras


def tensor(name: str, *shape: int, dtype: Any = np.float32) -> Any:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 7
    return numpy_helper.from_array(values.astype(dtype), name)


def numbers(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def model(
    nodes: list[Any],
    inputs: dict[str, list[Any]],
    outputs: list[str],
    held: list[Any],
    *,
    opset: int = 20,
    domains: tuple[str, ...] = (),
) -> Any:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "net", given, results, held)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def small_net(opset: int = 20, batch: Any = 2) -> Any:
    """conv 3 to 8, batch norm, relu, max pool, global mean, linear to 5."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="/stem/conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"], name="/stem/norm"),
        node("Relu", ["n"], ["r"], name="/stem/relu"),
        node("MaxPool", ["r"], ["p"], name="/pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p"], ["a"], name="/mean"),
        node("Flatten", ["a"], ["f"], name="/flatten"),
        node("Gemm", ["f", "fw", "fb"], ["y"], name="/head", transB=1),
    ]
    held = [tensor("w", 8, 3, 3, 3), *(tensor(name, 8) for name in "gsmv"), tensor("fw", 5, 8), tensor("fb", 5)]
    return model(nodes, {"x": [batch, 3, 16, 16]}, ["y"], held, opset=opset)


def functions(stream: OperatorStream) -> list[str]:
    return [f"{op.kind} {op.text('function')}".strip() for op in stream.operators]


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [9, 13, 17, 22])
def test_a_small_network(opset: int) -> None:
    stream = stream_from_onnx(small_net(opset))
    assert functions(stream) == ["conv", "elementwise relu", "pool max", "reduction mean", "matmul"]
    assert [op.path for op in stream.operators] == ["stem.conv", "stem.relu", "pool", "mean", "head"]
    assert stream.macs == 2 * 8 * 8 * 8 * 27 + 2 * 8 * 5
    assert stream.n_weights == 8 * 27 + 8 + 5 * 8 + 5
    assert stream.n_parameters == 8 * 27 + 16 + 5 * 8 + 5
    assert len(stream.operators[0].inputs) == 3  # the folded norm is its bias


def test_batch_norms_stay_apart_on_request() -> None:
    assert functions(stream_from_onnx(small_net(), fold_batch_norm=False))[:2] == ["conv", "norm batch"]


def test_a_file_and_its_open_dimension(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(small_net(batch="n"), path)
    assert load_network(f"{path}:n=4").macs == 2 * stream_from_onnx(small_net()).macs
    with pytest.raises(InputError, match=r"net\.onnx: dimensions left open: n \(of x\); give their sizes, such as n=1"):
        load_network(path)
    with pytest.raises(InputError, match=r'net\.onnx: unknown dimension; given "m"; allowed n'):
        load_network(f"{path}:m=4")


def test_shapes_that_are_computed_in_the_graph() -> None:
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "rest"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["rows"]),
        node("MatMul", ["rows", "w"], ["y"]),
    ]
    held = [numpy_helper.from_array(np.array(0), "zero"), numbers("axis", 0), numbers("rest", -1), tensor("w", 12, 5)]
    stream = stream_from_onnx(model(nodes, {"x": [4, 3, 4]}, ["y"], held))
    assert functions(stream) == ["matmul"]
    assert stream.macs == 4 * 12 * 5
    assert stream.tensor("w").shape == (5, 12)


def test_layer_norm_and_gelu_of_old_exporters() -> None:
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=[-1]),
        node("Sub", ["x", "mean"], ["d"]),
        node("Pow", ["d", "two"], ["d2"]),
        node("ReduceMean", ["d2"], ["var"], axes=[-1]),
        node("Add", ["var", "eps"], ["v1"]),
        node("Sqrt", ["v1"], ["std"]),
        node("Div", ["d", "std"], ["n"]),
        node("Mul", ["n", "g"], ["ng"]),
        node("Add", ["ng", "b"], ["h"]),
        node("Div", ["h", "root"], ["h1"]),
        node("Erf", ["h1"], ["e"]),
        node("Add", ["e", "one"], ["e1"]),
        node("Mul", ["h", "e1"], ["he"]),
        node("Mul", ["he", "half"], ["y"]),
    ]
    scalars = {"two": 2.0, "eps": 1e-5, "root": 2**0.5, "one": 1.0, "half": 0.5}
    held = [numpy_helper.from_array(np.array(value, dtype=np.float32), name) for name, value in scalars.items()]
    held += [tensor("g", 16), tensor("b", 16)]
    stream = stream_from_onnx(model(nodes, {"x": [1, 4, 16]}, ["y"], held, opset=11))
    assert functions(stream) == ["norm layer", "elementwise gelu"]


def test_attention_operator_with_heads_side_by_side() -> None:
    nodes = [helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=4, kv_num_heads=2, is_causal=1)]
    stream = stream_from_onnx(model(nodes, {"q": [1, 6, 32], "k": [1, 6, 16], "v": [1, 6, 16]}, ["y"], [], opset=23))
    operator = stream.operators[0]
    assert [operator.count(key) for key in ("query_heads", "kv_heads", "head_dim")] == [4, 2, 8]
    assert operator.text("mask") == "causal"


# --- number formats -------------------------------------------------------------------------------------------------


def test_quantise_and_dequantise_nodes_give_the_formats() -> None:
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], name="/quant"),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        node("DequantizeLinear", ["wq", "sw"], ["wd"], axis=0),
        node("Conv", ["xd", "wd", "b"], ["y"], name="/conv"),
    ]
    scale = numpy_helper.from_array(np.array(0.1, dtype=np.float32), "sx")
    zero = numpy_helper.from_array(np.array(3, dtype=np.uint8), "zx")
    held = [scale, zero, tensor("wq", 8, 3, 1, 1, dtype=np.int8), tensor("sw", 8), tensor("b", 8)]
    stream = stream_from_onnx(model(nodes, {"x": [1, 3, 4, 4]}, ["y"], held, opset=13))
    assert functions(stream) == ["quantize", "conv"]
    formats = [stream.tensor(name).number_format for name in stream.operators[1].inputs]
    assert formats == ["int8", "int8-channel-fp32", "fp32"]
    assert stream.tensor("wq").role == "weight"


def test_weights_quantised_in_blocks() -> None:
    packed = tensor("w", 16, 2, 16, dtype=np.uint8)
    nodes = [
        helper.make_node(
            "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=64, N=16, bits=4, block_size=32
        )
    ]
    made = model(nodes, {"x": [1, 5, 64]}, ["y"], [packed, tensor("s", 32)], domains=("com.microsoft",))
    stream = stream_from_onnx(made)
    assert stream.macs == 5 * 64 * 16
    weight = stream.tensor(stream.operators[0].inputs[1])
    assert weight.number_format == "int4-g32-fp32"
    assert weight.n_bytes == (64 * 16 * 4 + 32 * 32) // 8


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 30, 300, -1])
def test_a_truncated_file_is_one_line(tmp_path: Path, cut: int) -> None:
    data = small_net().SerializeToString()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[:cut])
    with pytest.raises(InputError) as fault:
        load_network(path)
    assert str(fault.value).startswith(f"{path}: is no")
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("content", [b"not a model at all", b"\x00" * 64, b"{}"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no"):
        load_network(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.onnx: no such file"):
        load_network(tmp_path / "no.onnx")


@pytest.mark.parametrize("opset", [6, 99])
def test_an_operator_set_out_of_range(opset: int) -> None:
    made = small_net()
    made.opset_import[0].version = opset
    with pytest.raises(InputError, match=f"unsupported ONNX operator set; given {opset}; allowed 7 to"):
        stream_from_onnx(made)


def test_an_operator_that_is_not_understood() -> None:
    nodes = [helper.make_node("Det", ["x"], ["y"], name="/block/det")]
    made = model(nodes, {"x": [4, 3, 3]}, ["y"], [])
    with pytest.raises(InputError, match=r"operators not understood: Det at block\.det"):
        stream_from_onnx(made)
    stream = stream_from_onnx(made, unknown="memory")
    assert functions(stream) == ["memory Det"]
    assert stream.read_bytes(stream.operators[0]) == 4 * 36
    assert functions(stream_from_onnx(made, unknown={"Det": "elementwise:mul"})) == ["elementwise mul"]


def test_a_size_that_depends_on_values() -> None:
    made = model([helper.make_node("NonZero", ["x"], ["y"], name="/pick")], {"x": [4, 3]}, ["y"], [])
    with pytest.raises(InputError, match=r"NonZero at pick: the size of its result depends on values"):
        stream_from_onnx(made)


def test_shapes_that_do_not_fit() -> None:
    made = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="/head")], {"x": [4, 3]}, ["y"], [tensor("w", 4, 4)]
    )
    with pytest.raises(InputError, match="head: "):
        stream_from_onnx(made)
