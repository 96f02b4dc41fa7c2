"""The questions a person asks, as functions: simulate, compare, why, trace, and whole networks.

Names of machines, workloads, networks and dataflows may be given as text (as on the command line) or as objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.groups import main_alone, other_groups
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import EVERYTHING, MachineSpec
from tilewright.progress import Progress, named, part
from tilewright.search.activity import NetworkActivity, network_activity
from tilewright.search.gpu.kernel_options import KernelOptions, kernel_options
from tilewright.search.gpu.layer import library_layer, library_ways
from tilewright.search.gpu.what_if import why_library_layer
from tilewright.search.groups.layer import on_best_group
from tilewright.search.machine_comparison import compare_machines
from tilewright.search.mapping_cache import ForgetfulCache, MappingCache
from tilewright.search.mapping_front import Named as NamedOperator
from tilewright.search.mapping_front import workload_front
from tilewright.search.methods.method import get_method, method_names
from tilewright.search.methods.outcome import SearchOutcome
from tilewright.search.methods.run import run_method
from tilewright.search.network import ATTENTION_DATAFLOWS, flows_of, simulate_stream
from tilewright.search.network_why import why_stream
from tilewright.search.objective import Objective, check_objective, score
from tilewright.search.pipeline.run import simulate_pipeline as run_pipeline
from tilewright.search.tiling import can_beat
from tilewright.search.what_if import what_ifs
from tilewright.search.workload import Workload, dataflow_for, dataflows_for, layer_of, layer_on, pieces
from tilewright.sim.engine.critical_path import attribute
from tilewright.sim.engine.run import simulate as run_exactly
from tilewright.sim.engine.trace import TraceWindow, record_path
from tilewright.sim.jobs import JobLayer, jobs_on
from tilewright.sim.lowering import mapping
from tilewright.sim.lowering.evaluation import build_phase, evaluate, phase_tiling, trace_mapping
from tilewright.sim.lowering.mapping import Dataflow, Tiling
from tilewright.sim.machine_comparison import MachineComparison
from tilewright.sim.mapping_front import MappingFront
from tilewright.sim.network_result import NetworkResult, OperatorRun
from tilewright.sim.network_why import NetworkWhyResult
from tilewright.sim.pipeline_result import PipelineResult
from tilewright.sim.result import Attribution, ComparisonResult, LengthLimit, SimulationResult, WhyResult
from tilewright.workloads.naming import what_is_named
from tilewright.workloads.network import Module, load_network, network_names, network_stream
from tilewright.workloads.rated_formats import with_rated_formats
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ATTENTION_DATAFLOWS",
    "compare",
    "dataflow_names",
    "dataflow_summary",
    "fastest_group",
    "load_network",
    "network_names",
    "pareto",
    "search_methods",
    "search_tiling",
    "search_tilings",
    "simulate",
    "simulate_network",
    "simulate_pipeline",
    "trace",
    "why",
    "why_network",
]

Machine = str | MachineSpec
Network = str | Path | OperatorStream | Module


def dataflow_names() -> tuple[str, ...]:
    """The known dataflows."""
    return mapping.dataflow_names()


def dataflow_summary(name: str) -> str:
    """One line that says what the dataflow does."""
    return mapping.DATAFLOWS.get(name).summary


def simulate(
    workload: Workload,
    machine: Machine,
    dataflow: str | None = None,
    tiling: Tiling | None = None,
    objective: str = "latency",
    progress: Progress | None = None,
    *,
    method: str | None = None,
    seed: int = 0,
    kernels: str | None = None,
) -> SimulationResult:
    """``workload`` on ``machine`` with ``dataflow``; tiles that ``tiling`` does not give are searched.

    ``workload``: an attention layer, or a single operator (``gemm:m=512,n=768,k=768``), which on several cores is cut
    in the best of the ways there are. ``dataflow`` None: mas for attention, else the operator's own. ``method`` is one
    of :func:`search_methods` (None: the usual one), ``seed`` its chance. ``kernels``: on a GPU ``eager`` or ``fused``
    library kernels, which is what runs there unless a dataflow, tiling or method is given, or the ``engine``'s
    schedules. On a machine with unlike groups of cores it runs on the group where it is best. Raises InputError for bad
    names or tiles, MappingError when no mapping fits on chip.
    """
    spec = _machine(machine)
    layer, said = layer_on(workload, spec)
    if spec.groups:
        asked = (dataflow, tiling, objective, progress)
        return on_best_group(
            spec,
            lambda group: _saying(simulate(layer, group, *asked, method=method, seed=seed, kernels=kernels), said),
            check_objective(objective),
        )
    how = _layer_kernels(spec, kernels, dataflow=dataflow, tiling=tiling, method=method)
    if not how.is_engine:
        check_objective(objective)
        result = library_layer(layer, spec, how)
        return _saying(result, said)
    said = "; ".join(filter(None, (said, how.note)))
    flow = dataflow_for(layer, dataflow, spec)
    return _saying(_simulate(layer, spec, flow, dict(tiling or {}), objective, progress, method, seed)[1], said)


def _saying(result: SimulationResult, said: str) -> SimulationResult:
    """``result`` with ``said``, where there is something, as its first assumption."""
    return replace(result, assumptions=(said, *result.assumptions)) if said else result


def _layer_kernels(
    spec: MachineSpec, kernels: str | None, *, dataflow: object = None, tiling: object = None, method: object = None
) -> KernelOptions:
    """What runs a layer: what asks for a mapping asks for the engine.

    Raises InputError where library kernels are asked for with a mapping, which they have not.
    """
    given = {"dataflow": dataflow, "tiling": tiling, "method": method}
    named = [name for name, value in given.items() if value]
    if named and kernels in (None, "engine"):
        return kernel_options(spec, "engine" if spec.gpu is not None else None)
    how = kernel_options(spec, kernels)
    if named and not how.is_engine:
        raise InputError(f"{named[0]}: is for the engine's schedules; given with kernels {kernels}; allowed none")
    return how


def _simulate(
    layer: JobLayer,
    spec: MachineSpec,
    flow: Dataflow,
    tiling: dict[str, int],
    objective: str,
    progress: Progress | None,
    method: str | None = None,
    seed: int = 0,
) -> tuple[JobLayer, SimulationResult]:
    """The layer as it was cut for the cores, and its run."""
    goal = check_objective(objective)
    get_method(method)
    limit = _length_limit(flow, layer, spec)
    layer, tiling = mapping.plain_mapping(flow, layer, tiling)
    if all(parameter.name in tiling for parameter in flow.parameters):
        return _run_best_piece(layer, spec, flow, tiling, goal, limit)
    piece, found = _search_pieces(layer, spec, flow, method, objective, seed, None, tiling, progress)
    result = evaluate(flow, piece, spec, found.tiling, search=found.summary, limit=limit)
    return piece, result


def _length_limit(flow: Dataflow, layer: JobLayer, spec: MachineSpec) -> LengthLimit | None:
    return None if flow.family.limit is None else flow.family.limit(flow, layer, spec, {})


def _run_best_piece(
    layer: JobLayer,
    spec: MachineSpec,
    flow: Dataflow,
    tiling: Tiling,
    objective: Objective = "latency",
    limit: LengthLimit | None = None,
) -> tuple[JobLayer, SimulationResult]:
    """``layer`` cut for the cores in the way that is best with ``tiling``, and its run."""
    cuts = pieces(layer, spec, flow)
    if len(cuts) == 1:
        return cuts[0], evaluate(flow, cuts[0], spec, tiling, limit=limit)
    runs: list[tuple[JobLayer, SimulationResult]] = []
    fault: InputError | None = None
    for piece in cuts:
        try:
            runs.append((piece, evaluate(flow, piece, spec, tiling, limit=limit)))
        except InputError as error:  # a tile that is larger than a piece, or no room for it
            fault = error
    if not runs:
        assert fault is not None
        raise fault
    return min(runs, key=lambda run: score(objective, run[1].cycles, run[1].energy_pj))


def _search_pieces(
    layer: JobLayer,
    spec: MachineSpec,
    flow: Dataflow,
    method: str | None,
    objective: str,
    seed: int,
    budget: int | None,
    tiling: Tiling,
    progress: Progress | None,
) -> tuple[JobLayer, SearchOutcome]:
    """The best tiling over all ways to cut ``layer`` for the cores, with that cut."""
    goal = check_objective(objective)
    cuts = pieces(layer, spec, flow)
    label = f"{layer.name} / {flow.name}"
    best: tuple[JobLayer, SearchOutcome] | None = None
    fault: MappingError | None = None
    for at, piece in enumerate(cuts):
        told = part(progress, at, len(cuts)) if len(cuts) > 1 else progress
        if best is not None and not can_beat((best[1].value, 0.0), flow, piece, spec, goal):
            continue
        try:
            found = run_method(
                get_method(method),
                flow,
                piece,
                spec,
                objective=goal,
                seed=seed,
                budget=budget,
                fixed=tiling,
                progress=named(told, label),
            )
        except MappingError as error:
            fault = error
            continue
        if best is None or found.value < best[1].value:
            best = piece, found
    if best is None:
        assert fault is not None
        raise fault
    return best


@overload
def compare(
    workloads: Workload | Sequence[Workload],
    machine: Machine,
    dataflows: Sequence[str] | None = None,
    objective: str = "latency",
    progress: Progress | None = None,
    *,
    method: str | None = None,
    seed: int = 0,
    kernels: str | None = None,
) -> ComparisonResult: ...


@overload
def compare(
    workloads: Workload | OperatorStream | Sequence[Workload | OperatorStream],
    machine: Sequence[MachineSpec] | list[str] | tuple[str, ...],
    dataflows: Sequence[str] | None = None,
    objective: str = "latency",
    progress: Progress | None = None,
    *,
    method: str | None = None,
    seed: int = 0,
    keep_formats: Sequence[str] = (),
    kernels: str | None = None,
    launch: str | None = None,
) -> MachineComparison: ...


def compare(
    workloads: Any,
    machine: Any,
    dataflows: Sequence[str] | None = None,
    objective: str = "latency",
    progress: Progress | None = None,
    *,
    method: str | None = None,
    seed: int = 0,
    keep_formats: Sequence[str] = (),
    kernels: str | None = None,
    launch: str | None = None,
) -> ComparisonResult | MachineComparison:
    """Dataflows side by side on one machine, or machines side by side when ``machine`` is a list of them.

    One machine: every layer with every dataflow (all of them by default), each at its own best tiling. A dataflow for
    which nothing fits on chip is reported in ``infeasible`` with the reason.

    Several machines: every layer, operator or whole network on every machine, at its best dataflow and mappings there.
    A name that means both (``bert-base``) is the layer, ``network:bert-base`` the network, as on the command line.

    ``method`` is one of :func:`search_methods`, ``seed`` its chance; both are for layers. A network in a format that a
    machine has no rate for runs there in the machine's own, unless it is one of ``keep_formats``.

    ``kernels`` and ``launch`` as in :func:`simulate_network`, for the GPUs among the machines: one GPU without named
    dataflows compares library kernels, of attention the fused one beside its two products and softmax.
    """
    goal = check_objective(objective)
    get_method(method)
    given = [workloads] if isinstance(workloads, str | JobLayer | OperatorStream) else list(workloads)
    if not isinstance(machine, str | MachineSpec):
        specs = [_machine(one) for one in machine]
        _refuse_twice([spec.name for spec in specs], "machines")
        things = [_layer_or_network(one) for one in given]
        _refuse_twice([thing.name for thing in things], "workloads")
        layers = [thing for thing in things if not isinstance(thing, OperatorStream)]
        flows = dataflows_for(layers, list(dataflows or ())) if layers else {}
        networks_too = len(layers) < len(things)
        texts = {thing.name: one for one, thing in zip(given, things, strict=True) if isinstance(one, str)}

        def run_layer(layer: JobLayer, spec: MachineSpec, flow: Dataflow) -> SimulationResult:
            own, said = layer_on(what_is_named(texts[layer.name]).text, spec) if layer.name in texts else (layer, "")
            if spec.groups:
                best = on_best_group(
                    spec, lambda group: _simulate(own, group, flow, {}, goal, None, method, seed)[1], goal
                )
                result = replace(best, machine=spec.name)
            else:
                result = _simulate(own, spec, flow, {}, goal, None, method, seed)[1]
            return replace(result, assumptions=(said, *result.assumptions)) if said else result

        return compare_machines(
            things,
            specs,
            run_layer=run_layer,
            dataflows=flows,
            attention_dataflows=_network_flows(dataflows) if networks_too else ATTENTION_DATAFLOWS,
            objective=goal,
            keep_formats=keep_formats,
            named=bool(dataflows),
            kernels=kernels,
            launch=launch,
            progress=progress,
        )
    spec = _machine(machine)
    if spec.groups:
        layers = [layer_on(cast("Workload", workload), spec)[0] for workload in given]
        spec = fastest_group(layers, spec, dataflows, goal)
    layers = [layer_on(cast("Workload", workload), spec)[0] for workload in given]
    how = _layer_kernels(spec, kernels, dataflow=dataflows)
    if not how.is_engine:
        return ComparisonResult(results=tuple(one for layer in layers for one in library_ways(layer, spec, how)))
    flows = dataflows_for(layers, list(dataflows or ()), spec)
    results: list[SimulationResult] = []
    infeasible: dict[tuple[str, str], str] = {}
    jobs = [(layer, flow) for layer in layers for flow in flows[layer]]
    for at, (layer, flow) in enumerate(jobs):
        told = part(progress, at, len(jobs))
        try:
            results.append(_simulate(layer, spec, flow, {}, objective, told, method, seed)[1])
        except MappingError as error:
            infeasible[layer.name, flow.name] = str(error)
    return ComparisonResult(results=tuple(results), infeasible=infeasible)


def fastest_group(
    layers: Sequence[JobLayer], spec: MachineSpec, dataflows: Sequence[str] | None, objective: Objective
) -> MachineSpec:
    """The group of ``spec`` on which all of ``layers``, each with the best of ``dataflows``, are best together."""
    scores: dict[str, float] = {}
    fault: InputError | None = None
    for name in spec.group_names:
        group = spec.group(name)
        if EVERYTHING in group.lacks:
            continue
        try:
            found = compare(layers, group, dataflows, objective)
        except InputError as error:
            fault = error
            continue
        best: dict[str, float] = {}
        for result in found.results:
            own = score(objective, result.seconds, result.energy_pj)[0]
            best[result.workload] = min(own, best.get(result.workload, own))
        if len(best) == len(layers):
            scores[name] = sum(best.values())
    if not scores and fault is not None:
        raise fault
    return spec.group(min(scores, key=lambda name: scores[name]) if scores else spec.main)


def _layer_or_network(workload: Workload | OperatorStream) -> JobLayer | OperatorStream:
    """What a name means, by the same rule as on the command line."""
    if not isinstance(workload, str):
        return workload
    named = what_is_named(workload)
    return load_network(named.text) if named.kind == "network" else layer_of(named.text)


def _network_flows(dataflows: Sequence[str] | None) -> Sequence[str]:
    """The dataflows that operators of networks may take; raises InputError for one that is none."""
    for name in dataflows or ():
        mapping.DATAFLOWS.get(name)
    return tuple(dataflows) if dataflows else ATTENTION_DATAFLOWS


def _refuse_twice(names: Sequence[str], what: str) -> None:
    if not names:
        raise InputError(f"{what}: given none; allowed one or more")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f'{what}: "{twice}" is given twice; allowed different names')


def why(
    workload: Workload,
    machine: Machine,
    dataflow: str | None = None,
    tiling: Tiling | None = None,
    objective: str = "latency",
    progress: Progress | None = None,
    *,
    kernels: str | None = None,
) -> WhyResult:
    """The result, where its critical path goes, and what twice as much of each resource would change.

    ``kernels`` as in :func:`simulate`; library kernels have no critical path.
    """
    spec = _cores(machine)
    layer, said = layer_on(workload, spec)
    how = _layer_kernels(spec, kernels, dataflow=dataflow, tiling=tiling)
    if not how.is_engine:
        check_objective(objective)
        found = why_library_layer(layer, spec, how)
        return replace(found, result=_saying(found.result, said))
    said = "; ".join(filter(None, (said, how.note)))
    flow = dataflow_for(layer, dataflow, spec)
    piece, result = _simulate(layer, spec, flow, dict(tiling or {}), objective, progress)
    if said:
        result = replace(result, assumptions=(said, *result.assumptions))
    return WhyResult(
        result=result,
        attribution=_attribution(piece, spec, flow, result.tiling),
        what_ifs=what_ifs(flow, piece, spec, result.tiling, check_objective(objective), cuts=pieces(layer, spec, flow)),
    )


def _attribution(layer: JobLayer, spec: MachineSpec, flow: Dataflow, tiling: Tiling) -> Attribution | None:
    costs = flow.costs(layer, spec)
    total: Attribution | None = None
    for phase in flow.phases:
        program = build_phase(phase, costs, phase_tiling(phase, tiling))
        part = attribute(program, record_path(program))
        if part is None:
            return None
        total = part if total is None else total + part
    return total


def pareto(
    workload: Workload | OperatorStream,
    machine: Machine,
    dataflows: Sequence[str] | None = None,
    *,
    fuse: bool = True,
    keep_formats: Sequence[str] = (),
    progress: Progress | None = None,
) -> MappingFront:
    """Latency against energy: what no other choice of mappings of ``workload`` on ``machine`` beats in both.

    A layer or an operator: over its dataflows (all by default) and tilings. A network: over a mapping of its own for
    every operator, attention with ``dataflows`` (those that networks try by default), run one after the other without
    weights loaded ahead; in the machine's own number format where it has no rate for that of the network (and that is
    none of ``keep_formats``). ``proof`` of the result says within what it is proven. Raises InputError for bad names,
    and for an operator that no mapping fits, with its place.
    """
    spec, thing = _cores(machine), _layer_or_network(workload)
    if not isinstance(thing, OperatorStream):
        flows = dataflows_for([thing], list(dataflows or ()), spec)[thing]
        return workload_front(thing.name, [NamedOperator(thing.name, "", thing, flows)], spec, progress=progress)
    thing, said = _in_own_format(thing, spec, keep_formats)
    named = _network_flows(dataflows)
    operators = [
        NamedOperator(
            job.name,
            job.operators[0].path,
            job.layer,
            flows_of(job.layer, spec, named),
        )
        for job in jobs_on(thing, spec, fuse=fuse)
    ]
    front = workload_front(thing.name, operators, spec, progress=progress)
    return replace(front, assumptions=(said, *front.assumptions)) if said else front


def trace(
    workload: Workload,
    machine: Machine,
    dataflow: str | None,
    tiling: Tiling,
    max_commands: int = 4000,
    *,
    objective: str = "latency",
) -> TraceWindow:
    """The commands of the beginning of a run, for a timeline. ``tiling`` must be complete.

    ``objective`` decides how a product is cut for several cores, as in :func:`simulate`.
    """
    flow, piece, spec, tiling = _given_mapping(workload, machine, dataflow, tiling, objective)
    return trace_mapping(flow, piece, spec, tiling, max_commands=max_commands)


def activity(
    workload: Workload, machine: Machine, dataflow: str | None, tiling: Tiling, *, objective: str = "latency"
) -> NetworkActivity:
    """How busy the engines are over a whole run, with DRAM traffic and what the buffer holds. ``tiling`` must be
    complete; ``objective`` as in :func:`trace`.
    """
    flow, piece, spec, tiling = _given_mapping(workload, machine, dataflow, tiling, objective)
    costs = flow.costs(piece, spec)
    programs = [build_phase(phase, costs, phase_tiling(phase, tiling)) for phase in flow.phases]
    cycles = sum(run_exactly(program).cycles for program in programs)
    return network_activity([OperatorRun(cycles, lambda: programs)], spec)


def _given_mapping(
    workload: Workload, machine: Machine, dataflow: str | None, tiling: Tiling, objective: str
) -> tuple[Dataflow, JobLayer, MachineSpec, Tiling]:
    """The dataflow, the layer cut for the cores, the machine, the tiling; raises InputError for an incomplete one."""
    spec = _cores(machine)
    layer, _ = layer_on(workload, spec)
    flow = dataflow_for(layer, dataflow, spec)
    layer, tiling = mapping.plain_mapping(flow, layer, tiling)
    missing = [parameter.name for parameter in flow.parameters if parameter.name not in tiling]
    if missing:
        raise InputError(f"tiling: a trace needs every tile of {flow.name}; missing: {', '.join(missing)}")
    piece, _ = _run_best_piece(layer, spec, flow, tiling, check_objective(objective))
    return flow, piece, spec, tiling


def search_methods() -> dict[str, str]:
    """The ways to search a tiling, with a line on each."""
    return {name: get_method(name).summary for name in method_names()}


def search_tiling(
    workload: Workload,
    machine: Machine,
    dataflow: str | None = None,
    method: str | None = None,
    objective: str = "latency",
    *,
    seed: int = 0,
    budget: int | None = None,
    tiling: Tiling | None = None,
    progress: Progress | None = None,
) -> SearchOutcome:
    """The best tiling that a search method finds: exact figures, the gap to what is proven, and the curve to it.

    ``method`` is one of :func:`search_methods` (None: the usual one). The same ``seed`` gives the same outcome.
    ``budget`` is the most exact runs (None: all that it takes for ``exhaustive``, 5 % of the tilings that fit on chip
    for the others, at least eight a phase). ``tiling`` holds some tiles. Raises InputError for bad names, tiles or
    budgets and for a method whose library is not installed, MappingError when no mapping fits on chip.
    """
    spec = _cores(machine)
    layer, _ = layer_on(workload, spec)
    flow = dataflow_for(layer, dataflow, spec)
    return _search_pieces(layer, spec, flow, method, objective, seed, budget, dict(tiling or {}), progress)[1]


def search_tilings(
    workloads: Workload | Sequence[Workload],
    machine: Machine,
    dataflows: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    objective: str = "latency",
    *,
    seeds: Sequence[int] = (0,),
    budget: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Every workload with every dataflow, method and seed, as a frame: one row each, columns as in ``SearchOutcome``.

    ``infeasible`` holds the reason where nothing fits on chip (and nothing else is known); it is empty elsewhere.
    Parameters as in :func:`search_tiling`; all dataflows and the usual method by default.
    """
    import pandas as pd

    given = [workloads] if isinstance(workloads, str | JobLayer) else list(workloads)
    spec = _cores(machine)
    layers = [layer_on(workload, spec)[0] for workload in given]
    flows = dataflows_for(layers, list(dataflows or ()), spec)
    pairs = [(layer, flow.name) for layer in layers for flow in flows[layer]]
    jobs = list(product(pairs, methods or (get_method(None).name,), seeds))
    rows: list[dict[str, object]] = []
    for at, ((layer, flow), method, seed) in enumerate(jobs):
        try:
            found = search_tiling(
                layer, spec, flow, method, objective, seed=seed, budget=budget, progress=part(progress, at, len(jobs))
            )
            rows.append({**found.to_row(), "infeasible": ""})
        except MappingError as error:
            place = {"workload": layer.name, "machine": spec.name, "dataflow": flow, "method": method}
            rows.append({**place, "objective": objective, "seed": seed, "infeasible": str(error)})
    return pd.DataFrame(rows)


