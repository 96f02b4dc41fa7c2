"""Rich tables of a search over bit widths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.reports.bits.words import budget_rows, cost_word, point_cells, proof_text
from tilewright.reports.table import Column, fitted_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tilewright.search.bits.choose import BitsResult

__all__ = ["budget_table", "layers_table", "points_table"]

_MOST_ROWS = 80
_BUDGET_RANKS = {"widest formats": 1}  # they stand in the table before, too
_SUMS = "sums off: what the costs of single operators add up to, against the run of the whole network"


def layers_table(console: Console, result: BitsResult) -> Table:
    """The formats of every layer, with what it adds to the sensitivity."""
    rows = result.rows()
    shown = rows[:_MOST_ROWS]
    columns = [
        Column(header="layer", cells=[row["layer"] for row in shown], right=False),
        Column(header="weights", cells=[row["weights"] for row in shown], right=False),
        Column(header="activations", cells=[row["activations"] for row in shown], right=False),
        Column(header="sensitivity", cells=[f"{row['sensitivity']:.3g}" for row in shown]),
        Column(header="cycles", cells=[f"{row['cycles']:,}" for row in shown], rank=1),
        Column(header="DRAM bytes", cells=[f"{row['dram_bytes']:,}" for row in shown], rank=3),
        Column(header="tied to", cells=[row["tied_to"] for row in shown], right=False, rank=2),
    ]
    caption = f"{len(rows) - len(shown)} more with --csv" if len(rows) > len(shown) else ""
    return fitted_table(console, f"{result.network} on {result.machine}: formats by layer", columns, caption=caption)


def budget_table(console: Console, result: BitsResult) -> Table:
    """Every cost against its budget, which of them bind, and how far the sums of operators' costs were off."""
    title = (
        f"{result.network} on {result.machine}: {', '.join(one.text for one in result.budgets)} ({proof_text(result)})"
    )
    headers = ("cost", "widest formats", "budget", "reached", "change", "", "sums off")
    columns = [
        Column(header=header, cells=cells, right=index not in (0, 5), rank=_BUDGET_RANKS.get(header, 0))
        for index, (header, cells) in enumerate(zip(headers, zip(*budget_rows(result), strict=True), strict=True))
    ]
    return fitted_table(console, title, columns, caption=_SUMS, whole="--json")


def points_table(console: Console, result: BitsResult) -> Table:
    """The chosen formats beside the same option for every layer: costs downwards, so it fits a narrow terminal."""
    names = ["sensitivity", *(cost_word(kind) for kind in result.chosen.costs)]
    columns = [Column(header="", cells=names, right=False)]
    for point in (result.chosen, *result.uniform):
        name, *cells = point_cells(point)
        columns.append(Column(header=name, cells=cells))
    return fitted_table(console, "beside uniform formats", columns)
