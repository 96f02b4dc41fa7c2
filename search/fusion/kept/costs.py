"""What a group costs with some of its operands on chip: exact runs of its programs and mappings, or floors.

A floor is what no run can be below: the work of its units, each command as large as it can be, one unit beside the
other; later its best run, whatever is on chip; and always the time that the DRAM needs for what is there. The best run
is that with everything on chip where nothing of that is moved: line buffers and mappings in a working buffer. In a
level all of it comes through the level's ports, and copies within a buffer go through its ports, so that a run with a
part of it in the DRAM may be the fastest: there all that may be on chip is tried.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.fusion.kept.alone import JobWays
from tilewright.search.fusion.kept.tensors import Pattern, Tensors
from tilewright.search.residency.costs import Searched
from tilewright.sim.engine.run import simulate
from tilewright.sim.fusion.commands import GroupCosts, sweeps
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.fused_run import measured
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, FusionNode, members
from tilewright.sim.fusion.rows import NOT_BY_ROWS
from tilewright.sim.fusion.scheme import Memoised
from tilewright.workloads.homes import GroupHomes, Place
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["FUSED", "JOB", "PlanCosts", "Way"]

FUSED, JOB = "fused", "alone"


class Way(NamedTuple):
    """A way to run a group: room in the memory of the plan, cost; exact, or at least that."""

    need: int
    cost: int
    is_exact: bool
    how: str


@dataclass(slots=True, kw_only=True)
class PlanCosts:
    """Costs of the groups of ``graph`` with operands in ``place``, in cycles or (``is_energy``) in picojoules."""

    stream: OperatorStream
    graph: FusionGraph
    scheme: Memoised
    machine: MachineSpec
    tensors: Tensors
    place: Place
    jobs: JobWays
    is_energy: bool = False
    n_runs: int = 0
    _fused: dict[tuple[int, Pattern], list[Way]] = field(default_factory=dict)
    _floors: dict[int, int] = field(default_factory=dict)
    _nearest: set[int] = field(default_factory=set)
    _units: list[tuple[int, int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        costs = GroupCosts(self.stream, self.graph, self.machine)
        self._units = [_least_work(costs, node) for node in self.graph.nodes]

    # -- floors --------------------------------------------------------------------------------------------------------

    def floor(self, mask: int) -> int:
        """What the group costs at least, whatever is on chip."""
        if mask not in self._floors:
            own = self.work(mask)
            alone = self.jobs.floor(mask)
            self._floors[mask] = own if alone is None else min(own, alone)
        return self._floors[mask]

    def is_known(self, mask: int) -> bool:
        """Whether the group's best run is known, whatever is on chip."""
        return mask in self._nearest

    def search_nearest(self, mask: int) -> None:
        """Run the group with what makes it fastest on chip, as if that took no room there; its floor is then the best
        of these runs.
        """
        alone = self.jobs.floor(mask)
        best = [NEVER if alone is None else alone]
        if not mask & ~self.scheme.fusable_mask(self.graph):

            def limit() -> int:
                return NEVER if self.is_energy else min(best)

            of = self.scheme.with_homes()
            for pattern in self._fastest(mask):
                if self.floor_of(mask, pattern) >= limit():
                    continue
                homes = self.homes(mask, pattern)
                with suppress(InputError, MappingError):  # it does not run this way, or does not fit
                    for one in of.fast_programs(self.stream, self.graph, mask, self.machine, homes, limit):
                        self.n_runs += 1
                        best.append(self._cost(one))
        self._nearest.add(mask)
        self._floors[mask] = max(self._floors.get(mask, 0), min(best))

    def _fastest(self, mask: int) -> list[Pattern]:
        """What may be on chip where the group is fastest: everything, if that is then not moved; else anything."""
        nearest = self.tensors.nearest(mask)
        if self.place == self.machine.working_buffer.name and self.scheme.works_in_place:
            return [nearest]
        return sorted(self.tensors.patterns(mask), key=lambda pattern: pattern != nearest)

    def floor_of(self, mask: int, pattern: Pattern) -> int:
        """What the group costs at least with these operands on chip: at least the time of the others in the DRAM."""
        if self.is_energy:
            return self.floor(mask)
        read, written = self.far_bytes(mask, pattern)
        n_bytes = max(read, written) if self.machine.dram.ports == "separate" else read + written
        return max(self.floor(mask), ceil(n_bytes / bytes_per_cycle(self.machine)))

    def far_bytes(self, mask: int, pattern: Pattern) -> tuple[int, int]:
        """Bytes that the group reads from the DRAM and writes there at least (a job may read a part of a map alone)."""
        if mask in self.jobs.jobs:
            return 0, 0
        near = {self.tensors.maps[number].name for number in pattern.maps}
        read = sum(tensor.n_bytes for tensor in self.graph.read_from_outside(mask) if tensor.name not in near)
        left = (self.graph.nodes[i].output for i in self.graph.needed_outside(mask))
        weights = 0 if pattern.weights else self.tensors.of(mask).weight_bytes
        return read + weights, sum(tensor.n_bytes for tensor in left if tensor.name not in near)

    def work(self, mask: int) -> int:
        """What the units of the core need for the group at least, one beside the other (energy: of their work)."""
        own = [self._units[i] for i in members(mask)]
        if self.is_energy:
            return int(sum(energy_pj for *_, energy_pj in own))
        return max(sum(matrix for matrix, *_ in own), sum(vector for _, vector, _ in own))

    # -- exact runs ----------------------------------------------------------------------------------------------------

    def search(self, mask: int, pattern: Pattern) -> list[Way]:
        """All programs of the group with these operands on chip that none beats in room and cost."""
        key = (mask, pattern)
        if key not in self._fused:
            found = [Way(need, cost, True, FUSED) for need, cost in self._runs(mask, pattern)]
            self._fused[key] = _undominated(found)
        return self._fused[key]

    def homes(self, mask: int, pattern: Pattern) -> GroupHomes:
        """Where the operands of the group are."""
        names = [self.tensors.maps[number].name for number in sorted(pattern.maps)]
        names += self.tensors.of(mask).weights if pattern.weights else ()
        return GroupHomes(tuple((name, self.place) for name in names))

    def _runs(self, mask: int, pattern: Pattern) -> list[tuple[int, int]]:
        if mask & ~self.scheme.fusable_mask(self.graph):
            return []
        try:
            homes = self.homes(mask, pattern)
            made = list(self.scheme.programs(self.stream, self.graph, mask, self.machine, homes))
        except (InputError, MappingError):  # it does not run this way, or does not fit
            return []
        self.n_runs += len(made)
        return [(self.room(one), self._cost(one)) for one in made]

    def room(self, made: FusedProgram) -> int:
        """Bytes that a program takes of the memory of the plan."""
        return sum(made.program.buffer_bytes.values()) if self.place == self.machine.working_buffer.name else 0

    def _cost(self, made: FusedProgram) -> int:
        if not self.is_energy:
            return simulate(made.program).cycles
        return round(measured(made.program, made.group, self.machine, made.tiling, ()).energy_pj)

    # -- ways ----------------------------------------------------------------------------------------------------------

    def ways(self, mask: int, pattern: Pattern, *, exact: bool = False) -> list[Way]:
        """The ways to run the group with these operands on chip, known (``exact``: these alone) or by floors."""
        floor = self.floor_of(mask, pattern)
        known = self._fused.get((mask, pattern))
        if known is None:
            found = (
                []
                if mask & ~self.scheme.fusable_mask(self.graph)
                else [Way(self._least_room(mask, pattern), floor, False, FUSED)]
            )
        else:
            found = list(known)
        for choice in self.jobs.choices(mask, pattern):
            found.append(Way(choice.need, choice.cost, choice.is_exact, JOB))
        return _undominated([way for way in found if way.is_exact] if exact else found)

    def _least_room(self, mask: int, pattern: Pattern) -> int:
        """What a program of the group takes at least: all that it needs but what is on chip besides."""
        if mask & (mask - 1) == 0 or self.place != self.machine.working_buffer.name:
            return 0
        return max(0, self.scheme.cost(self.graph, mask).buffer_bytes - self.tensors.own_bytes(mask, pattern))

    def exact(self, mask: int, pattern: Pattern, room: int) -> Way | None:
        """The best way to run the group in ``room`` with these operands on chip; None where there is none."""
        fitting = [way for way in self.search(mask, pattern) if way.need <= room]
        job: Searched | None = self.jobs.exact(mask, pattern, room)
        if job is not None and job.need <= room:
            fitting.append(Way(job.need, job.cost, True, JOB))
        return min(fitting, key=lambda way: (way.cost, way.need), default=None)


WHOLE_MAP = 2**40  # rows
NEVER = 2**50  # of a group that does not run at all


def _undominated(ways: list[Way]) -> list[Way]:
    """Ways that no other beats in room and cost; by room."""
    found: list[Way] = []
    for way in sorted(ways, key=lambda one: (one.need, one.cost, not one.is_exact)):
        if not found or way.cost < found[-1].cost:
            found.append(way)
    return found


def _least_work(costs: GroupCosts, node: FusionNode) -> tuple[int, int, float]:
    """(matrix cycles, vector cycles, picojoules) of a node's work at least: in commands of any number of rows.

    Picojoules are those of multiply-adds and vector work alone: bytes through buffers depend on the commands.
    """
    if node.kind in NOT_BY_ROWS:
        return 0, 0, 0.0
    cycles = costs.least_cycles(node, WHOLE_MAP)
    height = costs.graph.edges_in[node.index][0].tensor.height if sweeps(node) else node.output.height
    done = costs.make_rows(node, 0, height).counters * node.output.batch
    work = Counters(macs=done.macs, vector_operations=done.vector_operations)
    energy_pj = sum(energy_by_component(costs.machine, work, 0).values())
    return (cycles, 0, energy_pj) if node.on_matrix else (0, cycles, energy_pj)
