"""Loading what the arguments name, so that every wrong name is refused before the work begins."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from tilewright.cli.outputs import note
from tilewright.errors import InputError, unknown

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.jobs import JobLayer

__all__ = ["check_dataflows", "command_line", "machine_of", "residency_of", "residency_setting", "workloads_of"]


def machine_of(text: str, settings: Sequence[str] | None = None, *, for_engine: bool = True) -> MachineSpec:
    """The machine that ``text`` names, with the changes of ``--set``; raises InputError.

    ``for_engine``: a word on what that means for a GPU, and on what of the machine its schedules do not use.
    """
    from tilewright.hw_models.load import load_machine

    machine = load_machine(text)
    if settings:
        try:
            machine = load_machine(text, settings)
        except InputError as error:
            raise InputError(*(f"--set: {line}" for line in error.args)) from None
    if for_engine and machine.gpu is not None:
        note(f"{machine.name} is a GPU; here it runs the engine's schedules (a library's kernels: tilewright validate)")
    if for_engine:
        from tilewright.hw_models.describe import too_small
        from tilewright.sim.lowering.evaluation import unmodelled

        made_for_rows = machine.matrix.scratchpads is not None  # results say what theirs does not use
        for text in (*too_small(machine), *unmodelled(machine, fills_buffers=made_for_rows)):
            note(f"{machine.name}: {text}")
    return machine


def residency_of(given: str | None) -> str | None:
    """What ``--residency`` says, checked; raises InputError."""
    if given not in (None, "plan", "none"):
        raise unknown("residency", given, ("plan", "none"), place="--residency")
    return given


def residency_setting(given: str | None) -> list[str]:
    """``--residency`` as a setting of the machine, for commands that run several machines or designs."""
    return [] if residency_of(given) is None else [f"residency={given}"]


def workloads_of(texts: Sequence[str], machine: MachineSpec | None = None) -> list[JobLayer]:
    """The attention layers and single operators that ``texts`` name, each once; raises InputError.

    ``machine``: where it has no rate for a format that nobody asked for, they are in its own, which is said.
    """
    from tilewright.search.workload import layer_of, layer_on

    layers: dict[str, JobLayer] = {}
    for text in texts:
        layer, said = (layer_of(text), "") if machine is None else layer_on(text, machine)
        if said:
            note(f"{layer.name}: {said}")
        if layers.setdefault(layer.name, layer) != layer:
            raise InputError(f'two different workloads are called "{layer.name}"; allowed different names')
    return list(layers.values())


def check_dataflows(names: Sequence[str], layers: Sequence[JobLayer] = ()) -> list[str]:
    """The names, each once; raises InputError for one that is a dataflow of none of ``layers`` (none given: of any)."""
    from tilewright.search.workload import kind_of
    from tilewright.sim.lowering.mapping import DATAFLOWS, dataflow_names

    kinds = dict.fromkeys(map(kind_of, layers))
    allowed = [name for kind in kinds for name in dataflow_names(kind)] if layers else DATAFLOWS.names()
    for name in names:
        if name not in allowed:
            raise unknown("dataflow", name, allowed, place="--dataflow")
    return list(dict.fromkeys(names))


def command_line(context: typer.Context) -> str:
    """The command line that was given, ready to be typed again."""
    return shlex.join(["tilewright", *(context.obj or [])])
