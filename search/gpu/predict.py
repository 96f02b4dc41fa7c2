"""Predicted times for a table of measured ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec, Parameters
from tilewright.hw_models.gpu.parameters import AttentionParameters, GemmParameters, RowwiseParameters
from tilewright.kernels.measured import MeasuredTable
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Prediction", "predict", "predict_with"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Seconds for each row of a table, and what limits it (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`)."""

    seconds: NDArray[np.float64] = field(hash=False)
    bound: NDArray[np.int64] = field(hash=False)


def predict(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> Prediction:
    """Predictions with the calibrated parameters of the table's family; raises :class:`InputError` without them."""
    return predict_with(device, calibration.family(table.operator, table.family).typed(), table)


def predict_with(device: GpuDevice, parameters: Parameters, table: MeasuredTable) -> Prediction:
    """Predictions with ``parameters``, the class of which must be that of the table's operator."""
    columns = table.columns
    if table.operator == "gemm" and isinstance(parameters, GemmParameters):
        from tilewright.sim.gpu.families import gemm_family
        from tilewright.sim.gpu.gemm import GemmShapes, gemm_forecast

        products = GemmShapes(
            m=columns["m"],
            n=columns["n"],
            k=columns["k"],
            weight_copies=table.weight_copies,
            copies=table.copies,
            sustained=table.sustained,
        )
        product = gemm_forecast(device, gemm_family(table.family), parameters, products)
        return Prediction(seconds=product.seconds, bound=product.bound)
    if table.operator == "attention" and isinstance(parameters, AttentionParameters):
        from tilewright.sim.gpu.attention import attention_family, attention_forecast

        attention = attention_forecast(device, attention_family(table.family), parameters, attention_shapes(table))
        return Prediction(seconds=attention.seconds, bound=attention.bound)
    if table.operator == "rowwise" and isinstance(parameters, RowwiseParameters):
        from tilewright.sim.gpu.rowwise import RowwiseShapes, rowwise_family, rowwise_forecast

        rows = RowwiseShapes(m=columns["m"], n=columns["n"], copies=table.copies)
        row = rowwise_forecast(device, rowwise_family(table.family), parameters, rows)
        return Prediction(seconds=row.seconds, bound=row.bound)
    raise InputError(f"{table.name}: parameters of another operator than {table.operator}")


def attention_shapes(table: MeasuredTable) -> AttentionShapes:
    """The shapes of an attention table as the simulator takes them."""
    from tilewright.sim.gpu.attention import AttentionShapes

    columns = table.columns
    return AttentionShapes(
        batch=columns["batch"],
        queries=columns["queries"],
        keys=columns["keys"],
        heads=columns["heads"],
        kv_heads=columns["kv_heads"],
        head_dim=columns["head_dim"],
        window=columns["window"],
        cache_bits=table.cache_bits,
        copies=table.copies,
    )


if TYPE_CHECKING:
    from tilewright.sim.gpu.attention import AttentionShapes
