"""What a search for fusion groups reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilewright.presented import Shown
from tilewright.search.fusion.plan import Plan
from tilewright.search.fusion.problem import FusionObjective
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import FusionScheme, GroupCost

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FusionOutcome"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FusionOutcome(Shown):
    """The best partition that a method found, and how far it may be from the optimum.

    ``plan`` holds the groups in an order in which they can run, ``costs`` what each needs and moves, ``values`` the
    objective of each in its unit (bytes, cycles or pJ); ``unfused`` and ``unfused_values`` are those of every node
    alone. ``lower_bound`` is proven for every plan, None where the method proves nothing. ``curve`` is the best
    objective so far: (plans proposed, value). ``n_groups_listed``: the groups that fit, where the method lists them
    all. ``n_split``: groups that did not fit and were split; ``model_accuracy`` and ``model_f1``: of the model that
    explained them, on groups kept back from its training. ``seconds`` is wall-clock time. Graph, scheme and seconds
    take no part in comparisons.
    """

    network: str
    scheme: FusionScheme = field(compare=False)
    method: str
    objective: FusionObjective
    seed: int
    budget: int
    capacity_bytes: int
    graph: FusionGraph = field(compare=False)
    plan: Plan
    costs: tuple[GroupCost, ...]
    values: tuple[int, ...]
    unfused: tuple[GroupCost, ...]
    unfused_values: tuple[int, ...]
    fusable: int
    n_plans: int
    lower_bound: int | None
    curve: tuple[tuple[int, int], ...]
    n_groups_listed: int | None = None
    n_split: int = 0
    machine: str = ""
    model_accuracy: float | None = None
    model_f1: float | None = None
    seconds: float = field(default=0.0, compare=False)

    @property
    def value_name(self) -> str:
        """The name of the objective with its unit."""
        return {"latency": "cycles", "energy": "energy_pj"}.get(self.objective, f"{self.objective}_bytes")

    @property
    def value(self) -> int:
        """The objective of the plan."""
        return sum(self.values)

    @property
    def unfused_value(self) -> int:
        """The objective of every operator alone."""
        return sum(self.unfused_values)

    @property
    def dram_bytes(self) -> int:
        """The DRAM traffic of the plan, weights included, whatever the objective."""
        return sum(cost.dram_bytes for cost in self.costs)

    @property
    def unfused_dram_bytes(self) -> int:
        """The DRAM traffic of every operator alone."""
        return sum(cost.dram_bytes for cost in self.unfused)

    @property
    def fusable_value(self) -> int:
        """The part of the objective that belongs to operators which can be fused at all."""
        return sum(value for mask, value in zip(self.plan, self.values, strict=True) if mask & self.fusable)

    @property
    def saved(self) -> float:
        """The part of the unfused objective that fusion saves."""
        return 1 - self.value / self.unfused_value if self.unfused_value else 0.0

    @property
    def proven(self) -> bool:
        """Whether the plan is the optimum of its space."""
        return self.lower_bound is not None and self.value <= self.lower_bound

    @property
    def gap(self) -> float | None:
        """How far the plan may at most be above the optimum, as a part of the bound; None without a bound."""
        if self.proven:
            return 0.0
        return self.value / self.lower_bound - 1 if self.lower_bound else None

    @property
    def fused_groups(self) -> Plan:
        """The groups of more than one node."""
        return tuple(mask for mask in self.plan if mask & (mask - 1))

    @property
    def peak_buffer_bytes(self) -> int:
        """The most that a group of more than one node needs on chip; 0 without such a group."""
        needs = (cost.buffer_bytes for mask, cost in zip(self.plan, self.costs, strict=True) if mask & (mask - 1))
        return max(needs, default=0)

    def group_rows(self) -> list[dict[str, Any]]:
        """A row per group, in the order in which they run.

        ``n_nodes``: what was fused; ``n_operators`` also counts operators that are part of the one they follow.
        """
        alone = {node.bit: cost for node, cost in zip(self.graph.nodes, self.unfused, strict=True)}
        rows = []
        whole = zip(self.plan, self.costs, self.values, strict=True)
        for at, (mask, cost, value) in enumerate(whole, start=1):
            nodes = [node for node in self.graph.nodes if mask & node.bit]
            unfused = sum(alone[node.bit].dram_bytes for node in nodes)
            rows.append(
                {
                    "group": at,
                    "n_nodes": len(nodes),
                    "n_operators": sum(len(node.operators) for node in nodes),
                    "first": nodes[0].name,
                    "last": nodes[-1].name,
                    "buffer_bytes": cost.buffer_bytes,
                    "dram_read_bytes": cost.dram_read_bytes,
                    "dram_write_bytes": cost.dram_write_bytes,
                    "weight_bytes": cost.weight_bytes,
                    "dram_bytes": cost.dram_bytes,
                    "unfused_dram_bytes": unfused,
                    self.value_name: value,
                    "operators": " ".join(name for node in nodes for name in node.operators),
                }
            )
        return rows

    def to_row(self) -> dict[str, Any]:
        """Flat data of the whole search."""
        return {
            "network": self.network,
            "machine": self.machine,
            "scheme": self.scheme.name,
            "capacity_bytes": self.capacity_bytes,
            "method": self.method,
            "objective": self.objective,
            "seed": self.seed,
            "budget": self.budget,
            "n_plans": self.n_plans,
            "n_operators": len(self.graph),
            "n_groups": len(self.plan),
            "n_fused_groups": len(self.fused_groups),
            "unit": {"latency": "cycles", "energy": "pJ"}.get(self.objective, "bytes"),
            "value": self.value,
            "fusable_value": self.fusable_value,
            "unfused_value": self.unfused_value,
            "saved": self.saved,
            "lower_bound": self.lower_bound,
            "total_dram_bytes": self.dram_bytes,
            "unfused_dram_bytes": self.unfused_dram_bytes,
            "gap": self.gap,
            "proven": self.proven,
            "peak_buffer_bytes": self.peak_buffer_bytes,
            "n_groups_listed": self.n_groups_listed,
            "n_split": self.n_split,
            "model_accuracy": self.model_accuracy,
            "model_f1": self.model_f1,
            "seconds": self.seconds,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON writes it."""
        return {
            **self.to_row(),
            "assumptions": list(self.scheme.assumptions),
            "source": self.scheme.source,
            "curve": [list(point) for point in self.curve],
            "groups": self.group_rows(),
        }

    def to_frame(self) -> pd.DataFrame:
        """A row per group (columns as in :meth:`group_rows`)."""
        import pandas as pd

        return pd.DataFrame(self.group_rows())
