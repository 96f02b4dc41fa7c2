"""Figures of a sweep for papers: the Pareto fronts, the sensitivity, the timelines of the best designs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tilewright.reports.figure import figure_text, new_figure, png_bytes, svg_bytes, timeline_figure
from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.folder import file_stems
from tilewright.reports.network_page import CLOSE_OPERATORS
from tilewright.reports.palette import BASE_COLOUR, BEST_COLOUR, operator_colours
from tilewright.reports.quantity import percent_text
from tilewright.reports.sweep.best import BestPoint
from tilewright.reports.sweep.case import FIGURES, SweepCase
from tilewright.reports.sweep.front import front_mask
from tilewright.reports.sweep.page import OBJECTIVE_WORDS
from tilewright.reports.sweep.sensitivity import Effect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

__all__ = ["pareto_figure", "sensitivity_figure", "write_figures"]

_COLUMNS = 3
_MOST_DRAWN = 20_000
_LABELS = {figure.id: f"{figure.label}, {figure.unit}" for figure in FIGURES}


def write_figures(
    folder: str | Path,
    case: SweepCase,
    effects: Sequence[Effect],
    bests: Sequence[BestPoint],
    *,
    form: Literal["png", "svg"],
) -> Path:
    """Write ``pareto``, ``sensitivity`` and a ``timeline-WORKLOAD`` for each best design as files of ``form`` into
    ``folder``; gives the folder.

    Raises InputError when it cannot be written; then none of the files is there.
    """
    to_bytes: Callable[[Figure], bytes] = png_bytes if form == "png" else svg_bytes
    with staged_folder(folder, kind=f"{form} figures") as stage:
        for stem, figure in _figures(case, effects, bests):
            write_file(stage / f"{stem}.{form}", to_bytes(figure))
    return Path(folder)


def _figures(case: SweepCase, effects: Sequence[Effect], bests: Sequence[BestPoint]) -> Iterator[tuple[str, Figure]]:
    if not case.points.empty:
        yield "pareto", pareto_figure(case)
    if effects:
        yield "sensitivity", sensitivity_figure(case, effects)
    stems = file_stems([best.workload for best in bests])
    for best in bests:
        if best.trace is not None and best.trace.commands:
            title = f"{best.workload} on {case.opened.sweep.machine.name} with {best.row['dataflow']}"
            kinds: dict[str, Any] = {}
            if best.is_network:
                kinds = {"colours": operator_colours(), "n_close": CLOSE_OPERATORS}
            figure = timeline_figure(best.trace, title=title, subtitle=best.subtitle, **kinds)
            yield f"timeline-{stems[best.workload]}", figure


def pareto_figure(case: SweepCase) -> Figure:
    """A panel for each workload over the axes of :attr:`SweepCase.axes`: every point, in the colour of its third goal
    (in one colour without one), with the front over the two axes within the limits as steps; points outside the limits
    are hollow."""
    workloads = case.workloads
    n_columns = min(_COLUMNS, len(workloads))
    n_rows = math.ceil(len(workloads) / n_columns)
    figure = new_figure(max(4.6, 3.9 * n_columns), 0.7 + 3.2 * n_rows)
    panels = figure.subplots(n_rows, n_columns, squeeze=False)
    third = case.axes[2]
    for panel, workload in zip(panels.flat, workloads, strict=False):
        marks = _pareto_panel(panel, case, workload)
        if third:
            bar = figure.colorbar(marks, ax=panel, pad=0.02)
            bar.set_label(_LABELS[third], fontsize=8)
            bar.ax.tick_params(labelsize=7)
    for panel in panels.flat[len(workloads) :]:
        panel.set_visible(False)
    title = f"{case.opened.sweep.name} on {case.opened.sweep.machine.name}"
    figure.suptitle(figure_text(title), fontsize=10, x=0.01, ha="left", parse_math=False)
    return figure


def _pareto_panel(axes: Axes, case: SweepCase, workload: str) -> PathCollection:
    points = case.points[case.points["workload"] == workload]
    within = points["within_limits"].to_numpy(dtype=bool)
    across, up, third = case.axes
    x, y = points[across].to_numpy(dtype=float), points[up].to_numpy(dtype=float)
    front = np.flatnonzero(within)[front_mask(np.column_stack([x[within], y[within]]))]
    front = front[np.argsort(x[front])]
    drawn = np.arange(0, len(x), max(1, math.ceil(len(x) / _MOST_DRAWN)))
    inside, outside = drawn[within[drawn]], drawn[~within[drawn]]
    axes.scatter(x[outside], y[outside], s=7, facecolors="none", edgecolors="0.75", linewidths=0.5, rasterized=True)
    style: dict[str, Any] = {"s": 9, "alpha": 0.75, "linewidths": 0, "rasterized": True}
    if third:
        shade = points[third].to_numpy(dtype=float)[inside]
        marks = axes.scatter(x[inside], y[inside], c=shade, cmap="viridis", **style)
    else:
        marks = axes.scatter(x[inside], y[inside], color=BASE_COLOUR, **style)
    axes.step(x[front], y[front], where="post", color="black", linewidth=1.0)
    axes.scatter(x[front], y[front], s=16, facecolors="none", edgecolors="black", linewidths=0.8)
    axes.set_title(figure_text(workload, 40), fontsize=9, loc="left", parse_math=False)
    axes.set_xlabel(_LABELS[across], fontsize=8)
    axes.set_ylabel(_LABELS[up], fontsize=8)
    _logarithmic(axes)
    return marks


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.tick_params(labelsize=7, which="both")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if _decades(axis) < 1 else (1, 2, 5), numticks=9))
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter(NullFormatter())
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def _decades(axis: Axis) -> float:
    low, high = axis.get_view_interval()
    return math.log10(high / low) if 0 < low < high else 0.0


def sensitivity_figure(case: SweepCase, effects: Sequence[Effect]) -> Figure:
    """The share of the variance of the objective that each parameter explains, as bars."""
    figure = new_figure(6.5, 0.9 + 0.36 * len(effects))
    axes = figure.subplots()
    shares = [100 * effect.share for effect in effects]
    colours = [BEST_COLOUR if at == 0 else BASE_COLOUR for at in range(len(effects))]
    bars = axes.barh([effect.name for effect in effects], shares, color=colours, height=0.7)
    axes.bar_label(bars, labels=[percent_text(effect.share) for effect in effects], padding=4, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*shares, 1.0) * 1.14)
    objective = OBJECTIVE_WORDS[case.opened.sweep.objective]
    axes.set_xlabel(f"share of the variance of log({objective}), %", fontsize=8)
    axes.tick_params(labelsize=8)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    return figure
