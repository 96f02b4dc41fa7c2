"""Kernels of libraries with calibrated parameters: products, attention, row-wise operators."""

from __future__ import annotations

from typing import Any, cast

from tilewright.hw_models.gpu.calibration import PARAMETERS_OF_OPERATOR, CalibrationSpec, Operator
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.model import KernelModel, Prediction, register_model
from tilewright.search.gpu.predict import predict_with
from tilewright.search.gpu.stand_in import family_names, kernel_family, parameters_of
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice

__all__: list[str] = []


def _covers(table: MeasuredTable) -> bool:
    if table.tile_columns or table.operator not in PARAMETERS_OF_OPERATOR:
        return False
    return table.family in family_names(table.operator)


def _forecast(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> Prediction:
    chosen = parameters_of(device, calibration, cast(Operator, table.operator), table.family)
    found = predict_with(device, chosen.parameters, table)
    return Prediction(
        seconds=found.seconds,
        bound=found.bound,
        activity=_activity(device, chosen.parameters, table) if found.activity is None else found.activity,
        stand_in=chosen.stand_in,
        measured=chosen.measured,
        measured_on=chosen.measured_on,
    )


def _activity(device: GpuDevice, parameters: Any, table: MeasuredTable) -> Activity:
    """Of scans, convolutions, steps of a state and lists, whose times are told without."""
    from tilewright.sim.gpu.listed_activity import listed_activity

    family = kernel_family(cast(Operator, table.operator), table.family)
    columns = {name: values.astype(float) for name, values in table.columns.items()}
    return listed_activity(device, table.operator, family, parameters, columns)


register_model(
    KernelModel(name="library", summary="calibrated kernels of libraries", covers=_covers, forecast=_forecast), rank=1
)
