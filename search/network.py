"""A whole network: every distinct operator at its own best mapping, run to the cycle, one after the other.

Operators follow each other with a barrier between them, as their data demands; what may cross the barrier is the
next operator's weights: with ``prefetch`` (on by default) its first weight tiles are loaded behind the current
operator's own loads, where the working buffer has room for both and the two together end earlier for it. Those loads
are commands of the current operator's program, and the next program starts with the tiles on chip; nothing is
estimated. They are booked with the operator that uses the weights: bytes, energy, and the cycles by which the run with
them is longer than the one without (both are run).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, floor
from operator import itemgetter
from typing import Any, NamedTuple

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.matrix_unit import holding_format
from tilewright.hw_models.overheads import host_assumptions, host_cycles, overhead_assumptions, overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.best_mapping import Mapped, Mappings, Way, anywhere, best_mapping, flows_of, score_of
from tilewright.search.executors.calls import Call, Helpers, n_jobs
from tilewright.search.gpu.kernel_options import KernelOptions, kernel_options
from tilewright.search.gpu.network import library_network
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.objective import Objective
from tilewright.search.residency.plan import Planned, plan_residency
from tilewright.sim.dataflows.attention.family import ATTENTION
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.engines import engine_use
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.run import simulate
from tilewright.sim.figures import figures_of
from tilewright.sim.jobs import JOB_ASSUMPTIONS, Job, JobLayer, assumptions_of_kinds, jobs_on, storage_assumptions
from tilewright.sim.lacking import fallback_note, refuse_without_fallback
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.evaluation import (
    AHEAD_LABEL,
    Ahead,
    build_phase,
    evaluate,
    fits,
    needed_rooms,
    phase_tiling,
)
from tilewright.sim.lowering.mapping import DATAFLOWS, Tiling
from tilewright.sim.network_result import NetworkResult, OperatorResult, OperatorRun
from tilewright.sim.residency_plan import ResidencyPlan
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.homes import Place
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.stream.graph import OperatorStream

__all__ = [
    "ATTENTION_DATAFLOWS",
    "ChainCost",
    "Chains",
    "Chosen",
    "JobRun",
    "Mapped",
    "Mappings",
    "Way",
    "best_mapping",
    "best_mappings",
    "flows_of",
    "runs_in_turn",
    "simulate_stream",
    "weights_ahead",
    "widened",
]


NOTHING = Counters()

#: Of a machine whose memory computes, where only its chip was run.
BANKS_IDLE = "the chip alone: the banks of its memory do not compute (search --over pim plans with them)"
# Tried for each attention operator; the best wins.
ATTENTION_DATAFLOWS = ATTENTION.in_networks


class Chosen(dict[JobLayer, Mapped]):
    """The mappings of a run, and the plan of what stayed on chip (None: everything was in the DRAM)."""

    planned: Planned | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    cycles: int
    counters: Counters
    busy_matrix: int
    busy_vector: int
    ahead: Counters  # the part of the counters that is the next operator's weights
    told: OperatorRun


class _Booked(NamedTuple):
    """An operator's share of the runs: its own without the loads for the next, and those for it in the one before."""

    run: _Run
    cycles: int
    counters: Counters
    early: Counters
    early_cycles: int


