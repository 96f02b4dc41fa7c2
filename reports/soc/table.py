"""Tables of jobs on a system on a chip for the terminal: schedulers side by side, applications, the whole."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tilewright.reports.columns import Column
from tilewright.reports.quantity import energy_text, percent_text, seconds_text
from tilewright.reports.table import figures_table, fitted_table
from tilewright.sim.soc.result import JobsResult

__all__ = [
    "applications_columns",
    "applications_table",
    "jobs_figures",
    "jobs_table",
    "micros_text",
    "proof_text",
    "schedulers_columns",
    "schedulers_table",
]

_PJ = 1e12


def micros_text(us: float | None) -> str:
    """Microseconds as a time; nothing for None."""
    return "" if us is None else seconds_text(us * 1e-6)


def applications_table(console: Console, result: JobsResult) -> Table:
    """A row per application: its jobs by the tables and as they ran."""
    return fitted_table(console, f"{result.name} on {result.soc}: {result.scheduler}", applications_columns(result))


def applications_columns(result: JobsResult) -> list[Column]:
    """The same as columns."""
    own = result.applications
    columns = [
        Column(header="application", cells=[one.name for one in own], right=False),
        Column(header="jobs", cells=[f"{one.n_jobs:,}" for one in own]),
        Column(header="deadline", cells=[micros_text(one.deadline_us or None) for one in own]),
        Column(header="mean", cells=[micros_text(one.mean_us) for one in own]),
        Column(header="longest", cells=[micros_text(one.longest_us) for one in own]),
        Column(header="late", cells=[str(one.n_late) for one in own]),
    ]
    if result.exact_spans:
        columns += [
            Column(header="exact mean", cells=[micros_text(one.exact_mean_us) for one in own]),
            Column(header="exact longest", cells=[micros_text(one.exact_longest_us) for one in own]),
            Column(header="exact late", cells=[str(one.exact_n_late) for one in own]),
        ]
    return [*columns, Column(header="on", cells=[one.clusters for one in own], right=False)]


def schedulers_columns(result: JobsResult) -> list[Column]:
    """A row per scheduler, by tables; * is the one that is told in full."""
    own = result.compared
    columns = [
        Column(
            header="scheduler",
            cells=[f"{one.name}{' *' if one.name == result.scheduler else ''}" for one in own],
            right=False,
        ),
        Column(header="late", cells=[str(one.n_late) for one in own]),
        Column(header="mean", cells=[micros_text(one.mean_us) for one in own]),
        Column(header="longest", cells=[micros_text(one.longest_us) for one in own]),
        Column(header="last end", cells=[micros_text(one.end_us) for one in own]),
    ]
    if any(one.energy_j is not None for one in own):
        cells = ["" if one.energy_j is None else energy_text(one.energy_j * _PJ) for one in own]
        columns.append(Column(header="energy", cells=cells))
    return columns


def schedulers_table(console: Console, result: JobsResult) -> Table:
    """The same as a table."""
    caption = "latencies of jobs by the tables; * is the one above"
    return fitted_table(console, "schedulers", schedulers_columns(result), caption=caption)


def jobs_table(result: JobsResult) -> Table:
    """What the whole comes to."""
    return figures_table(f"{result.name} on {result.soc}, in all", jobs_figures(result))


def jobs_figures(result: JobsResult) -> list[tuple[str, str]]:
    """The same as pairs of what it is and how much."""
    late = sum(one.n_late for one in result.applications)
    rows = [
        ("jobs", f"{sum(one.n_jobs for one in result.applications):,}, {late} late by the tables"),
        ("last end", micros_text(result.end_us)),
        ("jobs a second", f"{result.jobs_per_s:,.1f}"),
    ]
    if result.exact_spans:
        by_tables = sum(one.mean_us * one.n_jobs for one in result.applications)
        exact = sum((one.exact_mean_us or 0.0) * one.n_jobs for one in result.applications)
        n_late = sum(one.exact_n_late or 0 for one in result.applications)
        rows.append(("exact to tables", f"latencies {exact / by_tables - 1:+.1%} with one DRAM for all, {n_late} late"))
    if result.bound_us is not None:
        rows.append(("proof", proof_text(result)))
    rows += [
        (f"busy: {cluster} ({number})", percent_text(result.busy(number)))
        for number, cluster in enumerate(result.elements)
    ]
    if result.energy_j is not None:
        rows.append(("energy", energy_text(result.energy_j * _PJ)))
    return rows


def proof_text(result: JobsResult) -> str:
    """What is known of better schedules."""
    if result.is_proven:
        return "no schedule by these tables has fewer late jobs, or with as few a lower mean latency"
    if result.least_late is not None and result.least_late < result.n_late:
        return f"{result.n_late} late; a schedule with {result.least_late} is not ruled out"
    return f"a better schedule could save at most {percent_text(result.gap or 0.0)} of the latencies"
