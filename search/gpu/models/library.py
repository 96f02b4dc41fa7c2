"""Kernels of libraries with calibrated parameters: products, attention, row-wise operators."""

from __future__ import annotations

from typing import Any, cast

from tilewright.hw_models.gpu.calibration import PARAMETERS_OF_OPERATOR, CalibrationSpec, Operator
from tilewright.kernels.measured import MeasuredTable
from tilewright.registry import Registry
from tilewright.search.gpu.model import KernelModel, Prediction, register_model
from tilewright.search.gpu.predict import predict_with
from tilewright.search.gpu.stand_in import parameters_of
from tilewright.sim.gpu.attention import ATTENTION_FAMILIES
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.experts import EXPERTS_FAMILIES
from tilewright.sim.gpu.families import GEMM_FAMILIES
from tilewright.sim.gpu.latent import LATENT_FAMILIES
from tilewright.sim.gpu.rowwise import ROWWISE_FAMILIES

__all__: list[str] = []

_FAMILIES: dict[str, Registry[Any]] = {
    "gemm": GEMM_FAMILIES,
    "attention": ATTENTION_FAMILIES,
    "rowwise": ROWWISE_FAMILIES,
    "experts": EXPERTS_FAMILIES,
    "latent": LATENT_FAMILIES,
}


def _covers(table: MeasuredTable) -> bool:
    known = _FAMILIES[table.operator].names() if table.operator in PARAMETERS_OF_OPERATOR else ()
    return not table.tile_columns and table.family in known


def _forecast(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> Prediction:
    chosen = parameters_of(device, calibration, cast(Operator, table.operator), table.family)
    found = predict_with(device, chosen.parameters, table)
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
