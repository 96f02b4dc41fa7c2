"""Rich tables for the terminal: one result, a comparison, many networks, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tilewright.reports.charts import ATTRIBUTION_LABELS
from tilewright.reports.columns import (
    Column,
    TextTable,
    comparison_columns,
    machine_columns,
    network_what_if_columns,
    result_rows,
    what_if_columns,
)
from tilewright.reports.layer_words import layer_words, network_words
from tilewright.reports.pairs import pair_table
from tilewright.reports.published import published_headline, published_rows
from tilewright.reports.quantity import (
    cycles_text,
    percent_text,
    tiling_text,
)
from tilewright.reports.ranking import BASELINE_DATAFLOW, OUR_DATAFLOW, baseline_of, best_of, of_workload, speedups
from tilewright.sim.machine_comparison import MachineComparison
from tilewright.sim.network_why import NetworkWhyResult
from tilewright.sim.result import ComparisonResult, SimulationResult, WhyResult

__all__ = [
    "Column",
    "assumptions_text",
    "attribution_table",
    "catalogue_table",
    "comparison_table",
    "figures_table",
    "fitted_table",
    "headline_table",
    "infeasible_text",
    "listed_text",
    "machine_tables",
    "machines_failed_text",
    "result_table",
    "summary_table",
    "what_if_table",
]

_BAR_CELLS = 24


def fitted_table(
    console: Console,
    title: str,
    columns: Sequence[Column],
    *,
    best_row: int | None = None,
    caption: str = "",
    whole: str = "--csv",
) -> Table:
    """A table of ``columns`` that fits the console's width; names of columns left out go into the caption.

    ``whole``: the option that writes them all.
    """
    kept = list(columns)
    dropped: list[str] = []
    table = _build(title, kept, best_row, fold=False)
    while not _fits(console, table):
        table = _build(title, kept, best_row, fold=True)
        droppable = [c for c in kept if c.rank]
        if not droppable or _fits(console, table):
            break
        widest_rank = max(droppable, key=lambda c: c.rank)
        kept.remove(widest_rank)
        dropped.append(widest_rank.short or widest_rank.header)
    lines = [caption] if caption else []
    if dropped:
        lines.append(f"no room here for: {', '.join(dropped)} ({whole} has every column)")
    table.caption = Text("\n".join(lines), style="dim") if lines else None
    return table


def _fits(console: Console, table: Table) -> bool:
    wanted = table.__rich_measure__(console, console.options.update(width=10_000)).maximum
    return bool(wanted <= console.width)


def _titled(title: str, *, show_header: bool = False) -> Table:
    """An empty table; the title is taken as it is (no markup)."""
    return Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption_justify="left",
        header_style="bold",
        show_header=show_header,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        box=SIMPLE_HEAD,
    )


def _build(title: str, columns: Sequence[Column], best_row: int | None, *, fold: bool) -> Table:
    table = _titled(title, show_header=True)
    for column in columns:
        width = column.fold if fold else None
        table.add_column(
            column.short or column.header,
            justify="right" if column.right else "left",
            no_wrap=width is None,
            max_width=width,
            overflow="fold" if width else "ellipsis",
        )
    for row in range(len(columns[0].cells) if columns else 0):
        cells = [Text(c.cells[row], style=c.styles.get(row, "")) for c in columns]
        table.add_row(*cells, style="bold green" if row == best_row else None)
    return table


def result_table(result: SimulationResult) -> Table:
    """One result as a two-column table of what a person asks first."""
    return figures_table(f"{result.workload} on {result.machine} with {result.dataflow}", result_rows(result))


def figures_table(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    """A table of two columns: what it is, and how much."""
    table = _titled(title)
    table.add_column("figure", style="bold", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def comparison_table(console: Console, comparison: ComparisonResult, workload: str, objective: str) -> RenderableType:
    """All dataflows on one workload, best row marked, speed-up against flat (or the slowest)."""
    results = of_workload(comparison, workload)
    failed = [dataflow for name, dataflow in comparison.infeasible if name == workload]
    best = best_of(results, objective)
    machine = results[0].machine if results else "this machine"
    table = _with_failed(comparison_columns(results, best=best, baseline=baseline_of(results)), failed)
    caption = ""
    if results:
        bound = results[0].lower_bound
        caption = f"lower bound {cycles_text(bound.cycles)} cycles, set by {bound.limited_by}"
    words = _workload_words(results)
    if words:
        caption = f"{words}\n{caption}"
    if best is not None:
        caption += f"\n{best.dataflow} with {tiling_text(best.tiling)}"
    title = f"{workload} on {machine} (* best {objective})"
    return fitted_table(console, title, table.columns, best_row=table.best_row, caption=caption)


def _workload_words(results: Sequence[SimulationResult]) -> str:
    words = layer_words(results[0].layer) if results else ""
    other = network_words(results[0].workload) if words.startswith("attention") else ""
    return f"{words}; {other}" if other else words


def _with_failed(table: TextTable, failed: Sequence[str]) -> TextTable:
    """``table`` with a mark at its best row, and a row for each dataflow that cannot run."""
    named, cycles, *others = table.columns
    n = len(named.cells)
    names = [("* " if row == table.best_row else "  ") + name for row, name in enumerate(named.cells)]
    red = {n + at: "red" for at in range(len(failed))}
    return TextTable(
        (
            replace(named, cells=[*names, *(f"  {name}" for name in failed)]),
            replace(cycles, cells=[*cycles.cells, *["cannot run"] * len(failed)], styles=red),
            *(replace(column, cells=[*column.cells, *[""] * len(failed)]) for column in others),
        ),
        table.best_row,
    )


def machine_tables(console: Console, comparison: MachineComparison) -> list[Table]:
    """A table for each workload: the machines side by side, the best by the objective marked."""
    tables = []
    for workload in comparison.workloads:
        table = machine_columns(comparison, workload)
        n_steps = max((getattr(run.result, "n_steps", 1) for run in comparison.of_workload(workload)), default=1)
        caption = f"for one of its {n_steps} steps" if n_steps > 1 else ""
        title = f"{workload} (best {comparison.objective} marked)"
        tables.append(fitted_table(console, title, table.columns, best_row=table.best_row, caption=caption))
    return tables


def machines_failed_text(comparison: MachineComparison) -> Text | None:
    """What cannot run on which machine, and why; None when all can."""
    lines = [f"{name} cannot run on {machine}: {reason}" for (name, machine), reason in comparison.infeasible.items()]
    return Text("\n".join(lines), style="red") if lines else None


def summary_table(
    console: Console, comparison: ComparisonResult, *, objective: str = "latency", ours: str = OUR_DATAFLOW
) -> Table:
    """Workloads x dataflows in cycles, or energy where that was the objective, and how ``ours`` fares against flat."""
    energy = objective == "energy"
    pairs = pair_table(comparison, energy=energy, ours=ours)
    columns = [Column(header="workload", cells=[row.workload for row in pairs.rows], right=False, fold=32)]
    for at, name in enumerate(pairs.dataflows):
        columns.append(
            Column(
                header=name,
                cells=[row.cells[at].text for row in pairs.rows],
                styles={n: "bold green" for n, row in enumerate(pairs.rows) if row.cells[at].is_best},
                rank=0 if name in (ours, BASELINE_DATAFLOW) else len(pairs.dataflows) - at,
            )
        )
    if pairs.against:
        columns.append(Column(header=pairs.against, cells=[row.against for row in pairs.rows]))
    machine = comparison.results[0].machine if comparison.results else "this machine"
    what = {"latency": "", "energy": " for energy", "edp": " for energy times delay"}[objective]
    title = f"{'energy' if energy else 'cycles'} on {machine}, each dataflow at its own best tiling{what}"
    return fitted_table(console, title, columns)


def attribution_table(why: WhyResult) -> Table | None:
    """Where the cycles of the critical path went, with a bar; None when the run was not attributed."""
    if why.attribution is None:
        return None
    total = why.attribution.total_cycles or 1
    table = _titled("where the cycles went (critical path)")
    table.add_column("part", style="bold", no_wrap=True)
    table.add_column("cycles", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("bar", no_wrap=True)
    parts = why.attribution.to_dict()
    for name, label in ATTRIBUTION_LABELS.items():
        n_cycles = parts[name]
        share = n_cycles / total
        bar = "#" * round(share * _BAR_CELLS)
        table.add_row(label, cycles_text(n_cycles), percent_text(share), bar)
    return table


def what_if_table(console: Console, why: WhyResult | NetworkWhyResult) -> Table | None:
    """The exact outcome of each what-if; None when there are none."""
    if not why.what_ifs:
        return None
    if isinstance(why, WhyResult):
        chosen_anew = (
            "every kernel timed anew" if why.result.kernels else "the best tiling of this dataflow chosen anew"
        )
        table, what = what_if_columns(why), chosen_anew
    else:
        is_library = why.result.kernels in ("eager", "fused")
        what = "every kernel timed anew" if is_library else "every operator mapped anew"
        table = network_what_if_columns(why)
    title = f"what if (exact; {what})"
    return fitted_table(console, title, table.columns, best_row=table.best_row, caption=table.note)


def headline_table(comparison: ComparisonResult, *, ours: str = OUR_DATAFLOW) -> Table | None:
    """Our speed-ups beside the published ones; None where no published figure belongs to the machine."""
    if not comparison.results:
        return None
    machine = comparison.results[0].machine
    headline = published_headline(machine)
    faster = speedups(comparison, dataflow=ours, over=BASELINE_DATAFLOW)
    if headline is None or faster is None:
        return None
    table = _titled("beside the published headline", show_header=True)
    table.add_column(f"{headline.dataflow} over {headline.over}")
    for header in ("largest speed-up", "mean speed-up", "most energy saved"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in published_rows(headline, faster, machine):
        table.add_row(*row)
    table.caption = Text(f"{headline.source}: {headline.note}. Our mean is the geometric mean.", style="dim")
    return table


def catalogue_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of plain texts under ``headers``; only the last column may wrap."""
    table = _titled(title, show_header=True)
    for index, header in enumerate(headers):
        table.add_column(header, no_wrap=index < len(headers) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def infeasible_text(comparison: ComparisonResult) -> Text | None:
    """Which dataflows cannot run which workload, and why; None when all can."""
    if not comparison.infeasible:
        return None
    alike: dict[tuple[str, str], list[str]] = {}
    for (workload, dataflow), reason in comparison.infeasible.items():
        alike.setdefault((workload, reason), []).append(dataflow)
    lines = [f"{', '.join(names)} cannot run {workload}: {reason}" for (workload, reason), names in alike.items()]
    return Text("\n".join(lines), style="red")


def assumptions_text(result: SimulationResult) -> Text | None:
    """The assumptions behind a result as a list; None when none is recorded."""
    return listed_text("assumptions in force", result.assumptions)


def listed_text(title: str, items: Sequence[str], *, sign: str = "- ") -> Text | None:
    """``items`` as lines under ``title``, each behind ``sign``; None when there are none."""
    if not items:
        return None
    return Text.assemble((f"{title}\n", "bold"), "\n".join(f"{sign}{item}" for item in items), "\n")
