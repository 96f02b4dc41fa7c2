"""Rich tables of a whole network for the terminal: operators, kinds, limits and totals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from tilewright.reports.columns import Column, TextTable, energy_shares
from tilewright.reports.network_case import LIMITS, RESOURCES, NetworkCase, OperatorGroup, limit_of_kernel
from tilewright.reports.quantity import (
    bytes_text,
    change_text,
    count_text,
    cycles_text,
    energy_text,
    percent_text,
    ratio_text,
    seconds_text,
    tiling_text,
)
from tilewright.reports.table import catalogue_table, figures_table, fitted_table

if TYPE_CHECKING:
    from rich.console import Console

    from tilewright.sim.groups_result import OnGroups
    from tilewright.sim.network_result import KernelRun, OperatorResult
    from tilewright.sim.residency_plan import ResidencyPlan

__all__ = [
    "formats_text",
    "group_rows",
    "kernels_columns",
    "kernels_table",
    "kinds_table",
    "limits_table",
    "network_why_columns",
    "network_why_table",
    "operators_table",
    "total_rows",
    "totals_table",
]

_LEAST_SHARE = 0.005
_MOST_NAME = 44
_MOST_ROWS = 30


def operators_table(console: Console, case: NetworkCase, *, every: bool = False) -> Table:
    """Identical operators as one row with their count, most cycles first; or ``every`` operator in order."""
    total = max(1, case.result.cycles)
    if every:
        return _every_operator(console, case, total)
    groups, others = case.groups[:_MOST_ROWS], case.groups[_MOST_ROWS:]
    columns = [
        Column(header="operators", cells=[_short(group.label) for group in groups], right=False, fold=28),
        Column(header="n", cells=[str(group.count) for group in groups]),
        *_core_groups(case, [group.first for group in groups]),
        Column(header="kind", cells=[group.first.kind for group in groups], right=False, rank=4),
        Column(header="size", cells=[group.size for group in groups], right=False, rank=6),
        Column(header="formats", cells=[group.formats for group in groups], right=False, rank=7),
        Column(header="cycles", cells=[cycles_text(group.cycles) for group in groups]),
        Column(header="share", cells=[percent_text(group.cycles / total) for group in groups]),
        Column(header="/ bound", cells=[f"{group.bound_ratio:.3f}" for group in groups]),
        Column(header="limited by", cells=[RESOURCES[group.limited_by] for group in groups], right=False, rank=1),
        Column(header="matrix", cells=[percent_text(group.matrix_utilization) for group in groups], rank=2),
        Column(header="DRAM bytes", cells=[bytes_text(group.dram_bytes) for group in groups], rank=5),
        Column(header="energy", cells=[energy_text(group.energy_pj) for group in groups], rank=3),
        Column(header="tiling", cells=[_mapping(group) for group in groups], right=False, rank=9),
    ]
    n_operators = sum(1 + len(operator.fused) for operator in case.result.operators)
    n_kernels = sum(len(operator.kernels) for operator in case.result.operators)
    caption = (
        f"{n_operators:,} operators as {n_kernels:,} library kernels ({case.result.kernels}, --kernels); identical "
        "operators are one row, --all-operators shows each"
        if case.is_library
        else f"{n_operators:,} operators in {len(case.result.operators):,} runs, {case.result.n_distinct:,} of them "
        "distinct; identical ones are one row, --all-operators shows each"
    )
    if case.is_on_groups:
        caption += "; groups of cores work at once, so shares add up to more than 100 %"
    if others:
        share = percent_text(sum(group.cycles for group in others) / total)
        caption = f"and {len(others):,} more rows with {share} of the cycles\n{caption}"
    return fitted_table(console, case.title, columns, caption=caption)


def _core_groups(case: NetworkCase, operators: Sequence[OperatorResult]) -> list[Column]:
    """The column of the groups of cores, where there are unlike ones."""
    if not case.is_on_groups:
        return []
    return [Column(header="group", cells=[one.core_group for one in operators], right=False)]


def _every_operator(console: Console, case: NetworkCase, total: int) -> Table:
    operators: Sequence[OperatorResult] = case.result.operators
    columns = [
        Column(header="operator", cells=[_short(o.name) for o in operators], right=False, fold=28),
        *_core_groups(case, operators),
        Column(header="kind", cells=[o.kind for o in operators], right=False, rank=4),
        Column(header="fused behind it", cells=[_short(_fused(o)) for o in operators], right=False, rank=8),
        Column(header="cycles", cells=[cycles_text(o.cycles) for o in operators]),
        Column(header="share", cells=[percent_text(o.cycles / total) for o in operators]),
        Column(header="/ bound", cells=[f"{o.bound_ratio:.3f}" for o in operators]),
        Column(header="limited by", cells=[RESOURCES[case.limited_by(o)] for o in operators], right=False, rank=1),
        Column(header="matrix", cells=[percent_text(o.matrix_utilization) for o in operators], rank=2),
        Column(header="DRAM bytes", cells=[bytes_text(o.dram_bytes) for o in operators], rank=5),
        Column(header="energy", cells=[energy_text(o.energy_pj) for o in operators], rank=3),
        Column(header="tiling", cells=[tiling_text(o.tiling) for o in operators], right=False, rank=9),
    ]
    return fitted_table(console, case.title, columns)


def kinds_table(console: Console, case: NetworkCase) -> Table:
    """Where time, energy and traffic go, by kind of operator."""
    result = case.result
    rows = result.by_kind()
    cycles, energy = max(1, result.cycles), result.energy_pj or 1.0
    values = list(rows.values())
    columns = [
        Column(header="kind", cells=list(rows), right=False),
        Column(header="n", cells=[f"{int(row['n']):,}" for row in values]),
        Column(header="cycles", cells=[cycles_text(int(row["cycles"])) for row in values]),
        Column(header="time", cells=[percent_text(row["cycles"] / cycles) for row in values]),
        Column(header="energy", cells=[energy_text(row["energy_pj"]) for row in values]),
        Column(header="of energy", cells=[percent_text(row["energy_pj"] / energy) for row in values]),
        Column(header="DRAM bytes", cells=[bytes_text(row["dram_bytes"]) for row in values]),
        Column(header="of DRAM", cells=[percent_text(row["dram_bytes"] / max(1, result.dram_bytes)) for row in values]),
    ]
    return fitted_table(console, "where time and energy go", columns)


def kernels_columns(case: NetworkCase) -> TextTable:
    """Library kernels of a GPU by class: launches, time, share, bytes over the DRAM's bus, and what binds them."""
    runs = [kernel for operator in case.result.operators for kernel in operator.kernels]
    classes: dict[tuple[str, str], list[KernelRun]] = {}
    for run in runs:
        classes.setdefault((run.kernel, "" if run.family == run.kernel else run.family), []).append(run)
    ordered = sorted(classes.items(), key=lambda item: -sum(run.seconds for run in item[1]))
    total = case.result.seconds or 1.0
    times = [sum(run.seconds for run in members) for _, members in ordered]
    return TextTable(
        (
            Column(header="kernels", cells=[kernel for (kernel, _), _ in ordered], right=False),
            Column(header="timed as", cells=[family for (_, family), _ in ordered], right=False, rank=4),
            Column(header="launches", cells=[f"{len(members):,}" for _, members in ordered]),
            Column(header="time", cells=[seconds_text(time) for time in times]),
            Column(header="share", cells=[percent_text(time / total) for time in times]),
            Column(
                header="each",
                cells=[seconds_text(time / len(members)) for time, (_, members) in zip(times, ordered, strict=True)],
                rank=3,
            ),
            Column(
                header="DRAM bytes",
                cells=[bytes_text(sum(run.dram_bytes for run in members)) for _, members in ordered],
                rank=2,
            ),
            Column(header="bound by", cells=[_bounds_text(members) for _, members in ordered], right=False, rank=1),
        )
    )


