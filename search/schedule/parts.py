"""Networks as task graphs on a system on a chip: cut into parts, each timed and made ready on every cluster's machine.

A network runs as its layers one after the other, so its parts are a chain; what one hands to the next goes through the
DRAM that all clusters share, whose traffic is in the parts' own programs. A part is timed on each cluster that has all
of its operators, as it runs there when nothing else does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

from tilewright.errors import InputError
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.overheads import overhead_cycles
from tilewright.hw_models.soc.spec import SocSpec
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, Mapped, best_mapping, runs_in_turn
from tilewright.search.pipeline.stages import programs_at_clock
from tilewright.search.pipeline.units import Unit, refuse_what_none_has, units_of
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.run import simulate
from tilewright.sim.jobs import Job, JobLayer, jobs_on
from tilewright.units import exact
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.network import load_network
from tilewright.workloads.rated_formats import with_rated_formats
from tilewright.workloads.runs.kinds.jobs import JobsRun, graph_of_tasks
from tilewright.workloads.task_graphs.graph import Edge, TaskGraph

__all__ = ["PartRun", "Parted", "parted"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartRun:
    """A part of a network on a cluster: programs of each layer and what each costs before it, in cycles of the first
    cluster's clock; ``cycles`` in all when it is alone, and ``energy_pj``.
    """

    programs: tuple[tuple[Program, ...], ...]
    before_cycles: tuple[int, ...]
    cycles: int
    energy_pj: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parted:
    """``soc`` with the ticks of all parts in its clusters' tables; ``graphs`` by application; ``runs`` by part and
    cluster. ``machine``: that of the first cluster with one, whose DRAM all share (None: no network runs).
    """

    soc: SocSpec
    graphs: Mapping[str, TaskGraph]
    runs: Mapping[tuple[str, str], PartRun]
    machine: MachineSpec | None

    @property
    def cycles_per_tick(self) -> Fraction:
        """Cycles of the first machine's clock in a tick; without a machine a tick is a cycle."""
        return Fraction(1) if self.machine is None else exact(self.machine.clock_ghz) * 1000 * exact(self.soc.tick_us)


def parted(
    run: JobsRun, soc: SocSpec, *, cache: MappingCache | None = None, progress: Progress | None = None
) -> Parted:
    """The applications of ``run`` on ``soc``. Raises InputError for a network without a cluster that could run it, and
    for a part that no cluster can run whole.
    """
    kept = MappingCache() if cache is None else cache
    clusters = [(name, load_machine(spec.machine)) for name, spec in soc.clusters.items() if spec.machine]
    graphs: dict[str, TaskGraph] = {}
    runs: dict[tuple[str, str], PartRun] = {}
    for number, (name, application) in enumerate(run.applications.items()):
        if not application.network:
            graphs[name] = graph_of_tasks(name, application)
            continue
        if progress is not None:
            progress(number, len(run.applications), application.network)
        if not clusters:
            raise InputError(
                f"{soc.name}: no cluster has a machine; given the network {application.network} of {name}; allowed "
                "applications with tasks of its tables"
            )
        own = _network_parts(name, application.network, application.parts, clusters, kept)
        runs.update(own)
        tasks = tuple(dict.fromkeys(part for part, _ in own))
        graphs[name] = TaskGraph(name=name, tasks=tasks, edges=_chain(len(tasks)))
    found = Parted(soc=soc, graphs=graphs, runs=runs, machine=clusters[0][1] if clusters else None)
    return replace(found, soc=_with_ticks(found))


def _chain(n: int) -> tuple[Edge, ...]:
    return tuple(Edge(source=at, target=at + 1) for at in range(n - 1))


def _with_ticks(parts: Parted) -> SocSpec:
    clusters = {}
    for name, spec in parts.soc.clusters.items():
        own = {
            part: ceil(run.cycles / parts.cycles_per_tick) for (part, where), run in parts.runs.items() if where == name
        }
        clusters[name] = replace(spec, latency={**spec.latency, **own})
    return replace(parts.soc, clusters=clusters)


