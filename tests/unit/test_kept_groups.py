"""Groups and what stays on chip between them: against all partitions and all patterns, and what results say."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import product

import pytest

from tilewright.__main__ import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.reports.kept_drawing import draw_kept
from tilewright.reports.kept_page import kept_page
from tilewright.search.fusion.groups import fitting_groups
from tilewright.search.fusion.kept.alone import JobWays
from tilewright.search.fusion.kept.costs import PlanCosts
from tilewright.search.fusion.kept.run import _job_search, plan_groups
from tilewright.search.fusion.kept.search import GroupSearch, rooms_of
from tilewright.search.fusion.kept.tensors import Tensors
from tilewright.search.fusion.plan import ordered
from tilewright.search.fusion.problem import FusionProblem
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.sim.lowering.levels import level_called
from tilewright.testing.schemes import plans
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")


def network() -> OperatorStream:
    """An inverted bottleneck with its residual sum, and a convolution behind it."""
    b = Layers("small", activations="int8", weights="int8")
    x = b.conv(b.input("image", (1, 8, 12, 12)), 16, 1, "first")
    y = b.conv(x, 32, 1, "expand")
    y = b.conv(y, 32, 3, "depthwise", groups=32)
    y = b.elementwise("add", b.conv(y, 16, 1, "project"), x)
    return b.finish([b.conv(y, 16, 3, "last")])


def with_buffer(kib: float) -> MachineSpec:
    return EDGE.with_(**{"buffers.l1.capacity_kib": kib, "dram.bandwidth_gb_per_s": 2})


def with_level(kib: float) -> MachineSpec:
    far = BufferSpec(
        name="l2", capacity_kib=kib, read_bytes_per_cycle=64, write_bytes_per_cycle=64, shared_by_cores=True
    )
    pj = {"l1": 1.0, "l2": 3.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    machine = replace(EDGE, buffers=(*EDGE.buffers, far), energy=energy, n_cores=2)
    return machine.with_(**{"buffers.l1.capacity_kib": 16, "dram.bandwidth_gb_per_s": 2})


def with_slow_level(kib: float) -> MachineSpec:
    """Behind a level that groups do not use one whose port is slower than the DRAM."""
    machine = with_level(64)
    slow = replace(machine.buffers[1], name="l3", capacity_kib=kib, read_bytes_per_cycle=1, write_bytes_per_cycle=1)
    pj = {"l1": 1.0, "l2": 3.0, "l3": 6.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    return replace(machine, buffers=(*machine.buffers, slow), energy=energy)


def searched(stream: OperatorStream, machine: MachineSpec, memory: str, name: str) -> tuple[GroupSearch, list[int]]:
    capacity = level_called(machine, memory).capacity_bytes
    graph = fusion_graph(stream, absorb=True)
    scheme = get_scheme(name, machine.working_buffer.capacity_bytes)
    problem = FusionProblem(
        graph=graph,
        scheme=scheme,
        capacity_bytes=machine.working_buffer.capacity_bytes,
        objective="dram",
        budget=1,
        seed=0,
    )
    tensors = Tensors(stream, graph, most_bytes=capacity, holds=("weights", "activations"))
    jobs = JobWays(
        stream, graph, machine, tensors, place=memory, search=_job_search(machine, "latency"), is_cycles=True
    )
    costs = PlanCosts(
        stream=stream, graph=graph, scheme=scheme, machine=machine, tensors=tensors, place=memory, jobs=jobs
    )
    groups = list(dict.fromkeys((*fitting_groups(problem), *jobs.jobs)))
    search = GroupSearch(costs=costs, groups=groups, capacity=capacity, until=time.process_time() + 120)
    search.run()
    return search, groups


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "kib"), [("lbdf", 6), ("lbdf", 16), ("brr", 6), ("brr", 16), ("depth_first", 6), ("depth_first", 16)]
)
def test_the_best_of_all_partitions_and_residents(scheme: str, kib: int) -> None:
    """Every partition, every choice of what each group has on chip, at its exact cost: none is better."""
    search, groups = searched(network(), with_buffer(kib), "l1", scheme)
    holds_for_all(search, groups)


def holds_for_all(search: GroupSearch, groups: list[int]) -> None:
    """The plan and its bound are the best of all partitions and residents; no floor is above a cost."""
    costs, best = search.costs, None
    for partition in plans(list(range(len(costs.graph)))):
        plan = ordered(costs.graph, tuple(partition))
        if len(plan) < len(partition) or not set(plan) <= set(groups):
            continue
        crossing = sorted({number for mask in plan for number in costs.tensors.of(mask).maps})
        for near in product((False, True), repeat=len(crossing)):
            kept = {number for number, is_near in zip(crossing, near, strict=True) if is_near}
            ways = [
                [p for p in costs.tensors.patterns(mask) if p.maps == kept & set(costs.tensors.of(mask).maps)]
                for mask in plan
            ]
            for chosen in product(*ways):
                patterns = dict(zip(plan, chosen, strict=True))
                rooms = rooms_of(costs, plan, patterns, search.capacity)
                if min(rooms) < 0:
                    continue
                found = [costs.exact(mask, patterns[mask], room) for mask, room in zip(plan, rooms, strict=True)]
                if all(way is not None for way in found):
                    total = sum(way.cost for way in found if way is not None)
                    best = total if best is None else min(best, total)
                for mask, way in zip(plan, found, strict=True):
                    assert way is None or costs.floor_of(mask, patterns[mask]) <= way.cost
    assert search.best is not None
    assert search.best.cost == best
    assert search.bound == best
    assert search.without is not None
    assert search.best.cost <= search.without.cost


def with_slow_ports() -> MachineSpec:
    """Whose DRAM is faster than copies within the working buffer."""
    slow = replace(EDGE.buffers[0], capacity_kib=24, read_bytes_per_cycle=1, write_bytes_per_cycle=1)
    return replace(EDGE, buffers=(slow,))


SLOW = [
    pytest.param(with_slow_level(24), "l2", False, id="a level"),
    pytest.param(with_slow_level(24), "l3", True, id="a slow level"),
    pytest.param(with_slow_ports(), "l1", True, id="slow copies"),
    pytest.param(
        with_buffer(6).with_(**{"dram.ports": "separate", "dram.bandwidth_gb_per_s": 0.2}),
        "l1",
        False,
        id="two ways to the DRAM",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["lbdf", "brr", "depth_first"])
@pytest.mark.parametrize(("machine", "memory", "is_slow"), SLOW)
def test_what_is_on_chip_is_not_always_nearer_than_the_dram(
    scheme: str, machine: MachineSpec, memory: str, is_slow: bool
) -> None:
    """In a level everything comes through its port: groups and jobs may be faster with a part of it in the DRAM; so do
    copies within the working buffer.
    """
    b = Layers("small", activations="int8", weights="int8")
    x = b.conv(b.conv(b.input("image", (1, 8, 8, 8)), 32, 1, "expand"), 32, 3, "depthwise", groups=32)
    stream = b.finish([b.conv(x, 16, 1, "project", stride=2)])
    search, groups = searched(stream, machine, memory, scheme)
    holds_for_all(search, groups)
    costs, n_slower = search.costs, 0
    for mask in groups:
        every = [costs.exact(mask, pattern, search.capacity) for pattern in costs.tensors.patterns(mask)]
        nearest = costs.search(mask, costs.tensors.nearest(mask))
        n_slower += bool(nearest) and any(way is not None and way.cost < nearest[0].cost for way in every)
    if is_slow and (memory != "l1" or not costs.scheme.works_in_place):
        assert n_slower > 0


def test_everything_stays() -> None:
    """With room for all the plan is proven at once, is better than operators one by one, with sound addresses."""
    found = plan_groups(network(), with_buffer(256), seconds=60)
    assert found.proven
    assert found.alone is not None
    assert found.without is not None
    assert found.cost < found.alone < found.without
    assert found.memory == "l1"
    assert found.weight_bytes > 0 < found.first_cycles
    assert any(group.how == "fused" and len(group.operators) > 1 for group in found.groups)
    placed = [(one.first, one.last, one.address, one.address + one.n_bytes) for one in found.tensors]
    for at, a in enumerate(placed):
        for b in placed[:at]:
            assert a[1] < b[0] or b[1] < a[0] or a[3] <= b[2] or b[3] <= a[2]
    assert found.peak_bytes <= found.top_address <= found.capacity_bytes
    assert {name for group in found.groups for name in group.operators} == {op.name for op in network().operators}
    page, drawing = kept_page(found, command="tilewright search"), draw_kept(found)
    assert drawing in page and "proven best" in page and "weights kept between inferences" in page
    assert drawing.count('class="block"') == len(found.tensors) + sum(group.tile_bytes > 0 for group in found.groups)
    assert all(group.tile_address + group.tile_bytes <= found.top_address for group in found.groups)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["brr", "depth_first", "depth_first_h_cached"])
def test_other_schemes_keep_operands_too(scheme: str) -> None:
    """Never worse than operators one by one, which are among their groups; with a level, groups hand maps on there."""
    for machine in (with_buffer(32), with_level(64)):
        found = plan_groups(network(), machine, scheme, seconds=60)
        assert found.alone is not None
        assert found.bound <= found.cost <= found.alone
        assert found.tensors


@pytest.mark.slow
def test_a_level_keeps_what_groups_hand_on() -> None:
    found = plan_groups(network(), with_level(256), seconds=60)
    assert found.memory == "l2"
    assert found.without is not None
    assert found.cost < found.without
    assert any(not one.is_weight for one in found.tensors)


def test_what_has_no_plan_is_refused() -> None:
    stream = network()
    with pytest.raises(InputError, match="allowed latency, energy"):
        plan_groups(stream, with_buffer(64), objective="dram")
    with pytest.raises(InputError, match="keeps nothing on chip between groups"):
        plan_groups(stream, with_buffer(64), "optimus-rules")
    with pytest.raises(InputError, match="no memory that may hold tensors"):
        plan_groups(stream, replace(with_buffer(64), n_cores=2))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The table says what is kept, and how good it is; options without meaning are refused."""
    command = ["search", "ds-cnn", "--over", "fusion", "-a", "edge-16x16", "--activations", "int8", "--weights", "int8"]
    assert run([*command, "--residency", "plan", "--method", "dp"]) == 2
    assert "--method: means nothing" in capsys.readouterr().err
    assert run([*command, "--residency", "plans"]) == 2
    assert 'given "plans"' in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "ds-cnn", "--over", "fusion", "-a", "edge-16x16", "--activations", "int8", "--weights", "int8"]
    assert run([*command, "--residency", "plan"]) == 0
    told = capsys.readouterr().out
    assert "kept in l1" in told
    assert "optimum" in told


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)
