"""Operator streams as jobs: nothing lost, fused only what may be, convolutions with the right windows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.sim.dataflows.gemm.numbers import convolution
from tilewright.sim.jobs import Job, jobs_of
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import Fused, GemmLayer, VectorLayer
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

NETWORKS = ("resnet-18", "mobilenet-v2", "bert-base", "llama-3.2-1b:prefill=64", "dit-xl-2", "sd-1.5-unet")


def linear(b: StreamBuilder, x: str, n: int, name: str, **changes: Any) -> str:
    *lead, k = b.shape(x)
    m = int(np.prod(lead))
    return b.add("matmul", name, [x, b.weight(f"{name}.w", (n, k))], (*lead, n), {"batch": 1, "m": m, "k": k, "n": n})


def elementwise(b: StreamBuilder, function: str, *inputs: str, **changes: Any) -> str:
    shape = b.shape(inputs[0])
    sizes = {"function": function, "n_elements": int(np.prod(shape))}
    return b.add("elementwise", function, inputs, shape, sizes, **changes)


def conv(b: StreamBuilder, x: str, n_out: int, *, transposed: bool = False, groups: int = 1, **sizes: Any) -> str:
    batch, n_in, *in_size = b.shape(x)
    n = len(in_size)
    kernel, stride, dilation = (sizes.get(key, (default,) * n) for key, default in
                                (("kernel", 3), ("stride", 1), ("dilation", 1)))  # fmt: skip
    pad, more = sizes.get("padding", (1,) * n), sizes.get("output_padding", (0,) * n)
    if transposed:
        out = [(i - 1) * s - 2 * p + d * (k - 1) + 1 + o for i, s, p, d, k, o in
               zip(in_size, stride, pad, dilation, kernel, more, strict=True)]  # fmt: skip
    else:
        out = [(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, s, p, d, k in
               zip(in_size, stride, pad, dilation, kernel, strict=True)]  # fmt: skip
    weight = b.weight("w", (n_out, n_in // groups, *kernel))
    attributes = {
        "batch": batch, "groups": groups, "in_channels": n_in, "out_channels": n_out, "in_size": in_size,
        "out_size": out, "kernel": kernel, "stride": stride, "padding": (*pad, *pad), "dilation": dilation,
        "transposed": transposed,
    }  # fmt: skip
    return b.add("conv", "conv", [x, weight], (batch, n_out, *out), attributes)


def macs(job: Job) -> int:
    """What the job's layer multiplies."""
    if isinstance(job.layer, VectorLayer):
        return job.layer.rows * dict(job.layer.operations).get("mul", 0) if job.operators[0].kind == "conv" else 0
    return job.layer.macs


def product_of(stream: OperatorStream) -> GemmLayer:
    (job,) = jobs_of(stream)
    assert isinstance(job.layer, GemmLayer)
    return job.layer


# -- nothing lost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_operator_is_in_one_job_and_no_product_is_lost(network: str, fuse: bool) -> None:
    stream = load_network(network)
    jobs = jobs_of(stream, fuse=fuse)
    done = Counter(operator.name for job in jobs for operator in job.operators)
    assert done == Counter(operator.name for operator in stream.operators)
    assert fuse or all(len(job.operators) == 1 for job in jobs)
    for job in jobs:
        counted = sum(operator.macs for operator in job.operators)
        if isinstance(job.layer, VectorLayer):  # a share per row, rounded up
            assert counted <= macs(job) < counted + job.layer.rows + 1
        else:
            assert macs(job) == counted
    assert sum(operator.macs for job in jobs for operator in job.operators) == stream.macs


@pytest.mark.parametrize("network", NETWORKS)
def test_a_job_reads_only_what_is_there(network: str) -> None:
    """Fused operators move forward to their product; all they need is older than it."""
    stream = load_network(network)
    written = {stream.base(name).name for name in stream.inputs}
    written |= {tensor.name for tensor in stream.tensors if tensor.role in ("weight", "constant")}
    for job in jobs_of(stream):
        for operator in job.operators:
            assert {stream.base(name).name for name in operator.inputs} <= written
            written |= set(operator.outputs)