def kernels_table(console: Console, case: NetworkCase) -> Table:
    """:func:`kernels_columns` for the terminal."""
    what = f"library kernels ({case.result.kernels}), by class"
    return fitted_table(console, what, kernels_columns(case).columns)


def _bounds_text(members: Sequence[KernelRun]) -> str:
    found: dict[str, float] = {}
    for run in members:
        name = RESOURCES[limit_of_kernel(run)]
        found[name] = found.get(name, 0.0) + run.seconds
    total = sum(found.values()) or 1.0
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {percent_text(n / total)}" for name, n in ordered if n / total >= _LEAST_SHARE)


def limits_table(case: NetworkCase) -> Table:
    """The groups that lose most cycles, with the reason."""
    rows = [
        [_short(group.label), cycles_text(group.lost_cycles), f"{group.bound_ratio:.3f}", group.reason]
        for group in case.worst(5)
    ]
    return catalogue_table("most cycles above the bound", ["operators", "cycles lost", "/ bound", "reason"], rows)


def network_why_table(console: Console, case: NetworkCase, *, most: int = 12) -> Table:
    """Which operators take the time, why, and which what-if helps each most; identical ones are one row."""
    table = network_why_columns(case, most=most)
    others = case.groups[most:]
    caption = ""
    if others:
        share = percent_text(sum(group.cycles for group in others) / max(1, case.result.cycles))
        caption = f"and {len(others):,} more rows with {share} of the cycles"
    return fitted_table(console, "what takes the time, and what helps", table.columns, caption=caption, whole="--json")


