"""A schedule of jobs run to the cycle: every element runs its tasks in the schedule's order, all of them on one DRAM.

The schedule says which element does what and in which order; when a task really starts follows from its job's arrival,
from the tasks that it waits for, and from how its element's loads and stores share the DRAM with what runs beside it.
Tasks of tables take their ticks and no bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from tilewright.errors import InputError, ProgramError
from tilewright.search.schedule.parts import Parted
from tilewright.sim.engine.joint import Group, Joint, Task, Token, join
from tilewright.sim.engine.joint_spans import task_spans
from tilewright.sim.lowering.levels import DRAM_WRITES, shared_channels
from tilewright.sim.soc.run import TaskRun
from tilewright.workloads.task_graphs.graph import Job

__all__ = ["ExactTask", "joint_of_schedule", "run_schedule"]

_DRAM = ("dram", DRAM_WRITES)  # the channels that all elements share


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactTask:
    """Task ``task`` of job ``job`` on ``element``, in microseconds of the exact run."""

    job: int
    task: int
    element: int
    start_us: float
    finish_us: float


def run_schedule(parts: Parted, jobs: Sequence[Job], tasks: Sequence[TaskRun]) -> tuple[ExactTask, ...]:
    """``tasks`` (the schedule) of ``jobs`` as they really run. Raises InputError where there is too much to record."""
    try:
        told = task_spans(joint_of_schedule(parts, jobs, tasks))
    except ProgramError as fault:
        raise InputError(f"jobs: {fault}: fewer jobs") from None
    spans = {task: span for (_, task), span in told.items()}
    per_us = parts.cycles_per_tick / Fraction(parts.soc.tick_us)
    return tuple(
        ExactTask(
            job=run.job,
            task=run.task,
            element=run.element,
            start_us=float(spans[_first(run)][0] / per_us),
            finish_us=float(spans[_last(run)][1] / per_us),
        )
        for run in tasks
    )


def joint_of_schedule(parts: Parted, jobs: Sequence[Job], tasks: Sequence[TaskRun]) -> Joint:
    """The one program: a group for each element that has something to do, and one for the arrivals."""
    tokens: dict[str, Token] = {}
    arrivals, before = [], 0
    for number, job in enumerate(jobs):
        at = ceil(job.arrival * parts.cycles_per_tick)
        n_first = sum(not waits for waits in job.graph.before)
        tokens[_arrived(number)] = Token(0)
        arrivals.append(Task(name=f"job {number}", before_cycles=at - before, signals=(_arrived(number),) * n_first))
        for edge in job.graph.edges:
            tokens[_done(number, edge.source, edge.target)] = Token(0)
        before = at
    groups = [Group(name="arrivals", script=tuple(arrivals))]
    for element in sorted({run.element for run in tasks}):
        here = sorted((run for run in tasks if run.element == element), key=lambda run: (run.start, run.finish))
        script = tuple(task for run in here for task in _script(parts, jobs[run.job], run))
        cluster = parts.soc.cluster_of[element]
        groups.append(Group(name=f"{element} {cluster}", script=script))
    own = shared_channels(parts.machine) if parts.machine is not None else ()
    channels = [channel for channel in own if channel.name in _DRAM]
    return join(groups, channels, tokens)


def _script(parts: Parted, job: Job, run: TaskRun) -> list[Task]:
    """The tasks of the engine for one task of a job: one for each layer of a part, or one of fixed ticks."""
    graph = job.graph
    waits = tuple(_done(run.job, source, run.task) for source, _ in graph.before[run.task]) or (_arrived(run.job),)
    signals = tuple(_done(run.job, run.task, follower) for follower, _ in graph.after[run.task])
    part = parts.runs.get((graph.tasks[run.task], parts.soc.cluster_of[run.element]))
    if part is None:
        cycles = ceil((run.finish - run.start) * parts.cycles_per_tick)
        return [
            Task(name=_first(run), waits=waits),
            Task(name=_last(run), before_cycles=cycles, signals=signals),
        ]
    layers = zip(part.programs, part.before_cycles, strict=True)
    body = [
        Task(name=f"{run.job}.{run.task} layer {at}", programs=programs, before_cycles=cycles)
        for at, (programs, cycles) in enumerate(layers)
    ]
    return [Task(name=_first(run), waits=waits), *body, Task(name=_last(run), signals=signals)]


def _arrived(job: int) -> str:
    return f"job {job} is there"


def _done(job: int, source: int, target: int) -> str:
    return f"job {job}: {source} for {target}"


def _first(run: TaskRun) -> str:
    return f"{run.job}.{run.task} begins"


def _last(run: TaskRun) -> str:
    return f"{run.job}.{run.task} ends"