@pytest.mark.parametrize("network", NETWORKS)
def test_vector_work_and_bytes_are_at_least_those_of_the_operators(network: str) -> None:
    stream = load_network(network)
    for job in jobs_of(stream, fuse=False):
        if isinstance(job.layer, VectorLayer):
            (operator,), rows = job.operators, job.layer.rows
            reads, writes = stream.read_bytes(operator), stream.write_bytes(operator)
            assert reads <= rows * job.layer.read_bytes < reads + rows
            assert writes <= rows * job.layer.write_bytes < writes + rows
            assert rows * job.layer.compulsory_bytes // rows <= 1.05 * (reads + writes) + 64


# -- what is fused -----------------------------------------------------------------------------------------


def block(outputs: tuple[str, ...] = ("sum",), *, second_reader: bool = False, viewed: bool = False) -> OperatorStream:
    """x W1, relu, W2, + x."""
    b = StreamBuilder("block", activations="int8", weights="int8")
    names = {"x": b.input("x", (32, 16))}
    names["one"] = linear(b, names["x"], 64, "one")
    names["relu"] = elementwise(b, "relu", names["one"])
    names["two"] = linear(b, names["relu"], 16, "two")
    names["sum"] = elementwise(b, "add", names["two"], names["x"])
    if second_reader:
        names["more"] = elementwise(b, "exp", names["one"])
    if viewed:
        names["one"] = b.view(names["one"], (64, 32))
    return b.finish([names[name] for name in outputs])


def test_activation_and_residual_are_fused() -> None:
    first, second = jobs_of(block())
    assert [[o.name for o in job.operators] for job in (first, second)] == [["one", "relu"], ["two", "add"]]
    assert isinstance(first.layer, GemmLayer)
    assert isinstance(second.layer, GemmLayer)
    assert first.layer.fused == Fused((("max", 1),))
    assert second.layer.fused == Fused((("add", 1),), (8,))
    assert (first.weight_bytes, second.weight_bytes) == (16 * 64, 16 * 64)


def test_nothing_is_fused_when_not_wanted() -> None:
    assert [job.kind for job in jobs_of(block(), fuse=False)] == ["gemm", "vector", "gemm", "vector"]


def test_a_result_with_two_readers_is_stored() -> None:
    assert [len(job.operators) for job in jobs_of(block(("sum", "more"), second_reader=True))] == [1, 1, 2, 1]


@pytest.mark.parametrize("viewed", [False, True], ids=["itself", "through a view"])
def test_a_result_that_leaves_the_network_is_stored(viewed: bool) -> None:
    assert [len(job.operators) for job in jobs_of(block(("sum", "one"), viewed=viewed))] == [1, 1, 2]


def test_of_two_branches_the_later_takes_the_sum() -> None:
    b = StreamBuilder("branches")
    x = b.input("x", (8, 16))
    left, right = linear(b, x, 16, "left"), linear(b, x, 16, "right")
    jobs = jobs_of(b.finish([elementwise(b, "add", left, right)]))
    assert [[o.name for o in job.operators] for job in jobs] == [["left"], ["right", "add"]]


def test_small_inputs_ride_and_large_ones_are_loaded() -> None:
    """Of 64 x 32 results: 32 trained values ride, 64 x 32 / 4 others are loaded as if there were all."""
    for role, shape, bits in (("weight", (32,), ()), ("input", (2, 32), ()), ("input", (16, 32), (16,))):
        b = StreamBuilder("small")
        y = linear(b, b.input("x", (64, 8)), 32, "product")
        other = b.weight("other", shape) if role == "weight" else b.input("other", shape)
        layer = product_of(b.finish([elementwise(b, "mul", y, other)]))
        assert layer.fused == Fused((("mul", 1),), bits)


