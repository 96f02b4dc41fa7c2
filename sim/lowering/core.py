"""One core as a lowering sees it: four queues, buffer pools, semaphores, and the costs of the tiles.

The same lowering is written once and used three ways, by the builder behind the core:
:class:`~tilewright.sim.engine.program.ProgramBuilder` makes the program, the same with ``unroll=True`` makes the
program that is run on numbers, and :class:`WorkCounter` only adds up the work (the search's lower bound).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from tilewright.errors import MappingError
from tilewright.hw_models.spec import OPERANDS, Operand
from tilewright.sim.engine.program import Channel, Engine, ProgramBuilder
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.lowering.levels import DRAM_CHANNEL, channels_of, level_called

__all__ = [
    "ENGINE_KINDS",
    "LOAD",
    "MATRIX",
    "STORE",
    "VECTOR",
    "BuffersDeclared",
    "Pool",
    "Sharing",
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
    """Work of a program, added up without running it (per core). ``level_bytes``: (channel, bytes) of levels' ports."""

    matrix_cycles: int
    vector_cycles: int
    channel_bytes: int
    energy_pj: float
    level_bytes: tuple[tuple[int, int], ...] = ()


class Sharing(NamedTuple):
    """Work of an engine that serves ``n_cores`` at once: bytes by channel, and energy, for all of them."""

    n_cores: int
    n_bytes: dict[int, int]
    energy_pj: float

    @property
    def channel_bytes(self) -> int:
        """Bytes of the DRAM."""
        return self.n_bytes.get(DRAM_CHANNEL, 0)


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
        self.level_bytes: dict[int, int] = {}
        self.shared: dict[int, Sharing] = {}
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
        if engine > STORE:
            self.cycles[engine] += self._times * work.cycles
        elif work.channel == DRAM_CHANNEL:
            self.channel_bytes += self._times * work.n_bytes
        else:
            known = self.level_bytes.get(work.channel, 0)
            self.level_bytes[work.channel] = known + self._times * work.n_bytes
        self.energy_pj += self._times * work.energy_pj

    def add_shared(self, work: Work, n_cores: int) -> None:
        """Add a transfer that is made once for ``n_cores``."""
        _, n_bytes, energy_pj = self.shared.get(n_cores, (0, {}, 0.0))
        n_bytes[work.channel] = n_bytes.get(work.channel, 0) + self._times * work.n_bytes
        self.shared[n_cores] = Sharing(n_cores, n_bytes, energy_pj + self._times * work.energy_pj)

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
        return WorkTotals(
            self.cycles[MATRIX],
            self.cycles[VECTOR],
            self.channel_bytes,
            self.energy_pj,
            tuple(sorted(self.level_bytes.items())),
        )


