"""Attention at several densities of its mask, beside dense: where a sparse schedule begins to pay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.selection import SELECTION_ASSUMPTION, selection_cost
from tilewright.sim.result import SimulationResult
from tilewright.workloads.attention import AttentionLayer, Mask
from tilewright.workloads.masks.family import Site, check_mask, make_mask

__all__ = ["DensityComparison", "DensityPoint", "at_density", "compare_densities"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityPoint:
    """The layer at one density: ``kept`` of the blocks, its best run, and what choosing its lists costs."""

    density: float
    kept: float
    result: SimulationResult
    selection_cycles: int
    selection_energy_pj: float

    @property
    def cycles(self) -> int:
        """Of choosing the lists and the attention over them."""
        return self.selection_cycles + self.result.cycles

    @property
    def energy_pj(self) -> float:
        """Of both."""
        return self.selection_energy_pj + self.result.energy_pj


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityComparison:
    """Points by density, densest first, beside the best ``dense`` run; ``mask``: the family; what is taken for granted.

    ``break_even``: the density below which the lists, chosen, take less time than dense (between points in a straight
    line); None where they never do.
    """

    mask: str
    dense: SimulationResult
    points: tuple[DensityPoint, ...]
    break_even: float | None
    assumptions: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One row a point, for tables and files."""
        return [
            {
                "density": point.density,
                "kept": point.kept,
                "dataflow": point.result.dataflow,
                "attention_cycles": point.result.cycles,
                "selection_cycles": point.selection_cycles,
                "cycles": point.cycles,
                "of_dense_cycles": point.cycles / self.dense.cycles,
                "energy_pj": point.energy_pj,
                "of_dense_energy": point.energy_pj / self.dense.energy_pj,
                "dram_bytes": point.result.dram_bytes,
            }
            for point in self.points
        ]


def at_density(layer: AttentionLayer, density: float) -> AttentionLayer:
    """``layer`` with so much of its blocks kept: by its own family of masks, else by the best blocks of each row.

    Raises InputError for a mask that has no density.
    """
    if not 0 < density <= 1:
        raise InputError(f"--mask-density: given {density}; allowed numbers above 0, up to 1")
    text = _text(layer, density)
    site = Site(layer.query_heads, layer.kv_heads, layer.query_len, layer.key_len, layer.head_dim)
    return replace(layer, mask="blocks", blocks=make_mask(text, site, what=layer.name))


def _text(layer: AttentionLayer, density: float) -> str:
    if layer.blocks is None:
        if layer.mask == "banded":
            raise InputError(
                f"{layer.name}: mask: a band has no density; given banded; allowed none, causal or a family with one"
            )
        return f"top_blocks:density={density}" + (",causal=true" if layer.mask == "causal" else "")
    family, _ = check_mask(layer.blocks.text, what=layer.name)
    if "density" not in {option.name for option in family.options}:
        raise InputError(
            f"{layer.name}: mask: {family.name} has no density; allowed band, top_blocks, threshold, or no mask"
        )
    _, _, rest = layer.blocks.text.partition(":")
    kept = [item for item in rest.split(",") if item and item.partition("=")[0].strip() not in ("density", "keep")]
    return f"{family.name}:" + ",".join([f"density={density}", *kept])


def compare_densities(
    layer: AttentionLayer,
    machine: MachineSpec,
    densities: Sequence[float],
    best: Callable[[AttentionLayer], SimulationResult],
) -> DensityComparison:
    """``layer`` at each of ``densities`` on ``machine``; ``best(layer)`` is a layer's best run there."""
    if not densities:
        raise InputError("--mask-density: given none; allowed numbers above 0, up to 1, joined by commas")
    layers = {density: at_density(layer, density) for density in sorted(set(densities), reverse=True)}
    some = next(iter(layers.values()))
    whole: Mask = "causal" if some.blocks is not None and some.blocks.causal else "none"
    dense = best(layer.without_lists(whole))
    points = []
    for density, sparse in layers.items():
        lists = sparse.blocks
        assert lists is not None
        cost = selection_cost(sparse, machine) if not lists.is_full else None
        points.append(
            DensityPoint(
                density=density,
                kept=lists.density,
                result=best(sparse) if cost else dense,
                selection_cycles=cost.cycles if cost else 0,
                selection_energy_pj=cost.energy_pj if cost else 0.0,
            )
        )
    chosen = selection_cost(some, machine).cycles
    return DensityComparison(
        mask=some.blocks.text.partition(":")[0] if some.blocks is not None else "",
        dense=dense,
        points=tuple(points),
        break_even=_break_even(dense.cycles, chosen, points),
        assumptions=(*points[-1].result.assumptions, *([SELECTION_ASSUMPTION] if chosen else [])),
    )


def _break_even(dense_cycles: int, selection_cycles: int, points: Sequence[DensityPoint]) -> float | None:
    """Where a straight line between neighbouring points, from all blocks with their choice on, falls to dense."""
    sparse = [(point.kept, point.cycles) for point in points if point.kept < 1]
    line = [(1.0, dense_cycles + selection_cycles), *sparse]
    for (above, slow), (below, fast) in pairwise(line):
        if fast < dense_cycles <= slow:
            return below + (above - below) * (dense_cycles - fast) / (slow - fast) if slow > fast else above
    return None
