"""The steps at which one unit is computed, best for every number of them: a dynamic program over steps.

Between two updates every step takes what the first of them made. With phi(i, j) the similarity of steps i to j - 1 to
step i, summed, the best value of m updates that serve the steps before j is D[m][j] = max over i of D[m - 1][i] +
phi(i, j), D[0][0] = 0 (block-wise adaptive caching, arXiv 2506.13456; CacheQuant, arXiv 2503.01323, with bounds on the
length of a stretch). With several formats an update also has a price, and a stretch is looked for in each of them: what
is kept for every j is the front of price and value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.workloads.diffusion.step import Cell

__all__ = ["Floats", "Front", "Ints", "Update", "best_front", "best_updates", "grouped", "joined", "nondominated"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Update(NamedTuple):
    """A step at which a unit is computed, and the number of the format in which."""

    step: int
    format: int = 0


def best_updates(
    gains: Floats, *, shortest: int = 1, longest: int | None = None
) -> dict[int, tuple[float, tuple[int, ...]]]:
    """For every possible number of updates the best value and its steps.

    ``gains`` (steps, steps + 1): phi(i, j). ``shortest`` and ``longest``: bounds on the steps of a stretch.
    """
    n = len(gains)
    longest = n if longest is None else longest
    length = np.arange(n + 1)[None, :] - np.arange(n)[:, None]
    allowed = np.where((length >= shortest) & (length <= longest), gains, -np.inf)
    best = np.full(n + 1, -np.inf)
    best[0] = 0.0
    parents: list[npt.NDArray[np.intp]] = []
    found = {}
    for m in range(1, n + 1):
        reached = best[:n, None] + allowed
        parents.append(np.argmax(reached, axis=0))
        best = reached.max(axis=0)
        if not np.isfinite(best).any():
            break
        if np.isfinite(best[n]):
            steps, at = [], n
            for parent in reversed(parents):
                at = int(parent[at])
                steps.append(at)
            found[m] = (float(best[n]), tuple(reversed(steps)))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """Ways to run a unit that no other beats in price and value: prices rise, and values with them."""

    prices: Ints
    values: Floats
    ways: tuple[tuple[Update, ...], ...]

    def __len__(self) -> int:
        return len(self.prices)


def nondominated(prices: Ints, values: Floats) -> npt.NDArray[np.intp]:
    """Places of what no other beats, by rising price."""
    order = np.lexsort((-values, prices))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], values[order][:-1]]))
    return order[values[order] > best]


def best_front(gains: Floats, prices: Sequence[int]) -> Front:
    """The front of a unit: ``gains`` (formats, steps, steps + 1), ``prices`` of an update in each format.

    Exact: every way to choose updates and formats is one of those here, or no better than one of them.
    """
    if len(gains) == 1:
        found = best_updates(gains[0])
        prices_of = np.array([m * prices[0] for m in found], dtype=np.int64)
        values = np.array([value for value, _ in found.values()])
        ways = [tuple(Update(step) for step in steps) for _, steps in found.values()]
        kept = nondominated(prices_of, values)
        return Front(prices_of[kept], values[kept], tuple(ways[at] for at in kept))
    return _with_formats(gains, prices)


def _with_formats(gains: Floats, prices: Sequence[int]) -> Front:
    n_formats, n, _ = gains.shape
    fronts: list[tuple[Ints, Floats]] = [(np.zeros(1, dtype=np.int64), np.zeros(1))]
    back: list[tuple[Ints, Ints, Ints]] = []  # of each label: the step of its last update, its format, the label there
    for end in range(1, n + 1):
        all_prices, all_values, steps, kinds, labels = [], [], [], [], []
        for begin in range(end):
            own_prices, own_values = fronts[begin]
            for kind in range(n_formats):
                all_prices.append(own_prices + prices[kind])
                all_values.append(own_values + gains[kind, begin, end])
                steps.append(np.full(len(own_prices), begin))
                kinds.append(np.full(len(own_prices), kind))
                labels.append(np.arange(len(own_prices)))
        joined, values = np.concatenate(all_prices), np.concatenate(all_values)
        kept = nondominated(joined, values)
        fronts.append((joined[kept], values[kept]))
        back.append(tuple(np.concatenate(one)[kept] for one in (steps, kinds, labels)))  # type: ignore[arg-type]
    return Front(*fronts[n], tuple(_way(back, n, label) for label in range(len(fronts[n][0]))))


def _way(back: Sequence[tuple[Ints, Ints, Ints]], end: int, label: int) -> tuple[Update, ...]:
    found = []
    while end:
        steps, kinds, labels = back[end - 1]
        found.append(Update(int(steps[label]), int(kinds[label])))
        end, label = int(steps[label]), int(labels[label])
    return tuple(reversed(found))


def grouped(gains: Floats, length: int) -> tuple[float, tuple[int, ...]]:
    """CacheQuant's groups: as many as steps over ``length``, each of length / 2 to 2 length steps, best in sum.

    Raises InputError where no such groups cover the steps.
    """
    n = len(gains)
    shortest, longest = max(1, -(-length // 2)), 2 * length
    n_groups = max(1, round(n / length))
    found = best_updates(gains, shortest=shortest, longest=longest).get(n_groups)
    if found is None:
        raise InputError(
            f"groups: {n} steps in {n_groups} groups of {shortest} to {longest} steps: there are none; allowed "
            f"a length of 1 to {n}"
        )
    return found


def joined(steps: Mapping[Cell, Iterable[int]], blocks: Sequence[str]) -> dict[Cell, set[int]]:
    """The steps of each unit, those of blocks before others with theirs (block-wise adaptive caching's union).
    ``blocks``: in the order in which they run.
    """
    found: dict[Cell, set[int]] = {}
    together: set[int] = set()
    for block in reversed(blocks):
        together = together.union(*(own for cell, own in steps.items() if cell[0] == block))
        found |= {cell: set(together) for cell in steps if cell[0] == block}
    return {cell: found[cell] for cell in steps}
