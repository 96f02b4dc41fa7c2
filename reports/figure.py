"""Figures as PNG: the timeline of a run, cycles and energy of the dataflows, speed-ups over networks."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tilewright.errors import visible
from tilewright.reports.palette import BASE_COLOUR, BEST_COLOUR, KIND_COLOURS, component_colours, ink_on
from tilewright.reports.quantity import cycles_text, ratio_text, time_unit
from tilewright.reports.window import READABLE_COMMANDS, closeup, commands_between, fitting_label, recorded_span
from tilewright.sim.result import SimulationResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tilewright.sim.engine.trace import TraceCommand, TraceWindow

__all__ = [
    "Panel",
    "bars_figure",
    "cycles_figure",
    "cycles_png",
    "energy_png",
    "figure_text",
    "grouped_figure",
    "new_figure",
    "png_bytes",
    "speedup_png",
    "svg_bytes",
    "timeline_figure",
    "timeline_png",
]

_DPI = 130
_LABEL_POINTS = 7.0
_POINTS_PER_LETTER = _LABEL_POINTS * 0.57
_BAR_HEIGHT = 0.78
_THIN_SHARE = 0.003
_LANE_INCHES = 0.36
_MOST_OF_NAME = 40


class Panel(NamedTuple):
    """A panel of rows that others draw."""

    title: str
    n_rows: int
    draw: Callable[[Axes], None]


def timeline_png(
    trace: TraceWindow,
    *,
    title: str,
    subtitle: str = "",
    colours: Mapping[str, str] = KIND_COLOURS,
    n_close: int = READABLE_COMMANDS,
    below: Panel | None = None,
) -> bytes:
    """:func:`timeline_figure` as a PNG file."""
    return png_bytes(
        timeline_figure(trace, title=title, subtitle=subtitle, colours=colours, n_close=n_close, below=below)
    )


def timeline_figure(
    trace: TraceWindow,
    *,
    title: str,
    subtitle: str = "",
    colours: Mapping[str, str] = KIND_COLOURS,
    n_close: int = READABLE_COMMANDS,
    below: Panel | None = None,
) -> Figure:
    """The timeline of ``trace``: one lane per engine, coloured by kind, cycles below and time above.

    A long trace gets two panels: everything recorded, and a closer look at about ``n_close`` commands, in which labels
    can be read. ``below``: one more panel, under the whole and on its scale of cycles.
    """
    zoom = closeup(trace, n_commands=n_close)
    lanes = [_LANE_INCHES * max(len(trace.engines), 2)] * (1 if zoom is None else 2)
    heights = lanes if below is None else [lanes[0], _LANE_INCHES * below.n_rows, *lanes[1:]]
    figure = new_figure(12.0, 1.15 + sum(heights) + 0.95 * len(lanes) + (0.75 if below else 0.0))
    every = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = [axis for at, axis in enumerate(every) if below is None or at != 1]
    start, end = recorded_span(trace)
    _draw_lanes(axes[0], trace, start, end, colours, labels=zoom is None)
    _time_axis(axes[0], trace.clock_ghz)
    if zoom is not None:
        axes[0].axvspan(zoom.start, zoom.end, facecolor="none", edgecolor="black", linewidth=0.9)
        axes[0].set_title(_extent_text(trace, start, end), fontsize=9, loc="left")
        _draw_lanes(axes[1], trace, zoom.start, zoom.end, colours, labels=True)
        _time_axis(axes[1], trace.clock_ghz)
        axes[1].set_title(
            f"closer look: cycles {cycles_text(zoom.start)} to {cycles_text(zoom.end)}", fontsize=9, loc="left"
        )
    if below is not None:
        below.draw(every[1])
        every[1].set_title(below.title, fontsize=9, loc="left")
    every[-1].set_xlabel("cycles (time above)" if below is None or zoom is not None else "cycles", fontsize=8)
    kinds = {c.kind for c in trace.commands}
    _legend(figure, {kind: colour for kind, colour in colours.items() if kind in kinds})
    head = figure_text(f"{title}\n{subtitle}" if subtitle else title)
    figure.suptitle(head, fontsize=11, x=0.01, ha="left", parse_math=False)
    return figure


def cycles_png(results: Sequence[SimulationResult], *, best: SimulationResult | None, title: str) -> bytes:
    """:func:`cycles_figure` as a PNG file."""
    return png_bytes(cycles_figure(results, best=best, title=title))


def cycles_figure(results: Sequence[SimulationResult], *, best: SimulationResult | None, title: str) -> Figure:
    """Cycles of each dataflow as bars, the best one marked, with the lower bound as a line."""
    figure = new_figure(8.0, 0.9 + 0.42 * len(results))
    axes = figure.subplots()
    names = [r.dataflow for r in results]
    colours = [BEST_COLOUR if r is best else BASE_COLOUR for r in results]
    bars = axes.barh(names, [r.cycles for r in results], color=colours, height=0.7)
    axes.bar_label(bars, labels=[cycles_text(r.cycles) for r in results], padding=4, fontsize=8)
    bound = results[0].lower_bound_cycles
    axes.axvline(bound, color="black", linestyle="--", linewidth=1.0)
    axes.annotate(
        f"lower bound {cycles_text(bound)}",
        (bound, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=8,
    )
    axes.set_xlim(0, max(r.cycles for r in results) * 1.16)
    _finish_bars(axes, title, "cycles")
    return figure


def bars_figure(
    values: Mapping[str, float], *, text: Callable[[float], str], title: str, unit: str, marked: str = ""
) -> Figure:
    """A bar for each name with its value in words; the one called ``marked`` stands out."""
    figure = new_figure(8.0, 0.9 + 0.42 * len(values))
    axes = figure.subplots()
    colours = [BEST_COLOUR if name == marked else BASE_COLOUR for name in values]
    bars = axes.barh(range(len(values)), list(values.values()), color=colours, height=0.7)
    axes.set_yticks(range(len(values)), [figure_text(name, _MOST_OF_NAME) for name in values])
    axes.bar_label(bars, labels=[text(value) for value in values.values()], padding=4, fontsize=8)
    axes.set_xlim(0, max(values.values()) * 1.16)
    _finish_bars(axes, title, unit)
    return figure


def grouped_figure(values: Mapping[str, Mapping[str, float]], *, title: str, unit: str) -> Figure:
    """For each name a group of bars, one for each member in the colour that it has in every group."""
    members = list(dict.fromkeys(member for group in values.values() for member in group))
    colours = component_colours(members)
    height = 0.8 / max(1, len(members))
    figure = new_figure(8.0, 1.1 + 0.24 * len(members) * len(values) + 0.15 * len(values))
    axes = figure.subplots()
    for at, member in enumerate(members):
        shift = (at - (len(members) - 1) / 2) * height
        places = [row + shift for row, group in enumerate(values.values()) if member in group]
        axes.barh(
            places,
            [group[member] for group in values.values() if member in group],
            height=height * 0.9,
            color=colours[member],
            label=figure_text(member, _MOST_OF_NAME),
        )
    axes.set_yticks(range(len(values)), labels=[figure_text(name, _MOST_OF_NAME) for name in values])
    axes.legend(fontsize=8, frameon=False, ncols=min(4, len(members)), loc="lower left", bbox_to_anchor=(0.0, 1.0))
    _finish_bars(axes, title, unit, title_pad=24.0 + 12.0 * ((len(members) - 1) // 4))
    return figure


def energy_png(results: Sequence[SimulationResult], *, title: str) -> bytes:
    """Energy of each dataflow as bars stacked by component, in microjoules."""
    figure = new_figure(8.0, 1.2 + 0.42 * len(results))
    axes = figure.subplots()
    components = list(dict.fromkeys(name for r in results for name in r.energy_by_component))
    left = [0.0] * len(results)
    for component, colour in component_colours(components).items():
        parts = [r.energy_by_component.get(component, 0.0) / 1e6 for r in results]
        axes.barh([r.dataflow for r in results], parts, left=left, color=colour, height=0.7, label=component)
        left = [a + b for a, b in zip(left, parts, strict=True)]
    axes.legend(fontsize=8, frameon=False, ncols=len(components), loc="lower left", bbox_to_anchor=(0.0, 1.0))
    _finish_bars(axes, title, "energy, uJ", title_pad=24.0)
    return png_bytes(figure)


def speedup_png(by_workload: Mapping[str, float], *, title: str) -> bytes:
    """Speed-up of one dataflow over another, one bar per network, with a line at 1."""
    figure = new_figure(8.0, 0.9 + 0.36 * len(by_workload))
    axes = figure.subplots()
    bars = axes.barh(range(len(by_workload)), list(by_workload.values()), color=BEST_COLOUR, height=0.7)
    axes.set_yticks(range(len(by_workload)), [figure_text(name, _MOST_OF_NAME) for name in by_workload])
    axes.bar_label(bars, labels=[ratio_text(v) for v in by_workload.values()], padding=4, fontsize=8)
    axes.axvline(1.0, color="black", linestyle="--", linewidth=1.0)
    axes.set_xlim(0, max(by_workload.values()) * 1.12)
    _finish_bars(axes, title, "speed-up (cycles over cycles)")
    return png_bytes(figure)


def _draw_lanes(
    axes: Axes, trace: TraceWindow, start: int, end: int, colours: Mapping[str, str], *, labels: bool
) -> None:
    """Draw the commands between two cycles into ``axes``, first engine on top."""
    shown = commands_between(trace, start, end)
    groups: dict[tuple[int, str], list[TraceCommand]] = {}
    for command in shown:
        groups.setdefault((command.engine, command.kind), []).append(command)
    thin = (end - start) * _THIN_SHARE
    for (engine, kind), commands in groups.items():
        colour = colours.get(kind, BASE_COLOUR)
        rows = (engine - _BAR_HEIGHT / 2, _BAR_HEIGHT)
        # A white edge tells neighbours apart, but would swallow a bar that is hardly wider than the edge.
        for wide, edge in ((True, "white"), (False, colour)):
            spans = [(c.start, c.end - c.start) for c in commands if (c.end - c.start > thin) == wide]
            if spans:
                axes.broken_barh(spans, rows, facecolors=colour, edgecolors=edge, linewidth=0.4)
    axes.set_xlim(start, end)
    axes.set_ylim(len(trace.engines) - 0.5, -0.5)
    axes.set_yticks(range(len(trace.engines)), trace.engines, fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for side in ("right", "left"):
        axes.spines[side].set_visible(False)
    if labels:
        _label_commands(axes, shown, start, end, colours)


def _label_commands(axes: Axes, commands: list[TraceCommand], start: int, end: int, colours: Mapping[str, str]) -> None:
    """Write the labels that fit into their bars, and the first letters of those that nearly do."""
    width_points = axes.get_window_extent().width * 72.0 / _DPI
    for command in commands:
        left, right = max(command.start, start), min(command.end, end)
        room = int((right - left) / (end - start) * width_points / _POINTS_PER_LETTER)
        text = fitting_label(command.label, room) or command.label.rpartition(".")[2][: max(room - 1, 0)] + "…"
        if len(text) < 3 and not command.label.endswith(text):
            continue
        axes.text(
            (left + right) / 2,
            command.engine,
            figure_text(text),
            ha="center",
            va="center",
            fontsize=_LABEL_POINTS,
            color=ink_on(colours.get(command.kind, BASE_COLOUR)),
            parse_math=False,
            clip_on=True,
        )


def _time_axis(axes: Axes, clock_ghz: float) -> None:
    """A second axis on top with the time of the same cycles."""
    unit, cycles_per_unit = time_unit(axes.get_xlim()[1], clock_ghz)
    top = axes.secondary_xaxis("top", functions=(_scale_by(1.0 / cycles_per_unit), _scale_by(cycles_per_unit)))
    top.tick_params(labelsize=7, colors="0.35")
    top.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g} {unit}")


def _scale_by(factor: float) -> Callable[[ArrayLike], ArrayLike]:
    return lambda values: np.asarray(values, dtype=float) * factor


def _extent_text(trace: TraceWindow, start: int, end: int) -> str:
    if trace.complete:
        return f"whole run: {cycles_text(trace.total_cycles)} cycles"
    part = "first " if start == 0 else ""
    return (
        f"{part}{len(trace.commands):,} commands: cycles {cycles_text(start)} to {cycles_text(end)} "
        f"of {cycles_text(trace.total_cycles)}"
    )


def figure_text(text: str, most: int = 100) -> str:
    """``text`` as it may stand in a figure: lines of at most ``most`` letters, with what does not print shown."""
    return "\n".join(_without_middle(visible(line), most) for line in text.split("\n"))


def _without_middle(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[-(most // 2) :]}"


def _legend(figure: Figure, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=colour, label=kind) for kind, colour in colours.items()]
    if handles:
        figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=8, frameon=False)


def _finish_bars(axes: Axes, title: str, label: str, *, title_pad: float = 16.0) -> None:
    axes.invert_yaxis()
    axes.set_title(figure_text(title), fontsize=10, loc="left", pad=title_pad, parse_math=False)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.set_xlabel(label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure of that size, which a notebook shows as it is."""
    return _shown_figure()(figsize=(width_inches, height_inches), dpi=_DPI, layout="constrained")


@cache
def _shown_figure() -> type[Figure]:
    """A figure that draws itself in a notebook without matplotlib's pyplot, whose figures would stay open."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            return png_bytes(self)

    return ShownFigure


@contextlib.contextmanager
def _any_script() -> Iterator[None]:
    """Names in scripts that the font lacks are drawn with boxes; that is no news for a terminal."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def png_bytes(figure: Figure) -> bytes:
    """``figure`` as a PNG file."""
    stream = io.BytesIO()
    with _any_script():
        figure.savefig(stream, format="png", metadata={"Software": "Tilewright"})
    return stream.getvalue()


def svg_bytes(figure: Figure) -> bytes:
    """``figure`` as an SVG file, the same one every time; its texts stay texts."""
    import matplotlib

    stream = io.BytesIO()
    with _any_script(), matplotlib.rc_context({"svg.hashsalt": "tilewright", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Creator": "Tilewright", "Date": None})
    return stream.getvalue()
