"""A stream of jobs on a system on a chip, from event to event, in whole ticks.

In each tick with an event: completions and arrivals that are due are noticed, in the order in which their events were
made; each task whose last predecessor is noticed becomes ready; the scheduler assigns every ready task to an element
for good; the tasks join one waiting list, kept in the order of jobs; each waiting task, in that order, starts if its
data has arrived and its element is free. An element runs one task at a time and never stops one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.hw_models.soc.spec import SocSpec
from tilewright.sim.soc.board import Board, Ready, Scheduler
from tilewright.workloads.task_graphs.graph import Job, in_order_of_arrival

__all__ = ["SocRun", "TaskRun", "run_jobs"]

#: The program that published this model splits what runs at the ticks of its power samples.
_SAMPLE_TICKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """Task ``task`` of job ``job`` on ``element``, from tick ``start`` to tick ``finish``."""

    job: int
    task: int
    element: int
    start: int
    finish: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SocRun:
    """``jobs`` by arrival, their ``tasks`` in the order in which they started, and when each job was done (ticks)."""

    soc: SocSpec
    jobs: tuple[Job, ...]
    tasks: tuple[TaskRun, ...]
    finishes: tuple[int, ...]

    @property
    def ticks(self) -> int:
        """From tick 0 until the last job is done."""
        return max(self.finishes, default=0)

    @property
    def latencies(self) -> tuple[int, ...]:
        """Ticks of each job from its arrival until it is done."""
        return tuple(finish - job.arrival for job, finish in zip(self.jobs, self.finishes, strict=True))

    @property
    def n_late(self) -> int:
        """Jobs that were done after their deadline."""
        return sum(
            bool(job.deadline) and ticks > job.deadline for job, ticks in zip(self.jobs, self.latencies, strict=True)
        )


def run_jobs(soc: SocSpec, jobs: Sequence[Job], scheduler: Scheduler, *, like_ds3: bool = False) -> SocRun:
    """Run ``jobs`` on ``soc`` as ``scheduler`` assigns their tasks.

    ``like_ds3``: with three artifacts of the program that published this model, for comparison with its traces. A
    completion is noticed one tick late if the task took 0 or 1 ticks, or 2 from a tick that ends in 9; an arrival
    one tick late if it is in the tick of the one before (or in the next one, where that was late itself); what is
    late comes first in its tick. Without, only a task of 0 ticks is noticed in the next one.

    Raises InputError where no element can run a task, and for an arrival before tick 0.
    """
    return _Stream(soc, in_order_of_arrival(jobs), scheduler, like_ds3).run()


class _Stream:
    """One run: its events, what waits, what is done."""

    def __init__(self, soc: SocSpec, jobs: tuple[Job, ...], scheduler: Scheduler, like_ds3: bool) -> None:
        self.soc, self.jobs, self.scheduler, self.like_ds3 = soc, jobs, scheduler, like_ds3
        n = soc.n_elements
        self.board = Board(soc=soc, jobs=jobs, free_at=[0] * n, available_at=[0] * n)
        # (noticed, 0 if late, made, number, job, task): task -1 is the arrival of the job.
        self.events: list[tuple[int, int, int, int, int, int]] = []
        self.wakes: list[int] = []
        self.waiting: list[Ready] = []
        self.started: list[TaskRun] = []
        self.placed = [[(-1, -1)] * len(job.graph.tasks) for job in jobs]  # (element, finish)
        self.missing = [[len(before) for before in job.graph.before] for job in jobs]
        self.moving: dict[float, list[list[int]]] = {}  # of a volume, ticks by source and target
        self.candidates = {task: soc.candidates(task) for job in jobs for task in job.graph.tasks}

    def run(self) -> SocRun:
        self._post_arrivals()
        while self.events or self.waiting:
            self.board.now = self._next_tick()
            ready = self._noticed()
            if ready:
                self.waiting += self.scheduler(ready, self.board)
                self.waiting.sort(key=lambda each: each.job)
            self._start_what_can()
        finishes = tuple(
            max((finish for _, finish in placed), default=job.arrival)
            for job, placed in zip(self.jobs, self.placed, strict=True)
        )
        return SocRun(soc=self.soc, jobs=self.jobs, tasks=tuple(self.started), finishes=finishes)

    def _post_arrivals(self) -> None:
        last, was_late = -1, False
        for number, job in enumerate(self.jobs):
            if job.arrival < 0:
                raise InputError(f"job {number}: arrival: given tick {job.arrival}; allowed 0 or later")
            gap = job.arrival - last
            was_late = self.like_ds3 and number > 0 and (gap == 0 or (gap == 1 and was_late))
            self.events.append((job.arrival + was_late, int(not was_late), last, number, number, -1))
            last = job.arrival
        heapq.heapify(self.events)

    def _next_tick(self) -> int:
        due = self.events[0][0] if self.events else self.wakes[0]
        due = min(due, self.wakes[0]) if self.wakes else due
        while self.wakes and self.wakes[0] <= due:
            heapq.heappop(self.wakes)
        return due

    def _noticed(self) -> list[Ready]:
        ready: list[Ready] = []
        while self.events and self.events[0][0] <= self.board.now:
            *_, job, task = heapq.heappop(self.events)
            graph, missing = self.jobs[job].graph, self.missing[job]
            if task < 0:
                ready += [self._ready(job, each) for each, n in enumerate(missing) if n == 0]
                continue
            for follower, _ in graph.after[task]:
                missing[follower] -= 1
                if missing[follower] == 0:
                    ready.append(self._ready(job, follower))
        return ready

    def _ready(self, job: int, task: int) -> Ready:
        graph, placed = self.jobs[job].graph, self.placed[job]
        data_at: list[int] = []
        for source, volume in graph.before[task]:
            element, finish = placed[source]
            arrives = [finish + ticks for ticks in self._moving(volume)[element]]
            data_at = list(map(max, data_at, arrives)) if data_at else arrives
        return Ready(job, task, self.candidates[graph.tasks[task]], data_at or [self.board.now] * self.soc.n_elements)

    def _moving(self, volume: float) -> list[list[int]]:
        if volume not in self.moving:
            each = range(self.soc.n_elements)
            self.moving[volume] = [[self.soc.moving_ticks(volume, source, to) for to in each] for source in each]
        return self.moving[volume]

    def _start_what_can(self) -> None:
        now, free_at, stay = self.board.now, self.board.free_at, []
        for ready in self.waiting:
            arrives = ready.data_at[ready.element]
            if arrives <= now and free_at[ready.element] <= now:
                self._start(ready)
                continue
            stay.append(ready)
            if arrives > now:
                heapq.heappush(self.wakes, arrives)
        self.waiting = stay

    def _start(self, ready: Ready) -> None:
        now, ticks = self.board.now, ready.ticks
        finish = now + ticks
        late = ticks == 0
        if self.like_ds3:
            late = ticks <= 1 or (ticks == 2 and now % _SAMPLE_TICKS == _SAMPLE_TICKS - 1)
        made = max(now, (finish - 1) // _SAMPLE_TICKS * _SAMPLE_TICKS)
        noticed = finish + late
        number = len(self.started)
        heapq.heappush(self.events, (noticed, int(not late), made, number, ready.job, ready.task))
        self.board.free_at[ready.element] = noticed
        self.placed[ready.job][ready.task] = (ready.element, finish)
        self.started.append(TaskRun(job=ready.job, task=ready.task, element=ready.element, start=now, finish=finish))
