"""The page of a comparison of whole systems: errors by row, and a plot of predicted against measured rates."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.page import card, render
from tilewright.reports.systems_table import TITLE, systems_columns, systems_totals
from tilewright.search.systems.compare import SystemsComparison

__all__ = ["write_systems_report"]

_PLOT = "predicted-measured.png"


def write_systems_report(folder: str | Path, found: SystemsComparison, *, command: str = "") -> Path:
    """Write the page and its plot into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    picture = _png(found)
    with staged_folder(folder) as stage:
        write_file(stage / _PLOT, picture)
        write_file(stage / "index.html", _page(found, picture, command=command))
    return Path(folder) / "index.html"


def _page(found: SystemsComparison, picture: bytes, *, command: str) -> str:
    columns = systems_columns(found)
    return render(
        "validation.html.j2",
        {
            "title": TITLE,
            "lead": "Tokens a second as measured, beside what data sheets and the sizes of the models say.",
            "command": command,
            "cards": [card(name, value, "over all rows") for name, value in systems_totals(found)[:4]],
            "sections": [
                {
                    "title": "Error by row",
                    "headers": [column.header for column in columns],
                    "rows": list(zip(*(column.cells for column in columns), strict=True)),
                    "note": "rates in tokens a second",
                },
                {"title": "In all", "headers": ("figure", "value"), "rows": systems_totals(found), "note": ""},
                {
                    "title": "Assumptions in force",
                    "headers": ("assumption",),
                    "rows": [(text,) for text in found.assumptions],
                    "note": "",
                },
            ],
            "pictures": [
                {
                    "title": "Predicted over measured rate",
                    "note": f"{found.overall.n:,} rows; the lines are equality and 15 % off",
                    "image": "data:image/png;base64," + b64encode(picture).decode("ascii"),
                    "file": _PLOT,
                }
            ],
            "left_out": found.left_out,
        },
    )


def _png(found: SystemsComparison) -> bytes:
    """Predicted over measured tokens a second in logarithmic scales, a mark for each model."""
    from tilewright.reports.figure import figure_text, new_figure, png_bytes

    figure = new_figure(7.2, 6.0)
    axes = figure.subplots()
    for name in dict.fromkeys(row.row.model for row in found.rows):
        rows = [row for row in found.rows if row.row.model == name]
        measured = [row.row.tokens_per_s or 0.0 for row in rows]
        axes.loglog(measured, [row.tokens_per_s for row in rows], "o", markersize=4, label=figure_text(name, 28))
    rates = [rate for row in found.rows for rate in (row.row.tokens_per_s or 1.0, row.tokens_per_s)]
    ends = [min(rates) * 0.8, max(rates) * 1.25]
    axes.loglog(ends, ends, color="black", linewidth=0.8)
    for share in (0.85, 1.15):
        axes.loglog(ends, [end * share for end in ends], color="black", linewidth=0.5, linestyle=":")
    axes.set_xlabel("measured, tokens/s")
    axes.set_ylabel("predicted, tokens/s")
    axes.legend(fontsize=6)
    axes.grid(True, linewidth=0.3)
    return png_bytes(figure)
