"""The options of ``tilewright search``; which of them a space understands stands with the space."""

from __future__ import annotations

from typing import Annotated

import typer

from tilewright.cli import complete
from tilewright.cli.options import METHODS

__all__ = [
    "AllOperatorsOption",
    "BatchesOption",
    "BudgetOption",
    "BufferOption",
    "ExplainerOption",
    "OverOption",
    "ParetoOption",
    "SchemeOption",
    "SearchedDataflowOption",
    "SearchedImagesOption",
    "SearchedMachineOption",
    "SearchedMethodOption",
    "SearchedObjectiveOption",
    "SearchedReportOption",
    "SearchedSeedOption",
    "SensitivityOption",
    "SeparateOption",
    "StagesOption",
    "TargetArgument",
]

_SEARCH = "Search"
_FUSION = "Fusion groups"

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help="A network (resnet-18, network:bert-base, model.onnx, a saved stream); for --over tiling an attention "
        "layer or an operator (gemm:m=512,n=768,k=768).",
        show_default=False,
        autocompletion=complete.workloads,
    ),
]
OverOption = Annotated[
    str,
    typer.Option(
        "--over", metavar="bits|fusion|joint|mask|pim|pipeline|steps|tiling", help="What is chosen.", show_default=False
    ),
]
SearchedMachineOption = Annotated[
    str | None,
    typer.Option(
        "--machine",
        "-a",
        metavar="MACHINE",
        help="A built-in machine or a YAML file.",
        show_default=False,
        autocompletion=complete.machines,
    ),
]
SearchedObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="What is made small. Of --over tiling and bits: latency (default), energy, edp; of fusion: "
        "dram (default), feature_maps, latency, energy; of joint: dram (default), energy; of pim: latency (default), "
        "energy.",
    ),
]
SearchedMethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"How it is searched. Of --over tiling: {', '.join(METHODS)}; of fusion: dp (default), cp_sat, local, "
        "nsga2, random, get-local, get-nsga2, get-random; of steps: dp, bac, groups.",
        rich_help_panel=_SEARCH,
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="N|COST=AMOUNT",
        help="Most plans or runs to try. Of --over bits: the most of a cost, as latency=0.6x, size=5.5MB, "
        "energy=2mJ, dram=10MB, bops=72G; may be repeated. Of --over joint: as sensitivity=0.5; of mask: as 0.95 "
        "or mean=0.95; of steps: latency=0.5x, energy=20J, updates=10, groups=5.",
        rich_help_panel=_SEARCH,
    ),
]
SensitivityOption = Annotated[
    str | None,
    typer.Option(
        "--sensitivity",
        metavar="FILE",
        help="Of --over bits and joint: what each format of each layer adds to the loss (JSON); of mask: what "
        "each mask keeps of each head's attention mass; of steps: how alike blocks' results are from step to step.",
        rich_help_panel=_SEARCH,
    ),
]
ParetoOption = Annotated[
    bool,
    typer.Option(
        "--pareto",
        help="Of --over bits and steps: the whole curve over the first budget's cost, too.",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
SearchedSeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="Chance of the method.", rich_help_panel=_SEARCH)
]
SchemeOption = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        metavar="NAME",
        help="Of --over fusion: how groups run: lbdf, brr, depth_first, depth_first_h_cached, "
        "depth_first_recompute, optimus-rules.",
        rich_help_panel=_FUSION,
    ),
]
BufferOption = Annotated[
    str | None,
    typer.Option(
        "--buffer",
        metavar="SIZE",
        help="Room for a group, as 256KiB.",
        show_default="the machine's first buffer",
        rich_help_panel=_FUSION,
    ),
]
ExplainerOption = Annotated[
    str | None,
    typer.Option(
        "--explainer",
        metavar="gnn|pg|rg",
        help="Of get- methods: what names the edge at which a group is cut.",
        rich_help_panel=_FUSION,
    ),
]
SeparateOption = Annotated[
    bool,
    typer.Option(
        "--separate",
        help="Activations are operators of their own, not part of the one they follow.",
        show_default=False,
        rich_help_panel=_FUSION,
    ),
]
AllOperatorsOption = Annotated[
    bool,
    typer.Option(
        "--all-operators", help="Show operators that run alone, too.", show_default=False, rich_help_panel=_FUSION
    ),
]
StagesOption = Annotated[
    str | None,
    typer.Option(
        "--stages",
        metavar="N|auto",
        help="Of --over pipeline: how many stages (as many as are best).",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
BatchesOption = Annotated[
    str | None,
    typer.Option(
        "--batches",
        metavar="1,2,4,...",
        help="Of --over pim: the network at these batches, and the batch at which banks stop paying.",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
SearchedImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="N",
        help="Of --over pipeline: how many images stream through (16).",
        show_default=False,
        rich_help_panel=_SEARCH,
    ),
]
SearchedDataflowOption = Annotated[
    str | None,
    typer.Option("--dataflow", "-d", metavar="NAME", help="Of --over tiling: how the layer is scheduled."),
]
SearchedReportOption = Annotated[
    str | None,
    typer.Option(
        "--report", metavar="DIR", help="Write an HTML page and its pictures there.", rich_help_panel="Output"
    ),
]
