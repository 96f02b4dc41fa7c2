"""``tilewright sweep``: a design space run point by point into a store, from where it left off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli.inputs import residency_setting
from tilewright.cli.options import CsvOption, JsonOption, ResidencyOption, SetOption
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.cli.sweep_health import show_health
from tilewright.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tilewright.search.sweep.best import SweepBest
    from tilewright.search.sweep.front import FrontDesign
    from tilewright.search.sweep.run import SweepProgress
    from tilewright.search.sweep.spec import Sweep
    from tilewright.search.sweep.store import DamagedRow

__all__ = ["sweep"]

_LONGEST_FRONT = 12
_STATES = ("done", "infeasible", "failed", "quarantined", "damaged", "missing")
_MEANING = {
    "done": "best mapping found",
    "infeasible": "the design cannot run the workload",
    "failed": "ended in an error; do again with --retry-failed",
    "quarantined": "killed its worker again and again; do again with --retry-failed",
    "damaged": "its row in the store cannot be read; set it aside with --repair",
    "missing": "not run yet",
}


def sweep(
    store: Annotated[
        str,
        typer.Option("--store", metavar="FILE", help="Keeps the results; a sweep goes on from it.", show_default=False),
    ],
    spec: Annotated[
        str | None,
        typer.Argument(metavar="SWEEP.yaml", help="Designs, workloads, objective, limits.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", metavar="N", help="Worker processes.", show_default="all cores")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="Let a Dask cluster work.", show_default=False),
    ] = None,
    status: Annotated[
        bool, typer.Option("--status", help="Say how far the sweep is, and run nothing.", show_default=False)
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do failed points again.", show_default=False)
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="List rows of the store that cannot be read.", show_default=False)
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Set such rows aside, so that their points are done again.", show_default=False),
    ] = False,
    set_: SetOption = None,
    residency: ResidencyOption = None,
    csv: CsvOption = None,
    json: JsonOption = None,
) -> None:
    """Run every design of a sweep file with its best mapping. What the store already holds is not done again.

    Ctrl-C, a crash or a full disk lose no finished point: the same command goes on.
    """
    outputs = Outputs(csv=csv, json=json)
    outputs.check(spec, store)
    if status and retry_failed:
        raise InputError("--retry-failed: runs points, and --status runs nothing; give one of the two")
    _check_workers(jobs, scheduler, runs_nothing=status)
    if check and (repair or status or retry_failed):
        raise InputError("--check: only reads the store; allowed without --repair, --status and --retry-failed")
    settings = [*(set_ or []), *residency_setting(residency)]
    if spec is None and settings:
        option = "--set" if set_ else "--residency"
        raise InputError(f"{option}: changes the machine of a sweep; missing argument SWEEP.yaml")
    if spec is None and not check and not repair:
        raise InputError("missing argument SWEEP.yaml; allowed without one: --store FILE with --check or --repair")

    from tilewright.search.sweep.spec import load_sweep

    checked = None if spec is None else load_sweep(spec, settings=settings)
    if check or repair:
        is_whole = show_health(outputs, checked, store, repair=repair)
        if check or checked is None:
            raise typer.Exit(0 if is_whole or repair else 1)
    assert checked is not None
    if not status:
        if scheduler is None and checked.model == "engine":
            announce_compilation()
        _run(checked, store, jobs, scheduler, retry_failed)
    _show(outputs, checked, store)


def _check_workers(jobs: int | None, scheduler: str | None, *, runs_nothing: bool) -> None:
    for option, value in (("--jobs", jobs), ("--scheduler", scheduler)):
        if runs_nothing and value is not None:
            raise InputError(f"{option}: says who runs points, and --status runs nothing; give one of the two")
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs: out of range; given {jobs}; allowed a whole number of at least 1")
    if jobs is not None and scheduler is not None:
        raise InputError("--jobs: says how many processes of this machine work; with --scheduler its own workers do")


def _run(checked: Sweep, store: str, jobs: int | None, scheduler: str | None, retry_failed: bool) -> None:
    from tilewright.search.sweep.run import run_sweep, sweep_status

    is_told = False
    with ProgressBar() as bar:

        def tell(progress: SweepProgress) -> None:
            nonlocal is_told
            bad = progress.counts.get("failed", 0) + progress.counts.get("quarantined", 0)
            what = f"{progress.done:,} of {progress.total:,}, {progress.points_per_s:,.1f} points/s"
            what += f", {progress.n_workers:,} workers" if scheduler is not None else ""
            bar(progress.done, max(1, progress.total), what + (f", {bad:,} failed" if bad else ""))
            if progress.n_workers == 0 and not is_told:
                note(f"no worker is connected to {scheduler} now; waiting for one (Ctrl-C ends)")
                is_told = True

        try:
            run_sweep(checked, store, jobs=jobs, scheduler=scheduler, retry_failed=retry_failed, progress=tell)
        except KeyboardInterrupt:
            counts = sweep_status(checked, store)
            n_left, n = counts["missing"], counts.total()
            note(f"{n - n_left:,} of {n:,} points are in {store}; the same command goes on from there")
            raise


def _show(outputs: Outputs, checked: Sweep, store: str) -> None:
    from tilewright.search.sweep.front import front_of_sweep
    from tilewright.search.sweep.overview import sweep_overview
    from tilewright.search.sweep.run import sweep_rows

    is_searched = checked.sampling.is_adaptive
    seen = sweep_overview(checked, store)
    counts, best = seen.counts, seen.best
    if counts["missing"] == counts.total():
        _say_of_another_version(checked, store)
    wants_rows = (outputs.csv is not None or is_searched) and counts.total() > counts["missing"]
    kept = list(sweep_rows(checked, store, damaged=_is_counted)) if wants_rows else []
    front = front_of_sweep(checked, kept) if is_searched else []
    if outputs.speaks:
        fronts = [_front_table(outputs, checked, front)] if front else []
        outputs.show(_state_table(checked, counts, best), *_best_tables(outputs, checked, counts, best), *fronts)
    from tilewright.reports.sweep.export import sweep_origin

    origin = sweep_origin(checked)
    if outputs.csv is not None:
        outputs.write_csv(kept, origin)
    front_data = {"front": _front_data(checked, front)} if is_searched else {}
    outputs.write_json(_data(checked, counts, best) | front_data, origin)


def _is_counted(row: DamagedRow) -> None:
    """A damaged row is left out; the table of states counts it."""


def _say_of_another_version(checked: Sweep, store: str) -> None:
    """A store that has this sweep but none of its points was written by other code; say so instead of "missing"."""
    from pathlib import Path

    from tilewright.search.sweep.store import ResultsStore

    if not Path(store).exists():
        return
    with ResultsStore(store, create=False, damaged=_is_counted) as opened:
        known = any(kept.name == checked.name for kept in opened.sweeps())
        has_points = next(iter(opened.rows()), None) is not None
    if known and has_points:
        note(f"{store} has points of {checked.name}, but of another version of the file or of Tilewright; none counts")


def _state_table(checked: Sweep, counts: Counter[str], best: SweepBest) -> RenderableType:
    from tilewright.reports.table import catalogue_table

    cells = [[state, f"{counts[state]:,}", _MEANING[state]] for state in _STATES if counts[state] or state == "done"]
    if checked.limits and counts["done"]:
        kept = ", ".join(limit.text for limit in checked.limits)
        cells.insert(1, ["", f"{best.n_within:,}", f"of these within the limits: {kept}"])
    title = f"{checked.name}: {counts.total():,} points{_model_words(checked)}"
    return catalogue_table(title, ["state", "points", "meaning"], cells)


def _model_words(checked: Sweep) -> str:
    """On a GPU: what times its designs."""
    if checked.machine.gpu is None:
        return ""
    if checked.model == "engine":
        return f" on {checked.machine.name}, the engine's exact schedules"
    return f" on {checked.machine.name}, as library kernels ({checked.model})"


def _best_tables(outputs: Outputs, checked: Sweep, counts: Counter[str], best: SweepBest) -> list[RenderableType]:
    from rich.text import Text

    if not best.by_workload:
        return [Text("no finished point is within the limits")] if counts["done"] and best.n_within == 0 else []
    shown = [_table(outputs, checked, f"best {checked.objective} of each workload", list(best.by_workload.values()))]
    if len(checked.layers) > 1:
        if best.design:
            shown.append(_table(outputs, checked, "the best design for all workloads", best.design))
        else:
            shown.append(Text("no design serves all workloads within the limits"))
    return shown


def _table(outputs: Outputs, checked: Sweep, title: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Figures downwards, so that there is room for any number of parameters; a column for each workload."""
    from tilewright.reports.columns import sideways
    from tilewright.reports.sweep.columns import design_columns
    from tilewright.reports.table import fitted_table

    return fitted_table(outputs.console(), title, sideways(design_columns(checked, rows), droppable=True))


