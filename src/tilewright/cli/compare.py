"""``tilewright compare``: dataflows on layers, or machines on layers and networks, each at its own best tiling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilewright.cli import complete
from tilewright.cli.inputs import (
    PLANS,
    check_dataflows,
    command_line,
    machine_of,
    residency_setting,
    runs_engine,
    workloads_of,
)
from tilewright.cli.once import is_given
from tilewright.cli.options import (
    ActivationsOption,
    CsvOption,
    DataflowsOption,
    FrontObjectiveOption,
    JsonOption,
    KernelsOption,
    KvCacheOption,
    LaunchOption,
    MachinesOption,
    MapOption,
    MethodOption,
    Objective,
    ReportOption,
    ResidencyOption,
    SeedOption,
    SetOption,
    UnknownOption,
    WeightsOption,
    method_of,
    objective_of,
    unknown_of,
)
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.pareto import PARETO, ParetoCall, refuse_options, show_fronts
from tilewright.cli.progress import ProgressBar, announce_compilation, patience
from tilewright.errors import InputError
from tilewright.workloads.naming import Named, what_is_named

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.reports.case import ReportCase
    from tilewright.sim.jobs import JobLayer
    from tilewright.sim.result import ComparisonResult

__all__ = ["compare"]

# The layers of that study run at batch 64 on a cloud machine; they have their own validation.
_LEFT_OUT_OF_ALL = "fusemax-"

WorkloadsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="WORKLOAD",
        help="Layers (bert-base, attention:heads=12,seq=512,head_dim=64, YAML files), operators "
        "(gemm:m=512,n=768,k=768), networks (resnet-50, network:bert-base, model.onnx).",
        show_default=False,
        autocompletion=complete.workloads,
    ),
]
AllOption = Annotated[
    bool, typer.Option("--all", help="Compare on every built-in attention layer.", show_default=False)
]
MarkdownOption = Annotated[
    str | None,
    typer.Option("--markdown", metavar="FILE|-", help="Write the tables as Markdown.", rich_help_panel="Output"),
]
DensityOption = Annotated[
    str | None,
    typer.Option(
        "--mask-density",
        metavar="1,0.5,...",
        help="An attention layer at these shares of its mask's blocks, and the density below which it beats dense.",
        show_default=False,
    ),
]

ReuseOption = Annotated[
    str | None,
    typer.Option(
        "--reuse",
        metavar="STEPS/EVERY",
        help="An attention layer over denoising steps of which every so many-th is whole: what the others can reuse.",
        show_default=False,
    ),
]


def compare(
    context: typer.Context,
    machine: MachinesOption,
    workload: WorkloadsArgument = None,
    set_: SetOption = None,
    all_networks: AllOption = False,
    dataflow: DataflowsOption = None,
    objective: FrontObjectiveOption = "latency",
    method: MethodOption = None,
    seed: SeedOption = 0,
    weights: WeightsOption = None,
    activations: ActivationsOption = None,
    kv_cache: KvCacheOption = None,
    residency: ResidencyOption = None,
    kernels: KernelsOption = None,
    launch: LaunchOption = None,
    unknown: UnknownOption = None,
    map_: MapOption = None,
    mask_density: DensityOption = None,
    reuse: ReuseOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    markdown: MarkdownOption = None,
    report: ReportOption = None,
) -> None:
    """Compare dataflows on layers, or machines (-a A -a B) on layers and whole networks, each at its best tiling."""
    outputs = Outputs(json=json, csv=csv, report=report, markdown=markdown)
    outputs.check(*(workload or []), *machine)
    is_front = objective == PARETO
    if is_front:
        refuse_options({"--method": method, "--seed": seed, "--residency": residency})
        refuse_options({"--kernels": kernels, "--launch": launch})
    goal = "latency" if is_front else objective_of(objective, or_else=[PARETO])
    way = method_of(method, seed_is_given=is_given(context, "seed"))
    settings = [*(set_ or []), *residency_setting(residency)]
    specs = _machines_of(machine, settings, dataflow, "engine" if is_front else kernels, launch, method, residency)
    if kernels is None and (dataflow or residency in PLANS or (method and len(specs) == 1)):
        kernels = "engine" if any(spec.gpu for spec in specs) else None
    texts = [*(workload or []), *(_all_layers() if all_networks else [])]
    if not texts:
        raise InputError("no workload is given; allowed one or more names, or --all")
    formats = {"weights": weights, "activations": activations, "kv_cache": kv_cache}
    choice = unknown_of(unknown, map_)
    own = {**formats, "residency": residency, "unknown": unknown, "map": map_, "launch": launch}
    given = [f"--{name.replace('_', '-')}" for name, value in own.items() if value]
    named = [what_is_named(text, network_options=given) for text in texts]
    is_network = [one.kind == "network" for one in named]
    if given and not any(is_network):
        raise InputError(f"{given[0]}: is for whole networks; given layers and operators only")
    if mask_density is not None or reuse is not None:
        from tilewright.cli.density import DensityCall, densities_of, show_densities
        from tilewright.cli.reuse import show_reuse, steps_of

        name = "--reuse" if mask_density is None else "--mask-density"
        if is_front or kernels == "library" or any(is_network):
            raise InputError(f"{name}: is for one attention layer, its schedules and one objective; given others")
        if mask_density is not None and reuse is not None:
            raise InputError("--reuse: given with --mask-density; allowed one of the two")
        density_call = DensityCall(
            texts=tuple(one.text for one in named), machines=tuple(specs),
            densities=() if mask_density is None else densities_of(mask_density),
            dataflows=dataflow, objective=goal, method=way, seed=seed,
        )  # fmt: skip
        if reuse is None:
            show_densities(outputs, density_call)
        else:
            show_reuse(outputs, density_call, *steps_of(reuse))
        return
    if is_front:
        front_call = ParetoCall(
            named=tuple(named), machines=tuple(specs), dataflows=dataflow, formats=formats, fuse=True, unknown=choice,
            command=command_line(context),
        )  # fmt: skip
        show_fronts(outputs, front_call)
        return
    if len(specs) > 1 or any(is_network):
        from tilewright.cli.machines import MachinesCall, compare_machines

        call = MachinesCall(
            named=tuple(named), machines=tuple(specs), dataflows=dataflow, objective=goal, method=way, seed=seed,
            formats=formats, unknown=choice, kernels=kernels, launch=launch, command=command_line(context),
        )  # fmt: skip
        compare_machines(outputs, call)
        return
    _compare_dataflows(outputs, named, specs[0], dataflow, goal, way, seed, command_line(context), kernels)


def _machines_of(
    texts: Sequence[str],
    settings: list[str] | None,
    dataflow: list[str] | None,
    kernels: str | None,
    launch: str | None,
    method: str | None,
    residency: str | None,
) -> list[MachineSpec]:
    """The machines; kernels are asked of the GPUs among them, and of all where there is none."""
    from tilewright.hw_models.load import load_machine

    on_gpu = [load_machine(text).gpu is not None for text in texts]
    asked = [(kernels, launch) if is_gpu or not any(on_gpu) else (None, None) for is_gpu in on_gpu]
    mapping: dict[str, object] = {"--dataflow": dataflow, "--method": method if len(texts) == 1 else None}
    mapping |= {"--residency": residency in PLANS}
    return [
        machine_of(text, settings, kernels=one[0], launch=one[1], mapping=mapping, keep_groups=True)
        for text, one in zip(texts, asked, strict=True)
    ]


def _compare_dataflows(
    outputs: Outputs,
    named: Sequence[Named],
    spec: MachineSpec,
    dataflow: list[str] | None,
    goal: Objective,
    way: str,
    seed: int,
    command: str,
    kernels: str | None,
) -> None:
    layers = workloads_of([one.text for one in named], spec)
    dataflows = check_dataflows(dataflow, layers) if dataflow else None
    if runs_engine([spec], kernels):
        announce_compilation()

    import tilewright.search.api as api

    if spec.groups:
        spec = api.fastest_group(layers, spec, dataflows, goal)
        note(f"of the groups of cores, the one on which these are best together: {spec.name}")
    with ProgressBar() as progress:
        comparison = api.compare(
            layers, spec, dataflows, objective=goal, progress=progress, method=way, seed=seed, kernels=kernels
        )
    for one in named:
        if one.note:
            note(one.note)
    _show(outputs, comparison, layers, goal)

    from tilewright.reports.origin import Origin, layer_facts

    origin = Origin(machines=(spec,), workloads=tuple(map(layer_facts, layers)), facts={"objective": goal})
    outputs.write_json(_data(comparison, spec, goal), origin)
    outputs.write_csv([result.to_row() for result in comparison.results], origin)
    if not comparison.results:
        raise InputError(f"no dataflow can run on {spec.name}: {next(iter(comparison.infeasible.values()))}")
    if outputs.markdown is not None:
        from tilewright.reports.markdown import comparison_markdown

        outputs.write_markdown(comparison_markdown(comparison))
    if outputs.report is not None:
        _write_report(outputs.report, comparison, layers, spec, goal, command)


def _all_layers() -> list[str]:
    from tilewright.workloads.load import workload_names

    return [name for name in workload_names() if not name.startswith(_LEFT_OUT_OF_ALL)]


def _show(outputs: Outputs, comparison: ComparisonResult, layers: list[JobLayer], objective: Objective) -> None:
    from tilewright.reports.table import comparison_table, headline_table, infeasible_text, summary_table

    if not outputs.speaks:
        return
    console = outputs.console()
    if len(layers) == 1:
        table = comparison_table(console, comparison, layers[0].name, objective)
    else:
        table = summary_table(console, comparison, objective=objective)
    headline = headline_table(comparison) if len(layers) > 1 else None
    outputs.show(table, infeasible_text(comparison), headline)


def _data(comparison: ComparisonResult, machine: MachineSpec, objective: Objective) -> dict[str, Any]:
    from tilewright.reports.published import published_headline

    headline = published_headline(machine.name)
    return {
        "machine": machine.name,
        "objective": objective,
        **comparison.to_dict(),
        **({"published": headline.to_dict()} if headline else {}),
    }


def _write_report(
    folder: str,
    comparison: ComparisonResult,
    layers: list[JobLayer],
    machine: MachineSpec,
    objective: Objective,
    command: str,
) -> None:
    from tilewright.reports.folder import write_comparison_report, write_result_report

    cases = _cases(comparison, layers, machine, objective, command)
    if len(layers) == 1:
        with patience(f"page of {layers[0].name}"):
            path = write_result_report(folder, next(cases))
    else:
        with ProgressBar() as progress:
            names = [layer.name for layer in layers]
            path = write_comparison_report(
                folder,
                comparison,
                cases,
                command=command,
                progress=lambda name: progress(names.index(name), len(names), f"page of {name}"),
            )
    note(f"wrote {path}")


def _cases(
    comparison: ComparisonResult,
    layers: list[JobLayer],
    machine: MachineSpec,
    objective: Objective,
    command: str,
) -> Iterator[ReportCase]:
    """A page's worth for the best dataflow of each workload that any dataflow can run."""
    from tilewright.reports.evidence import explained
    from tilewright.reports.ranking import best_of, of_workload

    for layer in layers:
        results = of_workload(comparison, layer.name)
        best = best_of(results, objective)
        if best is None:
            continue
        failed = {d: reason for (w, d), reason in comparison.infeasible.items() if w == layer.name}
        yield explained(
            best,
            layer,
            machine,
            objective=objective,
            rivals=results,
            infeasible=failed,
            command=command,
        )
