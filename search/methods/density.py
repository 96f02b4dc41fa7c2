"""TPE of Optuna: densities of good and of other tilings, factor by factor."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tilewright.errors import InputError
from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem

__all__ = ["TPE"]


def propose(problem: Problem) -> Iterator[list[Point]]:
    """Trials of Optuna's TPE sampler over the positions of the values; each goes to the nearest point not yet run.

    Raises InputError where Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("method tpe needs Optuna; install it with: pip install 'tilewright[search]'") from None
    logging.getLogger("optuna").setLevel(logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=problem.seed % 2**31, multivariate=False, n_startup_trials=max(4, problem.budget // 4)
    )
    study = optuna.create_study(sampler=sampler)
    positions = {
        factor.name: optuna.distributions.IntDistribution(0, len(factor.values) - 1) for factor in problem.factors
    }
    while not problem.exhausted:
        trial = study.ask(positions)
        point = problem.nearest(list(trial.params.values()), among=problem.unknown())
        yield [point]
        study.tell(trial, state=optuna.trial.TrialState.FAIL)  # it stands for what was run, which may be a neighbour
        params = dict(zip(positions, problem.places(point), strict=True))
        value = problem.score(point)[0]
        study.add_trial(optuna.trial.create_trial(params=params, distributions=dict(positions), value=value))


TPE = register(SearchMethod(name="tpe", summary="Optuna's TPE sampler (extra: search)", propose=propose), rank=7)
