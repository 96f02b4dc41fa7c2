"""What stays on chip over a network: the plan against all plans, its room and addresses, and what it saves."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from tilewright.__main__ import main
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferSpec, MachineSpec
from tilewright.search.executors.calls import Helpers
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.search.network_why import why_stream
from tilewright.search.residency.addresses import Block, packed
from tilewright.search.residency.plan import _stored_weights, memories_of
from tilewright.search.residency.solve import _evaluated, solve
from tilewright.search.residency.tensors import residents_of
from tilewright.sim.jobs import jobs_on
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> MappingCache:
    """One cache for this file, so that each mapping is searched once."""
    return MappingCache(tmp_path_factory.mktemp("cache"))


def network() -> OperatorStream:
    """Convolutions with a residual, a linear layer whose weights are large, and an attention."""
    b = Layers("small", activations="int8", weights="int8")
    x = b.elementwise("relu", b.conv(b.input("image", (1, 8, 16, 16)), 16, 3, "first"))
    x = b.elementwise("add", b.conv(x, 16, 3, "second"), x)
    z = b.input("z", (1, 48, 64))
    q, k, v = (b.linear(z, 64, name) for name in "qkv")
    z = b.linear(b.linear(b.attention(q, k, v, "attention", head_dim=16), 192, "up"), 64, "down")
    return b.finish([x, z])


def with_buffer(kib: float, **changes: object) -> MachineSpec:
    return EDGE.with_(**{"buffers.l1.capacity_kib": kib, "dram.bandwidth_gb_per_s": 2, **changes})


def with_level(kib: float, n_cores: int = 4) -> MachineSpec:
    far = BufferSpec(
        name="l2", capacity_kib=kib, read_bytes_per_cycle=64, write_bytes_per_cycle=64, shared_by_cores=True
    )
    pj = {"l1": 1.0, "l2": 3.0}
    energy = replace(EDGE.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    machine = replace(EDGE, buffers=(*EDGE.buffers, far), energy=energy, n_cores=n_cores)
    return machine.with_(**{"buffers.l1.capacity_kib": 24, "dram.bandwidth_gb_per_s": 2})


def overlap(plan_blocks: list[tuple[int, int, int, int]]) -> bool:
    """Whether two of (first, last, address, end) meet in time and addresses."""
    return any(
        a[0] <= b[1] and b[0] <= a[1] and a[2] < b[3] and b[2] < a[3]
        for i, a in enumerate(plan_blocks)
        for b in plan_blocks[:i]
    )


MACHINES = [
    pytest.param(with_buffer(48), marks=pytest.mark.slow, id="a small buffer"),
    pytest.param(with_buffer(1024), id="a large buffer"),
    pytest.param(with_level(48), marks=pytest.mark.slow, id="a small level"),
    pytest.param(with_level(512), id="a large level"),
]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_plan_fits_and_saves(machine: MachineSpec, kept: MappingCache) -> None:
    """No two tensors at one place at one time; the run moves no more and takes no longer; bounds hold."""
    stream = network()
    plain = simulate_stream(stream, machine, cache=kept, residency=False)
    result = simulate_stream(stream, machine, cache=kept, residency=True)
    plan = result.residency
    assert plain.residency is None and plan is not None
    assert plan.proven
    assert plan.bound <= plan.cost < plan.without
    assert result.cycles <= plain.cycles
    assert result.dram_bytes < plain.dram_bytes
    assert all(operator.cycles >= operator.lower_bound.cycles for operator in result.operators)
    placed = [(one.first, one.last, one.address, one.address + one.n_bytes) for one in plan.tensors]
    assert not overlap(placed)
    assert max(end for *_, end in placed) <= plan.top_address <= plan.capacity_bytes
    for at, tiles in enumerate(plan.tile_bytes):
        live = sum(one.n_bytes for one in plan.tensors if one.first <= at <= one.last)
        assert live + tiles <= plan.peak_bytes <= plan.capacity_bytes
    assert (plan.first_cycles > 0) == (plan.weight_bytes > 0)
    assert memories_of(machine)[-1] == plan.memory


def test_everything_fits(kept: MappingCache) -> None:
    """With room for all, only inputs and results of the network cross the DRAM, and more room changes nothing."""
    stream = network()
    results = [simulate_stream(stream, with_buffer(kib), cache=kept, residency=True) for kib in (1024, 4096)]
    outside = sum(stream.tensor(name).n_bytes for name in (*stream.inputs, *stream.outputs))
    for result in results:
        n_weights = sum(1 for name in result.residency.tensors if name.is_weight)  # type: ignore[union-attr]
        assert n_weights == 7
        assert outside <= result.dram_bytes < 2 * outside  # bursts, halos, inputs that three products read
    assert results[0].cycles == results[1].cycles


@pytest.mark.slow
def test_more_room_is_never_worse(kept: MappingCache) -> None:
    stream = network()
    costs = []
    for kib in (24, 48, 96, 256):
        plan = simulate_stream(stream, with_buffer(kib), cache=kept, residency=True).residency
        assert plan is not None and plan.proven
        costs.append(plan.cost)
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_the_best_of_all_plans(kept: MappingCache) -> None:
    """Every subset of the tensors, at its exact cost: none is better than the plan."""
    from tilewright.search.network import _Searches, _Searching
    from tilewright.search.residency.plan import _ahead_of, _jobs

    machine, stream = with_buffer(40), network()
    jobs = jobs_on(stream, machine)
    operands, residents = residents_of(stream, jobs)
    few = [one for one in residents if one.n_bytes <= machine.working_buffer.capacity_bytes][:6]
    planning = _Searches(jobs, _Searching(machine, "latency", ("flash2",), kept), Helpers(1, print, None))
    planned = _jobs(
        "l1",
        machine.working_buffer.capacity_bytes,
        jobs,
        operands,
        few,
        machine,
        planning.search,
        is_cycles=True,
    )
    capacity = machine.working_buffer.capacity_bytes
    found = solve(planned, few, capacity, seconds=30)
    assert found is not None
    every = [_evaluated(planned, few, capacity, subset) for subset in product((False, True), repeat=len(few))]
    assert found.cost == min(plan.cost for plan in every if plan is not None)
    assert found.bound == found.cost
    anew = _jobs("l1", capacity, jobs, operands, few, machine, planning.search, is_cycles=True)
    again = solve(anew, few, capacity, seconds=30, to_beat=found.cost + 1, ahead=_ahead_of(anew, planning.ahead))
    assert again is not None and (again.cost, again.bound) == (found.cost, found.cost)
    assert solve(anew, few, capacity, seconds=30, to_beat=found.cost) is None


def test_a_slow_level_is_not_always_better_than_the_dram(kept: MappingCache) -> None:
    """A level whose port is slower than the DRAM and a nearer level: floors are not above any cost, and the plan is not
    worse than any subset of the tensors.
    """
    from tilewright.search.network import _Searches, _Searching
    from tilewright.search.residency.plan import _ahead_of, _jobs

    b = Layers("small", activations="int8", weights="int8")
    stream = b.finish([b.linear(b.linear(b.input("z", (1, 48, 32)), 64, "up"), 32, "down")])
    machine = with_level(64, n_cores=2)
    slow = replace(machine.buffers[1], name="l3", capacity_kib=40, read_bytes_per_cycle=1, write_bytes_per_cycle=1)
    pj = {"l1": 1.0, "l2": 3.0, "l3": 6.0}
    energy = replace(machine.energy, buffer_read_pj_per_byte=pj, buffer_write_pj_per_byte=pj)
    machine = replace(machine, buffers=(*machine.buffers, slow), energy=energy)
    jobs = jobs_on(stream, machine)
    operands, residents = residents_of(stream, jobs)
    planning = _Searches(jobs, _Searching(machine, "latency", ("flash2",), kept), Helpers(1, print, None))
    capacity = machine.buffer("l3").capacity_bytes
    few = [one for one in residents if one.n_bytes <= capacity]
    planned = _jobs("l3", capacity, jobs, operands, few, machine, planning.search, is_cycles=True)
    floors = [{pattern: job.costs.floor(pattern) for pattern in job.costs.patterns()} for job in planned]
    found = solve(planned, few, capacity, seconds=30)
    assert found is not None and found.bound == found.cost
    every = [_evaluated(planned, few, capacity, subset) for subset in product((False, True), repeat=len(few))]
    assert found.cost == min(plan.cost for plan in every if plan is not None)
    exact = [{p: job.costs.exact(p, capacity) for p in floor} for job, floor in zip(planned, floors, strict=True)]
    assert all(own[p].cost >= floor[p] for own, floor in zip(exact, floors, strict=True) for p in floor)  # type: ignore[union-attr]
    assert any(own[max(own)].cost > own[min(own)].cost for own in exact)  # type: ignore[union-attr]
    anew, more = (
        _jobs("l3", capacity, jobs, operands, few, machine, planning.search, is_cycles=True) for _ in range(2)
    )
    again = solve(anew, few, capacity, seconds=30, to_beat=found.cost + 1, ahead=_ahead_of(anew, planning.ahead))
    assert again is not None and (again.cost, again.bound) == (found.cost, found.cost)
    assert solve(more, few, capacity, seconds=30, to_beat=found.cost, ahead=_ahead_of(more, planning.ahead)) is None


def test_what_a_memory_holds(kept: MappingCache) -> None:
    """A buffer for activations alone keeps no weights, one for weights alone nothing else; none, no plan."""
    stream = network()
    for holds in (("activations",), ("weights",)):
        machine = with_buffer(1024)
        machine = replace(machine, buffers=(replace(machine.buffers[0], holds=holds),))
        plan = simulate_stream(stream, machine, cache=kept, residency=True).residency
        assert plan is not None
        assert {one.is_weight for one in plan.tensors} == {holds == ("weights",)}


@pytest.mark.slow
def test_energy_and_why(kept: MappingCache) -> None:
    """By energy the plan is at least as frugal; what-ifs run with plans too."""
    stream, machine = network(), with_buffer(96, residency="plan")
    fast = simulate_stream(stream, machine, cache=kept)
    frugal = simulate_stream(stream, machine, cache=kept, objective="energy")
    assert frugal.residency is not None and frugal.residency.objective == "energy"
    assert frugal.energy_pj <= fast.energy_pj * 1.02
    why = why_stream(stream, machine, cache=kept)
    assert why.result.cycles == fast.cycles
    assert all(case.cycles <= fast.cycles for case in why.what_ifs)


def test_packing() -> None:
    """First fit where it does; else by constraints; None where there is no room."""
    blocks = [Block(0, 1, 4), Block(1, 2, 4), Block(2, 3, 4), Block(0, 3, 2)]
    found = packed(blocks, 10)
    assert found is not None
    placed = [(b.first, b.last, at, at + b.n_bytes) for b, at in zip(blocks, found, strict=True)]
    assert not overlap(placed)
    assert packed(blocks, 9) is None
    assert packed([Block(0, 0, 11)], 10) is None


@pytest.mark.parametrize(
    ("changes", "bits"),
    [
        ({}, Fraction(8)),
        ({"weights.compression": 2}, Fraction(4)),
        ({"matrix.engine": "w4a16"}, Fraction(4) + Fraction(20, 128)),  # scale and zero point of a group of 128
    ],
)
def test_weights_are_kept_as_large_as_they_are_stored(changes: dict[str, object], bits: Fraction) -> None:
    b = Layers("product", activations="fp16", weights="int4" if "matrix.engine" in changes else "int8")
    network = b.finish([b.linear(b.input("x", (1, 8, 256)), 128, "product", bias=False)])
    rates = {"fp16": 1, "int8": 1, "int4": 1}
    figures = {"matrix.multiplies_per_pe_per_cycle": rates, "energy.multiply_accumulate_pj": rates}
    machine = EDGE.with_(**figures, **changes)
    operands, _ = residents_of(network, jobs_on(network, machine))
    sizes = _stored_weights(network, jobs_on(network, machine), operands, machine)
    assert list(sizes.values()) == [256 * 128 * bits / 8]


def test_attention_where_probabilities_have_no_rate_of_their_own(kept: MappingCache) -> None:
    b = Layers("attention", activations="int8", weights="int8")
    q, k, v = (b.input(name, (1, 16, 32)) for name in "qkv")
    stream = b.finish([b.linear(b.attention(q, k, v, "attention", head_dim=32), 16, "out")])
    machine = load_machine("ethos-u55-256 with dram.bandwidth_gb_per_s=0.2")
    without, planned = (simulate_stream(stream, machine, cache=kept, residency=plan) for plan in (False, True))
    assert planned.residency is not None and planned.cycles < without.cycles


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table says what is kept, where, how well, and what the first inference takes; another word is refused."""
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    command = ["simulate", "network:ds-cnn", "-a", "edge-16x16", "--activations", "int8", "--weights", "int8"]
    assert run([*command, "--residency", "plan", "--report", str(tmp_path / "page")]) == 0
    told = capsys.readouterr().out
    assert "kept in l1" in told and "proven best" in told and "first inference" in told
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "What stays on chip" in page and "stays between inferences" in page
    assert run([*command, "--residency", "plans"]) == 2
    assert 'given "plans"' in capsys.readouterr().err


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)
