"""The interface of a search method, and the door through which methods become known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.errors import InputError, did_you_mean
from tilewright.search.methods.problem import Point, Problem

__all__ = ["Propose", "SearchMethod", "get_method", "method_names", "register"]


class Propose(Protocol):
    """Yield batches of points; when the next batch is asked for, their results are in ``problem.results``.

    Points proposed a second time cost nothing. The method ends by returning, when its budget is spent, when nothing
    that is left can be better, or when it has brought nothing new for long. All chance must come from
    ``problem.random`` or ``problem.seed``.
    """

    def __call__(self, problem: Problem) -> Iterator[Sequence[Point]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchMethod:
    """A named way to search. ``share`` is the part of the points that it runs when no budget is given."""

    name: str
    summary: str
    propose: Propose
    share: float = 0.05


_REGISTRY: dict[str, SearchMethod] = {}


def register(method: SearchMethod) -> SearchMethod:
    """Make ``method`` known under its name (a second one of the same name is refused)."""
    if method.name in _REGISTRY:
        raise InputError(f'search method "{method.name}" is registered already')
    _REGISTRY[method.name] = method
    return method


def method_names() -> tuple[str, ...]:
    """The registered search methods."""
    _load_built_in()
    return tuple(_REGISTRY)


def get_method(name: str) -> SearchMethod:
    """The search method of that name, or an InputError with the nearest one."""
    known = method_names()
    if name not in known:
        raise InputError(f'method: unknown name "{name}"; allowed: {", ".join(known)}{did_you_mean(name, known)}')
    return _REGISTRY[name]


def _load_built_in() -> None:
    # Importing a method registers it; the order is that of the lists that people see.
    from tilewright.search.methods import (  # noqa: F401, I001
        exhaustive,
        constraint,
        tree,
        genetic,
        tree_genetic,
        pareto_genetic,
        density,
        baseline,
    )
