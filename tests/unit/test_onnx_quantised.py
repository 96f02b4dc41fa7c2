"""Quantised ONNX files: both spellings give the same, scales and zero points are counted, quantising rides along."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tilewright.hw_models.load import load_machine
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.network import simulate_stream
from tilewright.sim.jobs import jobs_of
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.kinds.quantize import QUANTISE_ASSUMPTION
from tilewright.workloads.stream.graph import OperatorStream

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tilewright[onnx]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tilewright.workloads.extract.onnx import stream_from_onnx  # noqa: E402

pytestmark = pytest.mark.extras
node = helper.make_node


def held(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: list[Any], x: tuple[int, list[int]], outputs: list[str], kept: list[Any], opset: int = 21, kind: int = 1
) -> Any:
    given = [helper.make_tensor_value_info("x", *x)]
    results = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph(nodes, "net", given, results, kept), opset_imports=sets, ir_version=10)


def conv_chain(spelling: str, channels: int = 64, size: int = 56, layers: int = 3) -> OperatorStream:
    """int8 convolutions with ReLU from quantised to quantised numbers; ``spelling``: qdq or qlinear."""
    kept = [held("s", np.float32(0.1)), held("z", np.uint8(0))]
    nodes, cur = [], "x"
    for i in range(layers):
        w, b = np.ones((channels, channels, 3, 3), np.int8), np.ones(channels, np.int32)
        ws = np.full(channels, 0.1, np.float32)
        wz = np.zeros(channels, np.int8)
        kept += [held(f"w{i}", w), held(f"ws{i}", ws), held(f"wz{i}", wz), held(f"b{i}", b)]
        if spelling == "qlinear":
            names = [cur, "s", "z", f"w{i}", f"ws{i}", f"wz{i}", "s", "z", f"b{i}"]
            nodes.append(node("QLinearConv", names, [f"q{i}"], kernel_shape=[3, 3], pads=[1] * 4))
        else:
            kept.append(held(f"bs{i}", ws))
            nodes += [
                node("DequantizeLinear", [cur, "s", "z"], [f"x{i}"]),
                node("DequantizeLinear", [f"w{i}", f"ws{i}", f"wz{i}"], [f"wd{i}"], axis=0),
                node("DequantizeLinear", [f"b{i}", f"bs{i}"], [f"bd{i}"], axis=0),
                node("Conv", [f"x{i}", f"wd{i}", f"bd{i}"], [f"c{i}"], kernel_shape=[3, 3], pads=[1] * 4),
                node("Relu", [f"c{i}"], [f"r{i}"]),
                node("QuantizeLinear", [f"r{i}", "s", "z"], [f"q{i}"]),
            ]
        cur = f"q{i}"
    return stream_from_onnx(
        model(nodes, (TensorProto.UINT8, [1, channels, size, size]), [cur], kept, 13, TensorProto.UINT8), name="chain"
    )


def moved(stream: OperatorStream) -> float:
    """Bytes that the jobs of a stream must move, each once."""
    layers = [job.layer for job in jobs_of(stream)]
    products = [layer.compulsory_bits / 8 for layer in layers if isinstance(layer, GemmLayer)]
    return float(sum(products) + sum(layer.compulsory_bytes for layer in layers if isinstance(layer, VectorLayer)))


def test_both_spellings_of_a_quantised_chain_are_the_same() -> None:
    qdq, qlinear = conv_chain("qdq"), conv_chain("qlinear")
    for stream in (qdq, qlinear):
        assert [operator.kind for operator in stream.operators] == ["conv", "quantize"] * 3
        assert [len(job.operators) for job in jobs_of(stream)] == [2, 2, 2]
        # 3 x (input + output + weights + one fp32 scale a channel)
        assert moved(stream) == 3 * (2 * 64 * 56 * 56 + 64 * 64 * 9 + 64 * 4)
        assert stream.n_parameters == 3 * (64 * 64 * 9 + 64)
    assert list(map(qdq.signature, qdq.operators)) == list(map(qlinear.signature, qlinear.operators))


def test_both_spellings_run_alike() -> None:
    machine = load_machine("edge-16x16")
    one, other = (
        simulate_stream(conv_chain(spelling, 16, 12, 2), machine, cache=ForgetfulCache())
        for spelling in ("qdq", "qlinear")
    )
    assert QUANTISE_ASSUMPTION in one.assumptions
    assert (one.cycles, one.dram_bytes, one.macs) == (other.cycles, other.dram_bytes, other.macs)


def test_a_chain_from_numbers_in_full_is_quantised_once() -> None:
    """qdq_chain of the reported files: its first quantise step reads fp32, all others ride on the convolutions."""
    kept = [held("s", np.float32(0.1)), held("z", np.uint8(0)), held("w", np.ones((8, 8, 1, 1), np.int8))]
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        node("DequantizeLinear", ["w", "s"], ["wd"]),
        node("Conv", ["xd", "wd"], ["c"]),
        node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    stream = stream_from_onnx(model(nodes, (TensorProto.FLOAT, [1, 8, 4, 4]), ["y"], kept, 13))
    assert [[op.kind for op in job.operators] for job in jobs_of(stream)] == [["quantize"], ["conv", "quantize"]]
    assert moved(stream) == (128 * 4 + 128) + (128 + 64 + 128)


def test_block_scales_of_four_bit_weights_are_counted() -> None:
    packed = helper.make_tensor("wq", TensorProto.INT4, [256, 128], np.zeros(256 * 64, np.uint8).tobytes(), raw=True)
    nodes = [
        node("DequantizeLinear", ["wq", "s"], ["w"], axis=0, block_size=32),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    made = model(nodes, (TensorProto.FLOAT16, [1, 16, 256]), ["y"], [packed, held("s", np.ones((8, 128), np.float16))])
    stream = stream_from_onnx(made)
    assert (stream.weight_bytes, stream.n_parameters) == (256 * 128 // 2 + 8 * 128 * 2, 256 * 128)
    assert (stream.weight_bytes, stream.macs) == (18_432, 16 * 256 * 128)


def test_matmulnbits_has_the_parameters_of_its_matrix() -> None:
    n = k = 4096
    kept = [
        held("w", np.zeros((n, k // 32, 16), np.uint8)),
        held("s", np.ones(n * k // 32, np.float16)),
        held("z", np.zeros(n * k // 64, np.uint8)),
    ]
    call = node("MatMulNBits", ["x", "w", "s", "z"], ["y"], domain="com.microsoft", K=k, N=n, bits=4, block_size=32)
    stream = stream_from_onnx(model([call], (TensorProto.FLOAT16, [1, 128, k]), ["y"], kept, 17))
    assert stream.n_parameters == 16_777_216
    assert stream.weight_bytes == n * k // 2 + n * k // 32 * 2 + n * k // 64 == 9_699_328


@pytest.mark.parametrize(("zero", "kept_relu"), [(0, False), (3, True)])
def test_a_relu_goes_where_negatives_quantise_to_zero_anyhow(zero: int, kept_relu: bool) -> None:
    kept = [held("s", np.float32(0.1)), held("z", np.uint8(zero)), held("w", np.ones((8, 8), np.float32))]
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Relu", ["m"], ["r"]),
        node("QuantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    stream = stream_from_onnx(model(nodes, (TensorProto.FLOAT, [4, 8]), ["y"], kept, 13, TensorProto.UINT8))
    assert ("elementwise" in [op.kind for op in stream.operators]) is kept_relu
    assert len(jobs_of(stream)) == 1


def test_moving_quantised_numbers_is_no_work_and_equal_steps_are_one() -> None:
    kept = [held("s", np.float32(0.1)), held("z", np.int8(0)), held("t", np.float32(0.2))]
    dq = [node("DequantizeLinear", ["x", "s", "z"], [name]) for name in ("a", "b")]
    nodes = [
        *dq,
        node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1]),
        node("QuantizeLinear", ["p", "s", "z"], ["pq"]),
        node("DequantizeLinear", ["pq", "s", "z"], ["pd"]),
        node("Concat", ["pd", "b"], ["c"], axis=1),
        node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        node("DequantizeLinear", ["cq", "s", "z"], ["cd"]),
        node("Sigmoid", ["cd"], ["g"]),
        node("QuantizeLinear", ["g", "t", "z"], ["y"]),
        node("QuantizeLinear", ["g", "t", "z"], ["y2"]),
    ]
    stream = stream_from_onnx(model(nodes, (TensorProto.INT8, [1, 8, 4, 4]), ["y", "y2"], kept, 13, TensorProto.INT8))
    assert [op.kind for op in stream.operators] == ["pool", "reshape", "elementwise", "quantize"]
    assert [len(job.operators) for job in jobs_of(stream)] == [1, 1, 2]
    assert moved(stream) == (128 + 128) + (256 + 256) + (256 + 256)


def test_a_step_that_measures_its_own_scale_is_not_fused() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("DynamicQuantizeLinear", ["m"], ["y", "ys", "yz"])]
    kept = [held("w", np.ones((8, 8), np.float32))]
    stream = stream_from_onnx(model(nodes, (TensorProto.FLOAT, [4, 8]), ["y", "ys"], kept, 13, TensorProto.UINT8))
    assert [len(job.operators) for job in jobs_of(stream)] == [1, 1]


def test_attention_between_quantise_steps_is_one_step() -> None:
    """Q K^T, a scale, a causal mask, softmax and P V, each result quantised: the scores stay inside."""

    def both(name: str) -> list[Any]:
        return [
            node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]),
            node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_d"]),
        ]

    size, width = 6, 8
    low = np.triu(np.full((size, size), -1e9, np.float32), 1)
    kept = [held("s", np.float32(0.1)), held("z", np.int8(0)), held("low", low)]
    nodes = [
        *both("x"),
        node("Transpose", ["x_d"], ["xt"], perm=[0, 2, 1]),
        node("MatMul", ["x_d", "xt"], ["m"]), *both("m"),
        node("Mul", ["m_d", "s"], ["c"]), *both("c"),
        node("Add", ["c_d", "low"], ["a"]), *both("a"),
        node("Softmax", ["a_d"], ["p"]), *both("p"),
        node("MatMul", ["p_d", "x_d"], ["y"]),
    ]  # fmt: skip
    stream = stream_from_onnx(model(nodes, (TensorProto.FLOAT, [2, size, width]), ["y"], kept, 13))
    assert [op.kind for op in stream.operators] == ["quantize", "attention"]
    assert stream.macs == 2 * 2 * width * size * (size + 1) // 2
    assert {stream.base(name).number_format for name in stream.operators[1].inputs} == {"int8"}
