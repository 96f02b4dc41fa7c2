"""The interface of a method that searches fusion groups, and the door through which methods become known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tilewright.registry import Registry
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
    """A named way to search. ``explained``: splits by explanations of a learned model, where that finds a way."""

    name: str
    summary: str
    search: FusionSearch
    explained: bool = False


_WITH_EXPLANATIONS = "get-"
_EXACT, _BASELINES = ("dp", "cp_sat"), ("local", "nsga2", "random")
# The exact ones first, then the baselines, then these with explanations, then others.
METHODS: Registry[FusionMethod] = Registry(
    "method",
    built_in=tuple(f"tilewright.search.fusion.{name}" for name in ("chance", "exact", "genetic", "local")),
    first=(*_EXACT, *_BASELINES, *(_WITH_EXPLANATIONS + name for name in _BASELINES)),
)


def register(method: FusionMethod, *, with_explanations: bool = False) -> FusionMethod:
    """Make ``method`` known, and its form with explanations as ``get-...``; a name that is taken is refused."""
    METHODS.register(method.name, method)
    if with_explanations:
        name = _WITH_EXPLANATIONS + method.name
        summary = f"{method.name}, groups that do not fit split by graph explanation (extra: gnn)"
        METHODS.register(name, FusionMethod(name=name, summary=summary, search=method.search, explained=True))
    return method


def fusion_method_names() -> tuple[str, ...]:
    """The registered methods."""
    return METHODS.names()


def get_fusion_method(name: str) -> FusionMethod:
    """The method of that name, or an InputError with the nearest one."""
    return METHODS.get(name)
