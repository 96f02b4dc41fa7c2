"""One self-contained HTML page per result: nothing is fetched, every string of the user escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.errors import visible
from tilewright.reports.activity_chart import activity_data
from tilewright.reports.case import ReportCase
from tilewright.reports.charts import attribution_chart, bound_chart, cycles_chart, energy_chart, lane_chart, time_axis
from tilewright.reports.columns import TextTable, comparison_columns, search_sentence, what_if_columns
from tilewright.reports.layer_words import layer_words, network_words
from tilewright.reports.palette import KIND_COLOURS
from tilewright.reports.quantity import (
    bytes_text,
    cycles_text,
    energy_text,
    percent_text,
    ratio_text,
    seconds_text,
    sequence_text,
    tiling_text,
)
from tilewright.reports.ranking import baseline_of
from tilewright.reports.window import READABLE_COMMANDS, closeup, recorded_span
from tilewright.sim.lowering.levels import levels_of
from tilewright.sim.result import SimulationResult

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.engine.trace import TraceWindow

__all__ = ["card", "cell", "energy_rows", "largest_part", "machine_rows", "render", "result_page", "timeline_data"]

_STATIONARITY = {
    "output": "output-stationary",
    "weight": "weight-stationary",
    "input": "input-stationary",
    "flexible": "each command with the stationarity that is fastest",
}
_TEMPLATES = Path(__file__).with_name("templates")
_LONG_VALUE = 10
_LONGER_VALUE = 12
_BOUND_NAMES = {"matrix": "matrix work", "vector": "vector work", "dram": "compulsory DRAM traffic"}


def result_page(case: ReportCase, *, back: str = "", files: Sequence[str] = ()) -> str:
    """The page of one result as HTML text.

    ``back`` links to the page of all networks; ``files`` are the names of files that lie beside the page.
    """
    result = case.result
    compared = len(case.rivals) > 1 or bool(case.infeasible)
    context: dict[str, Any] = {
        "title": case.title,
        "lead": _lead(case),
        "back": back,
        "command": case.command,
        "result": result,
        "cards": _cards(case),
        "comparison": _comparison(case) if compared else None,
        "infeasible": case.infeasible,
        "cycles_chart": cycles_chart(case.rivals, result) if compared else None,
        "energy_chart": energy_chart(case.rivals, result) if compared else None,
        "timeline": _timeline(case, files),
        "bound": {
            "cycles": cycles_text(result.lower_bound_cycles),
            "limited_by": _BOUND_NAMES[result.lower_bound.limited_by],
            "ratio": f"{result.bound_ratio:.3f}",
            "achieved": cycles_text(result.cycles),
        },
        "bound_chart": bound_chart(result),
        "attribution_chart": attribution_chart(case.why.attribution) if case.why and case.why.attribution else None,
        "what_ifs": _marked_rows(what_if_columns(case.why)) if case.why else [],
        "what_if_note": what_if_columns(case.why).note if case.why else "",
        "energy_rows": energy_rows(result.energy_by_component),
        "search": _search(result),
        "longest": sequence_text(result.longest_sequence or 0),
        "buffer_rows": _buffer_rows(case),
        "machine_rows": machine_rows(case.machine, result.assumptions),
    }
    return render("result.html.j2", context)


def render(template: str | Path, context: Mapping[str, Any]) -> str:
    """Fill ``template`` (a file name in ``templates/``, or the path of another one) with ``context``.

    Undefined names are errors. A template of another folder finds those of ``templates/`` behind its own.
    """
    import jinja2

    import tilewright
    from tilewright.reports.pages import LINKS

    folders = [_TEMPLATES] if isinstance(template, str) else [template.parent, _TEMPLATES]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    name = template if isinstance(template, str) else template.name
    return environment.get_template(name).render(version=tilewright.__version__, links=LINKS, **context)


def _shown(value: Any) -> Any:
    """What a template writes: texts with what does not print shown, but for ends of lines; markup of ours as it is."""
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "\n".join(visible(line) for line in value.expandtabs().split("\n"))


def card(name: str, value: str, note: str = "") -> dict[str, str]:
    """One of the boxes at the head of a page."""
    long = "longer" if len(value) > _LONGER_VALUE else "long" if len(value) > _LONG_VALUE else ""
    return {"name": name, "value": value, "note": note, "long": long}


def cell(text: str, value: float | None = None, more: Sequence[str] = ()) -> dict[str, Any]:
    """A cell of a table that can be sorted: by ``value`` where it has one; ``more`` are lines under the text."""
    return {"text": text, "value": value, "more": more}


def _lead(case: ReportCase) -> str:
    words = layer_words(case.result.layer)
    other = network_words(case.result.workload) if words.startswith("attention") else ""
    said = "; ".join(text for text in (words, other) if text)
    return f"{said[:1].upper()}{said[1:]}. {_how(case)}" if said else _how(case)


def _how(case: ReportCase) -> str:
    if case.result.kernels:
        return (
            f"Timed as the library's kernels ({case.result.kernels}) by a calibrated model of {case.result.dataflow}."
        )
    if len(case.rivals) > 1:
        return f"{case.result.dataflow} is the best of {len(case.rivals)} dataflows ({case.objective})."
    how = "tiling found by search" if case.result.search is not None else "tiling as given"
    return f"Dataflow {case.result.dataflow}, {how}: {tiling_text(case.result.tiling)}."


def _cards(case: ReportCase) -> list[dict[str, str]]:
    result = case.result
    baseline = baseline_of(case.rivals) if len(case.rivals) > 1 else None
    cards = [
        card("cycles", cycles_text(result.cycles), f"with {result.dataflow}"),
        card("time", seconds_text(result.seconds), "for the whole layer"),
        card("achieved / bound", f"{result.bound_ratio:.3f}", f"bound set by {result.lower_bound.limited_by}"),
        card("energy", energy_text(result.energy_pj), largest_part(result.energy_by_component)),
        card("DRAM traffic", bytes_text(result.dram_bytes), f"bus busy {percent_text(result.dram_utilization)}"),
        card(
            "matrix unit busy",
            percent_text(result.matrix_utilization),
            f"vector unit {percent_text(result.vector_utilization)}",
        ),
    ]
    if baseline is not None and baseline is not result:
        speed = ratio_text(baseline.cycles / result.cycles)
        cards.insert(2, card("speed-up", speed, f"over {baseline.dataflow}"))
    return cards


def largest_part(by_component: Mapping[str, float]) -> str:
    """The component that takes most energy, with its share; nothing where there is no energy."""
    total = sum(by_component.values())
    if not total:
        return ""
    name, part = max(by_component.items(), key=lambda item: item[1])
    return f"{name} {percent_text(part / total)}"


def _comparison(case: ReportCase) -> dict[str, Any]:
    table = comparison_columns(case.rivals, best=case.result, baseline=baseline_of(case.rivals))
    tilings = {r.dataflow: tiling_text(r.tiling) for r in case.rivals}
    return {"head": table.head, "rows": _marked_rows(table), "tilings": tilings}


def _marked_rows(table: TextTable) -> list[dict[str, Any]]:
    return [{"cells": cells, "best": row == table.best_row} for row, cells in enumerate(table.rows)]


def _timeline(case: ReportCase, files: Sequence[str]) -> dict[str, Any] | None:
    trace = case.trace
    if trace is None or not trace.commands:
        return None
    start, end = recorded_span(trace)
    n_shown = f"{len(trace.commands):,} commands"
    text = (
        f"The whole run: {n_shown}, {cycles_text(trace.total_cycles)} cycles."
        if trace.complete
        else f"{n_shown}, cycles {cycles_text(start)} to {cycles_text(end)} of {cycles_text(trace.total_cycles)}."
    )
    data = {"text": text, "engines": None, "axis": None, **timeline_data(trace, files)}
    if case.activity is not None and not trace.complete:  # else the lanes show all there is
        data["engines"] = activity_data(case.activity, [case.result.workload], trace.clock_ghz)
        data["axis"] = time_axis(0, trace.total_cycles, trace.clock_ghz)
    return data


def timeline_data(
    trace: TraceWindow,
    files: Sequence[str],
    *,
    colours: Mapping[str, str] = KIND_COLOURS,
    n_close: int = READABLE_COMMANDS,
) -> dict[str, Any]:
    """The lanes of ``trace`` for a template: the whole, a closer look where it is long, and the files beside it."""
    start, end = recorded_span(trace)
    zoom = closeup(trace, n_commands=n_close)
    data: dict[str, Any] = {
        "whole": lane_chart(trace, start, end, colours=colours),
        "view": None,
        "close": None,
        "files": [f for f in files if f.endswith((".png", "trace.json"))],
    }
    if zoom is not None:
        data["close"] = lane_chart(trace, zoom.start, zoom.end, colours=colours)
        data["close_text"] = f"cycles {cycles_text(zoom.start)} to {cycles_text(zoom.end)}"
        data["view"] = {
            "x_percent": round((zoom.start - start) / (end - start) * 100, 3),
            "width_percent": round((zoom.end - zoom.start) / (end - start) * 100, 3),
            "tip": "the closer look below",
        }
    return data


def energy_rows(by_component: Mapping[str, float]) -> list[dict[str, str]]:
    """Energy (pJ) by component with its share, and the sum."""
    total = sum(by_component.values())
    rows = [
        {"name": name, "energy": energy_text(part), "share": percent_text(part / total) if total else ""}
        for name, part in by_component.items()
    ]
    return [*rows, {"name": "all", "energy": energy_text(total), "share": ""}]


def _search(result: SimulationResult) -> str:
    if result.search is None:
        return "The tiling was given."
    if result.kernels:
        return "The tile that the library's heuristics are taken to choose, where the model has one."
    sentence = search_sentence(result)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _buffer_rows(case: ReportCase) -> list[list[str]]:
    result = case.result
    capacities = {b.name: b.capacity_bytes for b in case.machine.buffers} if case.machine else {}
    names = dict.fromkeys([*result.peak_buffer_bytes, *result.buffer_read_bytes, *result.buffer_write_bytes])
    rows = []
    for name in names:
        peak, capacity = result.peak_buffer_bytes.get(name), capacities.get(name)
        rows.append(
            [
                name,
                bytes_text(peak) if peak is not None else "",
                bytes_text(capacity) if capacity else "",
                percent_text(peak / capacity) if peak is not None and capacity else "",
                bytes_text(result.buffer_read_bytes.get(name, 0)),
                bytes_text(result.buffer_write_bytes.get(name, 0)),
            ]
        )
    rows.append(["DRAM", "", "", "", bytes_text(result.dram_read_bytes), bytes_text(result.dram_write_bytes)])
    return rows


def _dram_text(m: MachineSpec) -> str:
    share = m.dram.sustained_share
    return f"{m.dram.bandwidth_gb_per_s:g} GB/s" + (f", {percent_text(share)} of it sustained" if share < 1 else "")


def _fixed(m: MachineSpec) -> list[tuple[str, float]]:
    """The fixed costs that the machine has, by name of the field."""
    fixed = m.overheads
    found = [("per_inference_us", fixed.per_inference_us), ("per_layer_us", fixed.per_layer_us)]
    return [(name, cost) for name, cost in found if cost]


def machine_rows(m: MachineSpec | None, assumptions: Sequence[str]) -> list[dict[str, str]]:
    """What a machine is, in words, with those of its assumptions that ``assumptions`` lacks; nothing without one."""
    if m is None:
        return []
    from tilewright.hw_models.describe import figures_hash

    cores = "1 core" if m.n_cores == 1 else f"{m.n_cores} cores"
    rows = [
        ("description", m.description),
        ("clock", f"{m.clock_ghz:g} GHz, {cores}"),
        ("matrix unit", f"{m.matrix.size_text}, {_STATIONARITY[m.matrix.stationarity]}"),
        ("vector unit", f"{m.vector.lanes} lanes"),
        *((f"buffer {b.name}", bytes_text(b.capacity_bytes)) for b in m.buffers[:1]),
        *((f"buffer {b.name}", f"{bytes_text(b.capacity_bytes)}{_use_of(m, b.name)}") for b in m.buffers[1:]),
        ("DRAM", _dram_text(m)),
        *((f"group {name}", _group_text(m, name)) for name in m.groups),
        *((f"fixed cost, {name.removesuffix('_us').replace('_', ' ')}", f"{cost:g} us") for name, cost in _fixed(m)),
        ("hash", f"{figures_hash(m)}, of all its figures"),
        *(("assumed", text) for text in m.assumptions if text not in assumptions),
    ]
    return [{"name": name, "value": value} for name, value in rows]


def _group_text(machine: MachineSpec, name: str) -> str:
    """A group of cores beside the main one in words."""
    own = machine.group(name)
    if own.fallback is not None:
        return f"{own.fallback.name}, {own.fallback.giga_operations_per_s:g} x 10^9 operations a second"
    cores = "1 core" if own.n_cores == 1 else f"{own.n_cores} cores"
    room = ", ".join(f"{buffer.name} {bytes_text(buffer.capacity_bytes)}" for buffer in own.buffers)
    return f"{cores} at {own.clock_ghz:g} GHz, matrix {own.matrix.size_text}, {own.vector.lanes} lanes, {room}"


def _use_of(machine: MachineSpec, buffer: str) -> str:
    """What programs do with a buffer behind the working one."""
    return "" if any(level.name == buffer for level in levels_of(machine)) else ", only passed through"
