"""The page of groups and what stays on chip between them, and the folder that it stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.kept_drawing import cost_text, draw_kept
from tilewright.reports.kept_table import kept_figures
from tilewright.reports.page import card, cell, render
from tilewright.reports.page_script import closed_script
from tilewright.reports.pages import write_page
from tilewright.reports.quantity import bytes_text, percent_text
from tilewright.search.fusion.kept.outcome import KeptOutcome
from tilewright.sim.residency_plan import PlacedTensor

__all__ = ["kept_page", "write_kept_report"]


def kept_page(outcome: KeptOutcome, *, command: str = "") -> str:
    """The page as HTML text: groups and memory over time, tables of both, figures and assumptions."""
    proof = "proven best" if outcome.proven else f"at most {percent_text(outcome.gap)} from the best"
    cards = [card(outcome.objective, cost_text(outcome, outcome.cost), proof)]
    if outcome.alone is not None:
        cards.append(card("operators one by one", cost_text(outcome, outcome.alone), "with the best plan found"))
    if outcome.without is not None:
        saved = 1 - outcome.cost / max(1, outcome.without)
        cards.append(
            card("all in the DRAM", cost_text(outcome, outcome.without), f"the plan saves {percent_text(saved)}")
        )
    cards += [
        card("groups", f"{len(outcome.groups):,}", f"{len(outcome.fused_groups):,} fused"),
        card("weights kept", bytes_text(outcome.weight_bytes), "between inferences"),
        card("most in use", bytes_text(outcome.peak_bytes), f"of {bytes_text(outcome.capacity_bytes)}"),
    ]
    context: dict[str, Any] = {
        "title": f"{outcome.network}: groups and what stays on chip",
        "lead": f"{outcome.scheme} on {outcome.machine}, tensors in {outcome.memory}.",
        "command": command,
        "cards": cards,
        "drawing": draw_kept(outcome),
        "memory": outcome.memory,
        "groups": _group_table(outcome),
        "tensors": _tensor_table(outcome) if outcome.tensors else None,
        "figures": kept_figures(outcome),
        "assumptions": outcome.assumptions,
        "script": closed_script("sort.js"),
    }
    return render("kept.html.j2", context)


def _group_table(outcome: KeptOutcome) -> dict[str, Any]:
    rows = [
        [
            cell(str(at), at),
            cell(" … ".join(dict.fromkeys((group.operators[0], group.operators[-1])))),
            cell(str(len(group.operators)), len(group.operators)),
            cell(group.how),
            cell(cost_text(outcome, group.cost), group.cost),
            cell(bytes_text(group.tile_bytes), group.tile_bytes),
            cell(bytes_text(group.weight_bytes) if group.weight_bytes else "", group.weight_bytes),
            cell(str(len(group.maps) or ""), len(group.maps)),
        ]
        for at, group in enumerate(outcome.groups, start=1)
    ]
    names = ["#", "operators", "n", "run", "cost", "room", "weights kept", "maps kept"]
    return {"label": "groups", "columns": names, "rows": rows}


def _tensor_table(outcome: KeptOutcome) -> dict[str, Any]:
    names = ["tensor", "bytes", "address", "from group", "to group"]
    return {"label": "what is kept", "columns": names, "rows": [_tensor_row(one) for one in outcome.tensors]}


def _tensor_row(one: PlacedTensor) -> list[dict[str, Any]]:
    first, last = ("always", "") if one.is_weight else (str(one.first + 1), str(one.last + 1))
    return [
        cell(one.name),
        cell(bytes_text(one.n_bytes), one.n_bytes),
        cell(f"{one.address:,}", one.address),
        cell(first, one.first),
        cell(last, one.last),
    ]


def write_kept_report(folder: str | Path, outcome: KeptOutcome, *, command: str = "") -> Path:
    """Write ``index.html`` and ``memory.svg`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    with staged_folder(folder) as stage:
        write_page(stage / "index.html", kept_page(outcome, command=command), outcome)
        write_file(stage / "memory.svg", draw_kept(outcome))
    return Path(folder) / "index.html"
