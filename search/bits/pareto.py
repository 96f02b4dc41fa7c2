"""The whole curve of sensitivity against one cost, and the closed form for a model of the loss.

Minimising sensitivity + lambda x cost splits into the decisions (Lagrange): as lambda grows, each walks down the lower
convex hull of its own options. All steps of all decisions in the order of their price, sensitivity lost per cost
saved, are therefore every vertex of the network's convex hull, exactly, without a solver. Points between two vertices
come from the integer program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from tilewright.errors import InputError
from tilewright.search.bits.problem import Assignment, BitProblem, CostKind, Decision
from tilewright.search.bits.program import solve

__all__ = ["CurvePoint", "convex_hull", "equal_loss_bits", "pareto_curve"]

Progress = Callable[[int, int, str], None]


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


def equal_loss_bits(
    coefficients: Sequence[float],
    mean_bits: float,
    *,
    counts: Sequence[int] | None = None,
    lowest: float = 0.0,
    highest: float = math.inf,
) -> tuple[float, ...]:
    """Bits R_i that minimise the sum of c_i 2^(-2 R_i) with ``mean_bits`` on average over ``counts`` values.

    BAQ (arXiv 2506.05664): all parts with free bits lose equally much per value, R_i = level + 0.5 log2(c_i / n_i).
    Parts that would leave [``lowest``, ``highest``] are held at the end of the range and the rest is shared anew: the
    optimum by the conditions of Karush, Kuhn and Tucker. ``coefficients``: loss of each part at 0 bits, more than 0.

    Raises InputError for a coefficient that is not more than 0, or a mean outside the range.
    """
    sizes = list(counts) if counts is not None else [1] * len(coefficients)
    if len(sizes) != len(coefficients) or not coefficients:
        raise InputError(f"counts: given {len(sizes)} for {len(coefficients)} coefficients; allowed as many")
    if min(coefficients) <= 0 or min(sizes) <= 0:
        raise InputError("coefficients: given one of 0 or less; allowed more than 0, and counts of 1 or more")
    if not lowest <= mean_bits <= highest:
        raise InputError(f"mean_bits: given {mean_bits:g}; allowed {lowest:g} to {highest:g}")
    own = [0.5 * math.log2(c / n) for c, n in zip(coefficients, sizes, strict=True)]
    total = mean_bits * sum(sizes)

    def used(level: float) -> float:
        return sum(n * min(max(level + bits, lowest), highest) for n, bits in zip(sizes, own, strict=True))

    # used() rises with the level and is linear between the levels at which a part reaches an end of the range.
    bends = sorted({end - bits for bits in own for end in (lowest, highest) if math.isfinite(end)})
    below = max((level for level in bends if used(level) <= total), default=None)
    above = min((level for level in bends if used(level) > total), default=None)
    if below is not None and above is not None:
        level = below + (above - below) * (total - used(below)) / (used(above) - used(below))
    else:  # beyond the bends no part is held
        start = below if below is not None else above if above is not None else 0.0
        level = start if used(start) == total else start + (total - used(start)) / sum(sizes)
    return tuple(min(max(level + bits, lowest), highest) for bits in own)