def simulate_stream(
    stream: OperatorStream,
    machine: MachineSpec,
    *,
    objective: Objective = "latency",
    prefetch: bool = True,
    fuse: bool = True,
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    widen: bool = False,
    cache: MappingCache | None = None,
    progress: Progress | None = None,
    also: Mappings | None = None,
    only: Mappings | None = None,
    chosen: Chosen | None = None,
    residency: bool | None = None,
    kernels: KernelOptions | None = None,
    n_processes: int | None = None,
) -> NetworkResult:
    """Run ``stream`` on ``machine``; exact cycles, energy and traffic by operator and in all.

    ``widen``: a product in a format that the array lacks is done in the narrowest that holds its values; storage and
    traffic stay as they are. ``also``: mappings of the same operators, found on another machine, that are tried beside
    those of the search (where there is more of a resource, nothing then gets worse for want of a candidate).
    ``only``: the mappings to run, without any search. ``chosen``: is filled with the mapping of each distinct operator.
    ``residency``: whether a plan says which tensors live on chip between operators, and which weights between
    inferences (None: as the machine says, where "spills" lets tensors leave for a part of their lives); the figures are
    then those of an inference behind the first.
    ``kernels``: on a GPU which kernels (None: library kernels where they are calibrated); these have no mappings,
    and of the other options only the objective's name means something to them. ``n_processes``: that search mappings at
    the same time, where that takes a while (None: :func:`tilewright.search.executors.calls.n_jobs`), with the same
    results. On a machine with unlike ``groups`` of cores the operators are placed on them
    (:mod:`tilewright.search.groups`), and ``also`` and ``chosen`` are left alone.

    Raises InputError, with the operator's place in the model, for a number format that the machine cannot multiply and
    for an operator that fits in no mapping.
    """
    how = kernel_options(machine) if kernels is None else kernels
    if not how.is_engine:
        return library_network(stream, machine, how, objective=objective)
    kept = MappingCache() if cache is None else cache
    if machine.groups:
        from tilewright.search.groups.run import simulate_on_groups  # which maps as this does

        _refuse_on_groups(machine, residency, only)
        return simulate_on_groups(
            stream,
            machine,
            objective=objective,
            prefetch=prefetch,
            fuse=fuse,
            attention_dataflows=attention_dataflows,
            widen=widen,
            cache=kept,
            progress=progress,
            n_processes=n_processes,
        )
    jobs = jobs_on(stream, machine, fuse=fuse)
    elsewhere = [job.operators[0] for job in jobs if isinstance(job.layer, FallbackLayer)]
    refuse_without_fallback(elsewhere, machine)
    if widen:
        jobs = tuple(widened(job, machine) for job in jobs)
    if only is not None:
        planned = only.planned if isinstance(only, Chosen) else None
        jobs = _planned_jobs(jobs, planned)
        mapped = _given_mappings(jobs, only, machine, progress)
    else:
        searching = _Searching(machine, objective, tuple(attention_dataflows), kept)
        plans = machine.residency != "none" if residency is None else residency
        with Helpers(n_jobs(n_processes), _begin_to_help, searching) as helpers:
            planned, mapped = _searched_mappings(
                _Searches(jobs, searching, helpers), stream if plans else None, progress
            )
        jobs = _planned_jobs(jobs, planned)
        for layer, rival in (also or {}).items():
            if layer in mapped:
                mapped[layer] = _better(mapped[layer], rival, machine, objective)
    distinct = list(mapped)
    if progress is not None:
        progress(len(distinct), len(distinct), stream.name)
    if chosen is not None:
        chosen.update(mapped)
        chosen.planned = planned
    plan = None if planned is None else planned.plan
    runs = _chain(jobs, mapped, machine, prefetch=prefetch)
    operators = tuple(
        _operator_result(job, mapped[job.layer], booked, machine)
        for job, booked in zip(jobs, _booked(runs), strict=True)
    )
    counters = sum((way.run.counters for way in runs), NOTHING)
    once, each = overhead_cycles(machine)
    host = host_cycles(machine, stream.inputs_and_outputs_bytes())
    fixed = once + each * sum(not isinstance(job.layer, FallbackLayer) for job in jobs) + host
    cycles = fixed + sum(way.run.cycles for way in runs)
    return NetworkResult(
        network=stream.name,
        machine=machine.name,
        operators=operators,
        figures=figures_of(
            machine,
            counters,
            cycles,
            matrix_cycles=sum(way.run.busy_matrix for way in runs),
            vector_cycles=sum(way.run.busy_vector for way in runs),
        ),
        macs=stream.macs,
        weight_bytes=stream.weight_bytes,
        n_steps=stream.n_steps,
        n_distinct=len(distinct),
        prefetch=prefetch,
        cycles_without_prefetch=fixed + sum(mapped[job.layer].alone.cycles for job in jobs),
        assumptions=(
            *([how.note] if how.note else ()),
            *_assumptions(
                mapped.values(), prefetch=prefetch, widen=widen, of_kinds=assumptions_of_kinds(stream), plan=plan
            ),
            *engine_use([mapped[job.layer].layer for job in jobs], machine),
            *overhead_assumptions(machine),
            *storage_assumptions(machine),
            *fallback_note(elsewhere, machine),
            *host_assumptions(machine),
            *([BANKS_IDLE] if machine.pim is not None else ()),
        ),
        objective=objective,
        kernels="engine" if machine.gpu is not None else "",
        inference_overhead_cycles=once,
        layer_overhead_cycles=each,
        host_cycles=host,
        overhead_energy_pj=sum(energy_by_component(machine, NOTHING, fixed).values()),
        stream=stream,
        machine_spec=machine,
        runs=tuple(way.run.told for way in runs),
        residency=plan,
    )


