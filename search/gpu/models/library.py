"""Kernels of libraries with calibrated parameters: products, attention, row-wise operators."""

from __future__ import annotations

from typing import cast

from tilewright.hw_models.gpu.calibration import PARAMETERS_OF_OPERATOR, CalibrationSpec, Operator
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.model import KernelModel, Prediction, register_model
from tilewright.search.gpu.predict import predict_with, with_activity
from tilewright.search.gpu.stand_in import family_names, parameters_of
from tilewright.sim.gpu.device import GpuDevice

__all__: list[str] = []


def _covers(table: MeasuredTable) -> bool:
    if table.tile_columns or table.operator not in PARAMETERS_OF_OPERATOR:
        return False
    return table.family in family_names(table.operator)


def _forecast(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> Prediction:
    chosen = parameters_of(device, calibration, cast(Operator, table.operator), table.family)
    found = with_activity(device, chosen.parameters, table, predict_with(device, chosen.parameters, table))
    return Prediction(
        seconds=found.seconds,
        bound=found.bound,
        activity=found.activity,
        stand_in=chosen.stand_in,
        measured=chosen.measured,
        measured_on=chosen.measured_on,
    )


register_model(
    KernelModel(name="library", summary="calibrated kernels of libraries", covers=_covers, forecast=_forecast), rank=1
)
