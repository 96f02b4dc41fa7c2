"""The lower bound that no schedule can beat, whatever the dataflow and the tiling.

Every schedule of softmax(Q K^T) V must do these amounts of work, each on its own resource, so the largest of the
three times bounds the run:

* matrix: the multiply-adds that the mask leaves, over all arrays at their full rate;
* vector: for every unmasked score what a soft cap and a bias ask for, a maximum, a subtraction, an exponential and an
  addition, the last four also for every row with a sink (all left out where the matrix array can do them), and one
  division per output value or per score, whichever are fewer;
* DRAM: Q, the keys and values that some query sees, the bias of the scores, the sinks, what an earlier step left, and
  O, each moved once, at full bandwidth.

Where the layer's description asks for them, choosing the lists and copying tokens into the mask's order are part of it.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil

from tilewright.hw_models.dram import dram_rate
from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.beside import choosing_of, copies_of
from tilewright.sim.dataflows.attention.costs import ARRAY_SOFTMAX, join_operations
from tilewright.sim.dataflows.attention.engine import engine_passes
from tilewright.sim.result import LowerBound
from tilewright.units import exact
from tilewright.workloads.attention import AttentionLayer

__all__ = ["lower_bound"]


@lru_cache(maxsize=256)
def lower_bound(layer: AttentionLayer, machine: MachineSpec) -> LowerBound:
    """Cycles that ``layer`` needs at least on ``machine`` (all cores)."""
    layer = layer.whole or layer
    return LowerBound(
        matrix_cycles=_matrix_cycles(layer, machine),
        vector_cycles=_vector_cycles(layer, machine),
        dram_cycles=_dram_cycles(layer, machine),
    )


def _matrix_cycles(layer: AttentionLayer, machine: MachineSpec) -> int:
    unit = machine.matrix
    elements = unit.n_multipliers * machine.n_cores
    cycles = Fraction(0)
    products = ((layer.score_product_format, layer.head_dim), (layer.value_product_format, layer.value_dim))
    for number_format, width in products:
        rate = unit.multiplies_per_pe_per_cycle.get(number_format)
        if rate is None:
            raise no_rate(number_format, unit.multiplies_per_pe_per_cycle, place=machine.name)
        cycles += Fraction(layer.n_scores * width) / (elements * exact(rate))
    chosen = choosing_of(layer, unit.multiplies_per_pe_per_cycle)
    if chosen is not None:
        rate = unit.multiplies_per_pe_per_cycle[chosen.number_format]
        cycles += Fraction(layer.batch * chosen.selection.macs) / (elements * exact(rate))
    return ceil(cycles)


def _vector_cycles(layer: AttentionLayer, machine: MachineSpec) -> int:
    unit = machine.vector
    on_array = machine.matrix.elementwise_cycles if "exp" in machine.matrix.elementwise_cycles else ()
    softmax = [(kind, 1) for kind in ARRAY_SOFTMAX]
    per_row = sum(unit.cycles[kind] for kind, _ in softmax if kind not in on_array)
    per_score = sum(
        unit.cycles[kind] * times for kind, times in (*softmax, *join_operations(layer)) if kind not in on_array
    )
    sinks = layer.n_rows * layer.sinks
    work = layer.n_scores * per_score + sinks * per_row + layer.n_divisions * unit.cycles["div"]
    each = unit.cycles["mul"] * layer.ratios + unit.cycles["add"] * bool(layer.residual_format)
    work += layer.n_rows * layer.value_dim * each
    work += sum(one.n_elements * unit.cycles[kind] for one in engine_passes(layer) for kind in one.kinds)
    chosen = choosing_of(layer, machine.matrix.multiplies_per_pe_per_cycle)
    if chosen is not None:
        work += chosen.exponentials * (unit.cycles["sub"] + unit.cycles["exp"] + unit.cycles["add"])
        work += chosen.additions * unit.cycles["add"] + chosen.comparisons * unit.cycles["max"]
    return ceil(Fraction(work, unit.lanes * machine.n_cores))


def _dram_cycles(layer: AttentionLayer, machine: MachineSpec) -> int:
    passed = sum(one.least_bytes for one in engine_passes(layer))
    passed += sum(2 * one.n_bytes for one in copies_of(layer))
    chosen = choosing_of(layer, machine.matrix.multiplies_per_pe_per_cycle)
    passed += chosen.n_bytes if chosen is not None else 0
    return ceil((layer.compulsory_bytes + passed) / dram_rate(machine))
