"""Bus time of a tile transfer from the state of the DRAM's banks: open rows, activation windows, refresh.

The model, which is the definition (all times in whole command clocks of one channel):

* **Channels.** As many channels of the grade as the machine's bandwidth needs, clocked so that together they give
  exactly that bandwidth. Times in nanoseconds are rounded up to whole clocks.
* **Addresses.** A tile starts on a row of bank 0. Consecutive addresses stay in one channel for ``interleave_bytes``,
  then the next channel follows; within a channel they fill a row, then the same row of the next bank.
  A *stripe* is one row of one bank in all channels.
* **Order.** Each channel serves its bursts in address order of the runs; rows stay open (open page). All banks are
  closed when the tile begins. Reads and writes are timed alike, by the rules for reads.
* **Opening a row** needs, in this order: its turn (at most ``rows_ahead`` rows are opened before the bursts in front of
  them have begun), the precharge of the bank's old row (tRAS after its activation, tRTP after its last burst; then
  tRP), tRRD after the last activation and tFAW after the fourth last.
* **A burst** needs the bus (tCCD after the burst before it) and its row (tRCD after the activation).
* **Refresh** stops all channels for tRFC in every tREFI; a tile pays its share, so its bus time grows by
  tREFI / (tREFI - tRFC).

Bus time runs from the first possible data (tRCD after the start) to the end of the last burst of the slowest channel.

Runs repeat their pattern of channels, banks and columns after a number of runs; once the banks are in the same
state, relative to now, at the end of two such periods, the periods in between are skipped, which is exact.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd

from tilewright.hw_models.dram_grades import RowTimingSpec
from tilewright.units import ceil_div, exact

__all__ = ["TileCost", "channel_count", "tile"]

_LONG_AGO = -(10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class TileCost:
    """``occupancy_bytes``: bus time as bytes at the full rate of all channels; ``clocks``: the same in command clocks,
    without refresh; ``n_activations``: rows opened in all channels."""

    occupancy_bytes: int
    clocks: int
    n_activations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clocks:
    """The timing of a grade in command clocks, and the geometry of all its channels together."""

    n_channels: int
    n_banks: int
    bursts_per_row: int
    bursts_per_turn: int
    burst_bytes: int
    burst: int
    rcd: int
    rp: int
    ras: int
    rtp: int
    rrd: int
    faw: int
    rows_ahead: int

    @property
    def bursts_per_stripe(self) -> int:
        return self.bursts_per_row * self.n_channels

    @property
    def memory(self) -> int:
        """Clocks after which the past cannot matter any more: one full turn of a bank for each row opened ahead."""
        return (self.rows_ahead + 2) * (self.ras + self.rtp + self.rp + self.faw + self.rrd + self.rcd)


@lru_cache(maxsize=1024)
def channel_count(timing: RowTimingSpec, bandwidth_gb_per_s: float) -> int:
    """Channels of the grade that are needed for the bandwidth (at least 1)."""
    channels = exact(bandwidth_gb_per_s) / timing.channel_gb_per_s
    return ceil_div(channels.numerator, channels.denominator)


@lru_cache(maxsize=65_536)
def tile(timing: RowTimingSpec, bandwidth_gb_per_s: float, n_runs: int, run_bytes: int, stride_bytes: int) -> TileCost:
    """Bus time of ``n_runs`` runs of ``run_bytes``, ``stride_bytes`` apart; each run starts on a burst.

    All three at least 1. See the module for the rules.
    """
    clocks = _in_clocks(timing, bandwidth_gb_per_s)
    banks = [_Channel(clocks) for _ in range(clocks.n_channels)]
    if n_runs == 1:  # one long run: the same bursts as one run per stripe
        n_bursts = ceil_div(run_bytes, clocks.burst_bytes)
        n_runs, left = divmod(n_bursts, clocks.bursts_per_stripe)
        _serve(clocks, banks, n_runs, clocks.bursts_per_stripe, clocks.bursts_per_stripe * clocks.burst_bytes)
        _serve_run(clocks, banks, n_runs * clocks.bursts_per_stripe, left)
    else:
        _serve(clocks, banks, n_runs, ceil_div(run_bytes, clocks.burst_bytes), stride_bytes)
    bus_clocks = max(channel.bus_free for channel in banks) - clocks.rcd
    return TileCost(
        occupancy_bytes=_as_bytes(timing, clocks, bus_clocks),
        clocks=bus_clocks,
        n_activations=sum(channel.n_activations for channel in banks),
    )


def _as_bytes(timing: RowTimingSpec, clocks: _Clocks, bus_clocks: int) -> int:
    refresh = exact(timing.trefi_ns) / (exact(timing.trefi_ns) - exact(timing.trfc_ns))
    n_bytes = Fraction(bus_clocks * clocks.n_channels * clocks.burst_bytes, clocks.burst) * refresh
    return ceil_div(n_bytes.numerator, n_bytes.denominator)


@lru_cache(maxsize=256)
def _in_clocks(timing: RowTimingSpec, bandwidth_gb_per_s: float) -> _Clocks:
    n_channels = channel_count(timing, bandwidth_gb_per_s)
    bursts_per_ns = exact(bandwidth_gb_per_s) / n_channels / timing.burst_bytes
    clocks_per_ns = bursts_per_ns * timing.burst_clocks

    def clocks(time_ns: float) -> int:
        exactly = exact(time_ns) * clocks_per_ns
        return ceil_div(exactly.numerator, exactly.denominator)

    return _Clocks(
        n_channels=n_channels,
        n_banks=timing.n_banks,
        bursts_per_row=timing.row_bytes // timing.burst_bytes,
        bursts_per_turn=timing.interleave_bytes // timing.burst_bytes,
        burst_bytes=timing.burst_bytes,
        burst=timing.burst_clocks,
        rcd=clocks(timing.trcd_ns),
        rp=clocks(timing.trp_ns),
        ras=clocks(timing.tras_ns),
        rtp=max(clocks(timing.trtp_ns), timing.burst_clocks),
        rrd=clocks(timing.trrd_ns),
        faw=clocks(timing.tfaw_ns),
        rows_ahead=timing.rows_ahead,
    )


class _Channel:
    """The state of one channel: what its banks hold, and when its bus and its command rules allow the next step."""

    __slots__ = ("activated", "bus_free", "clocks", "last_burst", "n_activations", "recent", "row", "started", "usable")

    def __init__(self, clocks: _Clocks) -> None:
        self.clocks = clocks
        self.row: list[int | None] = [None] * clocks.n_banks  # row that each bank holds open
        self.activated = [_LONG_AGO] * clocks.n_banks  # when it was opened
        self.usable = [_LONG_AGO] * clocks.n_banks  # when its first burst may come
        self.last_burst = [_LONG_AGO] * clocks.n_banks  # when its last burst came
        self.recent: deque[int] = deque([_LONG_AGO] * 4, maxlen=4)  # the last four activations
        self.started: deque[int] = deque([0] * clocks.rows_ahead, maxlen=clocks.rows_ahead)  # first bursts of rows
        self.bus_free = 0  # when the bus can carry another burst
        self.n_activations = 0

    def bursts(self, bank: int, row: int, n_bursts: int) -> None:
        """Serve ``n_bursts`` of one row."""
        opens = self.row[bank] != row
        if opens:
            self._open(bank, row)
        first = max(self.bus_free, self.usable[bank])
        if opens:
            self.started.append(first)
        self.bus_free = first + n_bursts * self.clocks.burst
        self.last_burst[bank] = self.bus_free - self.clocks.burst

    def _open(self, bank: int, row: int) -> None:
        clocks = self.clocks
        turn = self.started[0]
        ready = turn
        if self.row[bank] is not None:
            ready = max(turn, self.activated[bank] + clocks.ras, self.last_burst[bank] + clocks.rtp) + clocks.rp
        opened = max(ready, self.recent[-1] + clocks.rrd, self.recent[0] + clocks.faw)
        self.row[bank] = row
        self.activated[bank] = opened
        self.usable[bank] = opened + clocks.rcd
        self.recent.append(opened)
        self.n_activations += 1

    def state(self, row_shift: int) -> tuple[object, ...]:
        """Everything that the future depends on: times relative to the free bus, rows to ``row_shift``."""
        oldest, now = -self.clocks.memory, self.bus_free

        def ago(times: list[int] | deque[int]) -> tuple[int, ...]:
            return tuple(max(time - now, oldest) for time in times)

        rows = tuple(None if row is None else row - row_shift for row in self.row)
        return rows, ago(self.activated), ago(self.usable), ago(self.last_burst), ago(self.recent), ago(self.started)

    def shift(self, clocks: int, rows: int, activations: int) -> None:
        """Move everything ``clocks`` later and ``rows`` further."""
        for times in (self.activated, self.usable, self.last_burst):
            times[:] = [time + clocks for time in times]
        for queue in (self.recent, self.started):
            queue.extend([time + clocks for time in queue])
        self.bus_free += clocks
        self.row = [None if row is None else row + rows for row in self.row]
        self.n_activations += activations


def _serve(clocks: _Clocks, channels: list[_Channel], n_runs: int, bursts_per_run: int, stride_bytes: int) -> None:
    """Serve all runs, skipping whole periods of the address pattern once they repeat."""
    span = clocks.bursts_per_stripe * clocks.n_banks * clocks.burst_bytes  # bytes of one row index in all banks
    period = span // gcd(span, stride_bytes)
    rows_per_period = period * stride_bytes // span
    before: _Snapshot | None = None
    run = 0
    while run < n_runs:
        if run and run % period == 0 and n_runs - run >= period:
            now = _Snapshot(channels, run // period * rows_per_period)
            if before is not None and before.states == now.states:
                n_periods = (n_runs - run) // period
                now.repeat(channels, before, n_periods, rows_per_period)
                run += n_periods * period
                before = None
                continue
            before = now
        _serve_run(clocks, channels, run * stride_bytes // clocks.burst_bytes, bursts_per_run)
        run += 1


class _Snapshot:
    """All channels at the end of a period: their relative states, and how far they have come."""

    def __init__(self, channels: list[_Channel], row_shift: int) -> None:
        self.states = [channel.state(row_shift) for channel in channels]
        self.progress = [(channel.bus_free, channel.n_activations) for channel in channels]

    def repeat(self, channels: list[_Channel], before: _Snapshot, n_periods: int, rows_per_period: int) -> None:
        """Let the period from ``before`` to now happen ``n_periods`` more times."""
        for channel, (free, opened), (free_then, opened_then) in zip(
            channels, self.progress, before.progress, strict=True
        ):
            channel.shift(
                n_periods * (free - free_then), n_periods * rows_per_period, n_periods * (opened - opened_then)
            )


def _serve_run(clocks: _Clocks, channels: list[_Channel], first_burst: int, n_bursts: int) -> None:
    """Serve one run of bursts that starts at burst ``first_burst`` of the address space."""
    per_stripe, per_turn, n_channels = clocks.bursts_per_stripe, clocks.bursts_per_turn, clocks.n_channels
    per_round = per_turn * n_channels
    end = first_burst + n_bursts
    while first_burst < end:
        stripe, begin = divmod(first_burst, per_stripe)
        stop = min(begin + end - first_burst, per_stripe)
        row, bank = divmod(stripe, clocks.n_banks)
        round_1, rest_1 = divmod(begin, per_round)
        round_2, rest_2 = divmod(stop, per_round)
        whole = (round_2 - round_1) * per_turn
        for index, channel in enumerate(channels):
            offset = index * per_turn
            before = min(max(rest_1 - offset, 0), per_turn)
            after = min(max(rest_2 - offset, 0), per_turn)
            n_here = whole + after - before
            if n_here:
                channel.bursts(bank, row, n_here)
        first_burst += stop - begin
