"""What a tiling of a product must do at least: told in a few sums, so that most tilings need not be counted."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.space import KEEPS_A, KEEPS_B
from tilewright.sim.dataflows.gemm.stages import n_staging, sends, staged
from tilewright.sim.lowering.core import WorkTotals
from tilewright.sim.lowering.levels import DRAM_CHANNEL
from tilewright.sim.lowering.mapping import Tiling
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.homes import DRAM

__all__ = ["LOSS", "depths_of", "products_of", "sizes_of", "work_floor"]

LOSS = 1 - 1e-9  # sums of energies are not made in the order of the count


def work_floor(costs: GemmCosts, tiling: Tiling) -> WorkTotals:
    """Work that counting ``tiling`` does not undercut: its products, and every operand as often as it is loaded.

    Left out are the rounding of transfers, halos, and the vector unit's work.
    """
    layer, n_cores = costs.layer, costs.machine.n_cores
    cycles, energy_pj = costs.of_tiles(tiling, lambda: products_of(costs, tiling))
    read_bits, write_bits, of_level = _moved_bits(costs, tiling)
    read_bytes, write_bytes = int(read_bits // BITS_PER_BYTE), int(write_bits // BITS_PER_BYTE)
    per_byte = costs.dram_pj_per_byte
    moved = read_bytes * per_byte[0] + write_bytes * per_byte[1]
    of_ports = [(channel, int(bits // BITS_PER_BYTE)) for channel, bits in of_level]
    stored = write_bytes if costs.store_channel == DRAM_CHANNEL else 0
    if not stored and write_bytes:
        of_ports.append((costs.store_channel, write_bytes))
    return WorkTotals(
        matrix_cycles=ceil_div(layer.groups, n_cores) * cycles,
        vector_cycles=0,
        channel_bytes=read_bytes + stored,
        energy_pj=(layer.groups * energy_pj + moved) * LOSS,
        level_bytes=tuple(of_ports),
    )


def products_of(costs: GemmCosts, tiling: Tiling) -> tuple[int, float]:
    """(cycles, pJ) of all the tiles' products of one group: whole tiles, and the last ones along each extent."""
    cycles, energy_pj = 0, 0.0
    layer = costs.layer
    rows, columns = (sizes_of(getattr(layer, name), tiling[name]) for name in "mn")
    for (m, n_m), (n, n_n), (k, n_k, adds) in product(rows, columns, depths_of(layer.k, tiling["k"])):
        work, times = costs.multiply(m, k, n, add_to=adds), n_m * n_n * n_k
        cycles += times * work.cycles
        energy_pj += times * work.energy_pj
    return cycles, energy_pj


def depths_of(extent: int, tile: int) -> tuple[tuple[int, int, bool], ...]:
    """(size, how many, whether they add to sums that are there) of the tiles along k."""
    (whole, n), *rest = sizes_of(extent, tile)
    more = ((whole, n - 1, True),) if n > 1 else ()
    return ((whole, 1, False), *more, *((size, times, True) for size, times in rest))


def sizes_of(extent: int, tile: int) -> tuple[tuple[int, int], ...]:
    """(size, how many) of the tiles along an extent."""
    tile = min(tile, extent)
    n, rest = divmod(extent, tile)
    return ((tile, n), (rest, 1)) if rest else ((tile, n),)


def _moved_bits(
    costs: GemmCosts, tiling: Tiling
) -> tuple[int | Fraction, int | Fraction, tuple[tuple[int, int | Fraction], ...]]:
    """(read, written) by all groups together from and to the DRAM, and what is read from the level that operands are
    staged in, by its channel; without what rounding and halos add.
    """
    layer, homes, sharing = costs.layer, costs.layer.homes, costs.n_sharing
    once_a, once_b, of_outputs, stored = costs.least_bits
    order = tiling["order"]
    a = once_a if order == KEEPS_A else once_a * ceil_div(layer.n, min(tiling["n"], layer.n))
    b = once_b if order == KEEPS_B else once_b * ceil_div(layer.m, min(tiling["m"], layer.m))
    a //= sharing["a"] if sends(tiling, sharing["a"]) else 1
    b //= sharing["b"] if sends(tiling, sharing["b"]) else 1
    from_level: int | Fraction = 0
    what = staged(layer, costs.levels, tiling)
    if what.a:
        from_level += a
        a = once_a // n_staging(sharing["a"], what.level)
    if what.b:
        from_level += b
        times = 1 if what.columns >= layer.n else ceil_div(layer.m, what.rows)
        b = once_b * times // n_staging(sharing["b"], what.level)
    groups = layer.groups
    read = (a if homes.a == DRAM else 0) + (0 if tiling["prefetched"] or homes.b != DRAM else b)
    of_level = () if what.level is None else ((what.level.read_channel, groups * from_level),)
    return groups * (read + of_outputs), groups * stored, of_level
