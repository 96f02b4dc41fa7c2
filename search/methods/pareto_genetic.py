"""NSGA-II of pymoo: a population spread along the front of latency and energy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tilewright.errors import InputError
from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem

__all__ = ["NSGA2"]


def propose(problem: Problem) -> Iterator[list[Point]]:
    """Generations of pymoo's NSGA-II over the positions of the values; what does not fit goes to the nearest that does.

    Raises InputError where pymoo is not installed.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem as Positions
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.problems.static import StaticProblem
    except ImportError:
        raise InputError("method nsga2 needs pymoo; install it with: pip install 'tilewright[search]'") from None
    highest = [len(factor.values) - 1 for factor in problem.factors]
    positions = Positions(n_var=len(highest), n_obj=2, xl=0, xu=np.array(highest), vtype=int)
    algorithm: Any = NSGA2(
        pop_size=min(16, max(4, problem.budget // 4)),
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=0.9, eta=3, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=0.9, eta=3, vtype=float, repair=RoundingRepair()),
    )
    algorithm.setup(positions, termination=("n_gen", 10_000), seed=problem.seed % 2**31, verbose=False)
    while not problem.exhausted and algorithm.has_next():
        population = algorithm.ask()
        if population is None or not len(population):
            return
        points = [problem.nearest(places) for places in population.get("X").tolist()]
        yield points
        population.set("X", np.array([problem.places(point) for point in points]))
        found = [problem.results[point] for point in points]
        figures = np.array([[result.cycles, result.energy_pj] for result in found], dtype=float)
        algorithm.evaluator.eval(StaticProblem(positions, F=figures), population)
        algorithm.tell(infills=population)


NSGA2 = register(
    SearchMethod(name="nsga2", summary="pymoo's NSGA-II over latency and energy (extra: search)", propose=propose),
    rank=6,
)
