"""What stays on chip over a network, as rectangles of time and addresses for a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tilewright.reports.network_table import residency_rows
from tilewright.reports.palette import KIND_COLOURS
from tilewright.reports.quantity import bytes_text
from tilewright.sim.network_result import NetworkResult

__all__ = ["residency_data"]

WEIGHTS, ACTIVATIONS = KIND_COLOURS["load"], KIND_COLOURS["matrix"]


def residency_data(result: NetworkResult) -> dict[str, Any] | None:
    """Rectangles in per cent of the run's cycles and of the highest address, with their tips; None without a plan."""
    plan = result.residency
    if plan is None:
        return None
    ends = list(accumulate(operator.cycles for operator in result.operators))
    starts, total = [0, *ends[:-1]], max(1, ends[-1])
    top = max(1, plan.top_address)

    def block(first: int, last: int, address: int, n_bytes: int, colour: str, tip: str) -> dict[str, Any]:
        return {
            "x": round(100 * starts[first] / total, 3),
            "width": round(100 * (ends[last] - starts[first]) / total, 3),
            "y": round(100 - 100 * (address + n_bytes) / top, 3),
            "height": round(100 * n_bytes / top, 3),
            "colour": colour,
            "tip": tip,
        }

    def span(first: int, last: int) -> str:
        names: Sequence[str] = [operator.name for operator in result.operators]
        return f"from {names[first]} to {names[last]}"

    tensors = [
        block(
            one.first,
            one.last,
            one.address,
            one.n_bytes,
            WEIGHTS if one.is_weight else ACTIVATIONS,
            f"{one.name}: {bytes_text(one.n_bytes)} at {one.address:,}, "
            + ("stays between inferences" if one.is_weight else span(one.first, one.last)),
        )
        for one in plan.tensors
    ]
    return {
        "memory": plan.memory,
        "blocks": tensors,
        "top": bytes_text(plan.top_address),
        "legend": [
            {"name": name, "colour": colour, "value": ""}
            for name, colour in (("weights", WEIGHTS), ("activations", ACTIVATIONS))
        ],
        "rows": residency_rows(plan),
    }
