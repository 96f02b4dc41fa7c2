"""What a run over diffusion steps tells beside what every run does: each step, and what is kept between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tilewright.sim.runs.result import RunResult

__all__ = ["DiffusionResult", "StepRow"]


class StepRow(NamedTuple):
    """One step: what of the network runs, and what that takes.

    ``forwards``: runs of the network; the other figures are of all of them. ``blocks``: how many of the network's run,
    in whole or in part. ``cache_read_bytes`` and ``cache_write_bytes``: of what is kept between steps; ``cache_bytes``:
    all that is kept while the step runs. ``computed``: for each block, the share of its multiply-adds that are done.
    """

    step: int
    stage: int
    kind: str
    forwards: int
    blocks: int
    flops: int
    macs: int
    product_macs: int
    bit_operations: int
    start_seconds: float
    seconds: float
    energy_pj: float
    dram_read_bytes: int
    dram_write_bytes: int
    cache_read_bytes: int
    cache_write_bytes: int
    cache_bytes: int
    computed: tuple[float, ...]

    def to_row(self) -> dict[str, Any]:
        """One flat row."""
        row = self._asdict()
        row.pop("computed")
        return row


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DiffusionResult(RunResult):
    """A :class:`RunResult` of diffusion steps. ``blocks``: the names of the network's, of the first stage."""

    steps: tuple[StepRow, ...] = ()
    blocks: tuple[str, ...] = ()

    def step_rows(self) -> list[dict[str, Any]]:
        """A flat row for each step."""
        return [row.to_row() for row in self.steps]

    def total(self, name: str) -> float:
        """The sum of a column of :class:`StepRow` over all steps."""
        return sum(float(getattr(row, name)) for row in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        steps = [{**row.to_row(), "computed": list(row.computed)} for row in self.steps]
        return {**RunResult.to_dict(self), "blocks": list(self.blocks), "steps": steps}

    def rows(self) -> list[dict[str, Any]]:
        """A flat row for each step, with the run's measures."""
        of_run = {f"run_{one.name}": one.value for one in self.measures}
        return [{"run": self.kind, "machine": self.machine, **row, **of_run} for row in self.step_rows()]
