"""The geometry of the charts in a page: bars and lanes in per cent of the width, ready for a template.

Templates turn these into inline SVG whose text stays in HTML, so that a chart is as legible on a telephone as on a
desk, and follows the reader's light or dark setting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.reports.palette import (
    ATTRIBUTION_COLOURS,
    BASE_COLOUR,
    BEST_COLOUR,
    KIND_COLOURS,
    component_colours,
    ink_on,
)
from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text, seconds_text, time_unit
from tilewright.reports.window import commands_between, fitting_label
from tilewright.sim.result import Attribution, SimulationResult

if TYPE_CHECKING:
    from tilewright.sim.engine.trace import TraceCommand, TraceWindow

__all__ = [
    "ATTRIBUTION_LABELS",
    "Bar",
    "BarChart",
    "Lane",
    "LaneChart",
    "LegendItem",
    "Mark",
    "Outline",
    "Segment",
    "Tick",
    "attribution_chart",
    "bound_chart",
    "cycles_chart",
    "energy_chart",
    "lane_chart",
    "parts_chart",
    "stacked_chart",
    "time_axis",
]

ATTRIBUTION_LABELS: Mapping[str, str] = {
    "matrix": "matrix unit at work",
    "fill_drain": "matrix fill and drain",
    "vector": "vector unit at work",
    "dram": "DRAM transfer",
    "buffer_wait": "waiting for a buffer slot",
}

_LETTER_PERCENT = 0.75
_MOST_MARKS = 400
_PATH_WIDTH = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One coloured piece of a bar: where it begins and how wide it is, in per cent of the chart."""

    x_percent: float
    width_percent: float
    colour: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a chart: its name, its pieces, the value in words, whether it is the marked one."""

    name: str
    segments: tuple[Segment, ...]
    value: str
    best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendItem:
    """A colour and what it stands for; ``value`` stands beside it where the chart gives one."""

    name: str
    colour: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Horizontal bars on one scale, with an optional line across all of them."""

    bars: tuple[Bar, ...]
    legend: tuple[LegendItem, ...] = ()
    line_percent: float | None = None
    line_text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One command of a lane; ``label`` is empty where it would not fit."""

    x_percent: float
    width_percent: float
    colour: str
    ink: str
    label: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Commands of one kind drawn as a single path, x from 0 to 10,000 and y from 0 to 10."""

    colour: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The commands of one engine: as marks with labels, or only as outlines where there are too many."""

    name: str
    marks: tuple[Mark, ...] = ()
    outlines: tuple[Outline, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on the axis of a lane chart."""

    x_percent: float
    cycles: str
    time: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneChart:
    """A stretch of a timeline: lanes from cycle ``start`` to ``end`` with their axis."""

    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]
    legend: tuple[LegendItem, ...]
    start: int
    end: int


def cycles_chart(results: Sequence[SimulationResult], best: SimulationResult | None) -> BarChart:
    """Cycles of each dataflow with the lower bound of the workload as the line."""
    scale = max((r.cycles for r in results), default=1)
    bars = tuple(
        Bar(
            name=r.dataflow,
            value=cycles_text(r.cycles),
            best=r is best,
            segments=(
                Segment(
                    x_percent=0.0,
                    width_percent=_percent(r.cycles, scale),
                    colour=BEST_COLOUR if r is best else BASE_COLOUR,
                    tip=f"{r.dataflow}: {cycles_text(r.cycles)} cycles, {seconds_text(r.seconds)}",
                ),
            ),
        )
        for r in results
    )
    bound = results[0].lower_bound_cycles
    return BarChart(bars=bars, line_percent=_percent(bound, scale), line_text=f"lower bound {cycles_text(bound)}")


def bound_chart(result: SimulationResult) -> BarChart:
    """What each resource must do at least, against what was achieved; the line is the lower bound."""
    bound = result.lower_bound
    rows = (
        ("matrix work", bound.matrix_cycles, ATTRIBUTION_COLOURS["matrix"]),
        ("vector work", bound.vector_cycles, ATTRIBUTION_COLOURS["vector"]),
        ("compulsory DRAM", bound.dram_cycles, ATTRIBUTION_COLOURS["dram"]),
        ("achieved", result.cycles, BEST_COLOUR),
    )
    bars = tuple(
        Bar(
            name=name,
            value=cycles_text(n_cycles),
            best=name == "achieved",
            segments=(
                Segment(
                    x_percent=0.0,
                    width_percent=_percent(n_cycles, result.cycles),
                    colour=colour,
                    tip=f"{name}: {cycles_text(n_cycles)} cycles",
                ),
            ),
        )
        for name, n_cycles, colour in rows
    )
    line = _percent(bound.cycles, result.cycles)
    return BarChart(bars=bars, line_percent=line, line_text=f"lower bound {cycles_text(bound.cycles)}")


def energy_chart(results: Sequence[SimulationResult], best: SimulationResult | None) -> BarChart:
    """Energy of each dataflow, stacked by component."""
    return stacked_chart([(r.dataflow, r.energy_by_component) for r in results], best=best.dataflow if best else "")


def stacked_chart(rows: Sequence[tuple[str, Mapping[str, float]]], *, best: str = "") -> BarChart:
    """Energy (pJ) of named rows, each stacked by component, all on one scale; the row called ``best`` is marked."""
    totals = [sum(parts.values()) for _, parts in rows]
    scale = max(totals, default=1.0) or 1.0
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    colours = component_colours(names)
    bars = []
    for (row, parts), total in zip(rows, totals, strict=True):
        pieces: list[Segment] = []
        x = 0.0
        for name in names:
            part = parts.get(name, 0.0)
            width = _percent(part, scale)
            share = percent_text(part / total) if total else ""
            tip = f"{name}: {energy_text(part)}, {share}"
            pieces.append(Segment(x_percent=x, width_percent=width, colour=colours[name], tip=tip))
            x += width
        bars.append(Bar(name=row, value=energy_text(total), best=row == best, segments=tuple(pieces)))
    legend = tuple(LegendItem(name=name, colour=colour) for name, colour in colours.items())
    return BarChart(bars=tuple(bars), legend=legend)


