"""How results look by themselves: few lines of text, a table for a notebook, a picture, a page.

Every kind of result has an entry in :data:`_LOOKS`; what is heavy is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.reports.columns import (
    Column,
    comparison_columns,
    machine_columns,
    network_what_if_columns,
    result_rows,
    search_proof,
    table_rows,
    what_if_columns,
)
from tilewright.reports.quantity import (
    bytes_text,
    count_text,
    cycles_text,
    energy_text,
    percent_text,
    ratio_text,
    seconds_text,
    tiling_text,
)
from tilewright.reports.ranking import baseline_of, best_of, of_workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tilewright.reports.case import ReportCase
    from tilewright.reports.network_case import NetworkCase
    from tilewright.sim.machine_comparison import MachineComparison
    from tilewright.sim.mapping_front import MappingFront
    from tilewright.sim.network_result import NetworkResult
    from tilewright.sim.network_why import NetworkWhyResult
    from tilewright.sim.result import ComparisonResult, SimulationResult, WhyResult

__all__ = ["picture", "short_html", "short_text", "write_report"]

_ENDINGS = (".png", ".svg", ".pdf")
_MOST_LINES = 8


class _Looks(NamedTuple):
    """``lines``: the first is the title. ``table``: head (empty: none) and rows for a notebook."""

    lines: Callable[[Any], list[str]]
    table: Callable[[Any], tuple[list[str], list[list[str]]]] | None = None
    plot: Callable[[Any], Figure] | None = None
    report: Callable[[Any, Path], Path] | None = None


def short_text(result: object) -> str:
    """Few lines that say what ``result`` is and its main figures."""
    title, *lines = _looks(result).lines(result)
    shown = lines[:_MOST_LINES]
    more = [f"and {len(lines) - len(shown):,} more"] if len(shown) < len(lines) else []
    return "\n  ".join([f"{type(result).__name__}: {title}", *shown, *more])


def short_html(result: object) -> str:
    """The same as a heading and a table; every text is escaped."""
    looks = _looks(result)
    title, *lines = looks.lines(result)
    heading = f"<p><b>{escape(title)}</b></p>"
    if looks.table is None:
        return heading + "".join(f"<p>{escape(line)}</p>" for line in lines)
    head, rows = looks.table(result)
    top = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" if any(head) else ""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"{heading}<table>{top}{body}</table>"


def picture(result: object, path: str | Path | None) -> Figure:
    """The figure of ``result``, also written to ``path``; raises InputError for a place or an ending that is none."""
    from tilewright.reports.files import check_file

    if path is not None:
        ending = Path(path).suffix.lower()
        if ending not in _ENDINGS:
            raise unknown("ending", ending, _ENDINGS, place=f"plot: {path}")
        check_file(path, what="plot")
    plot = _looks(result).plot
    assert plot is not None, type(result)
    figure = plot(result)
    if path is not None:
        _save(figure, Path(path))
    return figure


def write_report(result: object, folder: str | Path) -> Path:
    """Write the page of ``result`` into ``folder``; gives the path of the page."""
    report = _looks(result).report
    assert report is not None, type(result)
    return report(result, Path(folder))


def _looks(result: object) -> _Looks:
    for kind in type(result).__mro__:  # a subclass looks like what it is made of
        if kind.__name__ in _LOOKS:
            return _LOOKS[kind.__name__]
    return _Looks(lines=lambda other: [object.__repr__(other)])


def _save(figure: Figure, path: Path) -> None:
    import io

    from tilewright.reports.figure import svg_bytes
    from tilewright.reports.files import write_file

    if path.suffix.lower() == ".svg":
        write_file(path, svg_bytes(figure))
        return
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix.lower().removeprefix("."))
    write_file(path, stream.getvalue())


def _table(columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    return [column.header for column in columns], table_rows(columns)


# --- one layer --------------------------------------------------------------------------------------------------------


def _objective(result: SimulationResult) -> str:
    return result.search.objective if result.search else "latency"


def _result_lines(result: SimulationResult) -> list[str]:
    bound = result.lower_bound
    proof = search_proof(result.search, result.dataflow) if result.search else "as given"
    return [
        f"{result.workload} on {result.machine} with {result.dataflow}",
        f"{cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}; {result.bound_ratio:.3f} times the "
        f"bound, which {bound.limited_by} sets",
        f"energy {energy_text(result.energy_pj)}, DRAM {bytes_text(result.dram_bytes)}, matrix unit busy "
        f"{percent_text(result.matrix_utilization)}",
        f"tiling {tiling_text(result.tiling)} ({proof})",
    ]


def _case(result: SimulationResult, why: WhyResult | None = None, **more: Any) -> ReportCase:
    from tilewright.reports.evidence import explained

    if result.layer is None or result.machine_spec is None:
        raise InputError(f"{result.workload}: the result does not know what was run; allowed one of a simulation")
    objective = more.pop("objective", _objective(result))
    layer: Any = result.layer
    return explained(result, layer, result.machine_spec, objective=objective, why=why, **more)


def _plot_result(result: SimulationResult) -> Figure:
    import tilewright.search.api as api
    from tilewright.reports.figure import timeline_figure

    if result.layer is None or result.machine_spec is None:
        raise InputError(f"{result.workload}: the result does not know what was run; allowed one of a simulation")
    layer: Any = result.layer
    trace = api.trace(layer, result.machine_spec, result.dataflow, result.tiling, objective=_objective(result))
    title = f"{result.workload} on {result.machine} with {result.dataflow}"
    subtitle = f"{tiling_text(result.tiling)}: {cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}"
    return timeline_figure(trace, title=title, subtitle=subtitle)


def _report_result(result: SimulationResult, folder: Path) -> Path:
    from tilewright.reports.folder import write_result_report

    return write_result_report(folder, _case(result))


def _why_lines(why: WhyResult) -> list[str]:
    title, *lines = _result_lines(why.result)
    base = why.result.cycles
    return [title, lines[0], *(f"{item.label}: {ratio_text(base / item.cycles)}" for item in why.what_ifs)]


def _plot_why(why: WhyResult | NetworkWhyResult) -> Figure:
    from tilewright.reports.figure import bars_figure

    name = why.result.workload if hasattr(why.result, "workload") else why.result.network
    base = why.result.cycles
    values = {"as it is": base, **{item.label: item.cycles for item in why.what_ifs}}
    return bars_figure(values, text=lambda n: cycles_text(int(n)), title=f"{name} on {why.result.machine}: what if",
                       unit="cycles", marked=min(values, key=lambda label: values[label]))  # fmt: skip


def _report_why(why: WhyResult, folder: Path) -> Path:
    from tilewright.reports.folder import write_result_report

    return write_result_report(folder, _case(why.result, why))


# --- comparisons ------------------------------------------------------------------------------------------------------


def _goal(comparison: ComparisonResult) -> str:
    return next((_objective(result) for result in comparison.results), "latency")


def _comparison_lines(comparison: ComparisonResult) -> list[str]:
    workloads, names = comparison.workloads, dict.fromkeys(result.dataflow for result in comparison.results)
    machine = comparison.results[0].machine if comparison.results else "no machine that can run it"
    what = workloads[0] if len(workloads) == 1 else f"{len(workloads)} workloads"
    lines = [f"{what} with {len(names)} dataflows on {machine}, each at its best tiling"]
    for workload in workloads:
        results = of_workload(comparison, workload)
        best = best_of(results, _goal(comparison))
        if best is None:
            lines.append(f"{workload}: cannot run")
            continue
        lines.append(
            f"{workload}: {best.dataflow} is best ({_goal(comparison)}), {cycles_text(best.cycles)} cycles, "
            f"{energy_text(best.energy_pj)}"
        )
    return lines


def _comparison_table(comparison: ComparisonResult) -> tuple[list[str], list[list[str]]]:
    head: list[str] = []
    rows: list[list[str]] = []
    for workload in comparison.workloads:
        results = of_workload(comparison, workload)
        table = comparison_columns(results, best=best_of(results, _goal(comparison)), baseline=baseline_of(results))
        head = head or ["workload", *table.head]
        rows += [[workload, *row] for row in table.rows]
    return head, rows


def _plot_comparison(comparison: ComparisonResult) -> Figure:
    from tilewright.reports.figure import cycles_figure, grouped_figure

    if not comparison.results:
        raise InputError("plot: nothing in this comparison can run; allowed one with results")
    workloads = comparison.workloads
    if len(workloads) == 1:
        results = comparison.results
        title = f"{workloads[0]} on {results[0].machine}"
        return cycles_figure(results, best=best_of(results, _goal(comparison)), title=title)
    values = {
        workload: {result.dataflow: float(result.cycles) for result in of_workload(comparison, workload)}
        for workload in workloads
    }
    return grouped_figure(values, title=f"cycles on {comparison.results[0].machine}", unit="cycles")


def _report_comparison(comparison: ComparisonResult, folder: Path) -> Path:
    from tilewright.reports.folder import write_comparison_report, write_result_report

    if not comparison.results:
        raise InputError("report: nothing in this comparison can run; allowed one with results")
    cases = _cases(comparison)
    if len(comparison.workloads) == 1:
        return write_result_report(folder, next(cases))
    return write_comparison_report(folder, comparison, cases)


def _cases(comparison: ComparisonResult) -> Iterator[ReportCase]:
    goal = _goal(comparison)
    for workload in comparison.workloads:
        results = of_workload(comparison, workload)
        best = best_of(results, goal)
        if best is not None:
            failed = {d: reason for (w, d), reason in comparison.infeasible.items() if w == workload}
            yield _case(best, objective=goal, rivals=results, infeasible=failed)


def _machines_lines(comparison: MachineComparison) -> list[str]:
    workloads = comparison.workloads
    what = workloads[0] if len(workloads) == 1 else f"{len(workloads)} workloads"
    lines = [f"{what} on {len(comparison.machines)} machines, each at its best mappings ({comparison.objective})"]
    for workload in workloads:
        runs = comparison.of_workload(workload)
        told = [f"{run.machine} {seconds_text(run.seconds)}, {energy_text(run.energy_pj)}" for run in runs]
        lines.append(f"{workload}: {'; '.join(told) or 'cannot run'}")
    return lines


def _machines_table(comparison: MachineComparison) -> tuple[list[str], list[list[str]]]:
    rows: list[list[str]] = []
    head: list[str] = []
    for workload in comparison.workloads:
        columns = [c for c in machine_columns(comparison, workload).columns if c.header != "dataflow"]
        head = ["workload", *(column.header for column in columns)]
        rows += [[workload, *row] for row in table_rows(columns)]
    return head, rows


def _plot_machines(comparison: MachineComparison) -> Figure:
    from tilewright.reports.figure import grouped_figure

    if not comparison.runs:
        raise InputError("plot: nothing in this comparison can run; allowed one with results")
    values = {
        workload: {run.machine: run.seconds * 1e3 for run in comparison.of_workload(workload)}
        for workload in comparison.workloads
    }
    return grouped_figure(values, title="time by machine", unit="ms")


def _report_machines(comparison: MachineComparison, folder: Path) -> Path:
    from tilewright.reports.machine_page import write_machines_report

    specs = {run.machine: run.result.machine_spec for run in comparison.runs}
    return write_machines_report(folder, comparison, [spec for spec in specs.values() if spec is not None])


# --- networks ---------------------------------------------------------------------------------------------------------


def _network_lines(result: NetworkResult) -> list[str]:
    total, most = max(1, result.cycles), list(result.by_kind().items())[:3]
    kinds = ", ".join(f"{kind} {row['cycles'] / total * 100:.0f} %" for kind, row in most)
    steps = f" for one of {result.n_steps} steps" if result.n_steps > 1 else ""
    return [
        f"{result.network} on {result.machine}",
        f"{cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}{steps}; "
        f"{result.cycles / max(1, result.lower_bound_cycles):.3f} times the bound",
        f"energy {energy_text(result.energy_pj)}, DRAM {bytes_text(result.dram_bytes)}, "
        f"{count_text(result.macs)} multiply-adds",
        f"{len(result.operators):,} runs of operators, {result.n_distinct:,} distinct; time in {kinds}",
    ]


def _network_case(result: NetworkResult, why: NetworkWhyResult | None = None) -> NetworkCase:
    from tilewright.reports.network_case import NetworkCase

    if result.stream is None or result.machine_spec is None:
        raise InputError(f"{result.network}: the result does not know what was run; allowed one of a simulation")
    return NetworkCase(
        result=result, stream=result.stream, machine=result.machine_spec, objective=result.objective, why=why
    )


def _network_table(result: NetworkResult) -> tuple[list[str], list[list[str]]]:
    from tilewright.reports.network_table import total_rows

    if result.stream is None or result.machine_spec is None:
        return [], [[line] for line in _network_lines(result)[1:]]
    return [], [list(row) for row in total_rows(_network_case(result))]


def _plot_network(result: NetworkResult) -> Figure:
    from tilewright.reports.activity_chart import activity_panel
    from tilewright.reports.figure import timeline_figure
    from tilewright.reports.network_page import CLOSE_OPERATORS, operator_trace
    from tilewright.reports.palette import operator_colours

    case = _network_case(result)
    return timeline_figure(
        operator_trace(case),
        title=case.title,
        subtitle=f"{cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}",
        colours=operator_colours(),
        n_close=CLOSE_OPERATORS,
        below=None if case.activity is None else activity_panel(case.activity, case.machine.clock_ghz),
    )


def _report_network(result: NetworkResult, folder: Path) -> Path:
    from tilewright.reports.folder import write_network_report

    return write_network_report(folder, _network_case(result))


def _network_why_lines(why: NetworkWhyResult) -> list[str]:
    title, first, *_ = _network_lines(why.result)
    base = why.result.cycles
    return [title, first, *(f"{item.label}: {ratio_text(base / item.cycles)}" for item in why.what_ifs)]


def _report_network_why(why: NetworkWhyResult, folder: Path) -> Path:
    from tilewright.reports.folder import write_network_report

    return write_network_report(folder, _network_case(why.result, why))


# --- fronts -----------------------------------------------------------------------------------------------------------


def _front_lines(front: MappingFront) -> list[str]:
    from tilewright.reports.front import front_title

    points = [f"{seconds_text(point.seconds)}, {energy_text(point.energy_pj)}" for point in front.spread(4)]
    return [front_title(front), "; ".join(points), front.proof]


def _front_table(front: MappingFront) -> tuple[list[str], list[list[str]]]:
    from tilewright.reports.front import front_columns

    return _table(front_columns(front).columns)


def _plot_front(front: MappingFront) -> Figure:
    from tilewright.reports.front import front_figure

    return front_figure([front])


def _report_front(front: MappingFront, folder: Path) -> Path:
    from tilewright.reports.front import write_front_report

    return write_front_report(folder, [front])


# --- what has text only -----------------------------------------------------------------------------------------------


def _operator_lines(operator: Any) -> list[str]:
    return [
        f"{operator.name} ({operator.kind}): {cycles_text(operator.cycles)} cycles, "
        f"{operator.bound_ratio:.3f} times the bound, {energy_text(operator.energy_pj)}, "
        f"DRAM {bytes_text(operator.dram_bytes)}; "
        f"{operator.dataflow}: {tiling_text(operator.tiling)}"
    ]


def _outcome_lines(outcome: Any) -> list[str]:
    proof = search_proof(outcome.summary, outcome.dataflow)
    gap = "" if outcome.proven else f", at most {percent_text(outcome.gap)} above the optimum"
    return [
        f"{outcome.workload} on {outcome.machine} with {outcome.dataflow}, {outcome.method} for {outcome.objective}",
        f"{cycles_text(outcome.cycles)} cycles, {energy_text(outcome.energy_pj)}; tiling {tiling_text(outcome.tiling)}",
        f"{proof}{gap}; {outcome.n_evaluations:,} exact runs in {seconds_text(outcome.seconds)}",
    ]


def _fusion_lines(outcome: Any) -> list[str]:
    from tilewright.reports.fusion_table import proof_text, value_text

    return [
        f"{outcome.network} fused by {outcome.method} for {outcome.objective}",
        f"{value_text(outcome, outcome.value)} for {value_text(outcome, outcome.unfused_value)} unfused "
        f"({percent_text(outcome.saved)} saved) in {len(outcome.plan):,} groups",
        proof_text(outcome),
    ]


def _bits_lines(result: Any) -> list[str]:
    from tilewright.reports.bits.words import proof_text

    return [
        f"bit widths of {result.network} on {result.machine}",
        f"sensitivity {result.chosen.sensitivity:.4g} (widest formats {result.reference.sensitivity:.4g}); "
        f"{proof_text(result)}",
        f"{cycles_text(result.run.cycles)} cycles, {energy_text(result.run.energy_pj)} in the chosen formats",
    ]


def _joint_lines(outcome: Any) -> list[str]:
    proof = "proven" if outcome.joint.proven else "not proven"
    return [
        f"formats and fusion groups chosen together: {percent_text(outcome.saved)} less than the better sequence",
        f"value {outcome.joint.value:,} ({proof}), sensitivity {outcome.joint.sensitivity:.4g}",
    ]


def _pipeline_lines(result: Any) -> list[str]:
    n = len(result.stages)
    return [
        f"{result.network} as a pipeline of {n} stage{'s' if n > 1 else ''} on {result.machine}",
        f"an image every {cycles_text(round(result.interval_cycles))} cycles, {result.throughput_per_s:,.1f} a second; "
        f"the first after {cycles_text(result.fill_cycles)} cycles",
        f"{result.n_images:,} images in {cycles_text(result.cycles)} cycles, {energy_text(result.energy_pj)}; "
        f"gap to the bound of all partitions {percent_text(result.gap)}",
    ]


def _stream_lines(stream: Any) -> list[str]:
    steps = f", {stream.n_steps} steps" if stream.n_steps > 1 else ""
    kinds: dict[str, int] = {}
    for operator in stream.operators:
        kinds[operator.kind] = kinds.get(operator.kind, 0) + 1
    most = sorted(kinds.items(), key=lambda item: -item[1])
    return [
        f"{stream.name}, {len(stream.operators):,} operators{steps}",
        f"{count_text(stream.macs)} multiply-adds, {count_text(stream.n_weights)} weights in "
        f"{bytes_text(stream.weight_bytes)}",
        ", ".join(f"{n:,} {kind}" for kind, n in most),
    ]


def _machine_lines(machine: Any) -> list[str]:
    from tilewright.reports.page import machine_rows

    rows = machine_rows(machine, machine.stated)
    return [machine.name, *(f"{row['name']}: {row['value']}" for row in rows if row["value"])]


def _trace_lines(trace: Any) -> list[str]:
    part = "all" if trace.complete else "the first"
    engines = ", ".join(trace.engines)
    return [f"{part} {len(trace.commands):,} commands of {cycles_text(trace.total_cycles)} cycles on {engines}"]


def _pipeline_table(result: Any) -> tuple[list[str], list[list[str]]]:
    from tilewright.reports.pipeline_table import pipeline_figures

    return [], [list(row) for row in pipeline_figures(result)]


def _rows_of(lines: Callable[[Any], list[tuple[str, str]]]) -> Callable[[Any], tuple[list[str], list[list[str]]]]:
    return lambda result: ([], [list(row) for row in lines(result)])


_LOOKS: dict[str, _Looks] = {
    "SimulationResult": _Looks(_result_lines, _rows_of(result_rows), _plot_result, _report_result),
    "WhyResult": _Looks(_why_lines, lambda why: _table(what_if_columns(why).columns), _plot_why, _report_why),
    "ComparisonResult": _Looks(_comparison_lines, _comparison_table, _plot_comparison, _report_comparison),
    "MachineComparison": _Looks(_machines_lines, _machines_table, _plot_machines, _report_machines),
    "NetworkResult": _Looks(_network_lines, _network_table, _plot_network, _report_network),
    "NetworkWhyResult": _Looks(
        _network_why_lines,
        lambda why: _table(network_what_if_columns(why).columns),
        _plot_why,
        _report_network_why,
    ),
    "MappingFront": _Looks(_front_lines, _front_table, _plot_front, _report_front),
    "OperatorResult": _Looks(_operator_lines),
    "SearchOutcome": _Looks(_outcome_lines),
    "FusionOutcome": _Looks(_fusion_lines),
    "BitsResult": _Looks(_bits_lines),
    "JointOutcome": _Looks(_joint_lines),
    "OperatorStream": _Looks(_stream_lines),
    "PipelineResult": _Looks(_pipeline_lines, _pipeline_table),
    "MachineSpec": _Looks(_machine_lines),
    "TraceWindow": _Looks(_trace_lines),
}
