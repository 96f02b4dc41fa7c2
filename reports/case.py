"""What a page is about: one result with everything that explains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tilewright.sim.result import SimulationResult, WhyResult

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.search.activity import NetworkActivity
    from tilewright.sim.engine.trace import TraceWindow

__all__ = ["ReportCase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportCase:
    """One result, its rivals on the same workload, and what is known about the reasons.

    ``rivals`` holds every result of the comparison, ``result`` among them (or is empty: no comparison);
    ``trace`` is the beginning of the run, ``activity`` all of it in spans;
    ``infeasible`` gives the reason by dataflow; ``command`` is the command line that makes the page again.
    """

    result: SimulationResult
    objective: str
    rivals: tuple[SimulationResult, ...] = ()
    infeasible: Mapping[str, str] = field(default_factory=dict)
    why: WhyResult | None = None
    trace: TraceWindow | None = None
    activity: NetworkActivity | None = None
    machine: MachineSpec | None = None
    command: str = ""

    @property
    def title(self) -> str:
        """Workload, machine and dataflow in words."""
        return f"{self.result.workload} on {self.result.machine} with {self.result.dataflow}"
