"""Which jobs stand in which stage, and how many cores each stage gets: the best of all ways, by dynamic programming.

A stage is a run of consecutive jobs. An *option* is a kind of unit that can do it: so many of the cores, or the
processor beside them (no cores), with the time of every run of jobs on it. Over all partitions into stages whose cores
are there, the longest stage is made as short as it can be, then, among those that are no longer than that (or than
what bounds the interval whatever the partition), the sum of the stages: the latency of one image. Both are exact: times
of stages do not depend on the other stages here, so each prefix of the jobs has its best way with so many cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Option", "Partition", "StageChoice", "balanced", "best_partition", "bottleneck_bound", "bottlenecks"]

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

NEVER = np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Option:
    """A unit that can do a stage: ``n_cores`` of the cores (0: none), and the machine number ``beside`` (from 1; 0:
    none), which does one stage at most. ``cycles[i, j]``: of jobs i to j - 1 (n, n + 1); infinite where it cannot do
    them.
    """

    n_cores: int
    cycles: FloatArray
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
    """Stages in order, their longest and the sum of them."""

    stages: tuple[StageChoice, ...]
    bottleneck: float
    latency: float


def best_partition(
    options: Sequence[Option], n_cores: int, *, n_stages: int | None, at_least: float = 0.0, most_stages: int = 64
) -> Partition | None:
    """The partition with the shortest longest stage, ties by latency; into ``n_stages``, or into as many as are best.

    ``at_least``: what bounds the interval whatever the partition; stages up to it are not made shorter at the cost of
    latency. None where there is none.
    """
    n_jobs = len(options[0].cycles)
    limit = min(n_jobs, most_stages) if n_stages is None else n_stages
    counts = range(1, limit + 1) if n_stages is None else (n_stages,)
    times = [option.cycles for option in options]
    longest = [table[0] for table in _tables(options, times, n_cores, limit, np.maximum)]
    best = min((float(longest[n][n_jobs].min()) for n in counts), default=NEVER)
    if not np.isfinite(best):
        return None
    cap = max(best, at_least)
    allowed = [np.where(cycles <= cap, cycles, NEVER) for cycles in times]
    tables = list(_tables(options, allowed, n_cores, limit, np.add))
    n = min(counts, key=lambda count: (float(tables[count][0][n_jobs].min()), count))
    stages = _walked(options, tables, n, n_jobs, n_cores)
    cycles = [float(options[one.option].cycles[one.first, one.last + 1]) for one in stages]
    return Partition(stages, max(cycles), sum(cycles))


def bottlenecks(options: Sequence[Option], n_cores: int, *, most_stages: int = 64) -> list[float]:
    """The shortest longest stage of partitions into 1, 2, ... stages; infinite where there is none."""
    n_jobs = len(options[0].cycles)
    times = [option.cycles for option in options]
    return [
        float(table.value[n_jobs].min())
        for number, table in enumerate(_tables(options, times, n_cores, min(n_jobs, most_stages), np.maximum))
        if number
    ]


def bottleneck_bound(options: Sequence[Option], n_cores: int, *, most_stages: int = 64) -> float:
    """What the longest stage is at least, over all partitions (with ``cycles`` of the options that none beats)."""
    return min(bottlenecks(options, n_cores, most_stages=most_stages))


class _Table(NamedTuple):
    """Of the first i jobs with so many cores and machines: the best value, first job and option of the last stage."""

    value: FloatArray
    first: Int64Array
    option: Int64Array


def _tables(
    options: Sequence[Option], times: Sequence[FloatArray], n_cores: int, limit: int, join: np.ufunc
) -> Iterator[_Table]:
    """Tables for 0, 1, ... ``limit`` stages; ``join`` puts the value of a prefix and the time of a stage together."""
    n_jobs = len(times[0])
    n_beside = max(option.beside for option in options)
    shape = (n_jobs + 1, (n_cores + 1) << n_beside)
    value = np.full(shape, NEVER)
    value[0, :] = 0
    yield _Table(value, np.full(shape, -1), np.full(shape, -1))
    for _ in range(limit):
        before, value = value, np.full(shape, NEVER)
        first, option = np.full(shape, -1), np.full(shape, -1)
        for number, (one, cycles) in enumerate(zip(options, times, strict=True)):
            states = one.states(n_cores, n_beside)
            if not len(states):
                continue
            known, now = before[:, states], states + one.taken(n_cores)
            for end in range(1, n_jobs + 1):
                both = join(known[:end], cycles[:end, end, None])
                at = both.argmin(axis=0)
                found = both[at, np.arange(both.shape[1])]
                better = found < value[end, now]
                value[end, now[better]] = found[better]
                first[end, now[better]] = at[better]
                option[end, now[better]] = number
        yield _Table(value, first, option)


def _walked(
    options: Sequence[Option], tables: Sequence[_Table], n: int, n_jobs: int, n_cores: int
) -> tuple[StageChoice, ...]:
    """The stages of the best way, from its end."""
    end, state = n_jobs, int(tables[n].value[n_jobs].argmin())
    stages = []
    while n:
        first, option = int(tables[n].first[end, state]), int(tables[n].option[end, state])
        stages.append(StageChoice(first, end - 1, option))
        end, state, n = first, state - options[option].taken(n_cores), n - 1
    return tuple(reversed(stages))


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
    of_each = [float(cycles[one.first, one.last + 1]) for one in stages]
    return Partition(tuple(stages), max(of_each), sum(of_each)) if np.isfinite(max(of_each)) else None
