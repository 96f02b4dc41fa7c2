"""The interface of a search method, and the door through which methods become known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.registry import LAST, Registry
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
    """A named way to search. ``share`` is the part of the points that it runs when no budget is given.

    ``by_chance``: whether another seed may give another outcome.
    """

    name: str
    summary: str
    propose: Propose
    share: float = 0.05
    by_chance: bool = True


METHODS: Registry[SearchMethod] = Registry("method", rooms=("tilewright.search.methods",))


def register(method: SearchMethod, *, rank: int = LAST, usual: bool = False) -> SearchMethod:
    """Make ``method`` known under its name (a second one of the same name is refused).

    ``rank``: its place in lists; ``usual``: it is meant where none is named.
    """
    return METHODS.register(method.name, method, rank=rank, usual=usual)


def method_names() -> tuple[str, ...]:
    """The registered search methods."""
    return METHODS.names()


def get_method(name: str | None) -> SearchMethod:
    """The search method of that name (None: the usual one), or an InputError with the nearest one."""
    return METHODS.get(METHODS.usual() if name is None else name)