def _refuse_on_groups(machine: MachineSpec, residency: bool | None, only: Mappings | None) -> None:
    asked = {"residency": residency, "only": only is not None}
    for name, is_given in asked.items():
        if is_given:
            raise InputError(
                f"{name}: means nothing on {machine.name}, whose groups of cores share operators "
                f"({', '.join(machine.group_names)}); allowed on one of them, --set group={machine.main}"
            )


def _planned_jobs(jobs: tuple[Job, ...], planned: Planned | None) -> tuple[Job, ...]:
    """``jobs`` with the layers of a plan, and its copies of tensors between them."""
    return jobs if planned is None else planned.run_order(jobs)


def _given_mappings(
    jobs: Sequence[Job], only: Mappings, machine: MachineSpec, progress: Progress | None
) -> dict[JobLayer, Mapped]:
    """Those of ``only``, run on ``machine``."""
    names: dict[JobLayer, str] = {}
    for job in jobs:
        names.setdefault(job.layer, job.name)
    mapped = {}
    for at, (layer, name) in enumerate(names.items()):
        if progress is not None:
            progress(at, len(names), name)
        given = only[layer]
        mapped[layer] = replace(given, alone=evaluate(given.dataflow, given.layer, machine, given.tiling))
    return mapped


def _searched_mappings(
    searches: _Searches, stream: OperatorStream | None, progress: Progress | None
) -> tuple[Planned | None, dict[JobLayer, Mapped]]:
    """The best mapping of each distinct layer, and, where a ``stream`` is given, its plan of what stays on chip."""
    jobs, planned = tuple(searches.jobs), None
    if stream is not None:
        planned = searches.plan(stream, progress)
        jobs = searches.jobs = _planned_jobs(jobs, planned)
    searches.ahead([(at, job.layer) for at, job in enumerate(jobs)], progress, stops=True)
    return planned, {job.layer: searches.mapping(at, job.layer) for at, job in enumerate(jobs)}


MOST_ALIKE = 4  # mappings of a layer with other homes that a search begins with


class _Searching(NamedTuple):
    """What all searches of a network have in common."""

    machine: MachineSpec
    objective: Objective
    attention_dataflows: tuple[str, ...]
    cache: MappingCache


class _Asked(NamedTuple):
    """A job whose best mapping is asked for, and mappings that its search begins with."""

    job: Job
    near: tuple[Way, ...]


_help: list[_Searching] = []  # of a process that helps another


def _begin_to_help(searching: _Searching) -> None:
    _help[:] = [searching]


class _Told(NamedTuple):
    """What a helper found, and how often the cache knew it and did not."""

    way: Way
    n_hits: int
    n_misses: int


def _help_with(asked: _Asked) -> _Told:
    """What :func:`best_mapping` finds."""
    (searching,) = _help
    cache = searching.cache
    hits, misses = cache.hits, cache.misses
    found = best_mapping(asked.job, *searching, asked.near)
    return _Told(found.way, cache.hits - hits, cache.misses - misses)


