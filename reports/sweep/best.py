"""The best design of each workload, run once more for its timeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.progress import Progress
from tilewright.reports.quantity import bytes_text, cycles_text, percent_text, seconds_text, tiling_text
from tilewright.reports.sweep.case import SweepCase
from tilewright.search.gpu.kernel_words import LIBRARY_KERNELS
from tilewright.search.sweep.design_figures import base_values, with_leakage
from tilewright.sim.engine.trace import TraceCommand, TraceWindow
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.result import SimulationResult
    from tilewright.workloads.attention import AttentionLayer

__all__ = ["BestPoint", "best_points"]

_TRACED_COMMANDS = 2500


@dataclass(frozen=True, slots=True, kw_only=True)
class BestPoint:
    """The best row of a workload and, unless it cannot be run any more (``fault`` says why), what its run shows.

    ``energy_pj`` is by component, ``summary`` and ``subtitle`` tell the run in words; ``is_network``: the lanes of
    ``trace`` are kinds of operators, else engines.
    """

    workload: str
    row: Mapping[str, Any]
    is_network: bool = False
    energy_pj: Mapping[str, float] = field(default_factory=dict)
    summary: str = ""
    subtitle: str = ""
    trace: TraceWindow | None = None
    fault: str = ""


def best_points(case: SweepCase, progress: Progress | None = None) -> tuple[BestPoint, ...]:
    """The best point of each workload within the sweep's limits, with the mapping that the store holds."""
    found = []
    for at, (workload, row) in enumerate(case.best.by_workload.items()):
        if progress is not None:
            progress(at, len(case.best.by_workload), f"timeline of {workload}")
        try:
            found.append(_run(case, workload, row))
        except InputError as error:
            found.append(BestPoint(workload=workload, row=row, fault=str(error).splitlines()[0]))
    return tuple(found)


def _run(case: SweepCase, workload: str, row: Mapping[str, Any]) -> BestPoint:
    sweep = case.opened.sweep
    layer = next(layer for layer in sweep.layers if layer.name == workload)
    design = with_leakage(sweep.area, base_values(sweep.machine), {path: row[path] for path in sweep.paths})
    machine = sweep.machine.with_(**design)
    if isinstance(layer, OperatorStream):
        return _network(layer, machine, sweep.objective, row)
    return _layer(layer, machine, sweep.objective, row)


def _layer(layer: AttentionLayer, machine: MachineSpec, objective: str, row: Mapping[str, Any]) -> BestPoint:
    from tilewright.search import api

    is_library = row["dataflow"] in LIBRARY_KERNELS
    if is_library:
        result = api.simulate(layer, machine, objective=objective, kernels=row["dataflow"])
    else:
        result = api.simulate(layer, machine, row["dataflow"], tiling=row["tiling"], objective=objective)
    return BestPoint(
        workload=layer.name,
        row=row,
        energy_pj=result.energy_by_component,
        summary=(
            f"matrix unit busy {percent_text(result.matrix_utilization)}, vector unit "
            f"{percent_text(result.vector_utilization)}, DRAM {percent_text(result.dram_utilization)}; "
            f"{bytes_text(result.dram_bytes)} of DRAM traffic; {result.bound_ratio:.3f} times the lower bound"
        ),
        subtitle=f"{tiling_text(result.tiling)}: {cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}",
        trace=_kernel_trace(result, machine)
        if is_library
        else api.trace(layer, machine, row["dataflow"], result.tiling, max_commands=_TRACED_COMMANDS),
        fault=_difference(row, result.cycles),
    )


def _network(network: OperatorStream, machine: MachineSpec, objective: str, row: Mapping[str, Any]) -> BestPoint:
    from tilewright.reports.network_case import NetworkCase
    from tilewright.reports.network_page import operator_trace
    from tilewright.search import api

    if row["dataflow"] in LIBRARY_KERNELS:
        result = api.simulate_network(network, machine, objective, kernels=row["dataflow"])
    else:
        engine = "engine" if machine.gpu is not None else None
        flows = (row["dataflow"],)
        result = api.simulate_network(network, machine, objective, attention_dataflows=flows, kernels=engine)
    case = NetworkCase(result=result, machine=machine, stream=network, objective=objective)
    return BestPoint(
        workload=network.name,
        row=row,
        is_network=True,
        energy_pj=result.energy_by_component,
        summary=(
            f"{len(result.operators):,} operators one after the other, a lane for each kind; DRAM busy "
            f"{percent_text(case.dram_utilization)}; {bytes_text(result.dram_bytes)} of DRAM traffic; "
            f"{case.bound_ratio:.3f} times the lower bound"
        ),
        subtitle=f"{cycles_text(result.cycles)} cycles, {seconds_text(result.seconds)}",
        trace=operator_trace(case),
        fault=_difference(row, result.cycles),
    )


def _kernel_trace(result: SimulationResult, machine: MachineSpec) -> TraceWindow:
    """A library kernel as one stretch: what it does inside is its model's, not a run's."""
    run = TraceCommand(
        start=0, end=result.cycles, engine=0, label=result.dataflow, kind=result.dataflow, n_bytes=result.dram_bytes
    )
    return TraceWindow(
        commands=(run,),
        engines=("kernel",),
        clock_ghz=machine.clock_ghz,
        total_cycles=result.cycles,
        complete=True,
    )


def _difference(row: Mapping[str, Any], n_cycles: int) -> str:
    if n_cycles == row["cycles"]:
        return ""
    return f"the store says {row['cycles']:,} cycles and this version {n_cycles:,}: run the sweep again"
