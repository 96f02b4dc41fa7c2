"""How far predictions are from measured times: by table, size and bound, on rows that no parameter has seen."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec
from tilewright.hw_models.spec import MachineSpec
from tilewright.kernels.measured import MeasuredTable
from tilewright.progress import Progress
from tilewright.search.gpu.figures import ErrorFigures, error_figures
from tilewright.search.gpu.fused import FusedRow, compare_fused
from tilewright.search.gpu.model import calibrates
from tilewright.search.gpu.power_check import PowerComparison, compare_power
from tilewright.search.gpu.predict import predict
from tilewright.search.gpu.ranking import COMPILED, TileRanking, rank_tiles
from tilewright.search.gpu.split import calibration_rows
from tilewright.sim.gpu.device import GpuDevice, gpu_device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SIZES", "ErrorFigures", "TableValidation", "Validation", "error_figures", "same_device", "validate"]

#: Classes of measured time: (seconds below which, name).
SIZES: tuple[tuple[float, str], ...] = (
    (10e-6, "below 10 us"),
    (100e-6, "10 to 100 us"),
    (1e-3, "0.1 to 1 ms"),
    (float("inf"), "1 ms and more"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableValidation:
    """One table, predicted. ``scope``: which rows count, "held out", "all" (none of them calibrated anything) or
    "fitted" (all of them did).

    ``stand_in``: the family whose parameters were used, empty where they are the table's own;
    ``measured_on``: the device that they were fitted on, empty where they are of several. ``fitted``: errors of the
    ``n_left_out`` rows that calibrated the parameters, None where there are none.
    """

    name: str
    operator: str
    family: str
    source: str
    scope: str
    stand_in: str
    measured_on: str
    n_left_out: int
    fitted: ErrorFigures | None
    overall: ErrorFigures
    by_size: dict[str, ErrorFigures] = field(hash=False)
    by_bound: dict[str, ErrorFigures] = field(hash=False)
    measured_s: NDArray[np.float64] = field(hash=False, repr=False)
    predicted_s: NDArray[np.float64] = field(hash=False, repr=False)
    bound: NDArray[np.int64] = field(hash=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the single rows."""
        return {
            "name": self.name,
            "operator": self.operator,
            "family": self.family,
            "source": self.source,
            "scope": self.scope,
            "stand_in": self.stand_in,
            "measured_on": self.measured_on,
            "n_left_out": self.n_left_out,
            "fitted": None if self.fitted is None else self.fitted.to_dict(),
            "overall": self.overall.to_dict(),
            "by_size": {name: figures.to_dict() for name, figures in self.by_size.items()},
            "by_bound": {name: figures.to_dict() for name, figures in self.by_bound.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Every table that could be predicted, tilings ranked, fused rows beside unfused, what was left out and why.

    ``power``: the tables in which power was read, too.
    """

    machine: str
    calibrated_on: str
    tables: tuple[TableValidation, ...]
    rankings: tuple[TileRanking, ...]
    left_out: tuple[tuple[str, str], ...]
    power: tuple[PowerComparison, ...] = ()
    fused: tuple[FusedRow, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "machine": self.machine,
            "calibrated_on": self.calibrated_on,
            "tables": [table.to_dict() for table in self.tables],
            "rankings": [ranking.to_dict() for ranking in self.rankings],
            "power": [entry.to_dict() for entry in self.power],
            "fused": [row.to_dict() for row in self.fused],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each table, size and bound, and for each shape that was measured with several tilings."""
        found = []
        for table in self.tables:
            slices = {("all", ""): table.overall}
            slices |= {("size", name): figures for name, figures in table.by_size.items()}
            slices |= {("bound", name): figures for name, figures in table.by_bound.items()}
            for (by, label), figures in slices.items():
                head = {"table": table.name, "operator": table.operator, "family": table.family, "scope": table.scope}
                found.append({**head, "by": by, "class": label, **figures.to_dict(), "source": table.source})
                found[-1] |= {"stand_in": table.stand_in, "measured_on": table.measured_on}
        for ranking in self.rankings:
            shape = " ".join(f"{name}={size}" for name, size in ranking.shape.items())
            row: dict[str, Any] = {"table": ranking.table, "by": "tilings", "class": shape, "n": ranking.n_tilings}
            row |= {name: value for name, value in ranking.to_dict().items() if name not in ("shape", "n_tilings")}
            found.append(row)
        for entry in self.power:
            for label, errors in (
                ("power", entry.overall),
                ("power of long runs", entry.long_runs),
                ("clock", entry.clock),
            ):
                if errors is not None:
                    head = {"table": entry.name, "family": entry.family, "scope": entry.scope}
                    found.append({**head, "by": label, "class": "", **errors.to_dict(), "source": entry.energy_from})
        return found


def validate(
    machine: MachineSpec,
    calibration: CalibrationSpec,
    tables: Sequence[MeasuredTable],
    *,
    progress: Progress | None = None,
) -> Validation:
    """Predict every table that was measured on ``machine`` and that a model covers.

    A table that calibrated its family counts with its held-out rows, any other with all rows. Raises
    :class:`InputError` when no table can be predicted, with the reasons.
    """
    device = gpu_device(machine)
    done: list[TableValidation] = []
    rankings: list[TileRanking] = []
    left_out: list[tuple[str, str]] = []
    for position, table in enumerate(tables):
        if progress is not None:
            progress(position, len(tables), table.name)
        if not same_device(table.device, machine.base_name):
            left_out.append((table.name, f"measured on {table.device}, not on {machine.name}"))
        elif not len(table):
            left_out.append((table.name, "has no rows"))
        elif table.tile_columns:
            ranked, compared, reason = _tilings(device, calibration, table)
            rankings += ranked
            done += compared
            if reason:
                left_out.append((table.name, reason))
        else:
            try:
                done.append(_validated(device, calibration, table))
            except InputError as fault:
                left_out.append((table.name, str(fault).removeprefix(f"{table.name}: ")))
    if not done and not rankings:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out[:3])
        raise InputError(f"nothing to compare with {machine.name}: {reasons or 'no tables'}")
    return Validation(
        machine=machine.name,
        calibrated_on=calibration.device,
        tables=tuple(done),
        rankings=tuple(rankings),
        left_out=tuple(left_out),
        power=compare_power(device, calibration, [table for table in tables if table.name in {t.name for t in done}]),
        fused=compare_fused(device, calibration, [table for table in tables if table.name not in dict(left_out)]),
    )


def _tilings(
    device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable
) -> tuple[list[TileRanking], list[TableValidation], str]:
    """A table of tilings ranked, and compared where their schedules are known; why not, where it is neither."""
    ranked: list[TileRanking] = []
    reason = ""
    try:
        ranked = rank_tiles(device, calibration, table)
    except InputError as fault:
        reason = str(fault).removeprefix(f"{table.name}: ")
    if ranked and ranked[0].timed_by != COMPILED:
        return ranked, [], ""
    try:
        return ranked, [_validated(device, calibration, table)], ""
    except InputError:
        return ranked, [], reason


def _validated(device: GpuDevice, calibration: CalibrationSpec, table: MeasuredTable) -> TableValidation:
    import numpy as np

    from tilewright.sim.gpu.gemm import BOUNDS

    prediction = predict(device, calibration, table)
    calibrated_it = calibrates(prediction.measured, table.name)
    counts = ~calibration_rows(table) if calibrated_it else np.ones(len(table), dtype=bool)
    scope = "held out" if calibrated_it else "all"
    if not counts.any():  # a small table, all of which was fitted
        scope, counts = "fitted", np.ones(len(table), dtype=bool)
    measured, predicted, bound = table.seconds[counts], prediction.seconds[counts], prediction.bound[counts]
    size = np.searchsorted([limit for limit, _ in SIZES], measured, side="right")
    return TableValidation(
        name=table.name,
        operator=table.operator,
        family=table.family,
        source=table.source,
        scope=scope,
        stand_in=prediction.stand_in,
        measured_on=prediction.measured_on,
        n_left_out=int(len(table) - counts.sum()),
        fitted=error_figures(prediction.seconds[~counts], table.seconds[~counts])
        if calibrated_it and not counts.all()
        else None,
        overall=error_figures(predicted, measured),
        by_size={
            name: error_figures(predicted[size == i], measured[size == i])
            for i, (_, name) in enumerate(SIZES)
            if (size == i).any()
        },
        by_bound={
            name: error_figures(predicted[bound == i], measured[bound == i])
            for i, name in enumerate(BOUNDS)
            if (bound == i).any()
        },
        measured_s=measured,
        predicted_s=predicted,
        bound=bound,
    )


def same_device(measured_on: str, machine: str) -> bool:
    """Whether a table's device is the machine: its name stands in the device's (``NVIDIA H200`` is ``h200``)."""
    return machine.lower() in re.split(r"[^a-z0-9]+", measured_on.lower())
