"""The plan of one memory: which tensors live there, and what each job then costs; proven by CP-SAT.

Costs that are not known are floors. The best plan by floors is found, the costs that it relies on are searched, and so
on until none of them is a floor: then no plan is better. The best plan by exact costs so far is kept all the while, and
what is left when the time is up is the gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.progress import Progress
from tilewright.search.cp_sat import has_answer, new_solver
from tilewright.search.residency.costs import Choice, JobCosts, Pattern, Searched
from tilewright.search.residency.tensors import Resident
from tilewright.sim.jobs import JobLayer

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, IntVar

__all__ = ["Ahead", "Life", "PlannedJob", "Solved", "first_bound", "solve"]

#: Searches mappings of layers, each of the jobs with such costs, so that they are known when they are asked for.
Ahead = Callable[[Sequence[tuple[JobCosts, JobLayer]]], None]

MOST_ROUNDS = 60
NEAR_ENOUGH = 0.2  # of what is left to prove: so near to its bound need a round's plan by floors be
MOST_GAP = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """A job of the network in the plan's terms; ``tensors``: the numbers of its tensors among the residents."""

    costs: JobCosts
    tensors: tuple[int, ...]


class Life(NamedTuple):
    """A tensor that may leave the chip between its ``uses`` (jobs): the numbers of what says that it is there at each
    of them (``on``), and that it stays until the next (``held``); what it costs to write it out and to bring it back.
    """

    uses: tuple[int, ...]
    on: tuple[int, ...]
    held: tuple[int, ...]
    spill: Searched
    fill: Searched

    def spilled_after(self, kept: Sequence[bool]) -> int | None:
        """The use behind which it is written out: the first after which it leaves, if it was made on chip."""
        if not kept[self.on[0]]:
            return None
        return next((i for i, held in enumerate(self.held) if not kept[held]), None)

    def filled_before(self, kept: Sequence[bool]) -> list[int]:
        """The uses before which it is brought back."""
        return [i for i, on in enumerate(self.on) if i and kept[on] and not kept[self.held[i - 1]]]

    def copied(self, kept: Sequence[bool], rooms: Sequence[int]) -> int | None:
        """What its copies cost; None where it cannot be so, or they have no room."""
        if any(kept[held] and not (kept[a] and kept[b]) for held, a, b in self._between()):
            return None
        fills = self.filled_before(kept)
        leaves = [i for i, held in enumerate(self.held) if kept[self.on[i]] and not kept[held]]
        if any(rooms[self.uses[i]] < self.fill.need for i in fills):
            return None
        if any(rooms[self.uses[i]] < self.spill.need for i in leaves):
            return None
        return (self.spilled_after(kept) is not None) * self.spill.cost + len(fills) * self.fill.cost

    def _between(self) -> list[tuple[int, int, int]]:
        return list(zip(self.held, self.on, self.on[1:], strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """``kept``: whether each resident lives on chip; ``patterns``, ``rooms``: of each job; ``bound``: no plan is below.

    ``cost``: what the plan costs exactly; ``without``: with everything in the DRAM; ``heuristic``: of the greedy plan,
    None where that has no room for some job's tiles.
    """

    kept: tuple[bool, ...]
    patterns: tuple[Pattern, ...]
    rooms: tuple[int, ...]
    cost: int
    bound: int
    without: int
    heuristic: int | None
    n_rounds: int


def solve(
    jobs: Sequence[PlannedJob],
    residents: Sequence[Resident],
    capacity: int,
    *,
    seconds: float,
    progress: Progress | None = None,
    to_beat: int | None = None,
    ahead: Ahead | None = None,
    lives: Sequence[Life] = (),
    start: Sequence[bool] | None = None,
) -> Solved | None:
    """The best plan, or the best found in ``seconds`` of processor time with its gap; None where none is below
    ``to_beat``, which is known sooner. ``lives``: of tensors whose residents are parts of them; ``start``: a plan that
    it begins with in place of a greedy one.
    """
    until = time.process_time() + seconds
    evaluated = _evaluator(jobs, residents, capacity, ahead, lives)
    best = evaluated([False] * len(residents))
    assert best is not None
    without, greedy = best.cost, None
    first = _greedy(jobs, residents, capacity) if start is None else start
    if to_beat is None:
        greedy = evaluated(first)
        best = _better(best, greedy)
    bound, n_rounds, gap = 0, 0, MOST_GAP
    while n_rounds < MOST_ROUNDS:
        n_rounds += 1
        if progress is not None:
            progress(n_rounds, MOST_ROUNDS, "which tensors stay on chip")
        model = _Model(jobs, residents, capacity, lives=lives)
        found = model.solved(best.kept, max(0.5, until - time.process_time()), relative_gap=gap)
        if found is None:
            break
        kept, bound_now = found
        bound = max(bound, bound_now)
        if to_beat is not None and bound >= to_beat:
            return None
        if bound >= best.cost:
            break
        if _is_better_known(jobs, kept, to_beat, ahead):
            continue
        before = _n_searches(jobs)
        best = _better(best, evaluated(kept))
        if bound >= best.cost:
            break
        gap = _gap(best.cost, bound, _n_searches(jobs) - before)
        exactly = _Model(jobs, residents, capacity, exact=True, lives=lives)
        known = exactly.solved(best.kept, max(0.5, until - time.process_time()), relative_gap=gap)
        if known is not None:  # what has been searched so far, put together anew
            best = _better(best, evaluated(known[0]))
        if bound >= best.cost or time.process_time() > until:
            break
    if to_beat is not None and best.cost >= to_beat:
        return None
    greedy = greedy or evaluated(first)
    best = _better(best, greedy)
    return Solved(
        kept=best.kept,
        patterns=best.patterns,
        rooms=best.rooms,
        cost=best.cost,
        bound=min(bound, best.cost),
        without=without,
        heuristic=None if greedy is None else greedy.cost,
        n_rounds=n_rounds,
    )


def first_bound(
    jobs: Sequence[PlannedJob],
    residents: Sequence[Resident],
    capacity: int,
    *,
    seconds: float,
    ahead: Ahead | None = None,
) -> int:
    """What no plan is below by all that is known before anything else is searched."""
    if ahead is not None:
        ahead([(job.costs, near) for job in jobs if (near := job.costs.wanted_near()) is not None])
    found = _Model(jobs, residents, capacity).solved([False] * len(residents), seconds)
    return 0 if found is None else found[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    kept: tuple[bool, ...]
    patterns: tuple[Pattern, ...]
    rooms: tuple[int, ...]
    cost: int


def _better(best: _Plan, other: _Plan | None) -> _Plan:
    return other if other is not None and other.cost < best.cost else best


def _rooms(jobs: Sequence[PlannedJob], residents: Sequence[Resident], capacity: int, kept: Sequence[bool]) -> list[int]:
    """What is left of the memory for the tiles of each job."""
    rooms = [capacity] * len(jobs)
    for resident, is_kept in zip(residents, kept, strict=True):
        if is_kept:
            for at in range(resident.first, resident.last + 1):
                rooms[at] -= resident.n_bytes
    return rooms


def _evaluated(
    jobs: Sequence[PlannedJob],
    residents: Sequence[Resident],
    capacity: int,
    kept: Sequence[bool],
    lives: Sequence[Life] = (),
) -> _Plan | None:
    """A plan at its exact costs; None where some job has no room for its tiles. All are searched all the same."""
    rooms = _rooms(jobs, residents, capacity, kept)
    copies = [life.copied(kept, rooms) for life in lives]
    if min(rooms) < 0 or None in copies:
        return None
    patterns = [tuple(kept[number] for number in job.tensors) for job in jobs]
    found = [job.costs.exact(pattern, room) for job, pattern, room in zip(jobs, patterns, rooms, strict=True)]
    costs = [one.cost for one in found if one is not None]
    if len(costs) < len(jobs):
        return None
    return _Plan(
        kept=tuple(kept), patterns=tuple(patterns), rooms=tuple(rooms), cost=sum(costs) + sum(filter(None, copies))
    )


def _is_better_known(
    jobs: Sequence[PlannedJob], kept: Sequence[bool], to_beat: int | None, ahead: Ahead | None
) -> bool:
    """Where there is a cost ``to_beat``, search the jobs of a plan with all the room, which tells what they cost at
    least; whether anything was new. A memory that cannot beat another is left without plans that are made in full.
    """
    if to_beat is None:
        return False
    asked = [(job.costs, tuple(kept[number] for number in job.tensors)) for job in jobs]
    wanted = [(costs, layer) for costs, pattern in asked if (layer := costs.wanted_first(pattern)) is not None]
    if wanted and ahead is not None:
        ahead(wanted)
    for costs, pattern in asked:
        costs.begin(pattern)
    return bool(wanted)


def _gap(cost: int, bound: int, n_searched: int) -> float:
    """How near to its bound the next round's plan by floors need be: more is not proven before its jobs are searched.
    As near as can be where a round was of jobs that all were.
    """
    return min(MOST_GAP, NEAR_ENOUGH * (cost - bound) / cost) if n_searched else 0.0


def _evaluator(
    jobs: Sequence[PlannedJob],
    residents: Sequence[Resident],
    capacity: int,
    ahead: Ahead | None,
    lives: Sequence[Life] = (),
) -> Callable[[Sequence[bool]], _Plan | None]:
    def evaluated(kept: Sequence[bool]) -> _Plan | None:
        if ahead is not None:
            _search_ahead(jobs, residents, capacity, kept, ahead)
        return _evaluated(jobs, residents, capacity, kept, lives)

    return evaluated


def _search_ahead(
    jobs: Sequence[PlannedJob], residents: Sequence[Resident], capacity: int, kept: Sequence[bool], ahead: Ahead
) -> None:
    """Search what :func:`_evaluated` will ask for."""
    rooms = _rooms(jobs, residents, capacity, kept)
    if min(rooms) < 0:
        return
    asked = [
        (job.costs, tuple(kept[number] for number in job.tensors), room) for job, room in zip(jobs, rooms, strict=True)
    ]
    for _ in ("with all the room, or floors", "with the room that there is"):
        wanted = [
            (costs, layer) for costs, pattern, room in asked if (layer := costs.wanted(pattern, room)) is not None
        ]
        if len(wanted) < 2:
            return
        ahead(wanted)
        for costs, pattern, _ in asked:
            costs.begin(pattern)


def _n_searches(jobs: Sequence[PlannedJob]) -> int:
    return sum(job.costs.n_searches for job in jobs)


def _greedy(jobs: Sequence[PlannedJob], residents: Sequence[Resident], capacity: int) -> list[bool]:
    """Tensors by bytes that they save for each byte and job that they live, while half of the memory stays free."""
    kept = [False] * len(residents)

    def worth(number: int) -> float:
        resident = residents[number]
        uses = sum(number in job.tensors for job in jobs)
        return uses / (resident.last - resident.first + 1)

    for number in sorted(range(len(residents)), key=lambda n: (-worth(n), residents[n].n_bytes, n)):
        kept[number] = True
        if min(_rooms(jobs, residents, capacity, kept)) < capacity // 2:
            kept[number] = False
    return kept


class _Model:
    """Choices of all jobs, one each; tensors that live on chip where the choices say so; the room of every job.

    ``exact``: of costs that have been searched alone; the best plan of these.
    """

    def __init__(
        self,
        jobs: Sequence[PlannedJob],
        residents: Sequence[Resident],
        capacity: int,
        *,
        exact: bool = False,
        lives: Sequence[Life] = (),
    ) -> None:
        from ortools.sat.python import cp_model

        self.model: CpModel = cp_model.CpModel()
        self.kept: list[IntVar] = [self.model.new_bool_var(resident.name) for resident in residents]
        costs: list[Any] = []
        in_use: list[Any] = []
        choices_of: dict[int, list[Choice]] = {}
        for at, job in enumerate(jobs):
            key = id(job.costs)
            if key not in choices_of:
                choices_of[key] = [
                    choice
                    for pattern in job.costs.patterns()
                    for choice in job.costs.choices(pattern)
                    if choice.is_exact or not exact
                ]
            alive = [n for n, resident in enumerate(residents) if resident.first <= at <= resident.last]
            held = sum(residents[n].n_bytes * self.kept[n] for n in alive)
            in_use.append(held)
            costs.append(self._job(job, choices_of[key], held, capacity))
        costs += [self._copies(life, in_use, capacity) for life in lives]
        # Among plans of one cost the one that keeps most, for it is the likeliest to be what its floors say.
        self.scale = len(residents) + 1
        self.model.minimize(self.scale * sum(costs) - sum(self.kept))

    def _job(self, job: PlannedJob, choices: list[Choice], held: Any, capacity: int) -> Any:
        """The cost of one job; a job that costs the same in every way only needs its room."""
        least = min(choice.cost for choice in choices)
        picked = [self.model.new_bool_var("") for _ in choices]
        self.model.add_exactly_one(picked)
        for i, number in enumerate(job.tensors):
            self.model.add(
                sum(one for one, choice in zip(picked, choices, strict=True) if choice.pattern[i]) == self.kept[number]
            )
        needs = sum(choice.need * one for one, choice in zip(picked, choices, strict=True))
        self.model.add(held + needs <= capacity)
        more = sum((choice.cost - least) * one for one, choice in zip(picked, choices, strict=True))
        return least + more

    def _copies(self, life: Life, in_use: Sequence[Any], capacity: int) -> Any:
        """What the copies of a tensor cost, which has room for them where it leaves and where it comes back."""
        on, held = ([self.kept[number] for number in numbers] for numbers in (life.on, life.held))
        spill = self.model.new_bool_var("")
        cost = life.spill.cost * spill
        for i, stays in enumerate(held):
            leaves, fill = self.model.new_bool_var(""), self.model.new_bool_var("")
            self.model.add_implication(stays, on[i])
            self.model.add_implication(stays, on[i + 1])
            self.model.add(spill >= on[0] - stays)
            self.model.add(leaves >= on[i] - stays)
            self.model.add(fill >= on[i + 1] - stays)
            self.model.add(in_use[life.uses[i]] + life.spill.need * leaves <= capacity)
            self.model.add(in_use[life.uses[i + 1]] + life.fill.need * fill <= capacity)
            cost += life.fill.cost * fill
        return cost

    def solved(
        self, hint: Sequence[bool], seconds: float, *, relative_gap: float = 0.0
    ) -> tuple[list[bool], int] | None:
        """What lives on chip in the best plan, or one so near to the bound; and that: no plan is below."""
        for variable, value in zip(self.kept, hint, strict=True):
            self.model.add_hint(variable, value)
        solver = new_solver(seed=1, is_linear=True, seconds=seconds, relative_gap=relative_gap)
        if not has_answer(solver, self.model):
            return None
        bound = int(-(-solver.best_objective_bound // self.scale))
        return [bool(solver.value(variable)) for variable in self.kept], bound
