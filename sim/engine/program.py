"""The program that a simulated machine runs: command queues, counted loops, counting semaphores.

A machine is a set of *engines*, each with one in-order queue. A queue holds commands and counted loops.
A command waits for one token of each semaphore in its wait list (all at once, then takes them), keeps its
engine busy, and signals one token on each semaphore in its signal list when it finishes. It costs either a
fixed number of cycles, or a latency followed by a number of bytes over a *channel* that is shared fairly by
the transfers active on it.

:class:`ProgramBuilder` lets a lowering be written as the loop nest that it is::

    for _ in b.loop(n_rows, name="rows"):
        b.transfer(load, n_bytes=4096, latency_cycles=20, waits=[k_free], signals=[k_ready])
        b.compute(matrix, cycles=64, waits=[k_ready], signals=[k_free])

The body runs once; the loop is data in every queue that takes part in it. With ``unroll=True`` the same body
runs once per trip and the program has no loops: that is how a lowering is executed on numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError, ProgramError

__all__ = [
    "MAX_CYCLES",
    "MAX_WORK_UNITS",
    "Channel",
    "Command",
    "Engine",
    "Loop",
    "Program",
    "ProgramBuilder",
    "Queue",
    "Semaphore",
    "channel_units",
    "exact_shares",
    "executions",
    "too_long",
]

MAX_LOOP_DEPTH = 8
MAX_WORK_UNITS = 2**60
MAX_CYCLES = 2**58  # of a run: nine years at 1 GHz


class Engine(NamedTuple):
    """A unit that runs one command at a time.

    ``weight`` is the number of identical cores in lock step that this engine stands for: its transfers
    take that many shares of a channel.
    """

    name: str
    kind: str
    weight: int = 1


class Channel(NamedTuple):
    """A shared path: ``bytes_per_cycle`` is divided equally among the transfers active on it."""

    name: str
    bytes_per_cycle: Fraction


class Semaphore(NamedTuple):
    """A counting semaphore; ``is_slot`` marks "a buffer slot is free" (used to explain waiting)."""

    name: str
    initial: int
    is_slot: bool = False


class Command(NamedTuple):
    """One command. ``channel`` is -1 for work of fixed ``cycles``; else ``cycles`` is the latency.

    ``cost`` is what the command does, for the counters (any object; the program counts how often each
    command runs); ``run`` is what it does to numbers (see :mod:`tilewright.sim.numbers.interpreter`).
    """

    cycles: int
    channel: int
    n_bytes: int
    waits: tuple[int, ...]
    signals: tuple[int, ...]
    label: str
    cost: Any = None
    run: Any = None


class Loop:
    """A counted loop in one queue. ``ident`` is shared by all the queues that take part in it.

    The trip count is ``count + step * trip`` where ``trip`` is the index of the enclosing loop ``over``
    (negative counts as zero): triangular nests, such as causal attention, stay data.
    """

    __slots__ = ("body", "count", "ident", "over", "step")

    def __init__(self, ident: int, count: int, step: int = 0, over: int = -1) -> None:
        self.ident = ident
        self.count = count
        self.step = step
        self.over = over
        self.body: Queue = []

    def __repr__(self) -> str:
        return f"Loop({self.ident}, {self.count}+{self.step}*[{self.over}], {self.body})"


Queue = list["Command | Loop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A complete program: what :func:`tilewright.sim.engine.run.simulate` and the SimPy reference run."""

    engines: tuple[Engine, ...]
    channels: tuple[Channel, ...]
    semaphores: tuple[Semaphore, ...]
    queues: tuple[Queue, ...]
    loop_names: tuple[str, ...]
    buffer_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_commands(self) -> int:
        """Commands in the text of the program (a loop body counts once)."""
        return sum(1 for queue in self.queues for _ in _commands(queue))

    def commands(self) -> Iterator[tuple[int, Command, int]]:
        """Every command of the text with its engine and how many times it runs."""
        for engine, queue in enumerate(self.queues):
            yield from ((engine, command, times) for command, times in executions(queue))

    def channel_share(self, channel: int) -> tuple[int, int]:
        """Integer work of one byte, and of one cycle of the whole channel (:func:`channel_units`).

        With total active weight k a transfer advances ``cycle // k`` units a cycle.
        """
        return self.channel_shares()[channel]

    def channel_shares(self) -> list[tuple[int, int]]:
        """:meth:`channel_share` of every channel."""
        most_bytes = [1] * len(self.channels)
        weights: list[list[int]] = [[] for _ in self.channels]
        for engine, queue in zip(self.engines, self.queues, strict=True):
            used = set()
            for command in _commands(queue):
                if command.channel >= 0:
                    used.add(command.channel)
                    most_bytes[command.channel] = max(most_bytes[command.channel], command.n_bytes)
            for channel in used:
                weights[channel].append(engine.weight)
        return [
            channel_units(channel.bytes_per_cycle, exact_shares(tuple(own)), sum(own), most)
            for channel, own, most in zip(self.channels, weights, most_bytes, strict=True)
        ]

    def channel_weights(self, channel: int) -> tuple[int, ...]:
        """Weights of the engines that ever use a channel."""
        return tuple(
            engine.weight
            for engine, queue in zip(self.engines, self.queues, strict=True)
            if any(command.channel == channel for command in _commands(queue))
        )