def network_why_columns(case: NetworkCase, *, most: int) -> TextTable:
    """The ``most`` groups that take most cycles, each with its reason and the what-if that shortens it most."""
    groups = case.groups[:most]
    total = max(1, case.result.cycles)
    helps = [case.best_help(group) for group in groups]
    ratios = [
        f"{label}: {ratio_text(g.cycles / n)}" if label else "none" for g, (label, n) in zip(groups, helps, strict=True)
    ]
    return TextTable(
        (
            Column(header="operators", cells=[_short(group.label) for group in groups], right=False, fold=24),
            Column(header="n", cells=[str(group.count) for group in groups], rank=2),
            Column(header="cycles", cells=[cycles_text(group.cycles) for group in groups], rank=1),
            Column(header="share", cells=[percent_text(group.cycles / total) for group in groups]),
            Column(header="/ bound", cells=[f"{group.bound_ratio:.3f}" for group in groups]),
            Column(
                header="bound by",
                cells=[RESOURCES[group.limited_by if case.is_library else group.bound_by] for group in groups],
                right=False,
            ),
            Column(header="helps most", cells=ratios, right=False),
            Column(header="reason", cells=[group.reason for group in groups], right=False, rank=3, fold=40),
        )
    )


def totals_table(case: NetworkCase) -> Table:
    """The network as a two-column table of what a person asks first."""
    return figures_table(f"{case.title}, in all", total_rows(case))


def _weight_memory(case: NetworkCase) -> list[tuple[str, str]]:
    memory = case.machine.weights.memory
    if memory is None:
        return []
    return [(f"from {memory.name}", f"{bytes_text(case.result.weight_memory_bytes)} of weights read")]


def total_rows(case: NetworkCase) -> list[tuple[str, str]]:
    """Name and value of each total, in words."""
    result = case.result
    shares = energy_shares(result.energy_by_component)
    by_limit = case.cycles_by_limit()
    whole = sum(by_limit.values()) if case.is_on_groups else result.cycles
    limits = ", ".join(f"{LIMITS[name]} {percent_text(n / max(1, whole))}" for name, n in by_limit.items() if n)
    rows = [
        *_kernels_row(case),
        ("cycles", cycles_text(result.cycles)),
        ("time", seconds_text(result.seconds) + (" for one step" if result.n_steps > 1 else "")),
        ("lower bound", f"{cycles_text(result.lower_bound_cycles)} cycles; achieved / bound {case.bound_ratio:.3f}"),
        ("time limited by", limits),
        ("energy", f"{energy_text(result.energy_pj)}  ({shares})"),
        ("DRAM traffic", f"{bytes_text(result.dram_read_bytes)} read, {bytes_text(result.dram_write_bytes)} written"),
        *_weight_memory(case),
        ("multiply-adds", f"{count_text(result.macs)}; {percent_text(case.array_use)} of what the array can do"),
        ("number formats", formats_text(case)),
        ("weights", bytes_text(result.weight_bytes)),
        ("matrix unit busy", percent_text(case.matrix_utilization)),
        ("vector unit busy", percent_text(case.vector_utilization)),
        ("DRAM busy", percent_text(case.dram_utilization)),
    ]
    if result.overhead_cycles:
        once, each = result.inference_overhead_cycles, result.layer_overhead_cycles
        parts = f"{cycles_text(once)} an inference, {cycles_text(each)} for each of {result.n_commands:,} commands"
        parts += f", {cycles_text(result.host_cycles)} on the link to the host" if result.host_cycles else ""
        spent = energy_text(result.overhead_energy_pj)
        rows.insert(2, ("fixed costs", f"{cycles_text(result.overhead_cycles)} cycles ({parts}), {spent}"))
    if result.on_groups is not None:
        rows[2:2] = group_rows(result.on_groups, result.cycles)
    if result.residency is not None:
        rows += residency_rows(result.residency)
    if result.prefetch:
        saved = change_text(result.cycles / max(1, result.cycles_without_prefetch))
        rows.append(("weights ahead", f"{saved} against {cycles_text(result.cycles_without_prefetch)} cycles without"))
    if result.n_steps > 1:
        time, spent = seconds_text(result.seconds * result.n_steps), energy_text(result.energy_pj * result.n_steps)
        all_cycles = cycles_text(result.cycles * result.n_steps)
        rows.append((f"all {result.n_steps} steps", f"{all_cycles} cycles, {time}, {spent}"))
    return rows