def _network_parts(
    name: str, network: str, n_parts: int, clusters: Sequence[tuple[str, MachineSpec]], cache: MappingCache
) -> dict[tuple[str, str], PartRun]:
    first = clusters[0][1]
    try:
        loaded = load_network(network)
    except InputError as fault:
        raise InputError(f"applications.{name}.network: {fault}") from None
    stream, _ = with_rated_formats(loaded, tuple(first.matrix.multiplies_per_pe_per_cycle), keep=[])
    units = units_of(stream, first, [machine for _, machine in clusters[1:]], fuse=True)
    jobs = jobs_on(stream, first, fuse=True)
    refuse_what_none_has(units, jobs)
    if n_parts > len(jobs):
        raise InputError(
            f"applications.{name}.parts: more than it has layers; given {n_parts}; allowed at most {len(jobs)}"
        )
    mapped = [_mapped(unit, cache) for unit in units]
    least = [
        min(
            (own[at].alone.cycles * unit.scale for unit, own in zip(units, mapped, strict=True) if at in own), default=1
        )
        for at in range(len(jobs))
    ]
    found: dict[tuple[str, str], PartRun] = {}
    for number, (begin, end) in enumerate(_cuts(least, n_parts), start=1):
        part = name if n_parts == 1 else f"{name}/{number}"
        able = 0
        for (cluster, _), unit, own in zip(clusters, units, mapped, strict=True):
            here = [(unit.jobs[at], own[at]) for at in range(begin, end) if at in own]
            if len(here) == end - begin:
                able += 1
                found[part, cluster] = _part_run(unit, here)
        if not able:
            raise InputError(
                f"applications.{name}: {part}: no cluster has all operators of its layers {begin + 1} to {end}; given "
                f"{n_parts} parts; allowed more parts, or a cluster with a machine that has them"
            )
    return found


def _mapped(unit: Unit, cache: MappingCache) -> dict[int, Mapped]:
    """The best mapping of each job that ``unit`` can do, by the job's number; equal layers are searched once."""
    known: dict[JobLayer, Mapped | None] = {}
    found = {}
    for at, job in enumerate(unit.jobs):
        if job is None:
            continue
        if job.layer not in known:
            try:
                known[job.layer] = best_mapping(job, unit.machine, "latency", ATTENTION_DATAFLOWS, cache)
            except InputError:
                known[job.layer] = None
        own = known[job.layer]
        if own is not None:
            found[at] = own
    return found


def _cuts(costs: Sequence[Fraction | int], n_parts: int) -> list[tuple[int, int]]:
    """``n_parts`` runs of jobs, none of them empty, of about the same cost."""
    total, so_far = sum(costs), Fraction(0)
    ends: list[int] = []
    for at, cost in enumerate(costs):
        so_far += cost
        left = len(costs) - at - 1
        wanted = n_parts - len(ends) - 1
        if wanted and (so_far * n_parts >= total * (len(ends) + 1) or left == wanted):
            ends.append(at + 1)
    begins = [0, *ends]
    return list(zip(begins, [*ends, len(costs)], strict=True))


def _part_run(unit: Unit, here: Sequence[tuple[Job | None, Mapped]]) -> PartRun:
    jobs = [job for job, _ in here if job is not None]
    runs = runs_in_turn(jobs, {job.layer: own for job, own in here if job is not None}, unit.machine, prefetch=True)
    programs = programs_at_clock(runs, unit)
    once, each = (ceil(cycles * unit.scale) for cycles in overhead_cycles(unit.machine))
    before = tuple(
        (0 if isinstance(job.layer, FallbackLayer) else each) + (once if at == 0 else 0) for at, job in enumerate(jobs)
    )
    known: dict[int, int] = {}
    cycles = sum(before)
    for program in (one for of_job in programs for one in of_job):
        if id(program) not in known:
            known[id(program)] = simulate(program).cycles
        cycles += known[id(program)]
    counters = sum((run.counters for run in runs), Counters())
    energy = energy_by_component(unit.machine, counters, ceil(cycles / unit.scale))
    return PartRun(programs=programs, before_cycles=before, cycles=cycles, energy_pj=sum(energy.values()))