def test_followers_of_a_depthwise_convolution_are_counted() -> None:
    b = StreamBuilder("depthwise", activations="int8", weights="int8")
    x = b.input("x", (1, 8, 6, 6))
    y = conv(b, x, 8, groups=8)
    stream = b.finish([elementwise(b, "add", elementwise(b, "relu", y), x)])
    (job,) = jobs_of(stream)
    layer = job.layer
    assert isinstance(layer, VectorLayer)
    assert [o.name for o in job.operators] == ["conv", "relu", "add"]
    n, total = 8 * 36, {kind: layer.rows * times for kind, times in layer.operations}
    assert (total["mul"], total["add"], total["max"]) == pytest.approx((9 * n, 10 * n, n), rel=0.02)
    assert layer.rows * layer.read_bytes == pytest.approx(n + 72 + n, rel=0.02)  # map, weights, residual
    assert layer.rows * layer.write_bytes == pytest.approx(n, rel=0.02)


# -- formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "activations", "multiplied", "sums"),
    [("int4", "int8", "int8", 32), ("int4", "fp16", "fp16", 32), ("fp64", "fp64", "fp64", 64)],
)
def test_formats_reach_the_layer(weights: str, activations: str, multiplied: str, sums: int) -> None:
    stream = block().with_formats(weights=weights, activations=activations)
    layer = jobs_of(stream)[1].layer
    assert isinstance(layer, GemmLayer)
    assert (layer.compute_format, layer.accumulator_bits) == (multiplied, sums)
    bits = {"int4": 4, "int8": 8, "fp16": 16, "fp64": 64}
    assert (layer.a_bits, layer.b_bits, layer.out_bits) == (bits[activations], bits[weights], bits[activations])
    assert layer.fused.extra_bits == (bits[activations],)


def test_attention_takes_the_streams_format() -> None:
    stream = load_network("bert-base").with_formats(activations="int8")
    layer = next(job.layer for job in jobs_of(stream) if isinstance(job.layer, AttentionLayer))
    assert (layer.qkv_format, layer.score_format) == ("int8", "fp16")  # softmax is done in 16 bits


# -- convolutions ------------------------------------------------------------------------------------------


def test_one_matrix_for_the_whole_batch_is_one_product() -> None:
    b = StreamBuilder("batch")
    sizes = {"batch": 3, "m": 4, "k": 5, "n": 6}
    x, w = b.input("x", (3, 4, 5)), b.weight("w", (5, 6))
    layer = product_of(b.finish([b.add("matmul", "p", [x, w], (3, 4, 6), sizes)]))
    assert (layer.groups, layer.m, layer.b_is_weight) == (1, 12, True)
    b = StreamBuilder("batch")
    x, y = b.input("x", (3, 4, 5)), b.input("y", (3, 5, 6))
    layer = product_of(b.finish([b.add("matmul", "p", [x, y], (3, 4, 6), sizes)]))
    assert (layer.groups, layer.m, layer.b_is_weight) == (3, 4, False)


def test_windows() -> None:
    b = StreamBuilder("windows")
    x = b.input("x", (2, 8, 20, 30))
    stream = b.finish([conv(b, x, 12, groups=4, kernel=(3, 5), stride=(2, 1), dilation=(1, 2), padding=(1, 0))])
    layer = product_of(stream)
    assert layer.window is not None
    assert layer.window == (20, 30, 10, 22, 3, 5, 2, 1, 2, 1, 2, 1, 0, 0, 0)
    assert (layer.groups, layer.m, layer.k, layer.n) == (4, 2 * 10 * 22, 15 * 2, 3)
    assert layer.window.reach_width == 9


