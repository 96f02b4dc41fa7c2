"""The page of a whole network, and the run of its operators as a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from tilewright.reports.activity_chart import activity_data
from tilewright.reports.charts import parts_chart, stacked_chart
from tilewright.reports.columns import network_what_if_columns
from tilewright.reports.network_case import LIMITS, RESOURCES, NetworkCase, OperatorGroup
from tilewright.reports.network_table import formats_text, group_rows, kernels_columns, network_why_columns
from tilewright.reports.page import card, cell, energy_rows, largest_part, machine_rows, render, timeline_data
from tilewright.reports.page_script import closed_script
from tilewright.reports.palette import ATTRIBUTION_COLOURS, BASE_COLOUR, ink_on, operator_colours
from tilewright.reports.quantity import (
    bytes_text,
    change_text,
    count_text,
    cycles_text,
    energy_text,
    percent_text,
    seconds_text,
    tiling_text,
)
from tilewright.reports.residency_chart import residency_data
from tilewright.reports.roofline import Roofline, roofline_of
from tilewright.sim.engine.trace import TraceCommand, TraceWindow
from tilewright.sim.network_result import OperatorResult

__all__ = ["CLOSE_OPERATORS", "network_page", "operator_trace"]

CLOSE_OPERATORS = 24
_MOST_ROWS = 1000
_MOST_EXPLAINED = 12
_NEAR_THE_AXIS = 92


def operator_trace(case: NetworkCase) -> TraceWindow:
    """The operators one after the other as a trace: one lane for each kind, in the order in which kinds first occur;
    of unlike groups of cores a lane for each group.
    """
    lanes = {kind: lane for lane, kind in enumerate(dict.fromkeys(map(_lane, case.result.operators)))}
    if case.is_on_groups:
        lanes = {name: lane for lane, name in enumerate(case.machine.group_names)}
    commands = [
        TraceCommand(
            start=start,
            end=end,
            engine=lanes[_lane(operator)],
            label=operator.name,
            kind=operator.kind,
            n_bytes=operator.dram_bytes,
        )
        for operator, (start, end) in zip(case.result.operators, _spans(case), strict=True)
    ]
    return TraceWindow(
        commands=tuple(commands),
        engines=tuple(lanes),
        clock_ghz=case.machine.clock_ghz,
        total_cycles=case.result.cycles,
        complete=True,
    )


def _lane(operator: OperatorResult) -> str:
    return operator.core_group or operator.kind


def _spans(case: NetworkCase) -> list[tuple[int, int]]:
    """The cycles at which operators begin and end: as they ran, or, where that is gone, as they are booked.

    Before each of them that is a command to the device, and before the first, pass the machine's fixed costs.
    """
    result = case.result
    if case.is_on_groups:
        return [(o.start_cycle or 0, (o.start_cycle or 0) + o.cycles) for o in result.operators]
    fixed = [result.layer_overhead_cycles * operator.is_command for operator in result.operators]
    ran = [run.cycles for run in result.runs] or [operator.cycles for operator in result.operators]
    cycles = (each + own for each, own in zip(fixed, ran, strict=True))
    starts = accumulate(cycles, initial=result.inference_overhead_cycles)
    return [(start + each, end) for each, (start, end) in zip(fixed, pairwise(starts), strict=True)]


def network_page(case: NetworkCase, *, files: Sequence[str] = ()) -> str:
    """The page as HTML text; ``files`` are the names of files that lie beside it."""
    result = case.result
    trace = operator_trace(case)
    roof = roofline_of(case)
    context: dict[str, Any] = {
        "title": case.title,
        "lead": _lead(case),
        "command": case.command,
        "cards": _cards(case),
        "timeline": timeline_data(trace, files, colours=operator_colours(), n_close=CLOSE_OPERATORS),
        "activity": _activity(case),
        "kind_chart": parts_chart(_kind_parts(case)),
        "limit_chart": parts_chart(_limit_parts(case)),
        "residency": residency_data(result),
        "core_groups": None if result.on_groups is None else group_rows(result.on_groups, result.cycles),
        "roofline": _roofline_data(roof) if roof else None,
        "energy_rows": energy_rows(result.energy_by_component),
        "energy_chart": stacked_chart(_energy_by_kind(case)),
        "kind_rows": _kind_rows(case),
        "why": _why(case),
        "kernels": _kernels(case),
        "worst": [_worst_row(group) for group in case.worst()],
        "groups": _group_table(case),
        "operators": _operator_table(case),
        "script": closed_script("sort.js"),
        "n_operators": f"{len(result.operators):,}",
        "left_out": max(0, len(result.operators) - _MOST_ROWS),
        "assumptions": result.assumptions,
        "machine_rows": machine_rows(case.machine, result.assumptions),
    }
    return render("network.html.j2", context)


def _kernels(case: NetworkCase) -> dict[str, Any] | None:
    """Library kernels of a GPU by class; None where the engine ran."""
    if not case.is_library:
        return None
    table = kernels_columns(case)
    return {"head": table.head, "rows": table.rows}


def _why(case: NetworkCase) -> dict[str, Any] | None:
    """The what-ifs, and what helps the operators that take most time; None when they were not asked for."""
    if case.why is None:
        return None
    what_ifs, helps = network_what_if_columns(case.why), network_why_columns(case, most=_MOST_EXPLAINED)
    return {
        "head": what_ifs.head,
        "note": what_ifs.note,
        "rows": [{"cells": cells, "best": row == what_ifs.best_row} for row, cells in enumerate(what_ifs.rows)],
        "helps_head": helps.head,
        "helps_rows": helps.rows,
    }


def _activity(case: NetworkCase) -> dict[str, Any] | None:
    if case.activity is None:
        return None
    return activity_data(case.activity, [o.name for o in case.result.operators], case.machine.clock_ghz)


def _lead(case: NetworkCase) -> str:
    result = case.result
    n_operators = sum(1 + len(operator.fused) for operator in result.operators)
    ahead = ""
    if result.prefetch:
        saved = change_text(result.cycles / max(1, result.cycles_without_prefetch))
        ahead = f" Weights of the next operator are loaded ahead: {saved} of cycles."
    weights = bytes_text(result.weight_bytes)
    if case.is_library:
        n_kernels = sum(len(operator.kernels) for operator in result.operators)
        launched = "as one CUDA graph" if result.launch == "graph" else "one by one by the host"
        return (
            f"{n_operators:,} operators with {weights} of weights as {n_kernels:,} library kernels ({result.kernels}), "
            f"launched {launched}, timed by calibrated models of them; products in {formats_text(case)}."
        )
    return (
        f"{n_operators:,} operators with {weights} of weights in {len(result.operators):,} runs, "
        f"{result.n_distinct:,} of them distinct, each at its best tiling ({case.objective}); "
        f"products in {formats_text(case)}.{ahead}"
    )


def _cards(case: NetworkCase) -> list[dict[str, str]]:
    result = case.result
    n_steps = result.n_steps
    limit = max(case.cycles_by_limit().items(), key=lambda item: item[1])
    cards = [
        card("cycles", cycles_text(result.cycles), "of one step" if n_steps > 1 else "one run of the network"),
        card("time", seconds_text(result.seconds), "for one step" if n_steps > 1 else _rate(result.seconds)),
        card("achieved / bound", f"{case.bound_ratio:.3f}", f"mostly limited by {LIMITS[limit[0]]}"),
        card("energy", energy_text(result.energy_pj), largest_part(result.energy_by_component)),
        card("DRAM traffic", bytes_text(result.dram_bytes), f"bus busy {percent_text(case.dram_utilization)}"),
        card("multiply-adds", count_text(result.macs), f"{percent_text(case.array_use)} of the array's peak"),
    ]
    if n_steps > 1:
        spent = energy_text(result.energy_pj * n_steps)
        cards.insert(2, card(f"all {n_steps} steps", seconds_text(result.seconds * n_steps), spent))
    return cards


def _rate(seconds: float) -> str:
    return f"{1 / seconds:,.3g} a second" if 0 < seconds < 1 else "for the whole network"


def _kind_parts(case: NetworkCase) -> list[tuple[str, int, str]]:
    rows = case.result.by_kind().items()
    colours = operator_colours()
    return [(kind, int(row["cycles"]), colours.get(kind, BASE_COLOUR)) for kind, row in rows]


def _limit_parts(case: NetworkCase) -> list[tuple[str, int, str]]:
    found = case.cycles_by_limit().items()
    return [(LIMITS[name], n_cycles, ATTRIBUTION_COLOURS.get(name, BASE_COLOUR)) for name, n_cycles in found]


def _energy_by_kind(case: NetworkCase) -> list[tuple[str, dict[str, float]]]:
    """Energy by component for each kind of operator, most energy first."""
    found: dict[str, dict[str, float]] = {}
    for operator in case.result.operators:
        parts = found.setdefault(operator.kind, {})
        for name, part in operator.energy_by_component.items():
            parts[name] = parts.get(name, 0.0) + part
    return sorted(found.items(), key=lambda item: -sum(item[1].values()))


def _kind_rows(case: NetworkCase) -> list[list[str]]:
    result = case.result
    cycles, energy, moved = max(1, result.cycles), result.energy_pj or 1.0, max(1, result.dram_bytes)
    return [
        [
            kind,
            f"{int(row['n']):,}",
            cycles_text(int(row["cycles"])),
            percent_text(row["cycles"] / cycles),
            energy_text(row["energy_pj"]),
            percent_text(row["energy_pj"] / energy),
            bytes_text(row["dram_bytes"]),
            percent_text(row["dram_bytes"] / moved),
        ]
        for kind, row in result.by_kind().items()
    ]


def _worst_row(group: OperatorGroup) -> dict[str, Any]:
    return {
        "cells": [
            str(group.number),
            group.label,
            cycles_text(group.lost_cycles),
            f"{group.bound_ratio:.3f}",
            RESOURCES[group.limited_by],
            percent_text(group.matrix_utilization),
            percent_text(group.dram_utilization),
        ],
        "reason": group.reason,
    }


def _group_table(case: NetworkCase) -> dict[str, Any]:
    names = ["#", "operators", "n", "kind", "cycles", "share", "/ bound", "limited by", "matrix", "vector", "DRAM"]
    if case.is_on_groups:
        names[3:3] = ["group"]
    rows = [_group_row(group, case) for group in case.groups]
    return {"label": "operators, identical ones once", "columns": [*names, "DRAM bytes", "energy"], "rows": rows}


def _group_row(group: OperatorGroup, case: NetworkCase) -> list[dict[str, Any]]:
    first = group.first
    share = group.cycles / max(1, case.result.cycles)
    chosen = {name: size for name, size in first.tiling.items() if size or name != "prefetched"}
    mapping = f"{first.dataflow}: {tiling_text(chosen)}"
    return [
        cell(str(group.number), group.number),
        cell(group.label, more=(f"{group.size}, {group.formats}", mapping)),
        cell(f"{group.count:,}", group.count),
        *([cell(first.core_group)] if first.core_group else []),
        cell(first.kind),
        cell(cycles_text(group.cycles), group.cycles),
        cell(percent_text(share), share),
        cell(f"{group.bound_ratio:.3f}", group.bound_ratio),
        cell(RESOURCES[group.limited_by]),
        *(cell(percent_text(busy), busy) for busy in group.busy.values()),
        cell(bytes_text(group.dram_bytes), group.dram_bytes),
        cell(energy_text(group.energy_pj), group.energy_pj),
    ]


def _operator_table(case: NetworkCase) -> dict[str, Any]:
    names = ["#", "operator", "kind", "cycles", "/ bound", "limited by", "DRAM bytes", "energy"]
    if case.is_on_groups:
        names[3:3] = ["group", "from cycle"]
    rows = [_operator_row(n, o, case) for n, o in enumerate(case.result.operators[:_MOST_ROWS], start=1)]
    return {"label": "operators in the order in which they run", "columns": names, "rows": rows}


def _operator_row(number: int, operator: OperatorResult, case: NetworkCase) -> list[dict[str, Any]]:
    fused = ", ".join(name.rpartition(".")[2] for name in operator.fused)
    return [
        cell(str(number), number),
        cell(operator.name, more=(f"with {fused}",) if fused else ()),
        cell(operator.kind),
        *_place_cells(operator),
        cell(cycles_text(operator.cycles), operator.cycles),
        cell(f"{operator.bound_ratio:.3f}", operator.bound_ratio),
        cell(RESOURCES[case.limited_by(operator)]),
        cell(bytes_text(operator.dram_bytes), operator.dram_bytes),
        cell(energy_text(operator.energy_pj), operator.energy_pj),
    ]


def _place_cells(operator: OperatorResult) -> list[dict[str, Any]]:
    """Where and when an operator began, on unlike groups of cores."""
    if operator.start_cycle is None:
        return []
    return [cell(operator.core_group), cell(cycles_text(operator.start_cycle), operator.start_cycle)]


def _roofline_data(roof: Roofline) -> dict[str, Any]:
    """The roofline in per cent of the plot, for the template."""
    x, y = roof.x, roof.y
    x1, y1, x2, y2 = roof.slope
    start = x.percent(x1), 100 - y.percent(y1)
    end = x.percent(x2), 100 - y.percent(y2)
    return {
        "x_ticks": [(x.percent(tick), _tick_text(tick)) for tick in x.ticks],
        "y_ticks": [(100 - y.percent(tick), _tick_text(tick)) for tick in y.ticks],
        "slope": (start, end),
        "bandwidth": roof.bandwidth,
        "bandwidth_dy": -6 if start[1] > _NEAR_THE_AXIS else 18,
        "roofs": [
            {
                "x": x.percent(roof.ridge(item)),
                "y": 100 - y.percent(item.macs_per_cycle),
                "text": f"{item.formats}: {item.macs_per_cycle:,.0f} a cycle",
                "dy": 18 if number else -22,
            }
            for number, item in enumerate(roof.roofs)
        ],
        "points": [
            {
                "x": x.percent(point.x),
                "y": 100 - y.percent(point.y),
                "r": point.radius,
                "colour": point.colour,
                "ink": ink_on(point.colour),
                "number": point.number,
                "tip": point.tip,
            }
            for point in roof.points
        ],
        "legend": [{"name": kind, "colour": colour, "value": ""} for kind, colour in roof.kinds.items()],
        "left_out": roof.left_out,
    }


def _tick_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
