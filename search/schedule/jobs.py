"""Jobs on a system on a chip: every scheduler's schedule, or the optimal one, and the same to the cycle."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

from tilewright.errors import unknown
from tilewright.hw_models.soc.spec import SocSpec
from tilewright.progress import Progress
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.schedule.exact import run_schedule
from tilewright.search.schedule.optimum import ProvenSchedule, shortest_schedule
from tilewright.search.schedule.parts import Parted, parted
from tilewright.sim.soc.board import SCHEDULERS
from tilewright.sim.soc.energy import energy_of_run
from tilewright.sim.soc.result import ApplicationFigures, JobsResult, SchedulerFigures, Span
from tilewright.sim.soc.run import SocRun, TaskRun, run_jobs
from tilewright.workloads.runs.kinds.jobs import JobsRun
from tilewright.workloads.task_graphs.graph import Job

__all__ = ["OPTIMAL", "simulate_jobs"]

OPTIMAL = "optimal"
_AS_PUBLISHED = "met-as-released"  # a defect, for comparisons only
ASSUMPTIONS = (
    "a task stays on its element until it is done, and an element runs one task at a time",
    "moving data between elements takes whole ticks, rounded down, from the end of the task that made it",
)
OF_NETWORKS = (
    "a part of a network takes on an element what it takes there alone, rounded up to a tick; in the exact run the "
    "elements keep the schedule's order and share the DRAM of the first cluster's machine",
    "what parts hand to each other goes through the DRAM; weights are read for each job",
)


def simulate_jobs(
    run: JobsRun, soc: SocSpec, *, cache: MappingCache | None = None, progress: Progress | None = None
) -> JobsResult:
    """``run`` on ``soc``: by tables for every registered scheduler; the one that the run names (or the usual one, or
    ``optimal``) task by task, and where networks run also to the cycle.

    Raises InputError for a scheduler that is not there, and for what no cluster can run.
    """
    parts = parted(run, soc, cache=cache, progress=progress)
    tick = soc.tick_us
    jobs = [
        Job(
            graph=parts.graphs[one.application],
            arrival=ceil(one.us / tick),
            deadline=floor(one.deadline_us / tick),
        )
        for one in run.arrivals()
    ]
    wanted = run.scheduler or SCHEDULERS.usual()
    if wanted not in (OPTIMAL, *SCHEDULERS.names()):
        raise unknown("scheduler", wanted, (OPTIMAL, *SCHEDULERS.names()), place=run.title)
    ran = {
        name: run_jobs(parts.soc, jobs, scheduler)
        for name, scheduler in SCHEDULERS.items()
        if name != _AS_PUBLISHED or name == wanted
    }
    proven = shortest_schedule(parts.soc, jobs, seconds=run.seconds) if wanted == OPTIMAL else None
    if proven is not None:
        ran[OPTIMAL] = _as_run(parts.soc, jobs, proven)
    chosen = ran[wanted]
    return _result(run, parts, chosen, proven, [_figures(parts, name, one) for name, one in ran.items()], wanted)


def _as_run(soc: SocSpec, jobs: Sequence[Job], proven: ProvenSchedule) -> SocRun:
    finishes = [0] * len(jobs)
    for task in proven.tasks:
        finishes[task.job] = max(finishes[task.job], task.finish)
    tasks = tuple(sorted(proven.tasks, key=lambda task: (task.start, task.job, task.task)))
    return SocRun(soc=soc, jobs=tuple(jobs), tasks=tasks, finishes=tuple(finishes))


def _figures(parts: Parted, name: str, run: SocRun) -> SchedulerFigures:
    tick = run.soc.tick_us
    return SchedulerFigures(
        name=name,
        n_late=run.n_late,
        mean_us=tick * sum(run.latencies) / len(run.jobs),
        longest_us=tick * max(run.latencies),
        end_us=tick * run.ticks,
        energy_j=_energy(parts, run),
    )


def _energy(parts: Parted, run: SocRun) -> float | None:
    """What clusters draw by their tables, and parts of networks by their machines."""
    drawn = energy_of_run(run)
    own = [_part_pj(parts, run, task) for task in run.tasks]
    found = [one for one in own if one is not None]
    if drawn is None and not found:
        return None
    return (drawn.total_j if drawn is not None else 0.0) + sum(found) * 1e-12


def _part_pj(parts: Parted, run: SocRun, task: TaskRun) -> float | None:
    name = run.jobs[task.job].graph.tasks[task.task]
    part = parts.runs.get((name, run.soc.cluster_of[task.element]))
    return None if part is None else part.energy_pj


def _result(
    run: JobsRun,
    parts: Parted,
    chosen: SocRun,
    proven: ProvenSchedule | None,
    compared: Sequence[SchedulerFigures],
    name: str,
) -> JobsResult:
    tick = parts.soc.tick_us
    spans = tuple(_span(parts, chosen, task, task.start * tick, task.finish * tick) for task in chosen.tasks)
    exact: tuple[Span, ...] = ()
    if parts.runs:
        ran = run_schedule(parts, chosen.jobs, chosen.tasks)
        exact = tuple(
            _span(parts, chosen, task, one.start_us, one.finish_us) for task, one in zip(chosen.tasks, ran, strict=True)
        )
    return JobsResult(
        name=run.title,
        soc=parts.soc.name,
        scheduler=name,
        elements=parts.soc.cluster_of,
        spans=spans,
        exact_spans=exact,
        applications=tuple(_application(each, chosen, spans, exact, tick) for each in run.applications),
        compared=tuple(compared),
        latency_us=tick * sum(chosen.latencies),
        n_late=chosen.n_late,
        bound_us=None if proven is None else tick * proven.bound,
        least_late=None if proven is None else proven.least_late,
        energy_j=_energy(parts, chosen),
        assumptions=(*ASSUMPTIONS, *(OF_NETWORKS if parts.runs else ())),
    )


def _span(parts: Parted, run: SocRun, task: TaskRun, start_us: float, finish_us: float) -> Span:
    graph = run.jobs[task.job].graph
    return Span(
        job=task.job,
        application=graph.name,
        task=graph.tasks[task.task],
        element=task.element,
        cluster=parts.soc.cluster_of[task.element],
        start_us=start_us,
        finish_us=finish_us,
    )


def _application(
    name: str, run: SocRun, spans: Sequence[Span], exact: Sequence[Span], tick: float
) -> ApplicationFigures:
    numbers = [number for number, job in enumerate(run.jobs) if job.graph.name == name]
    own = [tick * run.latencies[number] for number in numbers]
    ends: dict[int, float] = {}
    for span in exact:
        ends[span.job] = max(ends.get(span.job, 0.0), span.finish_us)
    real = [ends[number] - tick * run.jobs[number].arrival for number in numbers] if exact else []
    deadlines = [tick * run.jobs[number].deadline for number in numbers]
    used = dict.fromkeys(span.cluster for span in spans if span.application == name)
    return ApplicationFigures(
        name=name,
        n_jobs=len(numbers),
        deadline_us=max(deadlines, default=0.0),
        mean_us=sum(own) / len(own) if own else 0.0,
        longest_us=max(own, default=0.0),
        n_late=_late(own, deadlines),
        exact_mean_us=sum(real) / len(real) if real else None,
        exact_longest_us=max(real) if real else None,
        exact_n_late=_late(real, deadlines) if real else None,
        clusters=", ".join(used),
    )


def _late(latencies: Sequence[float], deadlines: Sequence[float]) -> int:
    return sum(bool(limit) and took > limit for took, limit in zip(latencies, deadlines, strict=True))
