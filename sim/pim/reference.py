"""The readable definition of a channel: two processes in SimPy, cycle by cycle, every command written out.

The host hands instructions to the channel's queue; the channel looks at the oldest one each cycle and issues what it
needs next if every command of the whole history is far enough back. Nothing is remembered but that history and the rows
that are open. :mod:`tilewright.sim.pim.run` returns the same numbers; property tests hold it to this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from tilewright.hw_models.pim.spec import PimTimingSpec
from tilewright.sim.pim.commands import NO_GAP, REGISTER_COMMANDS, Command, Gaps, gaps_of, latency_cycles
from tilewright.sim.pim.program import Instruction, Item, unrolled
from tilewright.sim.pim.run import ChannelRun

__all__ = ["reference_run"]

_WHOLE_CHANNEL = (Command.MAC_ALL, Command.MULTIPLY_ALL, Command.FUNCTION_ALL, Command.WRITE_ALL)


@dataclass(slots=True)
class _Pending:
    """An instruction in the queue: what is left of it, and the row that it opened for itself in each bank."""

    instruction: Instruction
    done: int = 0
    own: set[int] = field(default_factory=set)
    ended: Any = None  # a SimPy event: its last command has issued

    @property
    def total(self) -> int:
        return self.instruction.n * max(1, len(self.instruction.banks))


class _Reference:
    def __init__(self, timing: PimTimingSpec, n_banks: int, refresh: bool) -> None:
        import simpy

        self.timing, self.n_banks = timing, n_banks
        self.refresh = refresh and timing.refresh_cycles > 0
        self.gaps: Gaps = gaps_of(timing)
        self.longest = self.gaps.longest_cycles
        self.environment = simpy.Environment()
        self.history: list[tuple[int, Command, int | None]] = []
        self.rows: dict[int, object] = {}  # bank: its open row
        self.queue: list[_Pending] = []
        self.registers = False
        self.due = timing.refresh_interval_cycles
        self.refreshing = False
        self.departs = 0
        self.open_cycles = 0
        self.finished: int | None = None

    # the host

    def host(self, program: list[Instruction]) -> Generator[Any, Any, None]:
        """Hands out one instruction after another, a cycle each; waits for what must come back."""
        environment = self.environment
        yield environment.timeout(1)
        was_host = False
        for one in program:
            if one.command is None:
                yield from (self._until_done() if one.waits else self._cycles(one.handed_cycles))
                continue
            is_host = one.command in (Command.READ, Command.WRITE)
            while is_host != was_host and self.queue:
                yield environment.timeout(1)
            was_host = is_host
            pending = _Pending(one, ended=environment.event())
            self.queue.append(pending)
            if one.command in (Command.READ_ACCUMULATORS, Command.READ_FUNCTION):
                yield pending.ended
                yield environment.timeout(latency_cycles(one.command, self.timing) + 1)
            else:
                yield environment.timeout(one.handed_cycles)
        yield from self._until_done(is_end=True)

    def _cycles(self, n: int) -> Generator[Any, Any, None]:
        yield self.environment.timeout(n)

    def _until_done(self, is_end: bool = False) -> Generator[Any, Any, None]:
        """Until the queue was empty for a cycle and all data has departed; then one cycle to say so."""
        while self.queue or (self.history and self.history[-1][0] >= self.environment.now):
            yield self.environment.timeout(1)
        yield self.environment.timeout(max(0, self.departs - self.environment.now) + 1)
        if is_end:
            self.finished = int(self.environment.now)
        else:
            yield self.environment.timeout(1)

    # the channel

    def channel(self) -> Generator[Any, Any, None]:
        """A command a cycle at most; runs after the host in each cycle."""
        while self.finished is None:
            yield self.environment.timeout(1)
            yield self.environment.timeout(0)  # what the host hands out now can issue now
            self._cycle(int(self.environment.now))
            self.open_cycles += bool(self.rows)

    def _cycle(self, now: int) -> None:
        if not self.queue:
            return
        pending = self.queue[0]
        command, bank = self._next(pending)
        if self.refreshing or (self.refresh and now >= self.due):
            self._refresh(now)
            return
        if not self._is_ready(command, bank, now):
            return
        if (pending.instruction.command in REGISTER_COMMANDS) != self.registers:
            self.registers = not self.registers
            self.history.append((now, Command.MODE, None))
            return
        self._issue(pending, command, bank, now)

    def _refresh(self, now: int) -> None:
        self.refreshing = True
        command = Command.PRECHARGE_ALL if self.rows else Command.REFRESH
        if not self._is_ready(command, None, now):
            return
        self.history.append((now, command, None))
        if command is Command.PRECHARGE_ALL:
            self.rows = {}
        else:
            self.refreshing = False
            self.due += self.timing.refresh_interval_cycles

    def _is_ready(self, command: Command, bank: int | None, now: int) -> bool:
        for then, earlier, place in reversed(self.history):
            if now - then >= self.longest:
                return True
            gap = self.gaps.channel[earlier][command]
            if gap != NO_GAP and now - then < gap:
                return False
            in_bank = self.gaps.bank[earlier][command]
            if bank is not None and place == bank and in_bank != NO_GAP and now - then < in_bank:
                return False
        return True

    def _next(self, pending: _Pending) -> tuple[Command, int | None]:
        one = pending.instruction
        assert one.command is not None
        if one.command in _WHOLE_CHANNEL:
            if all(self._is_open(pending, bank) for bank in range(self.n_banks)):
                return one.command, None
            return (Command.PRECHARGE_ALL if self.rows else Command.ACTIVATE_ALL), None
        for bank in one.banks:
            if not self._is_open(pending, bank):
                return (Command.PRECHARGE if bank in self.rows else Command.ACTIVATE), bank
        return one.command, one.banks[pending.done % len(one.banks)] if one.banks else None

    def _is_open(self, pending: _Pending, bank: int) -> bool:
        row = pending.instruction.row
        if bank not in self.rows:
            return False
        return bank in pending.own if row is None else self.rows[bank] == row

    def _issue(self, pending: _Pending, command: Command, bank: int | None, now: int) -> None:
        self.history.append((now, command, bank))
        places = list(range(self.n_banks)) if bank is None else [bank]
        if command in (Command.ACTIVATE, Command.ACTIVATE_ALL):
            row = pending.instruction.row
            self.rows.update(dict.fromkeys(places, ("new", now) if row is None else row))
            pending.own.update(places)
            return
        if command in (Command.PRECHARGE, Command.PRECHARGE_ALL):
            for place in places:
                self.rows.pop(place, None)
            return
        if command is Command.WRITE_ALL:
            self.rows = {}
        pending.done += 1
        if pending.done == pending.total:
            self.departs = max(self.departs, now + latency_cycles(command, self.timing))
            self.queue.pop(0)
            pending.ended.succeed()


def reference_run(program: Iterable[Item], timing: PimTimingSpec, n_banks: int, *, refresh: bool = False) -> ChannelRun:
    """As :func:`~tilewright.sim.pim.run.run_program`, by cycles; for programs of a few thousand of them."""
    reference = _Reference(timing, n_banks, refresh)
    reference.environment.process(reference.host(list(unrolled(program))))
    reference.environment.process(reference.channel())
    reference.environment.run()
    assert reference.finished is not None
    counts = Counter(command for _, command, _ in reference.history)
    return ChannelRun(cycles=reference.finished, open_cycles=reference.open_cycles, commands=dict(counts))