def simulate_network(
    network: Network,
    machine: Machine,
    objective: str = "latency",
    *,
    weights: str | None = None,
    activations: str | None = None,
    kv_cache: str | None = None,
    weight_density: float | None = None,
    prefetch: bool = True,
    fuse: bool = True,
    residency: bool | None = None,
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    keep_mappings: bool = True,
    inputs: Any = None,
    kernels: str | None = None,
    launch: str | None = None,
    progress: Progress | None = None,
    n_processes: int | None = None,
) -> NetworkResult:
    """A whole network, every distinct operator at its own best mapping: exact cycles, energy and traffic.

    ``network``: what :func:`load_network` takes, a stream, or a PyTorch module with the ``inputs`` that it is called
    with (a tensor, a list, or a mapping by name). ``weights``, ``activations`` and ``kv_cache`` are number formats
    (None: as the network has them, or the machine's own where it has no rate for that, which the assumptions say).
    ``weight_density``: the share of non-zero values in the weights that multiply (None: as the network has them), for
    machines with ``matrix.sparsity``.
    ``prefetch``: the next operator's first weights are loaded under the current one. ``fuse``: element-wise operators
    are done behind the product that they follow. ``residency``: whether a plan keeps tensors on chip between operators
    and weights between inferences (None: as the machine says; ``result.residency`` is the plan). Of
    ``attention_dataflows`` each attention takes its best; dataflows of other operators that are among them are taken by
    these, which otherwise have the machine's usual ones.
    ``keep_mappings``: best mappings are read from and kept in the cache folder (``TILEWRIGHT_CACHE``).
    ``kernels``: on a GPU library kernels, one operator at a time (``eager``, what None means) or as a compiler fuses
    them (``fused``), or the ``engine``'s schedules, which alone have mappings, fusion, prefetch and residency;
    ``launch``: library kernels as one CUDA ``graph``, or by the ``host``.
    ``n_processes``: that search mappings at the same time, where that takes longer than a moment (None:
    ``TILEWRIGHT_JOBS``, or as many as there are cores); results are the same.

    Raises InputError for bad names and formats, and for an operator that no mapping fits, with its place.
    """
    spec, goal = _machine(machine), check_objective(objective)
    how = kernel_options(spec, kernels, launch)
    _refuse_mappings(how, prefetch=prefetch, fuse=fuse, residency=residency, dataflows=attention_dataflows)
    stream = network_stream(network, inputs).with_formats(weights=weights, activations=activations, cache=kv_cache)
    if weight_density is not None:
        if spec.matrix.sparsity is None:
            raise InputError(
                f"weight_density: given {weight_density:g}; {spec.name} leaves no zeros out (no matrix.sparsity); "
                "allowed none"
            )
        stream = stream.with_weight_density(weight_density)
    stream, note = _in_own_format(stream, spec, [weights, activations, kv_cache])
    result = simulate_stream(
        stream,
        spec,
        objective=goal,
        prefetch=prefetch,
        fuse=fuse,
        residency=residency,
        attention_dataflows=_network_flows(attention_dataflows),
        cache=MappingCache() if keep_mappings else ForgetfulCache(),
        progress=progress,
        kernels=how,
        n_processes=n_processes,
    )
    return _noting(result, note)


