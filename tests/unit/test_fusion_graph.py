"""Fusion graphs, groups as masks, and the costs of line buffers that can be counted by hand."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.sim.engine.run import run_program
from tilewright.sim.fusion.fused_run import simulate_scheme
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.graph.geometry import AxisWindow
from tilewright.sim.fusion.layer_alone import alone
from tilewright.sim.fusion.line_buffers.program import FusedTiling, fused_program, simulate_group
from tilewright.sim.fusion.scheme import FusionScheme, GroupCost, get_scheme, scheme_names
from tilewright.sim.fusion.schemes.lbdf import LineBuffers
from tilewright.sim.jobs import jobs_of
from tilewright.units import KIB, MIB
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")
PLENTY = 2**40


def residual(*, gate: bool = False) -> OperatorStream:
    """conv0 -> conv1 -> conv2 -> (gate) -> add with conv0's result -> relu; 8 channels of 16-bit on 20 x 10."""
    b = Layers("residual")
    x = b.conv(b.input("image", (1, 4, 20, 10)), 8, 3, "conv0")
    y = b.conv(b.conv(x, 8, 3, "conv1"), 8, 3, "conv2")
    if gate:
        pooled = b.view(b.global_mean(y, "pool"), (1, 8, 1, 1), "map")
        y = b.elementwise("mul", y, b.elementwise("sigmoid", pooled, name="gate"), name="scale")
    return b.finish([b.elementwise("relu", b.elementwise("add", y, x, name="add"), name="relu")])


def whole(stream: OperatorStream) -> tuple[FusionGraph, int]:
    graph = fusion_graph(stream)
    return graph, graph.all_mask


def test_nodes_and_edges_say_what_the_operators_are():
    graph = fusion_graph(load_network("mobilenet-v2"))
    assert [node.kind for node in graph.nodes[:4]] == ["conv", "elementwise", "depthwise", "elementwise"]
    stem = graph.nodes[0]
    assert stem.output.size == (32, 112, 112)
    assert (stem.kernel, stem.stride, stem.padding) == ((3, 3), (2, 2), (1, 1))
    assert stem.weight_bytes == (32 * 3 * 9 + 32) * 2
    assert graph.edges_in[0][0].rows == AxisWindow(224, 2, 1, 3)
    assert sum(node.macs for node in graph.nodes) == load_network("mobilenet-v2").macs
    assert graph.nodes[-1].is_output


def test_activations_ride_on_what_makes_their_input():
    stream = load_network("resnet-18")
    plain, absorbed = fusion_graph(stream), fusion_graph(stream, absorb=True)
    assert absorbed.nodes[0].operators == ("stem.conv", "stem.relu")
    assert len(absorbed) < len(plain)
    assert sum(n.weight_bytes for n in absorbed.nodes) == sum(n.weight_bytes for n in plain.nodes)


def test_groups_are_connected_and_convex():
    graph = fusion_graph(residual())
    conv0, conv1, conv2, add = (graph.mask_of([name]) for name in ("conv0", "conv1", "conv2", "add"))
    assert graph.is_group(conv0 | conv1)
    assert not graph.is_connected(conv0 | conv2)
    assert graph.is_connected(conv0 | add)
    assert not graph.is_convex(conv0 | add)
    assert not graph.is_acyclic([conv0 | add, conv1 | conv2, graph.mask_of(["relu"])])
    assert graph.order([conv1 | conv2, conv0]) == (conv0, conv1 | conv2)
    assert graph.components(conv0 | conv2) == (conv0, conv2)
    assert [graph.nodes[i].name for i in graph.needed_outside(conv0 | conv1)] == ["conv0", "conv1"]
    with pytest.raises(InputError, match='unknown operator; given "conv9"'):
        graph.mask_of(["conv9"])


def test_line_buffers_of_a_residual_block_by_hand():
    graph, mask = whole(residual())
    cost = LineBuffers(capacity_bytes=PLENTY).cost(graph, mask)
    row = 10 * 8 * 2
    image = 3 * 10 * 4 * 2  # three rows in front of a 3 x 3 convolution
    main = 3 * row  # conv1
    # conv0: the sum waits two rows for the main path, and its own row: three rows, as conv1 asks for anyway
    skip = 3 * row
    out = row  # conv2, add and relu share one row
    weights = (8 * 4 * 9 + 8 + 2 * (8 * 8 * 9 + 8)) * 2
    assert cost.buffer_bytes == weights + image + main + skip + out
    assert cost.weight_bytes == weights
    assert (cost.dram_read_bytes, cost.dram_write_bytes) == (4 * 200 * 2, 8 * 200 * 2)
    assert cost.valid(cost.buffer_bytes) and not cost.valid(cost.buffer_bytes - 1)
    by_element = LineBuffers(capacity_bytes=PLENTY, granularity="element").cost(graph, mask)
    pixels = (2 * 10 + 3) * 4 + 2 * (2 * 10 + 3) * 8 + 8
    assert by_element.buffer_bytes == weights + 2 * pixels


def test_a_gate_keeps_whole_maps():
    graph, mask = whole(residual(gate=True))
    cost = LineBuffers(capacity_bytes=PLENTY).cost(graph, mask)
    plain = LineBuffers(capacity_bytes=PLENTY).cost(*whole(residual()))
    whole_map = 20 * 10 * 8 * 2
    assert cost.buffer_bytes > plain.buffer_bytes + 2 * whole_map - 4 * 160 * 3
    assert cost.dram_bytes == plain.dram_bytes


