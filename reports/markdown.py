"""Comparisons in Markdown: layers x dataflows, or machines."""

from __future__ import annotations

from tilewright.reports.columns import machine_columns
from tilewright.reports.pairs import PairTable, pair_table
from tilewright.reports.published import published_headline, published_rows
from tilewright.reports.ranking import BASELINE_DATAFLOW, OUR_DATAFLOW, speedups
from tilewright.sim.machine_comparison import MachineComparison
from tilewright.sim.result import ComparisonResult

__all__ = ["comparison_markdown", "machines_markdown", "markdown_table"]


def comparison_markdown(comparison: ComparisonResult, *, ours: str = OUR_DATAFLOW) -> str:
    """Cycles and energy of every workload with every dataflow, and the published headline where there is one.

    The fewest cycles (the least energy) of a workload stand in bold; a pair that cannot run shows a dash.
    ``ours``: the dataflow whose speed-ups are quoted.
    """
    faster = speedups(comparison, dataflow=ours, over=BASELINE_DATAFLOW)
    parts = [
        "Cycles, each dataflow at its own best tiling:\n",
        _table(pair_table(comparison, ours=ours)),
        "\nEnergy of the same runs:\n",
        _table(pair_table(comparison, energy=True)._replace(against="")),
    ]
    headline = published_headline(comparison.results[0].machine) if comparison.results else None
    if headline and faster:
        rows = published_rows(headline, faster, comparison.results[0].machine)
        head = [
            f"{headline.dataflow} over {headline.over}",
            "largest speed-up",
            "mean speed-up",
            "most energy saved",
        ]
        parts += ["\nBeside the published headline:\n", markdown_table(head, rows)]
        parts += [f"\n{headline.source}: {headline.note}. Our mean is the geometric mean.\n"]
    return "\n".join(parts)


def machines_markdown(comparison: MachineComparison) -> str:
    """A table for each workload, the machines in rows; the row that is best by the objective stands in bold."""
    parts = []
    for workload in comparison.workloads:
        table = machine_columns(comparison, workload)
        rows = [
            [f"**{cell}**" if row == table.best_row and cell else cell for cell in cells]
            for row, cells in enumerate(table.rows)
        ]
        parts.append(
            f"{_escaped(workload)}, best {comparison.objective} in bold:\n\n{markdown_table(table.head, rows)}\n"
        )
    return "\n".join(parts)


def _table(pairs: PairTable) -> str:
    rows = []
    for row in pairs.rows:
        cells = [f"**{cell.text}**" if cell.is_best else "-" if cell.reason else cell.text for cell in row.cells]
        rows.append([row.workload, *cells, *([row.against] if pairs.against else [])])
    return markdown_table(["workload", *pairs.dataflows, *([pairs.against] if pairs.against else [])], rows)


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A table of texts, the first column to the left and the others to the right; each cell on one line."""
    ruler = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(_escaped(c) for c in row) + " |" for row in [head, ruler, *rows])


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")
