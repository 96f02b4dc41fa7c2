"""How an operator of a kind is written on the command line: ``kind:key=value,...``, and what reads its keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.workloads.attention import LARGEST_EXTENT

if TYPE_CHECKING:
    from tilewright.workloads.stream.builder import StreamBuilder

__all__ = ["FORMATS", "TWO_FORMATS", "OperatorText", "TextKeys", "add_result", "table"]

_MOST_VALUES = 2**50  # of one tensor; no machine holds or moves more

#: Keys for number formats: of all tensors, of the first input, of the result; ``b_format``, of what multiplies it.
FORMATS = ("format", "a_format", "out_format")
TWO_FORMATS = ("format", "a_format", "b_format", "out_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorText:
    """How an operator is written: a text that runs, its keys, and which of them must be given.

    ``build(built, given)`` adds the operator with its inputs to a stream and returns the name of its result (several,
    where it has several). ``name`` stands before the colon, where that is not the name of the kind. ``is_network``: it
    becomes several operators, which are run as a network.
    """

    example: str
    keys: tuple[str, ...]
    needed: tuple[str, ...]
    build: Callable[[StreamBuilder, TextKeys], str | Sequence[str]]
    name: str = ""
    is_network: bool = False


@dataclass(frozen=True, slots=True)
class TextKeys:
    """The keys of one text, read one by one; every error names the text (``what``) and the key."""

    what: str
    kind: str
    values: Mapping[str, str]
    example: str

    def count(self, key: str, usual: int | None = None, *, least: int = 1) -> int:
        """A whole number, ``usual`` where it is not given."""
        text = self.values.get(key)
        if text is None:
            if usual is None:
                raise self.missing(key)
            return usual
        return self._number(key, text, least)

    def sizes(self, key: str, n: int, usual: int, *, least: int = 1) -> tuple[int, ...]:
        """One number for every dimension, or one number for all of them: ``3`` or ``3x5``."""
        text = self.values.get(key)
        if text is None:
            return (usual,) * n
        found = tuple(self._number(key, part, least) for part in text.split("x"))
        if len(found) not in (1, n):
            raise InputError(f'{self.what}: {key}: given "{text}"; allowed one number, or {n} as in in=')
        return found * n if len(found) == 1 else found

    def extents(self, key: str) -> tuple[int, ...]:
        """``64x56x56``."""
        if key not in self.values:
            raise self.missing(key)
        return tuple(self._number(key, part, 1) for part in self.values[key].split("x"))

    def word(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of ``allowed``; the first where it is not given."""
        text = self.values.get(key, allowed[0])
        if text not in allowed:
            raise unknown(key, text, allowed, place=self.what)
        return text

    def format(self, key: str) -> str:
        """The number format of ``key`` (``a_format``), that of ``format`` where it is not given, else fp16."""
        place = key if key in self.values else "format"
        name = self.values.get(place, "fp16")
        try:
            tensor_format(name)
        except InputError as fault:
            raise InputError(f"{self.what}: {place}: {fault}") from None
        return name

    def missing(self, key: str) -> InputError:
        """The error for a key that must be given."""
        return InputError(f"{self.what}: {key}: missing; allowed for example {self.example}")

    def _number(self, key: str, text: str, least: int) -> int:
        try:
            value = float(text) if "e" in text else int(text)
        except ValueError:
            value = math.nan
        if not least <= value <= LARGEST_EXTENT or value != int(value):
            allowed = f"whole numbers from {least} to {LARGEST_EXTENT}"
            raise InputError(f'{self.what}: {key}: must be a whole number; given "{text}"; allowed {allowed}')
        return int(value)


def add_result(
    built: StreamBuilder,
    given: TextKeys,
    kind: str,
    inputs: Sequence[str],
    shape: tuple[int, ...],
    attributes: Mapping[str, Any],
) -> str:
    """Add the operator, whose result has ``shape``; returns the name of that tensor."""
    for sizes in (shape, *(built.shape(name) for name in inputs)):
        if math.prod(sizes) > _MOST_VALUES:
            shown = "x".join(map(str, sizes))
            raise InputError(f"{given.what}: a tensor of {shown} values is beyond reason; allowed at most 2^50 values")
    return built.add(kind, given.kind, inputs, shape, attributes, number_format=given.format("out_format"))


def table(built: StreamBuilder, given: TextKeys) -> tuple[str, dict[str, int]]:
    """The input of ``rows`` times ``columns`` values, and these two."""
    rows, columns = given.count("rows"), given.count("columns")
    x = built.input("x", (rows, columns), number_format=given.format("a_format"))
    return x, {"rows": rows, "columns": columns}
