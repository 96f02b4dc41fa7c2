"""``tilewright why``: where the cycles went and what would change them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tilewright.cli.inputs import (
    PLANS,
    check_dataflows,
    command_line,
    machine_of,
    residency_setting,
    runs_engine,
    workloads_of,
)
from tilewright.cli.once import check_used
from tilewright.cli.options import (
    ActivationsOption,
    CsvOption,
    JsonOption,
    KernelsOption,
    KvCacheOption,
    LaunchOption,
    MachineOption,
    MapOption,
    Objective,
    ObjectiveOption,
    ReportOption,
    ResidencyOption,
    SetOption,
    SimulatedArgument,
    SimulatedDataflowOption,
    TileOption,
    UnknownOption,
    WeightsOption,
    objective_of,
    tiling_of,
    unknown_of,
)
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation, patience
from tilewright.errors import InputError
from tilewright.workloads.naming import Named, what_is_named

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["why"]


def why(
    context: typer.Context,
    workload: SimulatedArgument,
    machine: MachineOption,
    set_: SetOption = None,
    dataflow: SimulatedDataflowOption = None,
    tile: TileOption = None,
    objective: ObjectiveOption = "latency",
    weights: WeightsOption = None,
    activations: ActivationsOption = None,
    kv_cache: KvCacheOption = None,
    residency: ResidencyOption = None,
    kernels: KernelsOption = None,
    launch: LaunchOption = None,
    unknown: UnknownOption = None,
    map_: MapOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    report: ReportOption = None,
) -> None:
    """Explain a result: its bound, what takes the time, exact what-ifs, the assumptions in force.

    Of a layer or an operator: its critical path too. Of a network: which operators take the time, and what helps each.
    """
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check(workload, machine)
    goal, tiling = objective_of(objective), tiling_of(tile)
    formats = {"--weights": weights, "--activations": activations, "--kv-cache": kv_cache}
    choice = unknown_of(unknown, map_)
    own = {**formats, "--residency": residency, "--unknown": unknown, "--map": map_, "--launch": launch}
    given = [option for option, value in own.items() if value]
    named = what_is_named(workload, network_options=given)
    mapping: dict[str, object] = {"--dataflow": dataflow, "--tile": tile, "--residency": residency in PLANS}
    settings = [*(set_ or []), *residency_setting(residency)]
    is_network = named.kind == "network"
    spec = machine_of(machine, settings, kernels=kernels, launch=launch, mapping=mapping, keep_groups=is_network)
    if spec.gpu is not None and kernels is None and any(mapping.values()):
        kernels = "engine"
    if named.kind != "network":
        if given:
            raise InputError(f'{given[0]}: is for whole networks; given the layer or operator "{workload}"')
        _why_layer(outputs, named, spec, dataflow, tiling, goal, command_line(context), kernels)
        return
    if tiling:
        raise InputError(f'--tile: is for layers and operators; given the network "{workload}"')
    if dataflow is not None:
        check_dataflows([dataflow])

    from tilewright.cli.network import stream_of

    stream = stream_of(named.text, weights=weights, activations=activations, kv_cache=kv_cache, unknown=choice)
    check_used([stream], [dataflow], [spec])
    kept = [name for name in formats.values() if name]
    _why_network(outputs, named, stream, spec, dataflow, goal, kept, command_line(context), kernels, launch)


def _why_layer(
    outputs: Outputs,
    named: Named,
    spec: MachineSpec,
    dataflow: str | None,
    tiling: dict[str, int] | None,
    goal: Objective,
    command: str,
    kernels: str | None,
) -> None:
    (layer,) = workloads_of([named.text], spec)
    if dataflow is not None:
        check_dataflows([dataflow], [layer])
    if runs_engine([spec], kernels):
        announce_compilation()

    import tilewright.search.api as api
    from tilewright.reports.table import assumptions_text, attribution_table, result_table, what_if_table

    with patience(f"what-ifs of {layer.name}"):
        reasons = api.why(layer, spec, dataflow, tiling=tiling, objective=goal, kernels=kernels)
    if named.note:
        note(named.note)
    outputs.show(
        result_table(reasons.result),
        None if reasons.result.kernels else attribution_table(reasons),
        what_if_table(outputs.console(), reasons),
        assumptions_text(reasons.result),
    )
    from tilewright.reports.origin import Origin, layer_facts

    facts = {"objective": goal, "dataflow": dataflow, "tiling": dict(reasons.result.tiling)}
    origin = Origin(machines=(spec,), workloads=(layer_facts(layer),), facts=facts)
    outputs.write_json(reasons.to_dict(), origin)
    outputs.write_csv(reasons.to_dict()["what_ifs"], origin)
    if outputs.report is not None:
        from tilewright.reports.evidence import explained
        from tilewright.reports.folder import write_result_report

        case = explained(reasons.result, layer, spec, objective=goal, why=reasons, command=command)
        note(f"wrote {write_result_report(outputs.report, case)}")


def _why_network(
    outputs: Outputs,
    named: Named,
    stream: OperatorStream,
    spec: MachineSpec,
    dataflow: str | None,
    goal: Objective,
    keep_formats: list[str],
    command: str,
    kernels: str | None,
    launch: str | None,
) -> None:
    if runs_engine([spec], kernels):
        announce_compilation()

    import tilewright.search.api as api
    from tilewright.cli.machines import say_notes
    from tilewright.reports.network_case import NetworkCase
    from tilewright.reports.network_table import kernels_table, network_why_table, totals_table
    from tilewright.reports.origin import Origin, network_facts
    from tilewright.reports.table import listed_text, what_if_table

    flows = api.ATTENTION_DATAFLOWS if dataflow is None else (dataflow,)
    with ProgressBar() as progress:
        reasons = api.why_network(
            stream, spec, goal, attention_dataflows=flows, keep_formats=keep_formats, kernels=kernels, launch=launch,
            progress=progress,
        )  # fmt: skip
    stream = reasons.result.stream or stream
    case = NetworkCase(result=reasons.result, stream=stream, machine=spec, objective=goal, command=command, why=reasons)
    say_notes([named], {spec.name: reasons.result.assumptions})
    if outputs.speaks:
        console = outputs.console()
        outputs.show(
            totals_table(case),
            kernels_table(console, case) if case.is_library else None,
            network_why_table(console, case),
            what_if_table(console, reasons),
            listed_text("assumptions in force", reasons.result.assumptions),
        )
    origin = Origin(machines=(spec,), workloads=(network_facts(stream),), facts={"objective": goal})
    outputs.write_json(
        reasons.to_dict()
        | {"groups": [group.to_dict() for group in case.groups], "operators": reasons.operator_rows()},
        origin,
    )
    outputs.write_csv(reasons.rows(), origin)
    if outputs.report is not None:
        from tilewright.reports.folder import write_network_report

        with patience(f"page of {stream.name}"):
            path = write_network_report(outputs.report, case)
        note(f"wrote {path}")
