"""``tilewright simulate``: one attention layer, one operator, or one whole network, on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tilewright.cli.inputs import (
    PLANS,
    WHOLE_LIVES,
    check_dataflows,
    command_line,
    is_planned,
    machine_of,
    residency_of,
    runs_engine,
    spills_setting,
    workloads_of,
)
from tilewright.cli.once import is_given
from tilewright.cli.options import (
    ActivationsOption,
    AllOperatorsOption,
    BesideOption,
    CsvOption,
    FrontObjectiveOption,
    HandOverOption,
    ImagesOption,
    JsonOption,
    KernelsOption,
    KvCacheOption,
    LaunchOption,
    MachineOption,
    MapOption,
    MethodOption,
    NoCacheOption,
    NoFuseOption,
    NoPrefetchOption,
    Objective,
    PipelineOption,
    ReportOption,
    ResidencyOption,
    RunnableArgument,
    RunOption,
    SeedOption,
    SetOption,
    SimulatedDataflowOption,
    TileOption,
    UnknownOption,
    WeightDensityOption,
    WeightsOption,
    method_of,
    objective_of,
    tiling_of,
    unknown_of,
)
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.pareto import PARETO, ParetoCall, refuse_options, show_fronts
from tilewright.cli.pipeline import USUAL_IMAGES, PipelineRun, count_of, hand_over_of, show_pipeline, stages_of
from tilewright.cli.progress import ProgressBar, announce_compilation, patience
from tilewright.cli.runs import RunCall, show_run
from tilewright.errors import InputError
from tilewright.workloads.naming import Named, what_is_named

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.workloads.runs.kind import RunDescription

__all__ = ["simulate"]

_FORMAT_KEYS = {
    "attention": ("attention layer", "; a layer says qkv_format=, key_format= and value_format= itself"),
    "operator": ("operator", "; an operator says format=, a_format=, b_format= and out_format= itself"),
}


def simulate(
    context: typer.Context,
    machine: MachineOption,
    workload: RunnableArgument = None,
    run: RunOption = None,
    set_: SetOption = None,
    dataflow: SimulatedDataflowOption = None,
    tile: TileOption = None,
    objective: FrontObjectiveOption = "latency",
    method: MethodOption = None,
    seed: SeedOption = 0,
    weights: WeightsOption = None,
    activations: ActivationsOption = None,
    kv_cache: KvCacheOption = None,
    weight_density: WeightDensityOption = None,
    no_prefetch: NoPrefetchOption = False,
    residency: ResidencyOption = None,
    no_fuse: NoFuseOption = False,
    kernels: KernelsOption = None,
    launch: LaunchOption = None,
    no_cache: NoCacheOption = False,
    all_operators: AllOperatorsOption = False,
    pipeline: PipelineOption = None,
    images: ImagesOption = None,
    beside: BesideOption = None,
    hand_over: HandOverOption = None,
    unknown: UnknownOption = None,
    map_: MapOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    report: ReportOption = None,
) -> None:
    """Run one attention layer, one operator, a whole network, or a run over time: cycles, energy, traffic, and how far
    they are from the bound.

    Sizes that --tile does not give are searched for; a network runs each operator at its own best tiling.
    See: tilewright list dataflows, tilewright list networks
    """
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check(workload, machine, run)
    if _is_run(workload, run):
        _simulate_run(context, outputs)
        return
    assert workload is not None
    choice = unknown_of(unknown, map_)
    if objective == PARETO:
        meaningless = {"--tile": tile, "--method": method, "--seed": seed, "--no-cache": no_cache}
        networks = {"--no-prefetch": no_prefetch, "--residency": residency, "--all-operators": all_operators}
        networks |= {"--pipeline": pipeline, "--images": images, "--beside": bool(beside), "--hand-over": hand_over}
        own_kernels = {"--kernels": kernels, "--launch": launch}
        refuse_options({**meaningless, **networks, **own_kernels, "--weight-density": weight_density})
        formats = {"weights": weights, "activations": activations, "kv_cache": kv_cache}
        own = {**formats, "unknown": unknown, "map": map_}
        given = [f"--{name.replace('_', '-')}" for name, value in own.items() if value]
        named = what_is_named(workload, network_options=[*given, *(["--no-fuse"] if no_fuse else [])])
        if named.kind != "network" and (given or no_fuse):
            raise InputError(f'{[*given, "--no-fuse"][0]}: is for whole networks; given "{workload}"')
        call = ParetoCall(
            named=(named,), machines=(machine_of(machine, set_),), dataflows=None if dataflow is None else [dataflow],
            formats=formats, fuse=not no_fuse, unknown=choice, command=command_line(context),
        )  # fmt: skip
        show_fronts(outputs, call)
        return
    goal, tiling = objective_of(objective, or_else=[PARETO]), tiling_of(tile)
    if method is not None:
        method_of(method, seed_is_given=False)
    only_for_networks = {
        "--weights": weights,
        "--activations": activations,
        "--kv-cache": kv_cache,
        "--weight-density": weight_density,
        "--no-prefetch": no_prefetch,
        "--residency": residency,
        "--no-fuse": no_fuse,
        "--launch": launch,
        "--no-cache": no_cache,
        "--all-operators": all_operators,
        "--pipeline": pipeline,
        "--images": images,
        "--beside": beside,
        "--hand-over": hand_over,
        "--unknown": unknown,
        "--map": map_,
    }
    given = [option for option, value in only_for_networks.items() if value]
    plan = residency_of(residency)
    named = what_is_named(workload, network_options=given)
    of_networks = {"--no-fuse": no_fuse, "--no-prefetch": no_prefetch, "--residency": plan in PLANS}
    of_networks |= {"--pipeline": bool(pipeline), "--beside": bool(beside), "--hand-over": bool(hand_over)}
    of_layers = {"--tile": bool(tile), "--method": bool(method)}
    mapping = {"--dataflow": bool(dataflow), **(of_networks if named.kind == "network" else of_layers)}
    settings = [*(set_ or []), *spills_setting(plan)]
    spec = machine_of(machine, settings, kernels=kernels, launch=launch, mapping=mapping, keep_groups=True)
    if named.kind != "network":
        if given:
            what, keys = _FORMAT_KEYS[named.kind]
            hint = keys if given[0] in ("--weights", "--activations", "--kv-cache") else ""
            raise InputError(f'{given[0]}: is for whole networks; given the {what} "{workload}"{hint}')
        method_of(method, seed_is_given=is_given(context, "seed"))
        search = {"method": method, "seed": seed, "kernels": kernels}
        _simulate_layer(outputs, named, spec, dataflow, tiling, goal, command_line(context), search)
        return
    if dataflow is not None:
        check_dataflows([dataflow])
    for option in ("tile", "method", "seed"):
        if is_given(context, option):
            raise InputError(f'--{option}: is for attention layers and operators; given the network "{workload}"')

    from tilewright.cli.network import NetworkRun, simulate_network, stream_of

    if pipeline is not None:
        residency_of(residency, allowed=WHOLE_LIVES)
        _refuse_for_pipeline(goal, {"--all-operators": all_operators, "--weight-density": weight_density})
        stages, n_images = stages_of(pipeline, option="--pipeline"), _images(images)
        stream = stream_of(named.text, weights=weights, activations=activations, kv_cache=kv_cache, unknown=choice)
        asked = PipelineRun(
            machine=spec, stages=stages, images=n_images, prefetch=not no_prefetch, fuse=not no_fuse,
            residency=is_planned(plan), keep_mappings=not no_cache, dataflow=dataflow,
            command=command_line(context), beside=tuple(machine_of(one) for one in beside or ()),
            hand_over=hand_over_of(hand_over),
        )  # fmt: skip
        show_pipeline(outputs, asked, stream)
        return
    _refuse_without_pipeline({"--images": images, "--beside": beside, "--hand-over": hand_over})
    if spec.pim is not None:
        from tilewright.cli.pim import PimRun, refuse_for_banks, show_plan

        refuse_for_banks(
            spec.name,
            {
                "--no-prefetch": no_prefetch, "--residency": residency, "--weight-density": weight_density,
                "--kernels": kernels, "--launch": launch, "--dataflow": dataflow, "--all-operators": all_operators,
            },
        )  # fmt: skip
        banks = PimRun(
            network=named.text, machine=spec, weights=weights, activations=activations, kv_cache=kv_cache,
            objective=goal, fuse=not no_fuse, keep_mappings=not no_cache, unknown=choice,
        )  # fmt: skip
        show_plan(outputs, banks)
        return
    network = NetworkRun(
        network=named.text,
        note=named.note,
        machine=spec,
        objective=goal,
        weights=weights,
        activations=activations,
        kv_cache=kv_cache,
        weight_density=weight_density,
        prefetch=not no_prefetch,
        residency=is_planned(plan),
        fuse=not no_fuse,
        keep_mappings=not no_cache,
        dataflow=dataflow,
        all_operators=all_operators,
        kernels=_kernels_of(spec, kernels, mapping),
        launch=launch,
        command=command_line(context),
        unknown=choice,
    )
    simulate_network(outputs, network)


def _is_run(workload: str | None, run: str | None) -> bool:
    """Whether a run over time is meant; raises InputError where two things are, or none."""
    from tilewright.workloads.runs.load import is_run

    if run is not None and workload is not None:
        raise InputError(f'--run: says itself what runs; given "{workload}" too; allowed one of the two')
    if workload is None and run is None:
        raise InputError("workload: missing; allowed the name of a workload, or --run FILE")
    return workload is None or is_run(workload)


_NOT_FOR_RUNS = (
    "tile", "method", "weight_density", "unknown", "map_", "all_operators", "pipeline", "images", "beside", "hand_over",
)  # fmt: skip


#: What means something for jobs on a system on a chip: the rest is told in their file.
_FOR_JOBS = ("machine", "run", "workload", "no_cache", "json", "csv", "report")


#: The same for a server: steps are closed forms and library kernels, so nothing is mapped.
_FOR_SERVERS = ("machine", "set_", "run", "workload", "kv_cache", "no_cache", "json", "csv", "report")


def _refuse_for_servers(context: typer.Context) -> None:
    for name in context.params:
        if name not in _FOR_SERVERS and is_given(context, name):
            raise InputError(
                f"--{name.strip('_').replace('_', '-')}: means nothing for a server; its file says what runs"
            )


def _simulate_jobs(context: typer.Context, outputs: Outputs, described: RunDescription) -> None:
    from tilewright.cli.jobs import show_jobs
    from tilewright.workloads.runs.kinds.jobs import JobsRun

    assert isinstance(described, JobsRun)
    for name in context.params:
        if name not in _FOR_JOBS and is_given(context, name):
            raise InputError(f"--{name.strip('_').replace('_', '-')}: means nothing for jobs on a system on a chip")
    given = context.params
    show_jobs(outputs, described, given["machine"], keep_mappings=not given["no_cache"], command=command_line(context))


def _simulate_run(context: typer.Context, outputs: Outputs) -> None:
    from tilewright.workloads.runs.load import load_run

    given = context.params
    described = load_run(given["run"] or given["workload"])
    if described.run == "jobs":
        _simulate_jobs(context, outputs, described)
        return
    if described.run == "serve":
        _refuse_for_servers(context)
    if given["objective"] == PARETO:
        raise InputError("--objective: pareto is for layers and networks; a run over time has one of the others")
    for name in _NOT_FOR_RUNS:
        if given[name]:
            raise InputError(f"--{name.strip('_').replace('_', '-')}: means nothing for a run over time")
    if is_given(context, "seed"):
        raise InputError("--seed: means nothing for a run over time")
    dataflow, plan = given["dataflow"], residency_of(given["residency"])
    mapping = {f"--{name.replace('_', '-')}": given[name] for name in ("dataflow", "no_fuse", "no_prefetch")}
    mapping["--residency"] = plan in PLANS
    spec = machine_of(
        given["machine"],
        [*(given["set_"] or []), *spills_setting(plan)],
        for_engine=described.run != "serve",
        kernels=given["kernels"],
        launch=given["launch"],
        mapping=mapping,
        keep_groups=True,
    )
    if dataflow is not None:
        check_dataflows([dataflow])
    call = RunCall(
        source=given["run"] or given["workload"],
        machine=spec,
        objective=objective_of(given["objective"]),
        weights=given["weights"],
        activations=given["activations"],
        kv_cache=given["kv_cache"],
        prefetch=not given["no_prefetch"],
        fuse=not given["no_fuse"],
        residency=is_planned(plan),
        keep_mappings=not given["no_cache"],
        dataflow=dataflow,
        kernels=_kernels_of(spec, given["kernels"], mapping),
        launch=given["launch"],
        command=command_line(context),
    )
    show_run(outputs, call)


def _images(given: str | None) -> int:
    return USUAL_IMAGES if given is None else count_of(given, option="--images")


def _refuse_for_pipeline(goal: Objective, given: dict[str, object]) -> None:
    """Options without meaning for a pipeline."""
    if goal != "latency":
        raise InputError(f'--objective: of --pipeline the interval between images is made small; given "{goal}"')
    for option, value in given.items():
        if value:
            raise InputError(f"{option}: means nothing with --pipeline")


def _refuse_without_pipeline(given: dict[str, Any]) -> None:
    for option, value in given.items():
        if value:
            raise InputError(
                f"{option}: means nothing without --pipeline; allowed with --pipeline N or --pipeline auto"
            )


def _kernels_of(spec: MachineSpec, kernels: str | None, mapping: dict[str, bool]) -> str | None:
    """What asks for a mapping asks for the engine."""
    return "engine" if kernels is None and spec.gpu is not None and any(mapping.values()) else kernels


def _simulate_layer(
    outputs: Outputs,
    named: Named,
    machine: MachineSpec,
    dataflow: str | None,
    tiling: dict[str, int] | None,
    objective: Objective,
    command: str,
    search: dict[str, Any],
) -> None:
    (layer,) = workloads_of([named.text], machine)
    if dataflow is not None:
        check_dataflows([dataflow], [layer])
    asks_engine = dataflow is not None or tiling is not None or search["method"] is not None
    if asks_engine or runs_engine([machine], search["kernels"]):
        announce_compilation()

    import tilewright.search.api as api
    from tilewright.reports.table import result_table

    with ProgressBar() as progress:
        result = api.simulate(layer, machine, dataflow, tiling=tiling, objective=objective, progress=progress, **search)
    if named.note:
        note(named.note)
    if result.search is None and search["method"] is not None:
        note("--method: every size of the tiling is given, so nothing was searched")
    outputs.show(result_table(result))
    from tilewright.reports.origin import Origin, layer_facts

    origin = Origin(machines=(machine,), workloads=(layer_facts(layer),), facts={"objective": objective})
    outputs.write_json(result.to_dict(), origin)
    outputs.write_csv([result.to_row()], origin)
    if outputs.report is not None:
        from tilewright.reports.evidence import explained

        machine = result.machine_spec or machine  # of unlike groups of cores the one that it ran on
        from tilewright.reports.folder import write_result_report

        with patience(f"what-ifs of {layer.name}"):
            case = explained(result, layer, machine, objective=objective, command=command)
        note(f"wrote {write_result_report(outputs.report, case)}")
