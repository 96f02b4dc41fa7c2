"""Fit the energy figures of a board to the power of the calibration part of tables: least squares of its logarithm.

The times are the measured ones, so that what a model of time misses is not paid for in picojoules. What a table says
little about stays near where the fit begins: a weak pull holds each figure there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.hw_models.gpu.power import PowerParameters, PowerSpec
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.meter import own_shares, shown_before
from tilewright.search.gpu.power_check import by_file, compare_power
from tilewright.search.gpu.predict import predict
from tilewright.search.gpu.split import power_rows
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.power import kernel_power

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["calibrate_power"]

#: Where fits begin: an H100 SXM's own energy counter over products, copies and exponentials.
_START = PowerParameters(
    static_w=125,
    multiply_pj={"bf16": 2.4, "fp8_e4m3": 1.3, "int8": 1.1},
    lane_pj=4,
    l2_pj_per_byte=55,
    dram_pj_per_byte=80,
    voltage_slope=0.9,
    limit_share=0.99,
    zeros_share=0.25,
)
#: How far, as logarithm, each figure may stray where nothing is known.
_PULL = {
    "static_w": 0.02, "lane_pj": 0.1, "l2_pj_per_byte": 0.5, "dram_pj_per_byte": 0.5, "voltage_slope": 0.2,
    "limit_share": 0.01,
}  # fmt: skip
_PULL_MULTIPLY = 0.7
_MOST_ROWS = 2500  # of a table, drawn once
_LEAST_SHARE = 0.3  # of a reading that is of the row's own kernel
_SOFT = 0.05
_WEIGHT, _LEAST_WEIGHT = 0.2, 0.05  # of the pull: against _MOST_ROWS rows, and against a few
_IDLE_KNOWN = 1e-6  # how far static power strays where it was measured
_SPLIT = (
    "as for the times of each table, all of a table of fewer than ten rows; "
    "readings of which less than 30 % is the row's own are left out of the fit"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Rows that count: what they did, and what was measured."""

    activity: Activity = field(hash=False)
    seconds: NDArray[np.float64] = field(hash=False)
    core_bound: NDArray[np.bool_] = field(hash=False)
    watts: NDArray[np.float64] = field(hash=False)
    share: NDArray[np.float64] = field(hash=False)
    before: NDArray[np.float64] = field(hash=False)
    clock: NDArray[np.float64] | None = field(hash=False)


def calibrate_power(
    device: GpuDevice, calibration: CalibrationSpec, tables: Sequence[MeasuredTable], *, limit_w: float | None = None
) -> PowerSpec:
    """Energy figures of ``device``'s board from the ``tables`` that hold power; others are passed over.

    ``calibration``: parameters of the kernels, whose tiles say what moves; ``limit_w``: the limit while it was
    measured, the device's own if not given. Raises :class:`InputError` where no table with power has kernels whose
    energy is modelled.
    """

    powered = [table for table in tables if table.watts is not None and len(table)]
    parts = {table.name: power_rows(table) for table in powered}
    idle_w = _idle_w(powered)
    start = replace(_START, static_w=idle_w)
    rows, zeros, used = [], [], []
    for of_file in by_file(powered):
        befores = shown_before(of_file, [parts[table.name] for table in of_file], idle_w)
        for table, before in zip(of_file, befores, strict=True):
            found = _rows(device, calibration, table, parts[table.name], before)
            if found is not None:
                rows.append(found)
                used.append(table)
            if table.zeros is not None:
                of_zeros = _rows(device, calibration, table, parts[table.name], before, zeros=True)
                zeros += [] if of_zeros is None else [of_zeros]
    if not rows:
        raise InputError(f"{device.name}: no table holds the power of kernels that are modelled")
    limit_w = limit_w or device.power_limit_w
    told = any(table.idle_w is not None for table in used)
    pull = _PULL | {"static_w": _IDLE_KNOWN} if told else _PULL
    parameters = _fit(rows, start, pull, _formats(rows), limit_w=limit_w, device=device.boards[0])
    fitted = PowerSpec(
        device=device.boards[0],
        kind="calibrated",
        measured=tuple(table.name for table in used),
        split=_SPLIT,
        n_calibration=sum(len(each.seconds) for each in rows),
        limit_w=limit_w,
        parameters=replace(parameters, zeros_share=_zeros_share(zeros, parameters, limit_w)),
    )
    checked = compare_power(device, calibration, used, power=fitted)
    n_checked = sum(each.overall.n for each in checked if each.scope == "held out")
    if not n_checked:
        return fitted
    total = sum(each.overall.mape * each.overall.n for each in checked if each.scope == "held out")
    return replace(fitted, n_held_out=n_checked, held_out_error=float(f"{total / n_checked:.4g}"))


