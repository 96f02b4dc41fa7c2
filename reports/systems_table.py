"""Predicted beside measured rates of language models on computers, as tables for the terminal and for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.reports.columns import Column
from tilewright.reports.quantity import change_text, percent_text
from tilewright.reports.table import figures_table, fitted_table
from tilewright.search.systems.compare import SystemsComparison

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["systems_columns", "systems_tables", "systems_totals"]

TITLE = "language models on whole systems: predicted against measured"


def systems_columns(found: SystemsComparison) -> list[Column]:
    """A column of texts for each thing that is known of a row; those that no row has are left out."""
    rows = found.rows
    columns = [
        Column(header="system", cells=[row.row.system for row in rows], right=False, fold=34),
        Column(header="model", cells=[row.row.model for row in rows], right=False, fold=22),
        Column(header="measured", cells=[_rate(row.row.tokens_per_s) for row in rows]),
        Column(header="predicted", cells=[_rate(row.tokens_per_s) for row in rows]),
        Column(header="error", cells=[change_text(row.error + 1) for row in rows]),
        Column(header="limited by", cells=[row.limited_by for row in rows], right=False, rank=2),
        Column(header="batch", cells=[str(row.batch) for row in rows], rank=3),
        Column(header="runtime", cells=[row.row.runtime or "llama.cpp" for row in rows], right=False, rank=4),
        Column(header="weights", cells=[row.stored for row in rows], right=False, rank=6),
    ]
    if any(row.row.watts for row in rows):
        columns.append(Column(header="measured W", cells=[_watts(row.row.watts) for row in rows], rank=5))
        columns.append(Column(header="predicted W", cells=[_watts(row.watts) for row in rows], rank=5))
    return columns


def systems_totals(found: SystemsComparison) -> list[tuple[str, str]]:
    """Name and value of each figure over all rows, in words."""
    overall = found.overall
    left = f"; {len(found.left_out):,} left out" if found.left_out else ""
    rows = [
        ("rows compared", f"{overall.n:,}{left}"),
        ("median error", percent_text(overall.median)),
        ("mean error", percent_text(overall.mape)),
        ("worst", percent_text(overall.worst)),
    ]
    if len(found.by_table) > 1:
        rows += [
            (name, f"median {percent_text(part.median)}, mean {percent_text(part.mape)} of {part.n:,}")
            for name, part in found.by_table.items()
        ]
    return [*rows, *found.remarks]


def systems_tables(console: Console, found: SystemsComparison) -> list[Table]:
    """Error by row, and in all; rates in tokens a second."""
    return [fitted_table(console, TITLE, systems_columns(found)), figures_table("in all", systems_totals(found))]


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _watts(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
