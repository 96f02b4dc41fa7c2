"""The page of a run over time, and the folder that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.page import card, cell, render
from tilewright.reports.page_script import closed_script
from tilewright.reports.pages import write_page
from tilewright.reports.quantity import bytes_text, energy_text, percent_text, seconds_text
from tilewright.reports.runs.drawing import draw_run
from tilewright.reports.runs.serve import serve_columns
from tilewright.reports.runs.table import measure_text, run_figures
from tilewright.reports.runs.trace import run_trace_json
from tilewright.sim.runs.result import RunResult
from tilewright.sim.serving.result import ServeResult

__all__ = ["run_page", "write_run_report"]

_MOST_CARDS = 8


def run_page(result: RunResult, *, command: str = "") -> str:
    """The page as HTML text: the run drawn over its time, tables of phases and steps, figures, assumptions."""
    context: dict[str, Any] = {
        "title": f"{result.name} on {result.machine}",
        "lead": f"{result.kind}: {', '.join(f'{name} {text}' for name, text in result.facts.items())}.",
        "command": command,
        "cards": [card(one.label, measure_text(one), "") for one in result.measures[:_MOST_CARDS]],
        "drawing": draw_run(result),
        "phases": _phases_table(result),
        "steps": _steps_table(result),
        "figures": run_figures(result),
        "assumptions": result.assumptions,
        "script": closed_script("sort.js"),
    }
    return render("run.html.j2", context)


def _phases_table(result: RunResult) -> dict[str, Any]:
    names = ["phase", "network", "steps", "made", "time", "share", "first", "last", "energy", "DRAM", "matrix"]
    rows = [
        [
            cell(phase.name),
            cell(phase.network),
            cell(f"{phase.n_steps:,}", phase.n_steps),
            cell(f"{phase.n_made:,}", phase.n_made),
            cell(seconds_text(phase.seconds), phase.seconds),
            cell(percent_text(phase.seconds / (result.seconds or 1.0)), phase.seconds),
            cell(seconds_text(phase.first_seconds), phase.first_seconds),
            cell(seconds_text(phase.last_seconds), phase.last_seconds),
            cell(energy_text(phase.energy_pj), phase.energy_pj),
            cell(bytes_text(phase.dram_bytes), phase.dram_bytes),
            cell(percent_text(phase.matrix_utilization), phase.matrix_utilization),
        ]
        for phase in result.phases
    ]
    return {"label": "phases", "columns": names, "rows": rows}


def _steps_table(result: RunResult) -> dict[str, Any]:
    if isinstance(result, ServeResult):
        columns = serve_columns(result)
        cells = [[cell(column.cells[at]) for column in columns] for at in range(len(result.points))]
        return {"label": "points", "columns": [column.header for column in columns], "rows": cells}
    names = ["phase", "step", "behind", "starts at", "time", "energy", "DRAM"]
    rows = [
        [
            cell(phase.name),
            cell(f"{point.step:,}", point.step),
            cell(f"{point.size:,}", point.size),
            cell(seconds_text(point.start_seconds), point.start_seconds),
            cell(seconds_text(point.seconds), point.seconds),
            cell(energy_text(point.energy_pj), point.energy_pj),
            cell(bytes_text(point.dram_bytes), point.dram_bytes),
        ]
        for phase in result.phases
        for point in phase.points
    ]
    return {"label": "steps", "columns": names, "rows": rows}


def write_run_report(folder: str | Path, result: RunResult, *, command: str = "") -> Path:
    """Write ``index.html``, ``run.svg`` and ``trace.json`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then none of the files is there.
    """
    with staged_folder(folder) as stage:
        write_page(stage / "index.html", run_page(result, command=command), result)
        write_file(stage / "run.svg", draw_run(result))
        write_file(stage / "trace.json", run_trace_json(result))
    return Path(folder) / "index.html"
