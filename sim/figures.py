"""What every run is measured by: cycles, energy, traffic, and how busy the units were; worked out in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.spec import MachineSpec

__all__ = ["Figures", "Measured", "figures_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one run: energy in picojoules by component, bytes over the DRAM's link, busy cycles over all (0 to 1), bytes
    from a memory for weights beside the DRAM.
    """

    cycles: int
    seconds: float
    energy_by_component: Mapping[str, float]
    dram_read_bytes: int
    dram_write_bytes: int
    matrix_utilization: float
    vector_utilization: float
    weight_memory_bytes: int = 0


def figures_of(
    machine: MachineSpec,
    counters: Counters,
    cycles: int,
    *,
    matrix_cycles: int,
    vector_cycles: int,
    n_cores: int | None = None,
) -> Figures:
    """Figures of a run of ``cycles`` on ``n_cores`` of ``machine`` (None: all), whose units were busy for
    ``matrix_cycles`` and ``vector_cycles`` together.
    """
    core_cycles = max(1, cycles * (machine.n_cores if n_cores is None else n_cores))
    return Figures(
        cycles=cycles,
        seconds=machine.seconds(cycles),
        energy_by_component=energy_by_component(machine, counters, cycles),
        dram_read_bytes=counters.dram_read_bytes,
        dram_write_bytes=counters.dram_write_bytes,
        matrix_utilization=matrix_cycles / core_cycles,
        vector_utilization=vector_cycles / core_cycles,
        weight_memory_bytes=counters.weight_memory_bytes,
    )


class Measured:
    """A result that holds :class:`Figures` and says each of them as its own."""

    __slots__ = ()
    figures: Figures

    @property
    def cycles(self) -> int:
        return self.figures.cycles

    @property
    def seconds(self) -> float:
        return self.figures.seconds

    @property
    def energy_by_component(self) -> Mapping[str, float]:
        """Picojoules; they sum to :attr:`energy_pj`."""
        return self.figures.energy_by_component

    @property
    def energy_pj(self) -> float:
        return sum(self.figures.energy_by_component.values())

    @property
    def dram_read_bytes(self) -> int:
        return self.figures.dram_read_bytes

    @property
    def dram_write_bytes(self) -> int:
        return self.figures.dram_write_bytes

    @property
    def dram_bytes(self) -> int:
        return self.figures.dram_read_bytes + self.figures.dram_write_bytes

    @property
    def weight_memory_bytes(self) -> int:
        """Bytes of weights from a memory of their own."""
        return self.figures.weight_memory_bytes

    @property
    def matrix_utilization(self) -> float:
        """Busy cycles of the matrix unit over all (0 to 1)."""
        return self.figures.matrix_utilization

    @property
    def vector_utilization(self) -> float:
        """Busy cycles of the vector unit over all (0 to 1)."""
        return self.figures.vector_utilization
