"""The page of a pipeline, and the folder that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.page import card, cell, render
from tilewright.reports.page_script import closed_script
from tilewright.reports.pages import write_page
from tilewright.reports.pipeline_drawing import draw_pipeline
from tilewright.reports.pipeline_table import pipeline_figures, steady_text
from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text, ratio_text, seconds_text
from tilewright.sim.pipeline_result import HandedOver, PipelineResult

__all__ = ["pipeline_page", "write_pipeline_report"]


def pipeline_page(result: PipelineResult, *, command: str = "") -> str:
    """The page as HTML text: images through the stages, tables of stages and of hand-overs, figures, assumptions."""
    second = result.seconds_of_a_cycle
    interval = float(result.interval_cycles)
    context: dict[str, Any] = {
        "title": f"{result.network} as a pipeline",
        "lead": f"{len(result.stages)} stages on {result.machine}, {result.n_images:,} images.",
        "command": command,
        "cards": [
            card("throughput", f"{result.throughput_per_s:,.0f}/s", "images, in the steady state"),
            card("interval", cycles_text(round(interval)), f"cycles, {seconds_text(interval * second)}"),
            card("first image", seconds_text(result.fill_cycles * second), f"{cycles_text(result.fill_cycles)} cycles"),
            card(
                "to layer after layer",
                "none" if result.speedup is None else ratio_text(result.speedup),
                "images a second" if result.speedup is not None else "the cores cannot do all layers",
            ),
            card("gap", percent_text(result.gap), "at most, to the best partition's interval"),
            card("energy", energy_text(result.energy_pj / result.n_images), "an image"),
        ],
        "drawing": draw_pipeline(result),
        "steady": steady_text(result),
        "stages": _stage_table(result),
        "handed_over": _handed_table(result) if result.handed_over else None,
        "figures": pipeline_figures(result),
        "assumptions": result.assumptions,
        "script": closed_script("sort.js"),
    }
    return render("pipeline.html.j2", context)


def _stage_table(result: PipelineResult) -> dict[str, Any]:
    names = ["#", "layers", "n", "on", "alone", "at work", "busy", "/ bound", "DRAM", "weights", "of it kept", "matrix"]
    rows = []
    for at, row in enumerate(result.rows()):
        stage = result.stages[at]
        over = stage.alone_cycles / max(1, stage.bound_cycles)
        kept = f"{bytes_text(stage.kept_weight_bytes)} in {stage.memory}" if stage.kept_weight_bytes else ""
        rows.append(
            [
                cell(str(at + 1), at + 1),
                cell(" … ".join(dict.fromkeys((stage.first, stage.last)))),
                cell(str(stage.n_jobs), stage.n_jobs),
                cell(stage.units),
                cell(cycles_text(stage.alone_cycles), stage.alone_cycles),
                cell(cycles_text(round(stage.work_cycles)), stage.work_cycles),
                cell(percent_text(result.busy(at)), result.busy(at)),
                cell(f"{over:.3f}", over),
                cell(bytes_text(stage.dram_bytes), stage.dram_bytes),
                cell(bytes_text(stage.weight_bytes), stage.weight_bytes),
                cell(kept, stage.kept_weight_bytes),
                cell(percent_text(row["matrix_utilization"]), row["matrix_utilization"]),
            ]
        )
    return {"label": "stages", "columns": names, "rows": rows}


def _handed_table(result: PipelineResult) -> dict[str, Any]:
    names = ["map", "from stage", "to stage", "bytes", "how many", "memory"]
    by_rows = result.hand_over == "rows"
    names += ["rows there", "rows of it", "at least", "line buffer"] if by_rows else []
    rows = [
        [
            cell(one.name),
            cell(_stage(one.made_in, result), one.made_in),
            cell(_stage(one.read_in, result), one.read_in),
            cell(bytes_text(one.n_bytes), one.n_bytes),
            cell(str(one.n_maps), one.n_maps),
            cell(_memory(one)),
            *(_of_line_buffer(one) if by_rows else []),
        ]
        for one in result.handed_over
    ]
    return {"label": "maps between stages", "columns": names, "rows": rows}


def _of_line_buffer(one: HandedOver) -> list[dict[str, Any]]:
    """Rows that lie there, of how many of a map, the least that would do, and their bytes."""
    counts = (one.line_rows or 0, one.map_rows or 0, one.least_rows or 0)
    return [*(cell(str(n), n) for n in counts), cell(bytes_text(one.buffer_bytes), one.buffer_bytes)]


def _stage(number: int, result: PipelineResult) -> str:
    return str(number + 1) if 0 <= number < len(result.stages) else "the host"


def _memory(one: HandedOver) -> str:
    return "DRAM" if one.memory == "dram" else one.memory


def write_pipeline_report(folder: str | Path, result: PipelineResult, *, command: str = "") -> Path:
    """Write ``index.html`` and ``pipeline.svg`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    with staged_folder(folder) as stage:
        write_page(stage / "index.html", pipeline_page(result, command=command), result)
        write_file(stage / "pipeline.svg", draw_pipeline(result))
    return Path(folder) / "index.html"
