"""Workloads on several machines side by side: one run for each pair, at the best dataflow and mappings there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilewright.presented import Pictured
from tilewright.sim.figures import Figures, Measured
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.result import SimulationResult

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MachineComparison", "MachineRun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRun(Measured):
    """One workload on one machine. ``dataflow`` is the best one of a layer, empty for a network.

    Utilisations are busy time over the whole (0 to 1); ``array_use`` is the multiply-adds over those that the array
    could have done. ``result`` is the run with everything else.
    """

    workload: str
    machine: str
    dataflow: str
    figures: Figures
    lower_bound_cycles: int
    dram_utilization: float
    array_use: float
    result: SimulationResult | NetworkResult = field(repr=False)

    @property
    def bound_ratio(self) -> float:
        """Achieved cycles over the lower bound."""
        return self.cycles / max(1, self.lower_bound_cycles)

    @property
    def limited_by(self) -> str:
        """The unit that is busiest: ``matrix``, ``vector`` or ``dram``."""
        busy = {"matrix": self.matrix_utilization, "vector": self.vector_utilization, "dram": self.dram_utilization}
        return max(busy, key=lambda name: busy[name])

    def to_row(self) -> dict[str, Any]:
        """One flat row: what a table or a CSV file holds."""
        return {
            "workload": self.workload,
            "machine": self.machine,
            "dataflow": self.dataflow,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "energy_pj": self.energy_pj,
            "dram_bytes": self.dram_bytes,
            "lower_bound_cycles": self.lower_bound_cycles,
            "bound_ratio": self.bound_ratio,
            "matrix_utilization": self.matrix_utilization,
            "vector_utilization": self.vector_utilization,
            "dram_utilization": self.dram_utilization,
            "array_use": self.array_use,
            "limited_by": self.limited_by,
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MachineComparison(Pictured):
    """Runs of workloads on machines, by workload and then in the order of the machines.

    ``infeasible`` names what cannot run, with the reason, by (workload, machine).
    """

    objective: str
    machines: tuple[str, ...]
    runs: tuple[MachineRun, ...]
    infeasible: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def workloads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([run.workload for run in self.runs] + [name for name, _ in self.infeasible]))

    def of_workload(self, workload: str) -> tuple[MachineRun, ...]:
        """The runs of one workload, in the order of the machines."""
        return tuple(run for run in self.runs if run.workload == workload)

    def best(self, workload: str) -> MachineRun:
        """The run of ``workload`` that is best by the objective: least time (not cycles), energy, or their product."""
        return min(self.of_workload(workload), key=self.merit)

    def merit(self, run: MachineRun) -> tuple[float, float]:
        """What the objective makes small, and the figure that decides between equals."""
        time, energy = run.seconds, run.energy_pj
        return {"energy": (energy, time), "edp": (energy * time, time)}.get(self.objective, (time, energy))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "objective": self.objective,
            "machines": list(self.machines),
            "runs": [run.to_row() for run in self.runs],
            "infeasible": [
                {"workload": workload, "machine": machine, "reason": reason}
                for (workload, machine), reason in self.infeasible.items()
            ],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each run (columns as in :meth:`MachineRun.to_row`)."""
        import pandas as pd

        return pd.DataFrame([run.to_row() for run in self.runs])