def simulate_pipeline(
    network: Network,
    machine: Machine,
    n_stages: int | None = None,
    n_images: int = 16,
    *,
    weights: str | None = None,
    activations: str | None = None,
    kv_cache: str | None = None,
    prefetch: bool = True,
    fuse: bool = True,
    residency: bool | None = None,
    beside: Sequence[Machine] = (),
    hand_over: str = "maps",
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    keep_mappings: bool = True,
    inputs: Any = None,
    progress: Progress | None = None,
) -> PipelineResult:
    """A network's layers as a pipeline of stages over the cores, ``n_images`` streaming through, exact to the cycle.

    ``n_stages``: how many stages (None: as many as give the shortest interval between images). Operators in a stage
    run one after the other on its cores; all stages run at once, in one simulation. ``residency``: whether weights and
    maps stay on chip (False: weights are read again for each image). ``beside``: machines of unlike cores on the same
    DRAM, each of which may do a stage (an NPU with a DSP beside it). ``hand_over``: "maps" (whole, when their layer has
    ended) or "rows" (as soon as they are made, through line buffers between stages). Other parameters as in
    :func:`simulate_network`.

    Raises InputError for a number of stages that the layers or the cores do not allow, and as that function does.
    """
    spec = _machine(machine)
    stream = network_stream(network, inputs).with_formats(weights=weights, activations=activations, cache=kv_cache)
    stream, note = _in_own_format(stream, spec, [weights, activations, kv_cache])
    result = run_pipeline(
        stream,
        _cores(spec),
        n_stages=n_stages,
        n_images=n_images,
        prefetch=prefetch,
        fuse=fuse,
        residency=residency,
        beside=[*other_groups(spec, reaching=False), *(_machine(one) for one in beside)],
        hand_over=hand_over,
        attention_dataflows=_network_flows(attention_dataflows),
        cache=MappingCache() if keep_mappings else ForgetfulCache(),
        progress=progress,
    )
    return replace(result, assumptions=(note, *result.assumptions)) if note else result


