"""The report of a sweep: from a store to a page, tables and figures."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tilewright.errors import InputError
from tilewright.progress import Progress
from tilewright.reports.files import check_apart, check_file, check_folder, write_file
from tilewright.reports.sweep.best import BestPoint, best_points
from tilewright.reports.sweep.case import SweepCase, damage_text, read_case
from tilewright.reports.sweep.export import check_parquet, write_csv_rows, write_parquet
from tilewright.reports.sweep.figures import write_figures
from tilewright.reports.sweep.limits import DEFAULT_POINTS, FEWEST_POINTS, MOST_POINTS, STANDARD_OUTPUT
from tilewright.reports.sweep.markdown import sweep_markdown
from tilewright.reports.sweep.page import sweep_page
from tilewright.reports.sweep.sample import choose_points
from tilewright.reports.sweep.sensitivity import Effect, sensitivity
from tilewright.search.sweep.stored import open_sweep

__all__ = ["report_sweep"]


def report_sweep(
    store: str | Path,
    output: str | Path | None = None,
    *,
    sweep: str | None = None,
    csv: str | Path | None = None,
    parquet: str | Path | None = None,
    markdown: str | Path | None = None,
    png: str | Path | None = None,
    svg: str | Path | None = None,
    max_points: int = DEFAULT_POINTS,
    command: str = "",
    progress: Progress | None = None,
    told: Callable[[str], None] = warnings.warn,
) -> list[Path]:
    """Report on a sweep in the results file ``store``; gives the paths written, in the order of the arguments.

    ``output``: one HTML page that needs nothing beside it. ``sweep``: its name, or its file, where the store holds
    several. ``csv``, ``parquet`` (needs pyarrow): every point; ``markdown``: the best, the fronts, the sensitivity;
    "-" for csv or markdown is standard output. ``png``, ``svg``: folders of figures. ``max_points``: the most points
    that the page carries (100 to 50,000).
    ``told`` gets a sentence when rows of the store cannot be read and are left out; it is a warning otherwise.
    ``command`` stands in the page's footer. Raises InputError for a store or a place that will not do, before
    the work begins.
    """
    files = {"output": output, "csv": csv, "parquet": parquet, "markdown": markdown}
    _check(files, {"png": png, "svg": svg}, inputs=(store, sweep))
    if not FEWEST_POINTS <= max_points <= MOST_POINTS:
        raise InputError(
            f"max_points: out of range; given {max_points}; allowed {FEWEST_POINTS} to {MOST_POINTS:,} points"
        )
    if parquet is not None:
        check_parquet(parquet)
    case = read_case(open_sweep(store, sweep), progress)
    if case.damaged:
        told(f"{store}: {damage_text(case)}")
    drawn = output is not None or png is not None or svg is not None
    effects = sensitivity(case) if drawn or markdown is not None else ()
    bests = best_points(case, progress) if drawn else ()
    jobs: list[tuple[str | Path | None, Callable[[str | Path], Path]]] = [
        (output, lambda place: _write_page(place, case, effects, bests, max_points, command)),
        (csv, lambda place: _write_csv(place, case, command)),
        (parquet, lambda place: write_parquet(case, place)),
        (markdown, lambda place: _write_text(place, sweep_markdown(case, effects))),
        (png, lambda place: write_figures(place, case, effects, bests, form="png")),
        (svg, lambda place: write_figures(place, case, effects, bests, form="svg")),
    ]
    return [write(place) for place, write in jobs if place is not None]


def _check(
    files: Mapping[str, str | Path | None],
    folders: Mapping[str, str | Path | None],
    *,
    inputs: Sequence[str | Path | None],
) -> None:
    """Refuse at once (InputError) what could not be written later."""
    if not any(place is not None for place in (*files.values(), *folders.values())):
        raise InputError("nothing to write; allowed at least one of output, csv, parquet, markdown, png, svg")
    for name, place in files.items():
        if place is not None and not (name in ("csv", "markdown") and place == STANDARD_OUTPUT):
            check_file(place, what=name)
            check_apart(place, inputs, what=name)
    given = {name: os.path.realpath(place) for name, place in files.items() if place is not None}
    for name, place in given.items():
        other = next(one for one in given if given[one] == place)
        if other != name:
            raise InputError(f"{other} and {name} both write to {files[name]}; give each its own place")
    for name, place in folders.items():
        if place is not None:
            check_folder(place, what=name)


def _write_page(
    output: str | Path,
    case: SweepCase,
    effects: tuple[Effect, ...],
    bests: tuple[BestPoint, ...],
    max_points: int,
    command: str,
) -> Path:
    held = choose_points(case, max_points)
    return write_file(output, sweep_page(case, effects, bests, held, command=command))


def _write_csv(place: str | Path, case: SweepCase, command: str) -> Path:
    stream = io.StringIO()
    write_csv_rows(case, stream, command=command)
    return _write_text(place, stream.getvalue())


def _write_text(place: str | Path, text: str) -> Path:
    if place == STANDARD_OUTPUT:
        sys.stdout.write(text)
        return Path(place)
    return write_file(place, text)
