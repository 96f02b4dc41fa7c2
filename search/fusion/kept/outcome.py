"""What a search for groups and what stays on chip between them reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tilewright.sim.residency_plan import PlacedTensor

__all__ = ["KeptGroup", "KeptOutcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGroup:
    """A group of a plan: its operators, and how it is run (``fused``, or ``alone`` at its best mapping as a layer).

    ``cost``: cycles, or picojoules. ``tile_bytes``: room that it takes while it runs besides what is kept, at
    ``tile_address``.
    ``maps``: what it reads or leaves on chip; ``weight_bytes``: of its weights that stay, 0 where they do not.
    """

    operators: tuple[str, ...]
    how: str
    cost: int
    tile_bytes: int
    tile_address: int
    maps: tuple[str, ...]
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOutcome:
    """The best plan that was found: groups in an order in which they can run, tensors with addresses in ``memory``.

    ``bound``: no plan of such groups, with whatever on chip, is below; ``alone``: the best plan found (not proven) of
    the network's jobs, one after the other, ``without`` that with everything in the DRAM. ``first_cycles`` and
    ``first_energy_pj``: of bringing the weights that stay, before the first inference; all
    other figures are those of one behind it.
    ``peak_bytes``: the most that is in use at a time; ``top_address``: the end of the highest block. Lives (``first``,
    ``last``) are numbers of groups. ``seconds`` is wall-clock time and takes no part in comparisons.
    """

    network: str
    machine: str
    scheme: str
    objective: str
    memory: str
    capacity_bytes: int
    groups: tuple[KeptGroup, ...]
    tensors: tuple[PlacedTensor, ...]
    bound: int
    alone: int | None
    without: int | None
    peak_bytes: int
    top_address: int
    first_cycles: int
    first_energy_pj: float
    n_groups_listed: int
    n_runs: int
    n_searches: int
    assumptions: tuple[str, ...]
    seconds: float = field(default=0.0, compare=False)

    @property
    def cost(self) -> int:
        """Cycles (or picojoules) of the plan, each group run by itself."""
        return sum(group.cost for group in self.groups)

    @property
    def proven(self) -> bool:
        """Whether no plan of such groups is better."""
        return self.cost <= self.bound

    @property
    def gap(self) -> float:
        """By how much of its cost the plan may at most miss the best one."""
        return max(0.0, 1 - self.bound / max(1, self.cost))

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that stay on chip between inferences."""
        return sum(tensor.n_bytes for tensor in self.tensors if tensor.is_weight)

    @property
    def fused_groups(self) -> tuple[KeptGroup, ...]:
        """The groups that run fused and have several operators."""
        return tuple(group for group in self.groups if group.how == "fused" and len(group.operators) > 1)

    def group_rows(self) -> list[dict[str, Any]]:
        """A row per group, in the order in which they run."""
        name = "energy_pj" if self.objective == "energy" else "cycles"
        return [
            {
                "group": at,
                "how": group.how,
                "n_operators": len(group.operators),
                "first": group.operators[0],
                "last": group.operators[-1],
                name: group.cost,
                "tile_bytes": group.tile_bytes,
                "tile_address": group.tile_address,
                "kept_weight_bytes": group.weight_bytes,
                "kept_maps": " ".join(group.maps),
                "operators": " ".join(group.operators),
            }
            for at, group in enumerate(self.groups, start=1)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "network": self.network,
            "machine": self.machine,
            "scheme": self.scheme,
            "objective": self.objective,
            "memory": self.memory,
            "capacity_bytes": self.capacity_bytes,
            "cost": self.cost,
            "bound": self.bound,
            "proven": self.proven,
            "gap": self.gap,
            "alone": self.alone,
            "without": self.without,
            "weight_bytes": self.weight_bytes,
            "peak_bytes": self.peak_bytes,
            "top_address": self.top_address,
            "first_cycles": self.first_cycles,
            "first_energy_pj": self.first_energy_pj,
            "groups_listed": self.n_groups_listed,
            "runs": self.n_runs,
            "searches": self.n_searches,
            "groups": self.group_rows(),
            "tensors": [
                {
                    "name": one.name,
                    "bytes": one.n_bytes,
                    "address": one.address,
                    "first": one.first,
                    "last": one.last,
                    "is_weight": one.is_weight,
                }
                for one in self.tensors
            ],
            "assumptions": list(self.assumptions),
        }
