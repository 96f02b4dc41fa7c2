"""Predicted against measured times of networks on a device, as tables for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilewright.reports.columns import Column
from tilewright.reports.network_case import LIMITS
from tilewright.reports.quantity import change_text, energy_text, percent_text, seconds_text
from tilewright.reports.table import catalogue_table, figures_table, fitted_table
from tilewright.search.devices.calibrate import FIGURES, SPLIT_RULE, DeviceCalibration
from tilewright.search.devices.validate import DeviceRow, DeviceValidation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["CALIBRATION_HEADERS", "calibration_rows", "calibration_tables", "device_columns", "device_tables", "totals"]

CALIBRATION_HEADERS = ("rows", "count", "mean error", "bias", "rank")


def device_columns(found: DeviceValidation) -> list[Column]:
    """A column of texts for each thing that is known of a row; those that no row has are left out."""
    rows = found.rows
    columns = [
        Column(header="run", cells=[_name(row) for row in rows], right=False, fold=28),
        Column(header="measured", cells=[seconds_text(row.run.seconds) for row in rows]),
        Column(header="predicted", cells=[seconds_text(row.prediction.seconds) for row in rows]),
        Column(header="error", cells=[change_text(row.error + 1) for row in rows]),
        Column(header="limited by", cells=[LIMITS[row.prediction.limited_by] for row in rows], right=False, rank=2),
    ]
    if found.energy is not None:
        joules = [row.run.joules for row in rows]
        columns += [
            Column(header="measured J", cells=["" if j is None else energy_text(j * 1e12) for j in joules], rank=3),
            Column(header="predicted J", cells=[energy_text(row.prediction.energy_pj) for row in rows], rank=4),
            Column(header="energy ratio", cells=[_ratio(row.energy_ratio) for row in rows], rank=1),
        ]
    if any(row.run.notes for row in rows):
        columns.append(Column(header="notes", cells=[row.run.notes for row in rows], right=False, rank=5))
    return columns


def totals(found: DeviceValidation) -> list[tuple[str, str]]:
    """Name and value of each figure over all rows, in words."""
    overall = found.overall
    rows = [
        ("rows compared", f"{overall.n:,}" + (f"; {len(found.left_out):,} left out" if found.left_out else "")),
        ("mean error", f"{percent_text(overall.mape)} (median {percent_text(overall.median)})"),
        ("worst", percent_text(overall.worst)),
        ("bias", _bias(overall.bias)),
        ("rank correlation", _rank(overall.rank_correlation)),
        ("after one factor", f"{percent_text(found.mape_after_factor)} (all predictions times {found.factor:.3f})"),
    ]
    if found.energy is not None:
        rows.append(("energy, mean error", f"{percent_text(found.energy.mape)}, bias {_bias(found.energy.bias)}"))
    return rows


def device_tables(console: Console, found: DeviceValidation) -> list[Table]:
    """Error by row, and in all."""
    title = f"{found.machine}: predicted against measured"
    return [fitted_table(console, title, device_columns(found)), figures_table("in all", totals(found))]


def calibration_rows(found: DeviceCalibration) -> list[tuple[str, ...]]:
    """One row of texts for each part, before and after, under ``CALIBRATION_HEADERS``."""
    parts = (
        ("fitted to, before", found.fitted_before),
        ("fitted to, after", found.fitted_after),
        ("held out, before", found.held_out_before),
        ("held out, after", found.held_out_after),
    )
    return [(name, *_cells(part)) for name, part in parts]


def calibration_tables(found: DeviceCalibration) -> list[Table]:
    """The figures before and after, and the errors of both parts."""
    figures = [(FIGURES[name][0], f"{old:g}", f"{new:g}") for name, (old, new) in found.figures.items()]
    return [
        catalogue_table(f"{found.fitted.name}: fitted figures", ("figure", "before", "after"), figures),
        catalogue_table(f"errors ({SPLIT_RULE})", CALIBRATION_HEADERS, calibration_rows(found)),
    ]


def _cells(found: DeviceValidation) -> Sequence[str]:
    overall = found.overall
    return f"{overall.n:,}", percent_text(overall.mape), _bias(overall.bias), _rank(overall.rank_correlation)


def _name(row: DeviceRow) -> str:
    batch = f", batch {row.run.batch}" if row.run.batch else ""
    return f"{row.run.name}{batch}"


def _bias(mean_logarithm: float) -> str:
    """The mean logarithm of a ratio as a change."""
    import math

    return change_text(math.exp(mean_logarithm))


def _rank(value: float | None) -> str:
    return "needs three rows that differ" if value is None else f"{value:.3f}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
