"""Which designs of a sweep are run, as its file says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le

from tilewright.document import STRICT_FIELDS

__all__ = ["FrontObjective", "SamplingSpec"]

#: What a search for the Pareto front may weigh; less is better.
FrontObjective = Literal["latency", "energy", "power", "area"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSpec:
    """Which of the designs are run: all of them (grid), ``n`` points of a scrambled Sobol sequence (sobol), or ``n``
    that a genetic search chooses from the results so far, towards the Pareto front of ``objectives`` (nsga2).

    ``population``: the designs of one generation of that search, which are run side by side.
    """

    __pydantic_config__ = STRICT_FIELDS

    method: Literal["grid", "sobol", "nsga2"] = "grid"
    n: Annotated[int, Ge(1), Le(10_000_000)] | None = None
    seed: Annotated[int, Ge(0)] = 0
    objectives: tuple[FrontObjective, ...] = ()
    population: Annotated[int, Ge(4), Le(10_000)] | None = None

    def __post_init__(self) -> None:
        if self.method != "grid" and self.n is None:
            raise ValueError(f"n: {self.method} needs the number of designs to draw; allowed for example n: 256")
        if self.method == "grid" and self.n is not None:
            raise ValueError("n: a grid runs every design; allowed together with method: sobol or nsga2")
        for name in ("objectives", "population"):
            if getattr(self, name) and not self.is_adaptive:
                raise ValueError(f"{name}: is for a search; allowed together with method: nsga2")
        if len(set(self.objectives)) < len(self.objectives) or len(self.objectives) == 1:
            given = ", ".join(self.objectives)
            raise ValueError(f"objectives: not a front; given {given}; allowed two or more different ones")

    @property
    def is_adaptive(self) -> bool:
        """Whether the designs follow from the results, so that they are not known beforehand."""
        return self.method == "nsga2"
