"""How far predicted power of kernels is from what a board showed, on rows that no figure of its energy has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.hw_models.gpu.power import PowerSpec
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.energy import power_of
from tilewright.search.gpu.figures import ErrorFigures, error_figures
from tilewright.search.gpu.meter import LONG_RUN_S, own_shares, shown_before
from tilewright.search.gpu.predict import predict
from tilewright.search.gpu.split import power_rows
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.power import KernelPower, kernel_power

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PowerComparison", "by_file", "compare_power"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerComparison:
    """Power of one table.

    ``scope``: which rows count, "held out", "all" (none of them calibrated the energy) or "fitted" (all of them did:
    a table of a few unlike rows).

    ``overall``: what the meter would have shown (:mod:`tilewright.search.gpu.meter`) against what it did, of all rows
    that count. ``long_runs``: the kernel's own power, alone, against the reading, of those that ran for as long as the
    meter's window; ``clock``: of the multiprocessors' clock; None where there are none. ``largest_w``: of the
    predictions; ``limit_w``: of the board. ``energy_from``: whose energy figures were used. Arrays: readings in watts,
    of the rows that count.
    """

    name: str
    family: str
    scope: str
    overall: ErrorFigures
    long_runs: ErrorFigures | None
    largest_w: float
    limit_w: float
    energy_from: str
    measured_w: NDArray[np.float64] = field(hash=False, repr=False)
    predicted_w: NDArray[np.float64] = field(hash=False, repr=False)
    clock: ErrorFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the single rows."""
        return {
            "name": self.name,
            "family": self.family,
            "scope": self.scope,
            "energy_from": self.energy_from,
            "overall": self.overall.to_dict(),
            "long_runs": None if self.long_runs is None else self.long_runs.to_dict(),
            "clock": None if self.clock is None else self.clock.to_dict(),
            "largest_w": self.largest_w,
            "limit_w": self.limit_w,
        }


def by_file(tables: Sequence[MeasuredTable]) -> list[list[MeasuredTable]]:
    """Tables of one file together: their rows were measured one after the other."""
    files: dict[str, list[MeasuredTable]] = {}
    for table in tables:
        files.setdefault(table.name.rpartition(": ")[0] or table.name, []).append(table)
    return list(files.values())


def compare_power(
    device: GpuDevice,
    calibration: CalibrationSpec,
    tables: Sequence[MeasuredTable],
    *,
    power: PowerSpec | None = None,
) -> tuple[PowerComparison, ...]:
    """The power of those of ``tables`` in which it was read and whose kernels' energy is modelled.

    ``power``: energy figures of the board; without, those that count on ``device``.
    """
    import numpy as np

    spec = power or power_of(device, calibration)
    found = []
    for of_file in by_file([table for table in tables if table.watts is not None and len(table)]):
        fitted = [table.name in spec.measured for table in of_file]
        parts = [power_rows(table) for table in of_file]
        # Of a table that calibrated, no held-out reading is looked at; any other has none that would tell.
        usable = [part if was else np.ones_like(part) for part, was in zip(parts, fitted, strict=True)]
        befores = shown_before(of_file, usable, spec.parameters.static_w)
        for table, part, was, before in zip(of_file, parts, fitted, befores, strict=True):
            scope = "all" if not was else "fitted" if part.all() else "held out"
            counts = ~part if scope == "held out" else np.ones(len(table), dtype=bool)
            compared = _compared(device, calibration, spec, table, counts, before, scope)
            if compared is not None:
                found.append(compared)
    return tuple(found)


def _compared(
    device: GpuDevice,
    calibration: CalibrationSpec,
    spec: PowerSpec,
    table: MeasuredTable,
    counts: NDArray[np.bool_],
    before: NDArray[np.float64],
    scope: str,
) -> PowerComparison | None:
    kernels = _kernels(device, calibration, spec, table)
    if kernels is None or table.watts is None or not counts.any():
        return None
    share = own_shares(table)
    shown = (share * kernels.watts + (1 - share) * before)[counts]
    long = counts if table.run_seconds is None else counts & (table.run_seconds >= LONG_RUN_S)
    return PowerComparison(
        name=table.name,
        family=table.family,
        scope=scope,
        overall=error_figures(shown, table.watts[counts]),
        long_runs=error_figures(kernels.watts[long], table.watts[long]) if long.any() else None,
        largest_w=float(kernels.watts.max()),
        limit_w=device.power_limit_w,
        energy_from=spec.told,
        measured_w=table.watts[counts],
        predicted_w=shown,
        clock=None
        if table.clock_hz is None
        else error_figures(kernels.clock_share[counts] * device.clock_hz, table.clock_hz[counts]),
    )


def _kernels(
    device: GpuDevice, calibration: CalibrationSpec, spec: PowerSpec, table: MeasuredTable
) -> KernelPower | None:
    """Each row's kernel with its predicted time; None where its energy is not modelled."""
    import numpy as np

    try:
        found = predict(device, calibration, table)
    except InputError:
        return None
    if found.activity is None:
        return None
    data = kernel_power(spec, found.activity, found.seconds, limit_w=device.power_limit_w, core_bound=found.bound == 1)
    if table.zeros is None or not table.zeros.any():
        return data
    zeros = kernel_power(
        spec, found.activity, found.seconds, limit_w=device.power_limit_w, core_bound=found.bound == 1, zeros=True
    )
    return KernelPower(
        seconds=np.where(table.zeros, zeros.seconds, data.seconds),
        watts=np.where(table.zeros, zeros.watts, data.watts),
        clock_share=np.where(table.zeros, zeros.clock_share, data.clock_share),
        joules={name: np.where(table.zeros, zeros.joules[name], data.joules[name]) for name in data.joules},
    )