class _Searches:
    """Best mappings of the jobs of a network, each distinct layer searched once."""

    def __init__(self, jobs: Sequence[Job], searching: _Searching, helpers: Helpers) -> None:
        self.jobs = jobs
        self.mapped: dict[JobLayer, Mapped] = {}
        self._faults: dict[JobLayer, InputError] = {}
        self._alike: dict[JobLayer, list[Mapped]] = {}  # by the layer with everything in the DRAM
        self._searching, self._helpers = searching, helpers
        self._machine, self._objective = searching.machine, searching.objective

    def plan(self, stream: OperatorStream, progress: Progress | None) -> Planned | None:
        """The best plan of what stays on chip."""
        planned = plan_residency(
            stream,
            self.jobs,
            self._machine,
            self.search,
            objective=self._objective,
            progress=progress,
            ahead=self.ahead,
            spills=self._machine.residency == "spills",
        )
        self._with_less_room(() if planned is None else planned.layers)
        return planned

    def search(self, at: int, layer: JobLayer) -> tuple[int, dict[str, int]]:
        """The cost of the best mapping of a layer of job ``at`` (cycles, or pJ), and the rooms of its tiles."""
        own = self.mapping(at, layer)
        rooms = needed_rooms(own.dataflow, own.layer, self._machine, own.tiling)
        return round(own.alone.energy_pj) if self._objective == "energy" else own.alone.cycles, rooms

    def mapping(self, at: int, layer: JobLayer) -> Mapped:
        """The best mapping of a layer of job ``at``."""
        if layer not in self.mapped:
            self.ahead([(at, layer)])
        if layer in self._faults:
            raise self._faults[layer]
        return self.mapped[layer]

    def ahead(
        self, wanted: Sequence[tuple[int, JobLayer]], progress: Progress | None = None, *, stops: bool = False
    ) -> None:
        """Search what will be asked for: layers, each of a job. ``stops``: at one that fits in no mapping."""
        missing = {
            layer: at for at, layer in reversed(wanted) if layer not in self.mapped and layer not in self._faults
        }
        asked = [
            _Asked(replace(self.jobs[at], layer=layer), self._near(layer)) for layer, at in reversed(missing.items())
        ]
        calls = [Call(anywhere(one.job.layer), one) for one in asked]

        def tell(n_done: int) -> None:
            if progress is not None:
                progress(n_done, len(asked), asked[min(n_done, len(asked) - 1)].job.name)

        if asked:
            tell(0)
        answers = self._helpers.answers(_help_with, calls, self._found, stops=stops, told=tell)
        for number, answer in sorted(answers.items(), key=itemgetter(0)):
            self._note(asked[number].job.layer, answer)

    def _near(self, layer: JobLayer) -> tuple[Way, ...]:
        """Mappings of a layer at other homes."""
        return tuple(mapped.way for mapped in self._alike.get(anywhere(layer), [])[-MOST_ALIKE:])

    def _found(self, asked: _Asked) -> Mapped:
        return best_mapping(asked.job, *self._searching, asked.near)

    def _note(self, layer: JobLayer, answer: Mapped | _Told | InputError) -> None:
        if isinstance(answer, InputError):
            self._faults[layer] = answer
            return
        if isinstance(answer, _Told):
            cache, (own, name, tiling) = self._searching.cache, answer.way
            cache.hits, cache.misses = cache.hits + answer.n_hits, cache.misses + answer.n_misses
            dataflow = DATAFLOWS.get(name)
            answer = Mapped(own, dataflow, tiling, evaluate(dataflow, own, self._machine, tiling))
        self.mapped[layer] = answer
        self._alike.setdefault(anywhere(layer), []).append(answer)

    def _with_less_room(self, layers: Sequence[JobLayer]) -> None:
        """Take for ``layers``, in which a plan holds much, the mappings that were found with more room where they fit
        all the same: with less room none is better.
        """
        for layer in layers:
            if isinstance(layer, FallbackLayer) or layer in self.mapped or not layer.homes.held:
                continue
            own = self.mapped.get(_holding(layer, ()))
            if own is not None:
                kept = _holding(own.layer, layer.homes.held)
                with suppress(MappingError):
                    run = evaluate(own.dataflow, kept, self._machine, own.tiling)
                    self.mapped[layer] = Mapped(kept, own.dataflow, own.tiling, run)


def _holding(layer: JobLayer, held: tuple[tuple[Place, int], ...]) -> JobLayer:
    """``layer`` where memories hold so much besides its tiles."""
    if isinstance(layer, GemmLayer):
        return replace(layer, homes=layer.homes._replace(held=held))
    if isinstance(layer, AttentionLayer):
        return replace(layer, homes=layer.homes._replace(held=held))
    if isinstance(layer, VectorLayer | ScanLayer | LowRankAttentionLayer):
        return replace(layer, homes=layer.homes._replace(held=held))
    return layer


