"""Does no result beat its bound: on any machine, blocks or none, for layers of every kind and small networks?"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import repeat
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine, machine_names
from tilewright.hw_models.spec import BlockSpec, BufferSpec, MachineSpec
from tilewright.search.network import simulate_stream
from tilewright.search.tiling import best_tiling
from tilewright.search.workload import pieces
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import Dataflow, dataflow_names, get_dataflow
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import Fused, GemmLayer, VectorLayer
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

# `make fuzz N=10000` sets this; the quick suite runs some.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "40"))
thorough = settings(max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

EDGE = load_machine("edge-16x16")


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


@st.composite
def machines(draw: st.DrawFn) -> MachineSpec:
    """Arrays and units that multiply blocks, of any size and rate, cores, fast and slow memories, of which up to
    two are levels behind the working buffer.
    """
    block = None
    if draw(st.booleans()):
        style = draw(one_of("cube", "tensor_core", "dot_product_tree"))
        block = BlockSpec(
            style=style, depth=draw(st.integers(1, 16)), step_cycles=draw(st.integers(1, 4)), pipeline_cycles=3
        )
    rates = {"fp16": draw(one_of(0.5, 1, 2)), "int8": draw(one_of(1, 2, 4))}
    matrix = replace(
        EDGE.matrix,
        rows=draw(one_of(1, 3, 8, 16)),
        columns=draw(one_of(1, 4, 7, 16)),
        stationarity="output" if block else draw(one_of("output", "weight", "input", "flexible")),
        fill_drain=draw(one_of("per_pass", "per_command", "hidden")),
        multiplies_per_pe_per_cycle=rates,
        block=block,
    )
    far = tuple(
        BufferSpec(
            name=f"l{level}",
            capacity_kib=draw(one_of(1, 32)) * 4**level,
            read_bytes_per_cycle=draw(one_of(0.5, 7, 300)),
            write_bytes_per_cycle=draw(one_of(0.5, 7, 300)),
            shared_by_cores=draw(st.booleans()),
            latency_cycles=draw(one_of(0, 9)),
        )
        for level in range(2, 2 + draw(one_of(0, 0, 1, 2)))
    )
    pj = dict.fromkeys(("l1", *(buffer.name for buffer in far)), 1.0)
    energy = replace(
        EDGE.energy,
        multiply_accumulate_pj=dict.fromkeys(rates, 1.0),
        buffer_read_pj_per_byte=pj,
        buffer_write_pj_per_byte=pj,
    )
    vector = replace(
        EDGE.vector,
        lanes=draw(one_of(1, 5, 64)),
        cycles={kind: draw(st.integers(0, 3)) for kind in EDGE.vector.cycles},
        startup_cycles=draw(one_of(0, 5)),
        reduction_depth_cycles=draw(one_of(0, 3)),
    )
    buffers, n_cores = (*EDGE.buffers, *far), draw(one_of(1, 1, 2, 5))
    machine = replace(EDGE, matrix=matrix, energy=energy, vector=vector, buffers=buffers, n_cores=n_cores)
    return machine.with_(
        **{
            "dram.bandwidth_gb_per_s": draw(one_of(0.7, 12.3456789, 3000)),
            "dram.first_access_latency_ns": draw(one_of(0, 40)),
            "dram.burst_bytes": draw(one_of(1, 32)),
            "dram.detail": draw(one_of("bandwidth", "bandwidth", "row_buffer")),
            "buffers.l1.capacity_kib": draw(one_of(2, 16, 1024)),
        }
    )


@st.composite
def products(draw: st.DrawFn) -> GemmLayer:
    k, window, m = draw(st.integers(1, 70)), None, draw(st.integers(1, 70))
    if draw(st.booleans()):
        size, kernel, stride = draw(st.integers(3, 12)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        out = (size - kernel) // stride + 1
        window = ConvWindow(size, size, out, out, kernel, kernel, stride, stride, images=draw(st.integers(1, 2)))
        m, k = window.images * out * out, window.taps * draw(st.integers(1, 5))
    bits = one_of(4, 8, 16)
    operations = draw(one_of((), (("max", 1),), (("add", 2), ("exp", 1))))
    return GemmLayer(
        name="product", groups=draw(one_of(1, 1, 3)), m=m, k=k, n=draw(st.integers(1, 70)),
        a_bits=draw(bits), b_bits=draw(bits), out_bits=draw(bits), accumulator_bits=32,
        compute_format=draw(one_of("fp16", "int8")), window=window, fused=Fused(operations),
    )  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> VectorLayer:
    return VectorLayer(
        name="rows", rows=draw(st.integers(1, 60)), read_bytes=draw(st.integers(1, 90)),
        write_bytes=draw(st.integers(0, 90)), reduces=draw(st.booleans()),
        operations=draw(one_of((), (("max", 3),), (("mul", 9), ("add", 9)))),
    )  # fmt: skip


@st.composite
def attentions(draw: st.DrawFn) -> AttentionLayer:
    kv_heads = draw(st.integers(1, 2))
    return AttentionLayer(
        name="attention", batch=draw(st.integers(1, 2)), query_heads=kv_heads * draw(st.integers(1, 2)),
        kv_heads=kv_heads, query_len=draw(st.integers(1, 40)), key_len=draw(st.integers(40, 60)),
        head_dim=draw(one_of(5, 16)), value_dim=draw(one_of(8, 16)), mask=draw(one_of("none", "causal")),
    )  # fmt: skip


def kind_of(layer: GemmLayer | VectorLayer | AttentionLayer) -> str:
    if isinstance(layer, AttentionLayer):
        return "attention"
    return "gemm" if isinstance(layer, GemmLayer) else "vector"


def check_bound(dataflow: Dataflow, piece: Any, machine: MachineSpec, data: st.DataObject) -> None:
    """Any tiling of the space that fits: not below the bound, no unit busier than always."""
    tiling: dict[str, int] = {}
    for phase in dataflow.phases:
        space = list(phase.space(piece, machine))
        assume(space)  # nothing to stage, nothing to send: then it is another dataflow's
        tiling |= data.draw(st.sampled_from(space))
    try:
        result = evaluate(dataflow, piece, machine, tiling)
    except MappingError:
        return
    assert result.cycles >= result.lower_bound.cycles
    assert max(result.matrix_utilization, result.vector_utilization, result.dram_utilization) <= 1


@thorough
@given(machine=machines(), layer=products() | rows() | attentions(), data=st.data())
def test_no_layer_beats_its_bound(machine: MachineSpec, layer: Any, data: st.DataObject) -> None:
    """Any tiling that fits; equal pieces for the cores, too."""
    kind = kind_of(layer)
    dataflow = get_dataflow(data.draw(st.sampled_from(dataflow_names(kind))), kind)
    if isinstance(layer, GemmLayer):
        layer = data.draw(st.sampled_from(layer.cuts(machine.n_cores)))
    if dataflow.refusal(layer, machine):
        return
    check_bound(dataflow, layer, machine, data)


@thorough
@given(name=st.sampled_from(machine_names()), layer=products() | rows() | attentions(), data=st.data())
def test_no_layer_beats_its_bound_on_a_shipped_machine(name: str, layer: Any, data: st.DataObject) -> None:
    """In each format that the machine multiplies, however the product is cut, with any tiling that fits."""
    machine = load_machine(name)
    formats = tuple(machine.matrix.multiplies_per_pe_per_cycle)
    if isinstance(layer, GemmLayer):
        layer = replace(layer, compute_format=data.draw(st.sampled_from(formats)))
    if isinstance(layer, AttentionLayer):
        layer = replace(layer, qkv_format=formats[0], key_format="", value_format="", output_format="")
    kind = kind_of(layer)
    flows = [flow for flow in map(get_dataflow, dataflow_names(kind), repeat(kind)) if not flow.refusal(layer, machine)]
    dataflow = data.draw(st.sampled_from(flows))
    piece = data.draw(st.sampled_from(pieces(layer, machine, dataflow)))
    check_bound(dataflow, piece, machine, data)


@st.composite
def networks(draw: st.DrawFn) -> OperatorStream:
    """Linear layers, norms, attention; convolutions plain and depthwise."""
    number_format = draw(one_of("fp16", "int8"))
    b = Layers("small", activations=number_format, weights=number_format)
    width = 16 * draw(st.integers(1, 5))
    x = b.input("x", (1, draw(st.integers(1, 40)), width))
    image = b.input("image", (1, 8, 9, 9))
    for block in range(draw(st.integers(1, 2))):
        with b.scope("block", block):
            x = b.norm(x, "norm")
            q, k, v = (b.linear(x, width, name) for name in "qkv")
            x = b.linear(b.attention(q, k, v, "attention", head_dim=16), width, "out")
            x = b.elementwise("relu", b.linear(x, 2 * width, "up"))
            x = b.linear(x, width, "down")
            image = b.conv(b.conv(image, 8, 3, "depthwise", groups=8), 8, 3, "conv")
    return b.finish([x, image])


@settings(thorough, max_examples=max(5, N_EXAMPLES // 8))
@given(machine=machines(), stream=networks())
def test_no_operator_of_a_network_beats_its_bound(machine: MachineSpec, stream: OperatorStream) -> None:
    machine = machine.with_(**{"buffers.l1.capacity_kib": 256})
    result = simulate_stream(stream, machine)
    for operator in result.operators:
        assert operator.cycles >= operator.lower_bound.cycles, operator.name
    assert result.cycles >= result.lower_bound_cycles


@pytest.mark.parametrize(("depth", "step_cycles"), [(1, 1), (8, 1), (8, 2)])
def test_the_bound_of_blocks_is_tight(depth: int, step_cycles: int) -> None:
    """A product of whole blocks on fast memory comes within a twentieth of its bound: rows x columns x depth / step."""
    block = BlockSpec(style="cube", depth=depth, step_cycles=step_cycles, pipeline_cycles=1)
    machine = replace(EDGE, matrix=replace(EDGE.matrix, block=block)).with_(
        **{"dram.bandwidth_gb_per_s": 100_000, "dram.first_access_latency_ns": 0}
    )
    layer = GemmLayer(
        name="product", groups=1, m=256, k=256, n=256, a_bits=16, b_bits=16, out_bits=16, accumulator_bits=32,
        compute_format="fp16",
    )  # fmt: skip
    dataflow = get_dataflow("gemm", "gemm")
    result = evaluate(dataflow, layer, machine, best_tiling(dataflow, layer, machine).tiling)
    assert result.lower_bound.matrix_cycles == 256**3 * step_cycles // (256 * depth)
    assert 1 <= result.cycles / result.lower_bound.cycles < 1.05
