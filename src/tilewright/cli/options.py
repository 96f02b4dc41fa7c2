"""The options that several commands share, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from tilewright.errors import InputError, did_you_mean

__all__ = [
    "OBJECTIVES",
    "CsvOption",
    "DataflowOption",
    "DataflowsOption",
    "JsonOption",
    "MachineOption",
    "Objective",
    "ObjectiveOption",
    "ReportOption",
    "TileOption",
    "WorkloadArgument",
    "objective_of",
    "tiling_of",
]

Objective = Literal["latency", "energy", "edp"]
OBJECTIVES: tuple[Objective, ...] = ("latency", "energy", "edp")

_OUTPUTS = "Output"
_MOST_DIGITS = 18

WorkloadArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help="A built-in name (bert-base), attention:heads=12,seq=512,head_dim=64, or a YAML file.",
        show_default=False,
    ),
]
MachineOption = Annotated[
    str,
    typer.Option("--machine", "-a", metavar="MACHINE", help="A built-in machine or a YAML file.", show_default=False),
]
DataflowOption = Annotated[str, typer.Option("--dataflow", "-d", metavar="NAME", help="How the layer is scheduled.")]
DataflowsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dataflow", "-d", metavar="NAME", help="A dataflow to compare; may be repeated. Left out: all of them."
    ),
]
TileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tile",
        "-t",
        metavar="NAME=SIZE",
        help="A size of the tiling, as query=64; may be repeated. What is left out is searched for.",
    ),
]
ObjectiveOption = Annotated[
    str, typer.Option("--objective", metavar="|".join(OBJECTIVES), help="What the best tiling makes small.")
]
JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write the results as JSON.", rich_help_panel=_OUTPUTS),
]
CsvOption = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE|-", help="Write one row per result as CSV.", rich_help_panel=_OUTPUTS),
]
ReportOption = Annotated[
    str | None,
    typer.Option(
        "--report",
        metavar="DIR",
        help="Write an HTML page, the timeline as PNG, and a trace for ui.perfetto.dev.",
        rich_help_panel=_OUTPUTS,
    ),
]


def objective_of(text: str) -> Objective:
    """The objective called ``text``; raises InputError for another word."""
    if text not in OBJECTIVES:
        raise InputError(
            f'--objective: unknown; given "{text}"; allowed {", ".join(OBJECTIVES)}{did_you_mean(text, OBJECTIVES)}'
        )
    return text


def tiling_of(texts: Sequence[str] | None) -> dict[str, int] | None:
    """The tiling that ``NAME=SIZE`` texts describe (several may stand in one text, with commas); None for none.

    Raises InputError for a text of another form, a size that is no whole number, or a name given twice. The
    dataflow checks the rest.
    """
    if not texts:
        return None
    tiling: dict[str, int] = {}
    for text in (part.strip() for given in texts for part in given.split(",")):
        name, equals, size = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise InputError(f'--tile: not of the form NAME=SIZE; given "{text}"; allowed for example query=64')
        if not (size.isascii() and size.isdigit() and len(size) <= _MOST_DIGITS):
            raise InputError(f'--tile: {name}: not a whole number; given "{size}"; allowed for example {name}=64')
        if name in tiling:
            raise InputError(f"--tile: {name} is given twice, as {tiling[name]} and as {size}; allowed once")
        tiling[name] = int(size)
    return tiling
