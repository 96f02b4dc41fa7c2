"""Operators that the cores lack, on the machine's fallback processor: a hand-over, then work or bytes at its own rates.

Nothing overlaps with it: the accelerator waits until the results are there.
"""

from __future__ import annotations

from math import ceil

from tilewright.hw_models.energy import Counters
from tilewright.hw_models.spec import FallbackSpec, MachineSpec
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.lowering.family import Family, register_family
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register
from tilewright.sim.result import LowerBound
from tilewright.units import exact
from tilewright.workloads.fallback import FallbackLayer

__all__ = ["FALLBACK"]


def fallback_cycles(layer: FallbackLayer, machine: MachineSpec) -> int:
    """Cycles of the cores' clock that cover the hand-over and the longer of work and bytes."""
    cpu = _processor(machine)
    work_ns = layer.operations / exact(cpu.rate(layer.name))
    move_ns = (layer.read_bytes + layer.write_bytes) / exact(cpu.bandwidth_gb_per_s)
    return max(1, ceil((exact(cpu.per_operator_us) * 1000 + max(work_ns, move_ns)) * exact(machine.clock_ghz)))


def _processor(machine: MachineSpec) -> FallbackSpec:
    assert machine.fallback is not None  # jobs for it are made only where there is one
    return machine.fallback


class FallbackCosts(TileCosts):
    """The one command of an operator."""

    layer: FallbackLayer

    def whole(self) -> Work:
        """All of it, as a transfer: neither unit of a core is busy. Its last byte ends it, the rest is its latency."""

        def make() -> Work:
            layer = self.layer
            counters = Counters(dram_read_bytes=layer.read_bytes, dram_write_bytes=layer.write_bytes)
            latency = max(0, fallback_cycles(layer, self.machine) - ceil(1 / self.rate))
            return Work(latency, 1, 0, self._energy(counters), counters)

        return self._remember(("fallback",), make)


class FallbackCore(TileCore[FallbackCosts]):
    """A core as it waits for the processor."""

    layer: FallbackLayer


def lower(core: FallbackCore, tiling: Tiling) -> None:
    """One command, as long as the processor takes."""
    core.declared()
    core.load(core.costs.whole(), label="on the fallback processor")


def _bound(layer: FallbackLayer, machine: MachineSpec) -> LowerBound:
    cycles = fallback_cycles(layer, machine)
    return LowerBound(matrix_cycles=0, vector_cycles=0, dram_cycles=0, fallback_cycles=cycles)


register_family(
    Family(
        operator="fallback",
        layer=FallbackLayer,
        costs=FallbackCosts,
        bound=_bound,
        usual="fallback",
        uses_array=False,
        core=FallbackCore,
    )
)

FALLBACK = register(
    Dataflow(
        name="fallback",
        summary="an operator that the cores lack, on the processor beside them",
        source="the machine file's figures",
        phases=(Phase(name="fallback", parameters=(), lower=lower),),
        operator="fallback",
    ),
    rank=11,
)
