"""One core as a lowering sees it: four queues, buffer pools, semaphores, and the costs of the tiles.

The same lowering is written once and used three ways, by the builder behind the core:
:class:`~tilewright.sim.engine.program.ProgramBuilder` makes the program, the same with ``unroll=True`` makes the
program that is run on numbers, and :class:`WorkCounter` only adds up the work (the search's lower bound).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from tilewright.errors import MappingError
from tilewright.sim.engine.program import Channel, Engine, ProgramBuilder
from tilewright.sim.lowering.costs import TileCosts, Work

__all__ = [
    "ENGINE_KINDS",
    "LOAD",
    "MATRIX",
    "STORE",
    "VECTOR",
    "BuffersDeclared",
    "Pool",
    "TileCore",
    "WorkCounter",
    "WorkTotals",
]

C = TypeVar("C", bound=TileCosts)

ENGINE_KINDS = ("load", "store", "matrix", "vector")
LOAD, STORE, MATRIX, VECTOR = 0, 1, 2, 3


class Pool(NamedTuple):
    """Slots of one size in the working buffer; ``free`` and ``full`` count them for producer and consumer."""

    name: str
    slots: int
    free: int
    full: int


class WorkTotals(NamedTuple):
    """Work of a program, added up without running it (per core)."""

    matrix_cycles: int
    vector_cycles: int
    channel_bytes: int
    energy_pj: float


class WorkCounter:
    """A builder that only multiplies out the loops: command counts times costs.

    ``loop`` yields like the program builder's; a dependent count is summed in closed form, for which at
    most one loop between may depend on the same outer loop.
    """

    unroll = False

    def __init__(self) -> None:
        self.buffer_bytes: dict[str, int] = {}
        self.cycles = [0] * len(ENGINE_KINDS)
        self.channel_bytes = 0
        self.energy_pj = 0.0
        self._times = 1
        self._counts: list[int] = []

    def semaphore(self, name: str, initial: int = 0, *, is_slot: bool = False) -> int:
        return 0

    def loop(self, count: int, *, step: int = 0, over: int = -1, name: str = "loop") -> Iterator[int]:
        before = self._times
        if step:
            trips = self._counts[over]
            self._times = before // trips * _sum_of_counts(count, step, trips)
        else:
            self._times = before * count
        if self._times <= 0:
            self._times = before
            return
        self._counts.append(count)
        yield len(self._counts) - 1
        self._counts.pop()
        self._times = before

    def add(self, engine: int, work: Work) -> None:
        if engine <= STORE:
            self.channel_bytes += self._times * work.n_bytes
        else:
            self.cycles[engine] += self._times * work.cycles
        self.energy_pj += self._times * work.energy_pj

    @property
    def times(self) -> int:
        """How often a command written here runs."""
        return self._times

    def repeated(self, times: int) -> Iterator[None]:
        """One trip in which every command counts ``times``, whatever loops stand around it."""
        before, self._times = self._times, times
        yield
        self._times = before

    def totals(self) -> WorkTotals:
        return WorkTotals(self.cycles[MATRIX], self.cycles[VECTOR], self.channel_bytes, self.energy_pj)


def _sum_of_counts(count: int, step: int, trips: int) -> int:
    """Sum of max(0, count + step * i) for i in range(trips)."""
    if count >= 0 and count + step * (trips - 1) >= 0:
        return trips * count + step * (trips * (trips - 1) // 2)
    return sum(max(0, count + step * i) for i in range(trips))


class BuffersDeclared(Exception):  # noqa: N818  (no error: it ends a lowering that was only asked for its buffers)
    """Raised by :meth:`TileCore.declared` when only the buffers were wanted."""


class TileCore(Generic[C]):
    """What a lowering writes to: queues, pools of the working buffer, loops.

    ``n_groups``: how many of the layer's independent pieces (heads, batch entries) this core does.
    """

    levers = "use smaller tiles, or fewer slots"

    def __init__(
        self,
        costs: C,
        *,
        n_groups: int,
        builder: ProgramBuilder | WorkCounter,
        first_engine: int = 0,
        name: str = "",
    ) -> None:
        self.costs = costs
        self.layer = costs.layer
        self.n_groups = n_groups
        self.builder = builder
        self.capacity_bytes = costs.working.capacity_bytes
        self.used_bytes = 0
        self.only_declare = False
        self.pools: dict[str, Pool] = {}
        self._first_engine = first_engine
        self._name = name
        self._count = builder if isinstance(builder, WorkCounter) else None
        self._program = builder if isinstance(builder, ProgramBuilder) else None

    @staticmethod
    def engines(weight: int, suffix: str = "") -> list[Engine]:
        return [Engine(kind + suffix, kind, weight) for kind in ENGINE_KINDS]

    @staticmethod
    def channel(costs: TileCosts) -> Channel:
        return Channel("dram", costs.rate)

    # -- resources ---------------------------------------------------------------------------------------

    def pool(self, name: str, *, slots: int, slot_bytes: int, filled: int = 0) -> Pool:
        """Reserve ``slots`` slots, ``filled`` of which hold their tile from the start."""
        self.reserve(name, slots * slot_bytes)
        pool = Pool(
            name,
            slots,
            self.builder.semaphore(f"{name} slot free{self._name}", slots - filled, is_slot=True),
            self.builder.semaphore(f"{name} ready{self._name}", filled),
        )
        self.pools[name] = pool
        return pool

    def reserve(self, name: str, n_bytes: int) -> None:
        """Take ``n_bytes`` of the working buffer; :meth:`declared` compares the sum with its capacity."""
        self.used_bytes += n_bytes
        used = self.builder.buffer_bytes
        used[name] = used.get(name, 0) + n_bytes

    def declared(self) -> None:
        """Called by a lowering when it has declared its pools, before the loops.

        Raises MappingError with the whole need when the working buffer cannot hold it.
        """
        if self.used_bytes > self.capacity_bytes:
            raise MappingError(
                resource=f"buffer {self.costs.working.name}",
                demand=self.used_bytes,
                limit=self.capacity_bytes,
                unit="bytes",
                levers=self.levers,
            )
        if self.only_declare:
            raise BuffersDeclared

    def semaphore(self, name: str, initial: int = 0, *, is_slot: bool = False) -> int:
        return self.builder.semaphore(name + self._name, initial, is_slot=is_slot)

    # -- loops -------------------------------------------------------------------------------------------

    @property
    def unroll(self) -> bool:
        return self.builder.unroll

    def loop(self, count: int, *, step: int = 0, over: int = -1, name: str = "loop") -> Iterator[int]:
        return self.builder.loop(count, step=step, over=over, name=name)

    # -- commands ----------------------------------------------------------------------------------------

    def load(
        self, work: Work, *, waits: Sequence[int] = (), signals: Sequence[int] = (), label: str, run: Any = None
    ) -> None:
        self._transfer(LOAD, work, waits, signals, label, run)

    def store(
        self, work: Work, *, waits: Sequence[int] = (), signals: Sequence[int] = (), label: str, run: Any = None
    ) -> None:
        self._transfer(STORE, work, waits, signals, label, run)

    def matrix(
        self, work: Work, *, waits: Sequence[int] = (), signals: Sequence[int] = (), label: str, run: Any = None
    ) -> None:
        self._compute(MATRIX, work, waits, signals, label, run)

    def vector(
        self, work: Work, *, waits: Sequence[int] = (), signals: Sequence[int] = (), label: str, run: Any = None
    ) -> None:
        self._compute(VECTOR, work, waits, signals, label, run)

    def _transfer(
        self, engine: int, work: Work, waits: Sequence[int], signals: Sequence[int], label: str, run: Any
    ) -> None:
        if self._count is not None:
            self._count.add(engine, work)
        elif self._program is not None:
            self._program.transfer(
                self._first_engine + engine,
                n_bytes=work.n_bytes,
                latency_cycles=work.cycles,
                waits=waits,
                signals=signals,
                label=label,
                cost=work,
                run=run,
            )

    def _compute(
        self, engine: int, work: Work, waits: Sequence[int], signals: Sequence[int], label: str, run: Any
    ) -> None:
        if self._count is not None:
            self._count.add(engine, work)
        elif self._program is not None:
            self._program.compute(
                self._first_engine + engine,
                cycles=work.cycles,
                waits=waits,
                signals=signals,
                label=label,
                cost=work,
                run=run,
            )
