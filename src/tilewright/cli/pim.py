"""A network on a machine whose memory computes: ``simulate`` there, and ``search --over pim`` at several batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.search.pim.plan import PimPlan

__all__ = ["PimRun", "batches_of", "refuse_for_banks", "show_batches", "show_plan"]

_MOST_BATCHES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PimRun:
    """What is asked for; formats as given."""

    network: str
    machine: MachineSpec
    weights: str | None = None
    activations: str | None = None
    kv_cache: str | None = None
    objective: str = "latency"
    fuse: bool = True
    keep_mappings: bool = True
    unknown: object = "error"


def refuse_for_banks(machine: str, given: Mapping[str, object]) -> None:
    """Raise InputError for the first option of ``given`` that has a value: a plan with banks does not know it."""
    for option, value in given.items():
        if value:
            raise InputError(
                f"{option}: means nothing to {machine}, which plans what its chip does and what its banks; allowed "
                "without, or the chip alone with --set pim=null"
            )


def batches_of(text: str) -> tuple[int, ...]:
    """The batches that ``1,2,4`` says; raises InputError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 7 and int(part) for part in parts) or len(parts) > _MOST_BATCHES:
        raise InputError(
            f'--batches: not a list of batches; given "{text}"; allowed up to {_MOST_BATCHES} whole numbers '
            "of at least 1, as 1,2,4,8"
        )
    return tuple(sorted({int(part) for part in parts}))


def show_plan(outputs: Outputs, run: PimRun) -> None:
    """Plan, show and write; raises InputError."""
    from tilewright.reports.origin import Origin, network_facts
    from tilewright.reports.pim_table import pim_operators_table, pim_totals_table

    _refuse_a_page(outputs)
    announce_compilation()
    plan = _plan(run, run.network)
    if outputs.speaks:
        outputs.show(pim_operators_table(outputs.console(), plan), pim_totals_table(plan))
    stream = plan.host.stream
    assert stream is not None
    origin = Origin(machines=(run.machine,), workloads=(network_facts(stream),), facts={"memory": plan.memory})
    outputs.write_json(plan.to_dict(), origin)
    outputs.write_csv(plan.rows(), origin)


def show_batches(outputs: Outputs, run: PimRun, batches: Sequence[int]) -> None:
    """Plan at each batch and find the turn, show and write; raises InputError."""
    from tilewright.reports.origin import Origin, network_facts
    from tilewright.reports.pim_table import batches_table, turn_text
    from tilewright.search.pim.batches import plans_by_batch

    if "batch=" in run.network:
        raise InputError(f'--batches: the network says its batch itself; given "{run.network}"; allowed one without it')
    announce_compilation()

    def plan(batch: int) -> PimPlan:
        return _plan(run, f"{run.network}{',' if ':' in run.network else ':'}batch={batch}")

    found = plans_by_batch(plan, batches)
    if outputs.speaks:
        outputs.show(batches_table(outputs.console(), found))
        note(turn_text(found))
    streams = [one.host.stream for one in found.plans.values() if one.host.stream is not None]
    facts = tuple(network_facts(stream) for stream in streams)
    origin = Origin(machines=(run.machine,), workloads=facts, facts={"batches": list(found.plans)})
    outputs.write_json(found.to_dict(), origin)
    outputs.write_csv(found.rows(), origin)


def _refuse_a_page(outputs: Outputs) -> None:
    if outputs.report is not None:
        raise InputError(
            "--report: plans with memory that computes have no page; allowed --json or --csv, or a page of the chip "
            "alone with --set pim=null"
        )


def _plan(run: PimRun, network: str) -> PimPlan:
    from tilewright.cli.network import stream_of
    from tilewright.search.pim.plan import plan_network

    stream = stream_of(
        network, weights=run.weights, activations=run.activations, kv_cache=run.kv_cache,
        unknown=run.unknown,  # type: ignore[arg-type]
    )  # fmt: skip
    if run.objective not in ("latency", "energy"):
        raise InputError(
            f"--objective: given {run.objective}; allowed latency or energy for plans with memory that computes, "
            "or the chip alone with --set pim=null"
        )
    objective: Literal["latency", "energy"] = "latency" if run.objective == "latency" else "energy"
    with ProgressBar() as progress:
        return plan_network(
            stream,
            run.machine,
            weights=run.weights,
            activations=run.activations,
            kv_cache=run.kv_cache,
            objective=objective,
            fuse=run.fuse,
            keep_mappings=run.keep_mappings,
            progress=progress,
        )
