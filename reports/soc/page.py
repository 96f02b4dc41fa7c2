"""The page of jobs on a system on a chip, and the folder that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.reports.columns import Column
from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.page import card, cell, render
from tilewright.reports.page_script import closed_script
from tilewright.reports.quantity import percent_text
from tilewright.reports.soc.gantt import draw_gantt
from tilewright.reports.soc.table import applications_columns, jobs_figures, micros_text, schedulers_columns
from tilewright.sim.soc.result import JobsResult

__all__ = ["jobs_page", "write_jobs_report"]


def jobs_page(result: JobsResult, *, command: str = "") -> str:
    """The page as HTML text: the schedule drawn, applications, schedulers side by side, figures, assumptions."""
    n_jobs = sum(one.n_jobs for one in result.applications)
    late = sum((one.n_late if one.exact_n_late is None else one.exact_n_late) for one in result.applications)
    proof = "proven" if result.is_proven else percent_text(result.gap) if result.gap is not None else "none"
    context: dict[str, Any] = {
        "title": f"{result.name} on {result.soc}",
        "lead": f"{n_jobs:,} jobs on {len(result.elements)} elements, scheduled by {result.scheduler}.",
        "command": command,
        "cards": [
            card("mean latency", micros_text(result.latency_us / max(1, n_jobs)), "of a job, by tables"),
            card("late", f"{late:,}", f"of {n_jobs:,} jobs behind their deadlines"),
            card("jobs a second", f"{result.jobs_per_s:,.0f}", f"until {micros_text(result.end_us)}"),
            card("gap", proof, "to the best schedule"),
        ],
        "drawing": draw_gantt(result),
        "applications": _table("applications", applications_columns(result)),
        "schedulers": _table("schedulers", schedulers_columns(result)),
        "figures": jobs_figures(result),
        "assumptions": result.assumptions,
        "script": closed_script("sort.js"),
    }
    return render("jobs.html.j2", context)


def _table(label: str, columns: list[Column]) -> dict[str, Any]:
    rows = [[cell(column.cells[at]) for column in columns] for at in range(len(columns[0].cells))]
    return {"label": label, "columns": [column.header for column in columns], "rows": rows}


def write_jobs_report(folder: str | Path, result: JobsResult, *, command: str = "") -> Path:
    """Write ``index.html`` and ``schedule.svg`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    with staged_folder(folder) as stage:
        write_file(stage / "index.html", jobs_page(result, command=command))
        write_file(stage / "schedule.svg", draw_gantt(result))
    return Path(folder) / "index.html"
