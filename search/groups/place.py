"""Which group does which operator, and in which order: CP-SAT with proof, and simple placements beside it.

An operator is a task that takes on each group what its best mapping takes there alone; what it reads must have been
written, and a group does one operator at a time. The shortest such schedule is proven as that of one job on a system on
a chip is (:mod:`tilewright.search.schedule.optimum`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tilewright.hw_models.soc.spec import ClusterSpec, SocSpec
from tilewright.search.groups.prepare import Prepared
from tilewright.search.schedule.optimum import shortest_schedule
from tilewright.sim.soc.run import TaskRun
from tilewright.workloads.task_graphs.graph import Edge, TaskGraph

__all__ = ["PLACEMENT_SECONDS", "Placed", "Placement", "cheapest", "in_order", "on_one_group", "shortest"]

PLACEMENT_SECONDS = 20.0  # of the clock, for the proof


class Placed(NamedTuple):
    """A job on a group (``unit``) from ``start`` to ``finish``, in cycles, when nothing else takes of the DRAM."""

    unit: int
    start: int
    finish: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The place of each job. ``bound``: no placement ends before that without contention (0: nobody asked)."""

    jobs: tuple[Placed, ...]
    bound: int = 0

    @property
    def cycles(self) -> int:
        """When the last job ends without contention."""
        return max((job.finish for job in self.jobs), default=0)

    def order(self, unit: int) -> tuple[int, ...]:
        """The jobs of a group, in the order in which it does them."""
        own = [number for number, job in enumerate(self.jobs) if job.unit == unit]
        return tuple(sorted(own, key=lambda number: (self.jobs[number].start, self.jobs[number].finish, number)))

    @property
    def key(self) -> object:
        """What two placements share that run alike."""
        return tuple(self.order(unit) for unit in sorted({job.unit for job in self.jobs}))


def shortest(ready: Prepared, *, seconds: float = PLACEMENT_SECONDS, seed: int = 0) -> Placement:
    """The placement that ends first when each operator takes what it takes alone, with the bound of its proof.

    An operator that all others are before or behind parts the network: what is between two such operators is a problem
    of its own, and equal ones are solved once.
    """
    stretches = _stretches(ready)
    n_open = sum(len(stretch) for stretch in {_shape(ready, stretch): stretch for stretch in stretches}.values())
    known: dict[object, tuple[list[Placed], int]] = {}
    found: list[Placed] = [Placed(0, 0, 0)] * len(ready.jobs)
    at = bound = 0
    for stretch in stretches:
        shape = _shape(ready, stretch)
        if shape not in known:
            known[shape] = _shortest_of(ready, stretch, seconds * len(stretch) / n_open, seed)
        placed, least = known[shape]
        for number, one in zip(stretch, placed, strict=True):
            found[number] = Placed(one.unit, at + one.start, at + one.finish)
        at += max(one.finish for one in placed)
        bound += least
    return Placement(jobs=tuple(found), bound=bound)


def _stretches(ready: Prepared) -> list[list[int]]:
    """The jobs in stretches that follow each other whole: one that all others wait for or that waits for all others is
    a stretch of its own.
    """
    n = len(ready.jobs)
    before, behind = [0] * n, [0] * n  # sets of jobs as bits
    for number in range(n):
        for source in ready.before[number]:
            before[number] |= before[source] | 1 << source
    for number in reversed(range(n)):
        for source in ready.before[number]:
            behind[source] |= behind[number] | 1 << number
    found: list[list[int]] = []
    is_open = False
    for number in range(n):
        if before[number].bit_count() + behind[number].bit_count() == n - 1:
            found.append([number])
            is_open = False
        elif is_open:
            found[-1].append(number)
        else:
            found.append([number])
            is_open = True
    return found


def _shape(ready: Prepared, stretch: Sequence[int]) -> object:
    """What stretches share that are the same problem."""
    place = {number: at for at, number in enumerate(stretch)}
    return tuple(
        (
            tuple((unit, ready.ticks(number, unit)) for unit in sorted(ready.options[number])),
            tuple(place[source] for source in ready.before[number] if source in place),
        )
        for number in stretch
    )


def _shortest_of(ready: Prepared, stretch: Sequence[int], seconds: float, seed: int) -> tuple[list[Placed], int]:
    """The shortest schedule of a stretch from cycle 0 on, and its bound."""
    if len(stretch) == 1:
        (number,) = stretch
        unit = min(ready.options[number], key=lambda one: (ready.ticks(number, one), one))
        return [Placed(unit, 0, ready.ticks(number, unit))], ready.ticks(number, unit)
    place = {number: at for at, number in enumerate(stretch)}
    tasks = tuple(f"{number} {ready.jobs[number].name}" for number in stretch)
    clusters = {
        name: ClusterSpec(
            latency={
                task: ready.ticks(number, unit)
                for task, number in zip(tasks, stretch, strict=True)
                if unit in ready.options[number]
            }
        )
        for unit, name in enumerate(ready.names)
    }
    edges = tuple(
        Edge(source=place[source], target=place[number])
        for number in stretch
        for source in ready.before[number]
        if source in place
    )
    soc = SocSpec(name=ready.machine.name, source="exact runs", clusters=clusters)
    found = shortest_schedule(
        soc, TaskGraph(name=ready.stream.name, tasks=tasks, edges=edges), seconds=seconds, seed=seed, few_elements=True
    )
    runs = sorted(found.tasks, key=_number)
    return [Placed(run.element, run.start, run.finish) for run in runs], found.bound


def _number(run: TaskRun) -> int:
    return run.task


def in_order(ready: Prepared) -> Placement:
    """Operator by operator as the stream has them, each on the group where it then ends soonest."""

    def soonest(number: int, ends: Sequence[int]) -> int:
        return min(ready.options[number], key=lambda unit: (ends[unit], ready.ticks(number, unit), unit))

    return _listed(ready, soonest)


def cheapest(ready: Prepared, cost: Callable[[int, int], float]) -> Placement:
    """Each operator on the group where its ``cost`` (of job and unit) is least, as the stream has them."""
    return _listed(ready, lambda number, _: min(ready.options[number], key=lambda unit: (cost(number, unit), unit)))


def on_one_group(ready: Prepared, unit: int) -> Placement | None:
    """All operators on one group; None where it lacks one."""
    if any(unit not in own for own in ready.options):
        return None
    return _listed(ready, lambda _, __: unit)


def _listed(ready: Prepared, choose: Callable[[int, Sequence[int]], int]) -> Placement:
    """Jobs in the stream's order on the units that ``choose`` gives, told when each would end on each."""
    free = [0] * len(ready.units)
    found: list[Placed] = []
    for number in range(len(ready.jobs)):
        there = max((found[source].finish for source in ready.before[number]), default=0)
        ends = [
            max(free[unit], there) + ready.ticks(number, unit) if unit in ready.options[number] else 0
            for unit in range(len(free))
        ]
        unit = choose(number, ends)
        free[unit] = ends[unit]
        found.append(Placed(unit, ends[unit] - ready.ticks(number, unit), ends[unit]))
    return Placement(jobs=tuple(found))
