"""What a run over time tells: its phases, what all of them take together, and what lies in memory meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from tilewright.presented import Shown
from tilewright.sim.figures import Figures, Measured

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec

__all__ = ["Measure", "MemoryPoint", "RunPhase", "RunResult", "StepPoint", "Unit", "added_figures"]

#: In what a measure is told; "" for a bare number.
Unit: TypeAlias = Literal["s", "J", "Js", "bytes", "share", "1/s", "TOPS/W", "W", ""]

_PJ = 1e-12


class StepPoint(NamedTuple):
    """One step of a phase: its number from 0, ``size`` (cached tokens before it, say), its start, and what it takes."""

    step: int
    size: int
    start_seconds: float
    seconds: float
    energy_pj: float
    dram_bytes: int


class MemoryPoint(NamedTuple):
    """What lies in the memory from ``seconds`` on."""

    seconds: float
    what: str
    weight_bytes: int
    cache_bytes: int
    activation_bytes: int

    @property
    def n_bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes + self.activation_bytes


class Measure(NamedTuple):
    """A figure of a run by name: ``label`` in words, ``unit`` of ``value``."""

    name: str
    label: str
    value: float
    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RunPhase(Measured, Shown):
    """Steps of a run that are alike: all of them together in ``figures``.

    ``n_made``: what they make (tokens, images). ``first_seconds`` and ``last_seconds``: of their first and last step.
    ``points``: steps as they stand in the run, all of them or, of many, some evenly chosen with the first and the last.
    """

    name: str
    network: str
    n_steps: int
    n_made: int
    start_seconds: float
    figures: Figures
    macs: int
    first_seconds: float
    last_seconds: float
    points: tuple[StepPoint, ...] = ()

    def to_row(self) -> dict[str, Any]:
        """One flat row."""
        return {
            "phase": self.name,
            "network": self.network,
            "steps": self.n_steps,
            "made": self.n_made,
            "start_s": self.start_seconds,
            "seconds": self.seconds,
            "cycles": self.cycles,
            "first_step_s": self.first_seconds,
            "last_step_s": self.last_seconds,
            "energy_pj": self.energy_pj,
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            "macs": self.macs,
            "matrix_utilization": self.matrix_utilization,
            "vector_utilization": self.vector_utilization,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            **self.to_row(),
            "energy_by_component": dict(self.energy_by_component),
            "points": [point._asdict() for point in self.points],
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RunResult(Measured, Shown):
    """A run on a machine: its phases in order, one after the other, and all of them in ``figures``.

    ``own_measures``: those of the kind (time to the first token, say), which come before the ones that all runs have.
    ``memory``: what lies in the machine's memory when something changes; ``capacity_bytes``: what that holds (None: the
    machine does not say). ``facts``: what was asked for, in words.
    """

    kind: str
    name: str
    machine: str
    phases: tuple[RunPhase, ...]
    figures: Figures
    macs: int
    own_measures: tuple[Measure, ...]
    memory: tuple[MemoryPoint, ...]
    capacity_bytes: int | None
    assumptions: tuple[str, ...]
    objective: str = "latency"
    facts: Mapping[str, str] = field(default_factory=dict)
    machine_spec: MachineSpec | None = field(default=None, compare=False)

    @property
    def peak_bytes(self) -> int:
        """The most that lies in memory at a time."""
        return max((point.n_bytes for point in self.memory), default=0)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All figures by name: the kind's own, then those that every run has."""
        energy, seconds = self.energy_pj * _PJ, self.seconds
        common = [
            Measure("seconds", "time", seconds, "s"),
            Measure("energy_j", "energy", energy, "J"),
            Measure("edp_js", "energy x time", energy * seconds, "Js"),
            Measure("power_w", "mean power", energy / seconds if seconds else 0.0, "W"),
            Measure("tops_per_w", "operations for energy", 2 * self.macs / max(self.energy_pj, 1e-30), "TOPS/W"),
            Measure("dram_read_bytes", "DRAM bytes read", self.dram_read_bytes, "bytes"),
            Measure("dram_write_bytes", "DRAM bytes written", self.dram_write_bytes, "bytes"),
            Measure("matrix_utilization", "matrix unit busy", self.matrix_utilization, "share"),
        ]
        if self.memory:
            common.append(Measure("peak_bytes", "most in memory", self.peak_bytes, "bytes"))
        return (*self.own_measures, *common)

    def measure(self, name: str) -> float:
        """The value of the measure called ``name``; raises KeyError where the run has none so called."""
        return {one.name: one.value for one in self.measures}[name]

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per phase, in order, with the run's measures: what a table or a CSV file holds."""
        of_run = {f"run_{one.name}": one.value for one in self.measures}
        own = {"run": self.kind, "machine": self.machine}
        return [{**own, **phase.to_row(), **of_run} for phase in self.phases]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "run": self.kind,
            "name": self.name,
            "machine": self.machine,
            "objective": self.objective,
            **dict(self.facts),
            "measures": {one.name: one.value for one in self.measures},
            "cycles": self.cycles,
            "macs": self.macs,
            "energy_by_component": dict(self.energy_by_component),
            "phases": [phase.to_dict() for phase in self.phases],
            "memory": [{**point._asdict(), "bytes": point.n_bytes} for point in self.memory],
            **({"capacity_bytes": self.capacity_bytes} if self.capacity_bytes is not None else {}),
            "assumptions": list(self.assumptions),
        }


def added_figures(parts: Sequence[tuple[Figures, int]]) -> Figures:
    """Figures of runs one after the other, each so many times."""
    cycles = sum(one.cycles * times for one, times in parts)
    energy: dict[str, float] = {}
    for one, times in parts:
        for name, amount in one.energy_by_component.items():
            energy[name] = energy.get(name, 0.0) + amount * times

    def busy(name: str) -> float:
        return float(sum(getattr(one, name) * one.cycles * times for one, times in parts)) / max(1, cycles)

    return Figures(
        cycles=cycles,
        seconds=sum(one.seconds * times for one, times in parts),
        energy_by_component=energy,
        dram_read_bytes=sum(one.dram_read_bytes * times for one, times in parts),
        dram_write_bytes=sum(one.dram_write_bytes * times for one, times in parts),
        matrix_utilization=busy("matrix_utilization"),
        vector_utilization=busy("vector_utilization"),
        weight_memory_bytes=sum(one.weight_memory_bytes * times for one, times in parts),
    )
