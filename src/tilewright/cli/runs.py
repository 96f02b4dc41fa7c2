"""``tilewright simulate`` for a run over time: ``--run FILE``, or a network's name with the options of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.cli.inputs import runs_engine
from tilewright.cli.options import Objective
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation

if TYPE_CHECKING:
    from rich.table import Table

    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.runs.result import RunResult

__all__ = ["RunCall", "show_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCall:
    """What is asked for: ``source`` is a file or a network's name with options."""

    source: str
    machine: MachineSpec
    objective: Objective
    weights: str | None
    activations: str | None
    kv_cache: str | None
    prefetch: bool
    fuse: bool
    residency: bool | None
    keep_mappings: bool
    dataflow: str | None
    kernels: str | None
    launch: str | None
    command: str


def show_run(outputs: Outputs, call: RunCall) -> None:
    """Simulate, show and write what ``outputs`` asks for; raises InputError."""
    from tilewright.workloads.runs.load import load_run

    described = load_run(call.source)
    if runs_engine([call.machine], call.kernels):
        announce_compilation()

    from tilewright.reports.origin import Origin
    from tilewright.reports.runs.table import phases_table, run_table
    from tilewright.search.api import ATTENTION_DATAFLOWS
    from tilewright.search.runs.run import simulate_run

    with ProgressBar() as progress:
        result = simulate_run(
            described,
            call.machine,
            call.objective,
            weights=call.weights,
            activations=call.activations,
            kv_cache=call.kv_cache,
            prefetch=call.prefetch,
            fuse=call.fuse,
            residency=call.residency,
            keep_mappings=call.keep_mappings,
            attention_dataflows=ATTENTION_DATAFLOWS if call.dataflow is None else (call.dataflow,),
            kernels=call.kernels,
            launch=call.launch,
            progress=progress,
        )
    if outputs.speaks:
        outputs.show(phases_table(outputs.console(), result), *_own_tables(outputs, result), run_table(result))
    origin = Origin(machines=(call.machine,), facts={"objective": call.objective})
    outputs.write_json(result.to_dict(), origin)
    outputs.write_csv(result.rows(), origin)
    if outputs.report is not None:
        note(f"wrote {_written(outputs.report, result, call.command)}")


def _written(folder: str, result: RunResult, command: str) -> Path:
    """The report's page."""
    from tilewright.reports.runs.diffusion_page import write_diffusion_report
    from tilewright.reports.runs.page import write_run_report
    from tilewright.sim.runs.diffusion import DiffusionResult

    if isinstance(result, DiffusionResult):
        return write_diffusion_report(folder, result, command=command)
    return write_run_report(folder, result, command=command)


def _own_tables(outputs: Outputs, result: RunResult) -> list[Table]:
    """Tables that only this kind of run has."""
    from tilewright.reports.runs.diffusion import steps_table
    from tilewright.reports.runs.serve import serve_table
    from tilewright.sim.runs.diffusion import DiffusionResult
    from tilewright.sim.serving.result import ServeResult

    if isinstance(result, ServeResult):
        return [serve_table(outputs.console(), result)]
    return [steps_table(outputs.console(), result)] if isinstance(result, DiffusionResult) else []
