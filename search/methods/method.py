"""The interface of a search method, and the door through which methods become known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.registry import Registry
from tilewright.search.methods.problem import Point, Problem

__all__ = ["METHODS", "Propose", "SearchMethod", "get_method", "method_names", "register"]


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


_ORDER = ("exhaustive", "constraint", "tree", "genetic", "tree_genetic", "pareto_genetic", "density", "baseline")
METHODS: Registry[SearchMethod] = Registry(
    "method",
    built_in=tuple(f"tilewright.search.methods.{name}" for name in _ORDER),
    first=("exhaustive", "cp_sat", "mcts", "genetic", "mcts_genetic", "nsga2", "tpe", "random"),
)


def register(method: SearchMethod) -> SearchMethod:
    """Make ``method`` known under its name (a second one of the same name is refused)."""
    return METHODS.register(method.name, method)


def method_names() -> tuple[str, ...]:
    """The registered search methods."""
    return METHODS.names()


def get_method(name: str) -> SearchMethod:
    """The search method of that name, or an InputError with the nearest one."""
    return METHODS.get(name)
