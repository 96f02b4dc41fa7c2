"""What choosing the lists of a mask costs on a machine, before the attention itself: an estimate, no schedule."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tilewright.hw_models.dram import dram_rate
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.spec import MachineSpec
from tilewright.units import exact
from tilewright.workloads.attention import AttentionLayer

__all__ = ["SELECTION_ASSUMPTION", "SelectionCost", "selection_cost"]

SELECTION_ASSUMPTION = (
    "choosing the lists: products at full rate, then exponentials, sums and a comparison a score on the vector lanes; "
    "its reads go on beside these, and it ends before the attention begins"
)


class SelectionCost(NamedTuple):
    """Cycles and picojoules of choosing the lists, on all cores."""

    cycles: int
    energy_pj: float


def selection_cost(layer: AttentionLayer, machine: MachineSpec) -> SelectionCost:
    """What the selection of the layer's mask takes, for all batch entries; nothing where the lists are given."""
    chosen = layer.blocks.selection if layer.blocks is not None else None
    if chosen is None:
        return SelectionCost(0, 0.0)
    batch, unit, vector = layer.batch, machine.matrix, machine.vector
    rates = unit.multiplies_per_pe_per_cycle
    number_format = chosen.macs_format if chosen.macs_format in rates else layer.score_product_format
    matrix = Fraction(batch * chosen.macs) / (unit.n_multipliers * machine.n_cores * exact(rates[number_format]))
    done = {
        "sub": batch * chosen.n_exponentials,
        "exp": batch * chosen.n_exponentials,
        "add": batch * (chosen.n_exponentials + chosen.n_additions),
        "max": batch * chosen.n_comparisons,
    }
    lanes = vector.lanes * machine.n_cores
    on_lanes = sum((Fraction(n * vector.cycles[kind], lanes) for kind, n in done.items()), Fraction(0))
    n_bytes = batch * chosen.n_bytes
    if chosen.reads_operands:
        whole = layer.without_lists("none")  # all of Q and K, whatever is then kept
        n_bytes += whole.query_bytes + whole.key_bytes
    cycles = max(matrix + on_lanes, n_bytes / dram_rate(machine))
    counters = Counters(macs={number_format: batch * chosen.macs}, vector_operations=done, dram_read_bytes=n_bytes)
    n_cycles = -(-cycles.numerator // cycles.denominator)
    return SelectionCost(n_cycles, sum(energy_by_component(machine, counters, n_cycles).values()))
