"""What the attention dataflows share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tilewright.formats import element_format
from tilewright.hw_models.links import multicasts
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.bound import lower_bound
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.costs import attention_assumptions, costs_of
from tilewright.sim.dataflows.attention.engine import on_engine
from tilewright.sim.dataflows.attention.kept import dealt_in_stretches
from tilewright.sim.dataflows.attention.listed import dealt
from tilewright.sim.lowering.family import Family, register_family
from tilewright.sim.lowering.levels import levels_of
from tilewright.sim.result import LengthLimit
from tilewright.units import ceil_div, exact
from tilewright.workloads.attention import AttentionLayer

__all__ = ["ATTENTION"]


def _plain(layer: AttentionLayer) -> AttentionLayer:
    """With the plainest mask that hides the same: a band that hides nothing costs what no mask costs."""
    return layer.with_plain_mask()


def _adapted(layer: AttentionLayer, machine: MachineSpec) -> AttentionLayer:
    """As the machine's quantised engine does it, if that does; else with P in the format of V, where the array
    multiplies that and not the format in which softmax leaves P. Sums are kept as its accumulators keep those of P V.
    """
    layer = on_engine(layer, machine)
    rates, narrow = machine.matrix.multiplies_per_pe_per_cycle, element_format(layer.value_format)
    if layer.value_product_format not in rates and narrow in rates:
        layer = replace(layer, probability_format=narrow)
    kept = machine.matrix.accumulators.get(layer.value_product_format)
    return layer if kept is None else replace(layer, accumulator_format=kept)


def _pieces(layer: AttentionLayer, machine: MachineSpec) -> tuple[AttentionLayer, ...]:
    """Cut where cores share a level or a link with multicast; a layer of an engine stays whole for its passes."""
    shares = multicasts(machine) or any(level.is_shared for level in levels_of(machine))
    return layer.cuts(machine.n_cores) if shares and layer.engine is None else (layer,)


def _least(piece: AttentionLayer, machine: MachineSpec) -> int:
    """The products of the core that has most heads, at full rate."""
    unit, cycles = machine.matrix, Fraction(0)
    for number_format, width in (
        (piece.score_product_format, piece.head_dim),
        (piece.value_product_format, piece.value_dim),
    ):
        rate = unit.multiplies_per_pe_per_cycle.get(number_format)
        if rate is None or piece.engine is not None or piece.blocks is not None:
            return 0
        cycles += Fraction(width) / (unit.n_multipliers * exact(rate))
    n_scores = ceil_div(piece.n_groups, machine.n_cores) * piece.queries_per_kv_head * piece.n_scores_per_head
    return int(n_scores * cycles)


def _limit(dataflow: Any, layer: AttentionLayer, machine: MachineSpec, fixed: Mapping[str, int]) -> LengthLimit:
    from tilewright.sim.dataflows.attention.limit import longest_sequence  # which asks whether mappings fit

    if layer.blocks is not None:  # lists are for one length
        layer = layer.without_lists("none")
    return LengthLimit(lambda: longest_sequence(dataflow, layer, machine, fixed=fixed))


def _dealt(layer: AttentionLayer, n_cores: int, tiling: Mapping[str, int]) -> tuple[tuple[Any, int], ...]:
    """Rows of lists one by one; in stretches where blocks of keys stay for the next."""
    return dealt_in_stretches(layer, n_cores) if tiling.get("resident") else dealt(layer, n_cores)


ATTENTION = register_family(
    Family(
        operator="attention",
        layer=AttentionLayer,
        costs=costs_of,
        bound=lower_bound,
        usual="mas",
        in_networks=("mas", "flash2", "flash2_staged", "flash_decoding"),
        baseline="flat",
        core=AttentionCore,
        plain=_plain,
        adapted=_adapted,
        pieces=_pieces,
        least=_least,
        assumptions=attention_assumptions,
        limit=_limit,
        dealt=_dealt,
        remedy="or a dataflow whose need does not grow with the length (fusemax, flash2)",
    )
)
