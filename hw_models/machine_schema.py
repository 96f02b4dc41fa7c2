"""JSON schemas of the files that describe machines, for editors: from the classes that check the files."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from tilewright.document import document_schema
from tilewright.errors import unknown
from tilewright.hw_models.field_notes import described_classes, field_notes
from tilewright.hw_models.inherit import BASE

__all__ = ["SCHEMAS", "machine_schema", "schema_of"]

Schema = dict[str, Any]
_IN_GROUPS = "MachineSpecInGroups"
_PART = "Part"  # of the definitions that a file with a base is checked by
_ROLE = re.compile(r":[a-z]+:`~?([^`]*)`")
_NONE: Schema = {"type": "null"}
_BASE_NOTE = "another machine, of which this file gives only what differs: a built-in name, or a path from this file"


def machine_schema() -> Schema:
    """The JSON schema (draft 2020-12) of a machine file: a whole one, or what differs from a ``base``."""
    from tilewright.hw_models.spec import MachineSpec

    schema = _with_base(_described(MachineSpec), what="machine", name="MachineSpec")
    in_groups = copy.deepcopy(schema["$defs"]["MachineSpec"])  # the parts of the main one may be the first group's
    in_groups["required"] = ["name", "dram"]
    schema["$defs"][_IN_GROUPS] = in_groups
    schema["else"] = {"if": {"required": ["groups"]}, "then": {"$ref": f"#/$defs/{_IN_GROUPS}"}, "else": schema["else"]}
    return schema


def _hierarchy_schema() -> Schema:
    from tilewright.hw_models.hierarchy import HierarchySpec

    return _with_base(_described(HierarchySpec), what="memory hierarchy", name="HierarchySpec")


#: What there is a schema of.
SCHEMAS: dict[str, Callable[[], Schema]] = {"machine": machine_schema, "hierarchy": _hierarchy_schema}


def schema_of(what: str) -> Schema:
    """The JSON schema of the files of ``what``; raises InputError for another name than those of :data:`SCHEMAS`."""
    if what not in SCHEMAS:
        raise unknown("kind of file", what, SCHEMAS)
    return SCHEMAS[what]()


def _described(model: type[Any]) -> Schema:
    """Pydantic's schema of ``model`` with what its docstrings say of each field."""
    schema = copy.deepcopy(document_schema(model))
    for one in described_classes(model):
        place = schema if one is model else schema["$defs"].get(one.__name__)
        if place is None:
            continue
        place["description"] = _plain((one.__doc__ or "").strip().split("\n\n")[0])
        notes = field_notes(one)
        for name, entry in place["properties"].items():
            entry.pop("title", None)
            if name in notes:
                entry["description"] = _plain(notes[name])
    return schema


def _with_base(whole: Schema, *, what: str, name: str) -> Schema:
    """``whole`` for files without a base; for those with one, nothing is missing and ``null`` removes."""
    definitions: Schema = whole.pop("$defs", {})
    definitions[name] = whole
    parts = {f"{key}{_PART}": _part(copy.deepcopy(one)) for key, one in definitions.items()}
    root = parts[f"{name}{_PART}"]
    root["properties"] |= {"name": whole["properties"]["name"], BASE: {"type": "string", "description": _BASE_NOTE}}
    root["required"] = [BASE, "name"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Tilewright {what} file",
        "if": {"required": [BASE]},
        "then": {"$ref": f"#/$defs/{name}{_PART}"},
        "else": {"$ref": f"#/$defs/{name}"},
        "$defs": definitions | parts,
    }


def _part(definition: Schema) -> Schema:
    """What may stand in a file with a base: any of the fields, or ``null`` for one that the base has."""
    if "properties" in definition:
        definition.pop("required", None)
        definition["properties"] = {key: _removable(one) for key, one in definition["properties"].items()}
    return definition


def _removable(entry: Schema) -> Schema:
    words: Schema = {key: entry.pop(key) for key in ("description", "default") if key in entry}
    choices = [_moved(one) for one in entry.pop("anyOf", [entry])]
    return {"anyOf": [*choices, *_by_name(choices), *([] if _NONE in choices else [_NONE])], **words}


def _moved(entry: Schema) -> Schema:
    """``entry`` with references to the definitions of parts; keys of a table and entries of a list may be ``null``."""
    found = dict(entry)
    if "$ref" in found:
        found["$ref"] += _PART
    for key in ("additionalProperties", "items"):
        if isinstance(found.get(key), dict):
            found[key] = {"anyOf": [_moved(found[key]), _NONE]}
    found.pop("minItems", None)
    found.pop("minProperties", None)
    return found


def _by_name(choices: list[Schema]) -> list[Schema]:
    """Lists of things may also be written as a mapping of their names."""
    return [
        {"type": "object", "additionalProperties": one["items"]}
        for one in choices
        if one.get("type") == "array" and any("$ref" in item for item in one["items"].get("anyOf", ()))
    ]


def _plain(text: str) -> str:
    return _ROLE.sub(r"\1", " ".join(text.replace("``", "").split()))
