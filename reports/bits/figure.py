"""Pictures of a search over bit widths."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.formats import bits_per_element
from tilewright.reports.bits.words import curve_scale, format_colour
from tilewright.reports.figure import figure_text, new_figure, png_bytes
from tilewright.reports.palette import BASE_COLOUR, BEST_COLOUR
from tilewright.search.bits.choose import BitPoint, BitsResult

__all__ = ["curve_png", "layers_png"]

_CURVE_COLOUR = "#3b6fd4"


def curve_png(result: BitsResult, *, kind: str = "") -> bytes:
    """Sensitivity over a cost: the curve, the chosen point, uniform formats, and the budget as a line."""
    kind = kind or result.curve_kind
    unit, title = curve_scale(kind)
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()

    def places(points: Sequence[BitPoint]) -> tuple[list[float], list[float]]:
        return [point.costs[kind] / unit for point in points], [point.sensitivity for point in points]

    if result.curve:
        x, y = places(result.curve)
        axes.step(x, y, where="post", color=_CURVE_COLOUR, linewidth=1.2, alpha=0.6)
        axes.scatter(x, y, s=16, color=_CURVE_COLOUR, label="best for its cost", zorder=3)
    x, y = places(result.uniform)
    axes.scatter(x, y, s=34, marker="s", color=BASE_COLOUR, label="one option for all layers", zorder=3)
    for point in result.uniform:
        axes.annotate(
            point.name,
            (point.costs[kind] / unit, point.sensitivity),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
        )
    x, y = places([result.chosen])
    axes.scatter(x, y, s=90, marker="*", color=BEST_COLOUR, label="chosen", zorder=4)
    if kind in result.limits:
        axes.axvline(result.limits[kind] / unit, color="0.4", linewidth=1.0, linestyle="--", label="budget")
    if min(point.sensitivity for point in (*result.curve, *result.uniform, result.chosen)) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(title, fontsize=8)
    axes.set_ylabel("sensitivity", fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.tick_params(labelsize=8)
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    axes.set_title(figure_text(f"{result.network} on {result.machine}"), fontsize=10, loc="left", parse_math=False)
    return png_bytes(figure)


def layers_png(result: BitsResult) -> bytes:
    """Bits of weights (up) and activations (down) of each layer, in order."""
    rows = result.rows()
    figure = new_figure(min(14.0, max(7.2, 0.17 * len(rows))), 3.6)
    axes = figure.subplots()
    for sign, part in ((1, "weights"), (-1, "activations")):
        heights = [sign * float(bits_per_element(row[part])) for row in rows]
        axes.bar(range(len(rows)), heights, width=0.86, color=[format_colour(row[part]) for row in rows])
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.set_ylabel("bits: activations | weights", fontsize=8)
    step = max(1, len(rows) // 40)
    names = [figure_text(row["layer"], 24) for row in rows[::step]]
    axes.set_xticks(range(0, len(rows), step), names, rotation=90, fontsize=6)
    for text in axes.get_xticklabels():
        text.set_parse_math(False)
    axes.tick_params(axis="y", labelsize=8)
    axes.margins(x=0.01)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    title = figure_text(f"{result.network} on {result.machine}: formats by layer")
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    return png_bytes(figure)
