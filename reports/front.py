"""The latency/energy front of a workload as a table, a figure and a page; on several machines, side by side."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.reports.columns import Column, TextTable
from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text, seconds_text, tiling_text
from tilewright.sim.mapping_front import FrontPoint, MappingFront

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table

__all__ = ["front_columns", "front_figure", "front_tables", "front_title", "write_front_report"]

_MOST_ROWS = 12
_MOST_ON_PAGE = 60


def front_columns(front: MappingFront, rivals: Sequence[MappingFront] = (), *, most: int = _MOST_ROWS) -> TextTable:
    """At most ``most`` points, evenly along the front; and whether each is on the joint front of ``rivals``."""
    points = front.spread(most)
    first = points[0]
    columns = [
        Column(header="cycles", cells=[cycles_text(point.cycles) for point in points], rank=1),
        Column(header="time", cells=[seconds_text(point.seconds) for point in points]),
        Column(header="slower", cells=[_more(point.cycles, first.cycles) for point in points]),
        Column(header="energy", cells=[energy_text(point.energy_pj) for point in points]),
        Column(header="saved", cells=[percent_text(1 - point.energy_pj / first.energy_pj) for point in points]),
        Column(header="DRAM bytes", cells=[bytes_text(point.dram_bytes) for point in points], rank=2),
    ]
    if front.n_operators == 1:
        cells = [f"{m.dataflow}: {tiling_text(m.tiling)}" for m in (point.mappings[0] for point in points)]
        columns.append(Column(header="mapping", cells=cells, right=False, fold=32))
    else:
        columns.append(Column(header="mapped otherwise", cells=[_otherwise(point, first, front) for point in points]))
    if len(rivals) > 1:
        cells = ["no" if _is_beaten(point, rivals) else "yes" for point in points]
        columns.append(Column(header="on joint front", cells=cells, right=False))
    return TextTable(tuple(columns))


def _more(cycles: int, least: int) -> str:
    return percent_text(cycles / least - 1)


def _otherwise(point: FrontPoint, first: FrontPoint, front: MappingFront) -> str:
    """How many operators have another mapping than at the fastest point."""
    ways = {name: (m.dataflow, tuple(m.tiling.items())) for m in first.mappings for name in m.operators}
    n = sum(ways[name] != (m.dataflow, tuple(m.tiling.items())) for m in point.mappings for name in m.operators)
    return f"{n:,} of {front.n_operators:,}"


def _is_beaten(point: FrontPoint, fronts: Sequence[MappingFront]) -> bool:
    """Whether another machine is at least as good in both, and better in one."""
    return any(
        other.seconds <= point.seconds
        and other.energy_pj <= point.energy_pj
        and (other.seconds, other.energy_pj) != (point.seconds, point.energy_pj)
        for front in fronts
        for other in front.points
    )


def front_title(front: MappingFront, *, most: int = _MOST_ROWS) -> str:
    """Workload, machine and the number of points in words, of which ``most`` are shown."""
    n, shown = len(front.points), min(len(front.points), most)
    some = f", {shown} of them" if shown < n else ""
    return f"{front.workload} on {front.machine}: {n:,} mapping{'s' if n > 1 else ''} on the latency/energy front{some}"


def front_tables(console: Console, fronts: Sequence[MappingFront]) -> list[Table]:
    """A table for each front, with what is proven under it."""
    from tilewright.reports.table import fitted_table

    tables = []
    for front in fronts:
        rivals = [other for other in fronts if other.workload == front.workload]
        table = front_columns(front, rivals)
        tables.append(fitted_table(console, front_title(front), table.columns, caption=front.proof))
    return tables


def front_figure(fronts: Sequence[MappingFront]) -> Figure:
    """Energy over time, one line of points for each front; axes are logarithmic where machines differ much."""
    from tilewright.reports.figure import figure_text, new_figure
    from tilewright.reports.palette import component_colours

    figure = new_figure(7.0, 4.2)
    axes = figure.subplots()
    labels = [figure_text(f"{front.workload} on {front.machine}", 60) for front in fronts]
    for label, colour, front in zip(labels, component_colours(labels).values(), fronts, strict=True):
        times = [point.seconds * 1e3 for point in front.points]
        energies = [point.energy_pj * 1e-9 for point in front.points]
        axes.step(times, energies, where="post", color=colour, linewidth=0.8)
        axes.plot(times, energies, "o", color=colour, markersize=3, label=label)
    times = [point.seconds for front in fronts for point in front.points]
    if max(times) > 10 * min(times):
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        _room(axes)
    for values in (axes.xaxis, axes.yaxis):
        values.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.set_xlabel("time, ms", fontsize=8)
    axes.set_ylabel("energy, mJ", fontsize=8)
    axes.tick_params(labelsize=8)
    legend = axes.legend(fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
    return figure


def _room(axes: Axes) -> None:
    """Few places on the axes, and at least a hundredth of what is shown around it: no differences nobody sees."""
    for values, limits in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
        low, high = values.get_view_interval()
        room = max(0.0, 0.01 * high - (high - low)) / 2
        limits(low - room, high + room)
    axes.locator_params(nbins=6)


def write_front_report(folder: str | Path, fronts: Sequence[MappingFront], *, command: str = "") -> Path:
    """Write the page and ``front.png`` into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then neither file is there.
    """
    from tilewright.reports.figure import png_bytes
    from tilewright.reports.files import staged_folder, write_file

    picture = png_bytes(front_figure(fronts))
    with staged_folder(folder) as stage:
        write_file(stage / "front.png", picture)
        write_file(stage / "index.html", _page(fronts, picture, command))
    return Path(folder) / "index.html"


def _page(fronts: Sequence[MappingFront], picture: bytes, command: str) -> str:
    from tilewright.reports.page import card, render

    sections = []
    for front in fronts:
        table = front_columns(
            front, [other for other in fronts if other.workload == front.workload], most=_MOST_ON_PAGE
        )
        title = front_title(front, most=_MOST_ON_PAGE)
        sections.append({"title": title, "proof": front.proof, "head": table.head, "rows": table.rows})
    one = fronts[0]
    what = f"{one.workload} on {one.machine}" if len(fronts) == 1 else f"{len(fronts)} fronts"
    context: dict[str, Any] = {
        "title": f"{what}: latency against energy",
        "lead": "Each point is an exact sum of exact runs: no other choice of mappings is better in both figures.",
        "command": command,
        "cards": [
            card(
                f"{front.workload} on {front.machine}"[:40],
                f"{len(front.points):,} points",
                f"{energy_text(front.points[0].energy_pj)} down to {energy_text(front.points[-1].energy_pj)}",
            )
            for front in fronts[:6]
        ],
        "picture": base64.b64encode(picture).decode("ascii"),
        "fronts": sections,
        "assumptions": list(dict.fromkeys(note for front in fronts for note in front.assumptions)),
    }
    return render("front.html.j2", context)
