"""The page of a validation: tables of errors, and plots of predicted against measured time."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.page import card, render
from tilewright.reports.pages import write_page
from tilewright.reports.palette import ATTRIBUTION_COLOURS, BASE_COLOUR
from tilewright.reports.quantity import percent_text
from tilewright.reports.validation_table import (
    CLASS_HEADERS,
    FUSED_HEADERS,
    HEADERS,
    POWER_HEADERS,
    RANKING_HEADERS,
    class_rows,
    fused_rows,
    power_note,
    power_rows,
    ranking_rows,
    ranking_summary,
    validation_rows,
)
from tilewright.search.gpu.power_check import PowerComparison
from tilewright.search.gpu.validate import TableValidation, Validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["power_png", "validation_page", "validation_png", "write_validation_report"]

_BOUND_COLOURS = (BASE_COLOUR, ATTRIBUTION_COLOURS["matrix"], ATTRIBUTION_COLOURS["dram"])
_MOST_POINTS = 20_000
_FEW_POINTS = 200
_US = 1e6


def write_validation_report(folder: str | Path, validation: Validation, *, command: str = "") -> Path:
    """Write the page and a plot for each table into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then none of the files is there.
    """
    plots = {f"{_stem(table.name)}.png": validation_png(table) for table in validation.tables}
    plots |= {_power_file(entry): power_png(entry) for entry in validation.power}
    with staged_folder(folder) as stage:
        for name, picture in plots.items():
            write_file(stage / name, picture)
        write_page(stage / "index.html", validation_page(validation, plots=plots, command=command), validation)
    return Path(folder) / "index.html"


def validation_page(validation: Validation, *, plots: dict[str, bytes], command: str = "") -> str:
    """The page as HTML text with its plots inside."""
    pictures = [
        {
            "title": f"{table.family}: {table.name}",
            "note": f"{table.overall.n:,} rows ({table.scope}), {table.source}",
            "image": "data:image/png;base64," + b64encode(plots[f"{_stem(table.name)}.png"]).decode("ascii"),
            "file": f"{_stem(table.name)}.png",
        }
        for table in validation.tables
    ]
    pictures += [
        {
            "title": f"power of {entry.family}: {entry.name}",
            "note": f"{entry.overall.n:,} rows ({entry.scope}), as the meter shows them; energy {entry.energy_from}",
            "image": "data:image/png;base64," + b64encode(plots[_power_file(entry)]).decode("ascii"),
            "file": _power_file(entry),
        }
        for entry in validation.power
    ]
    return render(
        "validation.html.j2",
        {
            "title": f"{validation.machine}: predicted against measured",
            "lead": _lead(validation),
            "command": command,
            "cards": [
                card(
                    table.family,
                    percent_text(table.overall.mape),
                    f"mean error of {table.overall.n:,} rows ({table.scope})",
                )
                for table in validation.tables[:12]
            ],
            "sections": _sections(validation),
            "pictures": pictures,
            "left_out": validation.left_out,
        },
    )


def validation_png(table: TableValidation) -> bytes:
    """Predicted over measured time in logarithmic scales, and their ratio below, coloured by what limits the kernel."""
    from tilewright.reports.figure import new_figure, png_bytes

    figure = new_figure(7.2, 7.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _draw_times(above, table)
    _draw_ratio(below, table)
    return png_bytes(figure)


def power_png(entry: PowerComparison) -> bytes:
    """Predicted over measured power, with the board's limit."""
    from tilewright.reports.figure import figure_text, new_figure, png_bytes

    figure = new_figure(7.2, 5.6)
    axes = figure.subplots(1, 1)
    step = -(-len(entry.measured_w) // _MOST_POINTS)
    measured, predicted = entry.measured_w[::step], entry.predicted_w[::step]
    axes.plot(
        measured,
        predicted,
        ".",
        markersize=3 if len(measured) > _FEW_POINTS else 7,
        alpha=0.4,
        color=ATTRIBUTION_COLOURS["matrix"],
        rasterized=True,
    )
    most = max(entry.limit_w, float(measured.max()), float(predicted.max())) * 1.05
    axes.plot([0, most], [0, most], color="black", linewidth=0.8)
    for share in (0.85, 1.15):
        axes.plot([0, most], [0, most * share], color="black", linewidth=0.5, linestyle=":")
    axes.axhline(entry.limit_w, color=ATTRIBUTION_COLOURS["dram"], linewidth=1, label="limit of the board")
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_xlabel("measured, W")
    axes.set_ylabel("predicted, W")
    overall = entry.overall
    head = f"{figure_text(entry.name, 80)}\n{overall.n:,} rows ({entry.scope}): mean error {percent_text(overall.mape)}"
    axes.set_title(head, fontsize=9, loc="left", parse_math=False)
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(True, linewidth=0.3)
    return png_bytes(figure)


def _power_file(entry: PowerComparison) -> str:
    return f"{_stem(entry.name)}-power.png"


def _draw_times(axes: Axes, table: TableValidation) -> None:
    from tilewright.reports.figure import figure_text
    from tilewright.sim.gpu.gemm import BOUNDS

    step = -(-len(table.measured_s) // _MOST_POINTS)
    measured, predicted, bound = (x[::step] for x in (table.measured_s, table.predicted_s, table.bound))
    for code, name in enumerate(BOUNDS):
        of_bound = bound == code
        if of_bound.any():
            axes.loglog(
                measured[of_bound] * _US,
                predicted[of_bound] * _US,
                ".",
                markersize=2.5,
                alpha=0.5,
                color=_BOUND_COLOURS[code],
                label=f"limited by {name}",
                rasterized=True,
            )
    ends = [float(min(measured.min(), predicted.min())) * _US, float(max(measured.max(), predicted.max())) * _US]
    axes.loglog(ends, ends, color="black", linewidth=0.8)
    for share in (0.9, 1.1):
        axes.loglog(ends, [end * share for end in ends], color="black", linewidth=0.5, linestyle=":")
    axes.set_ylabel("predicted, us")
    overall = table.overall
    head = (
        f"{figure_text(table.name, 80)}\n{overall.n:,} rows ({table.scope}): mean error {percent_text(overall.mape)}, "
        f"median {percent_text(overall.median)}"
    )
    axes.set_title(head, fontsize=9, loc="left", parse_math=False)
    axes.legend(fontsize=8, markerscale=3)
    axes.grid(True, linewidth=0.3)


def _draw_ratio(axes: Axes, table: TableValidation) -> None:
    step = -(-len(table.measured_s) // _MOST_POINTS)
    measured, predicted, bound = (x[::step] for x in (table.measured_s, table.predicted_s, table.bound))
    for code, colour in enumerate(_BOUND_COLOURS):
        chosen = bound == code
        ratio = predicted[chosen] / measured[chosen]
        axes.semilogx(measured[chosen] * _US, ratio, ".", markersize=2, alpha=0.4, color=colour, rasterized=True)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_ylim(0.4, 1.8)
    axes.set_xlabel("measured, us")
    axes.set_ylabel("predicted / measured")
    axes.grid(True, linewidth=0.3)


def _lead(validation: Validation) -> str:
    own = validation.calibrated_on == validation.machine
    where = "its own calibration" if own else f"the calibration of {validation.calibrated_on} and published figures"
    others = {table.measured_on for table in validation.tables} - {"", validation.calibrated_on}
    if others:
        where += (
            f", and where a row says so from that of {' and '.join(sorted(others))}, carried over by both data sheets"
        )
    return f"Kernel times of {validation.machine} from {where}. Rows that calibrated a parameter are not counted."


def _sections(validation: Validation) -> list[dict[str, object]]:
    sections: list[dict[str, object]] = []
    if validation.tables:
        sections.append(
            {"title": "Error by table", "headers": HEADERS, "rows": validation_rows(validation), "note": ""}
        )
        for by, title in (("size", "Error by measured time"), ("bound", "Error by what limits the kernel")):
            sections.append({"title": title, "headers": CLASS_HEADERS, "rows": class_rows(validation, by), "note": ""})
    if validation.power:
        sections.append(
            {
                "title": "Power",
                "headers": POWER_HEADERS,
                "rows": power_rows(validation),
                "note": _sentence(power_note(validation)),
            }
        )
    if validation.rankings:
        sections.append(
            {
                "title": "Tilings: simulated against measured rank",
                "headers": RANKING_HEADERS,
                "rows": ranking_rows(validation.rankings),
                "note": ranking_summary(validation.rankings),
            }
        )
    if validation.fused:
        sections.append(
            {
                "title": "Fused against unfused",
                "headers": FUSED_HEADERS,
                "rows": fused_rows(validation.fused),
                "note": "Ratio: unfused over fused time. Clear winners: measured more than 10 % apart.",
            }
        )
    return sections


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _stem(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:80].strip("-.") or "table"