def _better(found: Mapped, other: Mapped, machine: MachineSpec, objective: Objective) -> Mapped:
    """``found``, or ``other`` where its mapping is better on ``machine``."""
    if (found.layer, found.dataflow.name, found.tiling) == (other.layer, other.dataflow.name, other.tiling):
        return found
    try:
        run = evaluate(other.dataflow, other.layer, machine, other.tiling)
    except InputError:
        return found
    rival = Mapped(other.layer, other.dataflow, other.tiling, run)
    return rival if score_of(rival, objective) < score_of(found, objective) else found


def best_mappings(
    jobs: Sequence[Job],
    machine: MachineSpec,
    objective: Objective,
    attention_dataflows: Sequence[str],
    cache: MappingCache,
    *,
    n_processes: int | None = None,
    progress: Progress | None = None,
) -> dict[JobLayer, Mapped | InputError]:
    """The best mapping of each distinct layer of ``jobs``, or why there is none."""
    searching = _Searching(machine, objective, tuple(attention_dataflows), cache)
    found: dict[JobLayer, Mapped | InputError] = {}
    with Helpers(n_jobs(n_processes), _begin_to_help, searching) as helpers:
        searches = _Searches(jobs, searching, helpers)
        searches.ahead([(at, job.layer) for at, job in enumerate(jobs)], progress)
        for at, job in enumerate(jobs):
            try:
                found[job.layer] = searches.mapping(at, job.layer)
            except InputError as fault:
                found[job.layer] = fault
    return found


def widened(job: Job, machine: MachineSpec) -> Job:
    """``job`` with products in a format that the array multiplies; unchanged where there is none."""
    layer = job.layer
    if not isinstance(layer, GemmLayer):
        return job
    wide = holding_format(machine.matrix, layer.compute_format)
    return job if wide in (None, layer.compute_format) else replace(job, layer=replace(layer, compute_format=wide))


# -- one after the other -----------------------------------------------------------------------------------


def weights_ahead(
    own: Mapped,
    peak_bytes: int,
    costs: TileCosts | None,
    after: Mapped,
    after_costs: TileCosts,
    machine: MachineSpec,
) -> Ahead | None:
    """The first weight tiles of the job mapped as ``after``, where a run of ``own`` that takes at most ``peak_bytes``
    of the working buffer can bring them; ``costs`` are those of ``own``, for machines whose buffer has parts.
    """
    layer, n_cores = after.layer, machine.n_cores
    if after.dataflow.ahead is None or not isinstance(layer, GemmLayer) or not layer.b_is_weight:
        return None
    if layer.groups > n_cores or min(own.layer.n_groups, n_cores) != layer.groups:
        return None  # each core brings its own next tiles, and only those of one piece
    assert isinstance(after_costs, GemmCosts)
    tiles = after.dataflow.ahead(layer, after.tiling)
    if not tiles:
        return None
    n_bytes = len(tiles) * after_costs.b_bytes(*tiles[0])
    if peak_bytes + n_bytes > machine.buffers[0].capacity_bytes:
        return None
    if machine.working_buffer.parts and costs is not None:
        phases = own.dataflow.phases
        if not all(fits(one, costs, phase_tiling(one, own.tiling), ahead_bytes=n_bytes) for one in phases):
            return None
    return Ahead(n_bytes, tuple(after_costs.load_b(*tile) for tile in tiles))


class _Runner:
    """Runs of jobs that may find their first weights on chip and may bring their successor's; each made once."""

    def __init__(self, mapped: dict[JobLayer, Mapped], machine: MachineSpec) -> None:
        self._mapped = mapped
        self._machine = machine
        self._costs: dict[JobLayer, TileCosts] = {}
        self._known: dict[tuple[JobLayer, bool, JobLayer | None], _Run] = {}

    def ahead(self, job: Job, following: Job) -> Ahead | None:
        """The next job's first weight tiles; None when they cannot be brought early."""
        own, after = self._mapped[job.layer], self._mapped[following.layer]
        if after.dataflow.ahead is None:
            return None
        peak = max(own.alone.peak_buffer_bytes.values())
        costs = self._costs_of(job) if self._machine.working_buffer.parts else None
        return weights_ahead(own, peak, costs, after, self._costs_of(following), self._machine)

    def run(self, job: Job, *, there: bool, following: Job | None) -> _Run:
        """``following`` is the job whose first weights are brought; ``there`` says that those of ``job`` were."""
        key = (job.layer, there, following.layer if following else None)
        if key not in self._known:
            own = self._mapped[job.layer]
            ahead = self.ahead(job, following) if following else None
            self._known[key] = _run(own, self._costs_of(job), there=there, ahead=ahead)
        return self._known[key]

    def _costs_of(self, job: Job) -> TileCosts:
        own = self._mapped[job.layer]
        return self._costs.setdefault(job.layer, own.dataflow.costs(own.layer, self._machine))


