"""What a job costs with some operands in one memory on chip and so much room there for its tiles: exact, or a floor.

The exact cost is that of the best mapping in that room, searched when it is asked for. Before that a *floor* stands for
it: the bound of the layer, and in a working buffer, whose tensors are not moved at all, also its best mapping with
everything there and all the room. (With everything in a level a job may take longer than with some of it in the DRAM:
the level's port is then what all tiles come through, and none is staged nearer.) With more room a job never takes
longer, so that what is searched first is its best mapping with all the room, which is the answer wherever it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.residency.tensors import JobOperands, with_homes
from tilewright.sim.jobs import JobLayer
from tilewright.sim.lowering.family import family_of
from tilewright.workloads.homes import Place

__all__ = ["MOST_FREE", "Choice", "JobCosts", "Pattern", "Search", "Searched", "canonical"]

#: For each tensor of a job, in the order of :func:`canonical`, whether it is on chip.
Pattern = tuple[bool, ...]

MOST_FREE = 4  # with more tensors only all of them, all that are read, or none


class Searched(NamedTuple):
    """A best mapping: what it costs, and the room that its tiles take in the memory of the plan."""

    cost: int
    need: int


class Choice(NamedTuple):
    """A way to do a job: which tensors are on chip, room for tiles, cost; exact, or at least that."""

    pattern: Pattern
    need: int
    cost: int
    is_exact: bool


class _Point(NamedTuple):
    """The best mapping in ``room``; None where none fits."""

    room: int
    found: Searched | None


#: The best mapping of a layer (with its homes, and what is held). Raises InputError where none fits.
Search = Callable[[JobLayer], Searched]


def canonical(own: JobOperands) -> tuple[JobOperands, tuple[str, ...]]:
    """Operands with the tensors numbered in order, and the tensors: equal jobs then look alike."""
    names = own.names
    number = {name: str(i) for i, name in enumerate(names)}
    number[""] = ""
    return own._replace(reads=tuple(number[name] for name in own.reads), out=number[own.out]), names


@dataclass(slots=True)
class JobCosts:
    """Costs of one distinct job, whose tensors are in the DRAM or in ``place``, of ``capacity`` bytes.

    ``sizes``: bytes of its tensors. ``floors_by_bound``: whether the cost is in cycles, which the layer's bound bounds.
    """

    layer: JobLayer
    own: JobOperands
    sizes: tuple[int, ...]
    machine: MachineSpec
    place: Place
    capacity: int
    search: Search
    floors_by_bound: bool = True
    points: dict[Pattern, list[_Point]] = field(default_factory=dict)
    floors: dict[Pattern, int] = field(default_factory=dict)
    n_searches: int = 0

    def patterns(self) -> Iterator[Pattern]:
        """What may be on chip together, as far as it fits at all."""
        n = len(self.sizes)
        free = product((False, True), repeat=n) if n <= MOST_FREE else self._few(n)
        for pattern in free:
            if self.own_bytes(pattern) <= self.capacity:
                yield pattern

    def _few(self, n: int) -> Iterator[Pattern]:
        is_out = tuple(str(i) == self.own.out and self.own.out not in self.own.reads for i in range(n))
        yield (False,) * n
        yield (True,) * n
        if any(is_out):
            yield is_out
            yield tuple(not out for out in is_out)

    def own_bytes(self, pattern: Pattern) -> int:
        """Bytes of the tensors that are on chip."""
        return sum(size for size, on_chip in zip(self.sizes, pattern, strict=True) if on_chip)

    def planned(self, pattern: Pattern, room: int | None = None) -> JobLayer:
        """The layer with these homes, where its tiles have ``room`` (None: all of the memory)."""
        places = {str(i): self.place for i, on_chip in enumerate(pattern) if on_chip}
        held = () if room is None or room >= self.capacity else ((self.place, self.capacity - room),)
        return with_homes(self.layer, self.own, places, held)

    def exact(self, pattern: Pattern, room: int) -> Searched | None:
        """The best mapping where the tiles have ``room``; None where none fits. Searched once for each room."""
        self.begin(pattern)
        points = self.points[pattern]
        for point in points:
            if point.room == room or (point.found and point.found.need <= room <= point.room):
                return point.found
        known = self._between(points, room, self.floor(pattern))
        if known is not None:
            return known
        found = self._searched(pattern, room)
        points.append(_Point(room, found))
        points.sort(key=lambda point: point.room)
        return found

    def begin(self, pattern: Pattern) -> None:
        """Know the floor, and in a level the best mapping with all the room."""
        points = self.points.setdefault(pattern, [])
        if self.is_near:
            self.floor(pattern)
        elif not points:
            points.append(_Point(self.capacity, self._searched(pattern, self.capacity)))

    def wanted(self, pattern: Pattern, room: int) -> JobLayer | None:
        """What :meth:`exact` would search next; None where it knows the answer."""
        first = self.wanted_first(pattern)
        if first is not None:
            return first
        points = self.points.get(pattern, [])
        for point in points:
            if point.room == room or (point.found and point.found.need <= room <= point.room):
                return None
        known = self._between(points, room, self.floor(pattern))
        return self.planned(pattern, room) if known is None else None

    def wanted_first(self, pattern: Pattern) -> JobLayer | None:
        """What :meth:`begin` would search."""
        if self.is_near:
            return self.wanted_near()
        return None if self.points.get(pattern) else self.planned(pattern)

    def wanted_near(self) -> JobLayer | None:
        """What :meth:`floor` would search."""
        near = (True,) * len(self.sizes)
        return self.planned(near) if self.is_near and near not in self.floors else None

    def _searched(self, pattern: Pattern, room: int) -> Searched | None:
        self.n_searches += 1
        try:
            return self.search(self.planned(pattern, room))
        except InputError:
            return None

    @staticmethod
    def _between(points: Sequence[_Point], room: int, floor: int) -> Searched | None:
        """A known mapping that fits in ``room`` and costs no more than any can there, by more room or the floor."""
        fitting = [point.found for point in points if point.found is not None and point.found.need <= room]
        if not fitting:
            return None
        best = min(fitting, key=lambda found: found.cost)
        more = [point.found.cost for point in points if point.found is not None and point.room >= room]
        return best if best.cost <= max([floor, *more]) else None

    def floor(self, pattern: Pattern) -> int:
        """What no mapping can beat with these homes, whatever the room."""
        if pattern not in self.floors:
            cost = self._everything_near() if self.is_near else 0
            if self.floors_by_bound:
                family = family_of(self.layer)
                layer = family.adapted(self.planned(pattern), self.machine)
                cost = max(cost, family.bound(layer, self.machine).cycles)
            self.floors[pattern] = cost
        return self.floors[pattern]

    @property
    def is_near(self) -> bool:
        """Whether the place is the working buffer, whose tensors are not moved: never slower than the DRAM."""
        return self.place == self.machine.working_buffer.name

    def _everything_near(self) -> int:
        """The cost with all tensors on chip, as if they took no room there."""
        near = (True,) * len(self.sizes)
        if near not in self.floors:
            self.n_searches += 1
            self.floors[near] = self.search(self.planned(near)).cost
        return self.floors[near]

    def choices(self, pattern: Pattern) -> list[Choice]:
        """The ways to do the job with these homes: the known mappings, and what others may cost at least.

        Cost falls with room: between two rooms that were searched it is at least that of the larger one.
        """
        points, floor = self.points.get(pattern, []), self.floor(pattern)
        found: list[Choice] = []
        least = 0  # room that is known not to be enough, plus one
        cost_below: int | None = None
        for point in points:
            if point.found is None:
                least = point.room + 1
                continue
            cost, need = max(point.found.cost, floor), point.found.need
            if least < need and (cost_below is None or cost < cost_below):
                found.append(Choice(pattern, least, cost, False))
            found.append(Choice(pattern, need, cost, True))
            least, cost_below = point.room + 1, cost
        if least + self.own_bytes(pattern) <= self.capacity and (cost_below is None or floor < cost_below):
            found.append(Choice(pattern, least, floor, False))
        return found
