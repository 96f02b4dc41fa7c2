"""The page of a fusion search, and the folder that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.fusion_drawing import draw_fusion
from tilewright.reports.fusion_table import OBJECTIVE_NAMES, fusion_figures, proof_text, value_text
from tilewright.reports.page import card, render
from tilewright.reports.quantity import bytes_text, percent_text
from tilewright.search.fusion.outcome import FusionOutcome

__all__ = ["fusion_page", "write_fusion_report"]


def fusion_page(outcome: FusionOutcome, *, command: str = "") -> str:
    """The page as HTML text: the picture of the groups, a table of them, figures and assumptions."""
    rows = [
        (
            str(row["group"]), f"{row['first']} … {row['last']}" if row["n_operators"] > 1 else row["first"],
            str(row["n_operators"]), bytes_text(row["buffer_bytes"]),
            percent_text(row["buffer_bytes"] / outcome.capacity_bytes), bytes_text(row["dram_bytes"]),
            bytes_text(row["weight_bytes"]), bytes_text(row["unfused_dram_bytes"]),
        )
        for row in outcome.group_rows()
    ]  # fmt: skip
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
        "columns": ("#", "operators", "n", "buffer", "of it", "DRAM", "of it weights", "unfused"),
        "rows": rows,
        "figures": fusion_figures(outcome),
        "assumptions": outcome.scheme.assumptions,
        "source": outcome.scheme.source,
    }
    return render("fusion.html.j2", context)


def write_fusion_report(folder: str | Path, outcome: FusionOutcome, *, command: str = "") -> Path:
    """Write ``index.html`` and ``groups.svg`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    with staged_folder(folder) as stage:
        write_file(stage / "index.html", fusion_page(outcome, command=command))
        write_file(stage / "groups.svg", draw_fusion(outcome))
    return Path(folder) / "index.html"
