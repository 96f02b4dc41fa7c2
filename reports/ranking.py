"""Which result is best, and what the others are measured against."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tilewright.sim.dataflows.attention.family import ATTENTION
from tilewright.sim.result import ComparisonResult, SimulationResult

__all__ = [
    "BASELINE_DATAFLOW",
    "OUR_DATAFLOW",
    "Speedups",
    "baseline_of",
    "best_of",
    "dataflow_order",
    "figure_of_merit",
    "of_workload",
    "speedups",
]

OUR_DATAFLOW = ATTENTION.usual
"""The dataflow whose speed-ups are quoted where none is named."""
BASELINE_DATAFLOW = ATTENTION.baseline
"""The dataflow that speed-ups are quoted against when it is among the results."""


def figure_of_merit(result: SimulationResult, objective: str) -> float:
    """What ``objective`` makes small: cycles (``latency``), pJ (``energy``) or pJ x s (``edp``)."""
    if objective == "energy":
        return result.energy_pj
    return result.energy_pj * result.seconds if objective == "edp" else float(result.cycles)


def best_of(results: Iterable[SimulationResult], objective: str) -> SimulationResult | None:
    """The result with the smallest figure of merit; cycles, then energy decide a tie; None if there is none."""
    return min(results, key=lambda r: (figure_of_merit(r, objective), r.cycles, r.energy_pj), default=None)


def baseline_of(results: Sequence[SimulationResult]) -> SimulationResult | None:
    """The result of :data:`BASELINE_DATAFLOW`, or the slowest when it is not among them."""
    named = [r for r in results if r.dataflow == BASELINE_DATAFLOW]
    return named[0] if named else max(results, key=lambda r: r.cycles, default=None)


def dataflow_order(comparison: ComparisonResult) -> list[str]:
    """Every dataflow of the comparison once, in the order of the workload that most of them can run."""
    lists = [[r.dataflow for r in of_workload(comparison, w)] for w in comparison.workloads]
    longest_first = sorted(lists, key=len, reverse=True)
    names = [name for own in longest_first for name in own] + [name for _, name in comparison.infeasible]
    return list(dict.fromkeys(names))


def of_workload(comparison: ComparisonResult, workload: str) -> tuple[SimulationResult, ...]:
    """The results of one workload, in the order in which they were given."""
    return tuple(r for r in comparison.results if r.workload == workload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedups:
    """How much faster one dataflow is than another over several workloads (cycles over cycles).

    ``mean`` is the geometric mean; ``energy_saving_max`` is the largest share of energy saved (0 to 1).
    """

    by_workload: dict[str, float]
    mean: float
    largest: float
    energy_saving_max: float


def speedups(comparison: ComparisonResult, *, dataflow: str, over: str) -> Speedups | None:
    """Speed-up of ``dataflow`` over ``over`` on every workload that has both; None if none has."""
    found: dict[str, float] = {}
    savings: list[float] = []
    for workload in comparison.workloads:
        by_name = {r.dataflow: r for r in of_workload(comparison, workload)}
        if dataflow in by_name and over in by_name:
            ours, theirs = by_name[dataflow], by_name[over]
            found[workload] = theirs.cycles / ours.cycles
            savings.append(1.0 - ours.energy_pj / theirs.energy_pj if theirs.energy_pj else 0.0)
    if not found:
        return None
    mean = math.exp(sum(math.log(value) for value in found.values()) / len(found))
    return Speedups(by_workload=found, mean=mean, largest=max(found.values()), energy_saving_max=max(savings))
