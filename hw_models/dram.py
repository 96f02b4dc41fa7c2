"""What the DRAM takes: latency and bus occupancy of a tile transfer.

A tile is ``n_runs`` runs of ``run_bytes`` contiguous bytes, ``stride_bytes`` apart (a block of a row-major matrix).
The bus is shared by all transfers at the DRAM's bandwidth; :class:`TransferCost` says how many bytes' worth of bus
time a tile takes, so that the simulator can share the bus between transfers that overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from tilewright.hw_models import row_buffer
from tilewright.hw_models.dram_grades import RowTimingSpec
from tilewright.hw_models.links import hop_cycles, rate_from_memory
from tilewright.hw_models.spec import MachineSpec
from tilewright.units import exact

__all__ = ["TransferCost", "bytes_per_cycle", "dram_rate", "first_access_cycles", "in_cycles", "port_names", "transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCost:
    """One tile transfer.

    ``latency_cycles``: core-clock cycles from the command to the first byte. ``occupancy_bytes``: bus time, as the
    bytes that the bus would carry in it at full rate. ``n_bytes``: bytes that really cross the bus (whole bursts).
    ``n_activations``: rows opened, summed over the channels; 0 where the DRAM's rows are unknown.
    """

    latency_cycles: int
    occupancy_bytes: int
    n_bytes: int
    n_activations: int


def bytes_per_cycle(machine: MachineSpec) -> Fraction:
    """DRAM bytes in one core-clock cycle, exactly as the decimals of the file say (sustained GB/s over GHz).

    No more than a link between the cores and the memory passes.
    """
    dram = machine.dram
    rate = _bytes_per_cycle(dram.bandwidth_gb_per_s, dram.sustained_share, machine.clock_ghz)
    most = rate_from_memory(machine)
    return rate if most is None else min(rate, most)


def first_access_cycles(machine: MachineSpec) -> int:
    """Core-clock cycles that cover the start of a transfer, the first access' latency, and the way over a link."""
    latency = in_cycles(machine.dram.first_access_latency_ns, machine.clock_ghz)
    return machine.dma.start_cycles + latency + hop_cycles(machine)


def port_names(machine: MachineSpec) -> tuple[str, ...]:
    """The paths to the DRAM, each of :func:`bytes_per_cycle`: one for both ways, or one to read and one to write."""
    return ("dram read", "dram write") if machine.dram.ports == "separate" else ("dram",)


def dram_rate(machine: MachineSpec) -> Fraction:
    """Bytes a cycle over all paths to the DRAM together."""
    return bytes_per_cycle(machine) * len(port_names(machine))


def transfer(machine: MachineSpec, *, n_runs: int, run_bytes: int, stride_bytes: int) -> TransferCost:
    """Cost of moving a tile of ``n_runs`` runs of ``run_bytes`` (both at least 1), ``stride_bytes`` apart.

    Runs that touch (stride equal to the run) are one long run; each run starts on a burst and moves whole bursts.
    Detail "bandwidth": the first access' latency, then the bursts at full rate. Detail "row_buffer": the bus is held
    as long as the banks need (:mod:`tilewright.hw_models.row_buffer`) and the latency is at least tRCD + tCL.
    Raises ValueError for runs that overlap or are empty.
    """
    if n_runs < 1 or run_bytes < 1 or (stride_bytes < run_bytes and n_runs > 1):
        raise ValueError(
            f"a tile needs runs of at least 1 byte that do not overlap, "
            f"got {n_runs} runs of {run_bytes} bytes, {stride_bytes} bytes apart"
        )
    if n_runs == 1 or stride_bytes == run_bytes:
        n_runs, run_bytes, stride_bytes = 1, n_runs * run_bytes, n_runs * run_bytes
    dram = machine.dram
    burst = dram.burst_bytes
    n_bytes = n_runs * (-(-run_bytes // burst) * burst)
    latency = first_access_cycles(machine)
    timing = dram.row_timing
    if timing is None:
        return TransferCost(latency_cycles=latency, occupancy_bytes=n_bytes, n_bytes=n_bytes, n_activations=0)
    if dram.detail == "bandwidth":
        n_rows = _rows_touched(timing, dram.bandwidth_gb_per_s, n_runs, run_bytes, stride_bytes)
        return TransferCost(latency_cycles=latency, occupancy_bytes=n_bytes, n_bytes=n_bytes, n_activations=n_rows)
    cost = row_buffer.tile(timing, dram.bandwidth_gb_per_s, n_runs, n_bytes // n_runs, stride_bytes)
    return TransferCost(
        latency_cycles=max(
            latency,
            in_cycles(timing.trcd_ns + timing.tcl_ns, machine.clock_ghz)
            + machine.dma.start_cycles
            + hop_cycles(machine),
        ),
        occupancy_bytes=max(cost.occupancy_bytes, n_bytes),
        n_bytes=n_bytes,
        n_activations=cost.n_activations,
    )


@lru_cache(maxsize=1024)
def _bytes_per_cycle(bandwidth_gb_per_s: float, sustained_share: float, clock_ghz: float) -> Fraction:
    return exact(bandwidth_gb_per_s) * exact(sustained_share) / exact(clock_ghz)


@lru_cache(maxsize=1024)
def in_cycles(time_ns: float, clock_ghz: float) -> int:
    """Whole cycles that cover ``time_ns``."""
    cycles = exact(time_ns) * exact(clock_ghz)
    return -(-cycles.numerator // cycles.denominator)


def _rows_touched(timing: RowTimingSpec, bandwidth_gb_per_s: float, n_runs: int, run_bytes: int, stride: int) -> int:
    """Rows that an open-page controller opens, without following the banks.

    A stripe is the same row of the same bank in all channels. Runs that are closer than a stripe share rows.
    """
    n_channels = row_buffer.channel_count(timing, bandwidth_gb_per_s)
    stripe = timing.row_bytes * n_channels
    touched = min(n_channels, -(-run_bytes // timing.interleave_bytes))
    if stride >= stripe:
        return n_runs * -(-run_bytes // stripe) * touched
    stripes = -(-((n_runs - 1) * stride + run_bytes) // stripe)
    return stripes * (n_channels if n_runs > 1 else touched)
