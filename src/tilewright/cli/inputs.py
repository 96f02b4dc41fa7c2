"""Loading what the arguments name, so that every wrong name is refused before the work begins."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from tilewright.cli.outputs import note
from tilewright.errors import InputError, unknown

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.jobs import JobLayer

__all__ = [
    "PLANS",
    "WHOLE_LIVES",
    "check_dataflows",
    "command_line",
    "is_planned",
    "machine_of",
    "residency_of",
    "residency_setting",
    "runs_engine",
    "spills_setting",
    "workloads_of",
]

#: What ``--residency`` may say: a plan of whole lives, one in which tensors leave for a time, none.
RESIDENCIES = ("plan", "spills", "none")
PLANS = ("plan", "spills")
WHOLE_LIVES = ("plan", "none")


def machine_of(
    text: str,
    settings: Sequence[str] | None = None,
    *,
    for_engine: bool = True,
    kernels: str | None = "engine",
    launch: str | None = None,
    mapping: Mapping[str, object] | None = None,
    keep_groups: bool = False,
) -> MachineSpec:
    """The machine that ``text`` names, with the changes of ``--set``; raises InputError.

    ``for_engine``: a word on what that means for a GPU, and on what of the machine its schedules do not use.
    ``kernels`` and ``launch``: what the command runs on a GPU, as given (None: what is usual there); ``mapping``:
    options that only the engine's schedules have, by name, with their values. ``keep_groups``: what is asked is done on
    all of unlike groups of cores; else it is the main one alone, which is said.
    """
    from tilewright.hw_models.groups import main_alone
    from tilewright.hw_models.load import load_machine

    machine = load_machine(text)
    if settings:
        try:
            machine = load_machine(text, settings)
        except InputError as error:
            raise InputError(*(f"--set: {line}" for line in error.args)) from None
    if machine.groups and not keep_groups:
        others = ", ".join(f"--set group={name}" for name in machine.groups)
        note(f"{machine.name} has unlike groups of cores; this is the main one, {machine.main} ({others}: another)")
        machine = main_alone(machine)
    if for_engine and not _says_kernels(machine, kernels, launch, mapping or {}):
        from tilewright.hw_models.describe import too_small
        from tilewright.sim.lowering.evaluation import unmodelled

        made_for_rows = machine.matrix.scratchpads is not None  # results say what theirs does not use
        for text in (*too_small(machine), *unmodelled(machine, fills_buffers=made_for_rows)):
            note(f"{machine.name}: {text}")
    return machine


def residency_of(given: str | None, *, allowed: Sequence[str] = RESIDENCIES) -> str | None:
    """What ``--residency`` says, checked; raises InputError."""
    if given is not None and given not in allowed:
        raise unknown("residency", given, allowed, place="--residency")
    return given


def is_planned(given: str | None) -> bool | None:
    """Whether there is a plan; None where the machine says, as it does where tensors may leave for a time."""
    return None if given in (None, "spills") else given == "plan"


def spills_setting(given: str | None) -> list[str]:
    """What ``--residency`` sets in the machine where tensors may leave for a time."""
    return ["residency=spills"] if given == "spills" else []


def residency_setting(given: str | None) -> list[str]:
    """``--residency`` as a setting of the machine, for commands that run several machines or designs."""
    return [] if residency_of(given) is None else [f"residency={given}"]


def runs_engine(machines: Sequence[MachineSpec], kernels: str | None) -> bool:
    """Whether any of ``machines`` runs on the engine, which must then be compiled; ``kernels``: of GPUs."""
    from tilewright.search.gpu.kernel_options import kernel_options

    return any(kernel_options(one, kernels if one.gpu is not None else None).is_engine for one in machines)


def _says_kernels(machine: MachineSpec, kernels: str | None, launch: str | None, mapping: Mapping[str, object]) -> bool:
    """Say what runs on a GPU; whether it is library kernels."""
    from tilewright.search.gpu.kernel_options import kernel_options

    given = [option for option, value in mapping.items() if value]
    try:
        how = kernel_options(machine, "engine" if given and kernels is None and machine.gpu else kernels, launch)
    except InputError as error:
        raise InputError(*(f"--{line}" for line in error.args)) from None
    if machine.gpu is None:
        return False
    if how.is_engine:
        why = f", which {given[0]} is for" if given and kernels is None else ""
        library = "library kernels: tilewright simulate --kernels eager"
        note(f"{machine.name} is a GPU; here it runs the engine's schedules{why} ({library})")
        return False
    if given:
        raise InputError(
            f"{given[0]}: is for the engine's schedules; {machine.name} is timed as library kernels ({how.kernels}); "
            "allowed with --kernels engine"
        )
    note(f"{machine.name} is a GPU, timed as its library kernels ({how.kernels}; exact schedules: --kernels engine)")
    return True


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
