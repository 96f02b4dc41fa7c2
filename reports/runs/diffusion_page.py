"""The page of a run of diffusion steps, and the folder that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.page import card, cell, render
from tilewright.reports.page_script import closed_script
from tilewright.reports.pages import write_page
from tilewright.reports.quantity import bytes_text, energy_text, percent_text, ratio_text, seconds_text
from tilewright.reports.runs.diffusion import like_steps
from tilewright.reports.runs.diffusion_drawing import draw_steps
from tilewright.reports.runs.table import run_figures
from tilewright.sim.runs.diffusion import DiffusionResult

__all__ = ["diffusion_page", "write_diffusion_report"]


def diffusion_page(result: DiffusionResult, *, command: str = "") -> str:
    """The page as HTML text: the steps drawn, tables of steps and phases, figures, assumptions."""
    measure = result.measure
    context: dict[str, Any] = {
        "title": f"{result.name} on {result.machine}",
        "lead": f"{len(result.steps)} steps on {result.machine}.",
        "command": command,
        "cards": [
            card("time", seconds_text(measure("seconds_per_image")), "an image"),
            card("energy", energy_text(measure("j_per_image") * 1e12), "an image"),
            card("work", f"{measure('tflop'):,.4g}", "TFLOP of all steps"),
            card("to nothing kept", ratio_text(measure("speedup_steps")), "as fast, of the steps"),
            card("full steps", f"{measure('full_steps'):g}", f"of {len(result.steps)}"),
            card("kept", bytes_text(measure("cache_peak_bytes")), "at most, between steps"),
        ],
        "drawing": draw_steps(result),
        "steps": _steps_table(result),
        "phases": _phases_table(result),
        "figures": run_figures(result),
        "assumptions": result.assumptions,
        "script": closed_script("sort.js"),
    }
    return render("diffusion.html.j2", context)


def _steps_table(result: DiffusionResult) -> dict[str, Any]:
    names = ["steps", "kind", "runs", "blocks", "TFLOP", "time", "energy", "DRAM", "of it taken", "left", "kept"]
    rows = []
    for steps, row in like_steps(result):
        moved = row.dram_read_bytes + row.dram_write_bytes
        rows.append(
            [
                cell(steps, row.step),
                cell(row.kind),
                cell(str(row.forwards), row.forwards),
                cell(f"{row.blocks} of {len(result.blocks)}", row.blocks),
                cell(f"{row.flops / 1e12:.4g}", row.flops),
                cell(seconds_text(row.seconds), row.seconds),
                cell(energy_text(row.energy_pj), row.energy_pj),
                cell(bytes_text(moved), moved),
                cell(bytes_text(row.cache_read_bytes), row.cache_read_bytes),
                cell(bytes_text(row.cache_write_bytes), row.cache_write_bytes),
                cell(bytes_text(row.cache_bytes), row.cache_bytes),
            ]
        )
    return {"label": "steps", "columns": names, "rows": rows}


def _phases_table(result: DiffusionResult) -> dict[str, Any]:
    names = ["phase", "network", "steps", "time", "share", "energy", "DRAM", "matrix"]
    rows = [
        [
            cell(phase.name),
            cell(phase.network),
            cell(str(phase.n_steps), phase.n_steps),
            cell(seconds_text(phase.seconds), phase.seconds),
            cell(percent_text(phase.seconds / result.seconds), phase.seconds),
            cell(energy_text(phase.energy_pj), phase.energy_pj),
            cell(bytes_text(phase.dram_bytes), phase.dram_bytes),
            cell(percent_text(phase.matrix_utilization), phase.matrix_utilization),
        ]
        for phase in result.phases
    ]
    return {"label": "phases", "columns": names, "rows": rows}


def write_diffusion_report(folder: str | Path, result: DiffusionResult, *, command: str = "") -> Path:
    """Write ``index.html`` and ``steps.svg`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    with staged_folder(folder) as stage:
        write_page(stage / "index.html", diffusion_page(result, command=command), result)
        write_file(stage / "steps.svg", draw_steps(result))
    return Path(folder) / "index.html"
