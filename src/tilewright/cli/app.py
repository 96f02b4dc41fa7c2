"""The commands under one roof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import tilewright
from tilewright import plugins
from tilewright.cli.catalogue import list_names
from tilewright.cli.compare import compare
from tilewright.cli.decode import decode
from tilewright.cli.measure import measure
from tilewright.cli.once import OnceCommand
from tilewright.cli.predict import predict
from tilewright.cli.report import report
from tilewright.cli.schedules import schedules
from tilewright.cli.schema import schema
from tilewright.cli.search import search
from tilewright.cli.show import show
from tilewright.cli.simulate import simulate
from tilewright.cli.sweep import sweep
from tilewright.cli.validate import calibrate, validate
from tilewright.cli.why import why

__all__ = ["app"]

app = typer.Typer(
    name="tilewright",
    help="How fast, and at what energy, a network runs on an edge accelerator that you describe.",
    epilog="Start with: tilewright compare bert-base -a edge-16x16",
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tilewright {tilewright.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugin",
            metavar="FILE",
            help="A Python file that registers operators, dataflows, schemes ...; repeatable.",
        ),
    ] = None,
) -> None:
    for path in plugin or ():
        plugins.add_file(path)
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("simulate", cls=OnceCommand)(simulate)
app.command("compare", cls=OnceCommand)(compare)
app.command("why", cls=OnceCommand)(why)
app.command("decode", cls=OnceCommand)(decode)
app.command("search", cls=OnceCommand)(search)
app.command("sweep", cls=OnceCommand)(sweep)
app.command("report", cls=OnceCommand)(report)
app.command("predict", cls=OnceCommand)(predict)
app.command("measure", cls=OnceCommand)(measure)
app.command("schedules", cls=OnceCommand)(schedules)
app.command("validate", cls=OnceCommand)(validate)
app.command("calibrate", cls=OnceCommand)(calibrate)
app.command("list", cls=OnceCommand)(list_names)
app.command("show", cls=OnceCommand)(show)
app.command("schema", cls=OnceCommand)(schema)
