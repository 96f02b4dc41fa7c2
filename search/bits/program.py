"""The bit widths of least sensitivity within budgets, as an integer program, proven optimal.

One 0/1 variable for each option of a decision, exactly one of them 1; every budget is a sum of whole numbers at most a
whole number. Sensitivities are the only rounded figures: they are scaled so that the largest possible sum has 50 bits.
Solved by CP-SAT (OR-Tools) with one worker and a fixed seed, so that the same problem always gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.search.bits.budget import amount_text
from tilewright.search.bits.problem import Assignment, BitProblem, CostKind

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, IntVar

__all__ = ["InfeasibleError", "Solution", "least_cost", "solve"]

_BITS = 50
_TIME_LIMIT_S = 60.0


class InfeasibleError(InputError):
    """No assignment keeps every budget; ``least`` holds, for each budget that cannot be kept, the least possible."""

    def __init__(self, message: str, least: Mapping[CostKind, int]) -> None:
        super().__init__(message)
        self.least = dict(least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best assignment, its sensitivity and its costs.

    ``proven``: nothing is better (to the last of 50 bits); else ``bound`` is below every assignment's sensitivity.
    ``binding``: the budgets without which something less sensitive exists.
    """

    assignment: Assignment
    sensitivity: float
    costs: Mapping[CostKind, int]
    proven: bool
    bound: float
    seconds: float
    binding: tuple[CostKind, ...] = ()

    @property
    def gap(self) -> float:
        """How far the sensitivity can be above the best, as a share of it; 0 when proven."""
        if self.proven or self.sensitivity <= 0:
            return 0.0
        return max(0.0, (self.sensitivity - self.bound) / self.sensitivity)


def solve(problem: BitProblem, limits: Mapping[CostKind, int], *, time_limit_s: float = _TIME_LIMIT_S) -> Solution:
    """The assignment of least sensitivity whose costs are at most ``limits`` (whole numbers in the units of COSTS).

    A budget binds when a less sensitive assignment exists without it. Raises :class:`InfeasibleError`, with what cannot
    be kept and the least that could be, when there is none.
    """
    for kind in limits:
        problem.check_kind(kind)
    objective = _scaled([[o.sensitivity for o in d.options] for d in problem.decisions])
    found = _minimise(problem, objective, limits, time_limit_s)
    if found is None:
        raise _infeasible(problem, limits, time_limit_s)
    binding = tuple(kind for kind in limits if _binds(problem, objective, limits, kind, found, time_limit_s))
    scale = _scale(problem)
    return Solution(
        assignment=found.assignment,
        sensitivity=problem.sensitivity(found.assignment),
        costs=problem.costs(found.assignment),
        proven=found.proven,
        bound=problem.sensitivity(found.assignment) - (found.objective - found.bound) / scale,
        seconds=found.seconds,
        binding=binding,
    )


def least_cost(
    problem: BitProblem, kind: CostKind, limits: Mapping[CostKind, int], *, time_limit_s: float = _TIME_LIMIT_S
) -> int | None:
    """The least of one cost within ``limits`` on the others; None when these alone cannot be kept."""
    others = {name: limit for name, limit in limits.items() if name != kind}
    if not others:
        return problem.least(kind)
    objective = [[option.costs[kind] for option in decision.options] for decision in problem.decisions]
    found = _minimise(problem, objective, others, time_limit_s)
    return None if found is None else problem.cost(kind, found.assignment)


@dataclass(frozen=True, slots=True)
class _Found:
    assignment: Assignment
    objective: int
    bound: float
    proven: bool
    seconds: float


def _scale(problem: BitProblem) -> float:
    return _scale_of([[o.sensitivity for o in d.options] for d in problem.decisions])


def _scale_of(sensitivities: Sequence[Sequence[float]]) -> float:
    largest = sum(max(row) - min(row) for row in sensitivities)
    return 2.0**_BITS / largest if largest > 0 else 1.0


def _scaled(sensitivities: Sequence[Sequence[float]]) -> list[list[int]]:
    """Whole numbers in proportion, each decision's from its own least."""
    scale = _scale_of(sensitivities)
    return [[round(scale * (value - min(row))) for value in row] for row in sensitivities]


def _minimise(
    problem: BitProblem, objective: Sequence[Sequence[int]], limits: Mapping[CostKind, int], time_limit_s: float
) -> _Found | None:
    """The assignment of least ``objective`` within ``limits``; None when there is none."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    variables = [_one_of(model, len(decision.options)) for decision in problem.decisions]
    for kind, limit in limits.items():
        costs = [[option.costs[kind] for option in decision.options] for decision in problem.decisions]
        model.add(_sum(variables, costs) <= limit - problem.constants.get(kind, 0))
    model.minimize(_sum(variables, objective))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = time_limit_s
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return None
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        raise InputError(f"no assignment found in {time_limit_s:g} s; allowed more time or fewer options")
    assignment = tuple(next(at for at, one in enumerate(row) if solver.boolean_value(one)) for row in variables)
    reached = sum(row[at] for row, at in zip(objective, assignment, strict=True))
    proven = status == cp_model.OPTIMAL
    return _Found(assignment, reached, reached if proven else solver.best_objective_bound, proven, solver.wall_time)


def _one_of(model: CpModel, n_options: int) -> list[IntVar]:
    row = [model.new_bool_var("") for _ in range(n_options)]
    model.add_exactly_one(row)
    return row


def _sum(variables: Sequence[Sequence[IntVar]], factors: Sequence[Sequence[int]]) -> Any:
    from ortools.sat.python import cp_model

    flat = [one for row in variables for one in row]
    return cp_model.LinearExpr.weighted_sum(flat, [factor for row in factors for factor in row])


def _binds(
    problem: BitProblem,
    objective: Sequence[Sequence[int]],
    limits: Mapping[CostKind, int],
    kind: CostKind,
    found: _Found,
    time_limit_s: float,
) -> bool:
    """Whether a less sensitive assignment exists without this budget."""
    others = {name: limit for name, limit in limits.items() if name != kind}
    free = _minimise(problem, objective, others, time_limit_s)
    return free is not None and free.objective < found.objective


def _told(kind: CostKind, limits: Mapping[CostKind, int], least: int, where: str) -> str:
    return f"{kind}: given {amount_text(kind, limits[kind])}; the least {where} is {amount_text(kind, least)}"


def _infeasible(problem: BitProblem, limits: Mapping[CostKind, int], time_limit_s: float) -> InfeasibleError:
    alone = {kind: problem.least(kind) for kind, limit in limits.items() if problem.least(kind) > limit}
    if alone:
        told = "; ".join(_told(kind, limits, cost, "possible") for kind, cost in alone.items())
        return InfeasibleError(f"budget: {told}", alone)
    least: dict[CostKind, int] = {}
    for kind in limits:
        reached = least_cost(problem, kind, limits, time_limit_s=time_limit_s)
        if reached is not None:
            least[kind] = reached
    told = "; ".join(
        f"{kind}: given {limits[kind]:,}, the least within the others is {cost:,}" for kind, cost in least.items()
    )
    return InfeasibleError(f"budget: cannot be kept together; {told}", least)
