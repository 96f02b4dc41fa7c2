"""The commands of a memory that computes, and the least distance between any two of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from tilewright.hw_models.pim.spec import PimTimingSpec

__all__ = ["BANK_COMMANDS", "NO_GAP", "REGISTER_COMMANDS", "Command", "Gaps", "gaps_of", "latency_cycles"]


class Command(IntEnum):
    """What a channel is told. ``ALL``: every bank at once; the others name a bank, or the channel's own registers."""

    ACTIVATE_ALL = 0
    PRECHARGE_ALL = 1
    MAC_ALL = 2
    MULTIPLY_ALL = 3
    FUNCTION_ALL = 4
    WRITE_ALL = 5
    WRITE_BUFFER = 6
    WRITE_ACCUMULATORS = 7
    READ_ACCUMULATORS = 8
    READ_FUNCTION = 9
    COPY_OUT = 10
    COPY_IN = 11
    ACTIVATE = 12
    PRECHARGE = 13
    READ = 14
    WRITE = 15
    MODE = 16
    REFRESH = 17


#: Commands of one bank; all others concern the whole channel.
BANK_COMMANDS = frozenset(
    {Command.COPY_OUT, Command.COPY_IN, Command.ACTIVATE, Command.PRECHARGE, Command.READ, Command.WRITE}
)
#: Commands on registers and buffer, which need the other mode of the channel.
REGISTER_COMMANDS = frozenset(
    {Command.WRITE_BUFFER, Command.WRITE_ACCUMULATORS, Command.READ_ACCUMULATORS, Command.READ_FUNCTION}
)
#: Stands where two commands do not wait for each other.
NO_GAP = -1
_C = Command
_ACTIVATES = (_C.ACTIVATE_ALL, _C.ACTIVATE)
_PRECHARGES = (_C.PRECHARGE_ALL, _C.PRECHARGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Least cycles from one command to the next, by ``[earlier][later]``; :data:`NO_GAP` where there is none.

    ``channel``: whatever their banks. ``bank``: only where both concern the same bank.
    """

    channel: tuple[tuple[int, ...], ...]
    bank: tuple[tuple[int, ...], ...]

    @property
    def longest_cycles(self) -> int:
        """The longest distance of all: what is longer ago holds nothing back."""
        return max(gap for table in (self.channel, self.bank) for row in table for gap in row)


class _Table:
    """Distances being put together: of several rules for one pair, the longest holds."""

    def __init__(self) -> None:
        self.channel = [[NO_GAP] * len(Command) for _ in Command]
        self.bank = [[NO_GAP] * len(Command) for _ in Command]

    def rule(self, earlier: tuple[Command, ...], later: tuple[Command, ...], cycles: int) -> None:
        """``later`` after ``earlier``, on any bank."""
        _put(self.channel, earlier, later, cycles)

    def same_bank(self, earlier: tuple[Command, ...], later: tuple[Command, ...], cycles: int) -> None:
        """``later`` after ``earlier``, on one bank."""
        _put(self.bank, earlier, later, cycles)


def _put(table: list[list[int]], earlier: tuple[Command, ...], later: tuple[Command, ...], cycles: int) -> None:
    for first in earlier:
        for second in later:
            table[first][second] = max(table[first][second], cycles)


def gaps_of(timing: PimTimingSpec) -> Gaps:
    """All distances that ``timing`` says, as the rules of JEDEC's DRAM with those of all-bank commands beside."""
    table = _Table()
    _columns(table, timing)
    _turns(table, timing)
    _rows(table, timing)
    _refreshes(table, timing)
    everything = tuple(one for one in Command if one is not _C.MODE)
    table.rule((_C.MODE,), everything, timing.mode_change_cycles)
    return Gaps(channel=tuple(map(tuple, table.channel)), bank=tuple(map(tuple, table.bank)))


def latency_cycles(command: Command, timing: PimTimingSpec) -> int:
    """Cycles from the issue of ``command`` until its data or effect is there."""
    of_transfers = {
        _C.READ: timing.read_latency_cycles,
        _C.WRITE: timing.write_latency_cycles,
        _C.WRITE_BUFFER: timing.buffer_write_latency_cycles,
        _C.WRITE_ACCUMULATORS: timing.register_write_latency_cycles,
        _C.READ_ACCUMULATORS: timing.register_read_latency_cycles,
        _C.READ_FUNCTION: timing.register_read_latency_cycles,
    }
    if command is _C.WRITE_ALL:
        return timing.write_latency_cycles + timing.burst_cycles + timing.precharge_cycles
    if command in of_transfers:
        return max(1, of_transfers[command] + timing.burst_cycles)
    return 1


def _columns(table: _Table, timing: PimTimingSpec) -> None:
    """Column after column: pins, the bus of all bank groups, the bus of one."""
    pins_read = (_C.READ, _C.READ_ACCUMULATORS, _C.READ_FUNCTION)
    pins_write = (_C.WRITE, _C.WRITE_ALL, _C.WRITE_BUFFER, _C.WRITE_ACCUMULATORS)
    table.rule(pins_read, pins_read, timing.burst_cycles)
    table.rule(pins_write, pins_write, timing.burst_cycles)
    reads = (*pins_read, _C.MAC_ALL, _C.COPY_OUT)
    writes = (*pins_write, _C.COPY_IN)
    table.rule(reads, reads, timing.column_short_cycles)
    table.rule(writes, writes, timing.column_short_cycles)
    wide_reads = (_C.READ_ACCUMULATORS, _C.READ_FUNCTION, _C.MAC_ALL, _C.MULTIPLY_ALL)
    wide_writes = (_C.WRITE_ALL, _C.WRITE_ACCUMULATORS, _C.MULTIPLY_ALL)
    for wide, every in (
        (wide_reads, (*reads, _C.MULTIPLY_ALL)),
        (wide_writes, (_C.WRITE, _C.WRITE_ALL, _C.COPY_IN, _C.WRITE_ACCUMULATORS, _C.MULTIPLY_ALL)),
    ):
        table.rule(every, wide, timing.column_long_cycles)
        table.rule(wide, every, timing.column_long_cycles)
    for one in (_C.READ, _C.WRITE, _C.COPY_OUT, _C.COPY_IN):
        table.rule((one,), (one,), timing.column_long_cycles)


def _turns(table: _Table, timing: PimTimingSpec) -> None:
    """Reads after writes and writes after reads."""
    left = timing.burst_cycles + timing.read_to_write_extra_cycles + timing.write_preamble_cycles
    reads = {
        _C.READ: timing.read_latency_cycles,
        _C.READ_ACCUMULATORS: timing.register_read_latency_cycles,
        _C.READ_FUNCTION: timing.register_read_latency_cycles,
    }
    writes = {
        _C.WRITE: timing.write_latency_cycles,
        _C.WRITE_ALL: timing.write_latency_cycles,
        _C.WRITE_BUFFER: timing.buffer_write_latency_cycles,
        _C.WRITE_ACCUMULATORS: timing.register_write_latency_cycles,
    }
    for read, out in reads.items():
        for write, into in writes.items():
            table.rule((read,), (write,), max(0, out + left - into))
            in_one_group = write is not _C.WRITE_BUFFER
            turn = timing.write_to_read_long_cycles if in_one_group else timing.write_to_read_short_cycles
            table.rule((write,), (read,), into + timing.burst_cycles + turn)


def _rows(table: _Table, timing: PimTimingSpec) -> None:
    """Rows open, are used, and close."""
    first_use = {
        _C.MAC_ALL: timing.activate_to_mac_cycles,
        _C.MULTIPLY_ALL: timing.activate_to_multiply_cycles,
        _C.FUNCTION_ALL: timing.activate_to_function_cycles,
        _C.WRITE_ALL: timing.activate_to_write_cycles,
        _C.READ: timing.activate_to_read_cycles,
        _C.WRITE: timing.activate_to_write_cycles,
        _C.COPY_OUT: timing.activate_to_copy_out_cycles,
        _C.COPY_IN: timing.activate_to_copy_in_cycles,
    }
    for use, cycles in first_use.items():
        table.rule((_C.ACTIVATE_ALL,), (use,), cycles)
        (table.same_bank if use in BANK_COMMANDS else table.rule)((_C.ACTIVATE,), (use,), cycles)
    table.rule(_ACTIVATES, (_C.PRECHARGE_ALL,), timing.row_open_cycles)
    table.rule((_C.ACTIVATE_ALL,), (_C.PRECHARGE,), timing.row_open_cycles)
    table.same_bank((_C.ACTIVATE,), (_C.PRECHARGE,), timing.row_open_cycles)
    table.rule((_C.MAC_ALL, _C.FUNCTION_ALL, _C.MULTIPLY_ALL), _PRECHARGES, timing.read_to_precharge_cycles)
    table.rule((_C.READ, _C.COPY_OUT), _PRECHARGES, timing.read_to_precharge_cycles)
    written = timing.write_latency_cycles + timing.write_recovery_cycles
    table.rule((_C.WRITE, _C.COPY_IN), (_C.PRECHARGE_ALL,), written + timing.burst_cycles)
    table.same_bank((_C.WRITE, _C.COPY_IN), (_C.PRECHARGE,), written + timing.burst_cycles)
    table.rule((_C.MULTIPLY_ALL,), _PRECHARGES, written)
    table.rule(_PRECHARGES, (_C.ACTIVATE_ALL, *_PRECHARGES), timing.precharge_cycles)
    table.rule((_C.PRECHARGE_ALL,), (_C.ACTIVATE,), timing.precharge_cycles)
    table.same_bank((_C.PRECHARGE,), (_C.ACTIVATE,), timing.precharge_cycles)
    table.rule(_ACTIVATES, (_C.ACTIVATE_ALL,), timing.activate_long_cycles)
    table.rule((_C.ACTIVATE_ALL,), (_C.ACTIVATE,), timing.activate_long_cycles)
    table.rule((_C.ACTIVATE,), (_C.ACTIVATE,), timing.activate_short_cycles)
    table.rule((_C.ACTIVATE_ALL,), (_C.ACTIVATE_ALL,), timing.row_cycle_cycles)
    closed = timing.write_latency_cycles + timing.burst_cycles + timing.write_recovery_cycles + timing.precharge_cycles
    table.rule((_C.WRITE_ALL,), (*_ACTIVATES, _C.REFRESH), closed)


def _refreshes(table: _Table, timing: PimTimingSpec) -> None:
    """All banks are closed, refresh, and open again."""
    table.rule(_PRECHARGES, (_C.REFRESH,), timing.precharge_cycles)
    table.rule(_ACTIVATES, (_C.REFRESH,), timing.row_cycle_cycles)
    table.rule((_C.REFRESH,), (*_ACTIVATES, _C.REFRESH), timing.refresh_cycles)
