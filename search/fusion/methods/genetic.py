"""NSGA-II of pymoo over plans: ten of them, crossed at random places of the topological order, and edited."""

from __future__ import annotations

from typing import Any

from tilewright.errors import InputError
from tilewright.search.fusion.methods.local import POPULATION, edited
from tilewright.search.fusion.methods.method import FusionMethod, register
from tilewright.search.fusion.plan import Plan, crossed, random_plan
from tilewright.search.fusion.problem import FusionProblem
from tilewright.search.fusion.split import Splitter, repaired

__all__ = ["GENETIC"]

_CROSSED = 0.9
_EDITED = 0.9


def search(problem: FusionProblem, split: Splitter) -> None:
    """Run generations until the budget is spent; raises InputError where pymoo is not installed."""
    try:
        import numpy as np
        from pymoo.algorithms.moo.nsga2 import NSGA2 as _NSGA2
        from pymoo.core.crossover import Crossover
        from pymoo.core.duplicate import ElementwiseDuplicateElimination
        from pymoo.core.mutation import Mutation
        from pymoo.core.problem import ElementwiseProblem
        from pymoo.core.sampling import Sampling
    except ImportError:
        raise InputError("method nsga2 needs pymoo; install it with: pip install 'tilewright[search]'") from None

    def column(plans: list[Plan]) -> Any:
        found = np.empty((len(plans), 1), dtype=object)
        found[:, 0] = [_Held(plan) for plan in plans]
        return found

    class Draw(Sampling):  # type: ignore[misc]
        def _do(self, space: Any, n_samples: int, **_: Any) -> Any:
            drawn = (random_plan(problem.graph, problem.fusable, problem.random) for _ in range(n_samples))
            return column([repaired(problem, plan, split) for plan in drawn])

    class Cross(Crossover):  # type: ignore[misc]
        def _do(self, space: Any, parents: Any, **_: Any) -> Any:
            made = np.empty((2, parents.shape[1], 1), dtype=object)
            for at in range(parents.shape[1]):
                one, two = parents[0, at, 0].plan, parents[1, at, 0].plan
                first, last = sorted(problem.random.sample(range(len(problem.graph) + 1), 2))
                made[0, at, 0] = _Held(crossed(problem.graph, one, two, first, last))
                made[1, at, 0] = _Held(crossed(problem.graph, two, one, first, last))
            return made

    class Edit(Mutation):  # type: ignore[misc]
        def _do(self, space: Any, plans: Any, **_: Any) -> Any:
            made = [plans[at, 0].plan for at in range(len(plans))]
            made = [edited(problem, plan) if problem.random.random() < _EDITED else plan for plan in made]
            return column([repaired(problem, plan, split) for plan in made])

    class Same(ElementwiseDuplicateElimination):  # type: ignore[misc]
        def is_equal(self, a: Any, b: Any) -> bool:
            return bool(a.X[0].groups == b.X[0].groups)

    class Space(ElementwiseProblem):  # type: ignore[misc]
        def _evaluate(self, x: Any, out: Any, *_: Any, **__: Any) -> None:
            out["F"] = float(problem.propose(x[0].plan))

    algorithm: Any = _NSGA2(
        pop_size=POPULATION,
        sampling=Draw(),
        crossover=Cross(2, 2, prob=_CROSSED),
        mutation=Edit(prob=1.0),
        eliminate_duplicates=Same(),
    )
    space = Space(n_var=1, n_obj=1)
    algorithm.setup(space, termination=("n_gen", 10**9), seed=problem.seed % 2**31, verbose=False)
    while not problem.exhausted and algorithm.has_next():
        offspring = algorithm.ask()
        if offspring is None or not len(offspring):
            return
        offspring = offspring[: problem.budget - problem.n_plans]
        algorithm.evaluator.eval(space, offspring)
        algorithm.tell(infills=offspring)


class _Held:
    """A plan as one value, which numpy does not take apart."""

    __slots__ = ("groups", "plan")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.groups = frozenset(plan)


GENETIC = register(
    FusionMethod(name="nsga2", summary="pymoo's NSGA-II, ten plans, crossed and edited (extra: search)", search=search),
    with_explanations=True,
    rank=4,
)
