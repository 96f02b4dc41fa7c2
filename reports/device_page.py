"""The page of a device's validation: errors by row, and a plot of predicted against measured time."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from tilewright.reports.device_table import device_columns, totals
from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.network_case import LIMITS
from tilewright.reports.page import card, render
from tilewright.reports.palette import ATTRIBUTION_COLOURS, BASE_COLOUR
from tilewright.search.devices.validate import DeviceValidation

__all__ = ["device_page", "device_png", "write_device_report"]

_PLOT = "predicted-measured.png"
_MOST_NAMED = 40


def write_device_report(folder: str | Path, found: DeviceValidation, *, command: str = "") -> Path:
    """Write the page and its plot into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    picture = device_png(found)
    with staged_folder(folder) as stage:
        write_file(stage / _PLOT, picture)
        write_file(stage / "index.html", device_page(found, picture, command=command))
    return Path(folder) / "index.html"


def device_page(found: DeviceValidation, picture: bytes, *, command: str = "") -> str:
    """The page as HTML text with its plot inside."""
    columns = device_columns(found)
    assumed = [(text,) for text in found.assumptions]
    return render(
        "validation.html.j2",
        {
            "title": f"{found.machine}: predicted against measured",
            "lead": "Networks and layers as measured on the device, beside what its description predicts.",
            "command": command,
            "cards": [card(name, value.split(" (")[0], "over all rows") for name, value in totals(found)],
            "sections": [
                {
                    "title": "Error by row",
                    "headers": [column.header for column in columns],
                    "rows": list(zip(*(column.cells for column in columns), strict=True)),
                    "note": "",
                },
                {"title": "Assumptions in force", "headers": ("assumption",), "rows": assumed, "note": ""},
            ],
            "pictures": [
                {
                    "title": "Predicted over measured time",
                    "note": f"{found.overall.n:,} rows; the lines are equality and 25 % off",
                    "image": "data:image/png;base64," + b64encode(picture).decode("ascii"),
                    "file": _PLOT,
                }
            ],
            "left_out": found.left_out,
        },
    )


def device_png(found: DeviceValidation) -> bytes:
    """Predicted over measured milliseconds in logarithmic scales, coloured by what limits a row."""
    from tilewright.reports.figure import figure_text, new_figure, png_bytes

    figure = new_figure(7.2, 6.0)
    axes = figure.subplots()
    for name, label in LIMITS.items():
        rows = [row for row in found.rows if row.prediction.limited_by == name]
        if rows:
            axes.loglog(
                [row.run.seconds * 1e3 for row in rows],
                [row.prediction.seconds * 1e3 for row in rows],
                "o",
                markersize=5,
                color=ATTRIBUTION_COLOURS.get(name, BASE_COLOUR),
                label=f"limited by {label}",
            )
    for row in found.rows if len(found.rows) <= _MOST_NAMED else ():
        at = (row.run.seconds * 1e3, row.prediction.seconds * 1e3)
        axes.annotate(
            figure_text(row.run.name, 24), at, xytext=(4, 3), textcoords="offset points", fontsize=6, parse_math=False
        )
    times = [time * 1e3 for row in found.rows for time in (row.run.seconds, row.prediction.seconds)]
    ends = [min(times) * 0.8, max(times) * 1.25]
    axes.loglog(ends, ends, color="black", linewidth=0.8)
    for share in (0.75, 1.25):
        axes.loglog(ends, [end * share for end in ends], color="black", linewidth=0.5, linestyle=":")
    axes.set_xlabel("measured, ms")
    axes.set_ylabel("predicted, ms")
    axes.set_title(f"{found.machine}: {found.overall.n:,} rows", fontsize=9, loc="left", parse_math=False)
    axes.legend(fontsize=8)
    axes.grid(True, linewidth=0.3)
    return png_bytes(figure)
