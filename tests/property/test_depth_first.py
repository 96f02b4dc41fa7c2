"""Depth-first tiles give what the network gives, and compute, fetch and keep just what their geometry says."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright.hw_models.load import load_machine
from tilewright.sim.engine.run import simulate
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.sim.fusion.row_values import to_maps
from tilewright.sim.fusion.tiles.geometry import MODES, DepthFirstGeometry, Mode, geometry
from tilewright.sim.fusion.tiles.numbers import run_tiles_on_numbers
from tilewright.sim.fusion.tiles.program import TiledProgram
from tilewright.sim.fusion.tiles.room import group_cost
from tilewright.sim.fusion.tiles.tiled_numbers import TiledRun, TileState, fresh_spans, make_part, run_tiled
from tilewright.sim.fusion.tiles.values import TileReader, Values, Window
from tilewright.testing.networks import KINDS, networks, partitions
from tilewright.units import bits_to_bytes
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

# `make fuzz N=10000` sets this; the quick suite runs some.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "40"))
some = settings(
    max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@dataclass(frozen=True)
class Drawn:
    """A tiling of a group of a random network, and the network on random numbers."""

    stream: OperatorStream
    plan: DepthFirstGeometry
    values: dict[str, Values]

    @property
    def reader(self) -> TileReader:
        return TileReader(self.stream, self.values)

    def image(self, name: str) -> Values:
        """The first image of a map, as the independent reference has it."""
        return to_maps(self.plan.maps[name], self.values[name])[0]

    def run(self) -> TiledRun:
        return run_tiled(self.plan, {name: self.image(name) for name in self.plan.outside}, self.reader)


def drawn_of(stream: OperatorStream, graph: FusionGraph, mask: int, mode: Mode, tile: tuple[int, int]) -> Drawn:
    values = network_on_numbers(stream, random_values(stream, seed=len(graph)))
    return Drawn(stream, geometry(graph, mask, mode, tile), values)


@st.composite
def tilings(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> Drawn:
    stream = draw(networks(most=5, kinds=kinds))
    graph = fusion_graph(stream, absorb=draw(st.booleans()))
    mask = max((one for one in draw(partitions(graph)) if graph.needed_outside(one)), key=int.bit_count)
    tile = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    return drawn_of(stream, graph, mask, draw(st.sampled_from(MODES)), tile)


@some
@given(tilings())
def test_tiles_give_what_the_network_gives(drawn: Drawn) -> None:
    for name, values in drawn.run().results.items():
        np.testing.assert_allclose(values, drawn.image(name), rtol=1e-9, atol=1e-9, err_msg=name)


@some
@given(tilings())
def test_what_is_counted_is_what_the_geometry_says(drawn: Drawn) -> None:
    plan, tiled = drawn.plan, drawn.run()
    assert tiled.computed_pixels == {node: plan.computed_pixels(node) for node in members(plan.group)}
    assert tiled.fetched_pixels == plan.fetched_pixels
    for name in plan.maps:
        assert tiled.horizontal_pixels.get(name, 0) == plan.horizontal_cache_pixels(name)
        assert tiled.vertical_pixels.get(name, 0) == plan.vertical_cache_pixels(name)


@some
@given(tilings())
def test_the_room_is_what_tiles_and_caches_take(drawn: Drawn) -> None:
    """Pixels that are really there at every moment: what the node has, what waits, and both caches, corners once."""
    plan, reader = drawn.plan, drawn.reader
    nodes = [plan.graph.nodes[node] for node in members(plan.group)]
    state, most = TileState(plan), Fraction(0)
    last = {name: edge.consumer for edge, name in plan.edges}
    for j, rows in enumerate(plan.rows.steps):
        for i, columns in enumerate(plan.columns.steps):
            before = {name: state.cached(name, i, j) for name in last}
            seen: dict[str, Window] = {}
            for name in plan.outside:
                spans = fresh_spans(columns[name], rows[name])
                seen[name] = state.advance(name, i, j, drawn.image(name)[:, slice(*spans[0]), slice(*spans[1])])
            for node in nodes:
                part = make_part(plan, node.index, seen, reader, columns, rows)
                seen[node.output.name] = state.advance(node.output.name, i, j, part)
            after = {name: state.cached(name, i + 1, j) for name in last}
            read: set[str] = set()
            for node in nodes:
                mine = {name for edge, name in plan.edges if edge.consumer == node.index}
                read |= mine
                name, bits = node.output.name, Fraction(0)
                if columns[name].fresh and rows[name].fresh:
                    bits += columns[name].fresh * rows[name].fresh * plan.maps[name].pixel_bits
                    bits += sum(columns[n].need * rows[n].need * plan.maps[n].pixel_bits for n in mine)
                    made = [n for n in last if (n in plan.outside and n in read) or n in _made_before(plan, node.index)]
                    waiting = [n for n in made if n not in mine and last[n] >= node.index]
                    bits += sum(columns[n].fresh * rows[n].fresh * plan.maps[n].pixel_bits for n in waiting)
                for n in last:
                    bits += len(before[n] if last[n] >= node.index else after[n]) * plan.maps[n].pixel_bits
                most = max(most, bits)
    weight_bytes = sum(node.weight_bytes for node in nodes)
    assert group_cost(plan).buffer_bytes == weight_bytes + bits_to_bytes(most)


def _made_before(plan: DepthFirstGeometry, node: int) -> set[str]:
    return {name for other, name in plan.result.items() if other < node}


@some
@given(tilings())
def test_caches_save_work_and_never_compute_twice(drawn: Drawn) -> None:
    graph, group, tile = drawn.plan.graph, drawn.plan.group, drawn.plan.tile
    plans = [geometry(graph, group, mode, tile) for mode in MODES]
    for node in members(group):
        assert plans[-1].computed_pixels(node) <= graph.nodes[node].output.height * graph.nodes[node].output.width
    assert sum(plans[0].tile_kinds.values()) == plans[0].n_tiles
    last = graph.nodes[graph.needed_outside(group)[-1]].output
    assert plans[0].n_tiles == math.ceil(last.width / tile[0]) * math.ceil(last.height / tile[1])


@some
@given(tilings())
def test_programs_give_what_the_network_gives(drawn: Drawn) -> None:
    """All images, on the program's commands in the order in which they end; its loops change nothing."""
    stream, plan, machine = drawn.stream, drawn.plan, load_machine("edge-16x16")
    given = {name: values for name, values in drawn.values.items() if name not in plan.result.values()}
    for name, values in run_tiles_on_numbers(stream, plan, machine, given).items():
        np.testing.assert_allclose(values, drawn.values[name], rtol=1e-9, atol=1e-9, err_msg=name)
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
    stream = net.finish([net.conv(d, 2, 3, "e", bias=False)])
    graph = fusion_graph(stream)
    drawn = drawn_of(stream, graph, graph.mask_of(["b", "c", "d"]), mode, (2, 3))
    results = drawn.run().results
    assert list(results) == [d]
    np.testing.assert_allclose(results[d], drawn.image(d), rtol=1e-9, atol=1e-9)


