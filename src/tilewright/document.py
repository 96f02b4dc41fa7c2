"""YAML files read into typed values, with every fault named by file, line and field.

The text is composed into nodes (so that each value keeps its line and column), scalars are resolved by
the YAML 1.2 core schema (``1e9`` is a number, ``no`` and ``on`` are text), and the result is checked
strictly against a pydantic model or a dataclass. Text is never taken for a number, nor a number for text.
All faults of a file are reported together, one line each::

    FILE:LINE:COL: dotted.path: message; given X; allowed Y (did you mean "Z"?)

A class may check its fields together in ``__post_init__`` (or a pydantic validator): the text of its ValueError stands
for the message, and when it begins with a field of the class and a colon, the fault is placed at that field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tilewright.document_schema import allowed_text, expected_kind, field_names, is_number, schema_at
from tilewright.document_text import read_text
from tilewright.document_yaml import Document, FieldPath, Place, dotted, one_line, quoted, read_yaml, short
from tilewright.errors import InputError, did_you_mean, nearest

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter
    from pydantic_core import ErrorDetails

__all__ = ["STRICT_FIELDS", "document_schema", "load_document", "parse_document", "validate_data", "validate_document"]

T = TypeVar("T")

#: Give this as ``__pydantic_config__`` (dataclass) or ``model_config`` (model) to every described class:
#: unknown fields are refused, and so are infinities and not-a-number.
STRICT_FIELDS: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}

_NUMBER_WITH_UNIT = re.compile(r"^\s*[-+]?\d[\d_.,]*([eE][-+]?\d+)?\s*[A-Za-zµ%][A-Za-z/%²]*\s*$")


def load_document(source: str | Path, model: type[T], *, what: str) -> T:
    """Read the YAML file ``source`` as a ``model``; ``what`` says what it describes (``"machine"``).

    ``model`` is a pydantic model or a dataclass whose fields may carry ``annotated_types`` bounds, with
    :data:`STRICT_FIELDS` as its configuration. Raises :class:`InputError` with one line per fault when the
    file is missing, is not UTF-8, is not valid YAML, has a key twice, or does not fit the model.
    """
    name = str(source)
    text = read_text(source, what=what, allowed=f"the path of a {what} file in YAML")
    return parse_document(text, model, what=what, name=name)


def parse_document(text: str, model: type[T], *, what: str, name: str) -> T:
    """As :func:`load_document`, from YAML ``text``; ``name`` stands for the file in error texts."""
    return validate_document(read_yaml(text.removeprefix("\ufeff"), what, name), model, what=what, name=name)


def validate_data(data: Mapping[str, Any], model: type[T], *, what: str, name: str) -> T:
    """As :func:`parse_document`, from plain data; fault lines start ``NAME: dotted.path:`` (no line number)."""
    return validate_document(Document(data=data), model, what=what, name=name)


def document_schema(model: type[Any]) -> dict[str, Any]:
    """The JSON schema of ``model`` as pydantic derives it: what :func:`load_document` checks, in another notation."""
    return _adapter(model).json_schema()


_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(model: type[Any]) -> TypeAdapter[Any]:
    """Pydantic's checker of ``model``, built once (some milliseconds)."""
    from pydantic import TypeAdapter

    if model not in _adapters:
        _adapters[model] = TypeAdapter(model)
    return _adapters[model]


def validate_document(document: Document, model: type[T], *, what: str, name: str) -> T:
    """The checked value of data that was read, or :class:`InputError` with all faults in the order of the file's lines.

    Faults in values that stand in another file (:attr:`Place.file`) are placed there, behind those of ``name``.
    """
    from pydantic import ValidationError

    adapter: TypeAdapter[T] = _adapter(model)
    try:
        # Read as JSON: the strict rules of pydantic then take lists for tuples and mappings for dataclasses.
        return adapter.validate_json(json.dumps(document.data, default=str), strict=True)
    except ValidationError as fault:
        faults = [_plain(one) for one in fault.errors(include_url=False)]
        schema = adapter.json_schema()
    lines = [
        _fault_line(fault, document, schema, what=what, name=name)
        for fault in _without_echoes(faults, document, schema)
    ]
    raise InputError(*(text for _, text in sorted(lines, key=lambda line: line[0])))


def _plain(fault: ErrorDetails) -> ErrorDetails:
    """The same fault under the one name that models and dataclasses share for it."""
    same = {"unexpected_keyword_argument": "extra_forbidden", "missing_argument": "missing"}
    return {**fault, "type": same.get(fault["type"], fault["type"])}


def _without_echoes(
    faults: Sequence[ErrorDetails], document: Document, schema: Mapping[str, Any]
) -> list[ErrorDetails]:
    """Drop faults that only follow from others: the missing field that an unknown one was surely meant to
    be, and the list that is too short because its entries were refused."""
    meant = {
        (*fault["loc"][:-1], _meant_field(fault, document, schema))
        for fault in faults
        if fault["type"] == "extra_forbidden"
    }
    inside = {fault["loc"][:length] for fault in faults for length in range(len(fault["loc"]))}
    return [
        fault
        for fault in faults
        if not (fault["type"] == "missing" and fault["loc"] in meant)
        and not (fault["type"] == "too_short" and fault["loc"] in inside)
    ]


