"""``tilewright compare`` for machines side by side: layers, operators and whole networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilewright.cli.inputs import check_dataflows, runs_engine, workloads_of
from tilewright.cli.network import stream_of
from tilewright.cli.once import check_parts, check_used
from tilewright.cli.options import Objective
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from tilewright.hw_models.spec import MachineSpec
    from tilewright.reports.origin import Origin
    from tilewright.sim.jobs import JobLayer
    from tilewright.workloads.naming import Named
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["MachinesCall", "compare_machines", "is_network", "origin_of", "say_notes", "things_of"]


def is_network(thing: JobLayer | OperatorStream) -> TypeIs[OperatorStream]:
    """Whether ``thing`` is a whole network (told without what ``--help`` has no use for)."""
    from tilewright.workloads.stream.graph import OperatorStream

    return isinstance(thing, OperatorStream)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinesCall:
    """What is asked for; ``formats`` holds those of networks (``weights``, ``activations``, ``kv_cache``)."""

    named: tuple[Named, ...]
    machines: tuple[MachineSpec, ...]
    dataflows: list[str] | None
    objective: Objective
    method: str
    seed: int
    formats: Mapping[str, str | None]
    command: str
    unknown: str | Mapping[str, str] = "error"
    kernels: str | None = None
    launch: str | None = None


def compare_machines(outputs: Outputs, call: MachinesCall) -> None:
    """Run every workload on every machine, show a table for each workload, write what is asked for."""
    things = things_of(call.named, call.formats, call.dataflows, call.machines, call.unknown)
    if call.dataflows:
        check_dataflows(call.dataflows, [thing for thing in things if not is_network(thing)])
    if runs_engine(call.machines, call.kernels):
        announce_compilation()

    import tilewright.search.api as api

    with ProgressBar() as progress:
        texts = {workloads_of([one.text])[0].name: one.text for one in call.named if one.kind != "network"}
        comparison = api.compare(
            [thing if is_network(thing) else texts[thing.name] for thing in things],
            call.machines,
            call.dataflows,
            objective=call.objective,
            progress=progress,
            method=call.method,
            seed=call.seed,
            keep_formats=[name for name in call.formats.values() if name],
            kernels=call.kernels,
            launch=call.launch,
        )
    say_notes(call.named, {run.machine: run.result.assumptions for run in comparison.runs})

    from tilewright.reports.table import machine_tables, machines_failed_text

    if outputs.speaks:
        outputs.show(*machine_tables(outputs.console(), comparison), machines_failed_text(comparison))
    origin = origin_of(call.machines, things, call.objective)
    outputs.write_json(comparison.to_dict(), origin)
    outputs.write_csv([run.to_row() for run in comparison.runs], origin)
    if not comparison.runs:
        raise InputError(f"nothing can run: {next(iter(comparison.infeasible.values()))}")
    if outputs.markdown is not None:
        from tilewright.reports.markdown import machines_markdown

        outputs.write_markdown(machines_markdown(comparison))
    if outputs.report is not None:
        from tilewright.reports.machine_page import write_machines_report

        note(f"wrote {write_machines_report(outputs.report, comparison, call.machines, command=call.command)}")


def say_notes(named: Sequence[Named], assumptions: Mapping[str, Sequence[str]]) -> None:
    """How names were understood, and in which machine's own format networks ran (``assumptions`` by machine)."""
    from tilewright.workloads.rated_formats import FORMAT_NOTE

    for one in named:
        if one.note:
            note(one.note)
    for machine, texts in assumptions.items():
        for text in texts:
            if text.startswith(FORMAT_NOTE):
                note(f"{machine}: {text}")


def things_of(
    named: Sequence[Named],
    formats: Mapping[str, str | None],
    dataflows: Sequence[str] | None,
    machines: Sequence[MachineSpec],
    unknown: str | Mapping[str, str] = "error",
) -> list[JobLayer | OperatorStream]:
    """The layers, operators and networks that are named, each once; networks in ``formats``.

    Raises InputError for a wrong name, and for a format or a dataflow that none of them can have.
    """
    found: dict[str, JobLayer | OperatorStream] = {}
    for one in named:
        thing: JobLayer | OperatorStream
        if one.kind == "network":
            thing = stream_of(
                one.text,
                weights=formats["weights"],
                activations=formats["activations"],
                kv_cache=formats["kv_cache"],
                alone=False,
                unknown=unknown,
            )
        else:
            (thing,) = workloads_of([one.text])
        if is_network(thing) and thing.name in found:
            thing = replace(thing, name=f"network:{thing.name}")  # bert-base and network:bert-base side by side
        if thing.name in found and found[thing.name] != thing:
            raise InputError(f'"{thing.name}" names two different workloads; allowed different names')
        found.setdefault(thing.name, thing)
    things = list(found.values())
    streams = [thing for thing in things if is_network(thing)]
    check_parts(streams, {"cache" if part == "kv_cache" else part: value for part, value in formats.items()})
    if len(streams) == len(things):
        check_used(streams, dataflows or (), machines)
    return things


def origin_of(machines: Sequence[MachineSpec], things: Sequence[JobLayer | OperatorStream], objective: str) -> Origin:
    """Where the figures of a comparison come from."""
    from tilewright.reports.origin import Origin, layer_facts, network_facts

    facts = [network_facts(t) if is_network(t) else layer_facts(t) for t in things]
    workloads = tuple(replace(one, column="workload") for one in facts)
    return Origin(machines=tuple(machines), workloads=workloads, facts={"objective": objective})
