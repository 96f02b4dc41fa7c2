"""Layers, operators and whole networks on several machines, each at its best dataflow and mappings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.dram import bytes_per_cycle, port_names
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress, part
from tilewright.search.gpu.kernel_options import KernelOptions, kernel_options
from tilewright.search.gpu.layer import library_layer
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, simulate_stream
from tilewright.search.objective import Objective, score
from tilewright.search.workload import able, layer_on
from tilewright.sim.jobs import JobLayer
from tilewright.sim.lowering.mapping import Dataflow
from tilewright.sim.machine_comparison import MachineComparison, MachineRun
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.result import SimulationResult
from tilewright.workloads.rated_formats import with_rated_formats
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["compare_machines"]


#: Runs one layer with one dataflow on one machine at its best tiling.
LayerRunner = Callable[[JobLayer, MachineSpec, Dataflow], SimulationResult]


def compare_machines(
    workloads: Sequence[JobLayer | OperatorStream],
    machines: Sequence[MachineSpec],
    *,
    run_layer: LayerRunner,
    dataflows: dict[JobLayer, tuple[Dataflow, ...]],
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    objective: Objective = "latency",
    keep_formats: Sequence[str] = (),
    named: bool = True,
    cache: MappingCache | None = None,
    kernels: str | None = None,
    launch: str | None = None,
    progress: Progress | None = None,
) -> MachineComparison:
    """Every workload on every machine. What cannot run on one of them is reported with the reason.

    A network in a floating-point format that a machine does not multiply runs there in the machine's own, as the
    result's assumptions say; formats in ``keep_formats``, which somebody asked for, stay.

    ``run_layer`` searches and runs a layer; ``dataflows`` are those of each layer, of which the best one is taken;
    where nobody ``named`` them, a machine that is made for one of them runs that. ``kernels`` and ``launch``: what GPUs
    among the machines run; the others always have the engine. Where dataflows are named, a GPU has it, too.
    """
    if all(machine.gpu is None for machine in machines):
        kernel_options(machines[0], kernels, launch)  # refuses what none of them has
    runs: list[MachineRun] = []
    infeasible: dict[tuple[str, str], str] = {}
    pairs = [(workload, machine) for workload in workloads for machine in machines]
    for at, (workload, machine) in enumerate(pairs):
        told = part(progress, at, len(pairs), instead=f"{workload.name} on {machine.name}")
        try:
            how = _kernels_of(machine, kernels, launch, named=named)
            if isinstance(workload, OperatorStream):
                rated = tuple(machine.matrix.multiplies_per_pe_per_cycle)
                stream, said = with_rated_formats(workload, rated, keep=keep_formats)
                result = simulate_stream(
                    stream,
                    machine,
                    objective=objective,
                    attention_dataflows=attention_dataflows,
                    cache=cache,
                    progress=told,
                    kernels=how,
                )
                notes = (said, *result.assumptions) if said else result.assumptions
                runs.append(_network_run(replace(result, assumptions=notes), machine))
            elif not how.is_engine:
                runs.append(_run_of(library_layer(layer_on(workload, machine)[0], machine, how)))
            else:
                flows = able(dataflows[workload], workload, machine)
                native = tuple(flow for flow in flows if flow.is_native)
                flows = native if native and not named else flows
                runs.append(_layer_run(workload, machine, flows, run_layer, objective))
                if told is not None:
                    told(1, 1, "")
        except InputError as error:  # also a number format that this machine cannot multiply
            infeasible[workload.name, machine.name] = str(error)
    return MachineComparison(
        objective=objective, machines=tuple(m.name for m in machines), runs=tuple(runs), infeasible=infeasible
    )


def _layer_run(
    layer: JobLayer, machine: MachineSpec, flows: Sequence[Dataflow], run_layer: LayerRunner, objective: Objective
) -> MachineRun:
    found: list[SimulationResult] = []
    fault: MappingError | None = None
    for flow in flows:
        try:
            found.append(run_layer(layer, machine, flow))
        except MappingError as error:
            fault = error
    if not found:
        assert fault is not None
        raise fault
    return _run_of(min(found, key=lambda run: score(objective, run.cycles, run.energy_pj)))


def _kernels_of(machine: MachineSpec, kernels: str | None, launch: str | None, *, named: bool) -> KernelOptions:
    """What ``machine`` runs: kernels are asked of GPUs alone."""
    if machine.gpu is None:
        return kernel_options(machine)
    return kernel_options(machine, "engine" if named and kernels is None else kernels, launch)


def _run_of(result: SimulationResult) -> MachineRun:
    return MachineRun(
        workload=result.workload,
        machine=result.machine,
        dataflow=result.dataflow,
        figures=result.figures,
        lower_bound_cycles=result.lower_bound_cycles,
        dram_utilization=result.dram_utilization,
        array_use=result.lower_bound.matrix_cycles / result.cycles,
        result=result,
    )


def _network_run(result: NetworkResult, machine: MachineSpec) -> MachineRun:
    cycles = max(1, result.cycles)
    operators = result.operators
    rate = float(bytes_per_cycle(machine)) * len(port_names(machine))
    return MachineRun(
        workload=result.network,
        machine=machine.name,
        dataflow="",
        figures=result.figures,
        lower_bound_cycles=result.lower_bound_cycles,
        dram_utilization=result.dram_bytes / (rate * cycles),
        array_use=sum(o.lower_bound.matrix_cycles for o in operators) / cycles,
        result=result,
    )