def _meant_field(fault: ErrorDetails, document: Document, schema: Mapping[str, Any]) -> str | None:
    """The field that an unknown field was probably meant to be; those not given already come first."""
    *parent, given = fault["loc"]
    allowed = field_names(schema_at(schema, parent))
    present = _value_at(document.data, parent)
    absent = [name for name in allowed if not (isinstance(present, Mapping) and name in present)]
    for names in (absent, allowed):
        near = nearest(str(given), names)
        if near:
            return near
    return None


def _fault_line(
    fault: ErrorDetails, document: Document, schema: Mapping[str, Any], *, what: str, name: str
) -> tuple[tuple[str, int, int], str]:
    """One line of text for ``fault``, with its file, line and column to sort by."""
    kind, loc = fault["type"], fault["loc"]
    is_key = bool(loc) and loc[-1] == "[key]"
    path = loc[:-1] if is_key else loc
    here = schema_at(schema, path)
    message = _message(kind, fault, here)
    if kind == "value_error":
        path, message = _pointed(path, message, here)
    place = _place_of(document, path)
    given = _given_value(fault["input"]) if place is None else place.given
    parts = [message]
    hint = ""
    if kind == "missing":
        parts += [f"allowed {allowed_text(here)}"]
    elif kind == "extra_forbidden":
        names = field_names(schema_at(schema, path[:-1]))
        meant = _meant_field(fault, document, schema)
        parts += [f"given {given}", f"allowed {', '.join(names)}"]
        hint = f' (did you mean "{meant}"?)' if meant else ""
    elif is_key:
        names = schema_at(schema, path[:-1]).get("propertyNames", {})
        keys = [str(key) for key in names.get("enum", ())]
        parts += [f"given {quoted(str(path[-1]))}", f"allowed {allowed_text(names)}"]
        hint = did_you_mean(str(path[-1]), keys)
    elif kind not in ("value_error", "assertion_error"):
        parts += [f"given {given}", f"allowed {allowed_text(here)}"]
        hint = _value_hint(fault["input"], here)
    elif not isinstance(fault["input"], Mapping | list):
        parts += [f"given {given}"]
    at_key = is_key or kind == "extra_forbidden"
    where, order = name, (0, 0)
    if place is not None:
        order = (place.key_line, place.key_column) if at_key else (place.line, place.column)
        where = f"{place.file or name}:{order[0]}:{order[1]}"
    elsewhere = place.file if place is not None else ""
    hint += f" (inherited by {name})" if elsewhere else ""
    return (elsewhere, *order), f"{where}: {dotted(path) or what}: {'; '.join(parts)}{hint}"


def _pointed(path: FieldPath, message: str, schema: Mapping[str, Any]) -> tuple[FieldPath, str]:
    """Path and rest of a message that a class's own check begins with the field it is about: ``"dram.grade: …"``."""
    below, separator, rest = message.partition(": ")
    steps = tuple(int(step) if step.isdecimal() else step for step in below.split("."))
    return ((*path, *steps), rest) if separator and steps[0] in field_names(schema) else (path, message)


def _message(kind: str, fault: ErrorDetails, schema: Mapping[str, Any]) -> str:
    """What is wrong, in a few words."""
    if kind in ("value_error", "assertion_error"):
        return one_line(fault["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, "))
    if fault["loc"] and fault["loc"][-1] == "[key]":
        return "unknown key"
    known = {
        "missing": "this field is missing",
        "extra_forbidden": "unknown field",
        "literal_error": "unknown value",
        "enum": "unknown value",
        "int_from_float": "not a whole number",
        "finite_number": "not a finite number",
        "too_short": "too few entries",
        "too_long": "too many entries",
        "string_too_short": "too short",
        "string_too_long": "too long",
        "string_pattern_mismatch": "not of the allowed form",
    }
    if kind in known:
        return known[kind]
    if kind.startswith(("greater_than", "less_than")):
        return "out of range"
    if kind.endswith(("_type", "_parsing")):
        return f"not {expected_kind(schema)}"
    return one_line(fault["msg"][:1].lower() + fault["msg"][1:])


def _value_hint(value: Any, schema: Mapping[str, Any]) -> str:
    """A near miss among listed values, or what to do about a number that was written with its unit."""
    if not isinstance(value, str):
        return ""
    if "enum" in schema:
        return did_you_mean(value, [str(item) for item in schema["enum"]])
    if is_number(schema) and _NUMBER_WITH_UNIT.match(value):
        return " (write the number alone: its unit is in the name of the field)"
    return ""


def _place_of(document: Document, path: Sequence[str | int]) -> Place | None:
    """The place of ``path``, or of the deepest part of it that stands in the file."""
    if not document.places:
        return None
    found: FieldPath = ()
    for step in path:
        if (*found, step) in document.places:
            found = (*found, step)
    return document.places[found]


def _value_at(data: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step]
    return data


def _given_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    return quoted(value) if isinstance(value, str) else short(json.dumps(value, default=str))
