"""Cycles of regular programs in closed form: bounds of any program, and the speed of a formula where they are exact.

They follow from the distances of :mod:`tilewright.sim.pim.commands` for the command orders named here; tests hold
them to the run, command by command, for random sizes and times.
"""

from __future__ import annotations

from tilewright.hw_models.pim.spec import PimSpec, PimTimingSpec

__all__ = [
    "buffer_write_cycles",
    "matrix_vector_cycles",
    "multiply_cycles",
    "refresh_share",
    "row_cycles",
    "rows_cycles",
]


def row_cycles(timing: PimTimingSpec, n: int) -> int:
    """One row with ``n`` multiply commands, until the next row's can follow: least cycles a row of any program."""
    used = timing.activate_to_mac_cycles + (n - 1) * _column(timing) + timing.read_to_precharge_cycles
    apart = max(timing.row_cycle_cycles, timing.activate_long_cycles, n * _column(timing))
    return max(max(used, timing.row_open_cycles) + timing.precharge_cycles, apart)


def rows_cycles(timing: PimTimingSpec, rows: int, n: int) -> int:
    """``rows`` rows one after another with ``n`` multiply commands each, from a closed channel until all is done.

    After the first cycle: the first row opens, the others follow, the last one's commands issue; two cycles until the
    host knows.
    """
    last = timing.activate_to_mac_cycles + (n - 1) * _column(timing)
    return 1 + (rows - 1) * row_cycles(timing, n) + last + 2


def buffer_write_cycles(timing: PimTimingSpec, n: int) -> int:
    """``n`` accesses written into the buffer of a channel that was in the mode for rows."""
    spacing = max(1, timing.burst_cycles, timing.column_short_cycles)
    departs = timing.buffer_write_latency_cycles + timing.burst_cycles
    return 1 + timing.mode_change_cycles + (n - 1) * spacing + max(2, departs + 1)


def multiply_cycles(timing: PimTimingSpec, n: int) -> int:
    """``n`` element-wise accesses in one row."""
    return 1 + timing.activate_to_multiply_cycles + (n - 1) * timing.column_long_cycles + 2


def matrix_vector_cycles(timing: PimTimingSpec, segments: int, rows: int, n: int) -> int:
    """A vector in ``segments`` pieces of ``n`` accesses, times ``rows`` rows a bank: each row with its sum written in
    before and read out after.

    Exact where turning (mode changes) takes longer than the recovery of rows, as in every file that comes with
    Tilewright; a lower bound elsewhere.
    """
    burst = timing.burst_cycles
    spacing = max(1, burst, timing.column_short_cycles)
    used = timing.activate_to_mac_cycles + n * _column(timing)
    out = timing.register_read_latency_cycles + burst
    turn = out + timing.read_to_write_extra_cycles + timing.write_preamble_cycles
    to_sum = max(out + 1, turn - timing.register_write_latency_cycles)
    to_buffer = max(out + 1, turn - timing.buffer_write_latency_cycles)
    there_and_back = 1 + 2 * timing.mode_change_cycles + used  # from a sum in, to the sum out
    row = there_and_back + timing.precharge_cycles + to_sum
    segment = n * spacing + rows * row - to_sum + to_buffer
    first = 1 + timing.mode_change_cycles - timing.precharge_cycles
    return first + segments * segment - to_buffer + out + 2


def _column(timing: PimTimingSpec) -> int:
    """From one multiply command to the next."""
    return max(timing.column_long_cycles, timing.column_short_cycles)


def refresh_share(pim: PimSpec) -> float:
    """The share of time that refreshes take at least."""
    timing = pim.timing
    return timing.refresh_cycles / timing.refresh_interval_cycles if timing.refresh_cycles else 0.0