def _front_table(outputs: Outputs, checked: Sweep, front: Sequence[FrontDesign]) -> RenderableType:
    """A line for each design of the front, evenly chosen where there are many."""
    from tilewright.reports.sweep.columns import number_text
    from tilewright.reports.table import Column, fitted_table
    from tilewright.search.sweep.front import FRONT_UNITS

    n = min(len(front), _LONGEST_FRONT)
    shown = [front[at * (len(front) - 1) // max(1, n - 1)] for at in range(n)]
    columns = [
        Column(header=f"{name}, {FRONT_UNITS[name]}", cells=[f"{one.objectives[at]:.4g}" for one in shown])
        for at, name in enumerate(checked.sampling.objectives)
    ]
    for at, path in enumerate(checked.paths):
        columns.append(Column(header=path, cells=[number_text(one.design[path]) for one in shown], rank=at))
    some = "" if n == len(front) else f", {n} of them"
    title = f"Pareto front of {', '.join(checked.sampling.objectives)}: {len(front):,} designs{some}"
    return fitted_table(outputs.console(), title, columns)


def _front_data(checked: Sweep, front: Sequence[FrontDesign]) -> list[dict[str, Any]]:
    from tilewright.search.sweep.front import FRONT_UNITS

    names = [f"{name}_{FRONT_UNITS[name].lower()}" for name in checked.sampling.objectives]
    return [{**dict(zip(names, one.objectives, strict=True)), **one.design} for one in front]


def _data(checked: Sweep, counts: Counter[str], best: SweepBest) -> dict[str, Any]:
    def plain(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if value is not None}

    return {
        "name": checked.name,
        "machine": checked.machine.name,
        "objective": checked.objective,
        "points": {state: counts[state] for state in _STATES},
        "within_limits": best.n_within,
        "best_by_workload": [plain(row) for row in best.by_workload.values()],
        "best_design": [plain(row) for row in best.design],
    }
