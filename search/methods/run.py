"""Run a search method: every phase in turn, a batch at a time, and report what was found and what is proven."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from numbers import Integral

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.methods.method import SearchMethod
from tilewright.search.methods.outcome import SearchOutcome
from tilewright.search.methods.problem import Point, Problem
from tilewright.search.objective import Objective, score
from tilewright.search.tiling import Evaluated, PhaseSearch, pareto
from tilewright.sim.lowering.mapping import Dataflow, Layer, Tiling, plain_mapping
from tilewright.sim.lowering.pace import refuse_pace

__all__ = ["run_method"]

_LEAST_RUNS = 8  # of a phase, where no budget is given
_PATIENCE = 200  # batches without a new point, after which a method is at its end


def run_method(
    method: SearchMethod,
    dataflow: Dataflow,
    layer: Layer,
    machine: MachineSpec,
    *,
    objective: Objective = "latency",
    seed: int = 0,
    budget: int | None = None,
    fixed: Tiling | None = None,
    progress: Progress | None = None,
) -> SearchOutcome:
    """The best tiling that ``method`` finds for ``layer`` on ``machine``; the same for the same ``seed``.

    Phases are separated by a barrier, so each is a problem of its own; they take turns. ``budget`` is the most exact
    runs of all phases together (None: the method's own share of the points, at least eight a phase). ``fixed`` holds
    some tiles. ``progress`` is called after each batch. Raises InputError for bad tiles or a budget that
    does not give every phase one run, MappingError when no tiling fits on chip.
    """
    begun = time.perf_counter()
    layer, held = plain_mapping(dataflow, layer, fixed or {})
    refuse_pace(held)
    costs = dataflow.costs(layer, machine)
    searches = [PhaseSearch(phase, costs, objective, held) for phase in dataflow.phases]
    sizes = [len(search.candidates) for search in searches]
    total = _runs(sizes, method.share, budget)
    front = objective == "edp" and len(searches) > 1
    problems = [
        Problem(search, seed=seed, budget=-(-total * size // sum(sizes)), front=front)
        for search, size in zip(searches, sizes, strict=True)
    ]
    if not front:
        for search in searches:
            search.keep_runs()
    curve = _run(method, problems, objective, total, progress)
    chosen = _best(problems, objective)
    if not front:
        chosen = tuple(search.at_best_pace(part) for search, part in zip(searches, chosen, strict=True))
    cycles, energy_pj = sum(part.cycles for part in chosen), sum(part.energy_pj for part in chosen)
    value = score(objective, cycles, energy_pj)[0]
    floor = _floor(problems, objective)
    proven = _proven(problems, floor, value)
    if objective == "latency":
        floor = max(floor, float(dataflow.bound(layer, machine).cycles))
    return SearchOutcome(
        workload=layer.name,
        machine=machine.name,
        dataflow=dataflow.name,
        method=method.name,
        objective=objective,
        seed=seed,
        budget=budget,
        tiling={name: size for part in chosen for name, size in part.tiling.items()},
        cycles=cycles,
        energy_pj=energy_pj,
        lower_bound=value if proven else floor,
        proven=proven,
        n_candidates=sum(search.n_candidates for search in searches),
        n_fitting=sum(len(search.candidates) for search in searches),
        n_evaluations=sum(len(problem.results) for problem in problems),
        curve=curve,
        seconds=time.perf_counter() - begun,
    )


def _runs(sizes: Sequence[int], share: float, budget: int | None) -> int:
    """How many exact runs all the phases may have together."""
    if budget is None:
        return sum(min(size, max(_LEAST_RUNS, round(share * size))) for size in sizes)
    if not isinstance(budget, Integral) or budget < len(sizes):
        raise InputError(f"budget: given {budget!r}; allowed {len(sizes)} or more (one run for each phase)")
    return min(budget, sum(sizes))


def _run(
    method: SearchMethod,
    problems: Sequence[Problem],
    objective: Objective,
    total: int,
    progress: Progress | None,
) -> tuple[tuple[int, float], ...]:
    """Let the phases take turns until all are at their end or ``total`` runs are done; the curve of the best so far.

    The next turn goes to the phase that has most to gain (best result less what is proven) for the runs it has had.
    """
    curve: list[tuple[int, float]] = []
    proposers = {problem: method.propose(problem) for problem in problems}
    done = 0
    while proposers and done < total:
        problem = max(proposers, key=_urgency)
        waiting = sum(not other.results for other in problems if other is not problem)
        found = _next_results(problem, proposers[problem], total - done - waiting)
        if found:
            _extend(curve, problems, problem, found, done, objective)
            done += len(found)
        else:
            del proposers[problem]
        if progress is not None:
            progress(done, total, method.name)
    if progress is not None:
        progress(total, total, method.name)
    return tuple(curve)


def _urgency(problem: Problem) -> float:
    if not problem.results:
        return math.inf
    return (problem.score(problem.best()[0])[0] - problem.floor()[0]) / len(problem.results)


def _next_results(problem: Problem, proposer: Iterator[Sequence[Point]], most: int) -> list[Evaluated]:
    """Results (``most`` or fewer) of the next batch that holds something new; none when none is needed or comes."""
    if problem.settled:
        return []
    for _ in range(_PATIENCE):
        batch: Sequence[Point] | None = problem.pending or next(proposer, None)
        if batch is None:
            return []
        found = problem.run(batch, most)
        if found:
            return found
    return []


def _extend(
    curve: list[tuple[int, float]],
    problems: Sequence[Problem],
    problem: Problem,
    found: Sequence[Evaluated],
    before: int,
    objective: Objective,
) -> None:
    """Add to the curve where one of the results just found improved the whole."""
    if not all(p.results for p in problems):
        return
    parts = _parts(problems, objective)
    at = problems.index(problem)
    for i, result in enumerate(found, before + 1):
        parts[at] = [result]  # what the others have so far is in the curve already
        value = _key(objective)(min(product(*parts), key=_key(objective)))[0]
        if not curve or value < curve[-1][1]:
            curve.append((i, value))


def _parts(problems: Sequence[Problem], objective: Objective) -> list[list[Evaluated]]:
    """What may be combined: the best of each phase, or all that no other beats where the product is minimised."""
    if objective == "edp" and len(problems) > 1:
        return [pareto(list(problem.results.values())) for problem in problems]
    return [[min(problem.results.values(), key=problem.search.score)] for problem in problems]


def _best(problems: Sequence[Problem], objective: Objective) -> tuple[Evaluated, ...]:
    return min(product(*_parts(problems, objective)), key=_key(objective))


def _key(objective: Objective) -> Callable[[Sequence[Evaluated]], tuple[float, float]]:
    return lambda parts: score(objective, sum(p.cycles for p in parts), sum(p.energy_pj for p in parts))


def _floor(problems: Sequence[Problem], objective: Objective) -> float:
    """The objective that no tiling can beat, from exact results where they are and counted bounds elsewhere."""
    floors = [problem.floor() for problem in problems]
    if objective == "edp" and len(problems) > 1:
        return sum(cycles for _, cycles, _ in floors) * sum(energy for _, _, energy in floors)
    return sum(value for value, _, _ in floors)


def _proven(problems: Sequence[Problem], floor: float, value: float) -> bool:
    """Whether no tiling can be better: the bound meets the result, or every point was run."""
    return value <= floor or all(problem.exhausted for problem in problems)
