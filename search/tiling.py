"""The best tiling of a dataflow: exhaustive over the tiling space, with pruning that cannot lose the optimum.

For a candidate that fits on chip the work of each unit is counted without running it. No run can end before
its busiest unit has done its work, so that time (and the energy, which is exact but for idle power) bounds the
candidate from below. Where a dataflow tells a floor of that work faster, only what could come next is counted.
Candidates are run exactly, in batches, in the order of that bound; the search ends when the next bound is not below
the best result: nothing left can be better. Where only cycles are asked for and a floor leaves no doubt that a
candidate must be run, it is counted only if it turns out to be the best, for its energy.

What was run at full pace is then tried at other paces of its ports (:mod:`tilewright.search.paces`), where such a run
could be better than the best.

Phases of a dataflow are separated by a barrier, so their cycles and energies add up and each is searched alone;
for the energy-delay product, which does not add up, the Pareto fronts of the phases are combined.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from heapq import heapify, heappop, heappush
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.objective import Objective, score
from tilewright.search.paces import Pacer, cycles_below, image_of, least_cycles
from tilewright.sim.engine.program import MAX_CYCLES, Channel
from tilewright.sim.engine.run import run_images
from tilewright.sim.lowering.core import WorkTotals
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.evaluation import count_phase, fits, needed_bytes
from tilewright.sim.lowering.family import family_of
from tilewright.sim.lowering.levels import channels_of
from tilewright.sim.lowering.mapping import Dataflow, Layer, Parameter, Phase, Tiling, plain_mapping
from tilewright.sim.lowering.pace import refuse_pace
from tilewright.sim.lowering.screen import TilingTable
from tilewright.sim.result import SearchSummary
from tilewright.units import ceil_div

__all__ = [
    "BATCH",
    "FEW_FITTING",
    "FIRST_BATCH",
    "Candidate",
    "Evaluated",
    "PhaseSearch",
    "TilingSearch",
    "best_at_pace",
    "best_tiling",
    "better_tiling",
    "can_beat",
    "least_parts",
    "none_of_the_smallest_fits",
    "nothing_fits",
    "pareto",
    "static_pj_per_cycle",
    "tiling_space",
]

FIRST_BATCH = 8  # small: the bound is tight, so a few runs often settle it
LEAST_GRANULE = 4  # an array is not halved below that for smaller tiles
FEW_FITTING = 8  # where fewer tilings fit, tiles for a part of the array are tried as well
BATCH = 64  # later ones double up to this
SHORT_BATCH = 16  # of runs alone, of which none behind the best is to be made


class Candidate(NamedTuple):
    """A tiling of one phase with its bounds; ``dynamic_pj`` is exact (a floor, where it was not counted)."""

    bound_cycles: int
    dynamic_pj: float
    tiling: dict[str, int]
    is_counted: bool = True


class _Queued(NamedTuple):
    """Where a tiling that was counted stands in the queue: by its bound, and its place in the space."""

    bound: tuple[float, float]
    at: int
    candidate: Candidate


class _Queue(NamedTuple):
    """Tilings that wait to be counted, the next one last: what is known of their bounds, and their places; and a heap
    of those that were counted.
    """

    bounds: list[tuple[float, float]]
    at: list[int]
    counted: list[_Queued]


class _Run(NamedTuple):
    """An exact run at full pace, and its program."""

    candidate: Candidate
    cycles: int
    image: npt.NDArray[np.int64]


class Evaluated(NamedTuple):
    """A tiling of one phase that was run: both figures are exact."""

    cycles: int
    energy_pj: float
    tiling: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TilingSearch:
    """The tiling found and how."""

    tiling: dict[str, int]
    cycles: int
    energy_pj: float
    summary: SearchSummary


def best_tiling(
    dataflow: Dataflow,
    layer: Layer,
    machine: MachineSpec,
    *,
    objective: Objective = "latency",
    fixed: Tiling | None = None,
    prune: bool = True,
    progress: Progress | None = None,
) -> TilingSearch:
    """The tiling of ``dataflow`` that minimises ``objective`` over its tiling space (:func:`better_tiling`)."""
    found = better_tiling(dataflow, layer, machine, objective=objective, fixed=fixed, prune=prune, progress=progress)
    assert found is not None
    return found


def better_tiling(
    dataflow: Dataflow,
    layer: Layer,
    machine: MachineSpec,
    *,
    to_beat: tuple[float, float] | None = None,
    objective: Objective = "latency",
    fixed: Tiling | None = None,
    prune: bool = True,
    progress: Progress | None = None,
    later: list[PhaseSearch] | None = None,
) -> TilingSearch | None:
    """The tiling of ``dataflow`` that minimises ``objective`` over its tiling space.

    None where none is better than ``to_beat``, a score (:func:`tilewright.search.objective.score`): known much sooner.
    ``later``: a dataflow of one phase is searched at full pace alone, and its search is put there, for
    :func:`best_at_pace`.

    ``fixed`` holds some parameters at given values. ``prune=False`` runs every candidate that fits (the test
    of the pruning). ``progress`` is called now and then. Raises MappingError when no
    candidate fits, with the smallest need. Many machines that differ little are searched faster by
    :class:`tilewright.search.shared.shared_search.SharedSearch`.
    """
    begun = time.perf_counter()
    layer, fixed = plain_mapping(dataflow, layer, fixed or {})
    refuse_pace(fixed)
    if to_beat is not None and not can_beat(to_beat, dataflow, layer, machine, objective):
        return None
    costs = dataflow.costs(layer, machine)
    limit = to_beat if objective != "edp" or len(dataflow.phases) == 1 else None  # figures of phases add up
    searches = [PhaseSearch(phase, costs, objective, fixed, limit) for phase in dataflow.phases]
    is_paced_later = later is not None and len(searches) == 1
    if later is not None and is_paced_later:
        later += searches
    total = sum(search.n_fitting for search in searches)
    done = 0
    fronts: list[list[Evaluated]] = []
    for search in searches:
        front = search.run(
            keep_front=objective == "edp" and len(searches) > 1,
            prune=prune,
            progress=_shifted(progress, done, total, dataflow.name),
            to_beat=limit,
            at_full_pace=is_paced_later,
        )
        if not front:
            return None
        if limit is not None:
            own = search.score(front[0])
            limit = limit[0] - own[0], limit[1] - own[1]
        done += search.n_fitting
        fronts.append(front)
    chosen = min(product(*fronts), key=lambda parts: _total(objective, parts))
    if to_beat is not None and not _total(objective, chosen) < to_beat:
        return None
    return TilingSearch(
        tiling={name: value for part in chosen for name, value in part.tiling.items()},
        cycles=sum(part.cycles for part in chosen),
        energy_pj=sum(part.energy_pj for part in chosen),
        summary=SearchSummary(
            objective=objective,
            n_candidates=sum(search.n_candidates for search in searches),
            n_fitting=total,
            n_simulated=sum(search.n_simulated for search in searches),
            proven=True,
            seconds=time.perf_counter() - begun,
        ),
    )


def _total(objective: Objective, parts: Sequence[Evaluated]) -> tuple[float, float]:
    """The score of phases, one after the other."""
    return score(objective, sum(part.cycles for part in parts), sum(part.energy_pj for part in parts))


def can_beat(
    to_beat: tuple[float, float], dataflow: Dataflow, piece: Layer, machine: MachineSpec, objective: Objective
) -> bool:
    """Whether a run of ``piece`` may be better than a score: told from its products alone."""
    return score(objective, dataflow.family.least(piece, machine), 0.0) < to_beat


def _shifted(progress: Progress | None, done: int, total: int, what: str) -> Callable[[int], None] | None:
    """Report progress of one phase as progress of the whole."""
    if progress is None:
        return None
    report = progress
    return lambda n: report(done + n, total, what)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The tilings that fit, as places in a space, and what counting each cannot undercut: cycles and dynamic pJ (None:
    not known).
    """

    space: Sequence[dict[str, int]]
    at: npt.NDArray[np.int64]
    least: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]] | None

    def __len__(self) -> int:
        return len(self.at)

    def tiling(self, number: int) -> dict[str, int]:
        return self.space[int(self.at[number])]

    def candidate(self, number: int) -> Candidate | None:
        """With the bounds that are known without counting."""
        if self.least is None:
            return None
        cycles, energy_pj = self.least
        return Candidate(int(cycles[number]), float(energy_pj[number]), self.tiling(number), is_counted=False)

    def where(self, which: npt.NDArray[np.bool_]) -> _Fitting:
        least = None if self.least is None else (self.least[0][which], self.least[1][which])
        return replace(self, at=self.at[which], least=least)

    def with_more(self, other: _Fitting) -> _Fitting:
        """These, then those of ``other``, whose space follows."""
        if not len(other.space):
            return self
        least = None
        if self.least is not None and other.least is not None:
            least = (
                np.concatenate([self.least[0], other.least[0]]),
                np.concatenate([self.least[1], other.least[1]]),
            )
        at = np.concatenate([self.at, other.at + len(self.space)])
        return _Fitting([*self.space, *other.space], at, least)


