"""Figures changed by text, as a command line gives them: ``matrix.rows=32``.

The changed machine is called after what was changed, ``edge-16x16 with matrix.rows=32``, and that name names it again
wherever a machine is named. What may be changed, and how it is checked, is :meth:`MachineSpec.with_`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilewright.document_yaml import read_yaml
from tilewright.errors import InputError
from tilewright.hw_models.spec import WITH, MachineSpec

__all__ = ["changed_by_text", "parted_name", "settings_of"]

_SETTING = re.compile(r"\s*(?P<path>[A-Za-z0-9_.+-]+)\s*=\s*(?P<value>.*\S)\s*", re.DOTALL)
_NEXT = re.compile(r",\s*(?=[A-Za-z0-9_.+-]+\s*=)")
_FORM = "allowed for example matrix.rows=32"
_GROUP = "group"


def parted_name(text: str) -> tuple[str, list[str]]:
    """``"edge-16x16 with matrix.rows=32, n_cores=2"`` as the name and its settings; none of a file that is there."""
    name, word, rest = text.partition(WITH)
    if not word or os.path.exists(text):
        return text, []
    return name.strip(), _NEXT.split(rest)


def settings_of(texts: Sequence[str]) -> dict[str, Any]:
    """What ``PATH=VALUE`` texts say, by path; a value is read as YAML reads it.

    Raises :class:`InputError` for a text of another form, a value that is none, or a path that is given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        parts = _SETTING.fullmatch(text)
        if parts is None:
            raise InputError(f'not of the form PATH=VALUE; given "{text}"; {_FORM}')
        path, value = parts["path"], parts["value"]
        if path in found:
            raise InputError(f"{path} is given twice; allowed once")
        try:
            found[path] = read_yaml(value, "value", path).data
        except InputError:
            allowed = "a number, text, true, false, null (none), or YAML such as {int8: 1}"
            raise InputError(f'{path}: not a value; given "{value}"; allowed {allowed}') from None
    return found


def changed_by_text(machine: MachineSpec, texts: Sequence[str]) -> MachineSpec:
    """``machine`` with the changes that ``PATH=VALUE`` texts say, called after them (unless one gives its ``name``).

    ``group=NAME`` is the machine with that group of cores alone; what stands behind it changes that machine.
    """
    parts = [_SETTING.fullmatch(text) for text in texts]
    at = next((at for at, one in enumerate(parts) if one is not None and one["path"] == _GROUP), None)
    if at is not None:
        settings_of(texts)  # refuses one that is given twice
        own = changed_by_text(machine, texts[:at]) if at else machine
        alone = own.group(str(settings_of([texts[at]])[_GROUP]))
        return changed_by_text(alone, texts[at + 1 :]) if texts[at + 1 :] else alone
    changes = settings_of(texts)
    changed = machine.with_(**changes)
    if not changes or "name" in changes:
        return changed
    said = ", ".join(re.sub(r"\s*=\s*", "=", " ".join(text.split()), count=1) for text in texts)
    return replace(changed, name=f"{machine.name}{', ' if WITH in machine.name else WITH}{said}")
