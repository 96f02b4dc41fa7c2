"""Genetic search: the best so far are crossed and changed a little; of several children the most promising is run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilewright.search.methods.method import SearchMethod, register
from tilewright.search.methods.problem import Point, Problem

__all__ = ["GENETIC", "propose", "refine"]

_DRAWN = 5  # of so many drawn by chance, the one of the lowest counted bound is run
_RIVALS = 2  # a parent is the best of so many drawn by chance
_JUMP = 0.2  # part of the changes that go to any value, not to a neighbouring one


def propose(problem: Problem) -> Iterator[list[Point]]:
    """A first population by chance, then generations from it."""
    first: list[Point] = []
    left = list(problem.points)
    for _ in range(min(_size(problem), len(left))):
        drawn = problem.random.sample(left, min(_DRAWN, len(left)))
        first.append(min(drawn, key=problem.bound))
        left.remove(first[-1])
    yield first
    yield from refine(problem)


def refine(problem: Problem) -> Iterator[list[Point]]:
    """Generations from the best points known so far; no point is proposed twice."""
    size = _size(problem)
    while not problem.exhausted:
        population = problem.best(size)
        left = dict.fromkeys(problem.unknown())
        children: list[Point] = []
        while left and len(children) < max(1, size // 2):
            drawn = [_child(problem, population, left) for _ in range(_DRAWN)]
            children.append(min(drawn, key=problem.bound))
            del left[children[-1]]
        yield children


def _size(problem: Problem) -> int:
    """Four to sixteen, by the budget."""
    return min(16, max(4, problem.budget // 4))


def _child(problem: Problem, population: Sequence[Point], left: dict[Point, None]) -> Point:
    """Each factor from one of two parents, one factor changed; the nearest point that was not run."""
    random = problem.random
    mother, father = (
        problem.places(min((random.choice(population) for _ in range(_RIVALS)), key=problem.score)) for _ in "mf"
    )
    places = [random.choice(pair) for pair in zip(mother, father, strict=True)]
    at = random.randrange(len(places))
    if random.random() < _JUMP:
        places[at] = random.randrange(len(problem.factors[at].values))
    else:
        places[at] += random.choice((-1, 1))
    return problem.nearest(places, among=left)


GENETIC = register(
    SearchMethod(name="genetic", summary="the best tilings crossed and changed a little", propose=propose), rank=4
)
