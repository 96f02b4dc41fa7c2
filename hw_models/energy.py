"""Energy of a run from its action counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tilewright.hw_models.primitives import product_pj
from tilewright.hw_models.spec import MachineSpec
from tilewright.units import exact

__all__ = ["Counters", "dram_energy_pj", "energy_by_component"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What happened, as whole numbers of actions; two add with ``+``, ``counters * 12`` is twelve times as much.

    ``macs`` by number format (of shifts and additions with the primitive, "int8 shift"); ``matrix_elementwise`` and
    ``vector_operations`` in elements by kind of operation; buffer bytes by buffer name. ``weight_memory_bytes``: read
    from a memory for weights beside the DRAM.
    """

    macs: Mapping[str, int] = field(default_factory=dict)
    matrix_elementwise: Mapping[str, int] = field(default_factory=dict)
    vector_operations: Mapping[str, int] = field(default_factory=dict)
    buffer_read_bytes: Mapping[str, int] = field(default_factory=dict)
    buffer_write_bytes: Mapping[str, int] = field(default_factory=dict)
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    dram_activations: int = 0
    weight_memory_bytes: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(
            macs=_sum(self.macs, other.macs),
            matrix_elementwise=_sum(self.matrix_elementwise, other.matrix_elementwise),
            vector_operations=_sum(self.vector_operations, other.vector_operations),
            buffer_read_bytes=_sum(self.buffer_read_bytes, other.buffer_read_bytes),
            buffer_write_bytes=_sum(self.buffer_write_bytes, other.buffer_write_bytes),
            dram_read_bytes=self.dram_read_bytes + other.dram_read_bytes,
            dram_write_bytes=self.dram_write_bytes + other.dram_write_bytes,
            dram_activations=self.dram_activations + other.dram_activations,
            weight_memory_bytes=self.weight_memory_bytes + other.weight_memory_bytes,
        )

    def __mul__(self, times: int) -> Counters:
        return Counters(
            macs=_times(self.macs, times),
            matrix_elementwise=_times(self.matrix_elementwise, times),
            vector_operations=_times(self.vector_operations, times),
            buffer_read_bytes=_times(self.buffer_read_bytes, times),
            buffer_write_bytes=_times(self.buffer_write_bytes, times),
            dram_read_bytes=self.dram_read_bytes * times,
            dram_write_bytes=self.dram_write_bytes * times,
            dram_activations=self.dram_activations * times,
            weight_memory_bytes=self.weight_memory_bytes * times,
        )

    __rmul__ = __mul__


def energy_by_component(machine: MachineSpec, counters: Counters, cycles: int) -> dict[str, float]:
    """Picojoules of ``matrix``, ``vector``, each buffer by name, ``dram``, a memory for weights by its name where there
    is one, and ``static`` over a run of ``cycles``.

    Every action costs what ``machine.energy`` says; background and static power run for the whole time (1 mW for
    1 ns is 1 pJ). ``counters`` are those of the whole machine, all cores together. Raises KeyError for an action that
    the machine has not.
    """
    energy = machine.energy
    registers = energy.register_pj_per_multiply_accumulate
    parts = {
        "matrix": sum(((product_pj(energy, name) + registers) * n for name, n in counters.macs.items()), 0.0)
        + _weighted(energy.matrix_elementwise_pj, counters.matrix_elementwise),
        "vector": _weighted(energy.vector_pj, counters.vector_operations),
    }
    for buffer in machine.buffers:
        parts[buffer.name] = (
            counters.buffer_read_bytes.get(buffer.name, 0) * energy.buffer_read_pj_per_byte[buffer.name]
            + counters.buffer_write_bytes.get(buffer.name, 0) * energy.buffer_write_pj_per_byte[buffer.name]
        )
    parts["dram"] = sum(dram_energy_pj(machine, counters, cycles).values())
    if machine.weights.memory is not None:
        parts[machine.weights.memory.name] = counters.weight_memory_bytes * machine.weights.memory.read_pj_per_byte
    parts["static"] = energy.static_mw * _nanoseconds(machine, cycles)
    return parts


def dram_energy_pj(machine: MachineSpec, counters: Counters, cycles: int) -> dict[str, float]:
    """The DRAM's picojoules by cause: ``activate``, ``read``, ``write``, ``background``."""
    energy = machine.energy
    return {
        "activate": counters.dram_activations * energy.dram_activate_pj,
        "read": counters.dram_read_bytes * energy.dram_read_pj_per_byte,
        "write": counters.dram_write_bytes * energy.dram_write_pj_per_byte,
        "background": energy.dram_background_mw * _nanoseconds(machine, cycles),
    }


def _nanoseconds(machine: MachineSpec, cycles: int) -> float:
    return float(cycles / exact(machine.clock_ghz)) if cycles else 0.0


def _weighted(pj: Mapping[str, float], counts: Mapping[str, int]) -> float:
    return sum((pj[name] * n for name, n in counts.items()), 0.0)


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    if not one or not other:
        return one or other
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _times(counts: Mapping[str, int], times: int) -> dict[str, int]:
    return {name: n * times for name, n in counts.items()}
