"""Search where quality is measured, not summed: layers quantised together may hurt more, or less, than apart.

NSGA-II (pymoo) over the options of all decisions; the two goals are the measured loss and one cost. The first
population holds points of the curve of summed sensitivities, so the search starts from what the sum knows and spends
its measurements on what the sum cannot see.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.progress import Progress
from tilewright.search.bits.pareto import convex_hull
from tilewright.search.bits.problem import Assignment, BitProblem, CostKind

__all__ = ["MeasuredPoint", "search_measured"]

Evaluate = Callable[[Assignment], float]

_MOST_IDLE = 12  # generations without a new assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPoint:
    """An assignment, its measured loss and its cost; nothing measured beats it in both."""

    assignment: Assignment
    loss: float
    cost: int


def search_measured(
    problem: BitProblem,
    evaluate: Evaluate,
    kind: CostKind,
    *,
    limits: Mapping[CostKind, int] | None = None,
    n_measurements: int = 200,
    population: int = 24,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[MeasuredPoint, ...]:
    """The front of measured loss against ``kind``, by rising cost, from at most ``n_measurements`` measurements.

    ``evaluate`` gives the loss of an assignment (less is better; a quality is given as its negative) and is called once
    for each. Assignments beyond ``limits`` are never measured. The same seed gives the same calls.

    Raises InputError where pymoo is not installed, for a cost that is not known, or fewer than 4 measurements.
    """
    if n_measurements < 4 or population < 4:
        raise InputError(
            f"n_measurements: given {n_measurements} with population {population}; allowed 4 or more of each"
        )
    problem.check_kind(kind)
    search = _Search(problem, evaluate, kind, dict(limits or {}), n_measurements, progress)
    _evolve(search, min(population, n_measurements), seed)
    return search.front()


class _Search:
    """Measurements made so far, within their number and the budgets."""

    def __init__(
        self,
        problem: BitProblem,
        evaluate: Evaluate,
        kind: CostKind,
        limits: Mapping[CostKind, int],
        n_measurements: int,
        progress: Progress | None,
    ) -> None:
        self.problem, self.kind, self.limits = problem, kind, limits
        self.left = n_measurements
        self._evaluate, self._progress, self._total = evaluate, progress, n_measurements
        self.losses: dict[Assignment, float] = {}

    def excess(self, assignment: Assignment) -> float:
        """By which share the budgets are overdrawn; 0 or less within them."""
        costs = ((self.problem.cost(kind, assignment), limit) for kind, limit in self.limits.items())
        return max((cost / max(1, limit) - 1.0 for cost, limit in costs), default=0.0)

    def loss(self, assignment: Assignment) -> float | None:
        """The measured loss; None where no measurement is left."""
        if assignment not in self.losses:
            if self.left == 0:
                return None
            self.left -= 1
            if self._progress is not None:
                self._progress(self._total - self.left - 1, self._total, "measuring")
            self.losses[assignment] = float(self._evaluate(assignment))
        return self.losses[assignment]

    def front(self) -> tuple[MeasuredPoint, ...]:
        points = [
            MeasuredPoint(assignment=one, loss=loss, cost=self.problem.cost(self.kind, one))
            for one, loss in self.losses.items()
        ]
        kept: list[MeasuredPoint] = []
        for point in sorted(points, key=lambda one: (one.cost, one.loss, one.assignment)):
            if not kept or point.loss < kept[-1].loss:
                kept.append(point)
        return tuple(kept)


def _evolve(search: _Search, population: int, seed: int) -> None:
    try:
        import numpy as np
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem as Places
        from pymoo.operators.crossover.ux import UniformCrossover
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.problems.static import StaticProblem
    except ImportError:
        raise InputError("measured search needs pymoo; install it with: pip install 'tilewright[search]'") from None
    highest = [len(decision.options) - 1 for decision in search.problem.decisions]
    places = Places(n_var=len(highest), n_obj=2, n_ieq_constr=1, xl=0, xu=np.array(highest), vtype=int)
    algorithm = NSGA2(
        pop_size=population,
        sampling=np.array(_start(search, population, seed)),
        crossover=UniformCrossover(prob=0.9, repair=RoundingRepair()),
        mutation=PM(
            prob=1.0, prob_var=min(0.5, 2.0 / max(1, len(highest))), eta=3, vtype=float, repair=RoundingRepair()
        ),
        eliminate_duplicates=True,
    )
    algorithm.setup(places, termination=("n_gen", 100_000), seed=seed % 2**31, verbose=False)
    idle = 0
    while search.left and idle < _MOST_IDLE and algorithm.has_next():
        asked = algorithm.ask()
        if asked is None or not len(asked):
            return
        before = search.left
        assignments = [tuple(int(place) for place in row) for row in asked.get("X")]
        excess = [search.excess(one) for one in assignments]
        losses = [search.loss(one) if over <= 0 else None for one, over in zip(assignments, excess, strict=True)]
        worst = max(search.losses.values(), default=0.0)
        figures = np.array(
            [
                [worst if loss is None else loss, float(search.problem.cost(search.kind, one))]
                for one, loss in zip(assignments, losses, strict=True)
            ]
        )
        # What could not be measured any more is as bad as what breaks a budget: it never displaces a measured point.
        broken = np.array(
            [[max(over, 1.0 if loss is None else over)] for over, loss in zip(excess, losses, strict=True)]
        )
        algorithm.evaluator.eval(StaticProblem(places, F=figures, G=broken), asked)
        algorithm.tell(infills=asked)
        idle = idle + 1 if search.left == before else 0


def _start(search: _Search, population: int, seed: int) -> list[Assignment]:
    """Points of the summed curve within the budgets, evenly over it, and random ones."""
    dice = random.Random(seed)
    problem = search.problem
    known = [point.assignment for point in convex_hull(problem, search.kind) if search.excess(point.assignment) <= 0]
    n_known = min(len(known), population // 2)
    chosen = dict.fromkeys(known[round(at * (len(known) - 1) / max(1, n_known - 1))] for at in range(n_known))
    for _ in range(100 * population):
        if len(chosen) == population:
            break
        chosen[tuple(dice.randrange(len(decision.options)) for decision in problem.decisions)] = None
    return list(chosen)
