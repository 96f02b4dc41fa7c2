"""What goes on beside an attention in a run (choosing, reordering, what is cached): told by the run without it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import DATAFLOWS

if TYPE_CHECKING:
    from tilewright.sim.result import SimulationResult

__all__ = ["beside_cycles"]

_PARTS: dict[str, dict[str, Any]] = {
    "choosing": {"choosing": False},
    "reorder": {"reorder": ""},
    "cached": {"residual_format": "", "ratios": False},
}


def beside_cycles(result: SimulationResult) -> dict[str, int]:
    """By name, the cycles by which the same mapping is faster without it; empty where the layer has none of them."""
    layer: Any = result.layer
    asked = {
        "choosing": getattr(layer, "choosing", False),
        "reorder": getattr(layer, "reorder", ""),
        "cached": getattr(layer, "takes_cached", False),
    }
    if not any(asked.values()) or result.machine_spec is None or result.kernels:
        return {}
    dataflow = DATAFLOWS.get(result.dataflow)
    found = {}
    for name, has in asked.items():
        if has:
            less = evaluate(dataflow, replace(layer, **_PARTS[name]), result.machine_spec, dict(result.tiling))
            found[name] = result.cycles - less.cycles
    return found
