"""Depth-first tiling: what it costs, where data go, and what users are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.hierarchy import HierarchySpec, hierarchy_names, hierarchy_of, load_hierarchy
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.fused import FusedResult
from tilewright.sim.fusion.fused_run import measured, simulate_scheme
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.reference import random_values
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.sim.fusion.schemes.depth_first import DepthFirst
from tilewright.sim.fusion.tiles.best import best_depth_first, stacks_of
from tilewright.sim.fusion.tiles.cost import depth_first_cost
from tilewright.sim.fusion.tiles.geometry import MODES, Mode, geometry
from tilewright.sim.fusion.tiles.numbers import run_tiles_on_numbers
from tilewright.sim.hierarchy.copies import Copy, copy_cost
from tilewright.sim.hierarchy.loop_order import best_order
from tilewright.sim.hierarchy.nest import LoopNest, orders_of
from tilewright.sim.hierarchy.ports import Activity, stall_cycles
from tilewright.sim.numbers.hazards import HazardError
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

DRAM = (("weight", "dram"), ("input", "dram"), ("output", "dram"))


def chain(*, size: int = 64, channels: int = 16, n: int = 4) -> FusionGraph:
    net = Layers("chain", activations="int8", weights="int8")
    x = net.input("x", (1, channels, size, size))
    for i in range(n):
        x = net.conv(x, channels, 3, f"c{i}", bias=False)
    return fusion_graph(net.finish([x]))


def simulate_tiles(
    stream: OperatorStream, graph: FusionGraph, mask: int, machine: MachineSpec, *, mode: Mode, tile: tuple[int, int]
) -> FusedResult:
    return simulate_scheme(DepthFirst(capacity_bytes=2**20, mode=mode, tile=tile), stream, graph, mask, machine)


@pytest.fixture(scope="module")
def meta() -> HierarchySpec:
    return load_hierarchy("meta-proto-like-df")


def test_shipped_hierarchies_load() -> None:
    for name in hierarchy_names():
        hierarchy = load_hierarchy(name)
        assert hierarchy.name == name
        assert hierarchy.sources


def test_an_unknown_hierarchy_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r'unknown memory hierarchy; given "meta-proto"; .*did you mean "meta-proto-like'
    ):
        load_hierarchy("meta-proto")


def test_a_hierarchy_is_checked(tmp_path: Path, meta: HierarchySpec) -> None:
    with pytest.raises(ValueError, match="off chip"):
        replace(meta, memories=meta.memories[:-1])
    with pytest.raises(ValueError, match="unknown axis"):
        replace(meta, memories=(replace(meta.memories[0], feeds=("d9",)), *meta.memories[1:]))
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\n")
    with pytest.raises(InputError, match="axes"):
        load_hierarchy(path)


def test_a_machine_becomes_a_hierarchy() -> None:
    hierarchy = hierarchy_of(load_machine("edge-16x16"), "int8")
    assert [memory.name for memory in hierarchy.memories] == ["accumulators", "l1", "dram"]
    assert hierarchy.memories[-1].port_bits_per_cycle == 240  # 30 GB/s at 1 GHz
    assert hierarchy.n_multipliers == 256
    with pytest.raises(InputError, match="no multiply rate"):
        hierarchy_of(load_machine("edge-16x16"), "fp8_e4m3")


# --- one layer ---


def test_steps_of_a_layer_are_ceilings(meta: HierarchySpec) -> None:
    nest = LoopNest(k=33, c=3, ox=5, oy=4, fx=3, fy=3, map_width=7, map_height=6)
    cost = best_order(nest, meta, DRAM)
    assert cost is not None
    assert cost.step_cycles == 2 * 2 * 2 * 1 * 9
    assert cost.energy_pj["array"] == pytest.approx(0.04 * nest.macs)
    assert cost.cycles == cost.step_cycles + cost.stall_cycles + cost.filling_cycles


def test_dram_moves_everything_once_where_it_fits(meta: HierarchySpec) -> None:
    nest = LoopNest(k=32, c=16, ox=32, oy=32, map_width=32, map_height=32)
    cost = best_order(nest, meta, DRAM)
    assert cost is not None
    words = (32 * 16 / 8, 16 * 32 * 32 / 8, 32 * 32 * 32 / 8)
    assert cost.energy_pj["dram"] == pytest.approx((words[0] + words[1]) * 700 + words[2] * 750)


def test_lower_memories_cost_less(meta: HierarchySpec) -> None:
    nest = LoopNest(k=16, c=16, ox=16, oy=16, fx=3, fy=3, map_width=18, map_height=18)
    near = best_order(nest, meta, (("weight", "weights_local"), ("input", "maps_local"), ("output", "maps_local")))
    far = best_order(nest, meta, DRAM)
    assert near is not None and far is not None
    assert near.total_pj < far.total_pj
    assert near.cycles < far.cycles
    assert "dram" not in near.energy_pj


def test_what_does_not_fit_has_no_order(meta: HierarchySpec) -> None:
    nest = LoopNest(k=64, c=64, ox=64, oy=64, map_width=64, map_height=64)
    tops = (("weight", "weights_local"), ("input", "maps_local"), ("output", "maps_local"))
    assert best_order(nest, meta, tops) is None


def test_objectives_choose_the_order_that_they_name(meta: HierarchySpec) -> None:
    nest = LoopNest(k=56, c=12, ox=962, oy=542, map_width=962, map_height=542)
    energy, cycles = best_order(nest, meta, DRAM, "energy"), best_order(nest, meta, DRAM, "cycles")
    assert energy is not None and cycles is not None
    assert energy.total_pj <= cycles.total_pj
    assert cycles.cycles <= energy.cycles


def test_orders_are_all_of_the_factors() -> None:
    orders = orders_of((("K", 4), ("OX", 6)), 6)
    assert orders.loop.shape == (12, 4)  # 4! / 2! orders of 2, 2 (K) and 2, 3 (OX)
    assert set(orders.trips[:, -1]) == {24.0}
    assert orders_of((("K", 4), ("OX", 6)), 3).loop.shape[1] == 3


def test_a_busy_port_stalls_the_array() -> None:
    def use(busy: float, window: float, period: float, times: float) -> Activity:
        return Activity(
            *(), busy=np.array([busy]), window=np.array([window]), period=np.array([period]), times=np.array([times])
        )

    assert stall_cycles([use(1, 1, 1, 100)], 100)[0] == 0
    assert stall_cycles([use(3, 1, 1, 100)], 100)[0] == 2 * 99
    # Two that take all of every cycle: the second waits all the time.
    assert stall_cycles([use(1, 1, 1, 100), use(10, 10, 10, 10)], 100)[0] == 99 + 90 - 100
    # Windows that do not cover the time: both crowd into the first quarter of it.
    assert stall_cycles([use(2, 2, 8, 10), use(2, 2, 8, 10)], 80)[0] == 36 - 20


def test_copies_share_ports(meta: HierarchySpec) -> None:
    one = copy_cost([Copy(1024, 2, 0)], meta.activation_levels)
    assert one.cycles == 16 + 2  # 64 bits a cycle into the global buffer, then 512 into the local one
    two = copy_cost([Copy(1024, 2, 0), Copy(1024, 2, 0)], meta.activation_levels)
    assert two.cycles == 2 * 16
    assert sum(two.energy_pj.values()) == pytest.approx(2 * sum(one.energy_pj.values()))
    assert copy_cost([Copy(1024, 1, 1)], meta.activation_levels).cycles == 0


# --- a group ---


def test_one_tile_is_the_same_in_every_mode(meta: HierarchySpec) -> None:
    graph = chain()
    costs = [depth_first_cost(graph, graph.all_mask, meta, mode=mode, tile=(999, 999)) for mode in MODES]
    assert len({(cost.total_pj, cost.cycles) for cost in costs}) == 1
    assert costs[0].plan.macs == sum(node.macs for node in graph.nodes)


def test_energy_of_the_array_counts_what_is_computed_again(meta: HierarchySpec) -> None:
    graph = chain()
    cost = depth_first_cost(graph, graph.all_mask, meta, mode="fully_recompute", tile=(4, 4))
    assert cost.energy_pj["array"] > 0.04 * sum(node.macs for node in graph.nodes)
    kept = depth_first_cost(graph, graph.all_mask, meta, mode="fully_cached", tile=(4, 4))
    assert kept.energy_pj["array"] < 1.01 * 0.04 * sum(node.macs for node in graph.nodes)
    assert kept.homes == {
        "weights": "weights_local",
        "horizontal cache": "maps_local",
        "vertical cache": "maps_local",
    }


def test_branches_and_strides_have_a_cost(meta: HierarchySpec) -> None:
    net = Layers("block", activations="int8", weights="int8")
    x = net.input("x", (1, 8, 32, 32))
    a = net.conv(net.conv(x, 16, 3, "a", stride=2, bias=False), 16, 3, "b", bias=False)
    b = net.conv(x, 16, 1, "c", stride=2, padding=0, bias=False)
    y = net.max_pool(net.elementwise("add", a, b), 3, stride=2, padding=1)
    graph = fusion_graph(net.finish([net.conv(y, 16, 3, "d", groups=16, bias=False)]))
    for mode in MODES:
        cost = depth_first_cost(graph, graph.all_mask, meta, mode=mode, tile=(3, 2))
        assert cost.cycles > 0
        # Everything fits in the local buffer: DRAM sees weights, the input and the result, and no map between.
        kib = (8 * 32 * 32 + 16 * 8 * 8 + sum(node.weight_bytes for node in graph.nodes)) / 1024
        if mode == "fully_cached":
            assert cost.energy_pj["dram"] / 750 * 8 / 1024 < 1.3 * kib


def test_the_best_tiling_is_the_least_of_those_tried(meta: HierarchySpec) -> None:
    graph = chain(size=256)
    plan = best_depth_first(graph, meta, tiles=[(256, 256), (256, 8), (16, 16)])
    assert plan.tried == 1 + 2 + 3
    layer_by_layer = depth_first_cost(graph, graph.all_mask, meta, mode="fully_recompute", tile=(256, 256))
    assert plan.total_pj < layer_by_layer.total_pj
    assert plan.stacks[0].plan.mode == "fully_cached"
    calls: list[tuple[int, int]] = []
    finer = best_depth_first(chain(size=16), meta, progress=lambda done, total, what: calls.append((done, total)))
    assert calls[-1] == (finer.tried, finer.tried)


def test_stacks_end_where_the_weights_no_longer_fit(meta: HierarchySpec) -> None:
    graph = chain(channels=256, size=8, n=4)  # 576 KiB of weights each: one stack holds one layer
    assert stacks_of(graph, meta) == (1, 2, 4, 8)
    assert stacks_of(chain(), meta) == (15,)


def test_stacks_keep_branches_whole(meta: HierarchySpec) -> None:
    net = Layers("net", activations="int8", weights="int8")
    x = net.conv(net.input("x", (1, 200, 8, 8)), 200, 3, "a", bias=False)  # 352 KiB
    y = net.elementwise("add", x, net.conv(net.conv(x, 200, 3, "b", bias=False), 200, 3, "c", bias=False))
    graph = fusion_graph(net.finish([net.conv(y, 200, 3, "d", bias=False)]))
    assert stacks_of(graph, meta) == (0b00001, 0b01110, 0b10000)


def test_machines_with_one_chain_of_buffers_work() -> None:
    plan = best_depth_first(chain(), load_machine("edge-16x16"), tiles=[(64, 64), (64, 4)])
    assert {"array", "l1", "dram"} <= set(plan.stacks[0].energy_pj)


def test_operators_without_loops_are_named(meta: HierarchySpec) -> None:
    net = Layers("net", activations="int8", weights="int8")
    x = net.norm(net.linear(net.input("x", (1, 8, 16)), 16, "fc"), "norm")
    graph = fusion_graph(net.finish([x]))
    with pytest.raises(InputError, match="norm: depth-first tiling has no loops for this kind of operator; given norm"):
        best_depth_first(graph, meta)


def test_modes_and_tiles_are_checked() -> None:
    graph = chain()
    with pytest.raises(InputError, match=r'unknown mode .* given "cached".*fully_cached'):
        geometry(graph, graph.all_mask, "cached", (1, 1))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least one pixel; given 0 x 4"):
        geometry(graph, graph.all_mask, "fully_cached", (0, 4))


# --- as a scheme ---


def test_the_scheme_counts_maps_and_weights_once() -> None:
    graph = chain()
    cost = get_scheme("depth_first", 256 * 1024).cost(graph, graph.all_mask)
    assert cost.dram_read_bytes == cost.dram_write_bytes == 16 * 64 * 64
    assert cost.weight_bytes == 4 * 16 * 16 * 9
    assert cost.valid(256 * 1024)
    assert cost.buffer_bytes > cost.weight_bytes


def test_recomputing_needs_less_room_or_more_traffic() -> None:
    graph = chain()
    kept = DepthFirst(capacity_bytes=2**20, tile=(4, 4)).cost(graph, graph.all_mask)
    again = DepthFirst(capacity_bytes=2**20, mode="fully_recompute", tile=(4, 4)).cost(graph, graph.all_mask)
    assert again.dram_read_bytes > kept.dram_read_bytes
    assert again.buffer_bytes < kept.buffer_bytes


def test_a_layer_that_does_not_fit_runs_alone() -> None:
    graph = chain(channels=128)
    cost = DepthFirst(capacity_bytes=64 * 1024).cost(graph, 1)
    assert cost.valid(64 * 1024)
    assert cost.dram_bytes > 2 * 128 * 64 * 64
    assert not DepthFirst(capacity_bytes=64 * 1024).fusable_mask(graph)


def test_tiles_adapt_to_the_buffer() -> None:
    graph = chain(size=128)
    schemes = [DepthFirst(capacity_bytes=kib * 1024, mode="fully_recompute") for kib in (128, 2048)]
    small, large = (scheme.cost(graph, graph.all_mask) for scheme in schemes)
    assert small.valid(128 * 1024)
    assert large.dram_read_bytes < small.dram_read_bytes


# --- as a program ---


def small() -> OperatorStream:
    net = Layers("small", activations="int8", weights="int8")
    x = net.input("x", (1, 8, 48, 40))
    a = net.elementwise("relu", net.conv(x, 16, 3, "a", bias=False))
    return net.finish([net.conv(net.elementwise("add", a, net.conv(x, 16, 1, "b", bias=False)), 8, 3, "c", bias=False)])


@pytest.mark.parametrize("mode", MODES)
def test_a_program_moves_what_the_scheme_says(mode: Mode) -> None:
    stream = small()
    graph = fusion_graph(stream, absorb=True)
    machine = load_machine("edge-16x16").with_(**{"dram.burst_bytes": 1})
    scheme = DepthFirst(capacity_bytes=2**20, mode=mode, tile=(16, 8))
    cost = scheme.cost(graph, graph.all_mask)
    run = simulate_tiles(stream, graph, graph.all_mask, machine, mode=mode, tile=(16, 8))
    assert run.dram_read_bytes == cost.dram_read_bytes + cost.weight_bytes
    assert run.dram_write_bytes == cost.dram_write_bytes
    assert run.peak_buffer_bytes > cost.buffer_bytes  # a second slot for the next input, and for results on their way
    macs = geometry(graph, graph.all_mask, mode, (16, 8)).macs
    assert run.cycles >= macs / 256


def test_tiles_that_are_alike_are_skipped_through() -> None:
    stream = small()
    graph = fusion_graph(stream, absorb=True)
    run = simulate_tiles(stream, graph, graph.all_mask, load_machine("edge-16x16"), mode="fully_cached", tile=(1, 1))
    assert run.n_jumps > 0
    assert run.n_commands > 48 * 40 * 3


def test_upsampled_tiles_that_need_nothing_new_run() -> None:
    """Every other tile has no work for the convolution: the units take turns at other places."""
    net = Layers("up", activations="int8", weights="int8")
    x = net.conv(net.input("x", (1, 1, 5, 5)), 1, 1, "stem", bias=False, padding=0)
    stream = net.finish([net.upsample(x, 2, "up")])
    graph = fusion_graph(stream)
    machine = load_machine("edge-16x16")
    for mode in MODES:
        assert simulate_tiles(stream, graph, graph.all_mask, machine, mode=mode, tile=(1, 1)).cycles > 100


def test_of_tiles_that_move_as_little_the_largest_is_run_first() -> None:
    """A tile of one pixel takes the least room and leaves most of an array idle."""
    stream, machine = small(), load_machine("edge-16x16")
    graph = fusion_graph(stream, absorb=True)
    scheme = DepthFirst(capacity_bytes=machine.working_buffer.capacity_bytes)
    runs = [
        measured(one.program, one.group, machine, one.tiling, one.assumptions)
        for one in scheme.programs(stream, graph, graph.all_mask, machine)
    ]
    ranks = [(run.dram_read_bytes, -run.tiling["columns"] * run.tiling["rows"]) for run in runs]
    assert len(runs) > 2 and ranks[0] == min(ranks)
    assert runs[0].cycles < max(run.cycles for run in runs) / 2


def test_fusing_saves_traffic_and_time() -> None:
    stream = small()
    graph = fusion_graph(stream, absorb=True)
    machine = load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": 2})
    fused = simulate_tiles(stream, graph, graph.all_mask, machine, mode="fully_cached", tile=(40, 8))
    alone = [
        simulate_tiles(stream, graph, node.bit, machine, mode="fully_cached", tile=(40, 8)) for node in graph.nodes
    ]
    assert fused.cycles < sum(run.cycles for run in alone)
    assert fused.dram_read_bytes < sum(run.dram_read_bytes for run in alone)


def test_a_program_that_does_not_fit_says_so() -> None:
    stream = small()
    graph = fusion_graph(stream, absorb=True)
    machine = load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": 16})
    with pytest.raises(MappingError, match="buffer l1"):
        simulate_tiles(stream, graph, graph.all_mask, machine, mode="fully_recompute", tile=(40, 48))


def test_a_slot_too_few_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = small()
    graph = fusion_graph(stream)
    plan = geometry(graph, graph.all_mask, "fully_cached", (8, 8))
    values = random_values(stream, seed=1)
    monkeypatch.setattr("tilewright.sim.fusion.tiles.numbers.SLOTS", 1)
    with pytest.raises(HazardError, match="which is not there"):
        run_tiles_on_numbers(stream, plan, load_machine("edge-16x16"), values)
