"""``tilewright report``: what a sweep found, as a page, tables and figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from tilewright.cli.inputs import command_line
from tilewright.cli.once import is_given
from tilewright.cli.outputs import note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.errors import InputError
from tilewright.reports.files import check_apart, check_file, check_folder
from tilewright.reports.sweep.limits import DEFAULT_POINTS, FEWEST_POINTS, MOST_POINTS, STANDARD_OUTPUT

__all__ = ["report"]

_TABLES = "Tables and figures"


def report(
    context: typer.Context,
    store: Annotated[
        str, typer.Argument(metavar="RESULTS.db", help="The store of tilewright sweep.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.html",
            help="One page with everything in it: charts to filter, best designs, sensitivity, inputs.",
            show_default=False,
        ),
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", metavar="NAME|FILE", help="Which sweep of the store, by name or by its file."),
    ] = None,
    points: Annotated[
        int, typer.Option("--points", metavar="N", help="The most points that the page carries.")
    ] = DEFAULT_POINTS,
    csv: Annotated[
        str | None,
        typer.Option("--csv", metavar="FILE|-", help="Write every point as CSV.", rich_help_panel=_TABLES),
    ] = None,
    parquet: Annotated[
        str | None,
        typer.Option(
            "--parquet",
            metavar="FILE",
            help="Write every point as Parquet (extra: analysis).",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    markdown: Annotated[
        str | None,
        typer.Option(
            "--markdown",
            metavar="FILE|-",
            help="Write best designs, fronts, sensitivity and failures as Markdown.",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    png: Annotated[
        str | None,
        typer.Option("--png", metavar="DIR", help="Write figures for papers as PNG.", rich_help_panel=_TABLES),
    ] = None,
    svg: Annotated[
        str | None,
        typer.Option("--svg", metavar="DIR", help="Write figures for papers as SVG.", rich_help_panel=_TABLES),
    ] = None,
) -> None:
    """Report on a sweep: one page to open and pass on, tables, figures.

    Example: tilewright report results.db -o report.html
    """
    files = {"--output": output, "--csv": csv, "--parquet": parquet, "--markdown": markdown}
    folders = {"--png": png, "--svg": svg}
    _check(files, folders, points, inputs=(store, sweep))
    if is_given(context, "points") and output is None:
        raise InputError("--points: is about the page; allowed together with -o FILE.html")

    from tilewright.reports.sweep.report import report_sweep

    if any((output, png, svg)):
        announce_compilation()
    with ProgressBar() as bar:
        written = report_sweep(
            store,
            output,
            sweep=sweep,
            csv=csv,
            parquet=parquet,
            markdown=markdown,
            png=png,
            svg=svg,
            max_points=points,
            command=command_line(context),
            progress=bar,
            told=note,
        )
    for path in (path for path in written if str(path) != STANDARD_OUTPUT):
        note(f"wrote {path}")


def _check(
    files: Mapping[str, str | None],
    folders: Mapping[str, str | None],
    points: int,
    *,
    inputs: Sequence[str | None],
) -> None:
    """Refuse at once what could not be written later."""
    if not any(name is not None for name in (*files.values(), *folders.values())):
        raise InputError("nothing to write; give -o FILE.html, --csv, --parquet, --markdown, --png or --svg")
    if not FEWEST_POINTS <= points <= MOST_POINTS:
        raise InputError(f"--points: out of range; given {points}; allowed {FEWEST_POINTS} to {MOST_POINTS:,}")
    taken: dict[str, str] = {}
    for option, name in files.items():
        if name is None:
            continue
        if name != STANDARD_OUTPUT or option not in ("--csv", "--markdown"):
            check_file(name, what=option)
            check_apart(name, inputs, what=option)
        other = taken.setdefault(os.path.realpath(name), option)
        if other != option:
            raise InputError(f"{other} and {option} both write to {name}; give each its own place")
    for option, name in folders.items():
        if name is not None:
            check_folder(name, what=option)
