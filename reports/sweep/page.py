"""The page of a sweep: one file with its own script, data, styles and pictures, and no need of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.hw_models.describe import describe
from tilewright.reports.charts import Bar, BarChart, Segment, stacked_chart
from tilewright.reports.columns import Column, TextTable
from tilewright.reports.explore import Exploration, ExploreColumn, page_script
from tilewright.reports.network_page import CLOSE_OPERATORS
from tilewright.reports.page import card, energy_rows, machine_rows, render, timeline_data
from tilewright.reports.palette import BASE_COLOUR, BEST_COLOUR, operator_colours
from tilewright.reports.quantity import (
    cycles_text,
    energy_text,
    percent_text,
    ratio_text,
    seconds_text,
    tiling_text,
)
from tilewright.reports.sweep.best import BestPoint
from tilewright.reports.sweep.case import FIGURES, SweepCase, damage_text
from tilewright.reports.sweep.columns import design_columns, number_text
from tilewright.reports.sweep.names import parameter_names
from tilewright.reports.sweep.sample import PagePoints
from tilewright.reports.sweep.sensitivity import Effect
from tilewright.search.sweep.sampling_spec import SamplingSpec

__all__ = ["OBJECTIVE_WORDS", "sweep_exploration", "sweep_page"]

OBJECTIVE_WORDS: Mapping[str, str] = {"latency": "latency", "energy": "energy", "edp": "energy x delay"}
_MOST_FAILURES = 30
_STATES = {
    "infeasible": "the design cannot run the workload",
    "failed": "ended in an error",
    "quarantined": "killed its worker twice",
    "missing": "not run yet",
    "damaged": "its row in the store cannot be read",
}
_LIMITS = "limits"


def sweep_page(
    case: SweepCase, effects: Sequence[Effect], bests: Sequence[BestPoint], held: PagePoints, *, command: str = ""
) -> str:
    """The page as HTML text. ``held``: the points that it carries for the reader to explore."""
    sweep = case.opened.sweep
    context: dict[str, Any] = {
        "title": f"Sweep {sweep.name} on {sweep.machine.name}",
        "lead": _lead(case),
        "command": command,
        "script": page_script(),
        "cards": _cards(case),
        "notes": _notes(case, held),
        "exploration": sweep_exploration(case, held, effects) if len(held.rows) else None,
        "figures": case.goals,
        "main_figures": [*case.goals, "power_w"],
        "objective_figure": case.objective,
        "bests": [_best(case, best) for best in bests],
        "shared": _shared(case),
        "objective": OBJECTIVE_WORDS[sweep.objective],
        "limits": [limit.text for limit in sweep.limits],
        "effect_chart": _effect_chart(effects) if effects else None,
        "effects": [_effect(effect, case) for effect in effects],
        "effect_workloads": case.workloads,
        "effect_sum": percent_text(sum(effect.share for effect in effects)),
        "drawn": sweep.sampling.method != "grid",
        "states": [(state, f"{case.counts[state]:,}", text) for state, text in _STATES.items() if case.counts[state]],
        "failures": [_failure(failure) for failure in case.failures[:_MOST_FAILURES]],
        "failures_left": max(0, len(case.failures) - _MOST_FAILURES),
        "facts": _facts(case),
        "text": sweep.text,
        "machine_rows": machine_rows(sweep.machine, ()),
        "sources": [
            (row.path, f"{row.value} {row.unit}".strip(), row.kind, row.source) for row in describe(sweep.machine)
        ],
    }
    return render("sweep.html.j2", context)


def sweep_exploration(case: SweepCase, held: PagePoints, effects: Sequence[Effect] = ()) -> Exploration:
    """The points of ``held`` as columns for the page's script; without a better one, the parameter with most effect is
    the colour at first."""
    sweep = case.opened.sweep
    points = case.points.iloc[held.rows]
    columns = [
        ExploreColumn(id="workload", label="workload", values=points["workload"].tolist(), role="parameter"),
        ExploreColumn(id="dataflow", label="dataflow", values=points["dataflow"].tolist(), role="parameter"),
    ]
    for path, (label, unit) in parameter_names(sweep.machine, sweep.paths).items():
        values = points[path].tolist()
        columns.append(
            ExploreColumn(id=path, label=label, unit=unit, values=values, role="parameter", scale=_scale(values))
        )
    columns += [
        ExploreColumn(
            id=figure.id,
            label=figure.label,
            unit=figure.unit,
            values=points[figure.id].tolist(),
            better=figure.better,
            scale=figure.scale,
        )
        for figure in FIGURES
        if points[figure.id].notna().any()
    ]
    filters = {}
    if sweep.limits:
        within = ["within" if value else "outside" for value in points["within_limits"]]
        columns.append(ExploreColumn(id=_LIMITS, label="limits", values=within, role="flag"))
        if "within" in within:
            filters[_LIMITS] = ["within"]
    columns.append(ExploreColumn(id="tiling", label="tiling", values=points["tiling"].tolist(), role="note"))
    strongest = effects[0].paths[0] if effects else ""
    several = [len(case.workloads) > 1, points["dataflow"].nunique() > 1, "area_mm2" in case.goals]
    colour = next(
        (name for name, yes in zip(("workload", "dataflow", "area_mm2"), several, strict=True) if yes), strongest
    )
    x, y, third = case.axes
    return Exploration(
        columns=columns,
        x=x,
        y=y,
        third=third,
        colour=colour,
        group="workload",
        filters=filters,
    )


def _scale(values: Sequence[Any]) -> Any:
    """Logarithmic for numbers over more than a decade."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    wide = len(numbers) == len(values) > 0 and min(numbers) > 0 and max(numbers) / min(numbers) > 10
    return "log" if wide else "linear"


