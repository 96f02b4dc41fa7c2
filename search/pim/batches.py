"""At which batch the banks stop paying: plans at growing batches, and the turn between two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.search.pim.plan import PimPlan

__all__ = ["BatchPlans", "plans_by_batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlans:
    """Plans by batch.

    ``last_paying``: the largest batch looked at where a product with weights runs in the banks; ``first_not_paying``:
    the one behind it, where none does (None: there is no such pair among those looked at).
    """

    plans: dict[int, PimPlan]
    last_paying: int | None
    first_not_paying: int | None

    def rows(self) -> list[dict[str, Any]]:
        """A row a batch."""
        return [
            {
                "batch": batch,
                "host_seconds": plan.host_seconds,
                "seconds": plan.seconds,
                "speedup": plan.speedup,
                "products_in_banks": plan.n_in_banks("gemm")[0],
                "products": plan.n_in_banks("gemm")[1],
                "attention_in_banks": plan.n_in_banks("attention")[0],
                "attention": plan.n_in_banks("attention")[1],
                "per_second": batch / plan.seconds,
                "energy_pj": plan.energy_pj,
                "host_energy_pj": plan.host.energy_pj,
                "proven": plan.is_proven,
            }
            for batch, plan in sorted(self.plans.items())
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "last_batch_where_products_pay": self.last_paying,
            "first_batch_where_none_pays": self.first_not_paying,
            "batches": self.rows(),
            "plans": {str(batch): plan.to_dict() for batch, plan in sorted(self.plans.items())},
        }


def plans_by_batch(plan: Callable[[int], PimPlan], batches: Sequence[int]) -> BatchPlans:
    """Plans at ``batches``, and at those between the last that pays and the next that does not, by halves."""
    plans = {batch: plan(batch) for batch in sorted(set(batches))}
    while True:
        paying = [batch for batch, one in plans.items() if one.products_pay]
        low = max(paying, default=None)
        high = min((batch for batch in plans if low is not None and batch > low), default=None)
        if low is None or high is None or high == low + 1:
            return BatchPlans(plans=plans, last_paying=low, first_not_paying=high)
        middle = (low + high) // 2
        plans[middle] = plan(middle)
