"""Calls that are several library kernels, one after the other: a perceptron, a norm before a product."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.kernels.measured import MeasuredOperator, MeasuredTable
from tilewright.search.gpu.model import KernelModel, Prediction, model_of, register_model
from tilewright.sim.gpu.activity import total
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Sizes = NDArray[np.int64]

__all__: list[str] = []

_FAMILIES = ("torch_mlp", "torch_norm_gemm")


def _covers(table: MeasuredTable) -> bool:
    return table.family in _FAMILIES and not table.tile_columns


def _forecast(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> Prediction:
    """The kernels' times added. What one writes the next finds in the L2, as far as it fits; weights rotate."""
    size = table.columns
    if table.operator == "mlp":
        m, hidden = size["m"], size["hidden"]
        kernels = [
            _kernel(table, "gemm", "bf16", m=m, n=hidden, k=size["width"]),
            _kernel(table, "rowwise", "gelu_graph", fresh=True, m=m, n=hidden),
            _kernel(table, "gemm", "bf16", fresh=True, m=m, n=size["out_width"], k=hidden),
        ]
    else:
        kernels = [
            _kernel(table, "rowwise", "layernorm_graph", m=size["m"], n=size["k"]),
            _kernel(table, "gemm", "bf16", fresh=True, m=size["m"], n=size["n"], k=size["k"]),
        ]
    parts = [model_of(kernel).forecast(device, calibration, kernel) for kernel in kernels]
    seconds = np.stack([part.seconds for part in parts])
    bounds = np.stack([part.bound for part in parts])
    activities = [part.activity for part in parts if part.activity is not None]
    return Prediction(
        seconds=seconds.sum(axis=0),
        bound=np.take_along_axis(bounds, seconds.argmax(axis=0)[None], axis=0)[0],
        activity=total(activities) if len(activities) == len(parts) else None,
    )


def _kernel(
    table: MeasuredTable, operator: MeasuredOperator, family: str, *, fresh: bool = False, **columns: Sizes
) -> MeasuredTable:
    """One kernel of the sequence as a table; ``fresh``: its activations were just written."""
    return replace(
        table,
        operator=operator,
        family=family,
        columns=columns,
        copies=1 if fresh else table.copies,
        weight_copies=table.copies if fresh else table.weight_copies,
    )


register_model(
    KernelModel(name="sequences", summary="several library kernels in one call", covers=_covers, forecast=_forecast),
    rank=2,
)
