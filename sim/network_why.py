"""Why a network takes as long as it does: its operators, and what more of each resource would change, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.presented import Pictured
from tilewright.sim.network_result import NetworkResult

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NetworkWhatIf", "NetworkWhyResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWhatIf:
    """The whole network with one resource changed (``label``), every operator at its best mapping then.

    ``operator_cycles``: cycles of each operator of the result, in its order. ``cycles_same_mappings``: with the
    mappings of the unchanged machine.
    """

    label: str
    cycles: int
    energy_pj: float
    cycles_same_mappings: int
    operator_cycles: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NetworkWhyResult(Pictured):
    """A network's run with its exact what-ifs."""

    result: NetworkResult
    what_ifs: tuple[NetworkWhatIf, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; the operators of the run stand in ``result``."""
        return {"result": self.result.to_dict(), "what_ifs": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each what-if."""
        return [
            {
                "network": self.result.network,
                "machine": self.result.machine,
                "label": item.label,
                "cycles": item.cycles,
                "cycles_same_mappings": item.cycles_same_mappings,
                "energy_pj": item.energy_pj,
                "speedup": self.result.cycles / max(1, item.cycles),
            }
            for item in self.what_ifs
        ]

    def operator_rows(self) -> list[dict[str, Any]]:
        """One flat row for each operator, its cycles here and under each what-if."""
        return [
            {
                "name": operator.name,
                "kind": operator.kind,
                "cycles": operator.cycles,
                "lower_bound_cycles": operator.lower_bound.cycles,
                "bound_by": operator.bound_by,
                **{f"cycles, {item.label}": item.operator_cycles[at] for item in self.what_ifs},
            }
            for at, operator in enumerate(self.result.operators)
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row for each what-if."""
        import pandas as pd

        return pd.DataFrame(self.rows())
