"""Operators that the cores of a machine lack: how a machine file names them, and what is said where they run."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.errors import InputError, unknown
from tilewright.hw_models.spec import EVERYTHING, MachineSpec
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.operators import Operator

__all__ = ["fallback_note", "is_lacking", "refuse_unknown_lacks", "refuse_without_fallback"]


def is_lacking(operator: Operator, lacks: Sequence[str], kernels: Sequence[tuple[int, int]] = ()) -> bool:
    """Whether ``lacks`` names ``operator``: its kind, its kind and function ("elementwise:silu"), or all ("*").

    Convolutions have the functions "depthwise", "transposed", "dilated", "windows" (products over more than one tap)
    and, where theirs is none of the unit's own ``kernels`` (height, width), "other_kernel". A machine's own are known
    (:func:`refuse_unknown_lacks`).
    """
    for entry in lacks:
        if entry == EVERYTHING:
            return True
        kind, _, function = entry.partition(":")
        if kind == operator.kind and (not function or function in operator.of_kind.functions_of(operator, kernels)):
            return True
    return False


def refuse_unknown_lacks(machine: MachineSpec) -> None:
    """Raises InputError where ``machine`` says that it lacks a kind of operator, or a function of one, that is not."""
    place = f"{machine.base_name}: lacks"
    for entry in machine.lacks:
        kind, _, function = entry.partition(":")
        known = () if entry == EVERYTHING else KINDS.get(kind, place=place).functions
        if function and known and function not in known:
            raise unknown(f"function of {kind}", function, known, place=place)


def refuse_without_fallback(operators: Sequence[Operator], machine: MachineSpec) -> None:
    """Raises InputError where there are operators that no core has and no fallback does."""
    if not operators or machine.fallback is not None:
        return
    first = operators[0]
    raise InputError(
        f'{first.path or first.name}: the cores of {machine.name} lack operators of this kind; given "{first.kind}"; '
        f"allowed with a fallback in the machine file (lacks: {', '.join(machine.lacks)})"
    )


def fallback_note(operators: Sequence[Operator], machine: MachineSpec) -> tuple[str, ...]:
    """What results say of the operators that ran on the fallback; nothing where none did."""
    cpu = machine.fallback
    if cpu is None or not operators:
        return ()
    kinds: dict[str, int] = {}
    for operator in operators:
        kinds[operator.kind] = kinds.get(operator.kind, 0) + 1
    what = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    own = [f" ({kind}: {cpu.rate(kind):g})" for kind in kinds if kind in cpu.giga_operations_by_kind]
    return (
        f"on the fallback {cpu.name}: {what} (the cores lack {', '.join(machine.lacks)}), at "
        f"{cpu.giga_operations_per_s:g}{''.join(own)} x 10^9 operations a second or {cpu.bandwidth_gb_per_s:g} GB/s, "
        f"whichever is slower, and {cpu.per_operator_us:g} us for each; the cores wait, "
        "and its own energy is not counted",
    )
