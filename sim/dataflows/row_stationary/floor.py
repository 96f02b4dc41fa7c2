"""What a mapping of a row-stationary convolution must do at least: told in a few sums, without its loop nest."""

from __future__ import annotations

from itertools import product
from math import floor
from typing import NamedTuple

from tilewright.hw_models.energy import Counters
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.row_stationary.costs import Convolution, RowCosts, RowRules, Tile, outputs_of
from tilewright.sim.dataflows.row_stationary.space import figures_of, mapping_of
from tilewright.sim.lowering.core import WorkTotals
from tilewright.sim.lowering.levels import DRAM_CHANNEL
from tilewright.sim.lowering.mapping import Tiling
from tilewright.units import ceil_div

__all__ = ["work_floor"]

_ROUNDING = 1 - 1e-9  # sums of energies are not made in the order of the count


class _Sums(NamedTuple):
    """Of one group: cycles in which the array works or cannot, words of each kind, and partial sums through it."""

    cycles: int
    inputs: int
    filters: int
    sums: int
    passed_inputs: int


def work_floor(costs: GemmCosts, tiling: Tiling) -> WorkTotals:
    """Work that counting ``tiling`` does not undercut; left out are the rounding of transfers and vector work."""
    layer, n_cores = costs.layer, costs.machine.n_cores
    figures = figures_of(costs, layer.groups)
    conv = figures.conv
    row = RowCosts(conv, mapping_of(layer, tiling), costs.machine, RowRules(), figures)
    sums = _sums(conv, row)
    outputs = conv.batch * conv.filters * conv.rows * conv.columns
    extra = sum(conv.fused.extra_bits)
    read = floor((sums.inputs * layer.a_bits + sums.filters * layer.b_bits + outputs * extra) / 8)
    written = floor(outputs * layer.out_bits / 8)
    passed, through = floor(sums.passed_inputs * layer.a_bits / 8), sums.sums * row.sum_bits // 8
    counters = Counters(
        macs={conv.number_format: conv.macs // conv.groups},
        dram_read_bytes=read,
        dram_write_bytes=written,
        buffer_read_bytes={row.maps: passed + through},
        buffer_write_bytes={row.maps: through},
    )
    return WorkTotals(
        matrix_cycles=ceil_div(layer.groups, n_cores) * sums.cycles,
        vector_cycles=0,
        channel_bytes=layer.groups * (read + (written if costs.store_channel == DRAM_CHANNEL else 0)),
        energy_pj=layer.groups * costs.energy_of(counters) * _ROUNDING,
    )


def _sums(conv: Convolution, costs: RowCosts) -> _Sums:
    """The loop nest with every extent in whole pieces and a last one."""
    how, pads = costs.mapping, costs.pads
    cycles = n_inputs = n_filters = n_sums = n_passed = 0
    chunks = _pieces(conv.channels, how.pass_channels)
    blocks = [(_pieces(m, how.pass_filters), n) for m, n in _pieces(conv.filters, how.filters)]
    for (i, n_i), (r, n_r), (c, n_c) in product(
        _pieces(conv.batch, how.images),
        _pieces(conv.rows, how.strip),
        _pieces(conv.columns, how.columns or conv.columns),
    ):
        times = n_i * n_r * n_c
        for k, n_k in chunks:
            words = costs.input_words(Tile(i, 1, k, r, c))
            load = floor(costs.n_bytes(words, conv.input_bits) / costs.link_rate)
            for passes, n_m in blocks:
                here = 0
                for at, (p, n_p) in enumerate(passes):
                    tile = Tile(i, p, k, r, c)
                    filters, sums = costs.filter_words(tile), outputs_of(tile)
                    spread = ceil_div(filters, pads.filter_words_per_cycle)
                    here += n_p * (spread + max(costs.pe_cycles(tile), ceil_div(sums, pads.psum_words_per_cycle)))
                    here += max(0, load - spread) if at == 0 else 0
                    n_filters += times * n_k * n_m * n_p * filters
                    n_sums += times * n_k * n_m * n_p * sums
                    n_passed += times * n_k * n_m * n_p * words
                cycles += times * n_k * n_m * here
                n_inputs += times * n_k * n_m * words
    return _Sums(cycles, n_inputs, n_filters, n_sums, n_passed)


def _pieces(extent: int, tile: int) -> tuple[tuple[int, int], ...]:
    """(size, how many) of the pieces of ``extent``."""
    n, rest = divmod(extent, tile)
    return tuple(piece for piece in ((tile, n), (rest, 1)) if piece[0] and piece[1])