def _sum_of_counts(count: int, step: int, trips: int) -> int:
    """Sum of max(0, count + step * i) for i in range(trips)."""
    if count >= 0 and count + step * (trips - 1) >= 0:
        return trips * count + step * (trips * (trips - 1) // 2)
    return sum(max(0, count + step * i) for i in range(trips))


class BuffersDeclared(Exception):  # noqa: N818  (no error: it ends a lowering that was only asked for its buffers)
    """Raised by :meth:`TileCore.declared` when only the buffers were wanted."""


class TileCore(Generic[C]):
    """What a lowering writes to: queues, pools of the working buffer, loops.

    ``n_groups``: how many of the layer's independent pieces (heads, batch entries) this core does. ``channels``: the
    numbers of the machine's channels in the program, where they are others.
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
        channels: Sequence[int] = (),
    ) -> None:
        self.costs = costs
        self.layer = costs.layer
        self.n_groups = n_groups
        self.builder = builder
        self.capacity_bytes = costs.working.capacity_bytes
        self.used_bytes = 0
        self.used_by: dict[Operand, int] = {}
        self.staged_bytes: dict[str, int] = {}
        self.only_declare = False
        self.share: Any = None  # what of the layer this core does, where pieces differ; None for all that is counted
        self.n_working = 1  # cores that have anything to do
        self.begins = False  # whether this is the first phase of a dataflow
        self.pools: dict[str, Pool] = {}
        self._first_engine = first_engine
        self._name = name
        self._channels = channels
        self._count = builder if isinstance(builder, WorkCounter) else None
        self._program = builder if isinstance(builder, ProgramBuilder) else None
        n_engines = costs.dma_engines
        self._dma = () if n_engines is None else (builder.semaphore(f"DMA engine free{name}", n_engines),)

    @staticmethod
    def engines(weight: int, suffix: str = "") -> list[Engine]:
        return [Engine(kind + suffix, kind, weight) for kind in ENGINE_KINDS]

    @classmethod
    def engines_for(cls, costs: C, tiling: Mapping[str, int], n_cores: int, suffix: str = "") -> list[Engine]:
        """The engines of ``n_cores`` cores in lock step; those that a core shares with others count less."""
        return cls.engines(n_cores, suffix)

    @staticmethod
    def channel(costs: TileCosts) -> Channel:
        return Channel("dram", costs.rate)

    @classmethod
    def channels(cls, costs: C, tiling: Mapping[str, int]) -> tuple[Channel, ...]:
        """The DRAM's channel, and those of the levels where a program of ``tiling`` uses any."""
        return cls.of_dram(costs)

    @classmethod
    def of_dram(cls, costs: TileCosts) -> tuple[Channel, ...]:
        """The channels of a program that uses no level: one, or all where stores have another."""
        return (cls.channel(costs),) if costs.store_channel == DRAM_CHANNEL else channels_of(costs.machine)

    # -- resources ---------------------------------------------------------------------------------------

    def pool(self, name: str, *, slots: int, slot_bytes: int, filled: int = 0, holds: Operand = "inputs") -> Pool:
        """Reserve ``slots`` slots, ``filled`` of which hold their tile from the start; ``holds`` says in which part of
        a working buffer that has any.
        """
        self.reserve(name, slots * slot_bytes, holds=holds)
        pool = Pool(
            name,
            slots,
            self.builder.semaphore(f"{name} slot free{self._name}", slots - filled, is_slot=True),
            self.builder.semaphore(f"{name} ready{self._name}", filled),
        )
        self.pools[name] = pool
        return pool

    def reserve(self, name: str, n_bytes: int, *, holds: Operand = "inputs") -> None:
        """Take ``n_bytes`` of the working buffer; :meth:`declared` compares the sum with its capacity, and that of each
        of its parts.
        """
        self.used_bytes += n_bytes
        self.used_by[holds] = self.used_by.get(holds, 0) + n_bytes
        used = self.builder.buffer_bytes
        used[name] = used.get(name, 0) + n_bytes

    def _reserve_held(self) -> None:
        """Take what a plan for the network keeps in the working buffer."""
        n_bytes = self.costs.held_bytes(self.costs.working.name)
        if n_bytes:
            self.reserve("kept tensors", n_bytes)

    @property
    def own_queues(self) -> tuple[int, ...]:
        """The engines whose transfers the DMA engines of this core do; movers between other memories have their own."""
        return LOAD, STORE

    @property
    def n_at_once(self) -> int:
        """Cores that are at work at the same time."""
        return min(self.costs.machine.n_cores, int(self.layer.n_groups))

    def declared(self) -> None:
        """Called by a lowering when it has declared its pools, before the loops.

        Raises MappingError with the whole need when the working buffer cannot hold it.
        """
        self._reserve_held()
        if self.costs.working.parts:
            self._check_parts()
        if self.used_bytes > self.capacity_bytes:
            raise MappingError(
                resource=f"buffer {self.costs.working.name}",
                demand=self.used_bytes,
                limit=self.capacity_bytes,
                unit="bytes",
                levers=self.levers,
            )
        self._check_levels()
        if self.only_declare:
            raise BuffersDeclared

    def ended(self) -> None:
        """Called when a lowering that begins a dataflow has written its commands."""

    def _check_parts(self) -> None:
        """Every operand fits into its part; those without one into what is left."""
        buffer = self.costs.working
        left = self.capacity_bytes - sum(part.capacity_bytes for part in buffer.parts)
        rooms = [(f" ({part.name})", part.holds, part.capacity_bytes) for part in buffer.parts]
        rest: tuple[Operand, ...] = tuple(one for one in OPERANDS if buffer.part_of(one) is None)
        for name, held, room in (*rooms, (f" ({', '.join(rest)})", rest, left)):
            n_bytes = sum(self.used_by.get(one, 0) for one in held)
            if n_bytes > room:
                raise MappingError(
                    resource=f"buffer {buffer.name}{name}",
                    demand=n_bytes,
                    limit=room,
                    unit="bytes",
                    levers=self.levers,
                )

    def stage(self, level: str, n_bytes: int) -> None:
        """Take ``n_bytes`` of a level behind the working buffer, for all cores together (each its own of a private
        one)."""
        self.staged_bytes[level] = self.staged_bytes.get(level, 0) + n_bytes

    def _check_levels(self) -> None:
        for name, n_bytes in self.staged_bytes.items():
            room = level_called(self.costs.machine, name).capacity_bytes - self.costs.held_bytes(name)
            if n_bytes > room:
                raise MappingError(
                    resource=f"buffer {name}",
                    demand=n_bytes,
                    limit=room,
                    unit="bytes",
                    levers="stage less there (far), or in more parts (far_m, far_n)",
                )

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
            dma = self._dma if engine in self.own_queues else ()
            self._program.transfer(
                self._first_engine + engine,
                n_bytes=work.n_bytes,
                latency_cycles=work.cycles,
                channel=self._channels[work.channel] if self._channels else work.channel,
                waits=(*waits, *dma) if dma else waits,
                signals=(*signals, *dma) if dma else signals,
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
