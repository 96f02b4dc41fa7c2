"""Running the search for groups and what stays on chip between them, in each memory that may hold tensors."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from tilewright.errors import InputError
from tilewright.hw_models.buffer import refuse_parts
from tilewright.hw_models.groups import main_alone
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.fusion.groups import fitting_groups
from tilewright.search.fusion.kept.alone import JobSearch, JobWays
from tilewright.search.fusion.kept.costs import PlanCosts
from tilewright.search.fusion.kept.outcome import KeptGroup, KeptOutcome
from tilewright.search.fusion.kept.search import Best, GroupSearch, lives_of
from tilewright.search.fusion.kept.tensors import Tensors
from tilewright.search.fusion.problem import FusionProblem
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, best_mapping
from tilewright.search.objective import Objective
from tilewright.search.residency.addresses import Block, packed
from tilewright.search.residency.plan import TIGHTER, first_load, memories_of
from tilewright.sim.fusion.commands import HOME_ASSUMPTIONS
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import members
from tilewright.sim.fusion.scheme import Memoised, get_scheme
from tilewright.sim.jobs import JOB_ASSUMPTIONS, Job, JobLayer
from tilewright.sim.lowering.costs import ASSUMPTIONS
from tilewright.sim.lowering.evaluation import needed_rooms
from tilewright.sim.lowering.levels import level_called
from tilewright.sim.residency_plan import PlacedTensor
from tilewright.units import KIB
from tilewright.workloads.homes import Place
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["USUAL_SECONDS", "plan_groups"]

USUAL_SECONDS = 120.0
MOST_TRIES = 8
PLAN_ASSUMPTIONS = (
    "groups run one after the other; nothing of a group is loaded under the one before it",
    "what is kept lives in one memory: maps from the group that makes them to the last that reads them, weights, of a "
    "group all or none, from one inference to the next (figures are those of an inference behind the first)",
    "inputs and results of the network are in the DRAM",
    "the bound takes it that a group is never slower with more room, nor, where it is read in its place in the working "
    "buffer, with more on chip",
)


def plan_groups(
    network: str | Path | OperatorStream,
    machine: str | MachineSpec,
    scheme: str | None = None,
    objective: str = "latency",
    *,
    buffer_bytes: int | None = None,
    absorb: bool = True,
    seconds: float = USUAL_SECONDS,
    progress: Progress | None = None,
) -> KeptOutcome:
    """Which operators of ``network`` run together and which maps and weights stay on chip between them, both at once.

    ``objective``: ``latency`` or ``energy``. ``buffer_bytes``: the working buffer (None: as the machine has it).
    ``absorb``: activations are part of the operator that they follow. ``seconds``: of processor time, a memory.

    Raises InputError for another objective, for a scheme whose programs heed no homes, for a machine without a memory
    that may hold tensors, and for one whose weights have a memory of their own or whose cores lack operators.
    """
    spec = main_alone(load_machine(machine) if isinstance(machine, str) else machine)
    if buffer_bytes is not None:
        sized = replace(spec.buffers[0], capacity_kib=buffer_bytes / KIB)
        spec = replace(spec, buffers=(sized, *spec.buffers[1:]))
    goal: Objective = "energy" if objective == "energy" else "latency"
    if objective not in ("latency", "energy"):
        raise InputError(f'objective: with a residency plan; given "{objective}"; allowed latency, energy')
    if spec.weights.memory is not None or spec.weights.compression != 1 or spec.lacks:
        raise InputError(
            f"{spec.name}: weights.memory, weights.compression and lacks: unknown to plans of fused groups; allowed "
            "--residency none, or simulate --residency plan"
        )
    refuse_parts(spec, "fused groups")
    stream = network if isinstance(network, OperatorStream) else load_network(network)
    way = get_scheme(scheme, spec.working_buffer.capacity_bytes)
    way.with_homes()
    best: KeptOutcome | None = None
    for memory in memories_of(spec):
        found = _plan_of(stream, spec, way, memory, goal, seconds, progress, absorb=absorb)
        if best is None or found.cost < best.cost:
            best = found
    if best is None:
        raise InputError(
            f"{spec.name}: no memory that may hold tensors between operators; allowed a machine with one core, or with "
            "a level that all cores share"
        )
    return best


def _plan_of(
    stream: OperatorStream,
    machine: MachineSpec,
    scheme: Memoised,
    memory: Place,
    objective: Objective,
    seconds: float,
    progress: Progress | None,
    *,
    absorb: bool,
) -> KeptOutcome:
    begin = time.perf_counter()
    graph = fusion_graph(stream, absorb=absorb)
    capacity = level_called(machine, memory).capacity_bytes
    problem = FusionProblem(
        graph=graph,
        scheme=scheme,
        capacity_bytes=machine.working_buffer.capacity_bytes,
        objective="dram",
        budget=1,
        seed=0,
    )
    groups = list(fitting_groups(problem))
    is_energy = objective == "energy"
    tensors = Tensors(stream, graph, most_bytes=capacity, holds=machine.buffer(memory).holds)
    search = _job_search(machine, objective)
    jobs = JobWays(stream, graph, machine, tensors, place=memory, search=search, is_cycles=not is_energy)
    costs = PlanCosts(
        stream=stream,
        graph=graph,
        scheme=scheme,
        machine=machine,
        tensors=tensors,
        place=memory,
        jobs=jobs,
        is_energy=is_energy,
    )
    room, bound = capacity, 0
    for _ in range(MOST_TRIES):
        one = GroupSearch(
            costs=costs,
            groups=list(dict.fromkeys((*groups, *jobs.jobs))),
            capacity=room,
            until=time.process_time() + seconds,
            progress=progress,
        )
        one.run()
        bound = bound or one.bound
        if one.best is None:
            break
        blocks, names = _blocks(costs, one.best)
        addresses = packed(blocks, capacity)
        if addresses is not None:
            told = _told(costs, one, blocks, names, addresses, objective, len(groups))
            return replace(told, bound=min(bound, told.cost), seconds=time.perf_counter() - begin)
        room, seconds = int(room * TIGHTER), seconds / 4
    raise InputError(f"{stream.name}: no plan of groups fits in {memory}; allowed a larger buffer, or --residency none")


def _job_search(machine: MachineSpec, objective: Objective) -> JobSearch:
    """Best mappings of jobs, each distinct layer searched once."""
    cache = MappingCache()
    known: dict[JobLayer, tuple[int, dict[Place, int]]] = {}

    def search(job: Job) -> tuple[int, dict[Place, int]]:
        if job.layer not in known:
            own = best_mapping(job, machine, objective, ATTENTION_DATAFLOWS, cache)
            cost = round(own.alone.energy_pj) if objective == "energy" else own.alone.cycles
            known[job.layer] = cost, needed_rooms(own.dataflow, own.layer, machine, own.tiling)
        return known[job.layer]

    return search


def _blocks(costs: PlanCosts, plan: Best) -> tuple[list[Block], list[tuple[str, bool]]]:
    """What is kept and the rooms of the groups, as blocks of time and bytes; the names of what is kept, weights or not.

    The weights of a group are one block.
    """
    patterns = dict(zip(plan.plan, plan.patterns, strict=True))
    last = len(plan.plan) - 1
    blocks: list[Block] = []
    names: list[tuple[str, bool]] = []
    for number, (first, end) in lives_of(costs, plan.plan, patterns).items():
        blocks.append(Block(first, end, costs.tensors.maps[number].n_bytes))
        names.append((costs.tensors.maps[number].name, False))
    for mask, pattern in patterns.items():
        if pattern.weights:
            blocks.append(Block(0, last, costs.tensors.of(mask).weight_bytes))
            nodes = [costs.graph.nodes[i].name for i in members(mask)]
            names.append((f"weights of {nodes[0]}" + (f" to {nodes[-1]}" if len(nodes) > 1 else ""), True))
    blocks += [Block(at, at, way.need) for at, way in enumerate(plan.ways) if way.need]
    return blocks, names


def _told(
    costs: PlanCosts,
    found: GroupSearch,
    blocks: list[Block],
    names: list[tuple[str, bool]],
    addresses: list[int],
    objective: Objective,
    n_listed: int,
) -> KeptOutcome:
    assert found.best is not None
    plan, graph, tensors, machine = found.best, costs.graph, costs.tensors, costs.machine
    tiles = {block.first: address for block, address in zip(blocks[len(names) :], addresses[len(names) :], strict=True)}
    groups = tuple(
        KeptGroup(
            operators=tuple(name for i in members(mask) for name in graph.nodes[i].operators),
            how=way.how,
            cost=way.cost,
            tile_bytes=way.need,
            tile_address=tiles.get(at, 0),
            maps=tuple(tensors.maps[number].name for number in sorted(pattern.maps)),
            weight_bytes=tensors.of(mask).weight_bytes if pattern.weights else 0,
        )
        for at, (mask, pattern, way) in enumerate(zip(plan.plan, plan.patterns, plan.ways, strict=True))
    )
    live = [sum(block.n_bytes for block in blocks if block.first <= at <= block.last) for at in range(len(groups))]
    cycles, energy_pj = first_load(machine, costs.place, sum(group.weight_bytes for group in groups))
    return KeptOutcome(
        network=costs.stream.name,
        machine=machine.name,
        scheme=costs.scheme.name,
        objective=objective,
        memory=costs.place,
        capacity_bytes=tensors.most_bytes,
        groups=groups,
        tensors=tuple(
            PlacedTensor(
                name=name,
                n_bytes=block.n_bytes,
                address=address,
                first=block.first,
                last=block.last,
                is_weight=is_weight,
            )
            for (name, is_weight), block, address in zip(names, blocks, addresses, strict=False)
        ),
        bound=found.bound,
        alone=None if found.alone is None else found.alone.cost,
        without=None if found.without is None else found.without.cost,
        peak_bytes=max(live),
        top_address=max((address + b.n_bytes for address, b in zip(addresses, blocks, strict=True)), default=0),
        first_cycles=cycles,
        first_energy_pj=energy_pj,
        n_groups_listed=n_listed,
        n_runs=costs.n_runs,
        n_searches=costs.jobs.n_searches,
        assumptions=(*machine.assumptions, *ASSUMPTIONS, *HOME_ASSUMPTIONS, *JOB_ASSUMPTIONS, *PLAN_ASSUMPTIONS),
    )
