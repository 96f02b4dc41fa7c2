"""Tensors that leave the chip for a part of their lives: the plan against all plans, copies, room, what they save."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import pytest

from tilewright.__main__ import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.network_page import network_page
from tilewright.reports.network_table import residency_rows
from tilewright.search.executors.calls import Helpers
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import _Searches, _Searching, simulate_stream
from tilewright.search.network_why import why_stream
from tilewright.search.residency.costs import Searched
from tilewright.search.residency.plan import _jobs, _searching
from tilewright.search.residency.solve import Life, _evaluated, _rooms, solve
from tilewright.search.residency.spills import Divided, divided, laid_out, lifelong
from tilewright.search.residency.tensors import residents_of
from tilewright.sim.jobs import JobLayer, jobs_on
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> MappingCache:
    """One cache for this file, so that each mapping is searched once."""
    return MappingCache(tmp_path_factory.mktemp("cache"))


def u_net() -> OperatorStream:
    """A skip over a halving, whose map is read at once and again at the end."""
    b = Layers("u-net", activations="int8", weights="int8")
    skip = b.conv(b.input("image", (1, 4, 16, 16)), 16, 1, "first")
    x = b.conv(skip, 32, 3, "down", stride=2)
    x = b.conv(x, 48, 1, "low")
    return b.finish([b.conv(b.concat([b.upsample(x, 2), skip], 1, "join"), 8, 1, "last")])


def with_buffer(kib: float, residency: str = "spills", gb_per_s: float = 0.5) -> MachineSpec:
    changes = {"buffers.l1.capacity_kib": kib, "dram.bandwidth_gb_per_s": gb_per_s, "residency": residency}
    return EDGE.with_(**changes)


def parts_of(stream: OperatorStream, machine: MachineSpec, cache: MappingCache, most: int) -> Divided:
    """The plan's terms where only the ``most`` activations that live longest may stay."""
    capacity = machine.working_buffer.capacity_bytes
    jobs = jobs_on(stream, machine)
    operands, residents = residents_of(stream, jobs)
    few = sorted((one for one in residents if not one.is_weight), key=lambda one: one.first - one.last)[:most]
    planning = _Searches(jobs, _Searching(machine, "latency", ("flash2",), cache), Helpers(1, print, None))

    def search(at: int, layer: JobLayer) -> Searched:
        return _searching(planning.search, at, "l1")(layer)

    planned = _jobs("l1", capacity, jobs, operands, few, machine, planning.search, is_cycles=True)
    found = divided(few, planned, machine, "l1", capacity, search, is_cycles=True)
    assert found is not None
    return found


@pytest.mark.parametrize(("kib", "most"), [(16, 2), *(pytest.param(n, 3, marks=pytest.mark.slow) for n in (20, 24))])
def test_the_best_of_all_plans(kib: float, most: int, kept: MappingCache) -> None:
    """Every way for tensors to be on chip at each use and between them, at its exact cost: none is better."""
    machine = with_buffer(kib)
    capacity = machine.working_buffer.capacity_bytes
    parts = parts_of(u_net(), machine, kept, most=most)
    n = len(parts.residents)
    assert any(len(life.uses) == 3 for life in parts.lives)
    every = [
        _evaluated(parts.jobs, parts.residents, capacity, subset, parts.lives)
        for subset in product((False, True), repeat=n)
    ]
    whole = [
        _evaluated(parts.jobs, parts.residents, capacity, lifelong(parts, subset), parts.lives)
        for subset in product((False, True), repeat=max(parts.names) + 1)
    ]
    found = solve(
        parts.jobs, parts.residents, capacity, seconds=30, lives=parts.lives, start=[False] * n
    )  # fmt: skip
    assert found is not None
    assert found.cost == found.bound == min(plan.cost for plan in every if plan is not None)
    assert found.cost <= min(plan.cost for plan in whole if plan is not None)


def test_where_a_life_is_copied() -> None:
    """Written out once, behind the first use after which it leaves; brought back before each use that it missed."""
    copy = Searched(10, 4)
    life = Life((1, 3, 6), on=(0, 1, 2), held=(3, 4), spill=copy, fill=copy._replace(cost=7))
    rooms = [8] * 7
    for on, held, cost in (
        ((1, 1, 1), (1, 1), 0),
        ((0, 0, 0), (0, 0), 0),
        ((1, 1, 0), (1, 0), 10),
        ((1, 1, 1), (1, 0), 17),
        ((1, 0, 1), (0, 0), 17),
        ((1, 1, 1), (0, 0), 24),
        ((0, 1, 1), (0, 1), 7),
        ((0, 1, 0), (0, 0), 7),
        ((1, 0, 0), (1, 0), None),
        ((0, 1, 1), (1, 1), None),
    ):
        assert life.copied([bool(one) for one in (*on, *held)], rooms) == cost
    assert life.copied([True, True, False, True, False], [8, 8, 8, 3, 8, 8, 8]) is None


