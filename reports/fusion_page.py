"""The page of a fusion search, and the folder that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.fusion_drawing import draw_fusion
from tilewright.reports.fusion_table import OBJECTIVE_NAMES, fusion_figures, proof_text, value_text
from tilewright.reports.page import card, cell, render
from tilewright.reports.page_script import closed_script
from tilewright.reports.pages import write_page
from tilewright.reports.quantity import bytes_text, percent_text
from tilewright.search.fusion.outcome import FusionOutcome

__all__ = ["fusion_page", "write_fusion_report"]


def fusion_page(outcome: FusionOutcome, *, command: str = "") -> str:
    """The page as HTML text: the picture of the groups, a table of them, figures and assumptions."""
    context: dict[str, Any] = {
        "title": f"{outcome.network}: fusion groups",
        "lead": f"{outcome.scheme.name} in {bytes_text(outcome.capacity_bytes)}, found by {outcome.method}.",
        "command": command,
        "cards": [
            card(OBJECTIVE_NAMES[outcome.objective], value_text(outcome, outcome.value), proof_text(outcome)),
            card("unfused", value_text(outcome, outcome.unfused_value), "every operator alone"),
            card("saved", percent_text(outcome.saved)),
            card("groups", f"{len(outcome.fused_groups):,}", f"of {len(outcome.graph):,} operators"),
            card("most buffer used", bytes_text(outcome.peak_buffer_bytes)),
        ],
        "drawing": draw_fusion(outcome),
        "groups": _group_table(outcome),
        "figures": fusion_figures(outcome),
        "assumptions": outcome.scheme.assumptions,
        "source": outcome.scheme.source,
        "script": closed_script("sort.js"),
    }
    return render("fusion.html.j2", context)


def _group_table(outcome: FusionOutcome) -> dict[str, Any]:
    names = ["#", "operators", "n", "buffer", "of it", "DRAM", "of it weights", "unfused", "saved"]
    return {"label": "groups", "columns": names, "rows": [_group_row(row, outcome) for row in outcome.group_rows()]}


def _group_row(row: dict[str, Any], outcome: FusionOutcome) -> list[dict[str, Any]]:
    ends = dict.fromkeys((row["first"], row["last"]))
    share = row["buffer_bytes"] / outcome.capacity_bytes
    before = row["unfused_dram_bytes"]
    saved = 1 - row["dram_bytes"] / before if before else 0.0
    return [
        cell(str(row["group"]), row["group"]),
        cell(" … ".join(ends)),
        cell(str(row["n_operators"]), row["n_operators"]),
        cell(bytes_text(row["buffer_bytes"]), row["buffer_bytes"]),
        cell(percent_text(share), share),
        *(cell(bytes_text(row[name]), row[name]) for name in ("dram_bytes", "weight_bytes", "unfused_dram_bytes")),
        cell(percent_text(saved), saved),
    ]


def write_fusion_report(folder: str | Path, outcome: FusionOutcome, *, command: str = "") -> Path:
    """Write ``index.html`` and ``groups.svg`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    with staged_folder(folder) as stage:
        write_page(stage / "index.html", fusion_page(outcome, command=command), outcome)
        write_file(stage / "groups.svg", draw_fusion(outcome))
    return Path(folder) / "index.html"