def _kernels_row(case: NetworkCase) -> list[tuple[str, str]]:
    """On a GPU: which kernels were timed, or that the engine's schedules were run."""
    result = case.result
    if not result.kernels:
        return []
    if not case.is_library:
        return [("model", "the engine's exact schedules, multiprocessors as cores (--kernels engine)")]
    n_kernels = sum(len(operator.kernels) for operator in result.operators)
    launched = "one CUDA graph" if result.launch == "graph" else "the host launches each"
    return [("model", f"{n_kernels:,} library kernels, {result.kernels}; {launched}")]


def group_rows(on: OnGroups, cycles: int) -> list[tuple[str, str]]:
    """What each group of cores did, the schedule and its proof, and the main group alone."""
    rows = []
    for group in on.groups:
        operators = "1 operator" if group.n_operators == 1 else f"{group.n_operators:,} operators"
        share = percent_text(group.cycles / max(1, cycles))
        rows.append((f"group {group.name}", f"{operators}, at work {share} of the time"))
    proof = ""
    if on.best_cycles:
        proof = "proven shortest" if on.is_proven else f"at most {percent_text(on.gap)} from the shortest"
        if on.schedule_cycles != on.best_cycles:
            proof = f"the shortest found, {cycles_text(on.best_cycles)}, ran slower ({proof})"
    added = change_text(on.exact_cycles / max(1, on.schedule_cycles))
    through = ", all through the DRAM" if on.n_handed else ""
    said = f"{cycles_text(on.schedule_cycles)} cycles{through}{'; ' if proof else ''}{proof}"
    rows.append(("without contention", said))
    rows.append(("exact, one DRAM", f"{cycles_text(on.exact_cycles)} cycles, {added} against that"))
    if on.n_handed:
        rows.append(
            (f"handed over in {on.handed_in}", f"{on.n_handed:,} tensors, {bytes_text(on.handed_bytes)} in all")
        )
    if on.main_alone_cycles is None:
        rows.append((f"{on.groups[0].name} alone", "lacks some of the operators"))
    else:
        ratio = ratio_text(on.main_alone_cycles / max(1, on.exact_cycles))
        rows.append((f"{on.groups[0].name} alone", f"{cycles_text(on.main_alone_cycles)} cycles, {ratio} as many"))
    return rows


def residency_rows(plan: ResidencyPlan) -> list[tuple[str, str]]:
    """What a plan keeps on chip, what that saves, and what the first inference takes besides."""
    unit = energy_text if plan.objective == "energy" else lambda cost: f"{cycles_text(cost)} cycles"
    n_weights = sum(tensor.is_weight for tensor in plan.tensors)
    proof = "proven best" if plan.proven else f"at most {percent_text(plan.gap)} from the best"
    kept = f"{len(plan.tensors) - n_weights:,} activations, {n_weights:,} weights ({bytes_text(plan.weight_bytes)})"
    room = f"most in use {bytes_text(plan.peak_bytes)} of {bytes_text(plan.capacity_bytes)}"
    rows = [
        (f"kept in {plan.memory}", f"{kept}; {room}"),
        ("plan", f"{change_text(plan.cost / max(1, plan.without))} against {unit(plan.without)} with none; {proof}"),
    ]
    if plan.whole_lives is not None:
        ways = [(way, [one for one in plan.copies if one.way == way]) for way in ("spill", "fill")]
        told = ", ".join(
            f"{len(own):,} {way}{'s' if len(own) != 1 else ''} ({bytes_text(sum(one.n_bytes for one in own))})"
            for way, own in ways
        )
        against = f"{change_text(plan.cost / max(1, plan.whole_lives))} against {unit(plan.whole_lives)} without"
        rows.append(("lives in parts", f"{told}; {against}"))
    if plan.first_cycles:
        brought = f"{cycles_text(plan.first_cycles)} cycles, {energy_text(plan.first_energy_pj)}"
        rows.append(("first inference", f"besides, to bring the weights that stay: {brought}"))
    return rows


def formats_text(case: NetworkCase) -> str:
    """The number formats of the products, with their share of the multiply-adds where there are several."""
    found = case.macs_by_formats()
    if len(found) < 2:
        return next(iter(found), "no products")
    return ", ".join(f"{name} ({n / max(1, case.result.macs) * 100:.0f} %)" for name, n in found.items())


def _mapping(group: OperatorGroup) -> str:
    return f"{group.first.dataflow}: {tiling_text(group.first.tiling)}"


def _fused(operator: OperatorResult) -> str:
    return " ".join(name.rpartition(".")[2] for name in operator.fused)


def _short(name: str) -> str:
    """A long name without its middle."""
    if len(name) <= _MOST_NAME:
        return name
    return f"{name[: _MOST_NAME // 2 - 1]}…{name[-_MOST_NAME // 2 :]}"
