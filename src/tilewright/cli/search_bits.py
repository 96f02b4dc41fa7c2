"""``tilewright search --over bits``: the number formats of a network's layers within budgets on a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.cli.inputs import machine_of
from tilewright.cli.options import objective_of
from tilewright.cli.outputs import note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.cli.search_space import SPACES, NetworkOptions, SearchCall, SearchSpace, network_of
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.search.bits.choose import BitsResult
    from tilewright.search.bits.explain import Explanation
    from tilewright.search.bits.sensitivity import Sensitivity
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["BitsOptions", "run", "sensitivity_of"]

_HOW = (
    "this search needs to know what each format of each layer adds to the loss: a JSON file such as "
    "examples/sensitivity-resnet-18.json; tilewright.measure_sensitivity makes one from a trained PyTorch module"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsOptions(NetworkOptions):
    """Options of ``--over bits``; ``budget``: amounts of costs."""

    objective: str = "latency"
    budget: tuple[str, ...] = ()
    sensitivity: str | None = None
    pareto: bool = False
    report: str | None = None


def sensitivity_of(path: str | None) -> Sensitivity:
    """The table of ``--sensitivity``; raises InputError, with how to get one, where it is missing."""
    if path is None:
        raise InputError(f"--sensitivity: missing; {_HOW}")
    from tilewright.search.bits.sensitivity import load_sensitivity

    return load_sensitivity(path)


def run(call: SearchCall[BitsOptions]) -> None:
    """Search, show the formats and write what was asked for; raises InputError."""
    options = call.options
    sensitivity = sensitivity_of(options.sensitivity)
    if not options.budget:
        raise InputError("--budget: missing; allowed for example latency=0.6x, size=5.5MB, energy=2mJ")
    machine = machine_of(options.machine, options.set)
    objective = objective_of(options.objective)

    from tilewright.search.bits.budget import parse_budgets
    from tilewright.search.bits.choose import search_bits
    from tilewright.search.bits.costs import SimulationSettings

    budgets = parse_budgets(options.budget)
    stream = network_of(call)
    announce_compilation()
    with ProgressBar() as progress:
        result = search_bits(
            stream,
            machine,
            sensitivity,
            options.budget,
            curve=budgets[0].kind if options.pareto else None,
            settings=SimulationSettings(objective=objective),
            progress=progress,
        )
    _show(call, result)
    from tilewright.reports.origin import Origin, network_facts

    facts = {"budget": ", ".join(one.text for one in budgets), "objective": objective}
    origin = Origin(machines=(machine,), workloads=(network_facts(stream),), facts=facts)
    call.outputs.write_json(result.to_dict(), origin)
    call.outputs.write_csv(result.rows(), origin)
    if call.outputs.report is not None:
        from tilewright.reports.bits.page import write_bits_report

        explanation = _explanation(result, stream, sensitivity)
        page = write_bits_report(call.outputs.report, result, explanation=explanation, command=call.command)
        note(f"wrote {page}")


def _explanation(result: BitsResult, stream: OperatorStream, sensitivity: Sensitivity) -> Explanation | None:
    """Which parts cost the most per bit, from sums of the table; None where there is too little to choose."""
    from tilewright.search.bits.explain import FEWEST_SAMPLES, explain, layer_roles

    if result.problem.n_assignments < FEWEST_SAMPLES:
        return None
    return explain(result.problem, layer_roles(stream, sensitivity), result.problem.sensitivity)


def _show(call: SearchCall[BitsOptions], result: BitsResult) -> None:
    from tilewright.reports.bits.table import budget_table, layers_table, points_table

    if call.outputs.speaks:
        console = call.outputs.console()
        call.outputs.show(layers_table(console, result), points_table(console, result), budget_table(console, result))


SPACES.register("bits", SearchSpace(name="bits", options=BitsOptions, run=run), rank=3)
