"""``memory``: not understood, counted as the traffic of its inputs and outputs; ``function`` names it."""

from __future__ import annotations

from tilewright.workloads.kinds.kind import OperatorKind, register_kind

register_kind(
    OperatorKind(
        name="memory",
        word="traffic of what is not understood",
        attributes={"function": "text"},
        least_inputs=0,
        least_outputs=0,
        leads=False,
        colour="#6b7689",
        is_understood=False,
    ),
    rank=13,
)
