"""The bit widths of least sensitivity within budgets, as an integer program, proven optimal.

One 0/1 variable for each option of a decision, exactly one of them 1; every budget is a sum of whole numbers at most a
whole number. Solved by SCIP through MathOpt (OR-Tools) with one thread and a fixed seed, so that the same problem
always gives the same answer. The solver works in double precision; budgets are checked afterwards in whole numbers, and
a solution that is over by less than the solver sees is solved again with that much less.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.search.bits.budget import amount_text
from tilewright.search.bits.problem import Assignment, BitProblem, CostKind

if TYPE_CHECKING:
    from ortools.math_opt.python.mathopt import Model, Variable

__all__ = ["InfeasibleError", "Solution", "least_cost", "solve"]

_TIME_LIMIT_S = 60.0
_TOLERANCE = 1e-9  # of the solver: on budgets as a share of each, and between the best found and the bound
_MOST_REPEATS = 8


class InfeasibleError(InputError):
    """No assignment keeps every budget; ``least`` holds, for each budget that cannot be kept, the least possible."""

    def __init__(self, message: str, least: Mapping[CostKind, int]) -> None:
        super().__init__(message)
        self.least = dict(least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best assignment, its sensitivity and its costs.

    ``bound`` is below every assignment's sensitivity; ``proven``: it is this one's, to 9 digits.
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


def solve(
    problem: BitProblem,
    limits: Mapping[CostKind, int],
    *,
    find_binding: bool = True,
    time_limit_s: float = _TIME_LIMIT_S,
) -> Solution:
    """The assignment of least sensitivity whose costs are at most ``limits`` (whole numbers in the units of COSTS).

    A budget binds when a less sensitive assignment exists without it. Raises :class:`InfeasibleError`, with what cannot
    be kept and the least that could be, when there is none.
    """
    for kind in limits:
        problem.check_kind(kind)
    objective = [[option.sensitivity for option in decision.options] for decision in problem.decisions]
    found = _minimise(problem, objective, limits, time_limit_s)
    if found is None:
        raise _infeasible(problem, limits, time_limit_s)
    asked = limits if find_binding else ()
    binding = tuple(kind for kind in asked if _binds(problem, objective, limits, kind, found, time_limit_s))
    return Solution(
        assignment=found.assignment,
        sensitivity=problem.sensitivity(found.assignment),
        costs=problem.costs(found.assignment),
        proven=found.proven,
        bound=found.bound,
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
    objective = [[float(option.costs[kind]) for option in decision.options] for decision in problem.decisions]
    found = _minimise(problem, objective, others, time_limit_s)
    return None if found is None else problem.cost(kind, found.assignment)


@dataclass(frozen=True, slots=True)
class _Found:
    assignment: Assignment
    objective: float
    bound: float
    seconds: float

    @property
    def proven(self) -> bool:
        return self.objective - self.bound <= 2 * _TOLERANCE * max(abs(self.objective), abs(self.bound))


def _minimise(
    problem: BitProblem, objective: Sequence[Sequence[float]], limits: Mapping[CostKind, int], time_limit_s: float
) -> _Found | None:
    """The assignment of least ``objective`` within ``limits``; None when there is none."""
    begin = time.perf_counter()
    bound, room = -math.inf, dict(limits)
    for _ in range(_MOST_REPEATS):
        solved = _run(problem, objective, room, time_limit_s)
        if solved is None:
            return None
        assignment, own_bound = solved
        bound = own_bound if bound == -math.inf else bound  # that of the least room allows more than there is
        over = {kind: problem.cost(kind, assignment) - limit for kind, limit in limits.items()}
        if all(excess <= 0 for excess in over.values()):
            reached = sum(row[at] for row, at in zip(objective, assignment, strict=True))
            return _Found(assignment, reached, min(bound, reached), time.perf_counter() - begin)
        room = {kind: limit - max(0, over[kind]) for kind, limit in room.items()}
    raise InputError("the budgets are too close to what is possible for the solver's precision; allowed a wider one")


def _run(
    problem: BitProblem, objective: Sequence[Sequence[float]], limits: Mapping[CostKind, int], time_limit_s: float
) -> tuple[Assignment, float] | None:
    from ortools.math_opt.python import mathopt

    model = mathopt.Model()
    variables = [_one_of(model, len(decision.options)) for decision in problem.decisions]
    for kind, limit in limits.items():
        costs = [[option.costs[kind] for option in decision.options] for decision in problem.decisions]
        if not _budget(model, variables, costs, limit - problem.constants.get(kind, 0)):
            return None
    least = [min(row) for row in objective]
    scale = max((max(row) - low for row, low in zip(objective, least, strict=True)), default=0.0) or 1.0
    gains = [[(value - low) / scale for value in row] for row, low in zip(objective, least, strict=True)]
    model.minimize(_sum(variables, gains))
    result = mathopt.solve(model, mathopt.SolverType.GSCIP, params=_parameters(time_limit_s))
    if result.termination.reason in (
        mathopt.TerminationReason.INFEASIBLE,
        mathopt.TerminationReason.INFEASIBLE_OR_UNBOUNDED,
    ):
        return None
    if not result.has_primal_feasible_solution():
        raise InputError(f"no assignment found in {time_limit_s:g} s; allowed more time or fewer options")
    values = result.variable_values()
    taken = [[values[variable] for variable in row] for row in variables]
    assignment = tuple(row.index(max(row)) for row in taken)
    return assignment, math.fsum(least) + scale * float(result.termination.objective_bounds.dual_bound)


def _parameters(time_limit_s: float) -> Any:
    from ortools.math_opt.python import mathopt

    parameters = mathopt.SolveParameters(
        time_limit=timedelta(seconds=time_limit_s),
        relative_gap_tolerance=0.0,
        absolute_gap_tolerance=0.0,
        threads=1,
        random_seed=0,
    )
    parameters.gscip.real_params["numerics/feastol"] = _TOLERANCE
    return parameters


def _one_of(model: Model, n_options: int) -> list[Variable]:
    row = [model.add_binary_variable() for _ in range(n_options)]
    model.add_linear_constraint(_sum([row], [[1.0] * n_options]) == 1.0)
    return row


def _budget(model: Model, variables: Sequence[Sequence[Variable]], costs: Sequence[Sequence[int]], limit: int) -> bool:
    """Add sum(costs) <= limit, each decision's costs from its own least and all in shares of the rest; False when the
    least is too much.
    """
    least = [min(row) for row in costs]
    rest = limit - sum(least)
    if rest < 0:
        return False
    above = [[cost - low for cost in row] for row, low in zip(costs, least, strict=True)]
    unit = max(rest, 1)
    model.add_linear_constraint(_sum(variables, [[cost / unit for cost in row] for row in above]) <= rest / unit)
    return True


def _sum(variables: Sequence[Sequence[Variable]], factors: Sequence[Sequence[float]]) -> Any:
    from ortools.math_opt.python import mathopt

    pairs = zip((one for row in variables for one in row), (factor for row in factors for factor in row), strict=True)
    return mathopt.fast_sum([factor * variable for variable, factor in pairs if factor])


def _binds(
    problem: BitProblem,
    objective: Sequence[Sequence[float]],
    limits: Mapping[CostKind, int],
    kind: CostKind,
    found: _Found,
    time_limit_s: float,
) -> bool:
    """Whether a less sensitive assignment exists without this budget."""
    others = {name: limit for name, limit in limits.items() if name != kind}
    free = _minimise(problem, objective, others, time_limit_s)
    return free is not None and free.objective < found.objective * (1 - _TOLERANCE)


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
