"""Cycles of an engine's steps on one core of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.quantised.demand import Step
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import vector_cycles

__all__ = ["StepCycles", "step_cycles", "steps_cycles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCycles:
    """Cycles of one step: of the matrix unit, the vector unit and the DRAM's bandwidth; the step lasts the longest."""

    name: str
    matrix_cycles: int
    vector_cycles: int
    dram_cycles: int

    @property
    def cycles(self) -> int:
        """The longest of the three, which overlap."""
        return max(self.matrix_cycles, self.vector_cycles, self.dram_cycles)


def step_cycles(machine: MachineSpec, step: Step) -> StepCycles:
    """Cycles of ``step`` on one core: products as whole commands, element-wise work as one vector command.

    A product that is repeated ``times`` over takes its cycles so many times, rounded up. Raises InputError for a format
    without a multiply rate.
    """
    matrix = 0
    for work in step.products:
        cost = product(machine.matrix, work.m, work.k, work.n, work.number_format)
        times = work.times * work.part
        matrix += -(-cost.cycles * times.numerator // times.denominator)
    vector = 0
    if step.elements:
        pairs = [(work.kind, work.n_elements) for work in step.elements]
        reduces = any(work.kind == "max" for work in step.elements)
        vector = vector_cycles(machine.vector, pairs, reduces=reduces)
    dram = (step.read_bytes + step.write_bytes) / bytes_per_cycle(machine)
    return StepCycles(
        name=step.name,
        matrix_cycles=matrix,
        vector_cycles=vector,
        dram_cycles=-(-dram.numerator // dram.denominator),
    )


def steps_cycles(machine: MachineSpec, steps: Sequence[Step]) -> tuple[StepCycles, ...]:
    """:func:`step_cycles` of each of ``steps``, which follow each other."""
    return tuple(step_cycles(machine, step) for step in steps)
