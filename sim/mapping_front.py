"""Latency against energy over the mappings of a workload on one machine: what no other choice of mappings beats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.presented import Pictured

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FrontMapping", "FrontPoint", "MappingFront"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontMapping:
    """A mapping and the operators that have it; cycles and energy are those of one of them."""

    operators: tuple[str, ...]
    dataflow: str
    tiling: Mapping[str, int]
    cycles: int
    energy_pj: float
    dram_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """One choice of a mapping for every operator, with its exact sums."""

    cycles: int
    seconds: float
    energy_pj: float
    dram_bytes: int
    mappings: tuple[FrontMapping, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MappingFront(Pictured):
    """The points of the front, fewest cycles first; each has less energy than the one before it.

    Proven within ``dataflows``, their tiling spaces, and operators one after the other without weights loaded ahead:
    for every choice of mappings there is a point here with no more energy and at most ``slack_cycles`` more cycles (0:
    the front is exact). ``n_simulated``: exact runs that were needed.
    """

    workload: str
    machine: str
    points: tuple[FrontPoint, ...]
    slack_cycles: int
    dataflows: tuple[str, ...]
    n_operators: int
    n_distinct: int
    n_candidates: int
    n_simulated: int
    assumptions: tuple[str, ...] = ()

    @property
    def proof(self) -> str:
        """What is proven of the front, and within what, in one sentence."""
        exact = "exactly" if not self.slack_cycles else f"to {self.slack_cycles:,} cycles"
        share = f" ({self.slack_cycles / self.points[0].cycles * 100:.1g} % of all)" if self.slack_cycles else ""
        ways = ", ".join(self.dataflows)
        return (
            f"proven {exact}{share}: no other choice out of the {self.n_candidates:,} tilings of {self.n_distinct:,} "
            f"distinct operators ({ways}) is faster at the same energy; operators one after the other, no weights ahead"
        )

    def spread(self, n: int) -> tuple[FrontPoint, ...]:
        """At most ``n`` points, evenly along the front, both ends among them."""
        if len(self.points) <= n:
            return self.points
        return tuple(self.points[at * (len(self.points) - 1) // (n - 1)] for at in range(n))

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each point."""
        return [
            {
                "workload": self.workload,
                "machine": self.machine,
                "cycles": point.cycles,
                "seconds": point.seconds,
                "energy_pj": point.energy_pj,
                "dram_bytes": point.dram_bytes,
            }
            for point in self.points
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; the mappings stand with the points of :meth:`spread`."""
        return {
            "workload": self.workload,
            "machine": self.machine,
            "slack_cycles": self.slack_cycles,
            "proof": self.proof,
            "n_operators": self.n_operators,
            "n_distinct": self.n_distinct,
            "n_candidates": self.n_candidates,
            "n_simulated": self.n_simulated,
            "front": self.rows(),
            "points": [
                {
                    "cycles": point.cycles,
                    "energy_pj": point.energy_pj,
                    "mappings": [
                        {
                            "operators": list(mapping.operators),
                            "dataflow": mapping.dataflow,
                            "tiling": dict(mapping.tiling),
                            "cycles": mapping.cycles,
                            "energy_pj": mapping.energy_pj,
                        }
                        for mapping in point.mappings
                    ],
                }
                for point in self.spread(12)
            ],
            "assumptions": list(self.assumptions),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each point."""
        import pandas as pd

        return pd.DataFrame(self.rows())
