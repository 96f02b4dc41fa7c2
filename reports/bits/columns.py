"""Tables of a search over bit widths, made once: terminal and page show the same figures in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.reports.bits.words import cost_word
from tilewright.reports.columns import Column, TextTable
from tilewright.reports.quantity import change_text, percent_text
from tilewright.search.bits.budget import amount_text
from tilewright.search.bits.choose import BitPoint, BitsResult

__all__ = ["budget_columns", "layer_columns", "point_columns"]


def budget_columns(result: BitsResult) -> TextTable:
    """For each cost: the widest formats, the limit, what was reached, whether it binds, and the error of the sums."""
    costs, limits, errors = result.chosen.costs, result.limits, result.model_error
    widest = result.reference.costs
    binds = ["binds" if kind in result.binding else "slack" if kind in limits else "" for kind in costs]
    off = [_error_text(errors[kind]) if kind in errors else "exact" for kind in costs]
    columns = (
        Column(header="cost", cells=[cost_word(kind) for kind in costs], right=False),
        Column(header="widest formats", cells=[amount_text(kind, widest[kind]) for kind in costs], rank=1),
        Column(header="budget", cells=[amount_text(kind, limits[kind]) if kind in limits else "" for kind in costs]),
        Column(header="reached", cells=[amount_text(kind, reached) for kind, reached in costs.items()]),
        Column(header="change", cells=[change_text(reached / max(1, widest[kind])) for kind, reached in costs.items()]),
        Column(header="binding", cells=binds, right=False),
        Column(header="sum of operators against the run", short="sums off", cells=off),
    )
    return TextTable(columns)


def _error_text(error: float) -> str:
    return change_text(1 + error).replace("no change", "under 0.01 %")


def point_columns(points: Sequence[BitPoint], *, best_row: int | None = None) -> TextTable:
    """Formats with their sensitivity and costs, a row for each point."""
    kinds = list(points[0].costs) if points else []
    columns = (
        Column(header="formats", cells=[point.name for point in points], right=False),
        Column(header="sensitivity", cells=[f"{point.sensitivity:.4g}" for point in points]),
        *(
            Column(header=cost_word(kind), cells=[amount_text(kind, point.costs[kind]) for point in points])
            for kind in kinds
        ),
    )
    return TextTable(columns, best_row)


def layer_columns(result: BitsResult) -> TextTable:
    """The formats of every layer, with what it adds to the sensitivity."""
    rows = result.rows()
    total = sum(row["sensitivity"] / (1 + len(row["tied_to"].split())) for row in rows)
    shares = [percent_text(row["sensitivity"] / total) if total > 0 else "" for row in rows]
    columns = [
        Column(header="layer", cells=[row["layer"] for row in rows], right=False),
        Column(header="weights", cells=[row["weights"] for row in rows], right=False),
        Column(header="activations", cells=[row["activations"] for row in rows], right=False),
        Column(header="sensitivity", cells=[f"{row['sensitivity']:.3g}" for row in rows]),
        Column(header="share", cells=shares, rank=4),
        Column(header="cycles", cells=[f"{row['cycles']:,}" for row in rows], rank=1),
        Column(header="DRAM bytes", cells=[f"{row['dram_bytes']:,}" for row in rows], rank=3),
        Column(header="tied to", cells=[row["tied_to"] for row in rows], right=False, rank=2),
    ]
    if any(row["method"] for row in rows):
        columns.insert(3, Column(header="method", cells=[row["method"] for row in rows], right=False, rank=5))
    return TextTable(tuple(columns))
