"""``tilewright compare … --reuse``: one attention over denoising steps, in each way to reuse what a step left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.cli.density import DensityCall, best_run
from tilewright.cli.outputs import Outputs
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.search.attention_steps import StepsComparison

__all__ = ["show_reuse", "steps_of"]

_MOST_STEPS = 10_000


def steps_of(text: str) -> tuple[int, int]:
    """``STEPS/EVERY``: how many steps there are, and of how many one computes all. Raises InputError."""
    steps, slash, every = (part.strip() for part in text.partition("/"))
    if not slash or not steps.isdecimal() or not every.isdecimal() or not 1 <= int(steps) <= _MOST_STEPS:
        raise InputError(f'--reuse: given "{text}"; allowed STEPS/EVERY, as 50/10, up to {_MOST_STEPS} steps')
    return int(steps), int(every)


def show_reuse(outputs: Outputs, call: DensityCall, n_steps: int, every: int) -> None:
    """Run, print the table, and write what is asked for; raises InputError."""
    from tilewright.cli.inputs import workloads_of
    from tilewright.search.attention_steps import compare_steps
    from tilewright.workloads.attention import AttentionLayer

    if len(call.texts) != 1 or len(call.machines) != 1:
        raise InputError(
            f"--reuse: is for one attention layer on one machine; given {len(call.texts)} workloads and "
            f"{len(call.machines)} machines; allowed one of each"
        )
    if outputs.report is not None or outputs.markdown is not None:
        raise InputError("--reuse: makes no page; given --report or --markdown; allowed --csv, --json")
    (machine,) = call.machines
    (layer,) = workloads_of(call.texts, machine)
    if not isinstance(layer, AttentionLayer):
        raise InputError(f"--reuse: is for attention layers; given {layer.name}; allowed an attention layer")
    found = compare_steps(layer, n_steps, every, lambda one: best_run(one, machine, call))
    _show(outputs, found, f"{layer.name} on {machine.name}: {n_steps} steps, every {every}. whole")

    from tilewright.reports.origin import Origin, layer_facts

    origin = Origin(machines=(machine,), workloads=(layer_facts(layer),), facts={"objective": call.objective})
    rows = found.rows()
    outputs.write_json(
        {
            "machine": machine.name, "workload": layer.name, "steps": n_steps, "every": every, "ways": rows,
            "assumptions": list(found.assumptions),
        },
        origin,
    )  # fmt: skip
    outputs.write_csv(rows, origin)


def _show(outputs: Outputs, found: StepsComparison, title: str) -> None:
    if not outputs.speaks:
        return
    from rich.table import Table

    from tilewright.reports.quantity import bytes_text, cycles_text, percent_text

    table = Table(title=title, box=None, header_style="bold")
    for name in (
        "reused",
        "whole step",
        "reused step",
        "all steps",
        "of whole",
        "energy",
        "kept",
        "DRAM",
        "saved work",
    ):
        table.add_column(name, justify="left" if name == "reused" else "right")
    dense = found.ways[0]
    for one in found.ways:
        table.add_row(
            one.way, cycles_text(one.whole_cycles), cycles_text(one.reused_cycles), cycles_text(one.cycles),
            f"{one.cycles / dense.cycles:.3f}", f"{one.energy_pj / dense.energy_pj:.3f}", bytes_text(one.cache_bytes),
            bytes_text(one.dram_bytes), percent_text(one.saved_macs / found.whole_macs),
        )  # fmt: skip
    outputs.show(table)
