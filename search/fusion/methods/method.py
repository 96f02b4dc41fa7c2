"""The interface of a method that searches fusion groups, and the door through which methods become known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from tilewright.registry import LAST, Registry
from tilewright.search.fusion.problem import FusionProblem
from tilewright.search.fusion.split import Splitter

__all__ = ["METHODS", "FusionMethod", "FusionSearch", "fusion_method_names", "get_fusion_method", "register"]


class FusionSearch(Protocol):
    """Propose plans to the problem until its budget is spent; ``split`` makes groups that do not fit into such that do.

    All chance must come from ``problem.random`` or ``problem.seed``.
    """

    def __call__(self, problem: FusionProblem, split: Splitter) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionMethod:
    """A named way to search. ``explained``: splits by explanations of a learned model, where that finds a way.

    ``by_chance``: whether another seed may give another outcome; ``has_budget``: whether it ends when its budget of
    plans is spent.
    """

    name: str
    summary: str
    search: FusionSearch
    explained: bool = False
    by_chance: bool = True
    has_budget: bool = True


_WITH_EXPLANATIONS, _EXPLAINED_RANK = "get-", 1000
METHODS: Registry[FusionMethod] = Registry("method", rooms=("tilewright.search.fusion.methods",))


def register(
    method: FusionMethod, *, with_explanations: bool = False, rank: int = LAST, usual: bool = False
) -> FusionMethod:
    """Make ``method`` known, and its form with explanations as ``get-...``; a name that is taken is refused.

    ``usual``: it is meant where none is named. ``rank``: its place in lists; forms with explanations stand behind all
    that have one, in the same order.
    """
    METHODS.register(method.name, method, rank=rank, usual=usual)
    if with_explanations:
        name = _WITH_EXPLANATIONS + method.name
        summary = f"{method.name}, groups that do not fit split by graph explanation (extra: gnn)"
        explained = replace(method, name=name, summary=summary, explained=True)
        METHODS.register(name, explained, rank=min(LAST, _EXPLAINED_RANK + rank))
    return method


def fusion_method_names() -> tuple[str, ...]:
    """The registered methods."""
    return METHODS.names()


def get_fusion_method(name: str | None) -> FusionMethod:
    """The method of that name (None: the usual one), or an InputError with the nearest one."""
    return METHODS.get(METHODS.usual() if name is None else name)
