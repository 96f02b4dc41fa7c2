"""``tilewright search --over steps``: which blocks of a network run at which step of a diffusion run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.cli.inputs import machine_of, runs_engine
from tilewright.cli.options import objective_of
from tilewright.cli.outputs import note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.cli.search_space import SPACES, NetworkOptions, SearchCall, SearchSpace, network_of
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.search.steps.result import StepsResult

__all__ = ["StepsOptions", "run"]

_HOW = (
    "this search needs to know how alike what each block makes is from step to step: a table in JSON or CSV "
    "(docs/diffusion.md); tilewright.measure_step_similarities makes one from a PyTorch module"
)


def _budget(texts: Sequence[str]) -> tuple[str, ...]:
    from tilewright.search.steps.budget import parse_budget

    parse_budget(texts)
    return tuple(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsOptions(NetworkOptions):
    """Options of ``--over steps``. ``sensitivity``: the table of similarities."""

    budget: tuple[str, ...]
    sensitivity: str | None = None
    method: str | None = None
    objective: str = "latency"
    pareto: bool = False
    report: str | None = None


def run(call: SearchCall[StepsOptions]) -> None:
    """Search, show and write; raises InputError."""
    options = call.options
    if options.sensitivity is None:
        raise InputError(f"--sensitivity: missing; {_HOW}")
    machine = machine_of(options.machine, options.set, kernels=None)
    objective = objective_of(options.objective)

    from tilewright.search.steps.run import search_steps

    stream = network_of(call)
    if runs_engine([machine], None):
        announce_compilation()
    with ProgressBar() as progress:
        result = search_steps(
            stream,
            machine,
            options.sensitivity,
            options.budget,
            method=options.method,
            objective=objective,
            curve=options.pareto,
            progress=progress,
        )
    _show(call, result)
    from tilewright.reports.origin import Origin, network_facts

    facts = {"budget": result.budget, "objective": objective}
    origin = Origin(machines=(machine,), workloads=(network_facts(stream),), facts=facts)
    call.outputs.write_json(result.to_dict(), origin)
    call.outputs.write_csv(result.rows(), origin)
    if call.outputs.report is not None:
        from tilewright.reports.runs.diffusion_page import write_diffusion_report

        note(f"wrote {write_diffusion_report(call.outputs.report, result.run, command=call.command)}")


def _show(call: SearchCall[StepsOptions], result: StepsResult) -> None:
    if not call.outputs.speaks:
        return
    from tilewright.reports.runs.diffusion import choice_figures, choice_table, curve_table, steps_table

    console = call.outputs.console()
    curve = curve_table(console, result) if result.curve else None
    parts = (choice_table(console, result), steps_table(console, result.run), curve, choice_figures(result))
    call.outputs.show(*parts)


SPACES.register("steps", SearchSpace(name="steps", options=StepsOptions, run=run, budget=_budget), rank=7)
