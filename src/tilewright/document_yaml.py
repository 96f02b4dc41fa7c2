"""YAML text as plain data, with the line and column of every value.

PyYAML composes the nodes; their scalars are resolved here by the YAML 1.2 core schema, keys are always text,
and a key that is given twice, a tag, or an alias that contains itself is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError

if TYPE_CHECKING:
    import yaml

__all__ = ["Document", "FieldPath", "Place", "dotted", "one_line", "quoted", "read_yaml", "scalar_rules", "short"]

FieldPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_MAX_NODES = 100_000
_MOST_BITS = 1024  # of whole numbers: what a fractional one reaches
_MAX_GIVEN_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value stands (``line``, ``column``), where its key stands, and the value as written.

    ``file``: the file that it stands in, where that is another than the document's own (a machine that it inherits).
    """

    line: int
    column: int
    key_line: int
    key_column: int
    given: str
    file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Plain data, and the place of each value by its path (empty when it did not come from a file)."""

    data: Any
    places: dict[FieldPath, Place] = field(default_factory=dict)


class _FaultError(Exception):
    """One fault with the node that it belongs to."""

    def __init__(self, path: FieldPath, mark: yaml.Mark, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.mark = mark
        self.message = message


def scalar_rules() -> tuple[tuple[str, str, list[str]], ...]:
    """Tag, pattern and first characters of the scalars that are no text (YAML 1.2 core schema, section 10.3.2)."""
    return (
        (_TAG + "null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
        (_TAG + "bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
        (_TAG + "int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
        (
            _TAG + "float",
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
            list("-+.0123456789"),
        ),
    )


@lru_cache(maxsize=1)
def _loader() -> type[yaml.SafeLoader]:
    """PyYAML's safe loader with the rules of :func:`scalar_rules`."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    for tag, pattern, first in scalar_rules():
        Loader.add_implicit_resolver(tag, re.compile(pattern), first)
    return Loader


def read_yaml(text: str, what: str, name: str) -> Document:
    """Plain data (mappings with text keys, lists, text, numbers, true/false, None) of one YAML document.

    ``what`` and ``name`` stand for the described thing and the file in the :class:`InputError` raised when the
    text is empty, is not YAML, gives a key twice, uses tags, or is too large or too deep.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=_loader())
        if root is None:
            raise InputError(f"{name}:1:1: {what}: the file is empty; allowed a mapping of fields")
        places: dict[FieldPath, Place] = {}
        data = _Reader(places).value(root, (), root.start_mark)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = ", ".join(part for part in (fault.context, fault.problem) if part)
        raise InputError(f"{where}: {what}: not valid YAML; {one_line(problem)}") from None
    except yaml.YAMLError as fault:
        raise InputError(f"{name}: {what}: not valid YAML; {one_line(str(fault))}") from None
    except _FaultError as fault:
        where = f"{name}:{fault.mark.line + 1}:{fault.mark.column + 1}"
        raise InputError(f"{where}: {dotted(fault.path) or what}: {fault.message}") from None
    except RecursionError:
        raise InputError(f"{name}: {what}: not valid; lists or mappings are nested too deeply") from None
    return Document(data=data, places=places)


class _Reader:
    """Turns composed nodes into plain data and notes the place of each value."""

    def __init__(self, places: dict[FieldPath, Place]) -> None:
        self.places = places
        self.open_nodes: set[int] = set()

    def value(self, node: yaml.Node, path: FieldPath, key_mark: yaml.Mark) -> Any:
        import yaml

        if len(self.places) >= _MAX_NODES:
            raise _FaultError(path, node.start_mark, f"too large; allowed at most {_MAX_NODES:,} values")
        if id(node) in self.open_nodes:
            raise _FaultError(path, node.start_mark, "an alias may not contain itself")
        self.open_nodes.add(id(node))
        self.places[path] = Place(
            line=node.start_mark.line + 1,
            column=node.start_mark.column + 1,
            key_line=key_mark.line + 1,
            key_column=key_mark.column + 1,
            given=_given_node(node),
        )
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self.mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            value = [self.value(item, (*path, i), item.start_mark) for i, item in enumerate(node.value)]
        else:
            value = _scalar(node, path)
        self.open_nodes.discard(id(node))
        return value

    def mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        import yaml

        data: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _FaultError(path, key_node.start_mark, "a key must be a single word, not a list or a mapping")
            key: str = key_node.value
            line = key_node.start_mark.line + 1
            if key in first_line:
                raise _FaultError(
                    (*path, key),
                    key_node.start_mark,
                    f"the key is given twice, in line {first_line[key]} and in line {line}; allowed once",
                )
            first_line[key] = line
            data[key] = self.value(value_node, (*path, key), key_node.start_mark)
        return data


def _scalar(node: yaml.Node, path: FieldPath) -> Any:
    """The value of a scalar node; a number without a fractional part is an ``int`` (``1e9`` is)."""
    tag, text = node.tag.removeprefix(_TAG), str(node.value)
    try:
        match tag:
            case "str" | "null":
                return text if tag == "str" else None
            case "bool":
                return text.lower() == "true"
            case "int":
                prefix = text[:2].lower()
                whole = int(text, 16 if prefix == "0x" else 8 if prefix == "0o" else 10)
                if whole.bit_length() > _MOST_BITS:  # Python cannot write down a number of too many digits
                    raise _FaultError(path, node.start_mark, f"a number of too many digits; given {quoted(text)}")
                return whole
            case "float":
                number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
                return int(number) if number.is_integer() else number
    except ValueError:
        raise _FaultError(path, node.start_mark, f"not a number; given {quoted(text)}") from None
    raise _FaultError(
        path, node.start_mark, f"a tag is not allowed here; given {one_line(node.tag.replace(_TAG, '!!'))}"
    )


def _given_node(node: yaml.Node) -> str:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if node.tag == _TAG + "null":
        return "nothing"
    return quoted(node.value) if node.tag == _TAG + "str" else short(str(node.value))


def quoted(text: str) -> str:
    """``text`` on one line in double quotes, shortened."""
    return json.dumps(short(text), ensure_ascii=False)


def short(text: str) -> str:
    """``text`` cut to what an error text has room for."""
    return text if len(text) <= _MAX_GIVEN_CHARACTERS else text[: _MAX_GIVEN_CHARACTERS - 1] + "…"


def one_line(text: str) -> str:
    """``text`` with every stretch of white space as one blank."""
    return " ".join(text.split())


def dotted(path: Sequence[str | int]) -> str:
    """``("buffers", 0, "name")`` as ``buffers.0.name``."""
    return ".".join(one_line(str(step)) for step in path)
