"""HEFT: heterogeneous earliest finish time, a schedule for one job made before it runs.

Tasks by falling upward rank (mean run time over the elements, plus the longest way to the end with mean times of moving
data between unlike elements), each put where it is done first, in a gap between tasks that are placed already if it
fits (H. Topcuoglu, S. Hariri, M.-Y. Wu: Performance-effective and low-complexity task scheduling for heterogeneous
computing, IEEE TPDS 13(3), 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.hw_models.soc.spec import SocSpec
from tilewright.sim.soc.run import TaskRun
from tilewright.workloads.task_graphs.graph import TaskGraph

__all__ = ["StaticSchedule", "heft", "upward_ranks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticSchedule:
    """Tasks of one job with element, start and finish, by task."""

    tasks: tuple[TaskRun, ...]

    @property
    def ticks(self) -> int:
        """Until all are done."""
        return max((task.finish for task in self.tasks), default=0)


def upward_ranks(graph: TaskGraph, soc: SocSpec) -> tuple[float, ...]:
    """Of each task the mean length of the longest way from its start to the end of the job, in ticks."""
    ranks = [0.0] * len(graph.tasks)
    for task in reversed(graph.order):
        times = [ticks for _, ticks in soc.candidates(graph.tasks[task])]
        onward = max((_mean_moving(soc, volume) + ranks[to] for to, volume in graph.after[task]), default=0.0)
        ranks[task] = sum(times) / len(times) + onward
    return tuple(ranks)


def heft(graph: TaskGraph, soc: SocSpec, *, insertion: bool = True) -> StaticSchedule:
    """The schedule that HEFT makes; without ``insertion`` a task comes after all that its element has already."""
    ranks = upward_ranks(graph, soc)
    placed: dict[int, TaskRun] = {}
    busy: list[list[tuple[int, int]]] = [[] for _ in range(soc.n_elements)]
    in_time = {task: place for place, task in enumerate(graph.order)}
    for task in sorted(in_time, key=lambda each: (-ranks[each], in_time[each])):
        finish, element, start = min(
            _earliest(graph, soc, task, element, ticks, placed, busy[element], insertion)
            for element, ticks in soc.candidates(graph.tasks[task])
        )
        placed[task] = TaskRun(job=0, task=task, element=element, start=start, finish=finish)
        busy[element] = sorted([*busy[element], (start, finish)])
    return StaticSchedule(tasks=tuple(placed[task] for task in range(len(graph.tasks))))


def _mean_moving(soc: SocSpec, volume: float) -> float:
    """Mean ticks between two unlike elements; 0 where there is one only."""
    each = range(soc.n_elements)
    ways = [soc.moving_ticks(volume, one, other) for one in each for other in each if one != other]
    return sum(ways) / len(ways) if ways else 0.0


def _earliest(
    graph: TaskGraph,
    soc: SocSpec,
    task: int,
    element: int,
    ticks: int,
    placed: dict[int, TaskRun],
    busy: list[tuple[int, int]],
    insertion: bool,
) -> tuple[int, int, int]:
    """(finish, element, start) of ``task`` on ``element``."""
    start = max(
        (
            placed[source].finish + soc.moving_ticks(volume, placed[source].element, element)
            for source, volume in graph.before[task]
        ),
        default=0,
    )
    if not insertion:
        start = max(start, max((finish for _, finish in busy), default=0))
        return start + ticks, element, start
    for begin, end in busy:
        if start + ticks <= begin:
            break
        start = max(start, end)
    return start + ticks, element, start
