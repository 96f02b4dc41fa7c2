"""The search for fusion groups: exact methods find the optimum, the others never pass it, edits keep plans sound."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tilewright.hw_models.spec import MachineSpec
from tilewright.search.fusion.groups import fitting_groups
from tilewright.search.fusion.methods.local import edited
from tilewright.search.fusion.plan import crossed, cuts_at, inner_edges, ordered, random_plan, singles
from tilewright.search.fusion.problem import FusionProblem
from tilewright.search.fusion.run import search_groups
from tilewright.search.fusion.split import random_splitter, repaired
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.graph.fusion_graph import FusionEdge, FusionGraph, FusionNode, members
from tilewright.sim.fusion.graph.geometry import AxisWindow, FeatureMap
from tilewright.sim.fusion.scheme import FusionScheme, GroupCost
from tilewright.workloads.stream.graph import OperatorStream

CAPACITY = 1000


def _graph(seed: int, n_nodes: int) -> FusionGraph:
    chance = random.Random(seed)
    density = chance.choice((0.2, 0.4, 0.6))
    maps = [FeatureMap(f"t{i}", 1, 1, 1, 8) for i in range(n_nodes)]
    nodes = tuple(
        FusionNode(index=i, operators=(f"n{i}",), kind="conv", function="conv", output=maps[i], in_channels=1)
        for i in range(n_nodes)
    )
    point = AxisWindow(1)
    edges = tuple(
        FusionEdge(p, i, maps[p], point, point)
        for i in range(n_nodes)
        for p in range(i)
        if chance.random() < density or (p == i - 1 and chance.random() < 0.5)
    )
    return FusionGraph(name="random", nodes=nodes, edges=edges, inputs=())


@dataclass
class Drawn:
    """A scheme in which what a group costs, and whether it fits, is drawn: nothing grows with the group."""

    seed: int
    share_fitting: float
    name: str = "drawn"
    source: str = ""
    assumptions: tuple[str, ...] = ()
    capacity_bytes: int = CAPACITY
    has_programs: bool = False
    unfusable: int = 0
    known: dict[int, GroupCost] = field(default_factory=dict)

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        if group_mask not in self.known:
            chance = random.Random(f"{self.seed} {group_mask}")
            size = group_mask.bit_count()
            self.known[group_mask] = GroupCost(
                buffer_bytes=CAPACITY if chance.random() < self.share_fitting else CAPACITY + 1,
                dram_read_bytes=chance.randrange(5, 12) * size,
                dram_write_bytes=chance.randrange(0, 20),
                weight_bytes=0,
            )
        return self.known[group_mask]

    def fusable_mask(self, graph: FusionGraph) -> int:
        return graph.all_mask & ~self.unfusable

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        return 0

    def programs(
        self, stream: OperatorStream, graph: FusionGraph, group_mask: int, machine: MachineSpec
    ) -> Iterator[FusedProgram]:
        return iter(())


def _partitions(items: list[int]) -> Iterator[list[int]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in _partitions(rest):
        yield [1 << first, *partition]
        for at, mask in enumerate(partition):
            yield [*partition[:at], mask | 1 << first, *partition[at + 1 :]]


def _brute_force(graph: FusionGraph, problem: FusionProblem) -> int:
    best = problem.plan_value(singles(graph))
    for partition in _partitions(list(range(len(graph)))):
        if all(graph.is_connected(mask) and problem.fits(mask) for mask in partition) and graph.is_acyclic(partition):
            best = min(best, problem.plan_value(tuple(partition)))
    return best


def _problem(graph: FusionGraph, scheme: FusionScheme, seed: int = 0) -> FusionProblem:
    return FusionProblem(
        graph=graph, scheme=scheme, capacity_bytes=CAPACITY, objective="dram", budget=100, seed=seed
    )  # fmt: skip


def _check(graph: FusionGraph, plan: tuple[int, ...]) -> None:
    union = 0
    for mask in plan:
        assert not union & mask
        assert graph.is_group(mask)
        needed = 0
        for i in members(mask):
            needed |= graph.predecessor_masks[i]
        assert not needed & ~mask & ~union, "a group stands before what it needs"
        union |= mask
    assert union == graph.all_mask


@pytest.mark.parametrize("seed", range(30))
def test_exact_methods_are_brute_force_and_the_others_are_not_better(seed: int) -> None:
    graph = _graph(seed, 2 + seed % 6)
    unfusable = 1 << seed % len(graph) if seed % 3 == 0 else 0
    scheme = Drawn(seed=seed, share_fitting=(0.3, 0.6, 1.0)[seed % 3], unfusable=unfusable)
    optimum = _brute_force(graph, _problem(graph, scheme))
    for method in ("dp", "cp_sat"):
        found = search_groups(graph, scheme, capacity_bytes=CAPACITY, method=method)
        assert found.value == optimum
        assert found.lower_bound == optimum
        assert found.proven
        _check(graph, found.plan)
    for method in ("random", "local"):
        found = search_groups(graph, scheme, capacity_bytes=CAPACITY, method=method, budget=60, seed=seed)
        assert found.value >= optimum
        assert found.n_plans == 60
        assert found.lower_bound is None
        _check(graph, found.plan)


def test_genetic_search_is_not_better_than_the_optimum_and_repeats() -> None:
    pytest.importorskip("pymoo")
    for seed in range(4):
        graph = _graph(seed, 7)
        scheme = Drawn(seed=seed, share_fitting=0.6)
        optimum = search_groups(graph, scheme, capacity_bytes=CAPACITY).value
        one, two = (
            search_groups(graph, scheme, capacity_bytes=CAPACITY, method="nsga2", budget=55, seed=3) for _ in range(2)
        )
        assert one.value >= optimum
        assert one.n_plans <= 55
        assert (one.plan, one.curve) == (two.plan, two.curve)
        _check(graph, one.plan)


@pytest.mark.parametrize("seed", range(20))
def test_listed_groups_are_all_connected_convex_groups(seed: int) -> None:
    graph = _graph(seed, 8)
    scheme = Drawn(seed=seed, share_fitting=0.7)
    problem = _problem(graph, scheme)
    groups = fitting_groups(problem)
    wanted = {m for m in range(1, 1 << len(graph)) if graph.is_group(m) and problem.fits(m)}
    assert set(groups) == wanted


@pytest.mark.parametrize("seed", range(20))
def test_edits_crossings_and_repairs_keep_plans_sound(seed: int) -> None:
    graph = _graph(seed, 10 + seed)
    scheme = Drawn(seed=seed, share_fitting=0.5)
    problem = _problem(graph, scheme, seed)
    plan = random_plan(graph, problem.fusable, problem.random)
    _check(graph, plan)
    for _ in range(60):
        plan = edited(problem, plan)
        _check(graph, plan)
        other = random_plan(graph, problem.fusable, problem.random)
        first, last = sorted(problem.random.sample(range(len(graph) + 1), 2))
        _check(graph, crossed(graph, plan, other, first, last))
        mended = repaired(problem, plan, random_splitter)
        _check(graph, mended)
        assert all(problem.fits(mask) for mask in mended)


@pytest.mark.parametrize("seed", range(20))
def test_every_edge_cuts_a_group_into_two_groups(seed: int) -> None:
    graph = _graph(seed, 9)
    for mask in range(1, 1 << len(graph)):
        if mask.bit_count() < 2 or not graph.is_group(mask):
            continue
        for edge in inner_edges(graph, mask):
            for first, second in cuts_at(graph, mask, edge):
                assert first | second == mask
                assert not first & second
                assert first >> edge[0] & 1
                assert second >> edge[1] & 1
                assert graph.is_group(first)
                assert graph.is_group(second)
                assert ordered(graph, (second, first)) == (first, second)
