"""Tables of a plan with memory that computes: what runs where, and at which batch that pays."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.table import Table

from tilewright.reports.quantity import energy_text, percent_text, seconds_text
from tilewright.reports.table import Column, figures_table, fitted_table
from tilewright.search.pim.batches import BatchPlans
from tilewright.search.pim.plan import PimOperator, PimPlan

__all__ = ["batches_table", "pim_operators_table", "pim_totals_table", "turn_text"]


def pim_operators_table(console: Console, plan: PimPlan) -> Table:
    """A row for operators of one name but for the number of their block, where they run in the same place."""
    groups = [list(members) for _, members in groupby(sorted(plan.operators, key=_alike), key=_alike)]
    groups.sort(key=lambda members: -sum(one.seconds for one in members))
    first = [members[0] for members in groups]
    columns = [
        Column(header="operators", cells=[_name(members) for members in groups], right=False, fold=40),
        Column(header="n", cells=[str(len(members)) for members in groups]),
        Column(header="where", cells=["banks" if one.in_banks else "host" for one in first], right=False),
        Column(header="time", cells=[seconds_text(sum(one.seconds for one in members)) for members in groups]),
        Column(header="on the host", cells=[seconds_text(sum(one.host_seconds for one in m)) for m in groups], rank=1),
        Column(header="in the banks", cells=[_banks(members) for members in groups], rank=2),
        Column(header="why not", cells=[one.reason for one in first], right=False, fold=30, rank=4),
    ]
    title = f"{plan.network} on {plan.machine}: host and banks of {plan.memory}"
    caption = "on the host without weights brought ahead; in the banks with what the host then does"
    return fitted_table(console, title, columns, caption=caption)


def pim_totals_table(plan: PimPlan) -> Table:
    """What the plan takes, beside the chip alone."""
    banks = sum(one.banks.bank_seconds for one in plan.operators if one.in_banks and one.banks is not None)
    rows = [
        ("time", seconds_text(plan.seconds)),
        ("the chip alone", f"{seconds_text(plan.host_seconds)}; {plan.speedup:.2f}x as long"),
        ("energy", _energy(plan)),
        ("banks at work", f"{seconds_text(banks)}, {percent_text(banks / plan.seconds)}"),
        ("products in banks", "{} of {}".format(*plan.n_in_banks("gemm"))),
        ("attention in banks", "{} of {}".format(*plan.n_in_banks("attention"))),
        ("meanwhile", "the host waits" if plan.meanwhile == "wait" else "the host works on, on memory of its own"),
        ("proven", _proof(plan)),
    ]
    return figures_table(f"{plan.network} on {plan.machine}", rows)


def batches_table(console: Console, found: BatchPlans) -> Table:
    """A row a batch."""
    rows = found.rows()
    columns = [
        Column(header="batch", cells=[str(row["batch"]) for row in rows]),
        Column(header="chip alone", cells=[seconds_text(row["host_seconds"]) for row in rows]),
        Column(header="with banks", cells=[seconds_text(row["seconds"]) for row in rows]),
        Column(header="faster", cells=[f"{row['speedup']:.2f}x" for row in rows]),
        Column(header="energy", cells=[_pj(row["energy_pj"]) for row in rows], rank=3),
        Column(header="of the chip alone", cells=[_pj(row["host_energy_pj"]) for row in rows], rank=4),
        Column(header="products in banks", cells=[f"{row['products_in_banks']} of {row['products']}" for row in rows]),
        Column(header="attention", cells=[f"{row['attention_in_banks']} of {row['attention']}" for row in rows]),
        Column(header="a second", cells=[f"{row['per_second']:.1f}" for row in rows], rank=1),
        Column(header="proven", cells=["yes" if row["proven"] else "no" for row in rows], right=False, rank=2),
    ]
    (plan, *_) = found.plans.values()
    name = plan.network.rsplit(",batch=", 1)[0].rsplit(":batch=", 1)[0]
    title = f"{name} on {plan.machine}, by batch"
    return fitted_table(console, title, columns)


def turn_text(found: BatchPlans) -> str:
    """The batch at which banks stop paying, in words."""
    if found.last_paying is None:
        return "no product with weights is better in the banks at any batch looked at"
    if found.first_not_paying is None:
        return f"products are better in the banks up to the largest batch looked at ({found.last_paying})"
    return (
        f"products with weights stop paying in the banks at batch {found.first_not_paying}: at {found.last_paying} one "
        "is better there, above none that was looked at"
    )


def _alike(one: PimOperator) -> tuple[str, bool, str]:
    return ".".join("*" if part.isdigit() else part for part in one.name.split(".")), one.in_banks, one.reason


def _name(members: list[PimOperator]) -> str:
    numbers = [int(part) for one in members for part in one.name.split(".") if part.isdigit()]
    if len(members) == 1 or not numbers:
        return members[0].name
    return _alike(members[0])[0].replace("*", f"{min(numbers)}-{max(numbers)}")


def _banks(members: list[PimOperator]) -> str:
    known = [one.banks.seconds for one in members if one.banks is not None]
    return seconds_text(sum(known)) if known else ""


def _pj(energy: float | None) -> str:
    return "" if energy is None else energy_text(energy)


def _energy(plan: PimPlan) -> str:
    alone = energy_text(plan.host.energy_pj)
    if plan.energy_pj is None:
        return f"not known of {plan.memory}; the chip alone {alone}"
    return f"{energy_text(plan.energy_pj)}; the chip alone {alone}"


def _proof(plan: PimPlan) -> str:
    if plan.is_proven:
        what = "faster" if plan.objective == "latency" else "cheaper"
        return f"no other assignment of operators is {what}, with these figures of operators"
    return (
        f"nothing beats {seconds_text(plan.least_seconds)}, {percent_text(1 - plan.least_seconds / plan.seconds)} less"
    )
