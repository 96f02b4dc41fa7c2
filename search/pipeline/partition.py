"""Which jobs stand in which stage, and how many cores each stage gets: the best of all ways, by dynamic programming.

A stage is a run of consecutive jobs. An *option* is a kind of unit that can do it: so many of the cores, a machine
beside them, or the processor beside them (no cores), with the time of every run of jobs on it and what it takes of the
DRAM's time. Over all partitions into stages whose cores are there, the interval is made as short as it can be: the
longest stage or, where that is longer, what all stages together take of the DRAM. Then, among those that are no longer,
the sum of the stages is made small: the latency of one image. Times of stages do not depend on the other stages here,
so each prefix of the jobs has its best way with so many cores, and the interval is the smallest cap on stages under
which the least of the DRAM is no more than the cap (found by halving: with a higher cap the least only falls).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "NEVER",
    "FloatArray",
    "Option",
    "Partition",
    "StageChoice",
    "balanced",
    "best_partition",
    "bottleneck_bound",
]

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

NEVER = np.inf
_EXACTLY = 0.5  # of a cycle: halving ends there


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option:
    """A unit that can do a stage: ``n_cores`` of the cores (0: none), and the machine number ``beside`` (from 1; 0:
    none), which does one stage at most. ``cycles[i, j]``: of jobs i to j - 1 (n, n + 1); infinite where it cannot do
    them. ``dram[i, j]``: cycles of the DRAM for them (None: not counted).
    """

    n_cores: int
    cycles: FloatArray
    dram: FloatArray | None = None
    beside: int = 0

    def states(self, n_cores: int, n_beside: int) -> Int64Array:
        """Where it can be added: free cores and machines, as numbers (cores taken, and a bit a machine beside)."""
        each = n_cores + 1
        every = np.arange(each << n_beside)
        fits = every % each + self.n_cores <= n_cores
        if self.beside:
            fits &= (every // each >> (self.beside - 1)) % 2 == 0
        return every[fits]

    def taken(self, n_cores: int) -> int:
        """What it adds to a state."""
        return self.n_cores + ((n_cores + 1) << (self.beside - 1) if self.beside else 0)


class StageChoice(NamedTuple):
    """Jobs ``first`` to ``last`` (included) on option number ``option``."""

    first: int
    last: int
    option: int


class Partition(NamedTuple):
    """Stages in order, their longest, the sum of them, and the DRAM's time for all of them together."""

    stages: tuple[StageChoice, ...]
    bottleneck: float
    latency: float
    dram: float

    @property
    def interval(self) -> float:
        """Between two images, as far as stages alone and the DRAM's time tell."""
        return max(self.bottleneck, self.dram)


def best_partition(
    options: Sequence[Option], n_cores: int, *, n_stages: int | None = None, at_least: float = 0.0
) -> Partition | None:
    """The partition with the shortest interval, ties by latency; into ``n_stages``, or into as many as are best.

    ``at_least``: what bounds the interval whatever the partition; it is not made shorter at the cost of latency. None
    where there is none.
    """
    ways = _Ways(options, n_cores, n_stages)
    shortest = ways.best([option.cycles for option in options], np.maximum)
    if shortest is None:
        return None
    low = max(ways.told(shortest).bottleneck, at_least)
    frugal = ways.best(ways.drams(low), np.add)
    assert frugal is not None
    best = ways.told(frugal)
    high = max(best.interval, low)
    while high - low > _EXACTLY:  # a cap between: no way below it takes less of the DRAM than it says
        middle = (low + high) / 2
        found = ways.best(ways.drams(middle), np.add)
        assert found is not None
        way = ways.told(found)
        if way.interval < best.interval:
            best = way
        if way.dram <= middle:
            high = max(low, way.interval)
        else:
            low = middle
    cap = max(best.interval, at_least)
    quick = ways.best([np.where(option.cycles <= cap, option.cycles, NEVER) for option in options], np.add)
    assert quick is not None
    latest = ways.told(quick)
    return latest if latest.interval <= cap else best


def bottleneck_bound(options: Sequence[Option], n_cores: int) -> float:
    """What the longest stage is at least, over all partitions (with ``cycles`` of the options that none beats)."""
    ways = _Ways(options, n_cores, None)
    found = ways.best([option.cycles for option in options], np.maximum)
    return NEVER if found is None else ways.told(found).bottleneck


