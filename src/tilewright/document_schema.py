"""What a JSON schema allows at one place, in words for an error text.

The schemas are those that pydantic derives from the models, so that an error always states the bounds that
are really checked. See https://json-schema.org/draft/2020-12 for the keywords.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["allowed_text", "expected_kind", "field_names", "is_number", "schema_at"]

Schema = Mapping[str, Any]

_KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping of fields",
    "null": "nothing",
}


def schema_at(root: Schema, path: Sequence[str | int]) -> Schema:
    """The schema of the value at ``path`` below ``root``; steps that are no field (union tags) are skipped.

    References are followed and optional values stand for what they hold otherwise.
    """
    here = _resolved(root, root)
    for step in path:
        below = _below(here, step)
        if below is None:
            below = next((found for part in _choices(root, here) if (found := _below(part, step)) is not None), None)
        if below is not None:
            here = _resolved(root, below)
    return here


def field_names(schema: Schema) -> list[str]:
    """The fields of a described mapping, in the order of their definition."""
    return list(schema.get("properties", {}))


def is_number(schema: Schema) -> bool:
    """Whether a number is wanted here."""
    return schema.get("type") in ("number", "integer")


def expected_kind(schema: Schema) -> str:
    """``"a number"``, ``"a list"``, … ; ``"an allowed value"`` where there are several kinds."""
    return _KINDS.get(str(schema.get("type")), "an allowed value")


def allowed_text(schema: Schema) -> str:
    """What is allowed at this place, such as ``"a number greater than 0"``."""
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        parts = schema.get("anyOf", schema.get("oneOf", ()))
        return " or ".join(dict.fromkeys(allowed_text(part) for part in parts))
    kind = expected_kind(schema)
    match schema.get("type"):
        case "number" | "integer":
            return " ".join([kind, _bounds(schema)]).strip()
        case "string":
            pattern = f" of the form {schema['pattern']}" if "pattern" in schema else ""
            return ("non-empty text" if schema.get("minLength") else kind) + pattern
        case "array":
            return "a list of at least one entry" if schema.get("minItems") else kind
        case "object" if "properties" in schema:
            return f"a mapping with the fields {', '.join(schema['properties'])}"
        case "object" if "enum" in schema.get("propertyNames", {}):
            return f"a mapping with the keys {', '.join(schema['propertyNames']['enum'])}"
    return kind


def _bounds(schema: Schema) -> str:
    words = (
        ("exclusiveMinimum", "greater than"),
        ("minimum", "of at least"),
        ("exclusiveMaximum", "less than"),
        ("maximum", "of at most"),
    )
    return " and ".join(f"{word} {schema[key]:,.10g}" for key, word in words if key in schema)


def _below(schema: Schema, step: str | int) -> Schema | None:
    """The schema one step down, or None where there is no such step."""
    if isinstance(step, int):
        items = schema.get("items")
        return items if isinstance(items, Mapping) else None
    found = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    return found if isinstance(found, Mapping) else None


def _choices(root: Schema, schema: Schema) -> list[Schema]:
    return [_resolved(root, part) for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()))]


def _resolved(root: Schema, schema: Schema) -> Schema:
    """``schema`` with references followed and with "or nothing" removed."""
    while True:
        if "$ref" in schema:
            found: Any = root
            for part in str(schema["$ref"]).removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            schema = found
        elif len(schema.get("allOf", ())) == 1:
            schema = schema["allOf"][0]
        else:
            rest = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
            if len(rest) != 1 or len(rest) == len(schema.get("anyOf", ())):
                return schema
            schema = rest[0]
