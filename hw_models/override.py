"""A machine with some fields changed: dotted overrides, checked like a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from tilewright.document import validate_data
from tilewright.errors import InputError, unknown
from tilewright.hw_models.energy_table import TableFigure, left_to_tables
from tilewright.hw_models.groups import main_path
from tilewright.hw_models.spec import MachineSpec

__all__ = ["changed", "given_data"]

_NOT_FIGURES = ("name", "description", "assumptions", "sources")


def changed(machine: MachineSpec, changes: Mapping[str, Any]) -> MachineSpec:
    """``machine`` with ``changes`` (dotted path -> value); see :meth:`MachineSpec.with_`.

    Buffers are reached by name or by position; tables such as ``energy.vector_pj`` may gain keys. Changing
    ``dram.timing.…`` of a machine with a named grade makes the grade's timing the machine's own. Fields that do not
    exist are refused with the nearest name, values out of range as in a file. None leaves a field
    out, and removes a key of a table or a buffer.
    """
    changes = {main_path(machine, path): value for path, value in changes.items()}
    data = given_data(machine)
    prefix = "energy."
    wanted = {path.removeprefix(prefix): value for path, value in changes.items() if path.startswith(prefix)}
    left = left_to_tables(wanted)
    kept = {name: value for name, value in data["energy"].items() if name not in left}
    data["energy"] = kept | {
        name: {} for name in left & data["energy"].keys() if isinstance(data["energy"][name], dict)
    }
    data["buffers"] = list(data["buffers"])
    if machine.dram.grade is not None and any(path.startswith("dram.timing.") for path in changes):
        timing = machine.dram.row_timing
        data["dram"] |= {"grade": None, "timing": None if timing is None else asdict(timing)}
    notes = []
    for path, value in changes.items():
        old = _put(machine, data, path, value)
        if path.partition(".")[0] not in _NOT_FIGURES:
            source = f"changed from {old:g}" if isinstance(old, int | float) else f"changed from {old or 'nothing'}"
            notes.append({"fields": [_named(machine, path)], "kind": "assumed", "source": source})
    if isinstance(data["buffers"], list):
        data["buffers"] = [buffer for buffer in data["buffers"] if buffer is not None]
    if isinstance(data["sources"], list | tuple):
        data["sources"] = [*notes, *data["sources"]]
    return validate_data(data, MachineSpec, what="machine", name=machine.name)


def given_data(machine: MachineSpec) -> dict[str, Any]:
    """``machine`` as plain data, without figures of tables, which are found again."""
    data = asdict(machine)
    energy = {
        name: {key: one for key, one in value.items() if not isinstance(one, TableFigure)}
        if isinstance(value, dict)
        else value
        for name, value in data["energy"].items()
        if not isinstance(value, TableFigure)
    }
    return data | {"energy": energy}


def _put(machine: MachineSpec, data: dict[str, Any], path: str, value: Any) -> Any:
    """Set ``path`` in ``data``; return what stood there."""
    *parents, last = path.split(".")
    here: Any = data
    spec: Any = machine
    for step in parents:
        here, spec = _below(machine, here, spec, step, path)
    if isinstance(here, list) and value is None:
        at = _position(machine, here, last, path)
        old, here[at] = here[at], None
        return old
    if is_dataclass(spec) and last not in _names(spec):
        raise _unknown(machine, path, last, _names(spec))
    if not isinstance(here, dict):
        raise _unknown(machine, path, last, [])
    if value is None:
        return here.pop(last, None)
    old = here.get(last)
    here[last] = value
    return old


def _below(machine: MachineSpec, here: Any, spec: Any, step: str, path: str) -> tuple[Any, Any]:
    """The data and its description one step down."""
    if isinstance(here, Sequence) and not isinstance(here, str):
        index = _position(machine, here, step, path)
        return here[index], spec[index]
    if not isinstance(here, dict) or step not in here:
        raise _unknown(machine, path, step, _names(spec) if is_dataclass(spec) else list(here))
    if isinstance(spec, Mapping):
        return here[step], spec[step]
    if here[step] is None and is_dataclass(spec):
        here[step] = {}  # a part that the machine has not had; the check of fields says what it needs
    below = here[step]
    return below, getattr(spec, step) if is_dataclass(spec) and getattr(spec, step) is not None else below


def _position(machine: MachineSpec, things: Sequence[Any], step: str, path: str) -> int:
    """Where the thing called ``step`` (or numbered so) stands."""
    names = [thing.get("name") if isinstance(thing, dict) else None for thing in things]
    index = names.index(step) if step in names else int(step) if step.isdecimal() else len(things)
    if index >= len(things):
        raise _unknown(machine, path, step, [name for name in names if name is not None])
    return index


def _names(spec: Any) -> list[str]:
    return [entry.name for entry in fields(spec)]


def _named(machine: MachineSpec, path: str) -> str:
    """``buffers.0.capacity_kib`` as ``buffers.l1.capacity_kib``."""
    steps = path.split(".")
    if steps[0] == "buffers" and len(steps) > 1 and steps[1].isdecimal():
        steps[1] = machine.buffers[int(steps[1])].name
    return ".".join(steps)


def _unknown(machine: MachineSpec, path: str, step: str, allowed: list[str]) -> InputError:
    return unknown("field", step, allowed, place=f"{machine.name}: {path}", shown="" if allowed else "no field here")