@pytest.mark.parametrize("name", scheme_names())
def test_every_scheme_says_what_it_is_and_prices_single_nodes(name):
    scheme = get_scheme(name, 256 * KIB)
    assert isinstance(scheme, FusionScheme)
    assert scheme.name == name and scheme.source and scheme.assumptions
    graph = fusion_graph(residual())
    assert scheme.fusable_mask(graph)
    for node in graph.nodes:
        cost = scheme.cost(graph, node.bit)
        assert isinstance(cost, GroupCost)
        assert cost.reason is None
        assert scheme.cost(graph, node.bit) is cost  # remembered


def test_an_unknown_scheme_is_named():
    with pytest.raises(InputError, match=r'unknown fusion scheme; given "lbfd".*did you mean "lbdf"'):
        get_scheme("lbfd", MIB)


def test_a_layer_alone_takes_the_cheapest_tiles():
    graph = fusion_graph(load_network("vgg-16"))
    conv = next(node for node in graph.nodes if node.kind == "conv" and node.output.size == (512, 14, 14))
    plenty = alone(graph, conv.index, 2**30)
    assert plenty.dram_bytes == graph.edges_in[conv.index][0].tensor.n_bytes + conv.output.n_bytes + conv.weight_bytes
    small = alone(graph, conv.index, 128 * KIB)
    assert small.buffer_bytes <= 128 * KIB
    assert plenty.dram_bytes < small.dram_bytes < 2 * plenty.dram_bytes


def test_a_fused_program_skips_through_its_rows_and_moves_less():
    stream = load_network("resnet-18")
    graph = fusion_graph(stream)
    mask = sum(1 << i for i in range(8))  # stem and the first block
    result = simulate_group(stream, graph, mask, EDGE)
    apart = [simulate_scheme(get_scheme("lbdf", 5 * MIB), stream, graph, 1 << i, EDGE) for i in members(mask)]
    assert result.n_jumps > 0
    assert (
        result.dram_read_bytes + result.dram_write_bytes
        < sum(one.dram_read_bytes + one.dram_write_bytes for one in apart) / 3
    )
    assert result.energy_pj < sum(one.energy_pj for one in apart)
    assert result.peak_buffer_bytes == get_scheme("lbdf", 5 * MIB).cost(graph, mask).buffer_bytes
    faster = simulate_group(stream, graph, mask, EDGE, tiling=FusedTiling(spare_rows=1, rows_per_step=2))
    assert faster.cycles < result.cycles
    assert faster.peak_buffer_bytes > result.peak_buffer_bytes
    fastest = simulate_scheme(get_scheme("lbdf", 5 * MIB), stream, graph, mask, EDGE, fastest=True)
    assert fastest.cycles <= faster.cycles
    assert fastest.tiling["rows_per_step"] > 1


def test_several_images_run_one_after_the_other_with_the_weights_loaded_once():
    def network(batch: int) -> OperatorStream:
        b = Layers("batch")
        x = b.conv(b.input("image", (batch, 3, 8, 8)), 4, 3, "conv0")
        return b.finish([b.conv(x, 4, 3, "conv1", stride=2)])

    runs = []
    for batch in (1, 3):
        stream = network(batch)
        graph, mask = whole(stream)
        program = fused_program(stream, graph, mask, EDGE)
        loads = [c for _, c, times in program.commands() for _ in range(times) if c.label.startswith("load weights")]
        assert len(loads) == 2
        runs.append(run_program(program))
    assert runs[1].cycles < 3 * runs[0].cycles


def test_what_does_not_fit_or_hang_together_is_refused():
    stream = residual()
    graph, mask = whole(stream)
    small = EDGE.with_(**{"buffers.l1.capacity_kib": 2})
    with pytest.raises(MappingError, match="bytes of buffer l1"):
        fused_program(stream, graph, mask, small)
    with pytest.raises(InputError, match="must hang together"):
        fused_program(stream, graph, graph.mask_of(["conv0", "add"]), EDGE)
    with pytest.raises(InputError, match="rows_per_step: given -1"):
        FusedTiling(rows_per_step=-1)


@pytest.mark.parametrize(("n_dims", "transposed"), [(1, False), (2, False), (3, False), (2, True), (3, True)])
def test_groups_multiply_what_the_operator_multiplies(n_dims, transposed):
    """By the rules that layers alone go by: deep kernels count all their taps, a transposed one those of its phases."""
    b = Layers("deep")
    size, stride = (4,) * n_dims, (2,) * n_dims if transposed else (1,) * n_dims
    out = tuple(8 if transposed else 4 for _ in size)
    kernel, padding = ((4,) if transposed else (3,)) * n_dims, (1,) * (2 * n_dims)
    attributes = {
        "batch": 1, "groups": 1, "in_channels": 2, "out_channels": 3, "in_size": size, "out_size": out,
        "kernel": kernel, "stride": stride, "padding": padding, "dilation": (1,) * n_dims, "transposed": transposed,
    }  # fmt: skip
    weight = b.trained("weight", *((2, 3) if transposed else (3, 2)), *kernel)
    conv = b.add("conv", "conv", [b.input("x", (1, 2, *size)), weight], (1, 3, *out), attributes)
    stream = b.finish([conv])
    graph, mask = whole(stream)
    (layer,) = [job.layer for job in jobs_of(stream)]
    program = fused_program(stream, graph, mask, EDGE)
    macs = sum(sum(c.cost.counters.macs.values()) * times for _, c, times in program.commands())
    assert macs == layer.groups * layer.m * layer.k * layer.n
