"""Time of a kernel whose schedule is compiled: blocks on multiprocessors, what they wait for, the memory, the power.

How long a trip of the main loop takes with so many blocks side by side comes with the schedule
(:mod:`tilewright.sim.gpu.warps`). Here they are dealt to multiprocessors in order, each next block to the one that
first has room; blocks there go on alike, faster the fewer they are. Loads come from the L2 or the DRAM by what the
measurement touched in between; the DRAM's rate and the power limit bound the whole.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import ScheduledParameters
from tilewright.hw_models.gpu.schedule import CompiledSchedule
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.memory import miss_share

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ScheduledWork", "copy_seconds", "resident_blocks", "scheduled_seconds"]

_REGISTERS = 65_536  # of a multiprocessor
_REGISTER_STEP = 8  # of a thread: registers are given out in so many
_MOST_WARPS, _MOST_BLOCKS = 64, 32
_SYSTEM_SHARED_BYTES = 1024  # of each block
_WARP = 32
_NOTHING = 1e-6
_TURNED_SHARE = 0.14  # of PyTorch's copy that turns 16-bit keys, from two rows of the calibration half
_SHARPNESS = 6.0  # how sharply the power limit sets in: the clock falls before the limit is reached on the mean
_MOST_SETS = 8  # of inputs that a measurement rotates through, or as many as touch twice the L2


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledWork:
    """What a launch computes: ``trips`` of the main loop of each block (one number: all alike) of ``n_blocks``.

    ``read_bytes``, ``written_bytes``: of the operands, each once; ``loaded_bytes``: by all blocks from the L2. ``macs``
    at the rate of ``multiply_format``; ``lane_operations``: of the lanes, beside them. ``cold``: nothing of the
    operands lies in the L2; else they are of a measurement that rotates through sets of them.
    """

    n_blocks: int
    trips: float | tuple[int, ...]
    read_bytes: float
    written_bytes: float
    macs: float
    multiply_format: str
    loaded_bytes: float = 0.0
    cold: bool = False
    lane_operations: float = 0.0


def resident_blocks(device: GpuDevice, schedule: CompiledSchedule) -> int:
    """Blocks that a multiprocessor holds at a time, by registers, shared memory and warps; 0 where none fits."""
    registers = -(-schedule.registers // _REGISTER_STEP) * _REGISTER_STEP * _WARP * schedule.warps
    if schedule.shared_bytes + _SYSTEM_SHARED_BYTES > device.shared_bytes:
        return 0
    shared = int(device.shared_bytes) // (schedule.shared_bytes + _SYSTEM_SHARED_BYTES)
    return min(_REGISTERS // registers, shared, _MOST_WARPS // schedule.warps, _MOST_BLOCKS)


def scheduled_seconds(
    device: GpuDevice,
    parameters: ScheduledParameters,
    schedule: CompiledSchedule,
    latency_cycles: Sequence[float],
    work: ScheduledWork,
) -> tuple[float, int]:
    """Seconds of the launch, infinite where no block fits, and what limits it (1: the multiprocessors, 2: the memory).

    ``latency_cycles``: those that the schedule's cycles are given for.
    """
    resident = resident_blocks(device, schedule)
    if not resident:
        return float("inf"), 1
    missed = _missed(device, parameters, work)
    latency = parameters.hit_cycles + parameters.miss_cycles * missed
    steps = _steps(schedule, latency_cycles, latency, min(resident, -(-work.n_blocks // device.n_sms)))
    fixed = float(np.interp(latency, latency_cycles, schedule.fixed_cycles))
    compute = _makespan(device.n_sms, work, steps, fixed) / device.clock_hz
    compute = max(compute, work.loaded_bytes / device.l2_bytes_per_s)
    moved = work.read_bytes * missed + work.written_bytes
    memory = moved / (device.dram_bytes_per_s * parameters.memory_share)
    seconds = max(compute, memory) + parameters.overlap_loss * min(compute, memory)
    if work.macs:
        rate = device.macs(work.multiply_format) * device.n_sms * device.clock_hz
        limited = work.macs / (rate * parameters.sustained_share)
        seconds = (seconds**_SHARPNESS + limited**_SHARPNESS) ** (1 / _SHARPNESS)
    return seconds + parameters.launch_us * 1e-6, 1 if compute >= memory else 2


def _steps(schedule: CompiledSchedule, latency_cycles: Sequence[float], latency: float, most: int) -> list[float]:
    """Cycles of a trip with 1, 2, ... ``most`` blocks side by side; never fewer with more blocks.

    Beyond those that the schedule tells, its units are full: cycles grow with the blocks as without latency.
    """
    told = schedule.step_cycles[:most]
    steps = [float(np.interp(latency, latency_cycles, row)) for row in told]
    steps += [max(steps[-1], min(told[-1]) * n_blocks / len(told)) for n_blocks in range(len(told) + 1, most + 1)]
    return [float(step) for step in np.maximum.accumulate(steps)]


def copy_seconds(
    device: GpuDevice, parameters: ScheduledParameters, work: ScheduledWork, *, turned: bool = False
) -> float:
    """Seconds of a framework's kernel that only moves the work's bytes; ``turned``: rows become columns."""
    moved = work.read_bytes * _missed(device, parameters, work) + work.written_bytes
    rate = device.dram_bytes_per_s * parameters.memory_share * (_TURNED_SHARE if turned else 1.0)
    return parameters.launch_us * 1e-6 + moved / rate


def _missed(device: GpuDevice, parameters: ScheduledParameters, work: ScheduledWork) -> float:
    """Share of the operands that is not in the L2 any more when they are read again."""
    if work.cold:
        return 1.0
    touched = work.read_bytes + work.written_bytes
    sets = max(1, min(_MOST_SETS, -(-2 * device.l2_bytes // touched)))
    return float(miss_share(np.array([sets * touched]), device.l2_bytes * parameters.cache_share)[0])


def _makespan(n_sms: int, work: ScheduledWork, steps: list[float], fixed: float) -> float:
    """Cycles until the last block is done. ``steps``: of a trip with 1, 2, ... blocks on a multiprocessor."""
    most = len(steps)
    if isinstance(work.trips, tuple):
        return _Multiprocessors(n_sms, work.trips, steps, fixed).run()
    rounds, left = divmod(work.n_blocks, n_sms * most)
    cycles = rounds * (fixed + work.trips * steps[-1])
    if left:
        cycles += fixed + work.trips * steps[-(-left // n_sms) - 1]
    return cycles


class _Multiprocessors:
    """Blocks of unlike length, dealt in order; a block first takes its fixed cycles, then shares the multiprocessor."""

    def __init__(self, n_sms: int, trips: tuple[int, ...], steps: list[float], fixed: float) -> None:
        self.trips, self.steps, self.fixed = iter(trips), steps, fixed
        # Of each multiprocessor: when it was looked at, and its blocks as [fixed cycles left, trips left].
        self.then = [0.0] * n_sms
        self.blocks: list[list[list[float]]] = [[] for _ in range(n_sms)]

    def run(self) -> float:
        for place in range(len(self.steps)):
            for blocks in self.blocks:
                self._deal(blocks, stagger=1 + 1e-3 * place)  # else all of a multiprocessor would end at once
        events = [(self._next(sm), sm) for sm, blocks in enumerate(self.blocks) if blocks]
        heapq.heapify(events)
        now = 0.0
        while events:
            now, sm = events[0]
            self._advance(sm, now)
            if self.blocks[sm]:
                heapq.heapreplace(events, (self._next(sm), sm))
            else:
                heapq.heappop(events)
        return now

    def _deal(self, blocks: list[list[float]], stagger: float = 1.0) -> None:
        length = next(self.trips, None)
        if length is not None:
            blocks.append([self.fixed * stagger, float(length)])

    def _next(self, sm: int) -> float:
        """When the next block there has its fixed cycles behind it or is done."""
        blocks = self.blocks[sm]
        running = [trips for fixed, trips in blocks if fixed <= 0]
        waits = [fixed for fixed, _ in blocks if fixed > 0]
        if running:
            waits.append(min(running) * self.steps[len(running) - 1])
        return self.then[sm] + min(waits)

    def _advance(self, sm: int, now: float) -> None:
        passed, blocks = now - self.then[sm], self.blocks[sm]
        n_running = sum(block[0] <= 0 for block in blocks)
        done = passed / self.steps[n_running - 1] if n_running else 0.0
        for block in blocks:
            if block[0] > 0:
                block[0] = block[0] - passed if block[0] - passed > _NOTHING else 0.0
            else:
                block[1] -= done
        left = [block for block in blocks if block[1] > _NOTHING]
        for _ in range(len(blocks) - len(left)):
            self._deal(left)
        self.blocks[sm], self.then[sm] = left, now
