"""The best design of each workload, run once more for its timeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.reports.sweep.case import SweepCase
from tilewright.search.design_figures import base_values, with_leakage
from tilewright.workloads.stream import OperatorStream

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.result import SimulationResult
    from tilewright.sim.trace import TraceWindow

__all__ = ["BestPoint", "best_points"]

_TRACED_COMMANDS = 2500

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BestPoint:
    """The best row of a workload and, unless it cannot be run any more (``fault`` says why), its run."""

    workload: str
    row: Mapping[str, Any]
    machine: MachineSpec | None = None
    result: SimulationResult | None = None
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
    from tilewright.search import api

    sweep = case.opened.sweep
    layer = next(layer for layer in sweep.layers if layer.name == workload)
    if isinstance(layer, OperatorStream):
        raise InputError("a whole network has no single timeline; tilewright simulate shows it operator by operator")
    design = with_leakage(sweep.area, base_values(sweep.machine), {path: row[path] for path in sweep.paths})
    machine = sweep.machine.with_(**design)
    result = api.simulate(layer, machine, row["dataflow"], tiling=row["tiling"], objective=sweep.objective)
    trace = api.trace(layer, machine, row["dataflow"], result.tiling, max_commands=_TRACED_COMMANDS)
    fault = ""
    if result.cycles != row["cycles"]:
        fault = f"the store says {row['cycles']:,} cycles and this version {result.cycles:,}: run the sweep again"
    return BestPoint(workload=workload, row=row, machine=machine, result=result, trace=trace, fault=fault)
