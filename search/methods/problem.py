"""What a search method sees of one phase: its factors, the points that fit on chip, bounds, and results so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from tilewright.errors import InputError
from tilewright.search.tiling import Candidate, Evaluated, PhaseSearch

__all__ = ["Factor", "Point", "Problem"]

Point = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One number of the tiling and the values that it takes among the points, in rising order."""

    name: str
    values: tuple[int, ...]


class Problem:
    """The search of one phase.

    ``points`` are the tilings that fit on chip (a value per factor, in the order of ``factors``). ``results`` grows
    while the method runs: after a method has proposed points and is asked for more, their exact results are there.
    ``random`` is the only source of chance, ``budget`` about how many exact runs this phase will have.
    ``front`` is true when the best of this phase alone does not decide (the energy-delay product over several phases).
    """

    def __init__(self, search: PhaseSearch, *, seed: int, budget: int, front: bool = False) -> None:
        self.search = search
        self.seed = seed
        self.budget = budget
        self.front = front
        self.random = Random(f"{seed} {search.phase.name}")
        names = [parameter.name for parameter in search.phase.parameters]
        self._candidates = {tuple(c.tiling[name] for name in names): c for c in search.candidates}
        self.points: tuple[Point, ...] = tuple(self._candidates)
        self._bounds = {point: search.bound(candidate) for point, candidate in self._candidates.items()}
        self.factors: tuple[Factor, ...] = tuple(
            Factor(name=name, values=tuple(sorted({point[i] for point in self.points}))) for i, name in enumerate(names)
        )
        at = [{value: place for place, value in enumerate(factor.values)} for factor in self.factors]
        self._places = {
            point: tuple(places[value] for places, value in zip(at, point, strict=True)) for point in self.points
        }
        self._results: dict[Point, Evaluated] = {}
        self.pending: Sequence[Point] = ()

    @property
    def results(self) -> Mapping[Point, Evaluated]:
        """Exact results of the points that were run."""
        return self._results

    @property
    def exhausted(self) -> bool:
        """Whether every point was run."""
        return len(self._results) == len(self.points)

    @property
    def settled(self) -> bool:
        """Whether nothing that is left can be better (or, where the front counts, nothing is left)."""
        if self.exhausted or not self._results:
            return self.exhausted
        return not self.front and min(map(self.bound, self.unknown())) >= self.score(self.best()[0])

    def point(self, candidate: Candidate | Evaluated) -> Point:
        """The point of a candidate."""
        return tuple(candidate.tiling[factor.name] for factor in self.factors)

    def bound(self, point: Point) -> tuple[float, float]:
        """What no run of ``point`` can beat; counted, costs no run."""
        return self._bounds[point]

    def score(self, point: Point) -> tuple[float, float]:
        """The exact figure to minimise (and the one that decides between equals) of a point that was run."""
        return self.search.score(self._results[point])

    def best(self, n: int = 1) -> list[Point]:
        """The ``n`` best points so far."""
        return sorted(self._results, key=self.score)[:n]

    def unknown(self) -> list[Point]:
        """The points not yet run."""
        return [point for point in self.points if point not in self._results]

    def places(self, point: Point) -> tuple[int, ...]:
        """The position of each value of ``point`` among the values of its factor."""
        return self._places[point]

    def nearest(self, places: Sequence[int], *, among: Iterable[Point] | None = None) -> Point:
        """The point (``among`` some) whose positions differ least from ``places``; the first of equals."""
        return min(
            self.points if among is None else among,
            key=lambda point: sum(abs(a - b) for a, b in zip(self._places[point], places, strict=True)),
        )

    def run(self, proposed: Iterable[Point], most: int) -> list[Evaluated]:
        """Run the proposed points that are new and keep the results; what exceeds ``most`` stays in ``pending``."""
        new = [point for point in dict.fromkeys(proposed) if point not in self._results]
        for point in new:
            if point not in self._candidates:
                raise InputError(f"search method: proposed {point}, which is no tiling that fits on chip")
        new, self.pending = new[:most], new[most:]
        found = self.search.evaluate([self._candidates[point] for point in new]) if new else []
        self._results.update(zip(new, found, strict=True))
        return found

    def floor(self) -> tuple[float, int, float]:
        """What no point of this phase can beat: objective, cycles and energy (pJ), each by itself.

        For the points that were run the exact figures count, for the others what was counted.
        """
        known, left = self._results.values(), [self._candidates[point] for point in self.unknown()]
        return (
            min([self.search.score(r)[0] for r in known] + [self.search.bound(c)[0] for c in left]),
            min([r.cycles for r in known] + [c.bound_cycles for c in left]),
            min([r.energy_pj for r in known] + [self.search.least_energy(c) for c in left]),
        )
