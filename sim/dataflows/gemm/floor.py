"""What a tiling of a product must do at least: told in a few sums, so that most tilings need not be counted."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

from tilewright.hw_models.energy import Counters
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.space import KEEPS_A, KEEPS_B
from tilewright.sim.dataflows.gemm.stages import n_staging, sends, staged
from tilewright.sim.lowering.core import WorkTotals
from tilewright.sim.lowering.mapping import Tiling
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.homes import DRAM

__all__ = ["work_floor"]

_ROUNDING = 1 - 1e-9  # sums of energies are not made in the order of the count


def work_floor(costs: GemmCosts, tiling: Tiling) -> WorkTotals:
    """Work that counting ``tiling`` does not undercut: its products, and every operand as often as it is loaded.

    Left out are the rounding of transfers, halos, partial sums read again, and the vector unit's work.
    """
    layer, n_cores = costs.layer, costs.machine.n_cores
    cycles, energy_pj = costs.of_tiles(tiling, lambda: _products(costs, tiling))
    read_bytes, write_bytes = (int(bits / BITS_PER_BYTE) for bits in _moved_bits(costs, tiling))
    moved = costs.energy_of(Counters(dram_read_bytes=read_bytes, dram_write_bytes=write_bytes))
    return WorkTotals(
        matrix_cycles=ceil_div(layer.groups, n_cores) * cycles,
        vector_cycles=0,
        channel_bytes=read_bytes + write_bytes,
        energy_pj=(layer.groups * energy_pj + moved) * _ROUNDING,
    )


def _products(costs: GemmCosts, tiling: Tiling) -> tuple[int, float]:
    """(cycles, pJ) of all the tiles' products of one group: whole tiles, and the last ones along each extent."""
    cycles, energy_pj = 0, 0.0
    layer = costs.layer
    for (m, n_m), (n, n_n), (k, n_k) in product(*(_sizes(getattr(layer, name), tiling[name]) for name in "mnk")):
        work, times = costs.multiply(m, k, n, add_to=False), n_m * n_n * n_k
        cycles += times * work.cycles
        energy_pj += times * work.energy_pj
    return cycles, energy_pj


def _sizes(extent: int, tile: int) -> tuple[tuple[int, int], ...]:
    """(size, how many) of the tiles along an extent."""
    tile = min(tile, extent)
    n, rest = divmod(extent, tile)
    return ((tile, n), (rest, 1)) if rest else ((tile, n),)


def _moved_bits(costs: GemmCosts, tiling: Tiling) -> tuple[int | Fraction, int | Fraction]:
    """(read, written) by all groups together from and to the DRAM, without what rounding and halos add."""
    layer, homes = costs.layer, costs.layer.homes
    rows, columns = (ceil_div(getattr(layer, name), min(tiling[name], getattr(layer, name))) for name in "mn")
    a = costs.least_a_elements * layer.a_bits * (1 if tiling["order"] == KEEPS_A else columns)
    b = layer.k * layer.n * layer.b_bits * (1 if tiling["order"] == KEEPS_B else rows)
    what = staged(layer, costs.levels, tiling)
    if what.a:
        a = Fraction(costs.least_a_elements * layer.a_bits, n_staging(costs.n_sharing["a"], what.level))
    if what.b:
        times = 1 if what.columns >= layer.n else ceil_div(layer.m, what.rows)
        b = Fraction(layer.k * layer.n * layer.b_bits * times, n_staging(costs.n_sharing["b"], what.level))
    if not what.a and sends(tiling, costs.n_sharing["a"]):
        a = Fraction(a, costs.n_sharing["a"])
    if not what.b and sends(tiling, costs.n_sharing["b"]):
        b = Fraction(b, costs.n_sharing["b"])
    outputs = layer.m * layer.n
    read = (a if homes.a == DRAM else 0) + (0 if tiling["prefetched"] or homes.b != DRAM else b)
    read += outputs * sum(bits for i, bits in enumerate(layer.fused.extra_bits) if homes.extra(i) == DRAM)
    return layer.groups * read, layer.groups * outputs * (layer.out_bits if homes.out == DRAM else 0)
