"""What each field of a described class means, in the words of its docstring: one definition for people and editors."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

__all__ = ["described_classes", "field_notes"]

_NAME = r"``[a-z0-9_]+``(?:\s*\([^)]*\))?"
# A sentence that begins with fields: "``rows``: ...", "``a``, ``b``: ...", "``fields`` are ...".
_START = re.compile(rf"(?:^|(?<=[.;?)])\s+)(?=(?:{_NAME})(?:\s*(?:,|and|x)\s*{_NAME})*\s*(?::|,?\s+[a-z]))")
_HEAD = re.compile(rf"^({_NAME}(?:\s*(?:,|and|x)\s*{_NAME})*)\s*:?\s*")


def field_notes(described: type[Any]) -> dict[str, str]:
    """What the docstring of the dataclass ``described`` says of each of its fields, by name.

    A note runs from a sentence that begins with the field (in double backquotes) to the next such sentence.
    """
    names = [entry.name for entry in fields(described)]
    text = re.sub(r"\s+", " ", inspect.getdoc(described) or "")
    found: dict[str, str] = {}
    for part in _START.split(text):
        head = _HEAD.match(part)
        named = re.findall(r"``([a-z0-9_]+)``", head.group(1)) if head else []
        if head is None or not set(named) & set(names):
            continue
        is_list = part[head.end(1) :].lstrip().startswith(":")
        note = part[head.end() :] if is_list else part
        for name in named:
            if name in names and name not in found:
                found[name] = note.replace("``", "").strip()
    return found


def described_classes(root: type[Any]) -> tuple[type[Any], ...]:
    """``root`` and every dataclass that a field of it may hold, at any depth, in the order of the fields."""
    found: dict[type[Any], None] = {}
    _collect(root, found)
    return tuple(found)


def _collect(hint: Any, found: dict[type[Any], None]) -> None:
    if isinstance(hint, type) and is_dataclass(hint):
        if hint not in found:
            found[hint] = None
            hints = get_type_hints(hint)
            for entry in fields(hint):
                _collect(hints[entry.name], found)
        return
    for part in get_args(hint):
        _collect(part, found)
