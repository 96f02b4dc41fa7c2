"""The plan of a network on a machine: one memory on chip, its tensors with their addresses, and the layers by it.

Every memory that may hold tensors is tried by itself: the shared levels behind the working buffers, and the working
buffer of a machine with one core. Tensors of one plan live in one memory; the best of the plans is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from tilewright.hw_models.energy import energy_by_component
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.residency.addresses import Block, packed
from tilewright.search.residency.costs import JobCosts, Searched, canonical
from tilewright.search.residency.solve import Ahead, PlannedJob, Solved, first_bound, solve
from tilewright.search.residency.spills import Copy, copy_job, divided, laid_out, lifelong
from tilewright.search.residency.tensors import JobOperands, Resident, residents_of
from tilewright.sim.engine.program import Engine, ProgramBuilder
from tilewright.sim.engine.run import simulate
from tilewright.sim.jobs import Job, JobLayer, stored_bytes
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.family import family_of
from tilewright.sim.lowering.levels import channels_of, level_called, levels_of
from tilewright.sim.residency_plan import PlacedTensor, ResidencyPlan
from tilewright.units import BITS_PER_BYTE
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["TIGHTER", "Planned", "first_load", "memories_of", "plan_residency"]

TIGHTER = 0.97  # share of the memory that the next plan may use where the addresses of one could not be found
MOST_TRIES = 8

#: The best mapping of a layer of job number n: its cost and the room of its tiles in each memory.
LayerSearch = Callable[[int, JobLayer], tuple[int, dict[Place, int]]]

#: Searches mappings of layers, each of job number n, that will be asked for.
LayersAhead = Callable[[Sequence[tuple[int, JobLayer]]], None]


class Planned(NamedTuple):
    """The plan, and the layers of the jobs by it. ``order``: of jobs (by number) and copies of tensors that leave the
    chip for a time; empty where there are none.
    """

    plan: ResidencyPlan
    layers: tuple[JobLayer, ...]
    order: tuple[int | Copy, ...] = ()

    def run_order(self, jobs: Sequence[Job]) -> tuple[Job, ...]:
        """``jobs`` with their layers, and the copies between them."""
        own = [replace(job, layer=layer) for job, layer in zip(jobs, self.layers, strict=True)]
        found, seen = [], Counter[tuple[str, bool]]()
        for one in self.order or range(len(own)):
            if isinstance(one, int):
                found.append(own[one])
                continue
            seen[one.tensor, one.is_fill] += 1
            found.append(copy_job(one, seen[one.tensor, one.is_fill]))
        return tuple(found)


def memories_of(machine: MachineSpec) -> tuple[Place, ...]:
    """The memories on chip that may hold tensors between operators."""
    near = machine.working_buffer
    shared = tuple(level.name for level in levels_of(machine) if level.is_shared or machine.n_cores == 1)
    return (*((near.name,) if machine.n_cores == 1 and not near.parts else ()), *shared)


def plan_residency(
    stream: OperatorStream,
    jobs: Sequence[Job],
    machine: MachineSpec,
    search: LayerSearch,
    *,
    objective: str = "latency",
    seconds: float = 60.0,
    progress: Progress | None = None,
    ahead: LayersAhead | None = None,
    spills: bool = False,
) -> Planned | None:
    """The best plan over the memories of ``machine``; None where none is better than everything in the DRAM.

    ``search``: the best mapping of a layer (InputError where none fits); ``ahead``: may search several at once before
    they are asked for. ``seconds``: of processor time for the proof, a memory. ``spills``: whether tensors may leave
    the chip for a part of their lives, in the memory of the best plan of whole lives (the largest, if there is none).
    """
    operands, residents = residents_of(stream, jobs)
    sizes = _stored_weights(stream, jobs, operands, machine)
    residents = tuple(replace(one, n_bytes=sizes.get(one.name, one.n_bytes)) for one in residents)
    tried = []
    for memory in memories_of(machine):
        holds, capacity = machine.buffer(memory).holds, level_called(machine, memory).capacity_bytes
        own = [one for one in residents if ("weights" if one.is_weight else "activations") in holds]
        own = [one for one in own if one.n_bytes <= capacity]
        if own:
            planned = _jobs(memory, capacity, jobs, operands, own, machine, search, is_cycles=objective != "energy")
            tried.append(_Memory(memory, capacity, planned, own, _ahead_of(planned, ahead)))
    if len(tried) > 1:  # the most promising one first, so that the others soon need not be settled
        bounds = [first_bound(one.jobs, one.residents, one.capacity, seconds=seconds, ahead=one.ahead) for one in tried]
        tried = [tried[at] for at in sorted(range(len(tried)), key=bounds.__getitem__)]
    best: Planned | None = None
    for one in tried:
        to_beat = None if best is None else best.plan.cost
        found = _plan_of(one, machine, objective, seconds, progress, to_beat)
        if found is not None and (best is None or found.plan.cost < best.plan.cost):
            best = found
    return _with_spills(tried, best, machine, search, objective, seconds, progress) if spills else best


def _with_spills(
    memories: Sequence[_Memory],
    best: Planned | None,
    machine: MachineSpec,
    search: LayerSearch,
    objective: str,
    seconds: float,
    progress: Progress | None,
) -> Planned | None:
    """``best``, or a better plan in which tensors leave the chip for parts of their lives."""
    if not memories:
        return best
    memory = max(memories, key=lambda one: (best is not None and one.name == best.plan.memory, one.capacity))
    name, capacity, jobs, residents, ahead = memory
    if best is not None:
        best = best._replace(plan=replace(best.plan, whole_lives=best.plan.cost))

    def found_at(at: int, layer: JobLayer) -> Searched:
        return _searching(search, at, name)(layer)

    parts = divided(residents, jobs, machine, name, capacity, found_at, is_cycles=objective != "energy")
    if parts is None:
        return best
    kept = {tensor.name for tensor in best.plan.tensors} if best is not None else set()
    start = lifelong(parts, [resident.name in kept for resident in residents])
    room = capacity
    for _ in range(MOST_TRIES):
        how = {"seconds": seconds, "progress": progress, "ahead": ahead, "lives": parts.lives, "start": start}
        solved = solve(parts.jobs, parts.residents, room, **how)  # type: ignore[arg-type]
        whole = None if solved is None else solved.without if best is None else best.plan.cost
        if solved is None or whole is None or solved.cost >= whole:
            return best
        laid = laid_out(parts, solved.kept)
        of_jobs = [_tile_room(*one) for one in zip(parts.jobs, solved.patterns, solved.rooms, strict=True)]
        tiles = [of_jobs[one] if isinstance(one, int) else one.need for one in laid.order]
        blocks = [Block(stay.first, stay.last, stay.n_bytes) for stay in laid.stays]
        blocks += [Block(at, at, n_bytes) for at, n_bytes in enumerate(tiles) if n_bytes]
        addresses = packed(blocks, capacity)
        if addresses is not None:
            found = _told(name, capacity, machine, objective, parts.jobs, solved, laid.stays, tiles, blocks, addresses)
            plan = replace(found.plan, copies=laid.told, whole_lives=whole)
            return Planned(plan, found.layers, laid.order if laid.told else ())
        room = int(room * TIGHTER)
    return best


class _Memory(NamedTuple):
    """A memory that may hold tensors: its bytes, the jobs with their costs there, and the tensors; searches ahead."""

    name: Place
    capacity: int
    jobs: list[PlannedJob]
    residents: list[Resident]
    ahead: Ahead | None


def _ahead_of(jobs: Sequence[PlannedJob], ahead: LayersAhead | None) -> Ahead | None:
    """``ahead`` for layers by their costs."""
    if ahead is None:
        return None
    first = {id(job.costs): at for at, job in reversed(list(enumerate(jobs)))}
    return lambda wanted: ahead([(first[id(costs)], layer) for costs, layer in wanted])


def _stored_weights(
    stream: OperatorStream, jobs: Sequence[Job], operands: Sequence[JobOperands], machine: MachineSpec
) -> dict[str, int]:
    """Bytes of weights as the machine stores them: compressed, with what it needs to leave zeros out, with its engine's
    scales.
    """
    sizes: dict[str, int] = {}
    for job, own in zip(jobs, operands, strict=True):
        if isinstance(job.layer, GemmLayer) and job.layer.b_is_weight and own.reads[1]:
            layer = family_of(job.layer).adapted(job.layer, machine)
            sizes[own.reads[1]] = max(sizes.get(own.reads[1], 0), stored_bytes(stream, job, layer))
    return sizes


def _plan_of(
    memory: _Memory,
    machine: MachineSpec,
    objective: str,
    seconds: float,
    progress: Progress | None,
    to_beat: int | None,
) -> Planned | None:
    """The best plan of one memory; None where nothing stays there, or none is below ``to_beat``."""
    name, capacity, planned, residents, ahead = memory
    room = capacity
    for _ in range(MOST_TRIES):
        solved = solve(planned, residents, room, seconds=seconds, progress=progress, to_beat=to_beat, ahead=ahead)
        if solved is None or not any(solved.kept):
            return None
        tiles = [
            _tile_room(job, pattern, r) for job, pattern, r in zip(planned, solved.patterns, solved.rooms, strict=True)
        ]
        kept = [resident for resident, is_kept in zip(residents, solved.kept, strict=True) if is_kept]
        blocks = [Block(resident.first, resident.last, resident.n_bytes) for resident in kept]
        blocks += [Block(at, at, n_bytes) for at, n_bytes in enumerate(tiles) if n_bytes]
        addresses = packed(blocks, capacity)
        if addresses is not None:
            return _told(name, capacity, machine, objective, planned, solved, kept, tiles, blocks, addresses)
        room = int(room * TIGHTER)
    return None


def _jobs(
    memory: Place,
    capacity: int,
    jobs: Sequence[Job],
    operands: Sequence[JobOperands],
    residents: Sequence[Resident],
    machine: MachineSpec,
    search: LayerSearch,
    *,
    is_cycles: bool,
) -> list[PlannedJob]:
    """The jobs with their costs, equal jobs with the same."""
    number = {resident.name: i for i, resident in enumerate(residents)}
    known: dict[tuple[JobLayer, JobOperands, tuple[int, ...]], JobCosts] = {}
    found = []
    for at, (job, own) in enumerate(zip(jobs, operands, strict=True)):
        reads = tuple(name if name in number else "" for name in own.reads)
        own = own._replace(reads=reads, out=own.out if own.out in number else "")
        plain, names = canonical(own)
        sizes = tuple(residents[number[name]].n_bytes for name in names)
        key = (job.layer, plain, sizes)
        if key not in known:
            known[key] = JobCosts(
                layer=job.layer,
                own=plain,
                sizes=sizes,
                machine=machine,
                place=memory,
                capacity=capacity,
                search=_searching(search, at, memory),
                floors_by_bound=is_cycles,
            )
        found.append(PlannedJob(costs=known[key], tensors=tuple(number[name] for name in names)))
    return found


def _searching(search: LayerSearch, at: int, memory: Place) -> Callable[[JobLayer], Searched]:
    def searched(layer: JobLayer) -> Searched:
        cost, rooms = search(at, layer)
        return Searched(cost, rooms.get(memory, 0))

    return searched


def _tile_room(job: PlannedJob, pattern: tuple[bool, ...], room: int) -> int:
    found = job.costs.exact(pattern, room)
    assert found is not None
    return found.need


def _told(
    memory: Place,
    capacity: int,
    machine: MachineSpec,
    objective: str,
    planned: Sequence[PlannedJob],
    solved: Solved,
    kept: Sequence[Resident],
    tiles: Sequence[int],
    blocks: Sequence[Block],
    addresses: Sequence[int],
) -> Planned:
    """The plan in the words of results, and the layers that follow it."""
    live = [sum(block.n_bytes for block in blocks if block.first <= at <= block.last) for at in range(len(tiles))]
    layers = tuple(
        job.costs.planned(pattern, room)
        for job, pattern, room in zip(planned, solved.patterns, solved.rooms, strict=True)
    )
    cycles, energy_pj = first_load(machine, memory, sum(r.n_bytes for r in kept if r.is_weight))
    plan = ResidencyPlan(
        memory=memory,
        capacity_bytes=capacity,
        tensors=tuple(
            PlacedTensor(
                name=resident.name,
                n_bytes=resident.n_bytes,
                address=address,
                first=resident.first,
                last=resident.last,
                is_weight=resident.is_weight,
            )
            for resident, address in zip(kept, addresses, strict=False)
        ),
        tile_bytes=tuple(tiles),
        objective=objective,
        cost=solved.cost,
        bound=solved.bound,
        without=solved.without,
        heuristic=solved.heuristic,
        peak_bytes=max(live),
        top_address=max(address + block.n_bytes for address, block in zip(addresses, blocks, strict=True)),
        first_cycles=cycles,
        first_energy_pj=energy_pj,
        n_searches=sum(costs.n_searches for costs in {id(job.costs): job.costs for job in planned}.values()),
        n_rounds=solved.n_rounds,
    )
    return Planned(plan, layers)


def first_load(machine: MachineSpec, memory: Place, n_bytes: int) -> tuple[int, float]:
    """(cycles, pJ) of bringing the weights that stay from the DRAM, before the first inference, by one mover."""
    if not n_bytes:
        return 0, 0.0
    costs = TileCosts(None, machine)
    near = memory == machine.working_buffer.name
    if machine.weights.memory is not None:
        work = costs.load(1, n_bytes, BITS_PER_BYTE, home=machine.weights.memory.name)
    else:
        work = costs.load(1, n_bytes, BITS_PER_BYTE) if near else costs.fetch(memory, 1, n_bytes, BITS_PER_BYTE)
    builder = ProgramBuilder([Engine("load", "load")], channels_of(machine))
    channel = work.channel
    if not near and machine.weights.memory is None:
        written = level_called(machine, memory).write_channel
        rates = {at: channels_of(machine)[at].bytes_per_cycle for at in (channel, written)}
        channel = min(rates, key=lambda at: rates[at])
    builder.transfer(0, n_bytes=work.n_bytes, latency_cycles=work.cycles, channel=channel, cost=work)
    cycles = simulate(builder.build()).cycles
    return cycles, sum(energy_by_component(machine, work.counters, cycles).values())