def _lead(case: SweepCase) -> str:
    sweep = case.opened.sweep
    n_paths, n_layers, n_flows = len(sweep.axes), len(sweep.layers), len(sweep.dataflows)
    how = {"grid": "every design of the grid", "sobol": "designs of a Sobol sequence"}
    drawn = how.get(sweep.sampling.method, "designs chosen by a search for the front (NSGA-II)")
    varied = _counted(n_paths, "parameter")
    if sweep.model != "engine":
        return (
            f"{varied[:1].upper()}{varied[1:]} varied, {drawn}, with {_counted(n_layers, 'workload')}; each point "
            f"timed as the library kernels of a GPU ({sweep.model}), by calibrated models of them."
        )
    return (
        f"{varied[:1].upper()}{varied[1:]} varied, {drawn}, with {_counted(n_layers, 'workload')} and "
        f"{_counted(n_flows, 'dataflow')}; each point at its best mapping for {OBJECTIVE_WORDS[sweep.objective]}, "
        "simulated cycle by cycle."
    )


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _cards(case: SweepCase) -> list[dict[str, str]]:
    counts, sweep = case.counts, case.opened.sweep
    n_run = counts.total() - counts["missing"]
    cards = [card("points", f"{n_run:,}", f"{counts['missing']:,} not run yet" if counts["missing"] else "all are run")]
    cards.append(card("finished", f"{counts['done']:,}", "with their best mapping"))
    if sweep.limits:
        cards.append(card("within limits", f"{case.best.n_within:,}", _counted(len(sweep.limits), "limit")))
    cards.append(card("cannot run", f"{counts['infeasible']:,}", "designs too small"))
    n_failed = counts["failed"] + counts["quarantined"]
    cards.append(card("failed", f"{n_failed:,}", "see below" if n_failed else "none"))
    cards.append(card("work", seconds_text(case.worker_s), "in all workers together"))
    return cards