@dataclass(slots=True)
class _Ways:
    """Ways to cut the jobs into stages: ``n_stages`` of them, or (None) any number."""

    options: Sequence[Option]
    n_cores: int
    n_stages: int | None
    n_jobs: int = field(init=False)
    n_states: int = field(init=False)
    moves: list[tuple[Int64Array, Int64Array]] = field(init=False)

    def __post_init__(self) -> None:
        n_beside = max(option.beside for option in self.options)
        self.n_jobs = len(self.options[0].cycles)
        self.n_states = (self.n_cores + 1) << n_beside
        froms = [option.states(self.n_cores, n_beside) for option in self.options]
        self.moves = [
            (states, states + option.taken(self.n_cores)) for states, option in zip(froms, self.options, strict=True)
        ]

    def drams(self, cap: float) -> list[FloatArray]:
        """The DRAM's times of stages of at most ``cap`` cycles."""
        zero = np.zeros(1)
        return [
            np.where(option.cycles <= cap, zero if option.dram is None else option.dram, NEVER)
            for option in self.options
        ]

    def told(self, stages: tuple[StageChoice, ...]) -> Partition:
        """The partition of these stages."""
        own = [(self.options[one.option], one.first, one.last + 1) for one in stages]
        cycles = [float(option.cycles[first, end]) for option, first, end in own]
        dram = sum(float(option.dram[first, end]) for option, first, end in own if option.dram is not None)
        return Partition(stages, max(cycles), sum(cycles), dram)

    def best(self, times: Sequence[FloatArray], join: np.ufunc) -> tuple[StageChoice, ...] | None:
        """The stages whose ``times``, put together by ``join``, are least; None where no way is finite."""
        tables = [_empty(self.n_jobs, self.n_states, starts=True)]
        if self.n_stages is None:
            self._fill(tables[0], tables[0], times, join)
        else:
            for _ in range(self.n_stages):
                tables.append(_empty(self.n_jobs, self.n_states, starts=False))
                self._fill(tables[-2], tables[-1], times, join)
        last = tables[-1].value[self.n_jobs]
        return self._walked(tables, int(last.argmin())) if np.isfinite(last.min()) else None

    def _fill(self, before: _Table, into: _Table, times: Sequence[FloatArray], join: np.ufunc) -> None:
        """One more stage behind what ``before`` has; the same table for any number of stages, prefix by prefix."""
        for end in range(1, self.n_jobs + 1):
            for number, (cycles, (old, new)) in enumerate(zip(times, self.moves, strict=True)):
                if not len(old):
                    continue
                both = join(before.value[:end, old], cycles[:end, end, None])
                at = both.argmin(axis=0)
                found = both[at, np.arange(both.shape[1])]
                better = found < into.value[end, new]
                into.value[end, new[better]] = found[better]
                into.first[end, new[better]] = at[better]
                into.option[end, new[better]] = number

    def _walked(self, tables: Sequence[_Table], state: int) -> tuple[StageChoice, ...]:
        """The stages of the best way, from its end."""
        end, stages = self.n_jobs, []
        for table in _backwards(tables, self.n_stages):
            if not end:
                break
            first, option = int(table.first[end, state]), int(table.option[end, state])
            stages.append(StageChoice(first, end - 1, option))
            end, state = first, state - self.options[option].taken(self.n_cores)
        return tuple(reversed(stages))


class _Table(NamedTuple):
    """Of the first i jobs with so many cores and machines: the best value, first job and option of the last stage."""

    value: FloatArray
    first: Int64Array
    option: Int64Array


def _empty(n_jobs: int, n_states: int, *, starts: bool) -> _Table:
    shape = (n_jobs + 1, n_states)
    value = np.full(shape, NEVER)
    if starts:
        value[0, :] = 0
    return _Table(value, np.full(shape, -1), np.full(shape, -1))


def _backwards(tables: Sequence[_Table], n_stages: int | None) -> Iterator[_Table]:
    if n_stages is not None:
        yield from reversed(tables[1:])
        return
    while True:
        yield tables[0]


def balanced(options: Sequence[Option], n_cores: int, n_stages: int) -> Partition | None:
    """The usual guess, to compare with: as many cores for each stage, jobs put into stages until each has its share of
    the time. None where it does not come out.
    """
    own = [at for at, option in enumerate(options) if not option.beside and 0 < option.n_cores <= n_cores // n_stages]
    if not own:
        return None
    at = max(own, key=lambda one: options[one].n_cores)
    cycles = options[at].cycles
    n_jobs = len(cycles)
    total, first, stages = float(cycles[0, n_jobs]), 0, []
    for number in range(n_stages):
        end = n_jobs if number == n_stages - 1 else first + 1
        while end < n_jobs - (n_stages - 1 - number) and cycles[0, end] < total * (number + 1) / n_stages:
            end += 1
        if end > n_jobs or end <= first:
            return None
        stages.append(StageChoice(first, end - 1, at))
        first = end
    found = _Ways(options, n_cores, n_stages).told(tuple(stages))
    return found if np.isfinite(found.bottleneck) else None
