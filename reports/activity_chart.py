"""A network over time by engine: rows for the page, a panel of the figure, and tracks of the trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tilewright.reports.palette import BASE_COLOUR, KIND_COLOURS
from tilewright.reports.quantity import bytes_text, cycles_text, percent_text
from tilewright.search.activity import NetworkActivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tilewright.reports.figure import Panel

__all__ = ["ActivityRow", "activity_data", "activity_panel", "activity_rows", "activity_tracks", "draw_activity"]

_PATH_WIDTH, _PATH_HEIGHT = 10_000, 100
_MOST_TIPS = 400
_COLUMNS = 900
_ENGINES_PROCESS = 2
_BUFFER_COLOUR = "#7d4bb3"

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRow:
    """One row: ``shares`` (one a span, 0 to 1) of what ``full`` says; ``note`` is the mean or the most, in words.

    ``is_peak``: the shares are the most within each span, not its mean.
    """

    name: str
    colour: str
    shares: FloatArray
    full: str
    note: str
    is_peak: bool = False


def activity_rows(activity: NetworkActivity, clock_ghz: float) -> list[ActivityRow]:
    """Four engines, the DRAM's traffic and the buffer, in that order."""
    rows = [
        ActivityRow(
            name=f"{kind} unit" if kind in ("matrix", "vector") else kind,
            colour=KIND_COLOURS[kind],
            shares=busy,
            full="always busy",
            note=f"{percent_text(activity.mean(busy))} busy",
        )
        for kind, busy in activity.busy.items()
    ]
    moved = activity.read_rate + activity.write_rate  # both ways share what the DRAM can move
    peak_gb_per_s = activity.peak_rate * clock_ghz
    held = activity.held_bytes / activity.capacity_bytes
    rows.append(
        ActivityRow(
            name="DRAM",
            colour=BASE_COLOUR,
            shares=moved / activity.peak_rate,
            full=f"{peak_gb_per_s:,.4g} GB/s",
            note=f"{activity.mean(moved) * clock_ghz:,.3g} of {peak_gb_per_s:,.4g} GB/s",
        )
    )
    rows.append(
        ActivityRow(
            name=f"buffer {activity.buffer}",
            colour=_BUFFER_COLOUR,
            shares=held,
            full=bytes_text(activity.capacity_bytes),
            note=f"most {bytes_text(float(activity.held_bytes.max()))} of {bytes_text(activity.capacity_bytes)}",
            is_peak=True,
        )
    )
    return rows


def activity_data(activity: NetworkActivity, names: Sequence[str], clock_ghz: float) -> dict[str, Any]:
    """The rows for a template: areas in a box 10,000 wide and 100 high, and what is told of each operator."""
    at = np.linspace(0, 1, _COLUMNS + 1)
    return {
        "rows": [
            {"name": row.name, "colour": row.colour, "note": row.note, "path": _area(at, _columns(activity, row))}
            for row in activity_rows(activity, clock_ghz)
        ],
        "tips": list(_tips(activity, names)) if len(names) <= _MOST_TIPS else [],
        "n_mean": activity.n_mean,
    }


def _columns(activity: NetworkActivity, row: ActivityRow) -> FloatArray:
    """The row in as many equal columns as a page has room for: the mean of each, of a peak the most."""
    edges = activity.edges.astype(np.float64)
    at = np.linspace(0, edges[-1], _COLUMNS + 1)
    if row.is_peak:
        first = np.searchsorted(edges, at[:-1], side="right") - 1
        most = np.maximum.reduceat(row.shares, first)  # of spans that begin in the column, or reach into it
        return np.asarray(most, dtype=np.float64)
    done = np.concatenate([[0.0], np.cumsum(row.shares * np.diff(edges))])
    means: FloatArray = np.diff(np.interp(at, edges, done)) / np.diff(at)
    return means


def _area(at: FloatArray, shares: FloatArray) -> str:
    """The steps of ``shares`` as a closed path from left to right; equal neighbours are one step."""
    heights = _PATH_HEIGHT - np.round(np.clip(shares, 0, 1) * _PATH_HEIGHT).astype(int)
    starts = np.flatnonzero(np.concatenate([[True], heights[1:] != heights[:-1]]))
    xs = np.round(at[np.concatenate([starts, [len(heights)]])] * _PATH_WIDTH).astype(int)
    steps = "".join(f"V{heights[start]}H{x}" for start, x in zip(starts, xs[1:], strict=True))
    return f"M0 {_PATH_HEIGHT}{steps}V{_PATH_HEIGHT}z"


