"""Predicted against measured times as tables for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilewright.reports.quantity import percent_text, tiling_text
from tilewright.search.gpu.fused import FusedRow, fused_summary
from tilewright.search.gpu.ranking import TileRanking
from tilewright.search.gpu.validate import SIZES, ErrorFigures, TableValidation, Validation
from tilewright.sim.gpu.gemm import BOUNDS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "class_rows",
    "fused_rows",
    "kernels_text",
    "power_note",
    "power_rows",
    "ranking_rows",
    "ranking_summary",
    "spread_rows",
    "validation_rows",
    "validation_tables",
]

HEADERS = ("table", "kernels", "rows", "count", "mean error", "median", "worst", "rank", "fitted")
CLASS_HEADERS = ("table", "class", "count", "mean error", "median", "worst", "rank")
POWER_HEADERS = (
    "table",
    "kernels",
    "rows",
    "long runs",
    "mean error",
    "median",
    "all rows",
    "error, metered",
    "clock",
    "largest",
)
SPREAD_HEADERS = ("table", "kernels", *(name for _, name in SIZES), *BOUNDS)
RANKING_HEADERS = ("kernels", "shape", "rows", "tilings", "rank", "regret", "mean error", "chosen", "best")
FUSED_HEADERS = ("operator", "rows", "mean error of the ratio", "worst", "clear winners", "right")

_FOLDS = {"table": 22, "kernels": 20, "chosen": 16, "best": 16}


def validation_rows(validation: Validation) -> list[tuple[str, ...]]:
    """One row of texts for each table, under ``HEADERS``."""
    return [
        (
            table.name.rpartition(": ")[0] or table.name,
            kernels_text(table, validation.calibrated_on),
            table.scope,
            *_figures(table.overall),
            "" if table.fitted is None else f"{table.fitted.n:,} ({percent_text(table.fitted.mape)})",
        )
        for table in validation.tables
    ]


def kernels_text(table: TableValidation, calibrated_on: str) -> str:
    """The table's family, with the one whose parameters stood in for its own, and of which other device they are."""
    words = [f"as {table.stand_in}"] if table.stand_in else []
    if table.measured_on not in ("", calibrated_on):
        words.append(f"of {table.measured_on}")
    return f"{table.family} ({' '.join(words)})" if words else table.family


def class_rows(validation: Validation, by: str) -> list[tuple[str, ...]]:
    """One row for each table and class of ``by`` ("size" or "bound"), under ``CLASS_HEADERS``."""
    rows = []
    for table in validation.tables:
        classes = table.by_size if by == "size" else table.by_bound
        rows += [(table.name, name, *_figures(figures)) for name, figures in classes.items()]
    return rows


def spread_rows(validation: Validation) -> list[tuple[str, ...]]:
    """One row for each table with its mean error in every class of time and bound, under ``SPREAD_HEADERS``."""
    rows = []
    for table in validation.tables:
        classes = table.by_size | table.by_bound
        cells = [percent_text(classes[name].mape) if name in classes else "" for name in SPREAD_HEADERS[2:]]
        rows.append((table.name.rpartition(": ")[0] or table.name, table.family, *cells))
    return rows


def ranking_rows(rankings: Sequence[TileRanking]) -> list[tuple[str, ...]]:
    """One row for each shape that was measured with several tilings, under ``RANKING_HEADERS``."""
    return [
        (
            ranking.table.rpartition(": ")[2].removesuffix(" tiles"),
            tiling_text(ranking.shape),
            ranking.scope,
            f"{ranking.n_tilings}",
            f"{ranking.rank_correlation:.3f}",
            percent_text(ranking.regret),
            percent_text(ranking.mape),
            tiling_text(ranking.chosen),
            tiling_text(ranking.best),
        )
        for ranking in rankings
    ]


def ranking_summary(rankings: Sequence[TileRanking]) -> str:
    """Mean rank correlation and regret in one sentence; empty without rankings."""
    if not rankings:
        return ""
    n = len(rankings)
    correlation = sum(ranking.rank_correlation for ranking in rankings) / n
    regret = sum(ranking.regret for ranking in rankings) / n
    return (
        f"tilings of {n} shapes: mean rank correlation {correlation:.3f}, mean regret {percent_text(regret)}, "
        f"largest {percent_text(max(ranking.regret for ranking in rankings))}"
    )


