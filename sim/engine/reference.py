"""The meaning of a simulated cycle, in SimPy: the oracle that the compiled engine must equal.

One process per engine, one per channel, one arbiter. Read it as the definition:

* At every cycle, first everything that is due finishes, in engine order, and signals; then waiting engines
  start, in engine order, if all their tokens are there.
* A transfer first spends its latency, then joins its channel. While the total weight of the transfers on
  the channel is k, each advances by ``rate / k`` a cycle; it finishes on the first whole cycle at which its
  bytes are done. Where ``rate / k`` is no short fraction it is rounded down to the channel's units
  (:func:`tilewright.sim.engine.program.channel_units`).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import simpy

from tilewright.sim.engine.program import Command, Loop, Program, Queue

__all__ = ["ReferenceEvent", "ReferenceRun", "run_reference"]

# Order of what happens within one cycle (SimPy runs a smaller number first).
_FINISH, _START = 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEvent:
    """One command as it ran: cycles [start, end) on ``engine``."""

    start: int
    end: int
    engine: int
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRun:
    """Outcome of a run. ``waiting`` names, after a deadlock, the command each stuck engine stands at."""

    cycles: int
    busy_cycles: tuple[int, ...]
    channel_bytes: tuple[int, ...]
    events: tuple[ReferenceEvent, ...]
    waiting: dict[int, Command]


class _Machine:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.env = simpy.Environment()
        self.tokens = [semaphore.initial for semaphore in program.semaphores]
        self.events: list[ReferenceEvent] = []
        self.channel_bytes = [0] * len(program.channels)
        self.finishing: dict[int, simpy.Event] = {}
        self.waiting: dict[int, tuple[Command, simpy.Event]] = {}
        self.settling = False
        self.channels = [_FairChannel(self, *program.channel_share(c)) for c in range(len(program.channels))]
        for engine, queue in enumerate(program.queues):
            self.env.process(self.run_engine(engine, queue))

    # -- one engine ------------------------------------------------------------------------------------

    def run_engine(self, engine: int, queue: Queue) -> Generator[simpy.Event, Any, None]:
        for command in walk(queue, {}):
            yield self.granted(engine, command)
            start = int(self.env.now)
            if command.cycles:
                yield self.env.timeout(command.cycles)
            if command.channel >= 0:
                weight = self.program.engines[engine].weight
                yield self.channels[command.channel].transfer(command.n_bytes, weight)
                self.channel_bytes[command.channel] += command.n_bytes * weight
            yield self.at_finish(engine)
            for semaphore in command.signals:
                self.tokens[semaphore] += 1
            self.events.append(ReferenceEvent(start=start, end=int(self.env.now), engine=engine, command=command))

    # -- the order inside a cycle ------------------------------------------------------------------------

    def at_finish(self, engine: int) -> simpy.Event:
        """An event later in this cycle, at which the engines that are due finish in engine order."""
        done = self.env.event()
        self.finishing[engine] = done
        self._settle()
        return done

    def granted(self, engine: int, command: Command) -> simpy.Event:
        """An event that comes when all tokens of ``command`` are there and have been taken."""
        go = self.env.event()
        self.waiting[engine] = (command, go)
        self._settle()
        return go

    def _settle(self) -> None:
        if not self.settling:
            self.settling = True
            self.env.process(self._finish_then_start())

    def _finish_then_start(self) -> Generator[simpy.Event, Any, None]:
        yield self._later(_FINISH)
        for engine in sorted(self.finishing):
            self.finishing.pop(engine).succeed()
        yield self._later(_START)
        for engine in sorted(self.waiting):
            command, go = self.waiting[engine]
            if all(self.tokens[s] >= command.waits.count(s) for s in command.waits):
                for semaphore in command.waits:
                    self.tokens[semaphore] -= 1
                del self.waiting[engine]
                go.succeed()
        self.settling = False

    def _later(self, priority: int) -> simpy.Event:
        """An event in this same cycle, after every event of a smaller priority."""
        event = self.env.event()
        event._ok, event._value = True, None
        self.env.schedule(event, priority=priority)  # type: ignore[arg-type]
        return event


class _FairChannel:
    """Processor sharing: with total weight k active, each transfer advances ``rate / k`` a cycle, in whole units."""

    def __init__(self, machine: _Machine, units_per_byte: int, units_per_cycle: int) -> None:
        self.machine = machine
        self.units_per_byte = units_per_byte
        self.units_per_cycle = units_per_cycle
        self.active: dict[simpy.Event, tuple[Fraction, int]] = {}
        self.since = 0
        self.generation = 0

    def transfer(self, n_bytes: int, weight: int) -> simpy.Event:
        self._advance()
        done = self.machine.env.event()
        self.active[done] = (Fraction(n_bytes), weight)
        self._plan()
        return done

    def _share(self) -> Fraction:
        weight = sum(weight for _, weight in self.active.values())
        return Fraction(self.units_per_cycle // weight, self.units_per_byte)

    def _advance(self) -> None:
        """Bring the bytes left up to now."""
        now = int(self.machine.env.now)
        if self.active:
            moved = (now - self.since) * self._share()
            self.active = {done: (left - moved, weight) for done, (left, weight) in self.active.items()}
        self.since = now

    def _plan(self) -> None:
        self.generation += 1
        if self.active:
            left = min(left for left, _ in self.active.values())
            cycles = max(0, -(-left // self._share()))
            self.machine.env.process(self._wake_after(int(cycles), self.generation))

    def _wake_after(self, cycles: int, generation: int) -> Generator[simpy.Event, Any, None]:
        yield self.machine.env.timeout(cycles)
        if generation != self.generation:
            return
        self._advance()
        for done in [done for done, (left, _) in self.active.items() if left <= 0]:
            del self.active[done]
            done.succeed()
        self._plan()


def walk(queue: Queue, trips: dict[int, int]) -> Generator[Command, None, None]:
    """The commands of a queue in order, loops followed trip by trip."""
    for item in queue:
        if isinstance(item, Loop):
            count = item.count + (item.step * trips[item.over] if item.step else 0)
            for trip in range(count):
                yield from walk(item.body, trips | {item.ident: trip})
        else:
            yield item


def run_reference(program: Program) -> ReferenceRun:
    """Run ``program`` to its end, or to a deadlock (then ``waiting`` is not empty)."""
    machine = _Machine(program)
    machine.env.run()
    busy = [0] * len(program.engines)
    for event in machine.events:
        busy[event.engine] += event.end - event.start
    return ReferenceRun(
        cycles=max((event.end for event in machine.events), default=0),
        busy_cycles=tuple(busy),
        channel_bytes=tuple(machine.channel_bytes),
        events=tuple(machine.events),
        waiting={engine: command for engine, (command, _) in machine.waiting.items()},
    )
