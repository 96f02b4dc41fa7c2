"""Many designs of one machine: :meth:`MachineSpec.with_` again and again, with every value checked only once.

A field's own bounds do not depend on other fields, so a value that was accepted alone is accepted in any design; what
fields must fulfil together is checked by the classes themselves, whenever one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec, SourceSpec

__all__ = ["Redesigner"]

_MOST = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A checked value for the field ``name`` of the part ``part``: a buffer by its number, a field, or the machine."""

    part: int | str | None
    name: str
    value: Any
    note: SourceSpec


class Redesigner:
    """Designs of ``machine``, each equal to what :meth:`MachineSpec.with_` gives."""

    def __init__(self, machine: MachineSpec) -> None:
        self.machine = machine
        self._known: dict[tuple[str, type, Any], _Change | None] = {}

    def design(self, changes: Mapping[str, Any]) -> MachineSpec:
        """``machine.with_(**changes)``; raises InputError as that does."""
        wanted = [self._change(path, value) for path, value in changes.items()]
        if any(change is None for change in wanted):
            return self.machine.with_(**changes)
        checked = [change for change in wanted if change is not None]
        if len({(change.part, change.name) for change in checked}) < len(checked):
            return self.machine.with_(**changes)  # two names of one field: the later one counts
        try:
            return self._with(checked)
        except ValueError:
            return self.machine.with_(**changes)  # which says what is wrong in the words of a file

    def _with(self, changes: list[_Change]) -> MachineSpec:
        parts: dict[int | str | None, dict[str, Any]] = {}
        for change in changes:
            parts.setdefault(change.part, {})[change.name] = change.value
        new: dict[str, Any] = parts.pop(None, {})
        buffers = list(self.machine.buffers)
        for part, values in parts.items():
            if isinstance(part, int):
                buffers[part] = replace(buffers[part], **values)
            elif part is not None:
                new[part] = replace(getattr(self.machine, part), **values)
        notes = tuple(change.note for change in changes)
        return replace(self.machine, **new, buffers=tuple(buffers), sources=(*notes, *self.machine.sources))

    def _change(self, path: str, value: Any) -> _Change | None:
        """The change of one plain figure; None where :meth:`MachineSpec.with_` must see to it."""
        if not isinstance(value, int | float | str):
            return None
        key = (path, type(value), value)
        if key not in self._known:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = self._checked(path, value)
        return self._known[key]

    def _checked(self, path: str, value: Any) -> _Change | None:
        part, name = self._place(path)
        if not name:
            return None
        try:
            alone = self.machine.with_(**{path: value})
        except InputError:
            return None  # perhaps it is right together with the others
        here: Any = alone
        if part is not None:
            here = alone.buffers[part] if isinstance(part, int) else getattr(alone, part)
        return _Change(part=part, name=name, value=getattr(here, name), note=alone.sources[0])

    def _place(self, path: str) -> tuple[int | str | None, str]:
        """The part and the name of a figure; no name where ``path`` is none of a plain field."""
        match path.split("."):
            case ["clock_ghz" | "n_cores" as name]:
                return None, name
            case ["buffers", buffer, name]:
                names = [entry.name for entry in self.machine.buffers]
                if buffer in names and name != "name":
                    return names.index(buffer), name if _is_plain(self.machine.buffers[0], name) else ""
            case ["energy", _] if self.machine.energy.node_nm is not None or path == "energy.node_nm":
                return None, ""  # tables give what the file does not
            case ["matrix" | "vector" | "dram" | "energy" | "overheads" as part, name] if _is_plain(
                getattr(self.machine, part), name
            ):
                return part, name
        return None, ""


def _is_plain(part: Any, name: str) -> bool:
    """Whether ``name`` is a field of ``part`` that holds one value."""
    known = {entry.name for entry in fields(part)} if is_dataclass(part) else set()
    return name in known and isinstance(getattr(part, name), int | float | str | None)
