"""Seconds of an engine's steps at peak rates: a first look at a device of which only a data sheet is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.quantised.demand import Step
from tilewright.hw_models.spec import OPERATION_KINDS, MachineSpec
from tilewright.units import exact

__all__ = ["Peaks", "peaks_of", "step_seconds", "steps_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """Rates of a whole device: multiply-adds a second by format, element operations a second by kind, bytes a second.

    A kind that is not listed in ``elements_per_s`` takes no time.
    """

    macs_per_s: Mapping[str, float] = field(hash=False)
    elements_per_s: Mapping[str, float] = field(default_factory=dict, hash=False)
    bytes_per_s: float


def peaks_of(machine: MachineSpec) -> Peaks:
    """Peak rates of ``machine`` over all cores, from its description."""
    unit, vector, per_second = machine.matrix, machine.vector, machine.clock_hz * machine.n_cores
    return Peaks(
        macs_per_s={
            name: float(unit.n_multipliers * exact(rate) * per_second)
            for name, rate in unit.multiplies_per_pe_per_cycle.items()
        },
        elements_per_s={
            kind: float(Fraction(vector.lanes) / Fraction(vector.cycles[kind]) * per_second)
            for kind in OPERATION_KINDS
            if vector.cycles[kind]
        },
        bytes_per_s=float(bytes_per_cycle(machine) * machine.clock_hz),
    )


def step_seconds(step: Step, peaks: Peaks) -> float:
    """The longest of products, element-wise work and bytes; raises InputError for a format without a rate."""
    multiply = 0.0
    for product in step.products:
        rate = peaks.macs_per_s.get(product.number_format)
        if rate is None:
            raise no_rate(product.number_format, peaks.macs_per_s)
        multiply += float(product.macs) / rate
    elements = sum(
        work.n_elements / peaks.elements_per_s[work.kind] for work in step.elements if work.kind in peaks.elements_per_s
    )
    return max(multiply, elements, (step.read_bytes + step.write_bytes) / peaks.bytes_per_s)


def steps_seconds(steps: Sequence[Step], peaks: Peaks) -> float:
    """Seconds of ``steps`` one after the other."""
    return sum(step_seconds(step, peaks) for step in steps)
