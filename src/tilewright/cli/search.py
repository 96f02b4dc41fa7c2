"""``tilewright search``: the best choice out of a large space, by name of the space.

Each space (:mod:`tilewright.cli.search_space`) has a module of its own with the options that it understands.
"""

from __future__ import annotations

from typing import Any

import typer

from tilewright.cli.inputs import command_line
from tilewright.cli.options import (
    ActivationsOption,
    BesideOption,
    CsvOption,
    HandOverOption,
    JsonOption,
    KvCacheOption,
    MapOption,
    ResidencyOption,
    SetOption,
    UnknownOption,
    WeightsOption,
)
from tilewright.cli.outputs import Outputs
from tilewright.cli.search_options import (
    AllOperatorsOption,
    BatchesOption,
    BudgetOption,
    BufferOption,
    ExplainerOption,
    OverOption,
    ParetoOption,
    SchemeOption,
    SearchedDataflowOption,
    SearchedImagesOption,
    SearchedMachineOption,
    SearchedMethodOption,
    SearchedObjectiveOption,
    SearchedReportOption,
    SearchedSeedOption,
    SensitivityOption,
    SeparateOption,
    StagesOption,
    TargetArgument,
)
from tilewright.cli.search_space import SPACES, SearchCall
from tilewright.errors import unknown as no_such

__all__ = ["search"]


def search(
    context: typer.Context,
    target: TargetArgument,
    over: OverOption,
    machine: SearchedMachineOption = None,
    set_: SetOption = None,
    objective: SearchedObjectiveOption = None,
    method: SearchedMethodOption = None,
    budget: BudgetOption = None,
    sensitivity: SensitivityOption = None,
    pareto: ParetoOption = False,
    seed: SearchedSeedOption = None,
    scheme: SchemeOption = None,
    buffer: BufferOption = None,
    explainer: ExplainerOption = None,
    separate: SeparateOption = False,
    all_operators: AllOperatorsOption = False,
    dataflow: SearchedDataflowOption = None,
    weights: WeightsOption = None,
    activations: ActivationsOption = None,
    kv_cache: KvCacheOption = None,
    unknown: UnknownOption = None,
    map_: MapOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    residency: ResidencyOption = None,
    stages: StagesOption = None,
    images: SearchedImagesOption = None,
    beside: BesideOption = None,
    hand_over: HandOverOption = None,
    batches: BatchesOption = None,
    report: SearchedReportOption = None,
) -> None:
    """Search a large space of choices for the best one, and say how far it is from what is proven."""
    given: dict[str, Any] = {
        "machine": machine,
        "set": tuple(set_ or ()) or None,
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
        "kv_cache": kv_cache,
        "unknown": unknown,
        "map": tuple(map_ or ()) or None,
        "residency": residency,
        "stages": stages,
        "images": images,
        "beside": tuple(beside or ()) or None,
        "hand_over": hand_over,
        "batches": batches,
        "report": report,
    }
    space = SPACES.get(over) if over in SPACES.names() else None
    if space is None:
        raise no_such("space", over, SPACES.names(), place="--over")
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check(target, machine, sensitivity)
    options = space.read({name: value for name, value in given.items() if value is not None})
    space.run(SearchCall(target=target, options=options, outputs=outputs, command=command_line(context)))
