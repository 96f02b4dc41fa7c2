"""The tilings of a product or convolution: what each number means, and the values worth trying."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import Any

import numpy as np

from tilewright.hw_models.links import multicasts
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.stages import n_sharing
from tilewright.sim.lowering.levels import levels_of
from tilewright.sim.lowering.mapping import Parameter, Tiling, tile_sizes
from tilewright.sim.lowering.screen import Flags
from tilewright.units import ceil_div
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import DRAM

__all__ = [
    "KEEPS_A",
    "KEEPS_B",
    "KEEPS_SUMS",
    "PARAMETERS",
    "STAGED_PARAMETERS",
    "distinct_of_all",
    "distinct_stagings",
    "is_distinct",
    "is_distinct_staging",
]

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
    block = machine.matrix.block
    height = machine.matrix.rows // block.patch_columns if block is not None and block.kernels else 1
    return (*tile_sizes(layer.m, height * width, most=MOST_SIZES), *few)


def _column_tiles(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    return tile_sizes(layer.n, machine.matrix.columns, most=MOST_SIZES)


def _depths(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Tiles of k, in whole channels of a convolution: a few from all of k to one granule, and the shortest ones, which
    leave a small buffer to the sums.
    """
    granule, block = machine.matrix.rows, machine.matrix.block
    if layer.window is not None and block is not None and (block.kernels or block.sums == "by_tap"):
        granule = layer.window.taps * block.depth
    elif layer.window is not None:
        granule = layer.window.taps * max(1, ceil_div(granule, layer.window.taps))
    if layer.engine is not None:  # whole groups of scales
        granule = min(layer.k, lcm(granule, layer.engine.group))
    short = [n * granule for n in SHORT_DEPTHS if n * granule < layer.k]
    return tuple(sorted({*tile_sizes(layer.k, granule, most=MOST_DEPTHS_OF_K), *short}, reverse=True))


def _sends(layer: GemmLayer, machine: MachineSpec) -> bool:
    """Whether a link can send the same to several cores, and these need it."""
    return multicasts(machine) and any(n_sharing(layer, machine, operand) > 1 for operand in ("a", "b"))


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
    candidates=lambda layer, machine: (2, 3) if _sends(layer, machine) else (2,),
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
    return bool(distinct_of_all(layer, tiling))


def distinct_of_all(layer: GemmLayer, tilings: Mapping[str, Any]) -> Flags:
    """:func:`is_distinct` over columns of tilings."""
    all_of_k, keeps_sums = tilings["k"] >= layer.k, tilings["order"] == KEEPS_SUMS
    is_only_tile = (layer.groups == 1) & (tilings["m"] >= layer.m) & (tilings["n"] >= layer.n)
    one_slot_pays = np.logical_not(is_only_tile) & (all_of_k | keeps_sums)
    found: Flags = np.logical_not(keeps_sums & all_of_k) & ((tilings["outputs"] == 2) | one_slot_pays)
    return found


# -- what is staged in a level behind the working buffer -------------------------------------------------------

MOST_PARTS = 4096
FAR_A, FAR_B, FAR_BOTH = 1, 2, 3  # what a level holds, in ``far``


def _far(layer: GemmLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Nothing, and A, B or both in each level that is larger than the working buffer."""
    held = [FAR_A] * (layer.homes.a == DRAM) + [FAR_B] * (layer.homes.b == DRAM)
    if len(held) == 2:
        held.append(FAR_BOTH)
    return (0, *(3 * place + what for place in range(len(levels_of(machine))) for what in held))


def _parts_of(layer: GemmLayer, machine: MachineSpec, operand: str) -> tuple[int, ...]:
    """Powers of two up to the most whole tiles of an extent, however much a level holds: then a larger one never has
    less to choose from. One part where there is no level.
    """
    extent, granule = (layer.m, machine.matrix.rows) if operand == "a" else (layer.n, machine.matrix.columns)
    most = min(MOST_PARTS, ceil_div(extent, granule)) if levels_of(machine) else 1
    return tuple(1 << i for i in range(most.bit_length()))


FAR = Parameter(
    name="far",
    meaning="what a level behind the working buffer holds: 0 nothing, 1 A, 2 B, 3 both; 3 more for each level farther",
    candidates=_far,
    smallest=0,
    largest=lambda layer: 3 * 8,
    least=lambda layer, machine: 0,
)
FAR_M = Parameter(
    name="far_m",
    meaning="parts in which the level holds the rows of A",
    candidates=lambda layer, machine: _parts_of(layer, machine, "a"),
    largest=lambda layer: layer.m,
    finer=lambda layer, machine: (1,),
)
FAR_N = Parameter(
    name="far_n",
    meaning="parts in which the level holds the columns of B",
    candidates=lambda layer, machine: _parts_of(layer, machine, "b"),
    largest=lambda layer: layer.n,
    finer=lambda layer, machine: (1,),
)

SHARED = Parameter(
    name="shared",
    meaning="1 brings what several cores need once, to one of them, from which it is sent to all",
    candidates=lambda layer, machine: (1, 0) if _sends(layer, machine) else (0,),
    smallest=0,
    largest=lambda layer: 1,
)

STAGED_PARAMETERS = (*PARAMETERS, FAR, FAR_M, FAR_N, SHARED)


def is_distinct_staging(layer: GemmLayer, tiling: Tiling) -> bool:
    """As :func:`is_distinct`; only what a level holds is cut into parts, both operands alike or one of them."""
    return bool(distinct_stagings(layer, tiling))


def distinct_stagings(layer: GemmLayer, tilings: Mapping[str, Any]) -> Flags:
    """:func:`is_distinct_staging` over columns of tilings."""
    far, n_row_parts, n_column_parts = tilings["far"], tilings["far_m"], tilings["far_n"]
    held = np.where(far > 0, (far - 1) % 3 + 1, 0)
    holds_rows = (n_row_parts == 1) | (held & FAR_A > 0)
    holds_columns = (n_column_parts == 1) | (held & FAR_B > 0)
    whole_tiles = (n_row_parts <= -(-layer.m // tilings["m"])) & (n_column_parts <= -(-layer.n // tilings["n"]))
    alike = (n_row_parts == 1) | (n_column_parts == 1) | (n_row_parts == n_column_parts)
    found: Flags = distinct_of_all(layer, tilings) & holds_rows & holds_columns & whole_tiles & alike
    return found