def _refuse_mappings(
    how: KernelOptions, *, prefetch: bool, fuse: bool, residency: bool | None, dataflows: Sequence[str]
) -> None:
    """Raise InputError where something is asked of library kernels that only the engine's schedules have."""
    if how.is_engine:
        return
    wrong = {"prefetch": not prefetch, "fuse": not fuse, "residency": bool(residency)}
    wrong["dataflow"] = tuple(dataflows) != tuple(ATTENTION_DATAFLOWS)
    for name, is_given in wrong.items():
        if is_given:
            raise InputError(
                f"{name}: is for the engine's schedules; library kernels ({how.kernels}) are run here; "
                "allowed with kernels engine"
            )


def _noting(result: NetworkResult, note: str) -> NetworkResult:
    """``result`` with ``note``, where there is one, as its first assumption."""
    return replace(result, assumptions=(note, *result.assumptions)) if note else result


def _in_own_format(
    stream: OperatorStream, machine: MachineSpec, asked: Sequence[str | None]
) -> tuple[OperatorStream, str]:
    """The stream in formats that the machine multiplies, but for those that were asked for."""
    rated = tuple(machine.matrix.multiplies_per_pe_per_cycle)
    return with_rated_formats(stream, rated, keep=[one for one in asked if one])


def why_network(
    network: Network,
    machine: Machine,
    objective: str = "latency",
    *,
    prefetch: bool = True,
    fuse: bool = True,
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    keep_mappings: bool = True,
    inputs: Any = None,
    keep_formats: Sequence[str] = (),
    kernels: str | None = None,
    launch: str | None = None,
    progress: Progress | None = None,
) -> NetworkWhyResult:
    """A whole network, and exactly what twice as much of each resource would change, every operator mapped anew.

    Parameters and errors as in :func:`simulate_network`; other number formats are given with the stream.
    """
    spec, goal = _machine(machine), check_objective(objective)
    how = kernel_options(spec, kernels, launch)
    _refuse_mappings(how, prefetch=prefetch, fuse=fuse, residency=None, dataflows=attention_dataflows)
    stream, said = _in_own_format(network_stream(network, inputs), spec, keep_formats)
    reasons = why_stream(
        stream,
        spec,
        objective=goal,
        prefetch=prefetch,
        fuse=fuse,
        attention_dataflows=_network_flows(attention_dataflows),
        cache=MappingCache() if keep_mappings else ForgetfulCache(),
        progress=progress,
        kernels=how,
    )
    return replace(reasons, result=_noting(reasons.result, said))


def _machine(machine: Machine) -> MachineSpec:
    return load_machine(machine) if isinstance(machine, str) else machine


def _cores(machine: Machine) -> MachineSpec:
    """As :func:`_machine`, of a machine with unlike groups of cores the main one: what asks about one group."""
    return main_alone(_machine(machine))
