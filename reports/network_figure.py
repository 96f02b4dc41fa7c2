"""The roofline of a network as PNG."""

from __future__ import annotations

from tilewright.reports.figure import figure_text, new_figure, png_bytes
from tilewright.reports.palette import ink_on
from tilewright.reports.roofline import Roofline

__all__ = ["roofline_png"]

_ROOF_COLOUR = "0.25"


def roofline_png(roof: Roofline, *, title: str) -> bytes:
    """Multiply-adds per cycle over multiply-adds per byte, one mark per group of operators, under the roofs."""
    from matplotlib.lines import Line2D

    figure = new_figure(9.0, 5.4)
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(roof.x.low, roof.x.high)
    axes.set_ylim(roof.y.low, roof.y.high)
    x1, y1, x2, y2 = roof.slope
    axes.plot([x1, x2], [y1, y2], color=_ROOF_COLOUR, linewidth=1.4)
    axes.annotate(roof.bandwidth, (x1, y1), xytext=(30, 4), textcoords="offset points", fontsize=8, va="bottom")
    for number, item in enumerate(roof.roofs):
        peak = item.macs_per_cycle
        axes.plot([roof.ridge(item), roof.x.high], [peak, peak], color=_ROOF_COLOUR, linewidth=1.4)
        text = f"{item.formats}: {peak:,.0f} a cycle"
        axes.annotate(
            text,
            (roof.x.high, peak),
            xytext=(-4, -14 if number else 12),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    for point in roof.points:
        axes.scatter(
            [point.x], [point.y], s=(1.25 * point.radius) ** 2, color=point.colour, edgecolors="white", linewidths=0.8,
            alpha=0.85, zorder=3,
        )  # fmt: skip
        if point.number:
            axes.annotate(
                point.number, (point.x, point.y), ha="center", va="center", fontsize=6.5, zorder=4,
                color=ink_on(point.colour),
            )  # fmt: skip
    axes.set_xlabel("multiply-adds per DRAM byte", fontsize=8)
    axes.set_ylabel("multiply-adds per cycle", fontsize=8)
    axes.tick_params(labelsize=8)
    for values in (axes.xaxis, axes.yaxis):
        values.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(True, which="major", color="0.9", linewidth=0.6)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=kind) for kind, colour in roof.kinds.items()
    ]
    axes.legend(handles=handles, fontsize=8, frameon=False, loc="lower right")
    axes.set_title(figure_text(title), fontsize=10, loc="left", parse_math=False)
    return png_bytes(figure)
