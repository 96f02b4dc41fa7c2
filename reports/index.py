"""The page over many layers: a summary with links to the page of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilewright.reports.charts import Bar, BarChart, Segment
from tilewright.reports.layer_words import plural
from tilewright.reports.page import card, render
from tilewright.reports.pairs import PairTable, pair_table
from tilewright.reports.palette import BEST_COLOUR
from tilewright.reports.published import PublishedHeadline, published_headline, published_rows
from tilewright.reports.quantity import percent_text, ratio_text
from tilewright.reports.ranking import BASELINE_DATAFLOW, OUR_DATAFLOW, Speedups, dataflow_order, of_workload, speedups
from tilewright.sim.result import ComparisonResult

__all__ = ["index_page"]


def index_page(
    comparison: ComparisonResult, *, links: Mapping[str, str], command: str = "", ours: str = OUR_DATAFLOW
) -> str:
    """The summary page as HTML text; ``links`` gives the page of a workload by its name.

    ``ours``: the dataflow whose speed-ups are quoted.
    """
    machine = comparison.results[0].machine
    what = plural([result.layer for result in comparison.results])
    names = dataflow_order(comparison)
    faster = speedups(comparison, dataflow=ours, over=BASELINE_DATAFLOW)
    headline = published_headline(machine) if faster else None
    context: dict[str, Any] = {
        "title": f"{len(comparison.workloads)} {what} on {machine}",
        "what": what,
        "lead": "Each dataflow at its own best tiling; the fastest of each row is marked.",
        "command": command,
        "cards": _cards(comparison, faster, what, ours),
        "dataflows": names,
        "rows": _rows(pair_table(comparison, ours=ours), links),
        "energy_rows": _rows(pair_table(comparison, energy=True, ours=ours), {}),
        "speedup_head": f"{ours} vs {BASELINE_DATAFLOW}" if faster else "",
        "speedup_chart": _speedup_chart(faster) if faster else None,
        "published": _published(headline, faster, machine) if headline and faster else None,
    }
    return render("index.html.j2", context)


def _cards(comparison: ComparisonResult, faster: Speedups | None, what: str, ours: str) -> list[dict[str, str]]:
    fewest = {w: min((r.cycles for r in of_workload(comparison, w)), default=0) for w in comparison.workloads}
    winners = [r.dataflow for r in comparison.results if r.cycles == fewest[r.workload]]
    favourite = max(dict.fromkeys(winners), key=lambda name: (winners.count(name), name == ours))
    n_won = f"{winners.count(favourite)} of {len(fewest)} {what}, ties counted"
    cards = [
        card(what, f"{len(comparison.workloads)}", f"{len(comparison.results)} results"),
        card("most often fastest", favourite, n_won),
    ]
    if faster:
        pair = f"{ours} over {BASELINE_DATAFLOW}"
        cards += [
            card("mean speed-up", ratio_text(faster.mean), f"{pair}, geometric"),
            card("largest speed-up", ratio_text(faster.largest), pair),
            card("most energy saved", percent_text(faster.energy_saving_max), pair),
        ]
    return cards


def _rows(pairs: PairTable, links: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": row.workload,
            "link": links.get(row.workload, ""),
            "cells": [{"text": cell.text, "best": cell.is_best, "tip": cell.reason} for cell in row.cells],
            "speedup": row.against,
        }
        for row in pairs.rows
    ]


def _speedup_chart(faster: Speedups) -> BarChart:
    scale = max(faster.largest, 1.0)
    bars = tuple(
        Bar(
            name=workload,
            value=ratio_text(value),
            segments=(
                Segment(
                    x_percent=0.0,
                    width_percent=round(value / scale * 100, 3),
                    colour=BEST_COLOUR,
                    tip=f"{workload}: {ratio_text(value)}",
                ),
            ),
        )
        for workload, value in faster.by_workload.items()
    )
    return BarChart(bars=bars, line_percent=round(100 / scale, 3), line_text="equal (1.00x)")


def _published(headline: PublishedHeadline, faster: Speedups, machine: str) -> dict[str, Any]:
    return {
        "head": f"{headline.dataflow} over {headline.over}",
        "rows": published_rows(headline, faster, machine),
        "note": f"{headline.source}: {headline.note}.",
    }
