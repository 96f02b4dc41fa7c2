"""Tables of a run over time for the terminal: its phases, and what it takes in all."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tilewright.reports.columns import Column, energy_shares
from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text, seconds_text
from tilewright.reports.table import figures_table, fitted_table
from tilewright.sim.runs.result import Measure, RunResult

__all__ = ["measure_text", "phases_columns", "phases_table", "run_figures", "run_table"]


def phases_table(console: Console, result: RunResult) -> Table:
    """A row per phase, in order."""
    return fitted_table(console, f"{result.name} on {result.machine}", phases_columns(result))


def phases_columns(result: RunResult) -> list[Column]:
    """The same as columns."""
    phases = result.phases
    total = result.seconds or 1.0
    return [
        Column(header="phase", cells=[phase.name for phase in phases], right=False),
        Column(header="steps", cells=[f"{phase.n_steps:,}" for phase in phases]),
        Column(header="made", cells=[f"{phase.n_made:,}" for phase in phases], rank=5),
        Column(header="cycles", cells=[cycles_text(phase.cycles) for phase in phases], rank=6),
        Column(header="time", cells=[seconds_text(phase.seconds) for phase in phases]),
        Column(header="share", cells=[percent_text(phase.seconds / total) for phase in phases]),
        Column(header="first step", cells=[seconds_text(phase.first_seconds) for phase in phases], rank=1),
        Column(header="last step", cells=[seconds_text(phase.last_seconds) for phase in phases], rank=2),
        Column(header="energy", cells=[energy_text(phase.energy_pj) for phase in phases]),
        Column(header="DRAM bytes", cells=[bytes_text(phase.dram_bytes) for phase in phases], rank=3),
        Column(header="matrix", cells=[percent_text(phase.matrix_utilization) for phase in phases], rank=4),
    ]


def run_table(result: RunResult) -> Table:
    """What the run takes and gives."""
    return figures_table(f"{result.name} on {result.machine}, in all", run_figures(result))


def run_figures(result: RunResult) -> list[tuple[str, str]]:
    """The same as pairs of what it is and how much."""
    rows = [(name, text) for name, text in result.facts.items()]
    rows += [(one.label, measure_text(one)) for one in result.measures]
    rows.append(("energy by component", energy_shares(result.energy_by_component)))
    if result.memory:
        top = max(result.memory, key=lambda point: point.n_bytes)
        rows.append(
            (
                "most in memory",
                f"{bytes_text(top.n_bytes)} in {top.what}: weights {bytes_text(top.weight_bytes)}, cache "
                f"{bytes_text(top.cache_bytes)}, activations {bytes_text(top.activation_bytes)}",
            )
        )
        rows = [row for at, row in enumerate(rows) if row[0] != "most in memory" or at == len(rows) - 1]
    if result.capacity_bytes is not None:
        rows.append(("memory", f"{bytes_text(result.capacity_bytes)}"))
    return rows


def measure_text(measure: Measure) -> str:
    """Its value in a fitting unit."""
    value = measure.value
    if measure.unit == "s":
        return seconds_text(value)
    if measure.unit == "J":
        return energy_text(value * 1e12)
    if measure.unit == "bytes":
        return bytes_text(value)
    if measure.unit == "share":
        return percent_text(value)
    shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    units = {"Js": "J s", "1/s": "", "TOPS/W": "TOPS/W", "W": "W", "": ""}
    return f"{shown} {units[measure.unit]}".strip()
