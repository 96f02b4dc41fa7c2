"""Groups that are one job of the network: each at its best mapping as a layer, with what is on chip, in any room.

A job is an operator with what rides on it (of several nodes where a residual sum is added to results on their way).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.fusion.group_runs import part_of
from tilewright.search.fusion.kept.tensors import Pattern, Tensors
from tilewright.search.residency.costs import Choice, JobCosts, Searched, canonical
from tilewright.search.residency.tensors import JobOperands, operands_of
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.jobs import Job, JobLayer, jobs_on
from tilewright.workloads.homes import Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["JobSearch", "JobWays"]

#: The cost of the best mapping of a job (in its layer's homes), and the rooms of its tiles by memory.
JobSearch = Callable[[Job], tuple[int, dict[Place, int]]]


class JobWays:
    """The groups of ``graph`` that are jobs of ``stream`` on ``machine``, with their costs in a memory ``place``."""

    def __init__(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        machine: MachineSpec,
        tensors: Tensors,
        *,
        place: Place,
        search: JobSearch,
        is_cycles: bool,
    ) -> None:
        self.stream, self.machine, self.tensors = stream, machine, tensors
        self.place, self.search, self.is_cycles = place, search, is_cycles
        self.jobs: dict[int, tuple[Job, ...]] = _jobs_by_mask(stream, graph, machine)
        self._costs: dict[tuple[JobLayer, JobOperands, tuple[int, ...]], JobCosts] = {}
        self._of: dict[int, tuple[JobCosts, tuple[str, ...]]] = {}
        self._apart: dict[int, Searched] = {}

    def choices(self, mask: int, pattern: Pattern) -> list[Choice]:
        """Ways to run the group as a job, known or not; none where it is none, or cannot have its operands there."""
        if len(self.jobs.get(mask, ())) > 1:
            if pattern.maps or pattern.weights:
                return []
            cost, need = self._of_several(mask)
            return [Choice((), need, cost, True)]
        found = self._pattern(mask, pattern)
        return [] if found is None else found[0].choices(found[1])

    def exact(self, mask: int, pattern: Pattern, room: int) -> Searched | None:
        """The best mapping in ``room``; None where there is none."""
        if len(self.jobs.get(mask, ())) > 1:
            own = self._of_several(mask) if not pattern.maps and not pattern.weights else None
            return own if own is not None and own.need <= room else None
        found = self._pattern(mask, pattern)
        return None if found is None else found[0].exact(found[1], room)

    def floor(self, mask: int) -> int | None:
        """What the group as a job costs at least, whatever is on chip: in the working buffer with everything there, in
        a level with what is best there.
        """
        if len(self.jobs.get(mask, ())) > 1:
            return self._of_several(mask).cost
        if mask not in self.jobs:
            return None
        costs, names = self._job(mask)
        if costs.is_near:
            return costs.floor((True,) * len(names))
        found = [self._pattern(mask, pattern) for pattern in self.tensors.patterns(mask)]
        return min(own.floor(near) for own, near in filter(None, found))

    @property
    def n_searches(self) -> int:
        """Mappings that were searched."""
        return sum(costs.n_searches for costs in self._costs.values())

    def _of_several(self, mask: int) -> Searched:
        """A node that becomes several jobs: one after the other, everything in the DRAM."""
        if mask not in self._apart:
            found = [self._searched(job) for job in self.jobs[mask]]
            self._apart[mask] = Searched(sum(one.cost for one in found), max(one.need for one in found))
        return self._apart[mask]

    def _searched(self, job: Job) -> Searched:
        cost, rooms = self.search(job)
        return Searched(cost, rooms.get(self.place, 0))

    def _pattern(self, mask: int, pattern: Pattern) -> tuple[JobCosts, tuple[bool, ...]] | None:
        """The job's costs with the pattern in its words; None where it cannot be said."""
        if mask not in self.jobs:
            return None
        costs, names = self._job(mask)
        near = {self.tensors.maps[number].name for number in pattern.maps}
        if not near <= set(names):
            return None
        weights = self.tensors.of(mask).weights
        if pattern.weights:
            near.update(weights)
            if not set(weights) & set(names):
                return None
        return costs, tuple(name in near for name in names)

    def _job(self, mask: int) -> tuple[JobCosts, tuple[str, ...]]:
        """The costs of the job, equal jobs' the same, and its tensors that may be on chip."""
        if mask not in self._of:
            (job,) = self.jobs[mask]
            own, group = operands_of(self.stream, job), self.tensors.of(mask)
            known = {self.tensors.maps[number].name for number in group.maps} | set(group.weights)
            reads = tuple(name if name in known else "" for name in own.reads)
            plain, names = canonical(own._replace(reads=reads, out=own.out if own.out in known else ""))
            sizes = tuple(self.stream.base(name).n_bytes for name in names)
            key = (job.layer, plain, sizes)
            if key not in self._costs:
                self._costs[key] = JobCosts(
                    layer=job.layer,
                    own=plain,
                    sizes=sizes,
                    machine=self.machine,
                    place=self.place,
                    capacity=self.tensors.most_bytes,
                    search=lambda layer: self._searched(replace(job, layer=layer)),
                    floors_by_bound=self.is_cycles,
                )
            self._of[mask] = self._costs[key], names
        return self._of[mask]


def _jobs_by_mask(stream: OperatorStream, graph: FusionGraph, machine: MachineSpec) -> dict[int, tuple[Job, ...]]:
    """The nodes that each job of the network stands for, where it stands for whole ones; else those of each node."""
    found: dict[int, tuple[Job, ...]] = {}
    node_of = {name: node for node in graph.nodes for name in node.operators}
    for job in jobs_on(stream, machine):
        names = {operator.name for operator in job.operators}
        nodes = {node_of[name].index: node_of[name] for name in names}
        mask = sum(node.bit for node in nodes.values())
        if names == {name for node in nodes.values() for name in node.operators} and graph.is_group(mask):
            found[mask] = (job,)
    for node in graph.nodes:
        if node.bit not in found:
            found[node.bit] = _of_node(stream, node.operators, machine)
    return found


def _of_node(stream: OperatorStream, names: Sequence[str], machine: MachineSpec) -> tuple[Job, ...]:
    jobs = jobs_on(part_of(stream, tuple(names)), machine)
    if not jobs:
        raise InputError(f"{stream.name}: {names[0]}: no job of the machine")
    return jobs
