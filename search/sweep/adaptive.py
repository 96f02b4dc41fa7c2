"""Adaptive sampling of a sweep: NSGA-II (Deb et al., 2002; pymoo) chooses the designs from the results so far.

Every choice follows from the seed and the results, so a search that was broken off goes the same way again through
what the store has, and on from there. Each design is run once at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.search.sweep.conditions import Value
from tilewright.search.sweep.front import DesignScore
from tilewright.search.sweep.space import Design, DesignSpace, Position
from tilewright.search.sweep.spec import Sweep

__all__ = ["Scores", "generations"]

Scores = Callable[[Sequence[Design]], Sequence[DesignScore]]

_LEAST, _MOST = 8, 100  # designs of a generation, where the file does not say
_ASKED = 5  # times that offspring is asked for, until a generation is full
_DRAWN = 200  # designs drawn by chance for each place of a generation that offspring left empty
_NEVER = 1000  # violation of a design that breaks a condition: more than any that was run
_NOTHING = 1e30  # stands for the objectives of a design that has none; its violation decides


def generations(sweep: Sweep, scores: Scores) -> Iterator[list[Design]]:
    """The designs to run, a generation at a time; ``scores`` of a generation are asked for before the next.

    Positions on the axes are the genes. A design that breaks a condition takes part with its violation and is not run.
    Where offspring brings too little that is new, designs drawn by chance come in. The search ends after
    ``sampling.n`` designs, or when nothing new is found. Raises InputError where pymoo is not installed.
    """
    if not sweep.axes:
        yield [{}]
        return
    search = _Search(sweep)
    left = sweep.sampling.n or 0
    while left > 0:
        chosen = dict(list(search.next_generation().items())[:left])
        if not chosen:
            return
        left -= len(chosen)
        yield [chosen[position] for position in sorted(chosen, key=search.space.by_effort)]
        if left > 0:
            search.learn(list(chosen), scores(list(chosen.values())))


class _Search:
    def __init__(self, sweep: Sweep) -> None:
        import numpy as np

        self.space = DesignSpace(sweep)
        sampling = sweep.sampling
        self.size = sampling.population or min(_MOST, max(_LEAST, (sampling.n or 0) // 20))
        self.seen: set[tuple[Value, ...]] = set()
        self.refused: dict[Position, int] = {}
        self.chance = np.random.default_rng([sampling.seed, 1])
        self.n_objectives = len(sampling.objectives)
        self.problem, self.algorithm = self._algorithm(len(sweep.axes), sampling.seed)

    def _algorithm(self, n_axes: int, seed: int) -> tuple[Any, Any]:
        try:
            from pymoo.algorithms.moo.nsga2 import NSGA2
            from pymoo.core.problem import Problem
            from pymoo.operators.crossover.sbx import SBX
            from pymoo.operators.mutation.pm import PM
        except ImportError:
            raise InputError(
                "sampling: method nsga2 needs pymoo; install it with: pip install 'tilewright[search]'"
            ) from None
        problem = Problem(n_var=n_axes, n_obj=self.n_objectives, n_ieq_constr=1, xl=0.0, xu=1.0)
        algorithm = NSGA2(
            pop_size=self.size,
            sampling=self.space.spread(self.size, seed),
            crossover=SBX(prob=0.9, eta=3),
            mutation=PM(prob=0.9, eta=10),
            eliminate_duplicates=False,  # designs are compared here, by their values
        )
        algorithm.setup(problem, termination=("n_gen", 10**9), seed=seed % 2**31, verbose=False)
        return problem, algorithm

    def next_generation(self) -> dict[Position, Design]:
        """New designs that fulfil the conditions, by position; none when there are no more."""
        found: dict[Position, Design] = {}
        for _ in range(_ASKED):
            offspring = self.algorithm.ask()
            if offspring is not None:
                self._sort_out(offspring.get("X"), found)
            if len(found) >= self.size:
                break
        for _ in range(_DRAWN):
            if len(found) >= self.size // 2:
                break
            self._sort_out(self.chance.random((self.size, len(self.space.axes))), found)
        return found

    def _sort_out(self, positions: Any, found: dict[Position, Design]) -> None:
        """Add what is new to ``found``, or to those refused by a condition."""
        for shares in positions.tolist():
            position = self.space.snapped(shares)
            design = self.space.design(position)
            values = tuple(design.values())
            if values in self.seen:
                continue
            self.seen.add(values)
            n_broken = self.space.n_broken_conditions(design)
            if n_broken:
                self.refused[position] = n_broken
            else:
                found[position] = design

    def learn(self, positions: Sequence[Position], scores: Sequence[DesignScore]) -> None:
        """Let the population know how good the designs at ``positions`` are, and which were refused."""
        import numpy as np
        from pymoo.core.population import Population
        from pymoo.problems.static import StaticProblem

        nothing = (_NOTHING,) * self.n_objectives
        objectives = [score.objectives or nothing for score in scores] + [nothing] * len(self.refused)
        violations = [score.violation for score in scores] + [_NEVER + n for n in self.refused.values()]
        population = Population.new("X", np.array([*positions, *self.refused]))
        self.refused = {}
        problem = StaticProblem(self.problem, F=np.array(objectives), G=np.array(violations, dtype=float)[:, None])
        self.algorithm.evaluator.eval(problem, population)
        self.algorithm.tell(infills=population)
