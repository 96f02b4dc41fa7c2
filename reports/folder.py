"""A folder of report files: pages, timelines as PNG, traces for Perfetto."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tilewright.reports.case import ReportCase
from tilewright.reports.files import staged_folder, write_file
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.origin import Origin, network_facts
from tilewright.reports.pages import write_page
from tilewright.reports.quantity import cycles_text, seconds_text, tiling_text
from tilewright.reports.ranking import OUR_DATAFLOW
from tilewright.sim.result import ComparisonResult

__all__ = ["file_stems", "write_comparison_report", "write_network_report", "write_result_report"]


def write_result_report(folder: str | Path, case: ReportCase) -> Path:
    """Write the page of one case with its timeline and trace into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then none of the files is there.
    """
    from tilewright.reports.figure import cycles_png, energy_png

    with staged_folder(folder) as stage:
        _write_case(stage, case, page="index.html", stem="", back="")
        if len(case.rivals) > 1:
            title = f"{case.result.workload} on {case.result.machine}"
            write_file(stage / "cycles.png", cycles_png(case.rivals, best=case.result, title=title))
            write_file(stage / "energy.png", energy_png(case.rivals, title=title))
    return Path(folder) / "index.html"


def write_comparison_report(
    folder: str | Path,
    comparison: ComparisonResult,
    cases: Iterable[ReportCase],
    *,
    command: str = "",
    ours: str = OUR_DATAFLOW,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a summary page and a page, timeline and trace for each case; gives the summary's path.

    ``cases`` may be a generator: each is written as it comes; ``progress`` is called with its workload first.
    ``ours``: the dataflow whose speed-ups are quoted.
    Raises InputError when the folder cannot be written; then none of the files is there.
    """
    from tilewright.reports.figure import speedup_png
    from tilewright.reports.index import index_page
    from tilewright.reports.ranking import BASELINE_DATAFLOW, speedups

    stems = file_stems(comparison.workloads)
    links: dict[str, str] = {}
    with staged_folder(folder) as stage:
        for case in cases:
            workload = case.result.workload
            if progress is not None:
                progress(workload)
            links[workload] = f"{stems[workload]}.html"
            _write_case(stage, case, page=links[workload], stem=f"{stems[workload]}.", back="index.html")
        write_page(stage / "index.html", index_page(comparison, links=links, command=command, ours=ours), comparison)
        faster = speedups(comparison, dataflow=ours, over=BASELINE_DATAFLOW)
        if faster:
            title = f"{ours} over {BASELINE_DATAFLOW} on {comparison.results[0].machine}"
            write_file(stage / "speedup.png", speedup_png(faster.by_workload, title=title))
    return Path(folder) / "index.html"


def write_network_report(folder: str | Path, case: NetworkCase) -> Path:
    """Write the page of a network with its timeline, roofline and trace into ``folder``; gives the page's path.

    Raises InputError when the folder cannot be written; then none of the files is there.
    """
    from tilewright.reports.activity_chart import activity_panel, activity_tracks
    from tilewright.reports.figure import timeline_png
    from tilewright.reports.network_figure import roofline_png
    from tilewright.reports.network_page import CLOSE_OPERATORS, network_page, operator_trace
    from tilewright.reports.palette import operator_colours
    from tilewright.reports.roofline import roofline_of
    from tilewright.reports.timeline import chrome_trace_json

    result, trace, roof = case.result, operator_trace(case), roofline_of(case)
    subtitle = f"{cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}"
    clock, tracks, below = case.machine.clock_ghz, [], None
    if case.activity is not None:
        below = activity_panel(case.activity, clock)
        tracks = activity_tracks(case.activity, [operator.name for operator in result.operators], clock)
    picture = timeline_png(
        trace, title=case.title, subtitle=subtitle, colours=operator_colours(), n_close=CLOSE_OPERATORS, below=below
    )
    origin = Origin(machines=(case.machine,), workloads=(network_facts(case.stream),), command=case.command)
    facts = {"network": result.network, "machine": result.machine, "header": origin.header()}
    contents: dict[str, str | bytes] = {"timeline.png": picture}
    if roof is not None:
        contents["roofline.png"] = roofline_png(roof, title=case.title)
    contents["trace.json"] = chrome_trace_json(trace, title=case.title, facts=facts, tracks=tracks)
    with staged_folder(folder) as stage:
        for name, content in contents.items():
            write_file(stage / name, content)
        write_page(stage / "index.html", network_page(case, files=list(contents)), case)
    return Path(folder) / "index.html"


def file_stems(workloads: Sequence[str]) -> dict[str, str]:
    """A file name without ending for each workload: letters, digits, dots and dashes; no two alike."""
    stems: dict[str, str] = {}
    taken = {"index"}
    for workload in workloads:
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", workload)[:60].strip("-.") or "workload"
        stem, count = base, 2
        while stem.lower() in taken:
            stem, count = f"{base}-{count}", count + 1
        taken.add(stem.lower())
        stems[workload] = stem
    return stems


def _write_case(stage: Path, case: ReportCase, *, page: str, stem: str, back: str) -> None:
    from tilewright.reports.activity_chart import activity_tracks
    from tilewright.reports.figure import timeline_png
    from tilewright.reports.page import result_page
    from tilewright.reports.timeline import chrome_trace_json

    files: list[str] = []
    if case.trace is not None and case.trace.commands:
        files = [f"{stem}timeline.png", f"{stem}trace.json"]
        result = case.result
        subtitle = f"{tiling_text(result.tiling)}: {cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}"
        write_file(stage / files[0], timeline_png(case.trace, title=case.title, subtitle=subtitle))
        origin = Origin(machines=() if case.machine is None else (case.machine,), command=case.command)
        facts = {
            "workload": result.workload,
            "machine": result.machine,
            "dataflow": result.dataflow,
            "header": origin.header(),
        }
        tracks: list[dict[str, Any]] = []
        if case.activity is not None:
            tracks = activity_tracks(case.activity, [case.result.workload], case.trace.clock_ghz)
        text = chrome_trace_json(case.trace, title=case.title, facts=facts, tracks=tracks)
        write_file(stage / files[1], text)
    write_page(stage / page, result_page(case, back=back, files=files), case)