def test_one_and_three_dimensions() -> None:
    b = StreamBuilder("line")
    line = product_of(b.finish([conv(b, b.input("x", (2, 8, 50)), 4, kernel=(5,), padding=(2,))]))
    assert (line.m, line.k, line.n) == (100, 40, 4)
    assert line.window is not None
    assert line.window[:8] == (1, 50, 1, 50, 1, 5, 1, 1)
    b = StreamBuilder("video")
    stream = b.finish(
        [conv(b, b.input("x", (1, 3, 4, 8, 8)), 16, kernel=(2, 4, 4), stride=(2, 4, 4), padding=(0, 0, 0))]
    )
    video = product_of(stream)
    assert (video.m, video.k, video.n, video.macs) == (2 * 2 * 2, 3 * 32, 16, stream.macs)
    assert video.window is not None
    assert video.window.needed_pixels * (video.k // video.window.taps) == 3 * 4 * 8 * 8  # every input value once
    b = StreamBuilder("too many")
    x, four = b.input("x", (1, 2, 3, 3, 3, 3)), (1, 1, 1, 1)
    with pytest.raises(InputError, match=r"^conv: kernel: given 4 dimensions, allowed 1 to 3$"):
        jobs_of(b.finish([conv(b, x, 2, kernel=four, padding=(0, 0, 0, 0))]))


TRANSPOSED = {
    "2, stride 2": {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)},
    "4, stride 2, padding 1": {"kernel": (4, 4), "stride": (2, 2), "padding": (1, 1)},
    "3, stride 2": {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "output_padding": (1, 1)},
    "3, stride 1": {"kernel": (3, 3)},
    "8, stride 4, padding 2": {"kernel": (8, 8), "stride": (4, 4), "padding": (2, 2)},
}


@pytest.mark.parametrize("sizes", TRANSPOSED.values(), ids=TRANSPOSED)
def test_transposed_convolutions(sizes: dict[str, Any]) -> None:
    """All phases together make every output; each phase's inputs lie in the window; nothing is multiplied twice."""
    b = StreamBuilder("turned")
    stream = b.finish([conv(b, b.input("x", (2, 3, 6, 5)), 7, transposed=True, **sizes)])
    layer, (operator,) = product_of(stream), stream.operators
    window, (kernel, stride, pad) = layer.window, (operator.sizes(key)[0] for key in ("kernel", "stride", "padding"))
    assert window is not None
    assert layer.m * layer.n == stream.tensor(stream.outputs[0]).n_elements
    if kernel % stride == 0:
        assert layer.macs == stream.macs
    else:
        assert stream.macs < layer.macs < 2 * stream.macs
    for place in range(window.out_height):
        taps = {
            (out + pad - tap) // stride
            for out in range(place * stride, min((place + 1) * stride, operator.sizes("out_size")[0]))
            for tap in range(kernel)
            if (out + pad - tap) % stride == 0
        }
        needed = [row for row in taps if 0 <= row < window.in_height]
        begin = place - window.pad_top
        assert all(begin <= row < begin + window.reach_height for row in needed)
        assert window.slab_at(place * window.out_width, window.out_width).rows >= len(needed)


def test_a_convolution_by_its_window_is_the_convolution() -> None:
    """The reference of the numeric tests against the definition."""
    b = StreamBuilder("reference")
    stream = b.finish([conv(b, b.input("x", (2, 3, 7, 6)), 4, stride=(2, 1), dilation=(1, 2), padding=(1, 2))])
    layer, random = product_of(stream), np.random.default_rng(1)
    window = layer.window
    assert window is not None
    x, w = random.normal(size=(2, 3, 7, 6)), random.normal(size=(4, 3, 3, 3))
    got = convolution(window, x.transpose(0, 2, 3, 1), w.reshape(4, -1).T)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    want = np.zeros((2, window.out_height, window.out_width, 4))
    for row, column in np.ndindex(window.out_height, window.out_width):
        patch = padded[:, :, row * 2 : row * 2 + 3, column : column + 5 : 2]
        want[:, row, column] = np.einsum("bcij,ocij->bo", patch, w)
    np.testing.assert_allclose(got, want.reshape(-1, 4), rtol=1e-12)


def test_jobs_that_cost_the_same_are_equal() -> None:
    stream = load_network("bert-base")
    assert len({job.layer for job in jobs_of(stream)}) < 12
    renamed = replace(stream, name="other")
    assert [job.layer for job in jobs_of(renamed)] == [job.layer for job in jobs_of(stream)]
