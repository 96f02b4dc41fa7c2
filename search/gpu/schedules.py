"""Compiled schedules: those that come with the package, and others compiled and run when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from tilewright.errors import InputError
from tilewright.hw_models.gpu.schedule import CompiledSchedule, ScheduleTable, schedule_name, schedules_of
from tilewright.hw_models.gpu.warp_trace import WarpTrace
from tilewright.progress import Progress
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.scheduled import resident_blocks
from tilewright.sim.gpu.warps import loop_cycles

__all__ = ["HOPPER_TARGET", "ScheduleKey", "compile_schedules", "find_schedule", "target_of"]

HOPPER_TARGET = "sm_90"
_CAPABILITY = 90
_LATENCY_CYCLES = (300.0, 600.0, 1200.0)
_MOST_BLOCKS = 8  # that are run side by side


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleKey:
    """A kernel of :mod:`tilewright.kernels.assembled.sources` and the numbers that it is compiled for."""

    kernel: str
    numbers: Mapping[str, int] = field(hash=False)

    @property
    def name(self) -> str:
        return schedule_name(self.kernel, self.numbers)


def target_of(device: GpuDevice) -> str | None:
    """The compiler's target whose schedules ``device`` runs, None where no instruction timing is known for it."""
    return HOPPER_TARGET if device.asynchronous_products else None


def find_schedule(device: GpuDevice, key: ScheduleKey) -> tuple[CompiledSchedule, tuple[float, ...]]:
    """The schedule, and the latencies that its cycles are given for: from the package, else compiled here.

    Raises :class:`InputError` where it is neither there nor can be compiled.
    """
    target = target_of(device)
    if target is None:
        raise InputError(f"{device.name}: no compiled schedules for this generation; allowed Hopper's (h100, h200)")
    there = _by_name(target).get(key.name)
    if there is None:
        there = _compiled(key.kernel, tuple(sorted(key.numbers.items())), device)
    return there, _latencies(target)


def compile_schedules(
    keys: Iterable[ScheduleKey], device: GpuDevice, *, progress: Progress | None = None
) -> tuple[ScheduleTable, list[tuple[str, str]]]:
    """The schedules of ``keys`` on multiprocessors like ``device``'s, and those that cannot be, with the reason."""
    from tilewright.kernels.assembled.compiler import compiler_name

    wanted = list({key.name: key for key in keys}.values())
    found, refused = [], []
    for position, key in enumerate(wanted):
        if progress is not None:
            progress(position, len(wanted), key.name)
        try:
            found.append(_compiled(key.kernel, tuple(sorted(key.numbers.items())), device))
        except InputError as fault:
            refused.append((key.name, str(fault)))
    table = ScheduleTable(
        compiler=compiler_name(), target=HOPPER_TARGET, latency_cycles=_LATENCY_CYCLES, schedules=tuple(found)
    )
    return table, refused


@lru_cache(maxsize=4)
def _by_name(target: str) -> dict[str, CompiledSchedule]:
    table = schedules_of(target)
    return {} if table is None else table.named()


def _latencies(target: str) -> tuple[float, ...]:
    table = schedules_of(target)
    return _LATENCY_CYCLES if table is None else table.latency_cycles


@lru_cache(maxsize=512)
def _compiled(kernel: str, numbers: tuple[tuple[str, int], ...], device: GpuDevice) -> CompiledSchedule:
    from tilewright.kernels.assembled.compiler import compiled_trace, compiler_name
    from tilewright.kernels.assembled.sources import source_of
    from tilewright.search.gpu.kept_schedules import kept_schedule

    name = schedule_name(kernel, dict(numbers))

    def make() -> CompiledSchedule:
        trace = compiled_trace(source_of(kernel, dict(numbers)), _CAPABILITY)
        return _summary(name, trace, device, _LATENCY_CYCLES)

    return kept_schedule(name, compiler_name(), HOPPER_TARGET, _LATENCY_CYCLES, make)


def _summary(name: str, trace: WarpTrace, device: GpuDevice, latencies: Sequence[float]) -> CompiledSchedule:
    """The trace's cycles by blocks side by side and latency."""

    def summary(steps: list[tuple[float, ...]], fixed: tuple[float, ...]) -> CompiledSchedule:
        return CompiledSchedule(
            name=name,
            registers=trace.registers,
            spill_bytes=trace.spill_bytes,
            shared_bytes=trace.shared_bytes,
            warps=trace.warps,
            instructions=trace.instructions,
            step_cycles=tuple(steps),
            fixed_cycles=fixed,
        )

    alone = [loop_cycles(trace, 1, latency) for latency in latencies]
    steps, fixed = [tuple(step for step, _ in alone)], tuple(rest for _, rest in alone)
    resident = resident_blocks(device, summary(steps, fixed))
    steps += [
        tuple(loop_cycles(trace, n_blocks, latency)[0] for latency in latencies)
        for n_blocks in range(2, min(resident, _MOST_BLOCKS) + 1)
    ]
    return summary(steps, fixed)
