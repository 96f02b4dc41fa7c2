"""Ways for all units at once that are worth most within a budget: fronts merged one by one, with a proof.

After k units, every sum of their prices and values that no other beats is kept; what no completion can bring within the
budget is left out. The last front's most valuable entry within the budget is the optimum: prices are whole numbers.
Where a front grows beyond ``MOST_STATES``, prices are rounded up to a grid (what is found then still keeps the budget),
and the same with prices rounded down bounds what is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.errors import InputError
from tilewright.progress import Progress
from tilewright.workloads.diffusion.updates import Floats, Front, Ints, nondominated

__all__ = ["MOST_STATES", "Choice", "choose", "whole_front"]

MOST_STATES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """For each unit the number of its way in its front. No choice within the budget is worth more than ``bound``."""

    ways: tuple[int, ...]
    price: int
    value: float
    bound: float

    @property
    def proven(self) -> bool:
        """Whether nothing within the budget is worth more."""
        return self.bound <= self.value + 1e-9 * max(1.0, abs(self.value))


def choose(fronts: Sequence[Front], budget: int, progress: Progress | None = None) -> Choice:
    """The ways that are worth most together at a price of at most ``budget``.

    Raises InputError where not even the cheapest ways together keep it.
    """
    least = sum(int(front.prices[0]) for front in fronts)
    if least > budget:
        raise InputError(f"budget: {budget:,} is less than the least possible, {least:,}")
    ways, exact = _merged(fronts, budget, 1, progress)
    if exact:
        return _choice(fronts, ways, None)
    grid = max(1, budget // MOST_STATES)
    above = [Front(-(-front.prices // grid), front.values, front.ways) for front in fronts]
    below = [Front(front.prices // grid, front.values, front.ways) for front in fronts]
    if sum(int(front.prices[0]) for front in above) > budget // grid:
        ways = tuple(0 for _ in fronts)
    else:
        ways, _ = _merged(above, budget // grid, 0, progress)
    most, _ = _merged(below, budget // grid, 0, progress)
    bound = sum(float(front.values[at]) for front, at in zip(below, most, strict=True))
    return _choice(fronts, ways, bound)


def _choice(fronts: Sequence[Front], ways: Sequence[int], bound: float | None) -> Choice:
    price = sum(int(front.prices[at]) for front, at in zip(fronts, ways, strict=True))
    value = sum(float(front.values[at]) for front, at in zip(fronts, ways, strict=True))
    return Choice(ways=tuple(ways), price=price, value=value, bound=value if bound is None else max(bound, value))


def whole_front(fronts: Sequence[Front], progress: Progress | None = None) -> tuple[tuple[int, float], ...]:
    """Price and value of everything that no other choice beats; prices rounded up where there is too much of it."""
    most = sum(int(front.prices[-1]) for front in fronts)
    labels = _labels(fronts, most, 1, progress)
    if labels is not None:
        return tuple((int(price), float(value)) for price, value in zip(labels[0], labels[1], strict=True))
    grid = max(1, most // MOST_STATES)
    above = [Front(-(-front.prices // grid), front.values, front.ways) for front in fronts]
    labels = _labels(above, sum(int(front.prices[-1]) for front in above), 0, progress)
    assert labels is not None
    return tuple((int(price) * grid, float(value)) for price, value in zip(labels[0], labels[1], strict=True))


def _merged(
    fronts: Sequence[Front], budget: int, limited: int, progress: Progress | None
) -> tuple[tuple[int, ...], bool]:
    """The best ways, and whether the fronts stayed small enough (where ``limited``; what is found is nothing then)."""
    labels = _labels(fronts, budget, limited, progress)
    if labels is None:
        return (), False
    _, values, back = labels
    ways, label = [], int(np.argmax(values))
    for before, way in reversed(back):
        ways.append(int(way[label]))
        label = int(before[label])
    return tuple(reversed(ways)), True


def _labels(
    fronts: Sequence[Front], budget: int, limited: int, progress: Progress | None
) -> tuple[Ints, Floats, list[tuple[Ints, Ints]]] | None:
    """The front over all units within the budget, and for each unit where each entry comes from and its way; None
    where there are more than ``MOST_STATES`` (and ``limited``).
    """
    left = [0]
    for front in reversed(fronts):
        left.append(left[-1] + int(front.prices[0]))
    left.reverse()
    prices: Ints = np.zeros(1, dtype=np.int64)
    values: Floats = np.zeros(1)
    back: list[tuple[Ints, Ints]] = []
    for at, front in enumerate(fronts):
        if progress is not None:
            progress(at, len(fronts), "units")
        joined = (prices[:, None] + front.prices[None, :]).ravel()
        within = np.flatnonzero(joined <= budget - left[at + 1])
        sums = (values[:, None] + front.values[None, :]).ravel()
        kept = within[nondominated(joined[within], sums[within])]
        prices, values = joined[kept], sums[kept]
        back.append((kept // len(front), kept % len(front)))
        if limited and len(prices) > MOST_STATES:
            return None
    return prices, values, back
