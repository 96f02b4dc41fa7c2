"""The page of a search over bit widths, and the folder it lies in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilewright.formats import bits_per_element
from tilewright.reports.bits.columns import budget_columns, layer_columns, point_columns
from tilewright.reports.bits.explanation import ASPECT_TITLES, explanation_png, trust_text
from tilewright.reports.bits.figure import curve_png, layers_png
from tilewright.reports.bits.words import (
    cost_word,
    curve_scale,
    format_colour,
    lead_text,
    proof_text,
)
from tilewright.reports.columns import TextTable
from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.page import card, render
from tilewright.reports.pages import write_page
from tilewright.reports.palette import BASE_COLOUR, BEST_COLOUR
from tilewright.reports.quantity import change_text, cycles_text, percent_text
from tilewright.search.bits.choose import BitsResult
from tilewright.search.bits.explain import Explanation

__all__ = ["bits_page", "write_bits_report"]

_CURVE_COLOUR = "#3b6fd4"
_MARGIN = 0.05
_MOST_GROUPS = 12


def write_bits_report(
    folder: str | Path, result: BitsResult, *, explanation: Explanation | None = None, command: str = ""
) -> Path:
    """Write the page, its pictures as PNG and the network in its formats into ``folder``; gives the page's path.

    ``explanation``: which parts of the network cost the most per bit, where that was asked.

    Raises InputError when the folder cannot be written; then none of the files is there.
    """
    kind = result.curve_kind or next(iter(result.limits))
    pictures = {"curve.png": curve_png(result, kind=kind), "layers.png": layers_png(result)}
    if explanation is not None:
        pictures["explanation.png"] = explanation_png(explanation, title=result.network)
    with staged_folder(folder) as stage:
        for name, picture in pictures.items():
            write_file(stage / name, picture)
        write_file(stage / "network.json", result.stream.to_json())
        files = [*pictures, "network.json"]
        html = bits_page(result, explanation=explanation, command=command, files=files)
        write_page(stage / "index.html", html, result)
    return Path(folder) / "index.html"


def bits_page(
    result: BitsResult,
    *,
    explanation: Explanation | None = None,
    command: str = "",
    files: Sequence[str] = (),
) -> str:
    """The page as HTML text; ``files`` are the names of files that lie beside it."""
    kind = result.curve_kind or next(iter(result.limits))
    context: dict[str, Any] = {
        "title": f"Bit widths of {result.network} on {result.machine}",
        "lead": lead_text(result),
        "command": command,
        "files": files,
        "cards": _cards(result),
        "budget": budget_columns(result),
        "binding": _binding(result),
        "plot": _plot(result, kind),
        "curve_title": f"Sensitivity over {cost_word(kind)}",
        "points": point_columns((result.chosen, *result.uniform), best_row=0),
        "layers": layer_columns(result),
        "bars": _bars(result),
        "legend": _legend(result),
        "curve": TextTable(point_columns(result.curve).columns[1:]),
        "explanation": _explanation(explanation) if explanation is not None else None,
        "assumptions": result.assumptions,
    }
    return render("bits.html.j2", context)


def _cards(result: BitsResult) -> list[dict[str, str]]:
    reached, widest = result.chosen.costs, result.reference.costs
    worse = result.chosen.sensitivity / result.reference.sensitivity if result.reference.sensitivity > 0 else math.nan
    note = f"{worse:,.3g}x that of the widest formats" if math.isfinite(worse) else proof_text(result)

    def against(kind: str) -> str:
        return f"{change_text(reached[kind] / max(1, widest[kind]))} against the widest formats"

    return [
        card("sensitivity", f"{result.chosen.sensitivity:.4g}", note),
        card("cycles", cycles_text(reached["latency"]), against("latency")),
        card("energy", f"{reached['energy'] / 1e12:,.4g} mJ", against("energy")),
        card("DRAM traffic", f"{reached['dram'] / 1e6:,.4g} MB", against("dram")),
        card("weights", f"{reached['size'] / 8e6:,.4g} MB", against("size")),
        card(
            "optimum",
            "proven" if result.proven else proof_text(result),
            f"under the sums of costs; longest solve {result.solve_seconds:.2g} s",
        ),
    ]


def _explanation(explanation: Explanation) -> dict[str, Any]:
    """Groups of layers by what a bit costs there, as bars for each aspect."""
    columns = []
    for aspect, title in ASPECT_TITLES.items():
        groups = explanation.of(aspect)[:_MOST_GROUPS]
        most = max((group.per_bit for group in groups), default=0.0) or 1.0
        columns.append(
            {
                "title": title,
                "rows": [
                    {
                        "name": group.group,
                        "layers": len(group.layers),
                        "width": max(0.0, 100 * group.per_bit / most),
                        "per_bit": f"{group.per_bit:.3g}",
                        "share": percent_text(group.share),
                    }
                    for group in groups
                ],
            }
        )
    source = (
        "The loss is the sum of the table's sensitivities, of which a linear account is exact; what layers do to each "
        "other is seen only where the loss of configurations is measured."
    )
    return {"columns": columns, "trust": trust_text(explanation), "source": source}


def _binding(result: BitsResult) -> str:
    names = [cost_word(kind) for kind in result.binding]
    if not names:
        return "No budget binds: nothing is less sensitive without them."
    verb = "binds" if len(names) == 1 else "bind"
    return f"{' and '.join(names).capitalize()} {verb}: without it, something less sensitive would be chosen."


def _plot(result: BitsResult, kind: str) -> dict[str, Any]:
    """Points in per cent of the plot; sensitivity on a logarithmic axis where all of it is above 0."""
    unit, title = curve_scale(kind)
    groups = ((result.curve, _CURVE_COLOUR, 4), (result.uniform, BASE_COLOUR, 6), ((result.chosen,), BEST_COLOUR, 8))
    every = [point for points, _, _ in groups for point in points]
    logarithmic = min(point.sensitivity for point in every) > 0

    def height(value: float) -> float:
        return math.log10(value) if logarithmic else value

    x = _Axis([point.costs[kind] / unit for point in every] + _limit(result, kind, unit))
    y = _Axis([height(point.sensitivity) for point in every])
    marks = [
        {
            "x": x.percent(point.costs[kind] / unit),
            "y": 100 - y.percent(height(point.sensitivity)),
            "r": radius,
            "colour": colour,
            "label": point.name if colour == BASE_COLOUR else "",
            "tip": f"{point.name}: sensitivity {point.sensitivity:.4g}, {point.costs[kind] / unit:,.4g} ({title})",
        }
        for points, colour, radius in groups
        for point in points
    ]
    ticks = [10.0**power for power in range(math.floor(y.low), math.ceil(y.high) + 1)] if logarithmic else y.ticks()
    legend = [("best for its cost", _CURVE_COLOUR)] if result.curve else []
    legend += [("one option for all layers", BASE_COLOUR), ("chosen", BEST_COLOUR)]
    return {
        "marks": marks,
        "x_ticks": [(x.percent(tick), f"{tick:,.6g}") for tick in x.ticks()],
        "y_ticks": [(100 - y.percent(height(tick)), f"{tick:.3g}") for tick in ticks if y.holds(height(tick))],
        "limit": x.percent(_limit(result, kind, unit)[0]) if kind in result.limits else None,
        "title": title,
        "legend": [{"name": name, "colour": colour, "value": ""} for name, colour in legend],
    }


def _limit(result: BitsResult, kind: str, unit: float) -> list[float]:
    return [result.limits[kind] / unit] if kind in result.limits else []


class _Axis:
    """A range with a margin, round ticks, and places in per cent."""

    def __init__(self, values: Sequence[float]) -> None:
        low, high = min(values), max(values)
        room = (high - low or abs(high) or 1.0) * _MARGIN
        self.low, self.high = low - room, high + room

    def percent(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def ticks(self) -> list[float]:
        """Four to eight round values."""
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def _bars(result: BitsResult) -> list[list[tuple[float, str, str]]]:
    """Widths of weights and activations of each layer: length, colour and tip of a bar."""
    rows, parts = result.rows(), ("weights", "activations")
    widest = max(float(bits_per_element(row[part])) for row in rows for part in parts)
    return [
        [
            (100 * float(bits_per_element(row[part])) / widest, format_colour(row[part]), f"{part}: {row[part]}")
            for part in parts
        ]
        for row in rows
    ]


def _legend(result: BitsResult) -> list[dict[str, str]]:
    names = {name for key in result.problem.option_keys() for name in key[:2]}
    ordered = sorted(names, key=lambda name: (float(bits_per_element(name)), name))
    return [{"name": name, "colour": format_colour(name), "value": ""} for name in ordered]
