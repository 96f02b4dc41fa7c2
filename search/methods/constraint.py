"""CP-SAT (OR-Tools) on the lower-bound model: solve, run the solution exactly, cut it off, and solve again.

The model has a variable for each factor, a table of the tilings that fit on chip with their counted bounds, and the
bound as its objective. Once the least bound of what is left reaches the best exact result, that result is the optimum.
One worker and a limit in deterministic time make it repeatable.
"""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.search.cp_sat import has_answer, new_solver
from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem

__all__ = ["CP_SAT"]

_LARGEST = 10**12  # bounds in the model are whole numbers up to this
_DETERMINISTIC_SECONDS = 10.0


def propose(problem: Problem) -> Iterator[list[Point]]:
    """The point of the least bound among those not yet run."""
    from ortools.sat.python import cp_model

    bounds = {point: problem.bound(point)[0] for point in problem.points}
    scale = min(1.0, _LARGEST / max(bounds.values()))
    model = cp_model.CpModel()
    factors = [model.new_int_var_from_domain(cp_model.Domain.from_values(f.values), f.name) for f in problem.factors]
    least = model.new_int_var(0, _LARGEST, "bound")
    model.add_allowed_assignments([*factors, least], [(*p, int(scale * bound)) for p, bound in bounds.items()])
    model.minimize(least)
    solver = new_solver(seed=problem.seed, deterministic_seconds=_DETERMINISTIC_SECONDS)
    while not problem.exhausted and has_answer(solver, model):
        point = tuple(solver.value(factor) for factor in factors)
        model.add_forbidden_assignments(factors, [point])
        yield [point]


CP_SAT = register(
    SearchMethod(
        name="cp_sat", summary="OR-Tools minimises the counted bound; exact runs of the best", propose=propose
    ),
    rank=2,
)
