"""The options that several commands share, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, cast, get_args

import typer

from tilewright.cli import complete
from tilewright.errors import InputError, unknown
from tilewright.search.objective import OBJECTIVES, Objective

__all__ = [
    "METHODS",
    "OBJECTIVES",
    "ActivationsOption",
    "AllOperatorsOption",
    "BesideOption",
    "CsvOption",
    "DataflowsOption",
    "FrontObjectiveOption",
    "ImagesOption",
    "JsonOption",
    "KernelsOption",
    "KvCacheOption",
    "LaunchOption",
    "MachineOption",
    "MachinesOption",
    "MapOption",
    "MethodOption",
    "NoCacheOption",
    "NoFuseOption",
    "NoPrefetchOption",
    "Objective",
    "ObjectiveOption",
    "PipelineOption",
    "ReportOption",
    "RunOption",
    "RunnableArgument",
    "SeedOption",
    "SetOption",
    "SimulatedArgument",
    "SimulatedDataflowOption",
    "TileOption",
    "UnknownOption",
    "WeightsOption",
    "check_seed",
    "method_of",
    "objective_of",
    "tiling_of",
    "unknown_of",
]


METHODS = ("exhaustive", "cp_sat", "mcts", "genetic", "mcts_genetic", "nsga2", "tpe", "random")

_OUTPUTS = "Output"
_SEARCH = "Search"
_NETWORKS = "Whole networks"
_MOST_DIGITS = 18

SimulatedArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help="A layer: bert-base, attention:heads=12,seq=512,head_dim=64, a YAML file. An operator: "
        "gemm:m=512,n=768,k=768, conv:, softmax:, norm:, pool:, elementwise:. A network: resnet-50, "
        "llama-3-8b:prefill=2048, network:bert-base, model.onnx, config.json, a saved stream.",
        show_default=False,
        autocompletion=complete.workloads,
    ),
]
RunnableArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="WORKLOAD",
        help="A layer: bert-base, attention:heads=12,seq=512,head_dim=64, a YAML file. An operator: "
        "gemm:m=512,n=768,k=768, conv:, softmax:, norm:, pool:, elementwise:. A network: resnet-50, "
        "llama-3-8b:prefill=2048, network:bert-base, model.onnx, config.json, a saved stream. A run over time: "
        "llama-3.2-1b:prompt=512,generate=128,batch=4,kv=int8, or --run FILE instead.",
        show_default=False,
        autocompletion=complete.workloads,
    ),
]
MachineOption = Annotated[
    str,
    typer.Option(
        "--machine",
        "-a",
        metavar="MACHINE",
        help="A built-in machine or a YAML file.",
        show_default=False,
        autocompletion=complete.machines,
    ),
]
MachinesOption = Annotated[
    list[str],
    typer.Option(
        "--machine",
        "-a",
        metavar="MACHINE",
        help="A built-in machine or a YAML file; repeated, the machines stand side by side.",
        show_default=False,
        autocompletion=complete.machines,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="A figure of the machine changed, as matrix.rows=32 or buffers.l1.capacity_kib=512; may be repeated.",
    ),
]
SimulatedDataflowOption = Annotated[
    str | None,
    typer.Option(
        "--dataflow",
        "-d",
        metavar="NAME",
        help="How attention (or another kind of operator) is scheduled.",
        autocompletion=complete.dataflows,
        show_default="mas; in a network the best of mas and the flash2 kinds; else the machine's usual one",
    ),
]
DataflowsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dataflow",
        "-d",
        metavar="NAME",
        help="A dataflow to compare; may be repeated. Left out: all of them.",
        autocompletion=complete.dataflows,
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
    str,
    typer.Option(
        "--objective",
        metavar="|".join(OBJECTIVES),
        help="What the best tiling makes small.",
        autocompletion=complete.objectives,
    ),
]
FrontObjectiveOption = Annotated[
    str,
    typer.Option(
        "--objective",
        metavar="|".join((*OBJECTIVES, "pareto")),
        help="What the best tiling makes small; pareto: every mapping that no other beats in latency and energy.",
        autocompletion=complete.front_objectives,
    ),
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"How tiles are searched: {', '.join(METHODS)}. Only exhaustive, the usual one, always proves its result.",
        autocompletion=complete.methods,
        rich_help_panel=_SEARCH,
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Chance of the search method.", rich_help_panel=_SEARCH)
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
        help="Write an HTML page, figures as PNG, and a trace for ui.perfetto.dev.",
        rich_help_panel=_OUTPUTS,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="FORMAT", help="Number format of the weights, as int4.", rich_help_panel=_NETWORKS
    ),
]
ActivationsOption = Annotated[
    str | None,
    typer.Option(
        "--activations",
        metavar="FORMAT",
        help="Number format of the activations, as int8.",
        rich_help_panel=_NETWORKS,
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="FILE",
        help="A run over time, from a YAML file: prompts and tokens of a decoder, steps of a diffusion model.",
        rich_help_panel=_NETWORKS,
    ),
]
KvCacheOption = Annotated[
    str | None,
    typer.Option("--kv-cache", metavar="FORMAT", help="Number format of key/value caches.", rich_help_panel=_NETWORKS),
]
WeightDensityOption = Annotated[
    float | None,
    typer.Option(
        "--weight-density",
        metavar="SHARE",
        help="Share of the multiplying weights that are not 0, for machines that leave zeros out.",
        rich_help_panel=_NETWORKS,
    ),
]
UnknownOption = Annotated[
    str | None,
    typer.Option(
        "--unknown",
        metavar="memory|refuse",
        help="Operators of a model file that are not understood: counted as memory traffic, or refused.",
        show_default="refuse",
        rich_help_panel=_NETWORKS,
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="NAME=WHAT",
        help="What an operator of such a file counts as: memory, view, elementwise:FUNCTION (aten.erfinv="
        "elementwise:erf) or kind:NAME of a plug-in; may be repeated.",
        rich_help_panel=_NETWORKS,
    ),
]
NoPrefetchOption = Annotated[
    bool,
    typer.Option(
        "--no-prefetch",
        help="Do not load an operator's first weights under the one before it.",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]
ResidencyOption = Annotated[
    str | None,
    typer.Option(
        "--residency",
        metavar="plan|spills|none",
        help="Whether a plan says which tensors stay on chip between operators, and weights between inferences; with "
        "spills tensors may leave for a part of their lives (as the machine file says).",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]
PipelineOption = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="N|auto",
        help="Layers as a pipeline over the chip: so many stages, each on cores of its own, or as many as are best; "
        "images stream through.",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]
ImagesOption = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="N",
        help="Of --pipeline: how many images stream through (16).",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]
HandOverOption = Annotated[
    str | None,
    typer.Option(
        "--hand-over",
        metavar="maps|rows",
        help="Of pipelines: whether a stage begins when the maps that it reads are whole, or when the rows are there "
        "that its first tile needs, with line buffers between stages (maps).",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]
BesideOption = Annotated[
    list[str] | None,
    typer.Option(
        "--beside",
        metavar="MACHINE",
        help="Of pipelines: a machine of unlike cores on the same DRAM, which may do a stage (a DSP beside an NPU); "
        "may be repeated.",
        show_default=False,
        autocompletion=complete.machines,
        rich_help_panel=_NETWORKS,
    ),
]
NoFuseOption = Annotated[
    bool,
    typer.Option(
        "--no-fuse",
        help="Do not do element-wise operators behind the product that they follow.",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]
NoCacheOption = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Search every mapping anew and keep none.",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]
AllOperatorsOption = Annotated[
    bool,
    typer.Option(
        "--all-operators",
        help="Show every operator in order, not identical ones as one row.",
        show_default=False,
        rich_help_panel=_NETWORKS,
    ),
]

KernelsOption = Annotated[
    str | None,
    typer.Option(
        "--kernels",
        metavar="KERNELS",
        help="On a GPU: library kernels, eager or fused by a compiler, or the engine's exact schedules (eager, fused, "
        "engine).",
        show_default="eager",
        autocompletion=complete.kernels,
    ),
]
LaunchOption = Annotated[
    str | None,
    typer.Option(
        "--launch",
        metavar="LAUNCH",
        help="How library kernels of a network are launched: as one CUDA graph, or by the host (graph, host).",
        show_default="graph",
        autocompletion=complete.launches,
        rich_help_panel=_NETWORKS,
    ),
]


def objective_of(text: str, *, or_else: Sequence[str] = ()) -> Objective:
    """The objective called ``text``; raises InputError for another word. ``or_else``: words that are allowed, too."""
    for objective in get_args(Objective):
        if text == objective:
            return cast(Objective, objective)
    raise unknown("objective", text, (*OBJECTIVES, *or_else), place="--objective")


def method_of(text: str | None, *, seed_is_given: bool) -> str:
    """The search method called ``text``, built in or a plug-in's, or the usual one; raises InputError for another word,
    and for a seed with a method that leaves nothing to chance.
    """
    from tilewright.search.methods.method import get_method

    method = get_method(text)
    check_seed(method.name, by_chance=method.by_chance, is_given=seed_is_given)
    return method.name


def check_seed(method: str, *, by_chance: bool, is_given: bool) -> None:
    """Raise InputError for a seed with a method that leaves nothing to chance."""
    if is_given and not by_chance:
        raise InputError(f"--seed: means nothing to --method {method}, which leaves nothing to chance")


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


def unknown_of(choice: str | None, maps: Sequence[str] | None) -> str | dict[str, str]:
    """What becomes of operators that are not understood, as ``load_network`` takes it.

    Raises InputError for another word, a text that is not NAME=WHAT, or a name given twice.
    """
    words = {"memory": "memory", "refuse": "error"}
    if choice is not None and choice not in words:
        raise unknown("choice", choice, words, place="--unknown")
    chosen: dict[str, str] = {}
    for text in maps or ():
        name, equals, what = (part.strip() for part in text.partition("="))
        if not (name and equals and what):
            raise InputError(
                f'--map: not of the form NAME=WHAT; given "{text}"; allowed for example aten.erfinv=elementwise:erf'
            )
        if name in chosen:
            raise InputError(f"--map: {name} is given twice, as {chosen[name]} and as {what}; allowed once")
        chosen[name] = what
    usual = words[choice or "refuse"]
    return chosen | ({"*": usual} if usual != "error" else {}) if chosen else usual
