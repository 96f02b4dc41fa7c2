"""The tilings of a product or convolution: what each number means, and the values worth trying."""

from __future__ import annotations

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.lowering.mapping import Parameter, Tiling, tile_sizes
from tilewright.units import ceil_div
from tilewright.workloads.gemm import GemmLayer

__all__ = ["KEEPS_A", "KEEPS_B", "KEEPS_SUMS", "PARAMETERS", "is_distinct"]

KEEPS_A, KEEPS_B, KEEPS_SUMS = 0, 1, 2  # values of ``order``
MOST_SIZES = 12  # candidates per extent
MOST_DEPTHS_OF_K = 5
SHORT_DEPTHS = (1, 2, 4)  # granules of k that are tried in any case
MOST_PARTS_OF_A_ROW = 3


def _row_tiles(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Whole output rows of a convolution, so that the slab has no ragged ends; equal parts of one when it is long."""
    granule = machine.matrix.rows
    if layer.window is None or layer.m <= layer.window.out_width:
        return tile_sizes(layer.m, granule, most=MOST_SIZES)
    width = layer.window.out_width
    parts = [size for size in tile_sizes(width, granule, most=width) if size < width and width % size == 0]
    few = dict.fromkeys([*parts[: MOST_PARTS_OF_A_ROW - 1], *parts[-1:]])
    return (*tile_sizes(layer.m, width, most=MOST_SIZES), *few)


def _column_tiles(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    return tile_sizes(layer.n, machine.matrix.columns, most=MOST_SIZES)


def _depths(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Tiles of k, in whole channels of a convolution: a few from all of k to one granule, and the shortest ones, which
    leave a small buffer to the sums.
    """
    granule, block = machine.matrix.rows, machine.matrix.block
    if layer.window is not None and block is not None and block.sums == "by_tap":
        granule = layer.window.taps * block.depth
    elif layer.window is not None:
        granule = layer.window.taps * max(1, ceil_div(granule, layer.window.taps))
    short = [n * granule for n in SHORT_DEPTHS if n * granule < layer.k]
    return tuple(sorted({*tile_sizes(layer.k, granule, most=MOST_DEPTHS_OF_K), *short}, reverse=True))


def _below(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest of ``sizes``, a quarter of it, and so on down to 1."""
    found = [min(sizes)]
    while found[-1] > 1:
        found.append(ceil_div(found[-1], 4))
    return tuple(found)


ROWS = Parameter(
    name="m",
    meaning="rows of a tile of C",
    candidates=_row_tiles,
    largest=lambda layer: layer.m,
    finer=lambda layer, machine: _below(_row_tiles(layer, machine)),
)
COLUMNS = Parameter(
    name="n",
    meaning="columns of a tile of C",
    candidates=_column_tiles,
    largest=lambda layer: layer.n,
    finer=lambda layer, machine: _below(_column_tiles(layer, machine)),
)
DEPTH_OF_K = Parameter(
    name="k",
    meaning="tile of the sum",
    candidates=_depths,
    largest=lambda layer: layer.k,
    finer=lambda layer, machine: _below(_depths(layer, machine)),
)
ORDER = Parameter(
    name="order",
    meaning="0 keeps A's panel and streams B, 1 keeps B's panel and streams A, 2 keeps the sums and streams both",
    candidates=lambda layer, machine: (KEEPS_A, KEEPS_B, KEEPS_SUMS),
    smallest=0,
    largest=lambda layer: KEEPS_SUMS,
)
DEPTH = Parameter(
    name="depth",
    meaning="slots of a streamed operand (2 is a double buffer)",
    candidates=lambda layer, machine: (2,),
    largest=lambda layer: 64,
    changes_work=False,
    finer=lambda layer, machine: (2, 1),
)
OUTPUTS = Parameter(
    name="outputs",
    meaning="slots of C (with 2, a tile is finished and stored under the products of the next)",
    candidates=lambda layer, machine: (2, 1),
    largest=lambda layer: 2,
    changes_work=False,
)
PREFETCHED = Parameter(
    name="prefetched",
    meaning="1 finds the first weights on chip, brought there under the operator before (whole networks)",
    candidates=lambda layer, machine: (0,),
    smallest=0,
    largest=lambda layer: 1,
)

PARAMETERS = (ROWS, COLUMNS, DEPTH_OF_K, ORDER, DEPTH, OUTPUTS, PREFETCHED)


def is_distinct(layer: GemmLayer, tiling: Tiling) -> bool:
    """False for what is not worth a run of its own: sums kept while all of k is in one tile, where a panel is as small
    as a streamed tile; one slot of C where no other tile takes the second, or beside a panel of several tiles, which
    ``order=2`` replaces where room is short.
    """
    all_of_k = tiling["k"] >= layer.k
    if tiling["order"] == KEEPS_SUMS and all_of_k:
        return False
    if tiling["outputs"] == 2:
        return True
    is_only_tile = layer.groups == 1 and tiling["m"] >= layer.m and tiling["n"] >= layer.n
    return not is_only_tile and (all_of_k or tiling["order"] == KEEPS_SUMS)