def test_room_is_taken_at_uses_and_between(kept: MappingCache) -> None:
    """What is on chip at each job, part by part, is what lies there in the order of the run."""
    machine = with_buffer(16)
    parts = parts_of(u_net(), machine, kept, most=2)
    capacity = machine.working_buffer.capacity_bytes
    for number in range(2 ** len(parts.residents)):
        subset = [bool(number >> bit & 1) for bit in range(len(parts.residents))]
        if any(life.copied(subset, [capacity] * len(parts.jobs)) is None for life in parts.lives):
            continue
        laid = laid_out(parts, subset)
        rooms = _rooms(parts.jobs, parts.residents, capacity, subset)
        for place, one in enumerate(laid.order):
            live = sum(stay.n_bytes for stay in laid.stays if stay.first <= place <= stay.last)
            if isinstance(one, int):
                assert live == capacity - rooms[one]
        assert len(laid.told) == len(laid.order) - len(parts.jobs)


@pytest.fixture(scope="module")
def run(kept: MappingCache) -> NetworkResult:
    return simulate_stream(u_net(), with_buffer(16), cache=kept)


def test_the_run_has_the_copies_and_is_faster(run: NetworkResult, kept: MappingCache) -> None:
    plan = run.residency
    assert plan is not None and plan.proven
    plain = simulate_stream(u_net(), with_buffer(16, "plan"), cache=kept)
    assert plan.whole_lives == (plain.residency.cost if plain.residency is not None else plan.without)
    assert plan.cost < plan.whole_lives
    assert run.cycles < plain.cycles
    assert plan.copies
    names = [operator.name for operator in run.operators]
    assert len(run.operators) == len(plain.operators) + len(plan.copies)
    for one in plan.copies:
        assert names[one.at].startswith(f"{one.way} {one.name}")
        operator = run.operators[one.at]
        moved = operator.figures.dram_write_bytes if one.way == "spill" else operator.figures.dram_read_bytes
        assert one.n_bytes <= moved < one.n_bytes + 4096
        assert operator.cycles >= operator.lower_bound.cycles
    assert run.dram_bytes == sum(operator.dram_bytes for operator in run.operators)


def test_pages_and_tables_tell_the_copies(run: NetworkResult) -> None:
    assert run.stream is not None
    assert run.residency is not None
    case = NetworkCase(result=run, stream=run.stream, machine=with_buffer(16), objective="latency")
    (copy,) = run.residency.copies
    assert any(member.name == f"spill {copy.name}" for group in case.groups for member in group.members)
    assert dict(residency_rows(run.residency))["lives in parts"].startswith("1 spill (")
    page = network_page(case)
    assert f"spill {copy.name}" in page
    assert run.to_dict()["residency"]["copies"][0]["way"] == "spill"


@pytest.mark.slow
def test_what_ifs_have_other_copies(run: NetworkResult, kept: MappingCache) -> None:
    """With twice the memory or the bandwidth nothing need leave: such copies take no time there."""
    why = why_stream(u_net(), with_buffer(16), cache=kept)
    assert why.result.cycles == run.cycles
    assert all(len(case.operator_cycles) == len(run.operators) for case in why.what_ifs)
    assert all(case.cycles <= run.cycles for case in why.what_ifs)
    assert why.rows()


def test_addresses_do_not_overlap(run: NetworkResult) -> None:
    plan = run.residency
    assert plan is not None
    placed = [(one.first, one.last, one.address, one.address + one.n_bytes) for one in plan.tensors]
    for i, a in enumerate(placed):
        for b in placed[:i]:
            assert not (a[0] <= b[1] and b[0] <= a[1] and a[2] < b[3] and b[2] < a[3])
    for at, tiles in enumerate(plan.tile_bytes):
        live = sum(one.n_bytes for one in plan.tensors if one.first <= at <= one.last)
        assert live + tiles <= plan.peak_bytes <= plan.capacity_bytes
    assert len(plan.tile_bytes) == len(run.operators)


@pytest.mark.slow
def test_never_worse_than_whole_lives(kept: MappingCache) -> None:
    costs = []
    for kib in (12, 16):
        spills = simulate_stream(u_net(), with_buffer(kib), cache=kept).residency
        whole = simulate_stream(u_net(), with_buffer(kib, "plan"), cache=kept).residency
        assert spills is not None and spills.proven
        assert whole is None or spills.cost <= whole.cost
        costs.append(spills.cost)
    assert all(more <= fewer for fewer, more in pairwise(costs))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "ds-cnn", "-a", "edge-16x16", "--residency", "spill"])
    assert ended.value.code == 2
    assert "did you mean" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "ds-cnn", "-a", "edge-16x16", "--residency", "spills", "--pipeline", "2"])
    assert ended.value.code == 2
    with pytest.raises(InputError):
        EDGE.with_(residency="spill")
