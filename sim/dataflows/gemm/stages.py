"""Operands of a product staged in a level behind the working buffer: what is held there, in how many parts, how shared.

``far`` names the level and the operands that it holds: 3 times the place of the level (0 is the nearest), plus 1 for
A, 2 for B or 3 for both; 0 for none. ``far_m`` and ``far_n`` say in how many parts the rows of A and the columns of B
are held: a part is a number of whole tiles and all of k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.lowering.evaluation import core_shares
from tilewright.sim.lowering.levels import Level
from tilewright.units import ceil_div
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import DRAM

__all__ = ["Staged", "n_copies", "n_sharing", "n_staging", "sends", "staged", "stages_b"]


class Staged(NamedTuple):
    """What a tiling stages: the level, whether A and B, and the extents of a part."""

    level: Level | None
    a: bool
    b: bool
    rows: int
    columns: int


def staged(layer: GemmLayer, levels: Sequence[Level], tiling: Mapping[str, int]) -> Staged:
    """What ``tiling`` stages in one of ``levels``; an operand that lives on chip already is not staged."""
    far = tiling.get("far", 0)
    if not far or (far - 1) // 3 >= len(levels):
        return Staged(None, False, False, layer.m, layer.n)
    rows = _part(layer.m, tiling["m"], tiling.get("far_m", 1))
    columns = _part(layer.n, tiling["n"], tiling.get("far_n", 1))
    level, held = levels[(far - 1) // 3], (far - 1) % 3 + 1
    a, b = held & 1 and layer.homes.a == DRAM, held & 2 and layer.homes.b == DRAM
    return Staged(level, bool(a), bool(b), rows, columns)


def stages_b(tiling: Mapping[str, int]) -> bool:
    """Whether ``tiling`` stages B."""
    far = tiling.get("far", 0)
    return far > 0 and (far - 1) % 3 + 1 != 1


def _part(extent: int, tile: int, parts: int) -> int:
    """The extent of one of ``parts`` parts of whole tiles."""
    tile = min(tile, extent)
    return min(extent, ceil_div(ceil_div(extent, tile), parts) * tile)


def n_sharing(layer: GemmLayer, machine: MachineSpec, operand: str) -> int:
    """How many cores take the same tiles of "a" or "b" at the same time, so that one fetch serves them all.

    The pieces of a cut product that run at once are those of all the cores, where every core has one; where each has
    several of a single product, the cores go through them side by side.
    """
    shares = core_shares(layer, machine)
    pieces = layer.shared_by(operand)
    if len(shares) > 1 or pieces == 1:
        return 1
    (share,) = shares
    if share.n_groups == 1:
        return pieces
    only_cut = layer.before_cut.groups == 1 and layer.groups == pieces
    return share.n_cores if only_cut else 1


def n_staging(n_sharing: int, level: Level | None) -> int:
    """How many of the cores that share an operand one fetch into ``level`` serves: one where each has its own."""
    return n_sharing if level is not None and level.is_shared else 1


def sends(tiling: Mapping[str, int], n_sharing: int) -> bool:
    """Whether ``tiling`` brings an operand, which ``n_sharing`` cores share, once and sends it to all of them."""
    return n_sharing > 1 and bool(tiling.get("shared", 0))


def n_copies(layer: GemmLayer, machine: MachineSpec, n_sharing: int, level: Level) -> int:
    """How many cores' tiles of an operand ``level`` holds at the same time; a private one counts as all cores'."""
    if not level.is_shared:
        return machine.n_cores
    return min(machine.n_cores, layer.groups) // n_sharing
