"""``tilewright search --over fusion``: which operators of a network run together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.cli.inputs import machine_of
from tilewright.cli.once import check_parts
from tilewright.cli.options import check_seed
from tilewright.cli.outputs import note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.cli.search_space import SPACES, NetworkOptions, SearchCall, SearchSpace, count, network_of
from tilewright.errors import InputError, unknown

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec

__all__ = ["FusionOptions", "bytes_of", "run"]

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "kb": 10**3, "mb": 10**6}
_MOST_BYTES = 2**40  # of a buffer of a machine, too
_SIZE = re.compile(r"(\d{1,15})\s*([a-z]*)")


def bytes_of(text: str) -> int:
    """Bytes that ``256KiB``, ``1MiB``, ``200kB`` or ``262144`` mean; raises InputError for another form."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS or not int(found[1]):
        raise InputError(f'--buffer: not a size; given "{text}"; allowed for example 256KiB, 1MiB, 200kB, 262144')
    n_bytes = int(found[1]) * _UNITS[found[2]]
    if n_bytes > _MOST_BYTES:
        raise InputError(f'--buffer: out of range; given "{text}"; allowed at most 1048576MiB')
    return n_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions(NetworkOptions):
    """Options of ``--over fusion``; ``budget``: most plans. None where the search has a usual one."""

    scheme: str | None = None
    buffer: str | None = None
    objective: str | None = None
    residency: str | None = None
    method: str | None = None
    budget: int | None = None
    seed: int | None = None
    explainer: str | None = None
    weights: str | None = None
    activations: str | None = None
    all_operators: bool = False
    separate: bool = False
    report: str | None = None


def run(call: SearchCall[FusionOptions]) -> None:
    """Search, show groups and totals, and write what is asked for; raises InputError."""
    options = call.options
    machine = machine_of(options.machine, options.set)
    if _is_planned(options, machine):
        _run_planned(call, machine)
        return
    buffer = options.buffer
    capacity = None if buffer is None else bytes_of(buffer)

    from tilewright.search.fusion.methods.method import get_fusion_method
    from tilewright.search.fusion.run import USUAL_BUDGET, search_fusion

    stream = network_of(call)
    check_parts([stream], {"weights": options.weights, "activations": options.activations})
    stream = stream.with_formats(weights=options.weights, activations=options.activations)
    method, objective = get_fusion_method(options.method), options.objective or "dram"
    if options.explainer is not None and not method.explained:
        fault = f"means nothing to --method {method.name}; allowed with methods that begin with get-"
        raise InputError(f"--explainer: {fault}")
    check_seed(method.name, by_chance=method.by_chance, is_given=options.seed is not None)
    if options.budget is not None and not method.has_budget:
        raise InputError(f"--budget: means nothing to --method {method.name}, which searches to the end")
    if objective in ("latency", "energy"):
        announce_compilation()
    with ProgressBar() as bar:
        outcome = search_fusion(
            stream,
            machine,
            options.scheme,
            objective,
            method.name,
            buffer_bytes=capacity,
            absorb=not options.separate,
            budget=options.budget or USUAL_BUDGET,
            seed=options.seed or 0,
            explainer=options.explainer or "pg",
            progress=bar,
        )

    from tilewright.reports.fusion_table import fusion_groups_table, fusion_totals_table

    if call.outputs.speaks:
        call.outputs.show(
            fusion_groups_table(call.outputs.console(), outcome, every=options.all_operators),
            fusion_totals_table(outcome),
        )
    from tilewright.reports.origin import Origin, network_facts

    facts = {"scheme": outcome.scheme.name, "capacity_bytes": outcome.capacity_bytes, "method": method.name}
    origin = Origin(machines=(machine,), workloads=(network_facts(stream),), facts=facts)
    call.outputs.write_json(outcome.to_dict(), origin)
    call.outputs.write_csv(outcome.group_rows(), origin)
    if call.outputs.report is not None:
        from tilewright.reports.fusion_page import write_fusion_report

        note(f"wrote {write_fusion_report(call.outputs.report, outcome, command=call.command)}")


def _is_planned(options: FusionOptions, machine: MachineSpec) -> bool:
    """Whether a plan says what stays on chip: as asked for, or as the machine says, where cycles or energy count."""
    if options.residency not in (None, "plan", "none"):
        raise unknown("residency", options.residency, ("plan", "none"), place="--residency")
    if options.residency is None:
        return machine.residency != "none" and options.objective in ("latency", "energy")
    return options.residency == "plan"


def _run_planned(call: SearchCall[FusionOptions], machine: MachineSpec) -> None:
    """Groups and what stays on chip between them, chosen together."""
    options = call.options
    for name in ("method", "budget", "seed", "explainer"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name}: means nothing to --over fusion with --residency plan")
    buffer = None if options.buffer is None else bytes_of(options.buffer)

    from tilewright.search.fusion.kept.run import plan_groups

    stream = network_of(call)
    check_parts([stream], {"weights": options.weights, "activations": options.activations})
    stream = stream.with_formats(weights=options.weights, activations=options.activations)
    announce_compilation()
    with ProgressBar() as bar:
        outcome = plan_groups(
            stream,
            machine,
            options.scheme,
            options.objective or "latency",
            buffer_bytes=buffer,
            absorb=not options.separate,
            progress=bar,
        )

    from tilewright.reports.kept_table import kept_groups_table, kept_totals_table
    from tilewright.reports.origin import Origin, network_facts

    if call.outputs.speaks:
        groups = kept_groups_table(call.outputs.console(), outcome, every=options.all_operators)
        call.outputs.show(groups, kept_totals_table(outcome))
    facts = {"scheme": outcome.scheme, "capacity_bytes": outcome.capacity_bytes, "residency": "plan"}
    origin = Origin(machines=(machine,), workloads=(network_facts(stream),), facts=facts)
    call.outputs.write_json(outcome.to_dict(), origin)
    call.outputs.write_csv(outcome.group_rows(), origin)
    if call.outputs.report is not None:
        from tilewright.reports.kept_page import write_kept_report

        note(f"wrote {write_kept_report(call.outputs.report, outcome, command=call.command)}")


SPACES.register("fusion", SearchSpace(name="fusion", options=FusionOptions, run=run, budget=count), rank=2)