class PhaseSearch:
    """The tilings of one phase that fit on chip, with their bounds, and their exact runs."""

    def __init__(
        self,
        phase: Phase,
        costs: TileCosts,
        objective: Objective,
        fixed: Tiling,
        to_beat: tuple[float, float] | None = None,
    ) -> None:
        self.phase = phase
        self.costs = costs
        self.objective = objective
        self.n_simulated = 0
        self.static_pj = static_pj_per_cycle(costs.machine)
        self._runs: list[_Run] | None = None  # where they are to be kept
        self._known: dict[tuple[int, ...], WorkTotals] = {}
        self._floors: dict[tuple[int, ...], WorkTotals] = {}
        self._channels: tuple[Channel, ...] = ()
        self._names = [parameter.name for parameter in phase.parameters if parameter.changes_work]
        self._most_cycles = int(to_beat[0]) if to_beat is not None and objective == "latency" else None
        fitting = self._shortlisted(fixed)
        if fitting is None:
            fitting = self._all_fitting(fixed)
        if to_beat is not None and fitting.least is not None:
            first, second = self._bounds(*fitting.least)
            fitting = fitting.where((first < to_beat[0]) | ((first == to_beat[0]) & (second < to_beat[1])))
        self._fitting = fitting

    def _space(self, layer: Layer, fixed: Tiling) -> Sequence[dict[str, int]]:
        machine = self.costs.machine
        return tiling_space(self.phase, layer, machine, fixed, parts=least_parts(machine))

    def _shortlisted(self, fixed: Tiling) -> _Fitting | None:
        """What may beat the score, where that is told sooner; None where that is not so, or few of all fit."""
        if self._most_cycles is None or self.phase.shortlist is None or fixed:
            return None
        told = self.phase.shortlist(self.costs, self._most_cycles, lambda layer: self._space(layer, fixed), self.phase)
        if told is None or told.n_fitting < FEW_FITTING:
            return None
        self.n_candidates = told.n_candidates
        at = np.arange(len(told.tilings), dtype=np.int64)
        return _Fitting(told.tilings, at, (np.minimum(told.bound_cycles, MAX_CYCLES), told.energy_pj))

    def _all_fitting(self, fixed: Tiling) -> _Fitting:
        """All tilings that fit, those for a part of the array among them where few others do."""
        phase, costs = self.phase, self.costs
        space = self._space(costs.layer, fixed)
        self.n_candidates = len(space)
        fitting = self._screened(space)
        if len(fitting) < FEW_FITTING:
            fitting = _with_smaller_tiles(phase, costs, fixed, fitting, self._screened)
            self.n_candidates += len(fitting.space) - len(space)
        if not len(fitting):
            raise nothing_fits(phase, costs, fitting.space, fixed)
        return fitting

    def _screened(self, space: Sequence[dict[str, int]]) -> _Fitting:
        """What fits of ``space``, with what counting it cannot undercut where that is told faster."""
        phase, costs = self.phase, self.costs
        told = phase.screen(costs, space, self._most_cycles) if phase.screen is not None and len(space) else None
        if told is not None:
            at = np.flatnonzero(told.fits)
            return _Fitting(space, at, (np.minimum(told.bound_cycles[at], MAX_CYCLES), told.energy_pj[at]))
        at = np.array([at for at, tiling in enumerate(space) if fits(phase, costs, tiling)], dtype=np.int64)
        if phase.floor is None:
            return _Fitting(space, at, None)
        floors = [self._floored(space[one]) for one in at.tolist()]
        cycles = np.array([floor.bound_cycles for floor in floors], dtype=np.int64)
        return _Fitting(space, at, (cycles, np.array([floor.dynamic_pj for floor in floors], dtype=np.float64)))

    def _bounds(self, cycles: npt.NDArray[np.int64], dynamic_pj: npt.NDArray[np.float64]) -> tuple[Any, Any]:
        """:meth:`bound` of many at once, a column for each of its parts."""
        return score(self.objective, cycles, dynamic_pj + self.static_pj * cycles)  # type: ignore[arg-type]

    @property
    def n_fitting(self) -> int:
        """How many tilings fit on chip."""
        return len(self._fitting)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every tiling that fits, counted."""
        return [self._counted_of(number) for number in range(len(self._fitting))]

    def _counted_of(self, number: int) -> Candidate:
        """What fits, counted, with the larger of what counting it and what screening it says of its cycles."""
        candidate, least = self._counted(self._fitting.tiling(number)), self._fitting.least
        if least is None or least[0][number] <= candidate.bound_cycles:
            return candidate
        return candidate._replace(bound_cycles=int(least[0][number]))

    def _counted(self, tiling: dict[str, int]) -> Candidate:
        """``tiling`` with its bounds; tilings that differ only in what does not change the work are counted once."""
        kind = tuple(tiling[name] for name in self._names)
        work = self._known.get(kind)
        if work is None:
            work = self._known[kind] = count_phase(self.phase, self.costs, tiling)
        return self._bounded(tiling, work)

    def _floored(self, tiling: dict[str, int]) -> Candidate:
        """``tiling`` with bounds that are told without counting."""
        assert self.phase.floor is not None
        kind = tuple(tiling[name] for name in self._names)
        work = self._floors.get(kind)
        if work is None:
            work = self._floors[kind] = self.phase.floor(self.costs, tiling)
        return self._bounded(tiling, work)

    def _bounded(self, tiling: dict[str, int], work: WorkTotals) -> Candidate:
        rate = self.costs.rate
        needed = -(-work.channel_bytes * rate.denominator // rate.numerator)
        if work.level_bytes:
            needed = max(needed, *(self._port_cycles(*moved) for moved in work.level_bytes))
        moving_cycles = min(needed, MAX_CYCLES)  # no run is longer; beyond it a bound may be too large for energies
        return Candidate(max(work.matrix_cycles, work.vector_cycles, moving_cycles), work.energy_pj, tiling)

    def _port_cycles(self, channel: int, n_bytes: int) -> int:
        if not self._channels:
            self._channels = channels_of(self.costs.machine)
        rate = self._channels[channel].bytes_per_cycle
        return -(-n_bytes * rate.denominator // rate.numerator)

    def bound(self, candidate: Candidate) -> tuple[float, float]:
        """The score below which no run of ``candidate`` can end."""
        return score(self.objective, candidate.bound_cycles, self.least_energy(candidate))

    def least_energy(self, candidate: Candidate) -> float:
        """The energy (pJ) below which no run of ``candidate`` can end."""
        return candidate.dynamic_pj + self.static_pj * candidate.bound_cycles

    def run(
        self,
        *,
        keep_front: bool,
        prune: bool,
        progress: Callable[[int], None] | None,
        to_beat: tuple[float, float] | None = None,
        at_full_pace: bool = False,
    ) -> list[Evaluated]:
        """The best mapping, or (``keep_front``) all that no other beats in both cycles and energy; none where none is
        better than ``to_beat``. ``at_full_pace``: other paces are left for :func:`best_at_pace`.
        """
        found: list[Evaluated] = []
        self._runs = None if keep_front else []

        def best() -> Evaluated | None:
            return min(found, key=self.score) if found and prune and not keep_front else None

        done = 0
        fastest_only = self.objective == "latency" and prune and not keep_front
        for batch in self.batches(best, to_beat, fastest_only=fastest_only):
            if fastest_only:
                known = best()
                limits = [one for one in (to_beat, None if known is None else self.score(known)) if one is not None]
                found += self._fastest(batch, min(limits, default=None))
            else:
                found += self.evaluate(batch)
            done += len(batch)
            if progress is not None:
                progress(done)
        if progress is not None:
            progress(self.n_fitting)
        if self._runs and not at_full_pace:
            limits = [*map(self.score, found), *([to_beat] if to_beat is not None else [])]
            paced = best_at_pace([self], min(limits))
            found += [paced[1]] if paced is not None else []
        if to_beat is not None:
            found = [result for result in found if self.score(result) < to_beat]
        if not found:
            return []
        return pareto(found) if keep_front else [min(found, key=self.score)]

    def keep_runs(self) -> None:
        """Keep the programs that are run from now on, for :meth:`at_best_pace`."""
        self._runs = []

    def at_best_pace(self, best: Evaluated) -> Evaluated:
        """The best of the kept runs at any pace of their ports; ``best`` at full pace."""
        paced = best_at_pace([self], self.score(best))
        return best if paced is None else paced[1]

    def kept_below(self, best: float) -> list[tuple[int, _Run]]:
        """The kept runs whose like at some pace may have a score below ``best``, each with cycles that none of these
        undercuts.
        """
        runs = [run for run in self._runs or () if self.bound(run.candidate)[0] < best]
        most = int(best) if self.objective == "latency" else None
        return list(zip(least_cycles([run.image for run in runs], limit=most).tolist(), runs, strict=True))

    def paced(self, run: _Run, least: int, best: float) -> Evaluated | None:
        """A kept run at the pace at which it is best, where its score is then below ``best``. ``least``: cycles that it
        does not undercut.
        """
        candidate, cycles, image = run
        limit = cycles_below(partial(self._is_below, best, candidate), least, cycles)
        paced = self._pacer.better(candidate.tiling, image, limit) if least < limit else None
        if paced is None:
            return None
        counted = candidate if candidate.is_counted else self._counted(candidate.tiling)
        return self._evaluated(counted._replace(tiling=counted.tiling | paced.pace), paced.cycles)

    def _is_below(self, best: float, candidate: Candidate, cycles: int) -> bool:
        """Whether ``candidate`` in so many cycles has a score below ``best``."""
        return score(self.objective, cycles, candidate.dynamic_pj + self.static_pj * cycles)[0] < best

    @cached_property
    def _pacer(self) -> Pacer:
        return Pacer(self.phase, self.costs)

    def batches(
        self,
        best: Callable[[], Evaluated | None],
        to_beat: tuple[float, float] | None = None,
        *,
        fastest_only: bool = False,
    ) -> Iterator[list[Candidate]]:
        """Candidates in the order of their bounds, until none left can beat ``best()`` (asked before each batch), nor
        ``to_beat``. ``fastest_only``: those whose floors are below these in cycles are not counted.
        """
        queue = self._queue()
        size = FIRST_BATCH
        while True:
            known = best()
            limits = [limit for limit in (to_beat, None if known is None else self.score(known)) if limit is not None]
            batch = self._next(queue, size, min(limits, default=None), fastest_only=fastest_only)
            if not batch:
                return
            yield batch
            size = min(SHORT_BATCH if fastest_only else BATCH, 2 * size)

    def _queue(self) -> _Queue:
        """All that fit, by their bounds, or by what counting them cannot undercut."""
        fitting = self._fitting
        if fitting.least is None:
            counted = [self._counted_of(number) for number in range(len(fitting))]
            heap = [_Queued(self.bound(candidate), at, candidate) for at, candidate in enumerate(counted)]
            heapify(heap)
            return _Queue([], [], heap)
        first, second = self._bounds(*fitting.least)
        order = np.lexsort((second, first))
        bounds = list(zip(first[order].tolist(), second[order].tolist(), strict=True))
        return _Queue(bounds[::-1], order[::-1].tolist(), [])

    def _next(
        self, queue: _Queue, size: int, to_beat: tuple[float, float] | None, *, fastest_only: bool = False
    ) -> list[Candidate]:
        """The next candidates by bound, at most ``size``, all below ``to_beat``; they are counted when it is needed."""
        batch: list[Candidate] = []
        while len(batch) < size:
            counted, waiting = queue.counted, queue.bounds
            if waiting and (not counted or (waiting[-1], queue.at[-1]) < counted[0][:2]):
                floor, at = waiting[-1], queue.at[-1]
                if to_beat is not None and not floor < to_beat:
                    break
                waiting.pop()
                queue.at.pop()
                below = fastest_only and to_beat is not None and floor[0] < to_beat[0]
                candidate = (self._fitting.candidate(at) if below else None) or self._counted_of(at)
                heappush(counted, _Queued(max(floor, self.bound(candidate)), at, candidate))
            elif counted and (to_beat is None or counted[0].bound < to_beat):
                batch.append(heappop(counted).candidate)
            else:
                break
        return batch

    def score(self, result: Evaluated) -> tuple[float, float]:
        """The figure to minimise, and the one that decides between equals."""
        return score(self.objective, result.cycles, result.energy_pj)

    def evaluate(self, batch: Sequence[Candidate]) -> list[Evaluated]:
        """Run the candidates, which were counted, exactly, on all cores."""
        return [self._evaluated(one, cycles) for one, cycles in zip(batch, self._cycles(batch), strict=True)]

    def _fastest(self, batch: Sequence[Candidate], to_beat: tuple[float, float] | None) -> list[Evaluated]:
        """Of the candidates those that take the fewest cycles, none where these are more than those ``to_beat``."""
        cycles = self._cycles(batch, None if to_beat is None else int(to_beat[0]))
        least = min(cycles)
        if to_beat is not None and least > to_beat[0]:
            return []
        fastest = [one for one, its in zip(batch, cycles, strict=True) if its == least]
        return [self._evaluated(one if one.is_counted else self._counted(one.tiling), least) for one in fastest]

    def _evaluated(self, candidate: Candidate, cycles: int) -> Evaluated:
        return Evaluated(cycles, candidate.dynamic_pj + self.static_pj * cycles, candidate.tiling)

    def _cycles(self, batch: Sequence[Candidate], limit: int | None = None) -> list[int]:
        """Of exact runs; of those behind ``limit`` only that they are."""
        images = [self._image(candidate.tiling) for candidate in batch]
        self.n_simulated += len(batch)
        results = []
        for candidate, image, n_cycles in zip(batch, images, run_images(images, limit=limit), strict=True):
            if n_cycles < 0:
                raise AssertionError(f"{self.phase.name} deadlocks with tiling {candidate.tiling}")
            results.append(int(n_cycles))
            if self._runs is not None:
                self._runs.append(_Run(candidate, results[-1], image))
        return results

    def _image(self, tiling: dict[str, int]) -> npt.NDArray[np.int64]:
        """The packed program of a tiling."""
        return image_of(self.phase, self.costs, tiling)


def best_at_pace(searches: Sequence[PhaseSearch], to_beat: tuple[float, float]) -> tuple[int, Evaluated] | None:
    """The best of what ``searches`` ran at another pace of its ports, and which of them ran it; None where none has a
    figure below that of ``to_beat``.
    """
    best, found = to_beat[0], None
    kept = [(least, at, run) for at, search in enumerate(searches) for least, run in search.kept_below(best)]
    for least, at, run in sorted(kept, key=itemgetter(0)):
        paced = searches[at].paced(run, least, best)
        if paced is not None:
            found = at, paced
            best = min(best, searches[at].score(paced)[0])
    return found


def least_parts(machine: MachineSpec) -> int:
    """How often the array is halved for the tiles that are always tried: not at all, where it is always used whole."""
    return _most_parts(machine) if machine.matrix.partial_use else 0


def _most_parts(machine: MachineSpec) -> int:
    """Halvings until neither rows nor columns are more than ``LEAST_GRANULE``."""
    longest = max(machine.matrix.rows, machine.matrix.columns)
    return max(0, (ceil_div(longest, LEAST_GRANULE) - 1).bit_length())


def _with_smaller_tiles(
    phase: Phase,
    costs: TileCosts,
    fixed: Tiling,
    fitting: _Fitting,
    screened: Callable[[Sequence[dict[str, int]]], _Fitting],
) -> _Fitting:
    """Those that fit, with tiles for half the array, a quarter, … until enough fit or none is smaller.

    A larger array must not leave less to choose from: its tiles may be too large for the buffer, those of a smaller
    one are not.
    """
    layer, machine = costs.layer, costs.machine
    if not len(fitting) and none_of_the_smallest_fits(phase, costs, fixed):
        return fitting
    known = {tuple(tiling.values()) for tiling in fitting.space}
    for parts in range(least_parts(machine) + 1, _most_parts(machine) + 1):
        some = tiling_space(phase, layer, machine, fixed, parts=parts)
        new = [tiling for tiling in some if tuple(tiling.values()) not in known]
        known |= {tuple(tiling.values()) for tiling in new}
        fitting = fitting.with_more(screened(new))
        if len(fitting) >= FEW_FITTING:
            break
    return fitting


def none_of_the_smallest_fits(phase: Phase, costs: TileCosts, fixed: Tiling) -> bool:
    """Whether no tiling with the smallest tiles for the smallest part of the array fits, whatever its switches."""
    layer, smallest = costs.layer, _part(costs.machine, _most_parts(costs.machine))

    def values(parameter: Parameter) -> tuple[int, ...]:
        if parameter.name in fixed:
            return (fixed[parameter.name],)
        usual = parameter.candidates(layer, smallest)
        return usual if parameter.smallest == 0 else (min(*usual, parameter.least_value(layer, smallest)),)

    legal = _legal(phase, layer, [values(parameter) for parameter in phase.parameters])
    return bool(legal) and not any(fits(phase, costs, tiling) for tiling in legal)


def _part(machine: MachineSpec, parts: int) -> MachineSpec:
    """``machine`` with the array halved ``parts`` times, no extent below LEAST_GRANULE by that."""

    def halved(extent: int) -> int:
        return max(min(extent, LEAST_GRANULE), extent >> parts)

    unit = machine.matrix
    patch = unit.block is not None and bool(unit.block.kernels)  # whose extents are the unit's own
    rows = unit.rows if patch else halved(unit.rows)
    return replace(machine, matrix=replace(unit, rows=rows, columns=halved(unit.columns)))


def tiling_space(
    phase: Phase, layer: Layer, machine: MachineSpec, fixed: Tiling, *, parts: int = 0
) -> Sequence[dict[str, int]]:
    """The phase's space with some parameters held; a held combination is taken as it is.

    ``parts``: tiles for the array halved up to so many times are in the space, too. Behind these come the finer
    tilings, for little room. They are there however much there is, so that a larger buffer never has a worse best.
    """
    sizes = [machine, *(_part(machine, n) for n in range(1, parts + 1))]

    def values(parameter: Parameter, *, finer: bool) -> tuple[int, ...]:
        if parameter.name in fixed:
            return (fixed[parameter.name],)
        candidates = parameter.finer if finer and parameter.finer else parameter.candidates
        return tuple(dict.fromkeys(value for size in sizes for value in candidates(layer, size)))

    usual = [values(parameter, finer=False) for parameter in phase.parameters]
    has_finer = any(parameter.finer for parameter in phase.parameters if parameter.name not in fixed)
    if phase.distinct_of_all is not None:
        few = [values(parameter, finer=True) for parameter in phase.parameters] if has_finer else None
        found = _distinct_of_all(phase, layer, usual, few)
        if len(found):
            return found
    legal = _legal(phase, layer, usual)
    if has_finer:
        known = {tuple(tiling.values()) for tiling in legal}
        finer = _legal(phase, layer, [values(parameter, finer=True) for parameter in phase.parameters])
        legal += [tiling for tiling in finer if tuple(tiling.values()) not in known]
    if not legal:
        held = ", ".join(f"{p.name}={fixed[p.name]}" for p in phase.parameters if p.name in fixed)
        raise InputError(f"tiling: {held} allows no mapping of the {phase.name} phase of {layer.name}")
    return [tiling for tiling in legal if phase.distinct(layer, tiling)] or legal


def _distinct_of_all(
    phase: Phase, layer: Layer, usual: Sequence[Sequence[int]], finer: Sequence[Sequence[int]] | None
) -> TilingTable:
    """The distinct tilings of all combinations of ``usual`` values, then those of ``finer`` that are not among them."""
    assert phase.distinct_of_all is not None
    names = [parameter.name for parameter in phase.parameters]
    found = []
    for values in (usual, finer) if finer is not None else (usual,):
        grid = np.meshgrid(*(np.array(some, dtype=np.int64) for some in values), indexing="ij")
        columns = {name: column.ravel() for name, column in zip(names, grid, strict=True)}
        wanted = phase.distinct_of_all(layer, columns)
        if values is finer:
            known = [np.isin(columns[name], some) for name, some in zip(names, usual, strict=True)]
            wanted &= ~np.logical_and.reduce(known)
        found.append(np.column_stack([columns[name][wanted] for name in names]))
    return TilingTable(names, np.concatenate(found))


def _legal(phase: Phase, layer: Layer, values: Sequence[Sequence[int]]) -> list[dict[str, int]]:
    names = [parameter.name for parameter in phase.parameters]
    tilings = (dict(zip(names, chosen, strict=True)) for chosen in product(*values))
    return [tiling for tiling in tilings if phase.legal(layer, tiling)]


def nothing_fits(
    phase: Phase, costs: TileCosts, space: Sequence[dict[str, int]], fixed: Tiling
) -> MappingError | InputError:
    """The error of the candidate of ``space`` that needs least, when none fits.

    It says that no tiling needs less where that is so: the tiles of one row, column or key that a user may give, too.
    """
    layer, machine = costs.layer, costs.machine
    smallest = [
        (fixed[p.name],) if p.name in fixed else p.candidates(layer, machine) if p.smallest == 0 else (p.smallest,)
        for p in phase.parameters
    ]
    least = min((_refusal(phase, costs, tiling) for tiling in space), key=lambda error: error.demand)
    needs = [_need(phase, costs, tiling) for tiling in _legal(phase, layer, smallest)]
    by_hand = min(needs, default=least.demand)
    if by_hand > least.limit:  # nor do they fit
        least = MappingError(
            resource=least.resource,
            demand=min(by_hand, least.demand),
            limit=least.limit,
            unit=least.unit,
            levers=least.levers,
        )
        known = "no other value of the free tiles needs less" if fixed else "no tiling of this dataflow needs less"
    else:
        known = f"no tiling that is tried needs less, smaller tiles given by hand do (from {by_hand:,} bytes)"
    if fixed:
        levers = f"{known}; {least.levers}"
    else:
        levers = f"{known}; use a larger buffer, a narrower number format"
        remedy = family_of(layer).remedy
        levers += f", {remedy}" if remedy else ""
    return MappingError(resource=least.resource, demand=least.demand, limit=least.limit, unit=least.unit, levers=levers)


def _refusal(phase: Phase, costs: TileCosts, tiling: Tiling) -> MappingError:
    """Why ``tiling``, which does not fit, does not."""
    try:
        needed_bytes(phase, costs, tiling)
    except MappingError as error:
        return error
    raise AssertionError(f"{tiling} fits")


def _need(phase: Phase, costs: TileCosts, tiling: Tiling) -> int:
    """Bytes that ``tiling`` takes on chip, whether it fits or not."""
    try:
        return needed_bytes(phase, costs, tiling)
    except MappingError as error:
        return error.demand


def static_pj_per_cycle(machine: MachineSpec) -> float:
    """Energy of a cycle in which nothing is done."""
    many = 1_000_000
    return sum(energy_by_component(machine, Counters(), many).values()) / many


def pareto(results: Sequence[Evaluated]) -> list[Evaluated]:
    """Results that no other beats in both cycles and energy."""
    front: list[Evaluated] = []
    for result in sorted(results, key=lambda r: (r.cycles, r.energy_pj)):
        if not front or result.energy_pj < front[-1].energy_pj:
            front.append(result)
    return front
