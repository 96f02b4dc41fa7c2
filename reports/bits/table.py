"""Rich tables of a search over bit widths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tilewright.reports.bits.columns import budget_columns, layer_columns, point_columns
from tilewright.reports.bits.words import proof_text
from tilewright.reports.columns import sideways
from tilewright.reports.table import fitted_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tilewright.search.bits.choose import BitsResult

__all__ = ["budget_table", "layers_table", "points_table"]

_MOST_ROWS = 80
_SUMS = "sums off: what the costs of single operators add up to, against the run of the whole network"


def layers_table(console: Console, result: BitsResult) -> Table:
    """The formats of every layer, with what it adds to the sensitivity."""
    table = layer_columns(result)
    columns = [replace(column, cells=column.cells[:_MOST_ROWS]) for column in table.columns]
    more = len(table.rows) - _MOST_ROWS
    caption = f"{more} more with --csv" if more > 0 else ""
    return fitted_table(console, f"{result.network} on {result.machine}: formats by layer", columns, caption=caption)


def budget_table(console: Console, result: BitsResult) -> Table:
    """Every cost against its budget, which of them bind, and how far the sums of operators' costs were off."""
    title = (
        f"{result.network} on {result.machine}: {', '.join(one.text for one in result.budgets)} ({proof_text(result)})"
    )
    return fitted_table(console, title, budget_columns(result).columns, caption=_SUMS, whole="--json")


def points_table(console: Console, result: BitsResult) -> Table:
    """The chosen formats beside the same option for every layer: costs downwards, so it fits a narrow terminal."""
    table = point_columns((result.chosen, *result.uniform))
    return fitted_table(console, "beside uniform formats", sideways(table))