def _chain(
    jobs: Sequence[Job],
    mapped: dict[JobLayer, Mapped],
    machine: MachineSpec,
    *,
    prefetch: bool,
    there: bool = False,
    runner: _Runner | None = None,
) -> list[_Way]:
    """Each job's run; weights are brought ahead where that makes the whole end earliest.

    Best ways to end with the next job's weights on chip and without them, carried from job to job. ``there``: those of
    the first job are on chip.
    """
    runner = _Runner(mapped, machine) if runner is None else runner
    ways: dict[bool, tuple[int, _Way | None]] = {there: (0, None)}
    for job, following in zip(jobs, [*jobs[1:], None], strict=True):
        can_bring = prefetch and following is not None and runner.ahead(job, following) is not None
        after: dict[bool, tuple[int, _Way | None]] = {}
        for has, (cycles, before) in ways.items():
            plain = runner.run(job, there=has, following=None)
            for brings in (False, True) if can_bring else (False,):
                run = runner.run(job, there=has, following=following) if brings else plain
                total = cycles + run.cycles
                if brings not in after or total < after[brings][0]:
                    after[brings] = total, _Way(run, plain, before)
        ways = after
    runs = []
    way = ways[False][1]
    while way is not None:
        runs.append(way)
        way = way.before
    return runs[::-1]


class ChainCost(NamedTuple):
    """Jobs one after the other: cycles, busy cycles of the units, and what they do."""

    cycles: int
    matrix_cycles: int
    vector_cycles: int
    counters: Counters


class Chains:
    """What stretches of jobs cost on a machine, each run of a job made once."""

    def __init__(self, mapped: dict[JobLayer, Mapped], machine: MachineSpec, *, prefetch: bool) -> None:
        self._mapped, self._machine, self._prefetch = mapped, machine, prefetch
        self._runner = _Runner(mapped, machine)

    def cost(self, jobs: Sequence[Job], *, there: bool) -> ChainCost:
        """Of ``jobs`` in order; ``there``: the first weights of the first are on chip already."""
        runs = [
            way.run
            for way in _chain(
                jobs, self._mapped, self._machine, prefetch=self._prefetch, there=there, runner=self._runner
            )
        ]
        return ChainCost(
            sum(run.cycles for run in runs),
            sum(run.busy_matrix for run in runs),
            sum(run.busy_vector for run in runs),
            sum((run.counters for run in runs), NOTHING),
        )


class JobRun(NamedTuple):
    """A job as it runs behind the one before it: cycles of that run, what it does, and its programs.

    ``booked``: what it does without loads for the next job, and with those for it; ``early_bytes`` of these are loads
    by the job before.
    """

    cycles: int
    counters: Counters
    matrix_cycles: int
    vector_cycles: int
    programs: list[Program]
    booked: Counters
    early_bytes: int


def runs_in_turn(
    jobs: Sequence[Job], mapped: dict[JobLayer, Mapped], machine: MachineSpec, *, prefetch: bool
) -> list[JobRun]:
    """The runs of ``jobs`` one after the other on ``machine``, as :func:`simulate_stream` makes them; equal ones share
    their programs.
    """
    built: dict[int, list[Program]] = {}
    found = []
    for run, _, counters, early, _ in _booked(_chain(jobs, mapped, machine, prefetch=prefetch)):
        if id(run) not in built:
            built[id(run)] = run.told.programs()
        own = run.cycles, run.counters, run.busy_matrix, run.busy_vector, built[id(run)]
        found.append(JobRun(*own, counters, early.dram_read_bytes))
    return found


class _Way(NamedTuple):
    """A run, the same without bringing the next job's weights, and the runs before it."""

    run: _Run
    plain: _Run
    before: _Way | None


