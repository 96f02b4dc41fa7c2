"""A network's stream as its cache grows: sizes that are linear in the cached tokens, worked out from few streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["StreamLine"]


class StreamLine:
    """The streams ``at`` any number of cached tokens from ``first`` to ``last``.

    Built at both ends; one in between must be what the line through the ends says, or every one is built.
    """

    def __init__(self, build: Callable[[int], OperatorStream], first: int, last: int) -> None:
        self._build = build
        self._ends = first, last
        self._known = {first: build(first)}
        self._is_line = True
        if last > first:
            self._known[last] = build(last)
        if last > first + 1:
            built = build(first + 1)
            self._is_line = self._is_possible() and self._drawn(first + 1) == built
            self._known[first + 1] = built

    def at(self, n_cached: int) -> OperatorStream:
        """The stream behind ``n_cached`` tokens."""
        known = self._known.get(n_cached)
        if known is None:
            known = self._drawn(n_cached) if self._is_line else self._build(n_cached)
        return known

    def _is_possible(self) -> bool:
        one, other = (self._known[end] for end in self._ends)
        return [t.name for t in one.tensors] == [t.name for t in other.tensors] and [
            (o.name, o.kind, o.attributes.keys()) for o in one.operators
        ] == [(o.name, o.kind, o.attributes.keys()) for o in other.operators]

    def _drawn(self, n_cached: int) -> OperatorStream:
        first, last = self._ends
        one, other = self._known[first], self._known[last]

        def between(a: Any, b: Any) -> Any:
            if a == b:
                return a
            if isinstance(a, tuple):
                return tuple(map(between, a, b))
            if type(a) is not int or type(b) is not int or (b - a) % (last - first):
                raise InputError(f"{one.name}: sizes do not grow evenly with the cache")
            return a + (b - a) // (last - first) * (n_cached - first)

        try:
            tensors = tuple(
                a if a.shape == b.shape else replace(a, shape=between(a.shape, b.shape))
                for a, b in zip(one.tensors, other.tensors, strict=True)
            )
            operators = tuple(
                a
                if a.attributes == b.attributes
                else replace(a, attributes=_between(a.attributes, b.attributes, between))
                for a, b in zip(one.operators, other.operators, strict=True)
            )
        except InputError:
            self._is_line = False
            return self._build(n_cached)
        name = self._name(n_cached)
        return replace(one, tensors=tensors, operators=operators, name=name)

    def _name(self, n_cached: int) -> str:
        first, _ = self._ends
        return self._known[first].name.replace(f"context={first}", f"context={n_cached}")


def _between(one: Mapping[str, Any], other: Mapping[str, Any], between: Callable[[Any, Any], Any]) -> dict[str, Any]:
    return {key: between(value, other[key]) for key, value in one.items()}