def attribution_chart(attribution: Attribution) -> BarChart:
    """The critical path as one stacked bar, with cycles and share in the legend."""
    parts = attribution.to_dict()
    return parts_chart([(label, parts[name], ATTRIBUTION_COLOURS[name]) for name, label in ATTRIBUTION_LABELS.items()])


def parts_chart(parts: Sequence[tuple[str, int, str]]) -> BarChart:
    """Cycles of (label, cycles, colour) parts as one stacked bar, with cycles and share in the legend."""
    total = sum(n_cycles for _, n_cycles, _ in parts) or 1
    pieces: list[Segment] = []
    legend: list[LegendItem] = []
    x = 0.0
    for label, n_cycles, colour in parts:
        width = _percent(n_cycles, total)
        value = f"{cycles_text(n_cycles)} cycles, {percent_text(n_cycles / total)}"
        pieces.append(Segment(x_percent=x, width_percent=width, colour=colour, tip=f"{label}: {value}"))
        legend.append(LegendItem(name=label, colour=colour, value=value))
        x += width
    return BarChart(bars=(Bar(name="", segments=tuple(pieces), value=""),), legend=tuple(legend))


def lane_chart(trace: TraceWindow, start: int, end: int, *, colours: Mapping[str, str] = KIND_COLOURS) -> LaneChart:
    """The commands between two cycles (start < end), one lane per engine, in the colours of their kinds.

    Up to some hundreds of commands become marks with labels and tips; more than that become outlines.
    """
    shown = commands_between(trace, start, end)
    detailed = len(shown) <= _MOST_MARKS
    lanes = []
    for engine, name in enumerate(trace.engines):
        own = [c for c in shown if c.engine == engine]
        if detailed:
            lanes.append(Lane(name=name, marks=tuple(_mark(c, start, end, colours) for c in own)))
        else:
            lanes.append(Lane(name=name, outlines=_outlines(own, start, end, colours)))
    kinds = {c.kind for c in shown}
    legend = tuple(LegendItem(name=k, colour=c) for k, c in colours.items() if k in kinds)
    return LaneChart(lanes=tuple(lanes), ticks=_ticks(start, end, trace.clock_ghz), legend=legend, start=start, end=end)


def _mark(c: TraceCommand, start: int, end: int, colours: Mapping[str, str]) -> Mark:
    left, right = max(c.start, start), min(c.end, end)
    share = (right - left) / (end - start) * 100
    size = f", {bytes_text(c.n_bytes)}" if c.n_bytes else ""
    span = f"cycles {cycles_text(c.start)} to {cycles_text(c.end)} ({cycles_text(c.end - c.start)})"
    colour = colours.get(c.kind, BASE_COLOUR)
    return Mark(
        x_percent=round((left - start) / (end - start) * 100, 3),
        width_percent=round(share, 3),
        colour=colour,
        ink=ink_on(colour),
        label=fitting_label(c.label, int(share / _LETTER_PERCENT)),
        tip=f"{c.label}: {span}{size}",
    )


def _outlines(
    commands: Sequence[TraceCommand], start: int, end: int, colours: Mapping[str, str]
) -> tuple[Outline, ...]:
    """One path per kind; commands that touch at the path's resolution are drawn as one."""
    spans: dict[str, list[list[int]]] = {}
    for c in commands:
        left = (max(c.start, start) - start) * _PATH_WIDTH // (end - start)
        right = max(-((start - min(c.end, end)) * _PATH_WIDTH // (end - start)), left + 1)
        merged = spans.setdefault(c.kind, [])
        if merged and left <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], right)
        else:
            merged.append([left, right])
    return tuple(
        Outline(
            colour=colours.get(kind, BASE_COLOUR),
            path="".join(f"M{left} 0H{right}V10H{left}z" for left, right in pieces),
        )
        for kind, pieces in spans.items()
    )


def time_axis(start: int, end: int, clock_ghz: float) -> LaneChart:
    """An axis of cycles and time without lanes."""
    return LaneChart(lanes=(), ticks=_ticks(start, end, clock_ghz), legend=(), start=start, end=end)


def _ticks(start: int, end: int, clock_ghz: float) -> tuple[Tick, ...]:
    """Round places on the axis, about six of them."""
    raw = (end - start) / 6
    magnitude = 10 ** math.floor(math.log10(max(raw, 1.0)))
    step = next(int(m * magnitude) for m in (1, 2, 5, 10) if m * magnitude >= raw or m == 10)
    first = -(-start // step) * step
    unit, cycles_per_unit = time_unit(end, clock_ghz)
    n_decimals = max(0, 1 - math.floor(math.log10(step / cycles_per_unit)))
    return tuple(
        Tick(
            x_percent=(at - start) / (end - start) * 100,
            cycles=cycles_text(at),
            time=f"{at / cycles_per_unit:,.{n_decimals}f} {unit}" if at else f"0 {unit}",
        )
        for at in range(first, end, step)
        if (at - start) / (end - start) <= 0.96
    )


def _percent(part: float, whole: float) -> float:
    return round(part / whole * 100, 3) if whole else 0.0
