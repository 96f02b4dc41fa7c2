"""Tables of fusion groups for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text, seconds_text
from tilewright.reports.table import Column, figures_table, fitted_table
from tilewright.search.fusion.outcome import FusionOutcome

__all__ = [
    "OBJECTIVE_NAMES",
    "fusion_figures",
    "fusion_groups_table",
    "fusion_totals_table",
    "proof_text",
    "value_text",
]

OBJECTIVE_NAMES = {
    "dram": "DRAM traffic",
    "feature_maps": "DRAM traffic of feature maps",
    "latency": "latency",
    "energy": "energy",
}


def fusion_groups_table(console: Console, outcome: FusionOutcome, *, every: bool = False) -> Table:
    """A row per group of several operators, in the order in which they run; ``every``: also operators alone."""
    rows = [row for row in outcome.group_rows() if every or row["n_nodes"] > 1]
    columns = [
        Column(header="group", cells=[str(row["group"]) for row in rows]),
        Column(header="operators", cells=[str(row["n_operators"]) for row in rows]),
        Column(header="from", cells=[row["first"] for row in rows], right=False, fold=20),
        Column(header="to", cells=[row["last"] for row in rows], right=False, fold=20),
        Column(header="buffer", cells=[bytes_text(row["buffer_bytes"]) for row in rows], rank=1),
        Column(
            header="of it",
            cells=[percent_text(row["buffer_bytes"] / outcome.capacity_bytes) for row in rows],
            rank=3,
        ),
        Column(header="DRAM", cells=[bytes_text(row["dram_bytes"]) for row in rows]),
        Column(header="weights", cells=[bytes_text(row["weight_bytes"]) for row in rows], rank=4),
        Column(header="unfused", cells=[bytes_text(row["unfused_dram_bytes"]) for row in rows], rank=2),
        Column(header="saved", cells=[_saved(row["dram_bytes"], row["unfused_dram_bytes"]) for row in rows]),
    ]
    n_alone = len(outcome.plan) - len(outcome.fused_groups)
    runs = "operator runs" if n_alone == 1 else "operators run"
    caption = "" if every or not n_alone else f"{n_alone:,} {runs} alone"
    return fitted_table(console, f"fusion groups of {outcome.network}, {outcome.scheme.name}", columns, caption=caption)


def _saved(now: int, before: int) -> str:
    return percent_text(1 - now / before) if before else ""


def fusion_totals_table(outcome: FusionOutcome) -> Table:
    """What the whole plan moves and saves, and how good it is."""
    return figures_table(f"{outcome.network} with {outcome.method}", fusion_figures(outcome))


def fusion_figures(outcome: FusionOutcome) -> list[tuple[str, str]]:
    """The same as pairs of what it is and how much."""
    rows = [
        (OBJECTIVE_NAMES[outcome.objective], value_text(outcome, outcome.value)),
        ("unfused", value_text(outcome, outcome.unfused_value)),
        ("saved", percent_text(outcome.saved)),
    ]
    if outcome.objective != "dram":
        before = bytes_text(outcome.unfused_dram_bytes)
        rows.append(("DRAM traffic", f"{bytes_text(outcome.dram_bytes)}, unfused {before}"))
    rows += [
        (
            "groups",
            f"{len(outcome.plan):,}, of them {len(outcome.fused_groups):,} fused; {len(outcome.graph):,} operators",
        ),
        (
            "most buffer used",
            f"{bytes_text(outcome.peak_buffer_bytes)} of {bytes_text(outcome.capacity_bytes)}",
        ),
        ("optimum", proof_text(outcome)),
        ("plans proposed", f"{outcome.n_plans:,} in {seconds_text(outcome.seconds)}"),
    ]
    if outcome.model_accuracy is not None and outcome.model_f1 is not None:
        told = f"accuracy {percent_text(outcome.model_accuracy)}, F1 {outcome.model_f1:.3f} on groups kept back"
        rows += [("groups split", f"{outcome.n_split:,}"), ("validity model", told)]
    if outcome.n_groups_listed is not None:
        rows.append(("groups that fit", f"{outcome.n_groups_listed:,}"))
    return rows


def value_text(outcome: FusionOutcome, value: int) -> str:
    """A value of the objective with its unit."""
    if outcome.objective == "latency":
        return f"{cycles_text(value)} cycles"
    return energy_text(value) if outcome.objective == "energy" else bytes_text(value)


def proof_text(outcome: FusionOutcome) -> str:
    """How far the plan may be from the optimum."""
    if outcome.proven:
        within = f"{outcome.scheme.name} groups within {bytes_text(outcome.capacity_bytes)}"
        return f"proven: no other partition into {within} is better"
    if outcome.gap is None:
        return "not known to this method; dp and cp_sat prove theirs"
    bound = value_text(outcome, outcome.lower_bound or 0)
    return f"at most {percent_text(outcome.gap)} above the optimum (bound {bound})"
