"""``tilewright search``: the best choice out of a large space, by name of the space.

Each space has a module of its own (:data:`_SPACES`) with ``OPTIONS``, the options that it understands, and
``run(call)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli import complete
from tilewright.cli.inputs import command_line
from tilewright.cli.options import (
    METHODS,
    ActivationsOption,
    CsvOption,
    JsonOption,
    MapOption,
    UnknownOption,
    WeightsOption,
    unknown_of,
)
from tilewright.cli.outputs import Outputs
from tilewright.cli.progress import patience
from tilewright.errors import InputError
from tilewright.errors import unknown as no_such

if TYPE_CHECKING:
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SearchCall", "search"]

_SPACES = {
    "bits": "tilewright.cli.search_bits",
    "fusion": "tilewright.cli.search_fusion",
    "joint": "tilewright.cli.search_joint",
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

    def network(self) -> OperatorStream:
        """The network that is asked for, with what is not understood counted as chosen; raises InputError."""
        from tilewright.workloads.network import load_network

        with patience(f"reading {self.target}"):
            return load_network(self.target, unknown=unknown_of(self.option("unknown"), self.option("map")))

    def needed(self, name: str) -> Any:
        """The option ``name``; raises InputError where it was not given."""
        if name not in self.options:
            raise InputError(f"--{name}: missing; this search needs it")
        return self.options[name]


_SEARCH = "Search"
_FUSION = "Fusion groups"
_SPENT_ON_COSTS = ("bits", "joint")  # their budgets are amounts of costs; those of the others are numbers of runs


def _count(texts: Sequence[str]) -> int:
    text = texts[-1].strip()
    if len(texts) > 1 or not text.isdecimal() or not 1 <= len(text) <= 18 or int(text) < 1:
        raise InputError(f'--budget: not a count; given "{" ".join(texts)}"; allowed a whole number of at least 1')
    return int(text)


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def search(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="WORKLOAD",
            help="A network (resnet-18, network:bert-base, model.onnx, a saved stream); for --over tiling an attention "
            "layer or an operator (gemm:m=512,n=768,k=768).",
            show_default=False,
            autocompletion=complete.workloads,
        ),
    ],
    over: Annotated[str, typer.Option("--over", metavar="|".join(_SPACES), help="What is chosen.", show_default=False)],
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            "-a",
            metavar="MACHINE",
            help="A built-in machine or a YAML file.",
            show_default=False,
            autocompletion=complete.machines,
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="What is made small. Of --over tiling and bits: latency (default), energy, edp; of fusion: "
            "dram (default), feature_maps, latency, energy; of joint: dram (default), energy.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help=f"How it is searched. Of --over tiling: {', '.join(METHODS)}; of fusion: dp (default), cp_sat, local, "
            "nsga2, random, get-local, get-nsga2, get-random.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            metavar="N|COST=AMOUNT",
            help="Most plans or runs to try. Of --over bits: the most of a cost, as latency=0.6x, size=5.5MB, "
            "energy=2mJ, dram=10MB, bops=72G; may be repeated. Of --over joint: as sensitivity=0.5.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    sensitivity: Annotated[
        str | None,
        typer.Option(
            "--sensitivity",
            metavar="FILE",
            help="Of --over bits and joint: what each format of each layer adds to the loss (JSON).",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    pareto: Annotated[
        bool,
        typer.Option(
            "--pareto",
            help="Of --over bits: the whole curve over the first budget's cost, too.",
            show_default=False,
            rich_help_panel=_SEARCH,
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="Chance of the method.", rich_help_panel=_SEARCH)
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            metavar="NAME",
            help="Of --over fusion: how groups run: lbdf, brr, depth_first, depth_first_h_cached, "
            "depth_first_recompute, optimus-rules.",
            rich_help_panel=_FUSION,
        ),
    ] = None,
    buffer: Annotated[
        str | None,
        typer.Option(
            "--buffer",
            metavar="SIZE",
            help="Room for a group, as 256KiB.",
            show_default="the machine's first buffer",
            rich_help_panel=_FUSION,
        ),
    ] = None,
    explainer: Annotated[
        str | None,
        typer.Option(
            "--explainer",
            metavar="gnn|pg|rg",
            help="Of get- methods: what names the edge at which a group is cut.",
            rich_help_panel=_FUSION,
        ),
    ] = None,
    separate: Annotated[
        bool,
        typer.Option(
            "--separate",
            help="Activations are operators of their own, not part of the one they follow.",
            show_default=False,
            rich_help_panel=_FUSION,
        ),
    ] = False,
    all_operators: Annotated[
        bool,
        typer.Option(
            "--all-operators", help="Show operators that run alone, too.", show_default=False, rich_help_panel=_FUSION
        ),
    ] = False,
    dataflow: Annotated[
        str | None,
        typer.Option("--dataflow", "-d", metavar="NAME", help="Of --over tiling: how the layer is scheduled."),
    ] = None,
    weights: WeightsOption = None,
    activations: ActivationsOption = None,
    unknown: UnknownOption = None,
    map_: MapOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    report: Annotated[
        str | None,
        typer.Option(
            "--report", metavar="DIR", help="Write an HTML page and its pictures there.", rich_help_panel="Output"
        ),
    ] = None,
) -> None:
    """Search a large space of choices for the best one, and say how far it is from what is proven."""
    given: dict[str, Any] = {
        "machine": machine,
        "objective": objective,
        "method": method,
        "budget": budget or None,
        "sensitivity": sensitivity,
        "pareto": pareto or None,
        "seed": seed,
        "scheme": scheme,
        "buffer": buffer,
        "explainer": explainer,
        "separate": separate or None,
        "all_operators": all_operators or None,
        "dataflow": dataflow,
        "weights": weights,
        "activations": activations,
        "unknown": unknown,
        "map": map_ or None,
        "report": report,
    }
    options = {name: value for name, value in given.items() if value is not None}
    if over not in _SPACES:
        raise no_such("space", over, _SPACES, place="--over")
    space = importlib.import_module(_SPACES[over])
    for name in options:
        if name not in space.OPTIONS:
            raise InputError(
                f"--{_dashed(name)}: means nothing to --over {over}; allowed --"
                + ", --".join(map(_dashed, sorted(space.OPTIONS)))
            )
    if "budget" in options and over not in _SPENT_ON_COSTS:
        options["budget"] = _count(budget or [])
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check(target, machine, sensitivity)
    space.run(SearchCall(target=target, options=options, outputs=outputs, command=command_line(context)))
