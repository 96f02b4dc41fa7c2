"""The whole curve of sensitivity against one cost.

Minimising sensitivity + lambda x cost splits into the decisions (Lagrange): as lambda grows, each walks down the lower
convex hull of its own options. All steps of all decisions in the order of their price, sensitivity lost per cost
saved, are therefore every vertex of the network's convex hull, exactly, without a solver. Points between two vertices
come from the integer program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tilewright.errors import InputError
from tilewright.progress import Progress
from tilewright.search.bits.problem import Assignment, BitProblem, CostKind, Decision
from tilewright.search.bits.program import solve

__all__ = ["CurvePoint", "convex_hull", "pareto_curve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A point that nothing beats in both sensitivity and ``cost``.

    ``on_hull``: best also for some price of the cost, found by the sweep over prices; else by the integer program.
    """

    assignment: Assignment
    sensitivity: float
    cost: int
    on_hull: bool


def convex_hull(problem: BitProblem, kind: CostKind) -> tuple[CurvePoint, ...]:
    """Every assignment that is best for some price of ``kind``, from the least sensitive to the cheapest.

    Steps of equal price are taken one after the other, so that points on an edge of the hull are among them.
    """
    problem.check_kind(kind)
    start = tuple(_least_sensitive(decision, kind) for decision in problem.decisions)
    steps = [
        (price, at, option)
        for at, decision in enumerate(problem.decisions)
        for price, option in _steps(decision, kind, start[at])
    ]
    points = [_point(problem, kind, start, on_hull=True)]
    assignment = list(start)
    for _, at, option in sorted(steps, key=lambda step: step[:2]):
        assignment[at] = option
        points.append(_point(problem, kind, tuple(assignment), on_hull=True))
    return tuple(points)


def _point(problem: BitProblem, kind: CostKind, assignment: Assignment, *, on_hull: bool) -> CurvePoint:
    return CurvePoint(
        assignment=assignment,
        sensitivity=problem.sensitivity(assignment),
        cost=problem.cost(kind, assignment),
        on_hull=on_hull,
    )


def _least_sensitive(decision: Decision, kind: CostKind) -> int:
    options = decision.options
    return min(range(len(options)), key=lambda at: (options[at].sensitivity, options[at].costs[kind]))


def _steps(decision: Decision, kind: CostKind, start: int) -> list[tuple[float, int]]:
    """(price, option) of each step down the lower convex hull of the options, cheapest price first."""
    options = decision.options
    here = start
    steps: list[tuple[float, int]] = []
    while True:
        below = [at for at, option in enumerate(options) if option.costs[kind] < options[here].costs[kind]]
        if not below:
            return steps
        prices = [
            (_price(decision, kind, here, at), options[at].costs[kind], at) for at in below
        ]  # of equal prices the longest step
        price, _, here = min(prices)
        steps.append((price, here))


def _price(decision: Decision, kind: CostKind, before: int, after: int) -> float:
    old, new = decision.options[before], decision.options[after]
    return (new.sensitivity - old.sensitivity) / (old.costs[kind] - new.costs[kind])


def pareto_curve(
    problem: BitProblem,
    kind: CostKind,
    *,
    n_points: int = 25,
    limits: Mapping[CostKind, int] | None = None,
    progress: Progress | None = None,
) -> tuple[CurvePoint, ...]:
    """Sensitivity against ``kind`` from the cheapest to the least sensitive assignment: no point beats another.

    The vertices of the convex hull (those that keep ``limits`` on other costs), and between them ``n_points`` exact
    optima at evenly spaced costs. Raises InputError for a cost that is not known.
    """
    kept = dict(limits or {})
    hull = [point for point in convex_hull(problem, kind) if _keeps(problem, point.assignment, kept)]
    low, high = problem.least(kind), max(point.cost for point in convex_hull(problem, kind))
    found = {point.assignment: point for point in hull}
    for number in range(n_points):
        if progress is not None:
            progress(number, n_points, f"curve of {kind}")
        share = Fraction(number + 1, n_points)
        limit = low + int((high - low) * share)
        try:
            solution = solve(problem, {**kept, kind: limit}, find_binding=False)
        except InputError:
            continue  # nothing within the other budgets is so cheap
        if solution.assignment not in found:
            found[solution.assignment] = _point(problem, kind, solution.assignment, on_hull=False)
    if progress is not None:
        progress(n_points, n_points, f"curve of {kind}")
    return _front(found.values())


def _keeps(problem: BitProblem, assignment: Assignment, limits: Mapping[CostKind, int]) -> bool:
    return all(problem.cost(kind, assignment) <= limit for kind, limit in limits.items())


def _front(points: Iterable[CurvePoint]) -> tuple[CurvePoint, ...]:
    """Points that no other beats, by rising cost."""
    kept: list[CurvePoint] = []
    for point in sorted(points, key=lambda one: (one.cost, one.sensitivity)):
        if not kept or point.sensitivity < kept[-1].sensitivity:
            kept.append(point)
    return tuple(kept)
