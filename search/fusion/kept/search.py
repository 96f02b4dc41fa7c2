"""The search: which groups run together and which tensors stay on chip, with what no plan is below.

First the cheapest partition where each group has on chip what makes it fastest (:mod:`costs` says what that is),
whatever room that takes: its groups are run until none of its costs is a floor, and no plan is below it. Then the best
of what stays for that partition and for the jobs of the network one by one. What is left between the two is searched
over all groups that could be part of something better.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from tilewright.progress import Progress
from tilewright.search.fusion.kept.costs import NEVER, PlanCosts, Way
from tilewright.search.fusion.kept.model import chosen_groups
from tilewright.search.fusion.kept.tensors import Pattern
from tilewright.search.fusion.kept.ways import Steps
from tilewright.search.fusion.plan import Plan

__all__ = ["Best", "GroupSearch", "lives_of", "rooms_of"]

MOST_ROUNDS = 200
LIKELIEST = 200  # groups that are tried together before all of them are
MOST_CHOICES = 60_000  # of the model over all groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """A plan at its exact costs: groups in order, what of each is on chip, the way of each, the room that it had."""

    plan: Plan
    patterns: tuple[Pattern, ...]
    ways: tuple[Way, ...]
    rooms: tuple[int, ...]

    @property
    def cost(self) -> int:
        return sum(way.cost for way in self.ways)


@dataclass(slots=True, kw_only=True)
class GroupSearch:
    """The search over the groups of ``costs`` that ``groups`` lists, in a memory of ``capacity`` bytes.

    ``bound``: no plan is below. ``best``: the best plan so far; ``alone``: that of the jobs one by one, ``without``:
    with everything in the DRAM. ``until``: of the processor time, when the search ends.
    """

    costs: PlanCosts
    groups: Sequence[int]
    capacity: int
    until: float
    progress: Progress | None = None
    bound: int = 0
    best: Best | None = None
    alone: Best | None = None
    without: Best | None = None
    n_rounds: int = 0

    def run(self) -> None:
        """Search until the best plan meets the bound, or time is up."""
        steps = Steps(self.costs.graph, dict.fromkeys(self.groups, 0))
        jobs = {mask: self.costs.floor(mask) for mask in self.costs.jobs.jobs}
        one_by_one = Steps(self.costs.graph, jobs).best(jobs)
        self.without = self._evaluated(one_by_one, {mask: Pattern(frozenset(), False) for mask in one_by_one})
        self._keep(self.without)
        self.alone = self._settle(one_by_one, 0.1)
        late = time.process_time() + 0.8 * (self.until - time.process_time())
        while True:
            nearest = self._nearest(steps)
            self._settle(nearest, 0.6)
            binds = self.best is None or self.best.cost > sum(map(self.costs.floor, nearest))
            if self.is_proven or binds or time.process_time() > late:  # else more can only come of other groups
                break
        if not self.is_proven:
            self._settle_all(steps)

    @property
    def is_proven(self) -> bool:
        """Whether the best plan meets the bound."""
        return self.best is not None and self.best.cost <= self.bound

    # -- each group at its fastest -------------------------------------------------------------------------------------

    def _nearest(self, steps: Steps) -> Plan:
        """The cheapest partition with what makes each group fastest on chip, as far as a third of the time allows; sets
        the bound.

        Groups that have not been run are taken for as much dearer than their floors as others were, so that good plans
        are found early; then for half as much, and at last for their floors, so that the bound is proven.
        """
        floors = {mask: self.costs.floor(mask) for mask in self.groups}
        third = time.process_time() + (self.until - time.process_time()) / 3
        best: Plan = ()
        for share in (1.0, 0.5, 0.0):
            plan = self._cheapest(steps, floors, share, third)
            self.bound = max(self.bound, sum(floors[mask] for mask in steps.best(floors)))
            if plan and (not best or sum(map(floors.__getitem__, plan)) < sum(map(floors.__getitem__, best))):
                best = plan
        if not best:
            known = {m: cost for m, cost in floors.items() if m in self.costs.jobs.jobs or self.costs.is_known(m)}
            best = steps.best(known)
        return best

    def _cheapest(self, steps: Steps, floors: dict[int, int], share: float, until: float) -> Plan:
        """The cheapest plan, of groups that have been run; () where time is up. ``share``: see :meth:`_nearest`."""
        known = self.costs.is_known
        while time.process_time() < until:
            over = 1 + share * self._usual_excess()
            plan = steps.best({mask: cost if known(mask) else ceil(cost * over) for mask, cost in floors.items()})
            new = [mask for mask in plan if not known(mask)]
            self._tell("groups at their fastest")
            if not new:
                return plan
            for mask in new:
                self.costs.search_nearest(mask)
                floors[mask] = self.costs.floor(mask)
        return ()

    def _usual_excess(self) -> float:
        """The share by which three in four groups that were run are at least above the work of their units."""
        ran = [mask for mask in self.groups if mask & (mask - 1) and self.costs.is_known(mask)]
        shares = sorted(self.costs.floor(mask) / max(1, self.costs.work(mask)) - 1 for mask in ran)
        return max(0.0, shares[len(shares) // 4]) if shares else 0.05

    # -- what stays ----------------------------------------------------------------------------------------------------

    def _settle(self, masks: Plan, share: float) -> Best | None:
        """The best of what stays for a partition that is found in a ``share`` of the time that is left."""
        for mask in masks:
            if not self.costs.is_known(mask):
                self.costs.search_nearest(mask)
        own = self._evaluated(masks, {mask: self.costs.tensors.nearest(mask) for mask in masks})
        self._keep(own)
        if own is not None and own.cost <= sum(map(self.costs.floor, masks)):
            return own
        until = time.process_time() + share * (self.until - time.process_time())
        while time.process_time() < until:
            found = self._round(masks, own, until)
            if found is None:
                break
            plan, bound, is_news = found
            own = _better(own, plan)
            own = _better(own, self._of_known(masks, own, until))
            self._keep(own)
            if (own is not None and own.cost <= bound) or not is_news:
                break
        return own

    def _settle_all(self, steps: Steps) -> None:
        """The best over all groups that may be part of something better than what is known: the likeliest, then all."""
        most: int | None = LIKELIEST
        for _ in range(MOST_ROUNDS):
            if self.is_proven or time.process_time() > self.until:
                return
            floors = {mask: self.costs.floor(mask) for mask in self.groups}
            known = NEVER if self.best is None else self.best.cost
            least = {mask: cost for mask, cost in steps.with_each(floors).items() if cost < known}
            masks = sorted(least, key=lambda mask: (least[mask], mask))
            most = None if most is not None and most >= len(masks) else most
            own = () if self.best is None else self.best.plan
            half = time.process_time() + 0.5 * (self.until - time.process_time())
            found = self._round(tuple(dict.fromkeys((*masks[:most], *own))), self.best, half)
            is_news = found is not None and found[2]
            self._keep(self._of_known(masks[: most or LIKELIEST], self.best, self.until))
            if found is not None:
                self._keep(found[0])
                if most is None:
                    self.bound = max(self.bound, min(found[1], known))
            if not is_news:
                if most is None:
                    return
                most = None

    def _round(self, masks: Sequence[int], hint: Best | None, until: float) -> tuple[Best | None, int, bool] | None:
        """The plan that the model finds at its exact costs, the model's bound, and whether any cost is new."""
        self.n_rounds += 1
        self._tell("groups and what stays on chip")
        ways = self._ways(masks)
        if sum(len(of) for by in ways.values() for of in by.values()) > MOST_CHOICES:
            return None
        hinted: Mapping[int, Pattern] = {} if hint is None else dict(zip(hint.plan, hint.patterns, strict=True))
        left = max(0.5, until - time.process_time())
        chosen = chosen_groups(self.costs.graph, self.costs.tensors, ways, self.capacity, hint=hinted, seconds=left)
        if chosen is None:
            return None
        before = self._n_known
        for mask in chosen.plan:
            if not self.costs.is_known(mask):
                self.costs.search_nearest(mask)
        plan = self._evaluated(chosen.plan, chosen.patterns)
        return plan, chosen.bound, self._n_known > before

    def _of_known(self, masks: Sequence[int], hint: Best | None, until: float) -> Best | None:
        """The best plan of groups whose costs are known exactly, those of the best plan among them."""
        own = () if self.best is None else self.best.plan
        exact = self._ways(tuple(dict.fromkeys((*masks, *own))), exact=True)
        hinted: Mapping[int, Pattern] = {} if hint is None else dict(zip(hint.plan, hint.patterns, strict=True))
        left = max(0.5, until - time.process_time())
        tensors = self.costs.tensors
        found = chosen_groups(self.costs.graph, tensors, exact, self.capacity, hint=hinted, seconds=left)
        if found is None:
            return None
        rooms = rooms_of(self.costs, found.plan, found.patterns, self.capacity)
        ways = tuple(found.ways[mask] for mask in found.plan)
        if any(room < way.need for room, way in zip(rooms, ways, strict=True)):
            return None
        patterns = tuple(found.patterns[mask] for mask in found.plan)
        return Best(plan=found.plan, patterns=patterns, ways=ways, rooms=tuple(rooms))

    @property
    def _n_known(self) -> int:
        return self.costs.n_runs + self.costs.jobs.n_searches

    def _ways(self, masks: Sequence[int], *, exact: bool = False) -> dict[int, dict[Pattern, list[Way]]]:
        found: dict[int, dict[Pattern, list[Way]]] = {}
        for mask in masks:
            patterns = self.costs.tensors.patterns(mask)
            found[mask] = {
                pattern: [way for way in self.costs.ways(mask, pattern, exact=exact) if way.cost < NEVER]
                for pattern in patterns
            }
        return found

    # -- exact costs ---------------------------------------------------------------------------------------------------

    def _evaluated(self, plan: Plan, patterns: Mapping[int, Pattern]) -> Best | None:
        """A plan at its exact costs; None where some group has no room. All are asked for all the same."""
        rooms = rooms_of(self.costs, plan, patterns, self.capacity)
        ways = [
            self.costs.exact(mask, patterns[mask], room) if room >= 0 else None
            for mask, room in zip(plan, rooms, strict=True)
        ]
        found = tuple(way for way in ways if way is not None)
        if len(found) < len(plan):
            return None
        return Best(plan=plan, patterns=tuple(patterns[mask] for mask in plan), ways=found, rooms=tuple(rooms))

    def _keep(self, plan: Best | None) -> None:
        if plan is not None and (self.best is None or plan.cost < self.best.cost):
            self.best = plan

    def _tell(self, what: str) -> None:
        if self.progress is not None:
            self.progress(self.n_rounds % MOST_ROUNDS, MOST_ROUNDS, what)


def _better(one: Best | None, other: Best | None) -> Best | None:
    if one is None or other is None:
        return one or other
    return other if other.cost < one.cost else one


def lives_of(costs: PlanCosts, plan: Plan, patterns: Mapping[int, Pattern]) -> dict[int, tuple[int, int]]:
    """The first and the last group of a plan between which each map that is on chip is there."""
    kept = {number for pattern in patterns.values() for number in pattern.maps}
    found = {}
    for number in sorted(kept):
        users = costs.tensors.maps[number].users
        at = [place for place, mask in enumerate(plan) if mask & users]
        found[number] = (at[0], at[-1])
    return found


def rooms_of(costs: PlanCosts, plan: Plan, patterns: Mapping[int, Pattern], capacity: int) -> list[int]:
    """What is left of the memory for each group of a plan besides what is kept."""
    weights = sum(costs.tensors.of(mask).weight_bytes for mask in plan if patterns[mask].weights)
    rooms = [capacity - weights] * len(plan)
    for number, (first, last) in lives_of(costs, plan, patterns).items():
        for at in range(first, last + 1):
            rooms[at] -= costs.tensors.maps[number].n_bytes
    return rooms
