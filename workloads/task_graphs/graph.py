"""A job as a graph of tasks: what must be done before what, and how much moves in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tilewright.errors import InputError

__all__ = ["Edge", "Job", "TaskGraph", "in_order_of_arrival"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Task ``target`` needs ``volume`` units of data of task ``source`` (both are numbers of tasks)."""

    source: int
    target: int
    volume: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TaskGraph:
    """Tasks (the names by which latency tables know them) and the edges between them, without a cycle.

    Raises InputError for an edge from or to a task that is not there, one that is given twice, and a cycle.
    """

    name: str
    tasks: tuple[str, ...]
    edges: tuple[Edge, ...] = ()

    def __post_init__(self) -> None:
        seen: set[tuple[int, int]] = set()
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if not 0 <= end < len(self.tasks):
                    raise InputError(
                        f"application {self.name}: edge {edge.source} -> {edge.target}: given task {end}; allowed 0 to "
                        f"{len(self.tasks) - 1}"
                    )
            if (edge.source, edge.target) in seen:
                raise InputError(
                    f"application {self.name}: edge {edge.source} -> {edge.target}: given twice; allowed once"
                )
            seen.add((edge.source, edge.target))
        if len(self.order) < len(self.tasks):
            on_it = sorted(set(range(len(self.tasks))) - set(self.order))
            raise InputError(
                f"application {self.name}: tasks wait for each other in a circle; given "
                f'"{self.tasks[on_it[0]]}" and {len(on_it) - 1} more; allowed a graph without a cycle'
            )

    @cached_property
    def before(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """Of each task, the tasks that it waits for, with the volume of each."""
        return self._sides((edge.target, edge.source, edge.volume) for edge in self.edges)

    @cached_property
    def after(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """Of each task, the tasks that wait for it, with the volume of each, by their numbers."""
        return self._sides((edge.source, edge.target, edge.volume) for edge in self.edges)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The tasks in an order in which each comes after those that it waits for; those of a cycle are missing."""
        waits = [len(before) for before in self.before]
        order = [task for task, n in enumerate(waits) if n == 0]
        for task in order:
            for follower, _ in self.after[task]:
                waits[follower] -= 1
                if waits[follower] == 0:
                    order.append(follower)
        return tuple(order)

    def _sides(self, ends: Iterable[tuple[int, int, float]]) -> tuple[tuple[tuple[int, float], ...], ...]:
        sides: list[list[tuple[int, float]]] = [[] for _ in self.tasks]
        for end, other, volume in sorted(ends):
            sides[end].append((other, volume))
        return tuple(map(tuple, sides))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of ``graph`` that arrives at ``arrival`` (ticks), wanted ``deadline`` ticks later (0: whenever)."""

    graph: TaskGraph
    arrival: int
    deadline: int = 0


def in_order_of_arrival(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """``jobs`` by their arrivals; those of one tick stay as they were."""
    return tuple(sorted(jobs, key=lambda job: job.arrival))
