"""``jobs``: applications (graphs of tasks, or networks cut into parts) and when jobs of them arrive, on one SoC."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.document import STRICT_FIELDS
from tilewright.errors import unknown
from tilewright.workloads.runs.kind import RunKind, register_run
from tilewright.workloads.task_graphs.graph import Edge, TaskGraph

__all__ = ["ApplicationSpec", "Arrival", "JobsRun", "StreamSpec", "graph_of_tasks"]

_MOST_JOBS = 1_000_000
_LATEST_US = 1e12

Micros = Annotated[float, Ge(0), Le(_LATEST_US)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationSpec:
    """One of two: ``tasks``, each with the tasks that it waits for and the volume of data from each, or a ``network``,
    which runs as so many ``parts`` one after the other.
    """

    __pydantic_config__ = STRICT_FIELDS

    tasks: dict[str, dict[str, Annotated[float, Ge(0)]]] = field(default_factory=dict)
    network: str = ""
    parts: Annotated[int, Ge(1), Le(1000)] = 1

    def __post_init__(self) -> None:
        if bool(self.tasks) == bool(self.network):
            raise ValueError("tasks: given with a network, or neither; allowed one of the two")
        if self.tasks and self.parts != 1:
            raise ValueError("parts: of an application with tasks; allowed for a network")
        for name, before in self.tasks.items():
            for source in before:
                if source not in self.tasks:
                    raise ValueError(f"tasks.{name}: {unknown('task', source, self.tasks)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """Jobs of ``application``: one of ``at_us`` (when), ``every_us`` (from ``first_us`` on), or ``mean_gap_us`` with a
    ``seed`` (exponential gaps). ``count``: how many of the last two. ``deadline_us`` after a job's arrival (0: none).
    """

    __pydantic_config__ = STRICT_FIELDS

    application: str
    at_us: tuple[Micros, ...] = ()
    every_us: Annotated[float, Ge(0), Le(_LATEST_US)] = 0.0
    mean_gap_us: Annotated[float, Ge(0), Le(_LATEST_US)] = 0.0
    first_us: Micros = 0.0
    count: Annotated[int, Ge(1), Le(_MOST_JOBS)] = 1
    seed: Annotated[int, Ge(0)] = 0
    deadline_us: Micros = 0.0

    def __post_init__(self) -> None:
        given = [name for name in ("at_us", "every_us", "mean_gap_us") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{given[1]}: given beside {given[0]}; allowed one of at_us, every_us, mean_gap_us")
        if self.at_us and (self.count != 1 or self.first_us):
            raise ValueError("at_us: says itself how many there are; allowed without count and first_us")
        if not given and self.count != 1:
            raise ValueError("count: of jobs without a rate; allowed with every_us or mean_gap_us")

    def arrivals_us(self) -> Iterator[float]:
        """When its jobs arrive."""
        if self.at_us:
            yield from self.at_us
            return
        chance, now = random.Random(self.seed), self.first_us
        for number in range(self.count):
            if self.mean_gap_us:
                now += chance.expovariate(1 / self.mean_gap_us)
                yield now
            else:
                yield self.first_us + number * self.every_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job of ``application`` at ``us``, wanted ``deadline_us`` later (0: whenever)."""

    us: float
    application: str
    deadline_us: float


@dataclass(frozen=True, kw_only=True)
class JobsRun:
    """``applications`` by name and ``jobs``: streams of them. ``scheduler``: the name of one, or ``optimal``: the
    shortest schedule, with proof or its gap after ``seconds``.
    """

    __pydantic_config__ = STRICT_FIELDS

    run: Literal["jobs"]
    applications: Annotated[dict[str, ApplicationSpec], MinLen(1)]
    jobs: Annotated[tuple[StreamSpec, ...], MinLen(1)]
    scheduler: str = ""
    seconds: Annotated[float, Gt(0)] = 60.0
    name: str = ""

    def __post_init__(self) -> None:
        for at, stream in enumerate(self.jobs):
            if stream.application not in self.applications:
                raise ValueError(
                    f"jobs.{at}.application: {unknown('application', stream.application, self.applications)}"
                )

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or " and ".join(self.applications)

    def arrivals(self) -> tuple[Arrival, ...]:
        """All jobs in the order of their arrivals."""
        found = [
            Arrival(us=us, application=stream.application, deadline_us=stream.deadline_us)
            for stream in self.jobs
            for us in stream.arrivals_us()
        ]
        return tuple(sorted(found, key=lambda one: one.us))


def graph_of_tasks(name: str, spec: ApplicationSpec) -> TaskGraph:
    """The graph of an application that is given by its tasks. Raises InputError for a cycle."""
    number = {task: at for at, task in enumerate(spec.tasks)}
    edges = tuple(
        Edge(source=number[source], target=number[task], volume=volume)
        for task, before in spec.tasks.items()
        for source, volume in before.items()
    )
    return TaskGraph(name=name, tasks=tuple(spec.tasks), edges=edges)


register_run(
    RunKind(
        name="jobs",
        summary="graphs of tasks, or networks, with rates and deadlines on the elements of a system on a chip",
        description=JobsRun,
    ),
    rank=9,
)
