"""Comparisons in Markdown: layers x dataflows, or machines."""

from __future__ import annotations

from collections.abc import Callable

from tilewright.reports.columns import machine_columns
from tilewright.reports.index import OUR_DATAFLOW
from tilewright.reports.published import published_headline, published_rows
from tilewright.reports.quantity import cycles_text, energy_text, ratio_text
from tilewright.reports.ranking import BASELINE_DATAFLOW, dataflow_order, speedups
from tilewright.sim.machine_comparison import MachineComparison
from tilewright.sim.result import ComparisonResult, SimulationResult

__all__ = ["comparison_markdown", "machines_markdown", "markdown_table"]


def comparison_markdown(comparison: ComparisonResult) -> str:
    """Cycles and energy of every workload with every dataflow, and the published headline where there is one.

    The fewest cycles (the least energy) of a workload stand in bold; a pair that cannot run shows a dash.
    """
    names = dataflow_order(comparison)
    faster = speedups(comparison, dataflow=OUR_DATAFLOW, over=BASELINE_DATAFLOW)
    extra = (f"{OUR_DATAFLOW} vs {BASELINE_DATAFLOW}", faster.by_workload) if faster else None
    parts = [
        "Cycles, each dataflow at its own best tiling:\n",
        _table(comparison, names, lambda r: float(r.cycles), lambda r: cycles_text(r.cycles), extra),
        "\nEnergy of the same runs:\n",
        _table(comparison, names, lambda r: r.energy_pj, lambda r: energy_text(r.energy_pj), None),
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


def _table(
    comparison: ComparisonResult,
    names: list[str],
    merit: Callable[[SimulationResult], float],
    text: Callable[[SimulationResult], str],
    extra: tuple[str, dict[str, float]] | None,
) -> str:
    by_pair = {(r.workload, r.dataflow): r for r in comparison.results}
    rows = []
    for workload in comparison.workloads:
        found = [by_pair.get((workload, name)) for name in names]
        least = min((merit(r) for r in found if r), default=0.0)
        cells = ["-" if r is None else f"**{text(r)}**" if merit(r) == least else text(r) for r in found]
        if extra:
            cells.append(ratio_text(extra[1][workload]) if workload in extra[1] else "")
        rows.append([workload, *cells])
    return markdown_table(["workload", *names, *([extra[0]] if extra else [])], rows)


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A table of texts, the first column to the left and the others to the right; each cell on one line."""
    ruler = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(_escaped(c) for c in row) + " |" for row in [head, ruler, *rows])


def _escaped(cell: str) -> str:
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")
