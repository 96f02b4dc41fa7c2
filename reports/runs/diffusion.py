"""Tables of diffusion steps for the terminal: like steps in one row; what a search over steps chose."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from tilewright.reports.columns import Column
from tilewright.reports.quantity import bytes_text, energy_text, percent_text, seconds_text
from tilewright.reports.table import figures_table, fitted_table
from tilewright.search.steps.result import StepsResult
from tilewright.sim.runs.diffusion import DiffusionResult, StepRow

__all__ = ["choice_figures", "choice_table", "curve_table", "like_steps", "number_ranges", "steps_table"]

_PJ = 1e-12
_CURVE_ROWS = 11


def like_steps(result: DiffusionResult) -> list[tuple[str, StepRow]]:
    """Steps that run the same and take the same, in the order of the first of each, with their numbers."""
    groups: dict[tuple[object, ...], list[StepRow]] = {}
    for row in result.steps:
        key = (
            row.stage,
            row.kind,
            row.forwards,
            row.computed,
            row.flops,
            row.seconds,
            row.cache_read_bytes,
            row.cache_write_bytes,
            row.cache_bytes,
        )
        groups.setdefault(key, []).append(row)
    return [(number_ranges(row.step for row in rows), rows[0]) for rows in groups.values()]


def number_ranges(numbers: Iterable[int]) -> str:
    """``0, 4-7, 15``; what rises evenly by more than one as ``0-48:2``."""
    left, parts = sorted(numbers), []
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        n = 1
        while n < len(left) and left[n] - left[n - 1] == step:
            n += 1
        if n < 3 and step > 1:
            n = 1
        parts.append(str(left[0]) if n == 1 else f"{left[0]}-{left[n - 1]}{f':{step}' if step > 1 else ''}")
        left = left[n:]
    return ", ".join(parts)


def steps_table(console: Console, result: DiffusionResult) -> Table:
    """A row for all steps that are alike: what runs, and what one of them takes."""
    rows = like_steps(result)
    n_blocks = len(result.blocks)
    columns = [
        Column(header="steps", cells=[steps for steps, _ in rows], right=False),
        Column(header="kind", cells=[row.kind for _, row in rows], right=False),
        Column(header="runs", cells=[str(row.forwards) for _, row in rows], rank=5),
        Column(header="blocks", cells=[f"{row.blocks} of {n_blocks}" for _, row in rows]),
        Column(header="TFLOP", cells=[f"{row.flops / 1e12:.4g}" for _, row in rows]),
        Column(header="time", cells=[seconds_text(row.seconds) for _, row in rows]),
        Column(header="energy", cells=[energy_text(row.energy_pj) for _, row in rows]),
        Column(
            header="DRAM bytes",
            cells=[bytes_text(row.dram_read_bytes + row.dram_write_bytes) for _, row in rows],
            rank=2,
        ),
        Column(header="of these taken", cells=[bytes_text(row.cache_read_bytes) for _, row in rows], rank=3),
        Column(header="left", cells=[bytes_text(row.cache_write_bytes) for _, row in rows], rank=4),
        Column(header="kept", cells=[bytes_text(row.cache_bytes) for _, row in rows], rank=1),
    ]
    return fitted_table(console, f"steps of {result.name} on {result.machine}, each", columns)


def choice_table(console: Console, result: StepsResult) -> Table:
    """A row for all units with the same steps: when they are computed, and how alike what they give stays."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for at, unit in enumerate(result.units):
        groups.setdefault((unit.updates,), []).append(at)
    cells: list[list[str]] = []
    for places in groups.values():
        first = result.units[places[0]]
        mean = sum(result.units[at].value for at in places) / len(places) / result.n_steps
        names = ", ".join(result.units[at].name for at in places[:3])
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        formats = dict.fromkeys(result.formats[update.format] for update in first.updates)
        steps = number_ranges(update.step for update in first.updates)
        cells.append([names + more, str(len(first.updates)), steps, ", ".join(formats), f"{mean:.4f}"])
    headers = ("blocks", "updates", "at steps", "formats", "similarity")
    columns = [
        Column(header=header, cells=[row[at] for row in cells], right=header in ("updates", "similarity"))
        for at, header in enumerate(headers)
        if header != "formats" or len(result.formats) > 1
    ]
    return fitted_table(console, f"{result.network} on {result.machine}: when blocks are computed", columns)


def curve_table(console: Console, result: StepsResult) -> Table:
    """Some points of the curve: how alike is best at how much of all steps' price with nothing kept."""
    n = min(_CURVE_ROWS, len(result.curve))
    chosen = [result.curve[round(at * (len(result.curve) - 1) / max(1, n - 1))] for at in range(n)]
    text = seconds_text if result.kind == "latency" else _energy
    columns = [
        Column(header=result.kind, cells=[text(price * _PJ) for price, _ in chosen]),
        Column(header="of nothing kept", cells=[percent_text(price / result.whole_price) for price, _ in chosen]),
        Column(header="similarity", cells=[f"{value:.6f}" for _, value in chosen]),
    ]
    return fitted_table(console, "what is best at other budgets", columns)


def choice_figures(result: StepsResult) -> Table:
    """The choice in all, and what it is when it is simulated."""
    rows = [
        ("budget", result.budget),
        ("method", result.method),
        ("mean similarity", f"{result.mean_similarity:.6f}"),
        ("proof", _proof(result)),
    ]
    if result.whole_price:
        text = seconds_text if result.kind == "latency" else _energy
        price, whole = result.price * _PJ, result.whole_price * _PJ
        rows.append((result.kind, f"{text(price)} of {text(whole)} ({percent_text(price / whole)})"))
    rows += [
        ("simulated", f"{seconds_text(result.run.seconds)}, {energy_text(result.run.energy_pj)}"),
        ("faster", f"{result.run.measure('speedup_steps'):.3g}x than with nothing kept"),
        ("most kept between steps", bytes_text(result.run.measure("cache_peak_bytes"))),
    ]
    return figures_table(f"{result.network} on {result.machine}, {result.n_steps} steps", rows)


def _energy(joules: float) -> str:
    return energy_text(joules / _PJ)


def _proof(result: StepsResult) -> str:
    if result.method == "bac":
        return "each block's steps are the best of so many (proven); then blocks before another join it"
    if result.proven:
        return "proven: no other steps within the budget are more alike"
    return f"no steps within the budget have more than {result.bound:.6f}"