def _tips(activity: NetworkActivity, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    starts, total = activity.starts.tolist(), int(activity.edges[-1])
    means = {kind: activity.by_operator(busy) for kind, busy in activity.busy.items()}
    for number, name in enumerate(names):
        start, end = starts[number : number + 2]
        busy = ", ".join(f"{kind} {percent_text(float(mean[number]))}" for kind, mean in means.items())
        yield {
            "x_percent": round(start / total * 100, 3),
            "width_percent": round((end - start) / total * 100, 3),
            "tip": f"{name}: cycles {cycles_text(start)} to {cycles_text(end)}; busy: {busy}",
        }


def activity_panel(activity: NetworkActivity, clock_ghz: float) -> Panel:
    """The rows as a panel of a timeline."""
    from tilewright.reports.figure import Panel

    draw = partial(draw_activity, activity=activity, clock_ghz=clock_ghz)
    return Panel("by engine", len(activity_rows(activity, clock_ghz)), draw)


def draw_activity(axes: Axes, activity: NetworkActivity, clock_ghz: float) -> None:
    """The rows as steps under each other, first row on top; what is full scale stands at the right."""
    rows = activity_rows(activity, clock_ghz)
    columns = np.linspace(0, int(activity.edges[-1]), _COLUMNS + 1)
    for number, row in enumerate(rows):
        low = number + 0.42
        heights = low - 0.84 * np.clip(_columns(activity, row), 0, 1)
        axes.stairs(heights, columns, baseline=low, fill=True, color=row.colour)
        axes.axhline(low, color="0.8", linewidth=0.5)
    axes.set_xlim(0, int(activity.edges[-1]))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [f"{row.name}\n{row.note}" for row in rows], fontsize=7.5)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for side in ("right", "left", "top"):
        axes.spines[side].set_visible(False)


def activity_tracks(activity: NetworkActivity, names: Sequence[str], clock_ghz: float) -> list[dict[str, Any]]:
    """Events of the trace: a process with a thread per engine, whose slices are operators that use it, and counters.

    Counters (``ph`` = ``C``): busy in per cent, DRAM traffic in GB/s, bytes held in the buffer; a value holds until the
    next one, and equal ones are written once.
    """
    per_us = clock_ghz * 1e3
    events = [_named("process_name", 0, "engines"), *_slices(activity, names, per_us)]
    values: Mapping[str, tuple[str, FloatArray]] = {
        **{f"{kind} busy, %": ("%", np.round(busy * 100, 2)) for kind, busy in activity.busy.items()},
        "DRAM read, GB/s": ("GB/s", np.round(activity.read_rate * clock_ghz, 4)),
        "DRAM write, GB/s": ("GB/s", np.round(activity.write_rate * clock_ghz, 4)),
        f"buffer {activity.buffer} held, bytes": ("bytes", activity.held_bytes),
    }
    for name, (unit, series) in values.items():
        before = None
        for at, value in zip(activity.edges.tolist(), [*series.tolist(), 0], strict=True):
            if value != before:
                events.append(
                    {"name": name, "ph": "C", "ts": at / per_us, "pid": _ENGINES_PROCESS, "args": {unit: value}}
                )
            before = value
    return events


def _slices(activity: NetworkActivity, names: Sequence[str], per_us: float) -> Iterator[dict[str, Any]]:
    for thread, (kind, busy) in enumerate(activity.busy.items(), start=1):
        yield _named("thread_name", thread, kind)
        yield {
            "name": "thread_sort_index", "ph": "M", "pid": _ENGINES_PROCESS, "tid": thread,
            "args": {"sort_index": thread},
        }  # fmt: skip
        spans = pairwise(activity.starts.tolist())
        for operator, share, (start, end) in zip(names, activity.by_operator(busy).tolist(), spans, strict=True):
            if share > 0:
                yield {
                    "name": operator,
                    "cat": kind,
                    "ph": "X",
                    "ts": start / per_us,
                    "dur": (end - start) / per_us,
                    "pid": _ENGINES_PROCESS,
                    "tid": thread,
                    "args": {
                        "start_cycle": start,
                        "end_cycle": end,
                        "busy": f"{share * 100:.2f} %",
                        "busy_cycles": round(share * (end - start)),
                    },
                }


def _named(what: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": _ENGINES_PROCESS, "tid": thread, "args": {"name": name}}
