"""Conditions written as text (``matrix.rows <= 2 * matrix.columns``), read into functions and never evaluated as code.

Python's own parser gives the syntax tree; only comparisons, ``and``/``or``/``not``, ``+ - * / // %``, numbers, texts,
true and false, and dotted names are let through.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError, unknown

__all__ = ["Condition", "Value", "parse_condition"]

Value = int | float | str | bool
Values = Mapping[str, Any]
Reader = Callable[[Values], Any]

_LONGEST = 400
_ALLOWED = "comparisons of names and numbers with < <= > >= == !=, and, or, not, + - * / // %"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition: its ``text``, the ``names`` it reads, and :meth:`holds`."""

    text: str
    names: tuple[str, ...]
    reader: Reader

    def holds(self, values: Values) -> bool:
        """Whether ``values`` (name -> value) fulfil it; a name without a value does not.

        Raises InputError where it compares or computes with a text, or divides by zero.
        """
        if any(values.get(name) is None for name in self.names):
            return False
        try:
            return bool(self.reader(values))
        except (TypeError, ArithmeticError) as fault:
            given = ", ".join(f"{name}={values[name]}" for name in self.names)
            raise InputError(f'condition "{self.text}": cannot be computed with {given} ({fault})') from None


def parse_condition(text: str, allowed: Iterable[str]) -> Condition:
    """The condition that ``text`` says about the names in ``allowed``; raises InputError for anything else."""
    if len(text) > _LONGEST:
        raise InputError(f"too long; given {len(text)} characters; allowed at most {_LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f'not a condition; given "{text}"; allowed {_ALLOWED}') from None
    names: dict[str, None] = {}
    reader = _reader(tree, text, set(allowed), names)
    if not isinstance(tree, ast.Compare | ast.BoolOp) and not (
        isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    ):
        raise InputError(f'compares nothing; given "{text}"; allowed {_ALLOWED}')
    return Condition(text=text, names=tuple(names), reader=reader)


def _reader(node: ast.expr, text: str, allowed: set[str], names: dict[str, None]) -> Reader:
    def below(part: ast.expr) -> Reader:
        return _reader(part, text, allowed, names)

    match node:
        case ast.Constant(value=bool() | int() | float() | str() as constant):
            return lambda values: constant
        case ast.Name() | ast.Attribute():
            return _named(node, text, allowed, names)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            inner = below(part)
            return lambda values: not inner(values)
        case ast.UnaryOp(op=ast.USub(), operand=part):
            inner = below(part)
            return lambda values: -inner(values)
        case ast.BoolOp(op=joined, values=parts):
            readers = [below(part) for part in parts]
            together = all if isinstance(joined, ast.And) else any
            return lambda values: together(reader(values) for reader in readers)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            first, second, compute = below(left), below(right), _ARITHMETIC[type(op)]
            return lambda values: compute(first(values), second(values))
        case ast.Compare(left=left, ops=ops, comparators=rest) if all(type(op) in _COMPARE for op in ops):
            return _comparison([below(part) for part in (left, *rest)], [_COMPARE[type(op)] for op in ops])
    shown = ast.get_source_segment(text.strip(), node) or text
    raise InputError(f'cannot stand in a condition; given "{shown}"; allowed {_ALLOWED}')


def _comparison(readers: list[Reader], compares: list[Callable[[Any, Any], bool]]) -> Reader:
    def read(values: Values) -> bool:
        terms = [reader(values) for reader in readers]
        return all(compare(terms[at], terms[at + 1]) for at, compare in enumerate(compares))

    return read


def _named(node: ast.expr, text: str, allowed: set[str], names: dict[str, None]) -> Reader:
    steps: list[str] = []
    while isinstance(node, ast.Attribute):
        steps.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise InputError(f'not a condition; given "{text}"; allowed {_ALLOWED}')
    name = ".".join([node.id, *reversed(steps)])
    if name in ("true", "false"):
        constant = name == "true"
        return lambda values: constant
    if name not in allowed:
        raise unknown("name", name, sorted(allowed))
    names[name] = None
    return lambda values: values[name]