def _booked(ways: Sequence[_Way]) -> Iterator[_Booked]:
    """What is booked with each job; in all as much as the runs have."""
    early, early_cycles = NOTHING, 0
    for run, plain, _ in ways:
        added = max(0, run.cycles - plain.cycles)
        counters = plain.counters + early
        yield _Booked(run, run.cycles - added + early_cycles, counters, early, early_cycles)
        early, early_cycles = run.ahead, added


def _run(own: Mapped, costs: TileCosts, *, there: bool, ahead: Ahead | None) -> _Run:
    programs = partial(_programs, own, costs, there=there, ahead=ahead)
    cycles, counters, brought, matrix, vector = 0, NOTHING, NOTHING, 0, 0
    for program in programs():
        run = simulate(program)
        cycles += run.cycles
        own_counters, ahead_counters = _counters(program)
        counters, brought = counters + own_counters + ahead_counters, brought + ahead_counters
        for engine, busy in zip(program.engines, run.busy_cycles, strict=True):
            matrix += busy * engine.weight * (engine.kind == "matrix")
            vector += busy * engine.weight * (engine.kind == "vector")
    return _Run(cycles, counters, matrix, vector, brought, OperatorRun(cycles, programs))


def _programs(own: Mapped, costs: TileCosts, *, there: bool, ahead: Ahead | None) -> list[Program]:
    """A program for each phase; the last one brings what comes ``ahead``."""
    tiling: Tiling = {**own.tiling, "prefetched": 1} if there else own.tiling
    phases = own.dataflow.phases
    return [
        build_phase(phase, costs, phase_tiling(phase, tiling), ahead=ahead if phase is phases[-1] else None)
        for phase in phases
    ]


def _counters(program: Program) -> tuple[Counters, Counters]:
    """What the program does itself, and what it brings for the next one."""
    totals = {False: NOTHING, True: NOTHING}
    for engine, command, times in program.commands():
        ahead = command.label == AHEAD_LABEL
        totals[ahead] = totals[ahead] + command.cost.counters * (times * program.engines[engine].weight)
    return totals[False], totals[True]


def _operator_result(job: Job, mapped: Mapped, booked: _Booked, machine: MachineSpec) -> OperatorResult:
    run, cycles = booked.run, booked.cycles
    rate, early_bytes = bytes_per_cycle(machine), booked.early.dram_read_bytes
    hidden_bytes = max(0, early_bytes - floor(booked.early_cycles * rate))
    bound = mapped.alone.lower_bound
    bound = replace(bound, dram_cycles=max(0, bound.dram_cycles - ceil(hidden_bytes / rate)))
    first = job.operators[0]
    return OperatorResult(
        name=first.name,
        path=first.path,
        kind=first.kind,
        fused=tuple(member.name for member in job.operators[1:]),
        dataflow=mapped.dataflow.name,
        tiling=mapped.tiling,
        figures=figures_of(
            machine, booked.counters, cycles, matrix_cycles=run.busy_matrix, vector_cycles=run.busy_vector
        ),
        macs=sum(member.macs for member in job.operators),
        weight_bytes=job.weight_bytes,
        lower_bound=bound,
        early_weight_bytes=early_bytes,
        early_weight_cycles=booked.early_cycles,
        hidden_weight_bytes=hidden_bytes,
    )


def _assumptions(
    mapped: Any, *, prefetch: bool, widen: bool, of_kinds: Sequence[str], plan: ResidencyPlan | None
) -> tuple[str, ...]:
    notes: dict[str, None] = {}
    for entry in mapped:
        notes.update(dict.fromkeys(entry.alone.assumptions))
    through = "activations go through DRAM between operators that are not fused (a plan keeps them on chip: residency)"
    if plan is not None:
        through = (
            f"tensors that the plan keeps live in {plan.memory}, weights among them from one inference to the next "
            "(figures are those of an inference behind the first); other activations go through DRAM between operators "
            "that are not fused"
        )
    own = [
        f"operators run one after the other; {through}",
        *JOB_ASSUMPTIONS,
        *of_kinds,
    ]
    if widen:
        own.append("a product in a format that the array lacks is done in the narrowest that holds its values")
    if prefetch:
        own.append(
            "the next operator's first weight tiles are loaded under the current one where the buffer has room; their "
            "bytes, energy and the cycles that they add are booked with the operator that uses them, and its bound "
            "leaves out those that add none"
        )
    return (*notes, *own)
