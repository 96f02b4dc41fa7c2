"""Gathering what a page explains a result with: the reasons and a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tilewright.reports.case import ReportCase

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.jobs import JobLayer
    from tilewright.sim.result import SimulationResult, WhyResult

__all__ = ["explained"]

_TRACED_COMMANDS = 4000


def explained(
    result: SimulationResult,
    layer: JobLayer,
    machine: MachineSpec,
    *,
    objective: str,
    rivals: tuple[SimulationResult, ...] = (),
    infeasible: Mapping[str, str] | None = None,
    why: WhyResult | None = None,
    command: str = "",
) -> ReportCase:
    """``result`` with its reasons (``why``, or found here) and a trace of its run; library kernels have none."""
    import tilewright.search.api as api

    if result.kernels:
        return ReportCase(
            result=result,
            objective=objective,
            rivals=rivals,
            infeasible=infeasible or {},
            why=why or api.why(layer, machine, objective=objective, kernels=result.kernels),
            machine=machine,
            command=command,
        )
    if why is None:
        why = api.why(layer, machine, result.dataflow, tiling=result.tiling, objective=objective)
    trace = api.trace(
        layer, machine, result.dataflow, result.tiling, max_commands=_TRACED_COMMANDS, objective=objective
    )
    activity = api.activity(layer, machine, result.dataflow, result.tiling, objective=objective)
    return ReportCase(
        result=result,
        objective=objective,
        rivals=rivals,
        infeasible=infeasible or {},
        why=why,
        trace=trace,
        activity=activity,
        machine=machine,
        command=command,
    )
