"""How long a sequence can grow before no mapping fits on chip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.lowering.evaluation import fits
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling
from tilewright.workloads.attention import LARGEST_EXTENT, AttentionLayer

__all__ = ["longest_sequence"]


def longest_sequence(
    dataflow: Dataflow, layer: AttentionLayer, machine: MachineSpec, *, fixed: Tiling | None = None
) -> int:
    """The longest key length for which some mapping fits on chip, with the smallest tiles worth using.

    A layer with as many queries as keys grows in both. ``fixed`` holds parameters at given values (for
    instance ``overwrite``). Returns LARGEST_EXTENT when the need does not grow with the length, 0 when even
    the shortest does not fit.
    """
    if layer.stripes > 1 or layer.key_parts > 1:
        assert layer.whole is not None
        layer = layer.whole
    square = layer.query_len == layer.key_len

    def some_mapping_fits(length: int) -> bool:
        longer = _of_length(layer, length, square=square)
        costs = dataflow.costs(longer, machine)
        return all(
            any(fits(phase, costs, tiling) for tiling in _smallest(phase, longer, machine, fixed or {}))
            for phase in dataflow.phases
        )

    # Powers of two first: some mappings need a few tiles before they make sense, so short may not fit either.
    low, high = 0, 1 if square else _fewest_keys(layer)
    while high < LARGEST_EXTENT and ((fit := some_mapping_fits(high)) or not low):
        low = high if fit else 0
        high = min(LARGEST_EXTENT, 2 * high)
    if not low:
        return 0
    if high == LARGEST_EXTENT and some_mapping_fits(high):
        return LARGEST_EXTENT
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if some_mapping_fits(middle) else (low, middle)
    return low


def _fewest_keys(layer: AttentionLayer) -> int:
    """Keys that a layer must have for its first query row to see one."""
    after = 0 if layer.mask == "causal" else layer.window_right
    return 1 if after is None else max(1, layer.query_len - after)


def _of_length(layer: AttentionLayer, length: int, *, square: bool) -> AttentionLayer:
    rows = length if square else layer.query_len
    bias_rows = rows if layer.bias_rows > 1 else layer.bias_rows
    return replace(layer, key_len=length, query_len=rows, bias_rows=bias_rows).with_plain_mask()


def _smallest(phase: Phase, layer: AttentionLayer, machine: MachineSpec, fixed: Tiling) -> Sequence[dict[str, int]]:
    """Tilings with the smallest tiles: every combination of the switches (parameters that may be 0)."""
    tilings: list[dict[str, int]] = [{}]
    for parameter in phase.parameters:
        name = parameter.name
        if name in fixed:
            values: tuple[int, ...] = (fixed[name],)
        elif parameter.smallest == 0:
            values = parameter.candidates(layer, machine)
        else:
            values = (parameter.least_value(layer, machine),)
        tilings = [{**tiling, name: value} for tiling in tilings for value in values]
    return [tiling for tiling in tilings if phase.legal(layer, tiling)]
