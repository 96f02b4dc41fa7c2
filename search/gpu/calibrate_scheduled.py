"""Fit the few parameters of kernels with a compiled schedule to the calibration part of tables of tile sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import numpy as np

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import FamilySpec
from tilewright.hw_models.gpu.parameters import ScheduledParameters
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.calibrate import parameter_bounds
from tilewright.search.gpu.model import TABLES_APART
from tilewright.search.gpu.models.scheduled import scheduled_family, scheduled_times
from tilewright.search.gpu.split import calibration_rows
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["calibrate_scheduled", "is_scheduled"]

_START = ScheduledParameters(
    launch_us=2.15,
    hit_cycles=270,
    miss_cycles=400,
    memory_share=0.9,
    cache_share=0.65,
    overlap_loss=0.19,
    sustained_share=0.6934,
)
_FREE = ("launch_us", "miss_cycles", "overlap_loss")
_SOFT = 0.1  # residuals beyond 10 % count linearly
_EVALUATIONS = 100
_FEWEST_ROWS = 10
_SPLIT = "calibration where the CRC-32 of a family of shapes is odd, the rest held out"


def is_scheduled(table: MeasuredTable) -> bool:
    """Whether the table's kernels are timed by their compiled schedules and can calibrate (one kernel a call)."""
    return table.family.startswith("triton_") and "unfused" not in table.family


def calibrate_scheduled(device: GpuDevice, tables: Sequence[MeasuredTable]) -> list[FamilySpec]:
    """One set of parameters for all products in ``tables`` and one for attention, each where there are enough rows.

    A launch takes both alike: attention's, which lasts long, tells it less well and has that of the products.
    Raises :class:`InputError` for a schedule that is not known and cannot be compiled here.
    """
    groups: dict[str, list[MeasuredTable]] = {}
    for table in tables:
        if is_scheduled(table):
            groups.setdefault(scheduled_family(table), []).append(table)
    fitted: list[FamilySpec] = []
    for name, group in sorted(groups.items(), reverse=True):  # products first
        if _n_calibrating(group) >= _FEWEST_ROWS:
            known = {"launch_us": fitted[0].parameters["launch_us"]} if fitted else {}
            fitted.append(_fitted(device, name, group, known))
    return fitted


def _n_calibrating(tables: Sequence[MeasuredTable]) -> int:
    return sum(int(calibration_rows(table).sum()) for table in tables)


def _fitted(device: GpuDevice, name: str, tables: Sequence[MeasuredTable], known: Mapping[str, float]) -> FamilySpec:
    from scipy.optimize import minimize

    parts = [table.rows(np.flatnonzero(calibration_rows(table))) for table in tables]
    parts = [part for part in parts if len(part)]
    bounds = parameter_bounds("scheduled")
    free = [each for each in _FREE if each not in known]
    begin = replace(_START, **known)
    low, high = (np.array([bounds[each][side] for each in free]) for side in (0, 1))
    start = np.array([float(getattr(begin, each)) for each in free])

    def cost(point: NDArray[np.float64]) -> float:
        parameters = replace(begin, **dict(zip(free, map(float, point * start), strict=True)))
        errors = np.concatenate([_log_errors(device, parameters, part) for part in parts])
        return float(np.sum(np.sqrt(1 + (errors / _SOFT) ** 2) - 1))

    # Without gradients: what a latency costs has kinks, where one block or the other waits.
    found = (
        start
        * minimize(
            cost,
            np.ones(len(free)),
            method="Nelder-Mead",
            bounds=list(zip(low / start, high / start, strict=True)),
            options={"maxfev": _EVALUATIONS, "xatol": 0.01, "fatol": 0.01, "initial_simplex": _simplex(len(free))},
        ).x
    )
    values = {each.name: float(getattr(begin, each.name)) for each in fields(begin)}
    values |= {each: float(f"{value:.4g}") for each, value in zip(free, found, strict=True)}
    others = [table.rows(np.flatnonzero(~calibration_rows(table))) for table in tables]
    errors = [_log_errors(device, ScheduledParameters(**values), part) for part in others if len(part)]
    if not errors:
        raise InputError(f"{name}: no rows held out; allowed tables with more shapes")
    return FamilySpec(
        operator="scheduled",
        family=name,
        kind="calibrated",
        measured=TABLES_APART.join(table.name for table in tables),
        split=_SPLIT,
        n_calibration=sum(map(len, parts)),
        n_held_out=sum(map(len, errors)),
        held_out_error=float(np.mean(np.abs(np.expm1(np.concatenate(errors))))),
        fixed=tuple(sorted(set(values) - set(free))),
        parameters=values,
    )


def _simplex(n: int) -> NDArray[np.float64]:
    """Where the search begins: the usual values, and each of them in turn at half."""
    return np.ones((n + 1, n)) - 0.5 * np.eye(n + 1, n, -1)


def _log_errors(device: GpuDevice, parameters: ScheduledParameters, part: MeasuredTable) -> NDArray[np.float64]:
    """Logarithm of predicted over measured."""
    seconds, _ = scheduled_times(device, parameters, part)
    return np.asarray(np.log(np.array(seconds) / part.seconds))
