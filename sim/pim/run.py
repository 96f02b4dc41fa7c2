"""When each command of a program issues on one channel: exact to the cycle, at the cost of distinct trips.

Commands issue in order, one a cycle at most, each as soon as every distance of :class:`Gaps` to those before it is
kept. What a command needs first is put before it: an open row (closing what is open, opening the row), the mode of
registers, a refresh that is due. Loops are data: when the state after a trip is that after an earlier trip but for the
clock, the trips that must repeat are jumped over. ``reference.py`` is the definition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from tilewright.hw_models.pim.spec import PimTimingSpec
from tilewright.sim.pim.commands import BANK_COMMANDS, NO_GAP, REGISTER_COMMANDS, Command, gaps_of, latency_cycles
from tilewright.sim.pim.program import Instruction, Item

__all__ = ["ChannelRun", "run_program"]

_LONG_AGO = -(10**9)
_NEW_ROW = -1  # a row that no instruction names
_BLOCKING = frozenset({Command.READ_ACCUMULATORS, Command.READ_FUNCTION})
_ALL_OPEN = frozenset({Command.MAC_ALL, Command.MULTIPLY_ALL, Command.FUNCTION_ALL, Command.WRITE_ALL})
_HOST = frozenset({Command.READ, Command.WRITE})
_MOST_STATES = 64  # of one loop, kept to notice a repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRun:
    """How a program ran: ``cycles`` until the host knows that all is done, of which ``open_cycles`` with a row open.

    ``commands``: how often each was issued.
    """

    cycles: int
    open_cycles: int
    commands: dict[Command, int]


@dataclass(frozen=True, slots=True)
class _Rules:
    """Distances in the form in which the run asks for them: of each command, those before it that hold it back."""

    before: tuple[tuple[tuple[int, int], ...], ...]
    before_in_bank: tuple[tuple[tuple[int, int], ...], ...]
    spacing: tuple[int, ...]
    latency: tuple[int, ...]
    longest: int


@cache
def _rules(timing: PimTimingSpec) -> _Rules:
    gaps = gaps_of(timing)
    commands = range(len(Command))
    columns = [
        [tuple((e, t[e][c]) for e in commands if t[e][c] != NO_GAP) for c in commands]
        for t in (gaps.channel, gaps.bank)
    ]
    spacing = tuple(max(1, gaps.channel[one][one], gaps.bank[one][one]) for one in commands)
    latency = tuple(latency_cycles(one, timing) for one in Command)
    return _Rules(tuple(columns[0]), tuple(columns[1]), spacing, latency, gaps.longest_cycles)


def run_program(program: Iterable[Item], timing: PimTimingSpec, n_banks: int, *, refresh: bool = False) -> ChannelRun:
    """Run ``program`` on a channel of ``n_banks`` banks; ``refresh``: every ``refresh_interval_cycles``."""
    channel = _Channel(timing=timing, n_banks=n_banks, refresh=refresh and timing.refresh_cycles > 0)
    channel.run(tuple(program))
    end = channel.done()
    if channel.is_open:
        channel.open_cycles += end - channel.opened + 1
    return ChannelRun(cycles=end, open_cycles=channel.open_cycles, commands=dict(channel.counts))


@dataclass(slots=True)
class _Channel:
    """The state: ``last`` and ``last_in_bank`` issues, ``rows`` that are open (None: closed), the host's clock
    ``handed`` (when it hands out the next instruction), ``departs``: when all data is where it belongs.
    """

    timing: PimTimingSpec
    n_banks: int
    refresh: bool
    rules: _Rules = field(init=False)
    last: list[int] = field(init=False)
    last_in_bank: list[list[int]] = field(init=False)
    rows: list[int | None] = field(init=False)
    newest: int = 0
    handed: int = 1
    departs: int = 0
    due: int = 0
    registers: bool = False
    host_turn: bool = False
    is_open: bool = False
    opened: int = 0
    open_cycles: int = 0
    counts: Counter[Command] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rules = _rules(self.timing)
        self.last = [_LONG_AGO] * len(Command)
        self.last_in_bank = [[_LONG_AGO] * self.n_banks for _ in Command]
        self.rows = [None] * self.n_banks
        self.due = self.timing.refresh_interval_cycles

    def run(self, items: tuple[Item, ...]) -> None:
        """All ``items``, one after another."""
        for item in items:
            if isinstance(item, Instruction):
                self._do(item)
            else:
                self._loop(item.body, item.n)

    def done(self) -> int:
        """When the host knows that everything so far is done."""
        noticed = max(self.handed, self.newest + 1)
        return max(noticed, self.departs) + 1

    # loops

    def _loop(self, body: tuple[Item, ...], n: int) -> None:
        seen: dict[tuple[object, ...], tuple[int, int, int, Counter[Command]]] = {}
        trip = 0
        while trip < n:
            self.run(body)
            trip += 1
            if trip == n or len(seen) >= _MOST_STATES:
                continue
            state = self._state()
            if state not in seen:
                seen[state] = (trip, self.handed, self._open_so_far(), self.counts.copy())
                continue
            before, handed, opened, counts = seen[state]
            times = (n - trip) // (trip - before)
            if times:
                self._shift(times * (self.handed - handed), times * (self._open_so_far() - opened))
                for command, count in self.counts.items():
                    self.counts[command] = count + times * (count - counts[command])
                trip += times * (trip - before)
            seen.clear()

    def _open_so_far(self) -> int:
        return self.open_cycles + (self.handed - self.opened if self.is_open else 0)

    def _state(self) -> tuple[object, ...]:
        floor, now = self.handed - self.rules.longest - 1, self.handed
        last = tuple(max(one, floor) - now for one in self.last)
        banks = tuple(tuple(max(one, floor) - now for one in self.last_in_bank[one]) for one in BANK_COMMANDS)
        due = self.due - now if self.refresh else 0
        turn = (self.registers, self.host_turn, self.is_open, due)
        return (last, banks, tuple(self.rows), max(self.newest, floor) - now, max(self.departs, floor) - now, turn)

    def _shift(self, cycles: int, open_cycles: int) -> None:
        """The clock goes on by ``cycles``, in which rows were open for ``open_cycles``."""
        self.last = [one + cycles if one != _LONG_AGO else one for one in self.last]
        self.last_in_bank = [[one + cycles if one != _LONG_AGO else one for one in row] for row in self.last_in_bank]
        self.newest, self.handed, self.departs = self.newest + cycles, self.handed + cycles, self.departs + cycles
        self.due += cycles
        if self.is_open:  # the open stretch moves with the clock
            self.opened += cycles
        self.open_cycles += open_cycles

    # instructions

    def _do(self, one: Instruction) -> None:
        if one.command is None:
            self.handed = self.done() + 1 if one.waits else self.handed + one.handed_cycles
            return
        is_host = one.command in _HOST
        if is_host != self.host_turn:  # what waits on one side must have left before the other is let in
            self.host_turn, self.handed = is_host, max(self.handed, self.newest + 1)
        end = self._issue_all(one, one.command)
        departs = end + self.rules.latency[one.command]
        self.departs = max(self.departs, departs)
        self.handed = departs + 1 if one.command in _BLOCKING else self.handed + one.handed_cycles

    def _issue_all(self, one: Instruction, command: Command) -> int:
        """The last issue of ``command``, with all that it needs before."""
        banks, total = one.banks, one.n * max(1, len(one.banks))
        done, fresh = 0, one.row is None and (command in _ALL_OPEN or command in BANK_COMMANDS)
        opened: set[int] = set()
        settled = len(banks)  # from here on every bank that takes turns has been used since its row opened
        end = self.newest
        while done < total:
            bank = banks[done % len(banks)] if banks else None
            needed, where = self._needed(one, command, fresh, opened)
            at = self._ready(needed, where if needed is not command else bank)
            if self.refresh and at >= self.due:
                self._refresh()
                continue
            if (command in REGISTER_COMMANDS) != self.registers:
                self.registers = not self.registers
                self._put(Command.MODE, None, at)
                continue
            if needed is not command:
                self._put(needed, where, at)
                self._follow(needed, where, one.row, at, opened)
                settled = done + len(banks)
                continue
            count = self._run_of(command, total - done, done >= settled, at)
            end = at + (count - 1) * self.rules.spacing[command]
            self._put(command, bank, at)
            if count > 1:
                self._put_many(command, banks, done, count, end)
            done += count
            if command is Command.WRITE_ALL:  # closes its row itself
                self._follow(Command.PRECHARGE_ALL, None, None, end, opened)
        return end

    def _run_of(self, command: Command, left: int, is_settled: bool, at: int) -> int:
        """How many issue in one run of equal distances."""
        if command is Command.WRITE_ALL or not is_settled:
            return 1
        if not self.refresh:
            return left
        return min(left, (self.due - 1 - at) // self.rules.spacing[command] + 1)

    def _needed(self, one: Instruction, command: Command, fresh: bool, opened: set[int]) -> tuple[Command, int | None]:
        """What must issue next for ``one``: a precharge, an activate, or the command itself."""
        row = _NEW_ROW if one.row is None else one.row
        if command in _ALL_OPEN:
            return self._needed_of_all(command, row, fresh, opened)
        for bank in one.banks:
            state = self.rows[bank]
            if state == row and not (fresh and bank not in opened):
                continue
            return (Command.ACTIVATE if state is None else Command.PRECHARGE), bank
        return command, None

    def _needed_of_all(self, command: Command, row: int, fresh: bool, opened: set[int]) -> tuple[Command, int | None]:
        if all(state == row for state in self.rows) and not (fresh and not opened):
            return command, None
        is_closed = all(state is None for state in self.rows)
        return (Command.ACTIVATE_ALL if is_closed else Command.PRECHARGE_ALL), None

    def _follow(self, command: Command, bank: int | None, row: int | None, at: int, opened: set[int]) -> None:
        """Rows after ``command`` at ``at``."""
        places = range(self.n_banks) if bank is None else (bank,)
        if command in (Command.ACTIVATE_ALL, Command.ACTIVATE):
            opened.update(places)
        for place in places:
            is_opening = command in (Command.ACTIVATE_ALL, Command.ACTIVATE)
            self.rows[place] = (_NEW_ROW if row is None else row) if is_opening else None
        was_open, self.is_open = self.is_open, any(one is not None for one in self.rows)
        if self.is_open and not was_open:
            self.opened = at
        if was_open and not self.is_open:
            self.open_cycles += at - self.opened

    def _refresh(self) -> None:
        """What waits, waits: from the moment that it is due, all banks close and refresh."""
        if self.is_open:
            at = max(self.due, self._ready(Command.PRECHARGE_ALL, None))
            self._put(Command.PRECHARGE_ALL, None, at)
            self._follow(Command.PRECHARGE_ALL, None, None, at, set())
        self._put(Command.REFRESH, None, max(self.due, self._ready(Command.REFRESH, None)))
        self.due += self.timing.refresh_interval_cycles

    # commands

    def _ready(self, command: Command, bank: int | None) -> int:
        at = max(self.handed, self.newest + 1)
        last = self.last
        for earlier, gap in self.rules.before[command]:
            at = max(at, last[earlier] + gap)
        if bank is not None:
            for earlier, gap in self.rules.before_in_bank[command]:
                at = max(at, self.last_in_bank[earlier][bank] + gap)
        return at

    def _put(self, command: Command, bank: int | None, at: int) -> None:
        self.last[command] = self.newest = at
        self.counts[command] += 1
        if bank is not None:
            self.last_in_bank[command][bank] = at

    def _put_many(self, command: Command, banks: tuple[int, ...], done: int, count: int, end: int) -> None:
        """The rest of a run of ``count``, the last at ``end``."""
        self.last[command] = self.newest = end
        self.counts[command] += count - 1
        for back in range(min(len(banks), count)):
            bank = banks[(done + count - 1 - back) % len(banks)]
            self.last_in_bank[command][bank] = end - back * self.rules.spacing[command]
