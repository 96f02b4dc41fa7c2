"""What is minimised: latency, energy, or their product."""

from __future__ import annotations

from typing import Literal, cast, get_args

from tilewright.errors import unknown

__all__ = ["OBJECTIVES", "Objective", "check_objective", "score"]

Objective = Literal["latency", "energy", "edp"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)


def check_objective(name: str) -> Objective:
    """``name`` as an objective, or an InputError with what is allowed."""
    for objective in get_args(Objective):
        if name == objective:
            return cast(Objective, objective)
    raise unknown("objective", name, OBJECTIVES)


def score(objective: Objective, cycles: float, energy_pj: float) -> tuple[float, float]:
    """The figure to minimise, and the one that decides between equals.

    Both parts grow with both arguments, so the score of lower bounds is a lower bound of the score.
    """
    if objective == "latency":
        return cycles, energy_pj
    if objective == "energy":
        return energy_pj, cycles
    return cycles * energy_pj, cycles