def test_a_missing_value_would_show() -> None:
    """Without its caches a cached tiling gives NaN: the equality above can fail."""
    net = Layers("chain", activations="int8", weights="int8")
    x = net.input("x", (1, 1, 9, 9))
    stream = net.finish([net.conv(net.conv(x, 1, 3, "a", bias=False), 1, 3, "b", bias=False)])
    graph = fusion_graph(stream)
    drawn = drawn_of(stream, graph, graph.all_mask, "fully_cached", (3, 3))
    without = replace(drawn.plan, columns=replace(drawn.plan.columns, cached=False))
    assert all(np.isnan(values).any() for values in replace(drawn, plan=without).run().results.values())


def test_whole_convolutions_are_those_of_scipy() -> None:
    """The reference that all schemes are held to, held to another's."""
    from scipy.signal import correlate

    net = Layers("one", activations="int8", weights="int8")
    stream = net.finish([net.conv(net.input("x", (1, 2, 7, 8)), 3, 3, "a", padding=1, stride=2)])
    values = random_values(stream, seed=0)
    (result,) = stream.outputs
    padded = np.pad(values["x"][0], ((0, 0), (1, 1), (1, 1)))
    weight, bias = (values[name] for name in stream.operators[0].inputs[1:])
    wanted = [correlate(padded, kernel, mode="valid")[0][::2, ::2] for kernel in weight]
    found = network_on_numbers(stream, values)[result][0]
    assert np.allclose(found, np.stack(wanted) + bias[:, None, None])
