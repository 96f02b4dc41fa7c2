"""Depth-first tiles give what the network gives, and compute, fetch and keep just what their geometry says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models.load import load_machine
from tilewright.sim.engine.run import simulate
from tilewright.sim.fusion.depth_first import group_cost
from tilewright.sim.fusion.depth_first_chip import run_tiles_on_numbers
from tilewright.sim.fusion.depth_first_geometry import MODES, DepthFirstGeometry, Mode, geometry
from tilewright.sim.fusion.depth_first_numeric import TiledRun, TileState, fresh_spans, make_part, run_tiled
from tilewright.sim.fusion.depth_first_program import TiledProgram
from tilewright.sim.fusion.depth_first_values import Values, Window, random_weights, run_unfused
from tilewright.sim.fusion.graph import FusionGraph, fusion_graph, members
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers


@dataclass
class Drawing:
    """A random small network of convolutions with strides, padding, groups, dilation, pools, sums and joins."""

    draw: st.DrawFn
    net: Layers = field(default_factory=lambda: Layers("random", activations="int8", weights="int8"))

    def of(self, *choices: int) -> int:
        return self.draw(st.sampled_from(choices))

    def stream(self) -> OperatorStream:
        size = [self.draw(st.integers(5, 12)) for _ in range(2)]
        x = self.conv(self.net.input("x", (1, self.of(1, 2, 4), *size)), "stem", same=True)
        for i in range(self.of(1, 2, 3, 4)):
            x = self.block(x, f"b{i}")
        outputs = [x]
        if self.draw(st.booleans()):  # a result besides the last one
            outputs.insert(0, self.conv(x, "side"))
            outputs[1] = self.conv(x, "last")
        return self.net.finish(outputs)

    def block(self, x: str, name: str) -> str:
        kind = self.draw(
            st.sampled_from(("conv", "conv", "depthwise", "pool", "residual", "join", "up", "turned", "gate"))
        )
        height, width = self.net.shape(x)[2:]
        if kind == "depthwise":
            return self.conv(x, name, depthwise=True)
        if kind == "pool" and min(height, width) >= 3:
            return self.net.max_pool(x, self.of(2, 3), name, stride=self.of(1, 2), padding=self.of(0, 1))
        if kind == "residual":
            return self.net.elementwise(
                "add", x, self.conv(self.conv(x, f"{name}.1", same=True), f"{name}.2", same=True)
            )
        if kind == "join":
            parts = [self.conv(x, f"{name}.{i}", same=True, channels=self.of(1, 2, 3)) for i in range(2)]
            return self.net.concat([*parts, x], 1, name)
        if kind == "up" and max(height, width) <= 10:
            return self.net.upsample(x, 2, name)
        if kind == "turned" and max(height, width) <= 8:
            return self.turned(x, name)
        if kind == "gate":
            return self.net.elementwise("relu", self.conv(x, name))
        return self.conv(x, name)

    def conv(self, x: str, name: str, *, same: bool = False, depthwise: bool = False, channels: int = 0) -> str:
        _, n_in, height, width = self.net.shape(x)
        small = min(height, width)
        kernel = self.of(*[k for k in (1, 2, 3, 5) if k <= small and (not same or k % 2)])
        dilation = self.of(*[d for d in (1, 2) if d * (kernel - 1) + 1 <= small])
        padding = dilation * (kernel - 1) // 2 if same else self.of(*range(dilation * (kernel - 1) // 2 + 1))
        n_out = n_in if same and not channels else channels or self.of(1, 2, 3)
        groups = 2 if n_in % 2 == 0 and n_out % 2 == 0 and self.draw(st.booleans()) else 1
        if depthwise:
            n_out, groups = n_in, n_in
        return self.net.conv(
            x, n_out, kernel, name, groups=groups, padding=padding, dilation=dilation, bias=False,
            stride=1 if same else self.of(1, 1, 2, 3),
        )  # fmt: skip

    def turned(self, x: str, name: str) -> str:
        _, n_in, *size = self.net.shape(x)
        kernel, stride, pad = self.of(2, 3, 4), self.of(1, 2, 3), self.of(0, 1) if min(size) > 2 else 0
        kernel = max(kernel, stride)
        out = [(n - 1) * stride - 2 * pad + kernel for n in size]
        attributes = {
            "batch": 1, "groups": 1, "in_channels": n_in, "out_channels": 2, "in_size": size, "out_size": out,
            "kernel": (kernel, kernel), "stride": (stride, stride), "padding": (pad,) * 4, "dilation": (1, 1),
            "transposed": True,
        }  # fmt: skip
        weight = self.net.trained(f"{name}.weight", n_in, 2, kernel, kernel)
        return self.net.add("conv", name, [x, weight], [1, 2, *out], attributes)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[FusionGraph, Mode, tuple[int, int]]:
    graph = fusion_graph(Drawing(draw).stream())
    return graph, draw(st.sampled_from(MODES)), (draw(st.integers(1, 7)), draw(st.integers(1, 7)))


def network(graph: FusionGraph) -> tuple[dict[str, Values], dict[int, Values], dict[str, Values]]:
    """(inputs, weights, all maps) of a network on random whole numbers."""
    draw = np.random.default_rng(len(graph))
    inputs = {one.name: draw.integers(-4, 5, one.size).astype(float) for one in graph.inputs}
    weights = random_weights(graph, seed=7)
    return inputs, weights, run_unfused(graph, inputs, weights)


def run(graph: FusionGraph, plan: DepthFirstGeometry) -> tuple[TiledRun, dict[str, Values]]:
    _, weights, whole = network(graph)
    return run_tiled(plan, {name: whole[name] for name in plan.outside}, weights), whole


@settings(max_examples=100, deadline=None)
@given(tilings())
def test_tiles_give_what_the_network_gives(drawn: tuple[FusionGraph, Mode, tuple[int, int]]) -> None:
    graph, mode, tile = drawn
    plan = geometry(graph, graph.all_mask, mode, tile)
    tiled, whole = run(graph, plan)
    for name, values in tiled.results.items():
        assert np.array_equal(values, whole[name]), name


@settings(max_examples=60, deadline=None)
@given(tilings())
def test_what_is_counted_is_what_the_geometry_says(drawn: tuple[FusionGraph, Mode, tuple[int, int]]) -> None:
    graph, mode, tile = drawn
    plan = geometry(graph, graph.all_mask, mode, tile)
    tiled, _ = run(graph, plan)
    assert tiled.computed_pixels == {node: plan.computed_pixels(node) for node in members(plan.group)}
    assert tiled.fetched_pixels == plan.fetched_pixels
    for name in plan.maps:
        assert tiled.horizontal_pixels.get(name, 0) == plan.horizontal_cache_pixels(name)
        assert tiled.vertical_pixels.get(name, 0) == plan.vertical_cache_pixels(name)


@settings(max_examples=60, deadline=None)
@given(tilings())
def test_the_room_is_what_tiles_and_caches_take(drawn: tuple[FusionGraph, Mode, tuple[int, int]]) -> None:
    """Pixels that are really there at every moment: what the node has, what waits, and both caches, corners once."""
    graph, mode, tile = drawn
    plan = geometry(graph, graph.all_mask, mode, tile)
    inputs, weights, _ = network(graph)
    state, most = TileState(plan), 0
    last = {name: edge.consumer for edge, name in plan.edges}
    for j, rows in enumerate(plan.rows.steps):
        for i, columns in enumerate(plan.columns.steps):
            before = {name: state.cached(name, i, j) for name in last}
            seen: dict[str, Window] = {}
            for name in plan.outside:
                spans = fresh_spans(columns[name], rows[name])
                seen[name] = state.advance(name, i, j, inputs[name][:, slice(*spans[0]), slice(*spans[1])])
            for node in graph.nodes:
                part = make_part(plan, node.index, seen, weights.get(node.index), columns, rows)
                seen[node.output.name] = state.advance(node.output.name, i, j, part)
            after = {name: state.cached(name, i + 1, j) for name in last}
            read: set[str] = set()
            for node in graph.nodes:
                mine = {name for edge, name in plan.edges if edge.consumer == node.index}
                read |= mine
                name, bits = node.output.name, 0
                if columns[name].fresh and rows[name].fresh:
                    bits += columns[name].fresh * rows[name].fresh * plan.maps[name].channels
                    bits += sum(columns[n].need * rows[n].need * plan.maps[n].channels for n in mine)
                    made = [n for n in last if (n in plan.outside and n in read) or n in _made_before(plan, node.index)]
                    waiting = [n for n in made if n not in mine and last[n] >= node.index]
                    bits += sum(columns[n].fresh * rows[n].fresh * plan.maps[n].channels for n in waiting)
                for n in last:
                    bits += len(before[n] if last[n] >= node.index else after[n]) * plan.maps[n].channels
                most = max(most, bits)
    weight_bytes = sum(node.weight_bytes for node in graph.nodes)
    assert group_cost(plan).buffer_bytes == weight_bytes + most


def _made_before(plan: DepthFirstGeometry, node: int) -> set[str]:
    return {name for other, name in plan.result.items() if other < node}


@settings(max_examples=60, deadline=None)
@given(tilings())
def test_caches_save_work_and_never_compute_twice(drawn: tuple[FusionGraph, Mode, tuple[int, int]]) -> None:
    graph, _, tile = drawn
    plans = [geometry(graph, graph.all_mask, mode, tile) for mode in MODES]
    for node in graph.nodes:
        assert plans[-1].computed_pixels(node.index) <= node.output.height * node.output.width
    assert sum(plans[0].tile_kinds.values()) == plans[0].n_tiles
    last = graph.nodes[graph.needed_outside(graph.all_mask)[-1]].output
    assert plans[0].n_tiles == math.ceil(last.width / tile[0]) * math.ceil(last.height / tile[1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_programs_give_what_the_network_gives(data: st.DataObject) -> None:
    stream = Drawing(data.draw).stream()
    graph = fusion_graph(stream)
    tile = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    plan = geometry(graph, graph.all_mask, data.draw(st.sampled_from(MODES)), tile)
    _, weights, whole = network(graph)
    machine = load_machine("edge-16x16")
    found = run_tiles_on_numbers(stream, plan, machine, {name: whole[name] for name in plan.outside}, weights)
    for name, values in found.items():
        assert np.array_equal(values, whole[name]), name
    looped, flat = (TiledProgram(stream, plan, machine).program(unroll=unroll) for unroll in (False, True))
    assert simulate(looped).cycles == simulate(flat).cycles
    dram = [sum(command.cost.counters.dram_read_bytes * n for _, command, n in p.commands()) for p in (looped, flat)]
    assert dram[0] == dram[1]


@pytest.mark.parametrize("mode", MODES)
def test_groups_inside_a_network_run_alike(mode: Mode) -> None:
    net = Layers("two", activations="int8", weights="int8")
    x = net.input("x", (1, 2, 11, 9))
    a = net.conv(x, 4, 3, "a", bias=False)
    b = net.conv(a, 4, 3, "b", bias=False, stride=2)
    c = net.conv(a, 4, 1, "c", bias=False, stride=2, padding=0)
    d = net.elementwise("add", b, c, name="d")
    graph = fusion_graph(net.finish([net.conv(d, 2, 3, "e", bias=False)]))
    group = graph.mask_of(["b", "c", "d"])
    plan = geometry(graph, group, mode, (2, 3))
    tiled, whole = run(graph, plan)
    assert list(tiled.results) == [d]
    assert np.array_equal(tiled.results[d], whole[d])


def test_a_missing_value_would_show() -> None:
    """Without its caches a cached tiling gives NaN: the equality above can fail."""
    from dataclasses import replace

    net = Layers("chain", activations="int8", weights="int8")
    x = net.input("x", (1, 1, 9, 9))
    graph = fusion_graph(net.finish([net.conv(net.conv(x, 1, 3, "a", bias=False), 1, 3, "b", bias=False)]))
    plan = geometry(graph, graph.all_mask, "fully_cached", (3, 3))
    without = replace(plan, columns=replace(plan.columns, cached=False))
    tiled, _ = run(graph, without)
    assert all(np.isnan(values).any() for values in tiled.results.values())


def test_whole_convolutions_are_those_of_scipy() -> None:
    from scipy.signal import correlate

    net = Layers("one", activations="int8", weights="int8")
    x = net.input("x", (1, 2, 7, 8))
    graph = fusion_graph(net.finish([net.conv(x, 3, 3, "a", bias=False, padding=1, stride=2)]))
    values = np.random.default_rng(0).integers(-4, 5, (2, 7, 8)).astype(float)
    weights = random_weights(graph, seed=1)
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
    wanted = [correlate(padded, kernel, mode="valid")[0][::2, ::2] for kernel in weights[0]]
    found = run_unfused(graph, {"x": values}, weights)[graph.nodes[0].output.name]
    assert np.allclose(found, wanted)