@lru_cache(maxsize=256)
def exact_shares(weights: tuple[int, ...]) -> int:
    """The least number that every total of some of these ``weights`` divides: a channel's shares are then whole."""
    sums = {0}
    for weight in weights:
        sums |= {known + weight for known in sums}
    return math.lcm(*(sums - {0})) if weights else 1


def channel_units(rate: Fraction, shares: int, weight: int, most_bytes: int) -> tuple[int, int]:
    """(work units of one byte, units of one cycle of the whole channel) for transfers of up to ``most_bytes``.

    ``rate``: bytes a cycle; ``shares``: see :func:`exact_shares`; ``weight``: of all that can be active at once.
    Exact where 60 bits hold it. Else a unit is 2^-s bytes with the largest s that fits, and a share of ``rate / k`` is
    rounded down to whole units: by less than ``k 2^-s / rate`` of itself, so that nothing ever beats a bound.
    Raises InputError for a rate so small that a transfer lasts longer than MAX_CYCLES.
    """
    exact = rate.denominator * shares, rate.numerator * shares
    if exact[0] * most_bytes <= MAX_WORK_UNITS and exact[1] <= MAX_WORK_UNITS:
        return exact
    finest = min(MAX_WORK_UNITS // max(1, most_bytes), MAX_WORK_UNITS * rate.denominator // rate.numerator)
    per_byte = 1 << max(0, finest.bit_length() - 1)
    if most_bytes > MAX_WORK_UNITS:
        raise too_long(f"a transfer of {most_bytes:.3g} bytes")
    per_cycle = min(MAX_WORK_UNITS, per_byte * rate.numerator // rate.denominator)
    if per_cycle < weight:
        raise too_long(f"a transfer of {most_bytes:,} bytes at {float(rate):.3g} bytes a cycle")
    return per_byte, per_cycle


def too_long(what: str) -> InputError:
    """The error for a run that no counter holds."""
    return InputError(
        f"{what} makes the run last longer than 2^58 cycles (nine years at 1 GHz); "
        "check the machine's bandwidths, rates and clock, and the layer's sizes"
    )


def _commands(queue: Queue) -> Iterator[Command]:
    for item in queue:
        if isinstance(item, Loop):
            yield from _commands(item.body)
        else:
            yield item


def executions(queue: Queue) -> Iterator[tuple[Command, int]]:
    """Every command of a queue's text with the number of times that it runs."""
    depended: set[int] = set()
    _note_depended(queue, depended)
    found: list[tuple[Command, int]] = []
    _executions(queue, 1, depended, found)
    return iter(found)


def _note_depended(queue: Queue, found: set[int]) -> None:
    """Add the loops on whose trip the count of another depends."""
    for item in queue:
        if isinstance(item, Loop):
            if item.step:
                found.add(item.over)
            _note_depended(item.body, found)


def _executions(queue: Queue, trips: int, depended: set[int], found: list[tuple[Command, int]]) -> None:
    """Add to ``found``; ``trips``: how often the queue runs, outside all loops that others depend on."""
    for item in queue:
        if not isinstance(item, Loop):
            found.append((item, trips))
        elif item.ident in depended:
            found += _dependent_executions([item], np.full(1, trips, dtype=np.int64), {}, depended)
        else:
            _executions(item.body, trips * item.count, depended, found)


def _dependent_executions(
    queue: Queue, trips: npt.NDArray[np.int64], indices: dict[int, npt.NDArray[np.int64]], depended: set[int]
) -> Iterator[tuple[Command, int]]:
    """``trips``: multiplicity per distinct combination of the loop indices that others depend on."""
    total = int(trips.sum())
    for item in queue:
        if not isinstance(item, Loop):
            yield item, total
            continue
        if item.step:
            count = np.maximum(0, item.count + item.step * indices[item.over])
        else:
            count = np.full(len(trips), item.count, dtype=np.int64)
        if item.ident in depended:
            inner_index = np.concatenate([np.arange(c, dtype=np.int64) for c in count])
            inner = {k: np.repeat(v, count) for k, v in indices.items()} | {item.ident: inner_index}
            yield from _dependent_executions(item.body, np.repeat(trips, count), inner, depended)
        else:
            yield from _dependent_executions(item.body, trips * count, indices, depended)


class ProgramBuilder:
    """Writes a program as one loop nest whose commands go to the queues of their engines."""

    def __init__(self, engines: Sequence[Engine], channels: Sequence[Channel] = (), *, unroll: bool = False) -> None:
        self.engines = tuple(engines)
        self.channels = tuple(channels)
        self.unroll = unroll
        self.buffer_bytes: dict[str, int] = {}
        self._semaphores: list[Semaphore] = []
        self._queues: list[Queue] = [[] for _ in engines]
        self._open: list[Loop] = []
        self._bodies: list[list[Queue]] = [[queue] for queue in self._queues]
        self._loop_names: list[str] = []

    def semaphore(self, name: str, initial: int = 0, *, is_slot: bool = False) -> int:
        """Declare a semaphore that starts with ``initial`` tokens; returns its number."""
        if initial < 0:
            raise ProgramError(f"semaphore {name!r}: initial tokens must be 0 or more, got {initial}")
        self._semaphores.append(Semaphore(name, initial, is_slot))
        return len(self._semaphores) - 1

    def loop(self, count: int, *, step: int = 0, over: int = -1, name: str = "loop") -> Iterator[int]:
        """Iterate ``count + step * (trip of the loop `over`)`` times.

        Yields the loop's identity (to be given as ``over`` to a loop inside). When unrolling, yields the
        trip index instead, once per trip, and ``over`` is the index that the outer loop yielded.
        """
        if self.unroll:
            yield from range(max(0, count + (step * over if step else 0)))
            return
        if step and not any(loop.ident == over for loop in self._open):
            raise ProgramError(f"loop {name!r} depends on loop {over}, which does not enclose it")
        if count <= 0 and not step:
            return
        ident = len(self._loop_names)
        self._loop_names.append(name)
        self._open.append(Loop(ident, count, step, over))
        if len(self._open) > MAX_LOOP_DEPTH:
            raise ProgramError(f"loop {name!r}: loops nest at most {MAX_LOOP_DEPTH} deep")
        yield ident
        depth = len(self._open)
        for bodies in self._bodies:
            del bodies[depth:]
        self._open.pop()

    def compute(
        self,
        engine: int,
        *,
        cycles: int,
        waits: Sequence[int] = (),
        signals: Sequence[int] = (),
        label: str = "",
        cost: Any = None,
        run: Any = None,
    ) -> None:
        """Append work that takes ``cycles`` (1 or more) on ``engine``."""
        if cycles < 1:
            raise ProgramError(f"command {label!r}: cycles must be 1 or more, got {cycles}")
        self._append(engine, Command(cycles, -1, 0, tuple(waits), tuple(signals), label, cost, run))

    def transfer(
        self,
        engine: int,
        *,
        n_bytes: int,
        latency_cycles: int = 0,
        channel: int = 0,
        waits: Sequence[int] = (),
        signals: Sequence[int] = (),
        label: str = "",
        cost: Any = None,
        run: Any = None,
    ) -> None:
        """Append a transfer of ``n_bytes`` (1 or more) over ``channel`` after ``latency_cycles``."""
        if n_bytes < 1 or latency_cycles < 0:
            raise ProgramError(
                f"transfer {label!r}: needs 1 byte or more and a latency of 0 or more, "
                f"got {n_bytes} bytes and {latency_cycles} cycles"
            )
        self._append(
            engine,
            Command(latency_cycles, channel, n_bytes, tuple(waits), tuple(signals), label, cost, run),
        )

    def _append(self, engine: int, command: Command) -> None:
        bodies = self._bodies[engine]
        for loop in self._open[len(bodies) - 1 :]:
            own = Loop(loop.ident, loop.count, loop.step, loop.over)
            bodies[-1].append(own)
            bodies.append(own.body)
        bodies[-1].append(command)

    def build(self) -> Program:
        """The finished program."""
        if self._open:
            raise ProgramError("a loop of the program is still open")
        return Program(
            engines=self.engines,
            channels=self.channels,
            semaphores=tuple(self._semaphores),
            queues=tuple(self._queues),
            loop_names=tuple(self._loop_names),
            buffer_bytes=dict(self.buffer_bytes),
        )
