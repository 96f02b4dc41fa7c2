"""``tilewright search``: the best choice out of a large space, by name of the space.

Each space has a module of its own (:data:`_SPACES`) with ``OPTIONS``, the options that it understands, and
``run(call)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from tilewright.cli.inputs import command_line
from tilewright.cli.options import ActivationsOption, CsvOption, JsonOption, WeightsOption
from tilewright.cli.outputs import Outputs
from tilewright.errors import InputError, did_you_mean

__all__ = ["SearchCall", "search"]

_SPACES = {
    "tiling": "tilewright.cli.search_tiling",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCall:
    """What is asked for: ``options`` holds those that were given, by their name without dashes (``buffer``)."""

    target: str
    options: Mapping[str, Any]
    outputs: Outputs
    command: str

    def option(self, name: str, usual: Any = None) -> Any:
        """The option ``name`` as given, else ``usual``."""
        return self.options.get(name, usual)

    def needed(self, name: str) -> Any:
        """The option ``name``; raises InputError where it was not given."""
        if name not in self.options:
            raise InputError(f"--{name}: missing; this search needs it")
        return self.options[name]


_SEARCH = "Search"


def search(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="WORKLOAD",
            help="A network (resnet-18, model.onnx, a saved stream), or an attention layer for --over tiling.",
            show_default=False,
        ),
    ],
    over: Annotated[str, typer.Option("--over", metavar="|".join(_SPACES), help="What is chosen.", show_default=False)],
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine", "-a", metavar="MACHINE", help="A built-in machine or a YAML file.", show_default=False
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", metavar="NAME", help="What is made small: dram, latency, energy, ..."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="How it is searched.", rich_help_panel=_SEARCH)
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", metavar="N", min=1, help="Most plans or runs to try.", rich_help_panel=_SEARCH),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="Chance of the method.", rich_help_panel=_SEARCH)
    ] = None,
    dataflow: Annotated[
        str | None,
        typer.Option("--dataflow", "-d", metavar="NAME", help="Of --over tiling: how the layer is scheduled."),
    ] = None,
    weights: WeightsOption = None,
    activations: ActivationsOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    report: Annotated[
        str | None,
        typer.Option("--report", metavar="DIR", help="Write pictures and tables there.", rich_help_panel="Output"),
    ] = None,
) -> None:
    """Search a large space of choices for the best one, and say how far it is from what is proven."""
    given = {
        "machine": machine,
        "objective": objective,
        "method": method,
        "budget": budget,
        "seed": seed,
        "dataflow": dataflow,
        "weights": weights,
        "activations": activations,
        "report": report,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if over not in _SPACES:
        raise InputError(f'--over: unknown; given "{over}"; allowed {", ".join(_SPACES)}{did_you_mean(over, _SPACES)}')
    space = importlib.import_module(_SPACES[over])
    for name in options:
        if name not in space.OPTIONS:
            raise InputError(
                f"--{name}: means nothing to --over {over}; allowed --{', --'.join(sorted(space.OPTIONS))}"
            )
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check()
    space.run(SearchCall(target=target, options=options, outputs=outputs, command=command_line(context)))
