"""What a search over steps tells: when each unit is computed, in which format, what that is worth and takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.presented import Shown
from tilewright.sim.runs.diffusion import DiffusionResult
from tilewright.workloads.diffusion.step import Cell, Schedule, Step
from tilewright.workloads.diffusion.updates import Update

__all__ = ["StepsResult", "UnitChoice", "schedule_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChoice:
    """A unit: the steps at which it is computed, each in a format (its number), its similarity summed over all steps,
    and the price of its updates (picoseconds or picojoules; 0 where the budget is of neither).
    """

    cell: Cell
    updates: tuple[Update, ...]
    value: float
    price: int

    @property
    def name(self) -> str:
        """The block, or the part of it."""
        return ".".join(filter(None, self.cell))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StepsResult(Shown):
    """The best steps within a budget.

    ``mean_similarity``: over all units and steps; ``bound``: no choice within the budget has more. ``price`` and
    ``whole_price``: of all steps as the search adds them up, and with nothing kept (picoseconds or picojoules).
    ``run``: the schedule simulated, each update in its format. ``curve``: price and mean similarity of what no other
    choice beats, where asked.
    """

    network: str
    machine: str
    method: str
    budget: str
    kind: str
    n_steps: int
    units: tuple[UnitChoice, ...]
    formats: tuple[str, ...]
    mean_similarity: float
    bound: float
    price: int
    whole_price: int
    assumptions: tuple[str, ...]
    run: DiffusionResult = field(compare=False)
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def proven(self) -> bool:
        """Whether no choice within the budget has more similarity."""
        return self.bound <= self.mean_similarity * (1 + 1e-9) + 1e-12

    @property
    def schedule(self) -> Schedule:
        """The steps as a schedule."""
        return schedule_of(self.method, self.n_steps, self.units)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each step and unit; as a CSV file it is a schedule for a run."""
        found = []
        for unit in self.units:
            kinds = {update.step: self.formats[update.format] for update in unit.updates}
            for step in range(self.n_steps):
                row = {"step": step, "block": unit.cell[0], "part": unit.cell[1], "computed": int(step in kinds)}
                found.append({**row, "format": kinds.get(step, "")})
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        units = [
            {
                "unit": unit.name,
                "updates": [update.step for update in unit.updates],
                "formats": [self.formats[update.format] for update in unit.updates],
                "similarity": unit.value / self.n_steps,
                "price": unit.price,
            }
            for unit in self.units
        ]
        return {
            "network": self.network,
            "machine": self.machine,
            "method": self.method,
            "budget": self.budget,
            "steps": self.n_steps,
            "mean_similarity": self.mean_similarity,
            "bound": self.bound,
            "proven": self.proven,
            self.kind: {"search": self.price, "nothing_kept": self.whole_price},
            "run": self.run.to_dict(),
            **({"curve": [list(point) for point in self.curve]} if self.curve else {}),
            "units": units,
            "assumptions": list(self.assumptions),
        }


def schedule_of(method: str, n_steps: int, units: Sequence[UnitChoice]) -> Schedule:
    """The choices as a schedule whose units give their last results where they are not computed."""
    computed = {unit.cell: {update.step for update in unit.updates} for unit in units}
    steps = tuple(
        Step(cached=frozenset(cell for cell, own in computed.items() if at not in own)) for at in range(n_steps)
    )
    return Schedule(method=method, steps=steps)