def _zeros_share(rows: Sequence[_Rows], parameters: PowerParameters, limit_w: float) -> float:
    """The share that explains the rows whose data were zeros; as the fit began where there are none."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    if not rows:
        return parameters.zeros_share

    def misses(share: float) -> float:
        now = PowerSpec(
            device="-", kind="calibrated", limit_w=limit_w, parameters=replace(parameters, zeros_share=float(share))
        )
        return sum(float(np.sum(np.log(_power(now, each, limit_w, zeros=True) / each.watts) ** 2)) for each in rows)

    return float(f"{minimize_scalar(misses, bounds=(0.01, 1), method='bounded').x:.3g}")


def _power(spec: PowerSpec, rows: _Rows, limit_w: float, *, zeros: bool = False) -> NDArray[np.float64]:
    return kernel_power(
        spec, rows.activity, rows.seconds, limit_w=limit_w, core_bound=rows.core_bound, zeros=zeros
    ).watts


def _idle_w(tables: Sequence[MeasuredTable]) -> float:
    """Power with nothing running: as measured, else the least that any row shows."""
    told = [table.idle_w for table in tables if table.idle_w is not None]
    least = [float(table.watts.min()) for table in tables if table.watts is not None]
    return min(told) if told else min(least, default=_START.static_w)


def _rows(
    device: GpuDevice,
    calibration: CalibrationSpec,
    table: MeasuredTable,
    calibrating: NDArray[np.bool_],
    before: NDArray[np.float64],
    *,
    zeros: bool = False,
) -> _Rows | None:
    import numpy as np

    try:
        found = predict(device, calibration, table)
    except InputError:
        return None
    share = own_shares(table)
    mask = calibrating & (share >= _LEAST_SHARE)
    if table.zeros is not None:
        mask &= table.zeros == zeros
    if found.activity is None or table.watts is None or not mask.any():
        return None
    if mask.sum() > _MOST_ROWS:
        kept = np.random.default_rng(0).choice(np.flatnonzero(mask), _MOST_ROWS, replace=False)
        mask = np.zeros(len(table), dtype=bool)
        mask[kept] = True
    return _Rows(
        activity=found.activity.rows(mask),
        seconds=table.seconds[mask],
        core_bound=found.bound[mask] == 1,
        watts=table.watts[mask],
        share=share[mask],
        before=before[mask],
        clock=None if table.clock_hz is None else table.clock_hz[mask] / device.clock_hz,
    )


def _formats(rows: Sequence[_Rows]) -> list[str]:
    return sorted({name for each in rows for name in each.activity.macs})


def _fit(
    rows: Sequence[_Rows],
    start: PowerParameters,
    pull: Mapping[str, float],
    formats: Sequence[str],
    *,
    limit_w: float,
    device: str,
) -> PowerParameters:
    """Each figure as its start times e to the power of its pull: the pull is the unit, and costs its square."""
    import numpy as np
    from scipy.optimize import least_squares

    names = [*pull, *formats]
    first = np.array([getattr(start, name) for name in pull] + [start.of_format(name) for name in formats])
    unit = np.array([*pull.values()] + [_PULL_MULTIPLY] * len(formats))
    n_rows = sum(len(each.seconds) for each in rows)
    weight = max(_WEIGHT * np.sqrt(min(n_rows / _MOST_ROWS, 1.0)), _LEAST_WEIGHT)
    most = {"limit_share": 1.0, "voltage_slope": 1.3}

    def named(point: NDArray[np.float64]) -> PowerParameters:
        values = dict(zip(names, map(float, first * np.exp(point * unit)), strict=True))
        values |= {name: min(values[name], limit) for name, limit in most.items()}
        return _named({name: float(f"{value:.4g}") if rounds else value for name, value in values.items()}, start)

    rounds = False

    def residuals(point: NDArray[np.float64]) -> NDArray[np.float64]:
        now = PowerSpec(device=device, kind="calibrated", limit_w=limit_w, parameters=named(point))
        errors = [point * weight]
        for each in rows:
            power = kernel_power(now, each.activity, each.seconds, limit_w=limit_w, core_bound=each.core_bound)
            errors.append(np.log((each.share * power.watts + (1 - each.share) * each.before) / each.watts))
            if each.clock is not None:
                errors.append(np.log(power.clock_share / each.clock))
        return np.concatenate(errors)

    found = least_squares(residuals, np.zeros(len(names)), bounds=(-5, 5), loss="soft_l1", f_scale=_SOFT)
    rounds = True
    return named(found.x)


def _named(values: Mapping[str, float], start: PowerParameters) -> PowerParameters:
    multiply = dict(start.multiply_pj) | {name: value for name, value in values.items() if name not in _PULL}
    return replace(start, multiply_pj=multiply, **{name: values[name] for name in _PULL})
