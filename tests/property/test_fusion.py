"""Fused programs compute what the network computes, in the room and with the traffic that the schemes claim."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec
from tilewright.sim.engine.run import run_program
from tilewright.sim.fusion.graph.build import fusion_graph, weights_of
from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.line_buffers.numbers import run_partition_on_numbers
from tilewright.sim.fusion.line_buffers.program import FusedTiling, fused_program
from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.sim.fusion.scheme import SCHEMES, scheme_names, schemes_with_homes, schemes_with_programs
from tilewright.sim.fusion.schemes.brr import BufferReduction
from tilewright.sim.fusion.schemes.lbdf import LineBuffers
from tilewright.sim.fusion.slabs.numbers import run_slabs_on_numbers
from tilewright.sim.fusion.slabs.program import slab_program
from tilewright.testing import check_fusion_programs, check_fusion_scheme
from tilewright.testing.networks import KINDS, networks, partitions
from tilewright.workloads.homes import GroupHomes
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import EncoderConfig, add_post_norm_layer, add_pre_norm_layer

# `make fuzz N=10000` sets this; the quick suite runs some.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "40"))
thorough = settings(
    max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4, "dram.burst_bytes": 1})
MACHINES = (
    EDGE,
    EDGE.with_(**{"dram.bandwidth_gb_per_s": 3000, "dram.first_access_latency_ns": 0}),
    EDGE.with_(**{"vector.lanes": 1, "matrix.stationarity": "weight"}),
)
TILINGS = st.builds(
    FusedTiling,
    spare_rows=st.integers(0, 2),
    rows_per_step=st.sampled_from([0, 0, 1, 2, 3]),
    spare_inside=st.integers(0, 1),
)


@thorough
@given(data=st.data())
def test_line_buffers_compute_the_network(data):
    stream = data.draw(networks())
    graph = fusion_graph(stream, absorb=data.draw(st.booleans()))
    groups = data.draw(partitions(graph))
    values = random_values(stream, seed=data.draw(st.integers(0, 9)))
    machine = MACHINES[data.draw(st.integers(0, len(MACHINES) - 1))]
    found = run_partition_on_numbers(stream, graph, groups, machine, values, tiling=data.draw(TILINGS))
    wanted = network_on_numbers(stream, values)
    for name in stream.outputs:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-9)


LEVEL = BufferSpec(name="l2", capacity_kib=4096, read_bytes_per_cycle=8, write_bytes_per_cycle=4, latency_cycles=3)
WITH_LEVEL = replace(
    EDGE,
    buffers=(*EDGE.buffers, LEVEL),
    energy=replace(
        EDGE.energy,
        buffer_read_pj_per_byte=dict(EDGE.energy.buffer_read_pj_per_byte) | {"l2": 3.0},
        buffer_write_pj_per_byte=dict(EDGE.energy.buffer_write_pj_per_byte) | {"l2": 3.0},
    ),
)


@thorough
@given(data=st.data())
def test_line_buffers_find_and_leave_maps_on_chip(data):
    """Whatever is kept where, groups compute the network; what is kept takes no room and crosses no other port."""
    stream = data.draw(networks())
    graph = fusion_graph(stream, absorb=data.draw(st.booleans()))
    groups = data.draw(partitions(graph))
    values = random_values(stream, seed=data.draw(st.integers(0, 9)))
    homes = GroupHomes(tuple((spec.name, data.draw(st.sampled_from(["", "l1", "l2"]))) for spec in stream.tensors))
    tiling = data.draw(TILINGS)
    found = run_partition_on_numbers(stream, graph, groups, WITH_LEVEL, values, tiling=tiling, homes=homes)
    wanted = network_on_numbers(stream, values)
    for name in stream.outputs:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-9)
    for mask in groups:
        plain = fused_program(stream, graph, mask, WITH_LEVEL, tiling=tiling)
        program = fused_program(stream, graph, mask, WITH_LEVEL, tiling=tiling, homes=homes)
        assert run_program(program).cycles == run_program(program, skip=False).cycles
        assert sum(program.buffer_bytes.values()) <= sum(plain.buffer_bytes.values())
        moved = {name: {"": 0, "l2": 0} for name in ("read", "write")}
        for _, command, times in program.commands():
            if command.label.startswith("load") or command.label.startswith("store"):
                counters = command.cost.counters
                moved["read"][""] += times * counters.dram_read_bytes
                moved["write"][""] += times * counters.dram_write_bytes
                if not counters.dram_read_bytes + counters.dram_write_bytes:
                    moved["read"]["l2"] += times * counters.buffer_read_bytes.get("l2", 0)
                    moved["write"]["l2"] += times * counters.buffer_write_bytes.get("l2", 0)
        reads = {tensor.name: tensor.n_bytes for tensor in graph.read_from_outside(mask)}
        for i in members(mask):
            operators = [op for op in stream.operators if op.name in graph.nodes[i].operators]
            for name, n_bytes in weights_of(stream, operators).items():
                reads[f"{name} of {i}"] = n_bytes
        for home in ("", "l2"):
            here = sum(n for name, n in reads.items() if homes.of(name.split(" of ")[0]) == home)
            assert (moved["read"][home] > 0) == (here > 0)
            assert moved["read"][home] >= here
            left = [graph.nodes[i].output for i in graph.needed_outside(mask)]
            here = sum(tensor.n_bytes for tensor in left if homes.of(tensor.name) == home)
            assert moved["write"][home] >= here
            assert (moved["write"][home] > 0) == (here > 0)


@thorough
@given(data=st.data())
def test_line_buffers_claim_what_their_program_needs_and_moves(data):
    stream = data.draw(networks())
    graph = fusion_graph(stream)
    mask = data.draw(st.sampled_from(data.draw(partitions(graph))))
    scheme = LineBuffers(capacity_bytes=2**40)
    cost = scheme.cost(graph, mask)
    program = fused_program(stream, graph, mask, EDGE)
    assert sum(program.buffer_bytes.values()) == cost.buffer_bytes
    counted = [command.cost.counters for _, command, times in program.commands() for _ in range(times)]
    assert sum(one.dram_read_bytes for one in counted) >= cost.dram_read_bytes + cost.weight_bytes
    assert sum(one.dram_write_bytes for one in counted) >= cost.dram_write_bytes
    row_wise = all(tensor.row_bytes * 8 == tensor.width * tensor.channels * tensor.bits for tensor in graph.inputs)
    if row_wise:
        assert sum(one.dram_read_bytes for one in counted) == cost.dram_read_bytes + cost.weight_bytes
        assert sum(one.dram_write_bytes for one in counted) == cost.dram_write_bytes
    assert run_program(program).cycles == run_program(program, skip=False).cycles
    small = EDGE.with_(**{"buffers.l1.capacity_kib": (cost.buffer_bytes - 1) / 1024})
    with pytest.raises(MappingError):
        fused_program(stream, graph, mask, small)
    exact = EDGE.with_(**{"buffers.l1.capacity_kib": cost.buffer_bytes / 1024})
    fused_program(stream, graph, mask, exact)


SLAB_KINDS = (*(kind for kind in KINDS if kind not in ("upsample", "transposed")), "conv", "conv", "conv")
RULES = st.builds(
    BufferReduction,
    capacity_bytes=st.sampled_from([1, 300, 600, 1200, 2400, 2**30]),
    piece_channels=st.integers(1, 3),
    piece_slots=st.integers(1, 2),
)


@thorough
@given(data=st.data())
def test_slabs_compute_the_network(data):
    stream = data.draw(networks(kinds=SLAB_KINDS))
    graph = fusion_graph(stream, absorb=data.draw(st.booleans()))
    groups = data.draw(partitions(graph))
    values = random_values(stream, seed=data.draw(st.integers(0, 9)))
    known = dict(values)
    for mask in graph.order(groups):
        known |= run_slabs_on_numbers(stream, graph, mask, EDGE, known, rules=data.draw(RULES))
    wanted = network_on_numbers(stream, values)
    for name in stream.outputs:
        np.testing.assert_allclose(known[name], wanted[name], rtol=1e-9, atol=1e-9)


@thorough
@given(data=st.data())
def test_slabs_claim_what_their_program_needs_and_moves(data):
    stream = data.draw(networks(kinds=SLAB_KINDS))
    graph = fusion_graph(stream)
    mask = data.draw(st.sampled_from(data.draw(partitions(graph))))
    rules = data.draw(RULES)
    choice = rules.choose(graph, mask)
    program = slab_program(stream, graph, mask, EDGE, rules)
    assert program.buffer_bytes == choice.room
    counted = [command.cost.counters for _, command, times in program.commands() for _ in range(times)]
    read, written = (sum(getattr(one, f"dram_{way}_bytes") for one in counted) for way in ("read", "write"))
    moved = choice.read_bytes + choice.weight_bytes
    n_loads = sum(command.label.startswith("load") for _, command, times in program.commands() for _ in range(times))
    assert moved <= read <= moved + n_loads  # a piece's bytes are rounded up
    assert written == sum(graph.nodes[i].output.n_bytes for i in graph.needed_outside(mask))
    assert run_program(program).cycles == run_program(program, skip=False).cycles
    for n_bytes, fits in ((choice.buffer_bytes, True), (choice.buffer_bytes - 1, False)):
        machine = EDGE.with_(**{"buffers.l1.capacity_kib": n_bytes / 1024})
        if fits:
            slab_program(stream, graph, mask, machine, rules)
        else:
            with pytest.raises(MappingError):
                slab_program(stream, graph, mask, machine, rules)


@thorough
@given(data=st.data())
def test_slabs_compute_encoder_layers(data):
    """Attention, products, norms and residuals in any groups."""
    heads, width = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    config = EncoderConfig(hidden=heads * width, heads=heads, intermediate=data.draw(st.integers(1, 5)))
    b = Layers("encoder", activations="int8", weights="int8")
    x = b.input("tokens", (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 4)), config.hidden))
    for number in range(data.draw(st.integers(1, 2))):
        with b.scope("layer", number):
            x = data.draw(st.sampled_from([add_post_norm_layer, add_pre_norm_layer]))(b, x, config)
    stream = b.finish([x])
    graph = fusion_graph(stream, absorb=data.draw(st.booleans()))
    values = random_values(stream, seed=data.draw(st.integers(0, 9)))
    known = dict(values)
    for mask in graph.order(data.draw(partitions(graph))):
        known |= run_slabs_on_numbers(stream, graph, mask, EDGE, known, rules=data.draw(RULES))
    wanted = network_on_numbers(stream, values)
    np.testing.assert_allclose(known[x], wanted[x], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", schemes_with_homes())
@settings(parent=thorough, max_examples=max(4, N_EXAMPLES // 8))
@given(data=st.data())
def test_programs_find_and_leave_operands_on_chip(name, data):
    """Every program of a group computes the network wherever operands are, and moves them from and to there alone."""
    stream = data.draw(networks(kinds=SLAB_KINDS))
    graph = fusion_graph(stream, absorb=data.draw(st.booleans()))
    scheme = SCHEMES.get(name)(WITH_LEVEL.working_buffer.capacity_bytes)
    home = data.draw(st.sampled_from(["", "l1", "l2"]))
    homes = GroupHomes(tuple((spec.name, home) for spec in stream.tensors if home))
    known = values = random_values(stream, seed=data.draw(st.integers(0, 9)))
    for mask in graph.order(data.draw(partitions(graph))):
        made = []
        with contextlib.suppress(InputError, MappingError):  # a group that the scheme does not run
            made = list(scheme.programs(stream, graph, mask, WITH_LEVEL, homes))
        found = {}
        for one in made:
            moved = [command.cost.counters for _, command, _ in one.program.commands()]
            far = sum(counters.dram_read_bytes + counters.dram_write_bytes for counters in moved)
            assert (far > 0) == (home == "")
            found = one.on_numbers(known)
        if not made:
            found = run_partition_on_numbers(stream, graph, [mask], WITH_LEVEL, known)
        known = known | found
    wanted = network_on_numbers(stream, values)
    for output in stream.outputs:
        np.testing.assert_allclose(known[output], wanted[output], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", schemes_with_programs())
def test_what_searches_run_computes_the_network(name):
    check_fusion_programs(SCHEMES.get(name), n_examples=max(8, N_EXAMPLES // 5))


@pytest.mark.parametrize("name", [name for name in scheme_names() if name != "optimus-rules"])  # counts as its paper
def test_costs_of_a_scheme_add_up_and_hide_no_plan(name):
    check_fusion_scheme(SCHEMES.get(name), n_examples=max(8, N_EXAMPLES // 5))