def _notes(case: SweepCase, held: PagePoints) -> list[str]:
    """What the reader must know before believing the page."""
    notes = []
    if not held.complete:
        cut = "an even choice of the points" if held.fronts_cut else f"the {held.n_front:,} points"
        notes.append(
            f"This page carries {len(held.rows):,} of {held.n_all:,} finished points: {cut} on the fronts of each "
            "workload (over latency, energy and area and over each two of them, within the limits and without, and of "
            "each dataflow) or best at a value of a parameter; and of the rest an even choice in the order of the "
            "objective, from each workload and dataflow. Charts, filters and the table are of these; the best designs, "
            "the sensitivity and the counts are of all points. A front under a filter may lack points that are not on "
            "a front of the whole."
        )
    if not case.current:
        notes.append(
            "The points were run by another version of the program or with other figures of the machine; running the "
            "sweep again would do them anew."
        )
    if case.damaged:
        notes.append(damage_text(case))
    if case.opened.n_texts > 1:
        notes.append(
            f"The store has seen {case.opened.n_texts} texts of a sweep of this name; this page is about the newest."
        )
    if case.counts["missing"]:
        notes.append(
            f"{case.counts['missing']:,} points of the sweep are not run yet; the page is about those that are."
        )
    return notes


def _best(case: SweepCase, best: BestPoint) -> dict[str, Any]:
    row, sweep = best.row, case.opened.sweep
    names = parameter_names(sweep.machine, sweep.paths)
    data: dict[str, Any] = {
        "workload": best.workload,
        "dataflow": row["dataflow"],
        "fault": best.fault,
        "cards": _best_cards(row),
        "design": [(names[path][0], _figure_text(row[path], names[path][1])) for path in sweep.paths],
        "tiling": "" if best.is_network else tiling_text(row["tiling"]),
        "timeline": None,
    }
    if best.energy_pj:
        data["energy_rows"] = energy_rows(best.energy_pj)
        data["energy_chart"] = stacked_chart([("", best.energy_pj)])
        data["summary"] = best.summary
    if best.trace is not None and best.trace.commands:
        kinds: dict[str, Any] = {"colours": operator_colours(), "n_close": CLOSE_OPERATORS} if best.is_network else {}
        data["timeline"] = timeline_data(best.trace, (), **kinds)
    return data


def _best_cards(row: Mapping[str, Any]) -> list[dict[str, str]]:
    cards = [
        card("latency", seconds_text(row["seconds"]), f"{cycles_text(row['cycles'])} cycles"),
        card("energy", energy_text(row["energy_pj"]), "of one run"),
        card("power", f"{row['power_w']:.3g} W", "average, DRAM included"),
        card("peak rate", f"{row['peak_tops']:.3g} TOPS", "of the matrix units"),
    ]
    if row["area_mm2"] is not None:
        cards.insert(2, card("area", f"{row['area_mm2']:.3g} mm2", "of the chip"))
    return cards


def _figure_text(value: Any, unit: str) -> str:
    return f"{number_text(value)} {unit}".strip()


def _shared(case: SweepCase) -> dict[str, Any] | None:
    """The one design that serves all workloads, when there are several."""
    sweep = case.opened.sweep
    if len(sweep.layers) < 2:
        return None
    names = parameter_names(sweep.machine, sweep.paths)
    table = design_columns(sweep, case.best.design, with_design=False)
    against = Column(
        header=f"{OBJECTIVE_WORDS[sweep.objective]} / own best",
        cells=[_times_best(case, row) for row in case.best.design],
    )
    first = next(iter(case.best.design), None)
    design = [f"{names[path][0]} {_figure_text(first[path], names[path][1])}" for path in sweep.paths] if first else []
    return {"table": TextTable((*table.columns, against)), "design": ", ".join(design)}


def _times_best(case: SweepCase, row: Mapping[str, Any]) -> str:
    """The objective over that of the workload's own best design."""
    own = case.best.by_workload[row["workload"]]
    latency, energy = row["seconds"] / own["seconds"], row["energy_pj"] / own["energy_pj"]
    return ratio_text({"latency": latency, "energy": energy}.get(case.opened.sweep.objective, latency * energy))


