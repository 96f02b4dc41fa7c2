"""Fusion schemes: what running a group of operators together costs, and when it can be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.registry import LAST, Registry
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = [
    "SCHEMES",
    "FusionScheme",
    "GroupCost",
    "HomedScheme",
    "Memoised",
    "get_scheme",
    "register_scheme",
    "scheme_names",
    "schemes_with_homes",
    "schemes_with_programs",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCost:
    """What a group needs on chip and moves to and from DRAM.

    ``buffer_bytes``: the room that it takes, the least where the scheme has no choice. ``dram_read_bytes`` and
    ``dram_write_bytes`` are those of feature maps; ``weight_bytes`` is the traffic of weights, as often as they are
    loaded (counting rules differ in whether it belongs to the sum). ``reason`` says why the scheme cannot run the group
    at all, None when it can.
    """

    buffer_bytes: int
    dram_read_bytes: int
    dram_write_bytes: int
    weight_bytes: int
    reason: str | None = None

    @property
    def feature_map_bytes(self) -> int:
        """DRAM traffic of feature maps alone."""
        return self.dram_read_bytes + self.dram_write_bytes

    @property
    def dram_bytes(self) -> int:
        """DRAM traffic of feature maps and weights."""
        return self.dram_read_bytes + self.dram_write_bytes + self.weight_bytes

    def valid(self, buffer_capacity: int) -> bool:
        """Whether the group runs with a working buffer of so many bytes."""
        return self.reason is None and self.buffer_bytes <= buffer_capacity


@runtime_checkable
class FusionScheme(Protocol):
    """A way to run groups. ``capacity_bytes`` is the working buffer for which choices inside a group are made.

    A group of one node is always possible: where the scheme's own form does not fit, its cost is that of the layer
    run alone. ``fusable_mask`` are the nodes that can be in larger groups at all. ``has_programs``: whether its groups
    become programs for the engine, which searches for cycles and energy need.
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def assumptions(self) -> tuple[str, ...]: ...

    @property
    def capacity_bytes(self) -> int: ...

    @property
    def has_programs(self) -> bool: ...

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        """The cost of one group (connected and convex; this is not checked here)."""
        ...

    def fusable_mask(self, graph: FusionGraph) -> int:
        """The nodes that can be in a group with others."""
        ...

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        """What the group, and every larger one around it, needs on chip at least; 0 where nothing is known.

        Exact searches stop growing groups where it passes the capacity.
        """
        ...

    def programs(
        self, stream: OperatorStream, graph: FusionGraph, group_mask: int, machine: MachineSpec
    ) -> Iterator[FusedProgram]:
        """Programs that run the group on one core of ``machine``: first the usual one, then others that may be faster.

        ``graph`` is that of ``stream``. None where the scheme has no programs; raises InputError for a group that it
        cannot run, and MappingError for one that does not fit the machine.
        """
        ...


@runtime_checkable
class HomedScheme(FusionScheme, Protocol):
    """A scheme whose programs heed where operands are kept, and have the room that is left: ``heeds_homes`` is true.

    One that moves nothing of what is in the working buffer says so with ``works_in_place``; searches are then shorter.
    """

    @property
    def heeds_homes(self) -> bool: ...

    def programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> Iterator[FusedProgram]:
        """As :meth:`FusionScheme.programs`, with operands where ``homes`` says."""
        ...

    def fast_programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes,
        limit: Callable[[], int],
    ) -> Iterator[FusedProgram]:
        """Of :meth:`programs` those that may take fewer than ``limit()`` cycles when they are asked for; of programs
        of one group that differ in room those with the most first.
        """
        ...


@dataclass(slots=True)
class Memoised:
    """A scheme that remembers the costs that it has worked out, for each graph."""

    scheme: FusionScheme
    _known: WeakKeyDictionary[FusionGraph, dict[int, GroupCost]] = field(default_factory=WeakKeyDictionary)

    @property
    def name(self) -> str:
        return self.scheme.name

    @property
    def source(self) -> str:
        return self.scheme.source

    @property
    def assumptions(self) -> tuple[str, ...]:
        return self.scheme.assumptions

    @property
    def capacity_bytes(self) -> int:
        return self.scheme.capacity_bytes

    @property
    def has_programs(self) -> bool:
        return self.scheme.has_programs

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        of_graph = self._known.get(graph)
        if of_graph is None:
            of_graph = self._known[graph] = {}
        found = of_graph.get(group_mask)
        if found is None:
            found = of_graph[group_mask] = self.scheme.cost(graph, group_mask)
        return found

    def fusable_mask(self, graph: FusionGraph) -> int:
        return self.scheme.fusable_mask(graph)

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        return self.scheme.least_bytes(graph, group_mask)

    @property
    def heeds_homes(self) -> bool:
        """Whether programs of the scheme find and leave operands in memories on chip."""
        return bool(getattr(self.scheme, "heeds_homes", False))

    @property
    def works_in_place(self) -> bool:
        """Whether programs of the scheme move nothing of what is in the working buffer, so that none with a part of it
        in the DRAM is faster.
        """
        return bool(getattr(self.scheme, "works_in_place", False))

    def programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> Iterator[FusedProgram]:
        if homes == GROUP_IN_DRAM:
            return self.scheme.programs(stream, graph, group_mask, machine)
        return self.with_homes().programs(stream, graph, group_mask, machine, homes)

    def with_homes(self) -> HomedScheme:
        """The scheme, which must heed homes; raises InputError where it does not."""
        if not self.heeds_homes or not isinstance(self.scheme, HomedScheme):
            allowed = ", ".join(schemes_with_homes())
            raise InputError(
                f'fusion scheme: keeps nothing on chip between groups; given "{self.name}"; allowed {allowed}'
            )
        return self.scheme


SCHEMES: Registry[Callable[[int], FusionScheme]] = Registry("fusion scheme", rooms=("tilewright.sim.fusion.schemes",))


def register_scheme(name: str, make: Callable[[int], FusionScheme], *, rank: int = LAST, usual: bool = False) -> None:
    """Add a scheme; ``make(capacity_bytes)`` gives it for a working buffer of that size.

    ``rank``: its place in lists; ``usual``: it is meant where none is named.
    """
    SCHEMES.register(name, make, rank=rank, usual=usual)


def scheme_names() -> tuple[str, ...]:
    """Names of the fusion schemes."""
    return SCHEMES.names()


def schemes_with_programs() -> tuple[str, ...]:
    """Names of the fusion schemes whose groups become programs."""
    return tuple(name for name in SCHEMES.names() if SCHEMES.get(name)(1).has_programs)


def schemes_with_homes() -> tuple[str, ...]:
    """Names of the fusion schemes whose groups find and leave operands in memories on chip."""
    return tuple(name for name in schemes_with_programs() if getattr(SCHEMES.get(name)(1), "heeds_homes", False))


def get_scheme(name: str | None, capacity_bytes: int) -> Memoised:
    """The scheme ``name`` (None: the usual one) for a working buffer of ``capacity_bytes``, which remembers its costs.

    Raises InputError for an unknown name, and for one from outside that lacks a part of :class:`FusionScheme`.
    """
    name = SCHEMES.usual() if name is None else name
    scheme = SCHEMES.get(name)(capacity_bytes)
    missing = [part for part in dir(FusionScheme) if not part.startswith("_") and not hasattr(scheme, part)]
    if missing:
        raise InputError(f'fusion scheme "{name}": lacks {", ".join(missing)}, which every scheme has')
    return Memoised(scheme)
