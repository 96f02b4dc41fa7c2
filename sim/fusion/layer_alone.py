"""DRAM traffic of one operator that runs alone in a buffer of limited size.

A convolution or product cuts its map into up to 8 strips of neighbouring pixel columns (each loads the columns that its
kernel reaches beyond), and its output within a strip into tiles of ``rows`` whole rows by ``columns`` output channels.
What stays on chip decides what is loaded again (room: everything that is on chip at one time, one slot each):

======== ========================================== ================================================ =================
stays    loaded again                               room                                             when
======== ========================================== ================================================ =================
weights  inputs, once per tile of output channels   weights of the tile, reach rows, one output row  always
inputs   weights, once per tile of rows             rows of all inputs, weights and sums of a pixel  always
                                                    row for ``columns`` output channels
outputs  both: inputs with their halo per tile of   sums of the tile (wide), one input channel of    channels are not
         output channels, weights per tile of rows  its rows, its weights                            grouped
======== ========================================== ================================================ =================

Every other operator (pool, depthwise, element-wise, norm ...) works a few channels or rows at a time and moves each
tensor once.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import GroupCost
from tilewright.units import BITS_PER_BYTE

__all__ = ["ALONE_ASSUMPTIONS", "alone"]

SUM_BITS = 32
MOST_STRIPS = 8
ALONE_ASSUMPTIONS = (
    "a layer alone takes the strips and tiles with the least DRAM traffic; sums over cut input "
    "channels are 32 bits wide",
    "an attention alone reads queries, keys and values once",
)
_Ints = npt.NDArray[np.int64]


class _Layer(NamedTuple):
    """What the traffic of a convolution or product depends on."""

    in_rows: int
    in_row_bytes: int
    in_channels: int
    height: int
    out_row_values: int
    out_channels: int
    out_bits: int | Fraction
    weight_bytes: int
    reach: int
    stride: int
    images: int
    grouped: bool
    width: int
    in_width: int
    reach_width: int
    stride_width: int


def alone(graph: FusionGraph, index: int, capacity_bytes: int) -> GroupCost:
    """The cost of node ``index`` as a layer alone; its ``buffer_bytes`` is within ``capacity_bytes`` where it can be.

    Where nothing fits, the room is that of the smallest tiles.
    """
    node = graph.nodes[index]
    tensors = graph.read_from_outside(node.bit)
    reads, writes = sum(tensor.n_bytes for tensor in tensors), node.output.n_bytes
    if node.kind not in ("conv", "dense", "matmul") or not tensors:
        room = min(capacity_bytes, reads + writes + node.weight_bytes)
        return GroupCost(
            buffer_bytes=room, dram_read_bytes=reads, dram_write_bytes=writes, weight_bytes=node.weight_bytes
        )
    edge = graph.edges_in[index][0]
    stays = [tensor.n_bytes for tensor in tensors[1:]] if node.kind == "matmul" else []
    weights = node.weight_bytes + sum(stays)
    layer = _Layer(
        in_rows=edge.tensor.height,
        in_row_bytes=edge.tensor.row_bytes,
        in_channels=edge.tensor.channels,
        height=node.output.height,
        out_row_values=node.output.width * node.output.channels,
        out_channels=node.output.channels,
        out_bits=node.output.bits,
        weight_bytes=weights,
        reach=edge.tensor.height if edge.rows.whole else edge.rows.most,
        stride=0 if edge.rows.whole else max(1, edge.rows.stride // edge.rows.up),
        images=node.output.batch,
        grouped=node.groups > 1,
        width=node.output.width,
        in_width=edge.tensor.width,
        reach_width=edge.tensor.width if edge.columns.whole else edge.columns.most,
        stride_width=0 if edge.columns.whole else max(1, edge.columns.stride // edge.columns.up),
    )
    room, inputs, again = _least(layer, capacity_bytes)
    of_maps = sum(stays) * again // max(1, weights)
    others = reads - sum(stays) - edge.tensor.n_bytes
    return GroupCost(
        buffer_bytes=room,
        dram_read_bytes=inputs + of_maps + others,
        dram_write_bytes=writes,
        weight_bytes=again - of_maps,
    )


@lru_cache(maxsize=16384)
def _least(layer: _Layer, capacity: int) -> tuple[int, int, int]:
    """(room, input bytes read, weight bytes read) of the strips and tiles with the least traffic."""
    found = [_of_strips(layer, capacity, n) for n in range(1, min(MOST_STRIPS, layer.width) + 1)]
    fitting = [one for one in found if one[0] <= capacity]
    return min(fitting, key=lambda one: (one[1] + one[2], one[0])) if fitting else min(found)


def _of_strips(layer: _Layer, capacity: int, n_strips: int) -> tuple[int, int, int]:
    """The least for a number of strips."""
    if n_strips > 1:
        width = -(-layer.width // n_strips)
        in_width = min(layer.in_width, (width - 1) * layer.stride_width + layer.reach_width)
        layer = layer._replace(
            in_row_bytes=-(-layer.in_row_bytes * in_width // layer.in_width),
            out_row_values=-(-layer.out_row_values * width // layer.width),
            images=layer.images * n_strips,
        )
    rows: _Ints = np.arange(1, layer.height + 1, dtype=np.int64)[:, None]
    columns = _tile_sizes(layer.out_channels)[None, :]
    row_tiles, column_tiles = -(-layer.height // rows), -(-layer.out_channels // columns)
    weights, inputs = layer.weight_bytes, layer.in_rows * layer.in_row_bytes * layer.images
    weights_of = -(-weights * columns // layer.out_channels)
    out_row = -(-layer.out_row_values * _up(layer.out_bits) * columns // (layer.out_channels * BITS_PER_BYTE))
    wide_row = -(-layer.out_row_values * SUM_BITS * columns // (layer.out_channels * BITS_PER_BYTE))
    held_rows = np.minimum(layer.in_rows, (rows - 1) * layer.stride + layer.reach)
    lines = layer.reach * layer.in_row_bytes
    options = [
        (weights_of + lines + out_row + 0 * rows, inputs * column_tiles + 0 * rows, weights + 0 * rows * columns),
        (
            held_rows * layer.in_row_bytes + weights_of + rows * out_row,
            inputs + 0 * rows * columns,
            weights * row_tiles * layer.images + 0 * columns,
        ),
    ]
    if not layer.grouped:
        a_channel = -(-layer.in_row_bytes // layer.in_channels)
        read_rows = np.minimum(held_rows * row_tiles, layer.in_rows * layer.reach)
        options.append(
            (
                rows * wide_row + held_rows * a_channel + -(-weights_of // layer.in_channels),
                read_rows * layer.in_row_bytes * layer.images * column_tiles,
                weights * row_tiles * layer.images + 0 * columns,
            )
        )
    best: tuple[int, int, int, int] | None = None
    smallest = None
    for room, read, again in options:
        room, read, again = np.broadcast_arrays(room, read, again)
        smallest = int(room.min()) if smallest is None else min(smallest, int(room.min()))
        total = np.where(room <= capacity, read + again, np.iinfo(np.int64).max)
        at = np.unravel_index(int(np.argmin(total)), total.shape)
        found = (int(total[at]), int(room[at]), int(read[at]), int(again[at]))
        if room[at] <= capacity and (best is None or found < best):
            best = found
    if best is None:
        assert smallest is not None
        return smallest, inputs * layer.out_channels, weights * layer.height * layer.images
    return best[1:]


def _up(bits: int | Fraction) -> int:
    return int(-(-bits // 1))


def _tile_sizes(extent: int) -> _Ints:
    """The sizes that cut ``extent`` into 1, 2, 3 ... nearly equal tiles."""
    return np.array(sorted({-(-extent // n) for n in range(1, extent + 1)}), dtype=np.int64)
