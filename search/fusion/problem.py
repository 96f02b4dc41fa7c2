"""A fusion search as a method sees it: the graph, what groups cost, the plans so far, and the budget."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from tilewright.errors import InputError, unknown
from tilewright.progress import Progress
from tilewright.search.fusion.plan import Plan, singles
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import FusionScheme, GroupCost

if TYPE_CHECKING:
    from tilewright.search.fusion.group_runs import GroupRuns

__all__ = ["OBJECTIVES", "FusionObjective", "FusionProblem", "check_fusion_objective"]

FusionObjective: TypeAlias = Literal["dram", "feature_maps", "latency", "energy"]
OBJECTIVES: tuple[FusionObjective, ...] = get_args(FusionObjective)


def check_fusion_objective(name: str) -> FusionObjective:
    """``name`` as an objective: dram (bytes of feature maps and weights), feature_maps (without weights), latency
    (cycles) or energy (pJ). All add up over groups.
    """
    for objective in OBJECTIVES:
        if name.replace("-", "_") == objective:
            return objective
    raise unknown("objective", name, OBJECTIVES)


@dataclass(slots=True, kw_only=True)
class FusionProblem:
    """What is searched, and what is known so far.

    Values are in the unit of the objective (bytes, cycles, pJ); ``runs`` gives cycles and energy where it needs them.
    ``edges`` are those between nodes that can be in larger groups. ``budget`` is the most plans that may be proposed.
    ``random`` is the only source of chance. ``best`` and ``best_value`` are the best plan so far, ``curve`` holds
    (plans proposed, best value) wherever it improved. ``lower_bound`` is proven, None where nothing is. ``n_split``
    counts groups that were split because they did not fit.
    """

    graph: FusionGraph
    scheme: FusionScheme
    capacity_bytes: int
    objective: FusionObjective
    budget: int
    seed: int
    runs: GroupRuns | None = None
    progress: Progress | None = None
    random: random.Random = field(init=False)
    edges: tuple[tuple[int, int], ...] = field(init=False)
    fusable: int = field(init=False)
    best: Plan = field(init=False)
    best_value: int = field(init=False)
    n_plans: int = 0
    lower_bound: int | None = None
    n_groups_listed: int | None = None
    n_split: int = 0
    curve: list[tuple[int, int]] = field(default_factory=list)
    _proposed: set[frozenset[int]] = field(default_factory=set)
    _values: dict[int, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.fusable = self.scheme.fusable_mask(self.graph)
        pairs = ((edge.producer, edge.consumer) for edge in self.graph.edges if edge.producer >= 0)
        self.edges = tuple(dict.fromkeys(e for e in pairs if self.fusable >> e[0] & self.fusable >> e[1] & 1))
        self.best = singles(self.graph)
        self.best_value = self.plan_value(self.best)

    def cost(self, mask: int) -> GroupCost:
        """What the group needs and moves."""
        return self.scheme.cost(self.graph, mask)

    def value(self, mask: int) -> int | None:
        """The objective of one group; None when it cannot run on the machine.

        A group of one node always can (how, is the scheme's to say).
        """
        known = self._values
        if mask not in known:
            known[mask] = self._value(mask)
        return known[mask]

    def _value(self, mask: int) -> int | None:
        is_single = mask & (mask - 1) == 0
        if not is_single and (mask & ~self.fusable or self.floor_bytes(mask) > self.capacity_bytes):
            return None
        cost = self.cost(mask)
        if not is_single and not cost.valid(self.capacity_bytes):
            return None
        if self.runs is not None:
            run = self.runs.run(mask)
            return None if run is None else run.cycles if self.objective == "latency" else run.energy_pj
        return cost.dram_bytes if self.objective == "dram" else cost.feature_map_bytes

    def floor_bytes(self, mask: int) -> int:
        """What the group, and every larger one around it, needs at least."""
        return self.scheme.least_bytes(self.graph, mask)

    def fits(self, mask: int) -> bool:
        """Whether the group can run on the machine."""
        return self.value(mask) is not None

    def plan_value(self, plan: Plan) -> int:
        """The objective of a plan of groups that all fit; raises InputError for one that does not."""
        return sum(map(self.group_value, plan))

    def group_value(self, mask: int) -> int:
        """The objective of a group that fits; raises InputError for one that does not."""
        value = self.value(mask)
        if value is None:
            raise InputError(f"{self.graph.name}: the group {', '.join(self.graph.names(mask))} does not fit")
        return value

    # --- proposing plans ----------------------------------------------------------------------------------------------

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent."""
        return self.n_plans >= self.budget

    def was_proposed(self, plan: Plan) -> bool:
        """Whether a plan of the same groups was proposed before."""
        return frozenset(plan) in self._proposed

    def propose(self, plan: Plan) -> int:
        """Count the plan, keep it if it is the best so far, and give its objective."""
        value = self.plan_value(plan)
        self._proposed.add(frozenset(plan))
        self.n_plans += 1
        if not self.curve or value < self.best_value:
            if value <= self.best_value:
                self.best, self.best_value = plan, value
            self.curve.append((self.n_plans, self.best_value))
        if self.progress is not None and self.n_plans % 50 == 0:
            self.progress(self.n_plans, self.budget, "plans")
        return value
