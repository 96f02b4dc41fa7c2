"""Kernels of our own with the schedule that they were compiled to: Triton's, tiles given or the usual ones."""

from __future__ import annotations

import numpy as np

from tilewright.hw_models.gpu.calibration import CalibrationSpec, FamilySpec
from tilewright.hw_models.gpu.parameters import ScheduledParameters
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.launches import Launch, launches_of, rows_of
from tilewright.search.gpu.model import KernelModel, Prediction, register_model
from tilewright.search.gpu.schedules import find_schedule
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.scheduled import copy_seconds, scheduled_seconds

__all__ = ["scheduled_family", "scheduled_times"]

_MOST_RECENT = 32  # tables whose times are remembered
_recent: dict[
    tuple[int, int, GpuDevice, ScheduledParameters, str], tuple[MeasuredTable, tuple[list[float], list[int]]]
] = {}


def scheduled_family(table: MeasuredTable) -> str:
    """The family of parameters that times the table's kernels."""
    attention = table.operator in ("attention", "block_sparse_attention") and "unfused" not in table.family
    return "triton_attention" if attention else "triton_products"


def scheduled_times(
    device: GpuDevice, parameters: ScheduledParameters, table: MeasuredTable
) -> tuple[list[float], list[int]]:
    """Seconds of each row, and what limits it. Raises :class:`InputError` for a schedule that is not known here."""
    seconds, bound = [], []
    for row in rows_of(table):
        parts = [_launched(device, parameters, launch) for launch in launches_of(table, row)]
        seconds.append(sum(part for part, _ in parts))
        bound.append(max(parts)[1])
    return seconds, bound


def _launched(device: GpuDevice, parameters: ScheduledParameters, launch: Launch) -> tuple[float, int]:
    if launch.key is None:
        return copy_seconds(device, parameters, launch.work, turned=launch.turned), 2
    schedule, latencies = find_schedule(device, launch.key)
    return scheduled_seconds(device, parameters, schedule, latencies, launch.work)


def _activity(table: MeasuredTable) -> Activity:
    """Of all launches of each row: products, what blocks load from the L2, operands once from and to the DRAM."""
    works = [[launch.work for launch in launches_of(table, row)] for row in rows_of(table)]
    formats = {work.multiply_format for row in works for work in row}
    return Activity(
        macs={
            name: np.array([sum(work.macs for work in row if work.multiply_format == name) for row in works])
            for name in sorted(formats)
        },
        dram_bytes=np.array([sum(work.read_bytes + work.written_bytes for work in row) for row in works]),
        l2_bytes=np.array(
            [sum(max(work.loaded_bytes, work.read_bytes) + work.written_bytes for work in row) for row in works]
        ),
        lane_operations=np.array([sum(work.lane_operations for work in row) for row in works]),
    )


def _times_once(
    device: GpuDevice, parameters: ScheduledParameters, table: MeasuredTable
) -> tuple[list[float], list[int]]:
    """:func:`scheduled_times` of a table that is asked for again: by errors, ranks and fused rows."""
    key = (id(table.columns), id(table.seconds), device, parameters, table.family)
    if key not in _recent:
        while len(_recent) >= _MOST_RECENT:
            _recent.pop(next(iter(_recent)))
        _recent[key] = (table, scheduled_times(device, parameters, table))  # ids stay its own
    return _recent[key][1]


def _forecast(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> Prediction:
    entry: FamilySpec = calibration.family("scheduled", scheduled_family(table))
    parameters = entry.typed()
    assert isinstance(parameters, ScheduledParameters)
    seconds, bound = _times_once(device, parameters, table)
    return Prediction(
        seconds=np.array(seconds),
        bound=np.array(bound),
        activity=_activity(table),
        measured=entry.measured,
        measured_on=entry.device or calibration.device,
    )


register_model(
    KernelModel(
        name="scheduled",
        summary="kernels whose compiled schedule is known",
        covers=lambda table: table.family.startswith("triton_"),
        forecast=_forecast,
    ),
    rank=3,
)