def _effect_chart(effects: Sequence[Effect]) -> BarChart:
    most = max((effect.share for effect in effects), default=0.0) or 1.0
    bars = []
    for effect in effects:
        text = percent_text(effect.share)
        segment = Segment(
            x_percent=0.0,
            width_percent=round(effect.share / most * 100, 3),
            colour=BEST_COLOUR if effect is effects[0] else BASE_COLOUR,
            tip=f"{effect.name}: {text}",
        )
        bars.append(Bar(name=effect.name, segments=(segment,), value=text, best=effect is effects[0]))
    return BarChart(bars=tuple(bars))


def _effect(effect: Effect, case: SweepCase) -> dict[str, Any]:
    """Best objective at each value: bars are the ratio to the best of all, the table has the figures."""
    ratios = [value.ratio for value in effect.values if value.ratio is not None]
    most = max(ratios, default=1.0)
    bars = []
    for value in effect.values:
        ratio = value.ratio
        text = "none" if ratio is None else ratio_text(ratio)
        is_best = ratio is not None and math.isclose(ratio, min(ratios))
        width = 0.0 if ratio is None else round(ratio / most * 100, 3)
        segment = Segment(
            x_percent=0.0,
            width_percent=width,
            colour=BEST_COLOUR if is_best else BASE_COLOUR,
            tip=f"{value.value}: {text}",
        )
        bars.append(Bar(name=value.value, segments=(segment,), value=text, best=is_best))
    unit = "mJ ms" if case.objective == "edp_mj_ms" else "mJ" if case.objective == "energy_mj" else "ms"
    return {
        "name": effect.name,
        "share": percent_text(effect.share),
        "binned": effect.binned,
        "shares": [percent_text(effect.by_workload[name]) for name in case.workloads],
        "chart": BarChart(bars=tuple(bars)),
        "unit": unit,
        "rows": [
            [value.value, *(f"{value.by_workload[n]:,.4g}" if n in value.by_workload else "-" for n in case.workloads)]
            for value in effect.values
        ],
    }


def _failure(failure: Any) -> dict[str, Any]:
    where = ", ".join(f"{name} {n:,}" for name, n in failure.workloads.most_common(4))
    more = len(failure.workloads) - 4
    return {
        "n": f"{failure.n_points:,}",
        "status": failure.status,
        "error": failure.error,
        "where": f"{where}, and {more} more" if more > 0 else where,
        "design": failure.design or "the base machine",
    }


def _facts(case: SweepCase) -> list[tuple[str, str]]:
    sweep, noted = case.opened.sweep, case.opened.noted
    n_run = case.counts.total() - case.counts["missing"]
    facts = [
        ("store", str(case.opened.store)),
        ("objective", OBJECTIVE_WORDS[sweep.objective]),
        ("workloads", ", ".join(layer.name for layer in sweep.layers)),
        ("dataflows", ", ".join(sweep.dataflows)),
        ("sampling", _sampling(sweep.sampling)),
        ("limits", "; ".join(limit.text for limit in sweep.limits) or "none"),
        ("conditions", "; ".join(condition.text for condition in sweep.conditions) or "none"),
        ("time taken", f"{seconds_text(case.worker_s)} in all workers together, {_each(case.worker_s, n_run)} a point"),
    ]
    if noted is not None:
        facts.append(("begun", f"{noted.begun_at.replace('T', ' ')} by Tilewright {noted.version}"))
    if sweep.area is not None:
        rule = sweep.area
        facts.append(
            (
                "area",
                f"{rule.mm2_per_pe:.4g} mm2 a processing element, {rule.mm2_per_lane:.4g} a vector lane, "
                f"{rule.mm2_per_kib:.4g} a KiB of buffer, {rule.other_mm2:.4g} for the rest",
            )
        )
    return facts


def _sampling(sampling: SamplingSpec) -> str:
    if sampling.n is None:
        return "every design of the grid"
    if not sampling.is_adaptive:
        return f"{sampling.n:,} designs of a Sobol sequence, seed {sampling.seed}"
    return f"{sampling.n:,} designs chosen by NSGA-II from the results so far, seed {sampling.seed}"


def _each(seconds: float, n: int) -> str:
    return seconds_text(seconds / n) if n else "0 s"
