"""Tables of groups and what stays on chip between them, for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text, seconds_text
from tilewright.reports.table import Column, figures_table, fitted_table
from tilewright.search.fusion.kept.outcome import KeptOutcome

__all__ = ["kept_figures", "kept_groups_table", "kept_totals_table"]


def kept_groups_table(console: Console, outcome: KeptOutcome, *, every: bool = False) -> Table:
    """A row per group of several operators, in the order in which they run; ``every``: also operators alone."""
    rows = [(at, group) for at, group in enumerate(outcome.groups, start=1) if every or len(group.operators) > 1]
    columns = [
        Column(header="group", cells=[str(at) for at, _ in rows]),
        Column(header="operators", cells=[str(len(group.operators)) for _, group in rows]),
        Column(header="from", cells=[group.operators[0] for _, group in rows], right=False, fold=20),
        Column(header="to", cells=[group.operators[-1] for _, group in rows], right=False, fold=20),
        Column(header="run", cells=[group.how for _, group in rows], right=False, rank=2),
        Column(header="cost", cells=[_cost(outcome, group.cost) for _, group in rows]),
        Column(header="room", cells=[bytes_text(group.tile_bytes) for _, group in rows], rank=1),
        Column(header="weights kept", cells=[_kept(group.weight_bytes) for _, group in rows]),
        Column(header="maps kept", cells=[str(len(group.maps) or "") for _, group in rows], rank=3),
    ]
    n_alone = len(outcome.groups) - len(rows)
    caption = "" if not n_alone else f"{n_alone:,} more of one operator"
    return fitted_table(console, f"groups of {outcome.network}, {outcome.scheme}", columns, caption=caption)


def _kept(n_bytes: int) -> str:
    return bytes_text(n_bytes) if n_bytes else ""


def _cost(outcome: KeptOutcome, value: int) -> str:
    return energy_text(value) if outcome.objective == "energy" else f"{cycles_text(value)} cycles"


def kept_totals_table(outcome: KeptOutcome) -> Table:
    """What the plan costs, what it keeps, and how good it is."""
    return figures_table(f"{outcome.network}: groups and what stays on chip", kept_figures(outcome))


def kept_figures(outcome: KeptOutcome) -> list[tuple[str, str]]:
    """The same as pairs of what it is and how much."""
    maps = [one for one in outcome.tensors if not one.is_weight]
    rows = [(outcome.objective, _cost(outcome, outcome.cost))]
    if outcome.alone is not None:
        rows.append(("operators one by one", f"{_cost(outcome, outcome.alone)}, with the best plan found"))
    if outcome.without is not None:
        rows.append(("all in the DRAM", f"{_cost(outcome, outcome.without)}, operators one by one"))
    proof = "proven: no plan of such groups is better"
    if not outcome.proven:
        least = _cost(outcome, outcome.bound)
        proof = f"at most {percent_text(outcome.gap)} better is possible (bound {least})"
    rows += [
        ("optimum", proof),
        ("groups", f"{len(outcome.groups):,}, of them {len(outcome.fused_groups):,} fused"),
        (
            f"kept in {outcome.memory}",
            f"{len(maps):,} maps, {bytes_text(outcome.weight_bytes)} of weights between inferences",
        ),
        ("most in use", f"{bytes_text(outcome.peak_bytes)} of {bytes_text(outcome.capacity_bytes)}"),
        ("highest address", bytes_text(outcome.top_address)),
    ]
    if outcome.first_cycles:
        rows.append(("first inference", f"{cycles_text(outcome.first_cycles)} cycles more, for the weights"))
    rows.append(
        (
            "searched",
            f"{outcome.n_groups_listed:,} groups that fit, {outcome.n_runs:,} runs, {outcome.n_searches:,} mappings in "
            f"{seconds_text(outcome.seconds)}",
        )
    )
    return rows
