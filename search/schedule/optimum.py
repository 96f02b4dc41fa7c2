"""The shortest schedule of one job, or of a window of jobs, on a system on a chip, proven by CP-SAT.

Every task has an interval on each element that can run it, one of which is there; what an element runs does not
overlap, nor does a cluster run more at once than it has elements; data takes its whole ticks between elements. A task
can start no earlier than the longest way to it of least run times allows, and its job ends no earlier than that way
from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.hw_models.soc.spec import SocSpec
from tilewright.search.cp_sat import has_answer, new_solver
from tilewright.sim.soc.board import SCHEDULERS
from tilewright.sim.soc.run import SocRun, TaskRun, run_jobs
from tilewright.workloads.task_graphs.graph import Edge, Job, TaskGraph, in_order_of_arrival

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpSolver, IntervalVar, IntVar, LiteralT

__all__ = ["ProvenSchedule", "shortest_schedule"]

_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenSchedule:
    """The best schedule found (``tasks`` by job and task), its ``cost``, and the ``bound`` that no schedule is below.

    Both in ticks: until the job is done; of several jobs the sum of their latencies, among the schedules with the
    fewest jobs behind their deadlines. ``n_late``: how many are; ``least_late``: that no schedule has fewer.
    """

    tasks: tuple[TaskRun, ...]
    cost: int
    bound: int
    n_late: int = 0
    least_late: int = 0

    @property
    def is_proven(self) -> bool:
        """Whether nothing is better."""
        return self.least_late >= self.n_late and self.bound >= self.cost

    @property
    def gap(self) -> float:
        """How much better one could be at most, as a share of its cost."""
        return (self.cost - self.bound) / self.cost if self.cost else 0.0


def shortest_schedule(
    soc: SocSpec,
    jobs: Sequence[Job] | TaskGraph,
    *,
    seconds: float | None = _SECONDS,
    seed: int = 0,
    few_elements: bool = False,
) -> ProvenSchedule:
    """The schedule with the fewest late jobs, and of these that of least latency, summed over ``jobs`` (a single job
    may be given as its graph).

    The search begins with the best run of the registered schedulers and ends after ``seconds`` of the clock at the
    latest (None: when it is proven). ``few_elements``: what they do in all is then what bounds the end, which takes the
    solver longer to see where there are many. Raises InputError where no element can run a task.
    """
    wanted = (Job(graph=jobs, arrival=0),) if isinstance(jobs, TaskGraph) else in_order_of_arrival(jobs)
    runs = (run_jobs(soc, wanted, scheduler) for scheduler in SCHEDULERS.values())
    first = min(runs, key=lambda run: (run.n_late, sum(run.latencies)))
    model = _Model(soc, first)
    solver = new_solver(seed=seed, seconds=seconds, is_linear=few_elements)
    found = has_answer(solver, model.model)
    if not found:
        return ProvenSchedule(tasks=first.tasks, cost=sum(first.latencies), bound=model.least, n_late=first.n_late)
    n_late, cost = divmod(round(solver.objective_value), model.of_a_late_one)
    least_late, bound = divmod(max(0, round(solver.best_objective_bound)), model.of_a_late_one)
    if least_late < n_late:
        bound = model.least
    bound = max(model.least, bound)
    return ProvenSchedule(tasks=model.tasks(solver), cost=cost, bound=bound, n_late=n_late, least_late=least_late)


class _Task:
    """One task of the model: its variables and what bounds them."""

    def __init__(self, name: str, candidates: Iterable[tuple[int, int]]) -> None:
        self.name = name
        self.ticks = dict(candidates)
        self.least = min(self.ticks.values())
        self.start: IntVar
        self.end: IntVar
        self.on: dict[int, IntVar] = {}
        self.in_cluster: dict[str, IntVar] = {}


class _Model:
    """The constraint model of the jobs of ``first``, whose schedule is the one that the search begins with."""

    def __init__(self, soc: SocSpec, first: SocRun) -> None:
        from ortools.sat.python import cp_model

        self.soc, self.jobs, self.model = soc, first.jobs, cp_model.CpModel()
        self.on_element: list[list[IntervalVar]] = [[] for _ in range(soc.n_elements)]
        self.in_cluster: dict[str, list[IntervalVar]] = {name: [] for name in soc.clusters}
        self.all: list[list[_Task]] = [
            [_Task(name, soc.candidates(name)) for name in job.graph.tasks] for job in self.jobs
        ]
        ways = [_ways(job.graph, tasks) for job, tasks in zip(self.jobs, self.all, strict=True)]
        shortest = [max(map(sum, zip(*way, strict=True)), default=0) for way in ways]
        #: No schedule is below: every job alone, on its longest way of least run times.
        self.least = sum(shortest)
        spare = sum(first.latencies) - self.least
        if first.n_late:  # a schedule with fewer late ones may take longer in all: one task after the other at the most
            spare = sum(map(_longest, self.all)) + self._most_moving() + max(job.arrival for job in self.jobs)
        #: What a late job weighs: more than all latencies together.
        self.of_a_late_one = sum(shortest) + len(self.jobs) * spare + 1
        finishes, late = [], []
        for job, tasks, way, least in zip(self.jobs, self.all, ways, shortest, strict=True):
            latest = job.arrival + least + spare
            finish = self._add_job(job, tasks, way, latest)
            finishes.append(finish)
            if job.deadline:
                late.append(self.model.new_bool_var(""))
                self.model.add(finish <= job.arrival + job.deadline).only_enforce_if(~late[-1])
        for intervals in self.on_element:
            self.model.add_no_overlap(intervals)
        for name, intervals in self.in_cluster.items():
            if len(intervals) > 1 and soc.clusters[name].count > 1:
                self.model.add_cumulative(intervals, [1] * len(intervals), soc.clusters[name].count)
        if len(self.jobs) == 1:
            self._add_loads(finishes[0], self.jobs[0].arrival, self.all[0])
        latency = sum(finishes) - sum(job.arrival for job in self.jobs)
        self.model.minimize(self.of_a_late_one * sum(late) + latency)
        for run in first.tasks:
            task = self.all[run.job][run.task]
            self.model.add_hint(task.start, run.start)
            for element, is_on in task.on.items():
                self.model.add_hint(is_on, element == run.element)

    def _add_loads(self, finish: IntVar, arrival: int, tasks: list[_Task]) -> None:
        """A job is done no earlier than all that an element does of it: implied, and a bound that relaxations see."""
        for element in range(self.soc.n_elements):
            own = [(task.ticks[element], task.on[element]) for task in tasks if element in task.ticks]
            self.model.add(finish >= arrival + sum(ticks * is_on for ticks, is_on in own))

    def _most_moving(self) -> int:
        each = range(self.soc.n_elements)
        volumes = [edge.volume for job in self.jobs for edge in job.graph.edges]
        return sum(max(self.soc.moving_ticks(one, a, b) for a in each for b in each) for one in volumes)

    def tasks(self, solver: CpSolver) -> tuple[TaskRun, ...]:
        """The schedule that the solver found."""
        return tuple(
            TaskRun(
                job=job,
                task=number,
                element=next(element for element, is_on in task.on.items() if solver.boolean_value(is_on)),
                start=solver.value(task.start),
                finish=solver.value(task.end),
            )
            for job, tasks in enumerate(self.all)
            for number, task in enumerate(tasks)
        )

    def _add_job(self, job: Job, tasks: list[_Task], way: tuple[list[int], list[int]], latest: int) -> IntVar:
        finish = self.model.new_int_var(job.arrival, latest, "")
        for task, to_it, from_it in zip(tasks, *way, strict=True):
            self._add_task(task, job.arrival + to_it, latest - from_it)
            self.model.add(finish >= task.end + from_it - task.least)
        for edge in job.graph.edges:
            self._add_edge(tasks, edge)
        return finish

    def _add_task(self, task: _Task, earliest: int, latest_start: int) -> None:
        model = self.model
        task.start = model.new_int_var(earliest, latest_start, "")
        task.end = model.new_int_var(earliest + task.least, latest_start + task.least, "")
        for element, ticks in task.ticks.items():
            is_on = task.on[element] = model.new_bool_var("")
            interval = model.new_optional_interval_var(task.start, ticks, task.end, is_on, "")
            if ticks:
                self.on_element[element].append(interval)
        model.add_exactly_one(task.on.values())
        model.add(task.end == task.start + sum(ticks * task.on[element] for element, ticks in task.ticks.items()))
        for name in self.soc.clusters:
            here = [element for element in task.ticks if self.soc.cluster_of[element] == name]
            if not here:
                continue
            in_it = task.in_cluster[name] = model.new_bool_var("")
            model.add(sum(task.on[element] for element in here) == in_it)
            if ticks := task.ticks[here[0]]:
                interval = model.new_optional_interval_var(task.start, ticks, task.end, in_it, "")
                self.in_cluster[name].append(interval)

    def _add_edge(self, tasks: list[_Task], edge: Edge) -> None:
        """``target`` starts when the data of ``source`` is where it runs."""
        model, source, target = self.model, tasks[edge.source], tasks[edge.target]
        model.add(target.start >= source.end)
        same = model.new_bool_var("")
        both: list[IntVar] = []
        for element in source.on.keys() & target.on.keys():
            here: IntVar = model.new_bool_var("")
            model.add_implication(here, source.on[element])
            model.add_implication(here, target.on[element])
            model.add_bool_or(here, ~source.on[element], ~target.on[element])
            both.append(here)
        model.add(sum(both) == same)
        at = self.soc.cluster_of.index
        for one, leaves in source.in_cluster.items():
            for other, enters in target.in_cluster.items():
                when: list[LiteralT] = [leaves, enters]
                to = at(other)
                if one == other:
                    stays = self.soc.moving_ticks(edge.volume, to, to)
                    if stays:
                        model.add(target.start >= source.end + stays).only_enforce_if(same)
                    if self.soc.clusters[one].count == 1:
                        continue
                    to += 1
                    when.append(~same)
                ticks = self.soc.moving_ticks(edge.volume, at(one), to)
                if ticks:
                    model.add(target.start >= source.end + ticks).only_enforce_if(when)


def _longest(tasks: Sequence[_Task]) -> int:
    return sum(max(task.ticks.values()) for task in tasks)


def _ways(graph: TaskGraph, tasks: Sequence[_Task]) -> tuple[list[int], list[int]]:
    """Of each task the longest way of least run times to its start, and from its start to the end of the job."""
    to_it, from_it = [0] * len(tasks), [0] * len(tasks)
    for task in graph.order:
        to_it[task] = max((to_it[source] + tasks[source].least for source, _ in graph.before[task]), default=0)
    for task in reversed(graph.order):
        onward = max((from_it[follower] for follower, _ in graph.after[task]), default=0)
        from_it[task] = tasks[task].least + onward
    return to_it, from_it
