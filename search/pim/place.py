"""Which operator runs where, with proof.

Where the host waits while the banks compute, operators run one after the other: the best assignment is a shortest path
through two states, host and banks, with the price of handing the memory over on the way (dynamic programming, exact).
Where the host has memory of its own, operators that do not need each other may run at once: the stream is cut at the
operators that all before lead to and all behind wait for, and each piece is an optimal schedule on two machines, found
and proven by CP-SAT. All times are whole picoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Costs", "Placement", "best_overlapping", "best_sequence"]

#: Of each operator, picoseconds on the host and in the banks (None: they cannot do it).
Costs = Sequence[tuple[int, int | None]]
_SECONDS_A_PIECE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """``in_banks`` of each operator, and ``picoseconds`` of all; ``least``: what no assignment beats."""

    in_banks: tuple[bool, ...]
    picoseconds: int
    least: int

    @property
    def is_proven(self) -> bool:
        """Whether nothing can be better."""
        return self.picoseconds == self.least


def best_sequence(costs: Costs, switch: int) -> Placement:
    """The fastest assignment of operators that run one after the other; ``switch``: picoseconds of each hand-over.

    The memory is the host's before the first operator and after the last.
    """
    best: dict[bool, tuple[int, tuple[bool, ...]]] = {False: (0, ())}
    for host, banks in costs:
        reached: dict[bool, tuple[int, tuple[bool, ...]]] = {}
        for place, price in ((False, host), (True, banks)):
            if price is None:
                continue
            ways = [
                (so_far + price + (switch if place != before else 0), before) for before, (so_far, _) in best.items()
            ]
            so_far, before = min(ways)
            reached[place] = (so_far, (*best[before][1], place))
        best = reached
    total, places = min((so_far + (switch if place else 0), places) for place, (so_far, places) in best.items())
    return Placement(in_banks=places, picoseconds=total, least=total)


def best_overlapping(costs: Costs, before: Sequence[Sequence[int]]) -> Placement:
    """The fastest schedule where host and banks work at once; ``before``: of each operator, those that it waits for."""
    pieces = _pieces(before)
    solved: dict[tuple[object, ...], Placement] = {}
    in_banks: list[bool] = []
    total = least = 0
    for first, end in pieces:
        own = tuple(costs[at] for at in range(first, end))
        needs = tuple(tuple(one - first for one in before[at] if one >= first) for at in range(first, end))
        if (own, needs) not in solved:
            solved[own, needs] = _schedule(own, needs)
        found = solved[own, needs]
        in_banks += found.in_banks
        total, least = total + found.picoseconds, least + found.least
    return Placement(in_banks=tuple(in_banks), picoseconds=total, least=least)


def _pieces(before: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Stretches of operators that end where everything so far is over before anything else begins."""
    n = len(before)
    ancestors = [0] * n
    for at, needs in enumerate(before):
        for one in needs:
            ancestors[at] |= ancestors[one] | 1 << one
    pieces, first = [], 0
    for at in range(n):
        is_last_of_all_before = ancestors[at] == (1 << at) - 1
        is_waited_for = all(ancestors[later] >> at & 1 for later in range(at + 1, n))
        if is_last_of_all_before and is_waited_for:
            if at > first:
                pieces.append((first, at))
            pieces.append((at, at + 1))
            first = at + 1
    if first < n:
        pieces.append((first, n))
    return pieces


def _schedule(costs: Costs, before: Sequence[Sequence[int]]) -> Placement:
    """Two machines, each operator on one of them: the shortest makespan."""
    if len(costs) == 1:
        ((host, banks),) = costs
        is_better = banks is not None and banks < host
        fastest = banks if banks is not None and is_better else host
        return Placement(in_banks=(is_better,), picoseconds=fastest, least=fastest)
    from ortools.sat.python import cp_model

    from tilewright.search.cp_sat import has_answer, new_solver

    model = cp_model.CpModel()
    horizon = sum(host for host, _ in costs)
    ends: list[cp_model.IntVar] = []
    places: list[cp_model.IntVar] = []
    on_host, in_banks = [], []
    for at, (host, banks) in enumerate(costs):
        place = model.new_bool_var(f"banks{at}")
        start = model.new_int_var(0, horizon, f"start{at}")
        end = model.new_int_var(0, horizon, f"end{at}")
        on_host.append(model.new_optional_interval_var(start, host, end, place.negated(), f"host{at}"))
        if banks is None:
            model.add(place == 0)
        else:
            in_banks.append(model.new_optional_interval_var(start, banks, end, place, f"bank{at}"))
        for one in before[at]:
            model.add(start >= ends[one])
        ends.append(end)
        places.append(place)
    model.add_no_overlap(on_host)
    model.add_no_overlap(in_banks)
    makespan = model.new_int_var(0, horizon, "makespan")
    model.add_max_equality(makespan, ends)
    model.minimize(makespan)
    solver = new_solver(deterministic_seconds=_SECONDS_A_PIECE)
    assert has_answer(solver, model)
    return Placement(
        in_banks=tuple(bool(solver.value(place)) for place in places),
        picoseconds=int(solver.objective_value),
        least=round(solver.best_objective_bound),
    )
