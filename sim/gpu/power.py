"""Energy, power and clock of GPU kernels: from what they do, for how long, and the board's limit.

At the highest clock a kernel of t seconds draws the board's static power and (core + dram) / t, core being all work
that the multiprocessors' voltage feeds. If that is above the limit, the board lowers clock and voltage together until
power is the limit: core work then costs the square of the voltage. The times of calibrated kernels were measured under
a limit and hold its clock already, so under that limit they stay; under another one, what the multiprocessors bound is
stretched or shortened with the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tilewright.errors import InputError
from tilewright.hw_models.gpu.power import PowerParameters, PowerSpec
from tilewright.sim.gpu.activity import Activity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["PARTS", "KernelPower", "kernel_power"]

#: What energy goes to.
PARTS = ("multiply", "lanes", "l2", "dram", "static")

_LEAST_CLOCK = 0.25  # of the highest: below, boards do not go while they work
_LEAST_VOLTAGE = 0.6  # of the highest: below, transistors do not switch reliably
_PJ = 1e-12
_HALVINGS = 40
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPower:
    """Kernels under a board's limit, as arrays of one length.

    ``seconds``: their times; ``watts``: mean power, at most the limit; ``clock_share``: of the highest clock.
    ``joules``: by part (:data:`PARTS`), which add up to watts times seconds.
    """

    seconds: Numbers = field(hash=False)
    watts: Numbers = field(hash=False)
    clock_share: Numbers = field(hash=False)
    joules: dict[str, Numbers] = field(hash=False)


def kernel_power(
    power: PowerSpec,
    activity: Activity,
    seconds: Numbers,
    *,
    limit_w: float,
    core_bound: NDArray[np.bool_],
    zeros: bool = False,
) -> KernelPower:
    """Power of kernels that do ``activity`` in ``seconds``, timed under ``power.limit_w``, on a board of ``limit_w``.

    ``core_bound``: whether the multiprocessors, not the DRAM or the launch, decide about the time. ``zeros``: all data
    are zeros. Raises :class:`InputError` for a limit below the board's static power.
    """
    law = power.parameters
    held_w = limit_w * law.limit_share
    if held_w <= law.static_w:
        raise InputError(
            f"{power.device}: gpu.power_limit_w: given {limit_w:g}; allowed more than the board draws with nothing "
            f"running, {law.static_w / law.limit_share:.0f}"
        )
    share = law.zeros_share if zeros else 1.0
    parts = _core_joules(law, activity, share)
    core = np.asarray(sum(parts.values()))
    dram = activity.dram_bytes * law.dram_pj_per_byte * share * _PJ
    timed_at = _held_clock(law, core, dram, seconds, power.limit_w * law.limit_share)
    clock, stretched = timed_at, seconds
    if limit_w != power.limit_w:
        clock = _clock_under(law, core, dram, seconds, timed_at, core_bound, held_w)
        stretched = _seconds_at(seconds, timed_at, clock, core_bound)
    squared = _voltage(law, clock) ** 2
    # Where even the lowest clock draws too much, work waits for power.
    needed = (core * squared + dram) / (held_w - law.static_w)
    stretched = np.where(needed > stretched * _ROUNDING, needed, stretched)
    joules = {name: part * squared for name, part in parts.items()}
    joules |= {"dram": dram, "static": law.static_w * stretched}
    total = np.asarray(sum(joules.values()))
    return KernelPower(seconds=stretched, watts=total / stretched, clock_share=clock, joules=joules)


def _core_joules(law: PowerParameters, activity: Activity, share: float) -> dict[str, Numbers]:
    """Joules at the highest clock of what hangs on the multiprocessors' voltage; ``share`` of what data switch."""
    multiply = np.zeros_like(activity.l2_bytes)
    for name, count in activity.macs.items():
        multiply = multiply + count * law.of_format(name) * share * _PJ
    return {
        "multiply": multiply,
        "lanes": activity.lane_operations * law.lane_pj * _PJ,
        "l2": activity.l2_bytes * law.l2_pj_per_byte * share * _PJ,
    }


def _voltage(law: PowerParameters, clock: Numbers) -> Numbers:
    return np.maximum(1 - law.voltage_slope * (1 - clock), _LEAST_VOLTAGE)


def _held_clock(law: PowerParameters, core: Numbers, dram: Numbers, seconds: Numbers, held_w: float) -> Numbers:
    """The clock, as share of the highest, at which ``core`` done in ``seconds`` draws no more than ``held_w``."""
    left = np.maximum((held_w - law.static_w) * seconds - dram, 0.0)
    voltage = np.sqrt(np.minimum(left / np.maximum(core, 1e-30), 1.0))
    clock = 1 - (1 - np.maximum(voltage, _LEAST_VOLTAGE)) / law.voltage_slope
    return np.clip(clock, _LEAST_CLOCK, 1.0)


def _seconds_at(seconds: Numbers, timed_at: Numbers, clock: Numbers, core_bound: NDArray[np.bool_]) -> Numbers:
    return np.where(core_bound, seconds * timed_at / clock, seconds)


def _clock_under(
    law: PowerParameters,
    core: Numbers,
    dram: Numbers,
    seconds: Numbers,
    timed_at: Numbers,
    core_bound: NDArray[np.bool_],
    held_w: float,
) -> Numbers:
    """The highest clock that stays below ``held_w``: power rises with the clock, so by halving."""
    low, high = np.full_like(seconds, _LEAST_CLOCK), np.ones_like(seconds)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        there = _seconds_at(seconds, timed_at, middle, core_bound)
        fits = law.static_w + (core * _voltage(law, middle) ** 2 + dram) / there <= held_w
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    whole = law.static_w + (core + dram) / _seconds_at(seconds, timed_at, np.ones_like(seconds), core_bound) <= held_w
    return np.where(whole, 1.0, low)