def power_rows(validation: Validation) -> list[tuple[str, ...]]:
    """One row of texts for each table in which power was read, under ``POWER_HEADERS``."""
    rows: list[tuple[str, ...]] = []
    for entry in validation.power:
        long = entry.long_runs
        rows.append(
            (
                entry.name.rpartition(": ")[0] or entry.name,
                entry.name.rpartition(": ")[2],
                entry.scope,
                "" if long is None else f"{long.n:,}",
                "" if long is None else percent_text(long.mape),
                "" if long is None else percent_text(long.median),
                f"{entry.overall.n:,}",
                percent_text(entry.overall.mape),
                "" if entry.clock is None else percent_text(entry.clock.mape),
                f"{entry.largest_w:.0f} W",
            )
        )
    return rows


def power_note(validation: Validation) -> str:
    """What the errors of power are of; empty where none was read."""
    if not validation.power:
        return ""
    entry = validation.power[0]
    return (
        f"energy {entry.energy_from}; board limit {entry.limit_w:.0f} W. A meter averages over most of a second: long "
        "runs fill it, and are compared by the kernel's own power; all rows as the meter shows them, with what it held "
        "before; clock: its error"
    )


def fused_rows(rows: Sequence[FusedRow]) -> list[tuple[str, ...]]:
    """One row for each operator that was measured fused and unfused, under ``FUSED_HEADERS``."""
    return [
        (
            operator,
            f"{figures['n']:.0f}",
            percent_text(figures["mean_error"]),
            percent_text(figures["worst_error"]),
            f"{figures['n_clear']:.0f}",
            f"{figures['n_right']:.0f}",
        )
        for operator, figures in fused_summary(rows).items()
    ]


def validation_tables(console: Console, validation: Validation) -> list[Table]:
    """All that is shown in a terminal: tables of errors, by size and bound, and tilings."""
    shown = []
    if validation.tables:
        title = f"predicted against measured on {validation.machine}, calibrated on {validation.calibrated_on}"
        caption = "held out: rows of weights or heads that calibrated nothing; all: the table calibrated nothing; "
        caption += "fitted: rows that calibrated (the error there)"
        if any(table.stand_in for table in validation.tables):
            caption += "; as: not calibrated, with the parameters of the nearest relative"
        shown.append(_table(console, title, HEADERS, validation_rows(validation), n_left=3, caption=caption))
        title = "mean error by measured time, and by what limits the kernel"
        shown.append(_table(console, title, SPREAD_HEADERS, spread_rows(validation), n_left=2, caption=""))
    if validation.power:
        title = f"power, predicted against measured on {validation.machine}"
        caption = power_note(validation)
        shown.append(_table(console, title, POWER_HEADERS, power_rows(validation), n_left=3, caption=caption))
    if validation.rankings:
        caption = ranking_summary(validation.rankings)
        rows = ranking_rows(validation.rankings)
        shown.append(
            _table(console, "tilings, simulated and measured", RANKING_HEADERS, rows, n_left=3, caption=caption)
        )
    if validation.fused:
        caption = "ratio: unfused over fused time; clear: measured more than 10 % apart"
        rows = fused_rows(validation.fused)
        shown.append(_table(console, "fused against unfused", FUSED_HEADERS, rows, n_left=1, caption=caption))
    return shown


def _figures(figures: ErrorFigures) -> tuple[str, ...]:
    rank = "" if figures.rank_correlation is None else f"{figures.rank_correlation:.3f}"
    return (
        f"{figures.n:,}",
        percent_text(figures.mape),
        percent_text(figures.median),
        percent_text(figures.worst),
        rank,
    )


def _table(
    console: Console,
    title: str,
    headers: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    *,
    n_left: int,
    caption: str,
) -> Table:
    from tilewright.reports.table import Column, fitted_table

    columns = [
        Column(
            header=header,
            cells=[row[i] for row in rows],
            right=i >= n_left,
            rank=0 if i < 5 else i,
            fold=_FOLDS.get(header),
        )
        for i, header in enumerate(headers)
    ]
    return fitted_table(console, title, columns, caption=caption)
