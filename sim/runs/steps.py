"""Many steps of a phase as columns of numbers: what each takes, and all of them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tilewright.sim.figures import Figures
from tilewright.sim.runs.result import RunPhase, StepPoint

if TYPE_CHECKING:
    from tilewright.sim.network_result import NetworkResult

__all__ = ["MOST_POINTS", "Steps", "phase_of", "steps_of_results"]

#: Steps of a phase that a result keeps one by one.
MOST_POINTS = 257

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Columns with a row per step, in order; energies in picojoules by component.

    ``matrix_busy`` and ``vector_busy``: cycles of the step times the share of them in which the units work.
    """

    sizes: Ints
    cycles: Ints
    seconds: Floats
    energy_by_component: Mapping[str, Floats]
    dram_read_bytes: Ints
    dram_write_bytes: Ints
    weight_memory_bytes: Ints
    matrix_busy: Floats
    vector_busy: Floats
    macs: Ints

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def energy_pj(self) -> Floats:
        """Of each step."""
        return sum(self.energy_by_component.values(), np.zeros(len(self)))

    def figures(self) -> Figures:
        """All steps together."""
        cycles = int(self.cycles.sum())
        return Figures(
            cycles=cycles,
            seconds=float(self.seconds.sum()),
            energy_by_component={name: float(part.sum()) for name, part in self.energy_by_component.items()},
            dram_read_bytes=int(self.dram_read_bytes.sum()),
            dram_write_bytes=int(self.dram_write_bytes.sum()),
            matrix_utilization=float(self.matrix_busy.sum()) / max(1, cycles),
            vector_utilization=float(self.vector_busy.sum()) / max(1, cycles),
            weight_memory_bytes=int(self.weight_memory_bytes.sum()),
        )

    def take(self, at: Ints) -> Steps:
        """The steps numbered ``at``."""
        return self._with(lambda column: column[at])

    def plus(self, other: Steps) -> Steps:
        """Each step with the one of ``other`` behind it; the size is this one's."""
        none = np.zeros(len(self))
        energy = {
            name: self.energy_by_component.get(name, none) + other.energy_by_component.get(name, none)
            for name in {**self.energy_by_component, **other.energy_by_component}
        }
        return Steps(
            sizes=self.sizes,
            cycles=self.cycles + other.cycles,
            seconds=self.seconds + other.seconds,
            energy_by_component=energy,
            dram_read_bytes=self.dram_read_bytes + other.dram_read_bytes,
            dram_write_bytes=self.dram_write_bytes + other.dram_write_bytes,
            weight_memory_bytes=self.weight_memory_bytes + other.weight_memory_bytes,
            matrix_busy=self.matrix_busy + other.matrix_busy,
            vector_busy=self.vector_busy + other.vector_busy,
            macs=self.macs + other.macs,
        )

    def _with(self, change: Callable[[Any], Any]) -> Steps:
        return Steps(
            sizes=change(self.sizes),
            cycles=change(self.cycles),
            seconds=change(self.seconds),
            energy_by_component={name: change(part) for name, part in self.energy_by_component.items()},
            dram_read_bytes=change(self.dram_read_bytes),
            dram_write_bytes=change(self.dram_write_bytes),
            weight_memory_bytes=change(self.weight_memory_bytes),
            matrix_busy=change(self.matrix_busy),
            vector_busy=change(self.vector_busy),
            macs=change(self.macs),
        )

    def between(self, at: Ints, n_steps: int) -> Steps:
        """``n_steps`` steps on lines between these, whose numbers are ``at``."""
        all_of = np.arange(n_steps)

        def line(column: npt.NDArray[np.generic]) -> Floats:
            return np.asarray(np.interp(all_of, at, column.astype(float)), dtype=np.float64)

        def whole(column: Ints) -> Ints:
            return line(column).round().astype(np.int64)

        return Steps(
            sizes=whole(self.sizes),
            cycles=whole(self.cycles),
            seconds=line(self.seconds),
            energy_by_component={name: line(part) for name, part in self.energy_by_component.items()},
            dram_read_bytes=whole(self.dram_read_bytes),
            dram_write_bytes=whole(self.dram_write_bytes),
            weight_memory_bytes=whole(self.weight_memory_bytes),
            matrix_busy=line(self.matrix_busy),
            vector_busy=line(self.vector_busy),
            macs=whole(self.macs),
        )

    def points(self, start_seconds: float, most: int = MOST_POINTS) -> tuple[StepPoint, ...]:
        """At most so many steps, evenly chosen, with the first and the last."""
        starts = start_seconds + np.concatenate(([0.0], np.cumsum(self.seconds)[:-1]))
        energy, moved = self.energy_pj, self.dram_read_bytes + self.dram_write_bytes
        chosen = np.unique(np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(int))
        return tuple(
            StepPoint(
                int(at),
                int(self.sizes[at]),
                float(starts[at]),
                float(self.seconds[at]),
                float(energy[at]),
                int(moved[at]),
            )
            for at in chosen
        )


def steps_of_results(results: Sequence[NetworkResult], sizes: Sequence[int]) -> Steps:
    """A row for each of ``results``; ``sizes`` says what grows from one to the next."""
    names = dict.fromkeys(name for one in results for name in one.energy_by_component)
    return Steps(
        sizes=np.array(sizes, dtype=np.int64),
        cycles=np.array([one.cycles for one in results], dtype=np.int64),
        seconds=np.array([one.seconds for one in results]),
        energy_by_component={
            name: np.array([one.energy_by_component.get(name, 0.0) for one in results]) for name in names
        },
        dram_read_bytes=np.array([one.dram_read_bytes for one in results], dtype=np.int64),
        dram_write_bytes=np.array([one.dram_write_bytes for one in results], dtype=np.int64),
        weight_memory_bytes=np.array([one.weight_memory_bytes for one in results], dtype=np.int64),
        matrix_busy=np.array([one.matrix_utilization * one.cycles for one in results]),
        vector_busy=np.array([one.vector_utilization * one.cycles for one in results]),
        macs=np.array([one.macs for one in results], dtype=np.int64),
    )


def phase_of(name: str, network: str, steps: Steps, *, n_made: int, start_seconds: float) -> RunPhase:
    """The steps as a phase of a run that begins at ``start_seconds``."""
    return RunPhase(
        name=name,
        network=network,
        n_steps=len(steps),
        n_made=n_made,
        start_seconds=start_seconds,
        figures=steps.figures(),
        macs=int(steps.macs.sum()),
        first_seconds=float(steps.seconds[0]),
        last_seconds=float(steps.seconds[-1]),
        points=steps.points(start_seconds),
    )
