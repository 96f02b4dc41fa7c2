"""``--objective pareto`` of simulate and compare: latency against energy over the mappings of each workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.cli.inputs import check_dataflows
from tilewright.cli.machines import is_network, say_notes, things_of
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.mapping_front import MappingFront
    from tilewright.workloads.naming import Named

__all__ = ["PARETO", "ParetoCall", "refuse_options", "show_fronts"]

PARETO = "pareto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoCall:
    """What is asked for; ``formats`` holds those of networks (``weights``, ``activations``, ``kv_cache``)."""

    named: tuple[Named, ...]
    machines: tuple[MachineSpec, ...]
    dataflows: list[str] | None
    formats: Mapping[str, str | None]
    fuse: bool
    command: str
    unknown: str | Mapping[str, str] = "error"


def refuse_options(given: Mapping[str, Any]) -> None:
    """Raise InputError for the first option of ``given`` that has a value: a front does not know it."""
    for option, value in given.items():
        if value:
            raise InputError(f"{option}: means nothing to --objective {PARETO}; allowed latency, energy or edp with it")


def show_fronts(outputs: Outputs, call: ParetoCall) -> None:
    """Find the front of every workload on every machine, show them, and write what is asked for."""
    things = things_of(call.named, call.formats, call.dataflows, call.machines, call.unknown)
    if call.dataflows:
        check_dataflows(call.dataflows, [thing for thing in things if not is_network(thing)])
    announce_compilation()

    import tilewright.search.api as api

    fronts: list[MappingFront] = []
    failed: dict[str, str] = {}
    kept = [name for name in call.formats.values() if name]
    with ProgressBar() as progress:
        for thing in things:
            for machine in call.machines:
                try:
                    fronts.append(
                        api.pareto(thing, machine, call.dataflows, fuse=call.fuse, keep_formats=kept, progress=progress)
                    )
                except InputError as error:
                    failed[f"{thing.name} cannot run on {machine.name}"] = str(error)
    say_notes(call.named, {front.machine: front.assumptions for front in fronts})
    if not fronts:
        raise InputError(f"nothing can run: {next(iter(failed.values()))}")
    _write(outputs, call, fronts, failed, things)


def _write(
    outputs: Outputs,
    call: ParetoCall,
    fronts: Sequence[MappingFront],
    failed: Mapping[str, str],
    things: Sequence[Any],
) -> None:
    from tilewright.cli.machines import origin_of
    from tilewright.reports.front import front_tables, write_front_report
    from tilewright.reports.table import listed_text

    if outputs.speaks:
        lines = [f"{what}: {reason}" for what, reason in failed.items()]
        outputs.show(*front_tables(outputs.console(), fronts), listed_text("cannot run", lines))
    origin = origin_of(call.machines, things, PARETO)
    outputs.write_json({"objective": PARETO, "fronts": [front.to_dict() for front in fronts]}, origin)
    outputs.write_csv([row for front in fronts for row in front.rows()], origin)
    if outputs.markdown is not None:
        from tilewright.reports.front import front_columns, front_title
        from tilewright.reports.markdown import markdown_table

        parts = []
        for front in fronts:
            table = front_columns(front, [other for other in fronts if other.workload == front.workload])
            parts.append(f"{front_title(front)}:\n\n{markdown_table(table.head, table.rows)}\n\n{front.proof}.\n")
        outputs.write_markdown("\n".join(parts))
    if outputs.report is not None:
        note(f"wrote {write_front_report(outputs.report, fronts, command=call.command)}")
