"""A sweep in words and tables, for a README or a mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilewright.reports.markdown import markdown_table
from tilewright.reports.quantity import percent_text, ratio_text
from tilewright.reports.sweep.case import FIGURES, SweepCase
from tilewright.reports.sweep.columns import design_columns, number_text
from tilewright.reports.sweep.front import front_mask
from tilewright.reports.sweep.names import parameter_names
from tilewright.reports.sweep.page import OBJECTIVE_WORDS
from tilewright.reports.sweep.sensitivity import Effect

__all__ = ["sweep_markdown"]

_MOST_ROWS = 20
_MOST_FAILURES = 10


def sweep_markdown(case: SweepCase, effects: Sequence[Effect]) -> str:
    """The best designs, the front of each workload, the sensitivity and what has no result."""
    sweep, counts = case.opened.sweep, case.counts
    objective = OBJECTIVE_WORDS[sweep.objective]
    states = ", ".join(f"{n:,} {state}" for state, n in counts.items() if n)
    limits = " and ".join(f"`{limit.text}`" for limit in sweep.limits)
    within = f", within {limits}" if limits else ""
    parts = [
        f"# {_plain(sweep.name)} on {_plain(sweep.machine.name)}",
        f"{counts.total():,} points ({states}); objective {objective}{within}.",
        "## Best design of each workload",
        _best_table(case, list(case.best.by_workload.values())) or "No finished point is within the limits.",
    ]
    if len(sweep.layers) > 1:
        parts += [
            "## The one design for all workloads",
            _best_table(case, case.best.design) or "No design serves all workloads within the limits.",
        ]
    for workload in case.workloads:
        parts += _front(case, workload)
    if effects:
        parts += _sensitivity(case, effects, objective)
    if case.failures:
        rows = [[f"{f.n_points:,}", f.status, f.error, f.design] for f in case.failures[:_MOST_FAILURES]]
        parts += [
            "## Points without a result",
            markdown_table(["points", "status", "first message", "first design"], rows),
        ]
    return "\n\n".join(parts) + "\n"


def _best_table(case: SweepCase, rows: Sequence[Mapping[str, Any]]) -> str:
    table = design_columns(case.opened.sweep, rows)
    return markdown_table(table.head, table.rows) if rows else ""


def _front(case: SweepCase, workload: str) -> list[str]:
    points = case.points[(case.points["workload"] == workload) & case.points["within_limits"]]
    labels = {figure.id: f"{figure.label}, {figure.unit}" for figure in FIGURES}
    goals = ", ".join(labels[goal].partition(",")[0] for goal in case.goals)
    if points.empty:
        return [f"## Front of {_plain(workload)}", "No point is within the limits."]
    front = points[front_mask(points[case.goals].to_numpy(dtype=np.float64))].sort_values(case.goals)
    paths = case.opened.sweep.paths
    named = parameter_names(case.opened.sweep.machine, paths).values()
    head = [*(labels[goal] for goal in case.goals), "dataflow"]
    head += [f"{name}, {unit}" if unit else name for name, unit in named]
    rows = [
        [*(f"{row[goal]:.4g}" for goal in case.goals), row["dataflow"], *(number_text(row[path]) for path in paths)]
        for row in front.head(_MOST_ROWS).to_dict("records")
    ]
    more = f" The first {_MOST_ROWS} in order of latency:" if len(front) > _MOST_ROWS else ""
    said = f"{len(front):,} of {len(points):,} points within the limits, over {goals}.{more}"
    return [f"## Front of {_plain(workload)}", said, markdown_table(head, rows)]


def _sensitivity(case: SweepCase, effects: Sequence[Effect], objective: str) -> list[str]:
    rows = []
    for effect in effects:
        best = [
            f"{value.value}: {ratio_text(value.ratio)}" if value.ratio else f"{value.value}: -"
            for value in effect.values
        ]
        rows.append([effect.name, percent_text(effect.share), "; ".join(best)])
    return [
        f"## Sensitivity of {objective}",
        f"Share of the variance of log({objective}) that each parameter explains on its own (main effect of an "
        "analysis of variance, mean over the workloads), and the best at each of its values over the best of all.",
        markdown_table(["parameter", "share", "best at each value"], rows),
    ]


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")
