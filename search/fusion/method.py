"""The interface of a method that searches fusion groups, and the door through which methods become known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tilewright.errors import InputError, did_you_mean
from tilewright.search.fusion.problem import FusionProblem
from tilewright.search.fusion.split import Splitter

__all__ = ["FusionMethod", "FusionSearch", "fusion_method_names", "get_fusion_method", "register"]


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


_REGISTRY: dict[str, FusionMethod] = {}
_WITH_EXPLANATIONS = "get-"
_EXACT, _BASELINES = ("dp", "cp_sat"), ("local", "nsga2", "random")


def register(method: FusionMethod, *, with_explanations: bool = False) -> FusionMethod:
    """Make ``method`` known, and its form with explanations as ``get-...``; a name that is taken is refused."""
    forms = [method]
    if with_explanations:
        summary = f"{method.name}, groups that do not fit split by graph explanation (extra: gnn)"
        forms.append(
            FusionMethod(name=_WITH_EXPLANATIONS + method.name, summary=summary, search=method.search, explained=True)
        )
    for form in forms:
        if form.name in _REGISTRY:
            raise InputError(f'fusion method "{form.name}" is registered already')
        _REGISTRY[form.name] = form
    return method


def fusion_method_names() -> tuple[str, ...]:
    """The registered methods: the exact ones first, then the baselines, then these with explanations, then others."""
    _load_built_in()
    built_in = [*_EXACT, *_BASELINES, *(_WITH_EXPLANATIONS + name for name in _BASELINES)]
    return (*built_in, *(name for name in _REGISTRY if name not in built_in))


def get_fusion_method(name: str) -> FusionMethod:
    """The method of that name, or an InputError with the nearest one."""
    known = fusion_method_names()
    if name not in known:
        raise InputError(f'method: unknown name "{name}"; allowed: {", ".join(known)}{did_you_mean(name, known)}')
    return _REGISTRY[name]


def _load_built_in() -> None:
    # Importing a module registers its methods.
    from tilewright.search.fusion import chance, exact, genetic, local  # noqa: F401
