"""The page of machines side by side: for each workload a table, and time and energy as bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.reports.charts import Bar, BarChart, Segment
from tilewright.reports.columns import machine_columns
from tilewright.reports.files import staged_folder
from tilewright.reports.page import card, machine_rows, render
from tilewright.reports.pages import write_page
from tilewright.reports.palette import BASE_COLOUR, BEST_COLOUR
from tilewright.reports.quantity import energy_text, seconds_text
from tilewright.sim.machine_comparison import MachineComparison, MachineRun

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec

__all__ = ["machines_page", "write_machines_report"]

_MOST_CARDS = 6


def write_machines_report(
    folder: str | Path, comparison: MachineComparison, machines: Sequence[MachineSpec], *, command: str = ""
) -> Path:
    """Write the page into ``folder``; gives its path. Raises InputError when the folder cannot be written."""
    with staged_folder(folder) as stage:
        write_page(stage / "index.html", machines_page(comparison, machines, command=command), comparison)
    return Path(folder) / "index.html"


def machines_page(comparison: MachineComparison, machines: Sequence[MachineSpec], *, command: str = "") -> str:
    """The page as HTML text."""
    workloads, n_machines = comparison.workloads, len(comparison.machines)
    what = workloads[0] if len(workloads) == 1 else f"{len(workloads)} workloads"
    where = comparison.machines[0] if n_machines == 1 else f"{n_machines} machines"
    context: dict[str, Any] = {
        "title": f"{what} on {where}",
        "lead": f"Each at its best mappings there; the best by {comparison.objective} is marked.",
        "command": command,
        "cards": [_card(comparison, name) for name in workloads[:_MOST_CARDS] if comparison.of_workload(name)],
        "workloads": [_section(comparison, name) for name in workloads],
        "machines": [{"name": m.name, "rows": machine_rows(m, ())} for m in machines],
    }
    return render("machines.html.j2", context)


def _card(comparison: MachineComparison, workload: str) -> dict[str, str]:
    best = comparison.best(workload)
    return card(workload, seconds_text(best.seconds), f"{energy_text(best.energy_pj)} on {best.machine}")


def _section(comparison: MachineComparison, workload: str) -> dict[str, Any]:
    runs = comparison.of_workload(workload)
    table = machine_columns(comparison, workload)
    best = comparison.best(workload) if runs else None
    n_steps = max((getattr(run.result, "n_steps", 1) for run in runs), default=1)
    return {
        "name": workload,
        "lead": f"For one of its {n_steps} steps." if n_steps > 1 else "",
        "head": table.head,
        "rows": [{"cells": cells, "best": row == table.best_row} for row, cells in enumerate(table.rows)],
        "failed": [
            {"machine": machine, "reason": reason}
            for (name, machine), reason in comparison.infeasible.items()
            if name == workload
        ],
        "time_chart": _bars(runs, best, lambda run: run.seconds, lambda run: seconds_text(run.seconds)),
        "energy_chart": _bars(runs, best, lambda run: run.energy_pj, lambda run: energy_text(run.energy_pj)),
    }


def _bars(
    runs: Sequence[MachineRun],
    best: MachineRun | None,
    value: Callable[[MachineRun], float],
    text: Callable[[MachineRun], str],
) -> BarChart:
    scale = max((value(run) for run in runs), default=1.0) or 1.0
    bars = []
    for run in runs:
        segment = Segment(
            x_percent=0.0,
            width_percent=round(value(run) / scale * 100, 3),
            colour=BEST_COLOUR if run is best else BASE_COLOUR,
            tip=f"{run.machine}: {text(run)}",
        )
        bars.append(Bar(name=run.machine, segments=(segment,), value=text(run), best=run is best))
    return BarChart(bars=tuple(bars))
