"""Fused against unfused on real hardware: the measured ratio of times beside the predicted one, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.kernels.measured import MeasuredTable
from tilewright.search.gpu.predict import predict
from tilewright.sim.gpu.device import GpuDevice

__all__ = ["FusedRow", "compare_fused", "fused_summary"]

#: The fused family of each operator, and what it is held against: by its ending where a family has several.
_UNFUSED = {"triton_fused_mlp": "torch_mlp", "triton_fused_norm_gemm": "torch_norm_gemm"}
_KINDS = ("encoder", "prefill", "decode")
_UNFUSED |= {f"triton_fused_{kind}": f"triton_unfused_{kind}" for kind in _KINDS}
_CLEAR = 1.1  # a winner is asked for where the measured times differ by more than 10 %


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedRow:
    """One shape and tiling: unfused over fused time, above 1 where fused wins. ``error``: of the predicted ratio, as a
    share of the measured one. ``right_winner``: None where the measured times are within 10 % of each other.
    """

    operator: str
    shape: dict[str, int] = field(hash=False)
    tiles: dict[str, int] = field(hash=False)
    measured_ratio: float
    predicted_ratio: float

    @property
    def error(self) -> float:
        return self.predicted_ratio / self.measured_ratio - 1

    @property
    def right_winner(self) -> bool | None:
        if 1 / _CLEAR <= self.measured_ratio <= _CLEAR:
            return None
        return (self.predicted_ratio > 1) == (self.measured_ratio > 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"error": self.error, "right_winner": self.right_winner}


def compare_fused(
    device: GpuDevice, calibration: CalibrationSpec, tables: Sequence[MeasuredTable]
) -> tuple[FusedRow, ...]:
    """The rows of fused kernels in ``tables`` whose shape was measured unfused too, where both can be predicted."""
    unfused: dict[tuple[str, tuple[tuple[str, int], ...]], tuple[float, float]] = {}
    for table in tables:
        if table.family in _UNFUSED.values() and not table.tile_columns:
            unfused |= {(table.family, shape): times for shape, _, times in _predicted_rows(device, calibration, table)}
    rows = []
    for table in tables:
        other = _UNFUSED.get(table.family)
        if other is None or not any(family == other for family, _ in unfused):
            continue
        for shape, tiles, (measured, predicted) in _predicted_rows(device, calibration, table):
            if (other, shape) in unfused:
                by_kernels = unfused[other, shape]
                rows.append(
                    FusedRow(
                        operator=table.operator,
                        shape=dict(shape),
                        tiles=tiles,
                        measured_ratio=by_kernels[0] / measured,
                        predicted_ratio=by_kernels[1] / predicted,
                    )
                )
    return tuple(rows)


def _predicted_rows(
    device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable
) -> list[tuple[tuple[tuple[str, int], ...], dict[str, int], tuple[float, float]]]:
    """Shape, tiles, measured and predicted seconds of each row; nothing where there is no model."""
    try:
        predicted = predict(device, calibration, table).seconds
    except InputError:
        return []
    names = [name for name in table.columns if not name.startswith("tile_")]
    found = []
    for at in range(len(table)):
        shape = tuple((name, int(table.columns[name][at])) for name in names)
        tiles = {name.removeprefix("tile_"): int(table.columns[name][at]) for name in table.tile_columns}
        found.append((shape, tiles, (float(table.seconds[at]), float(predicted[at]))))
    return found


def fused_summary(rows: Sequence[FusedRow]) -> dict[str, dict[str, float]]:
    """By operator: ``n`` rows, mean and worst ``error`` of the ratio, ``n_clear`` winners, ``n_right`` of them."""
    summary = {}
    for operator in sorted({row.operator for row in rows}):
        errors = [abs(row.error) for row in rows if row.operator == operator]
        winners = [row.right_winner for row in rows if row.operator == operator and row.right_winner is not None]
        summary[operator] = {
            "n": float(len(errors)),
            "mean_error": sum(errors) / len(errors),
            "worst_error": max(errors),
            "n_clear": float(len(winners)),
            "n_right": float(sum(winners)),
        }
    return summary
