"""Designs of a sweep side by side, made once: terminal, page and Markdown show the same figures in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.reports.columns import Column, TextTable
from tilewright.reports.sweep.case import FIGURES
from tilewright.reports.sweep.names import parameter_names
from tilewright.search.sweep.spec import Sweep

__all__ = ["design_columns", "number_text"]

_SHOWN = ("latency_ms", "energy_mj", "power_w", "peak_tops", "area_mm2")


def design_columns(sweep: Sweep, rows: Sequence[Mapping[str, Any]], *, with_design: bool = True) -> TextTable:
    """Workload, dataflow and figures of each row and, ``with_design``, its parameters; their paths are the short names.

    The area is there where the sweep knows it.
    """
    columns = [
        Column(header="workload", cells=[row["workload"] for row in rows], right=False),
        Column(header="dataflow", cells=[row["dataflow"] for row in rows], right=False),
    ]
    for figure in (figure for figure in FIGURES if figure.id in _SHOWN):
        if figure.id != "area_mm2" or sweep.area is not None:
            cells = ["" if (value := figure.read(row)) is None else f"{value:,.4g}" for row in rows]
            columns.append(Column(header=f"{figure.label}, {figure.unit}", cells=cells))
    named = parameter_names(sweep.machine, sweep.paths if with_design else ())
    for path, (name, unit) in named.items():
        header = f"{name}, {unit}" if unit else name
        columns.append(Column(header=header, short=path, cells=[number_text(row[path]) for row in rows]))
    return TextTable(tuple(columns))


def number_text(value: Any) -> str:
    """A value of a parameter: numbers with six digits, all else as it is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,.6g}" if is_number else str(value)
