"""Depth-first tiling as a fusion scheme: a group runs tile by tile in one working buffer.

The buffer holds all weights of the group, what the tile needs and makes at any moment, and the caches of the mode (see
:mod:`tilewright.sim.fusion.tiles.geometry`). Maps from outside are read once where both axes are cached, else
with the overlap of neighbouring tiles again; results are written once. Energy and cycles on a machine with several
levels of memory: :func:`tilewright.sim.fusion.tiles.cost.depth_first_cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.layer_alone import ALONE_ASSUMPTIONS, alone
from tilewright.sim.fusion.scheme import GroupCost, register_scheme
from tilewright.sim.fusion.tiles.geometry import Mode, geometry
from tilewright.sim.fusion.tiles.room import group_cost
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SCHEME_NAMES", "DepthFirst"]

#: Name of the scheme for each mode.
SCHEME_NAMES: dict[Mode, str] = {
    "fully_cached": "depth_first",
    "h_cached_v_recompute": "depth_first_h_cached",
    "fully_recompute": "depth_first_recompute",
}
#: Parts of the output's width and height that are tried as tiles where none is given; 0 stands for one pixel.
_PARTS_CACHED = ((1, 0), (0, 0), (16, 0), (16, 16))
_PARTS = ((1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32), (4, 4), (8, 8), (16, 16), (32, 32))


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthFirst:
    """Depth-first tiling in ``mode`` with tiles of (columns, rows) ``tile`` of a group's last result.

    Without ``tile`` each group takes, of some tiles, the one with the least DRAM traffic that fits
    ``capacity_bytes``; where none fits, the one that needs the least room.
    """

    capacity_bytes: int
    mode: Mode = "fully_cached"
    tile: tuple[int, int] | None = None

    has_programs = True
    heeds_homes = True
    source = "DeFiNES: Mei, Goetschalckx, Symons, Verhelst, HPCA 2023 (arXiv 2212.05344); formulas derived here"
    assumptions = (
        "all weights of a group stay on chip, loaded once",
        "a tile's data and the caches have room of their own in one buffer; corners of both caches are held once",
        "one image at a time; the maps of a group have the same number of images",
        "a layer that does not fit with all its weights runs alone",
        *ALONE_ASSUMPTIONS,
    )

    @property
    def name(self) -> str:
        return SCHEME_NAMES[self.mode]

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        """See the class; the reasons why a group cannot run are images that differ and operators that read places."""
        reason = _reason(graph, group_mask)
        found = None if reason else self._best(graph, group_mask)
        is_one = group_mask & (group_mask - 1) == 0
        if is_one and (found is None or not found.valid(self.capacity_bytes)):
            return alone(graph, group_mask.bit_length() - 1, self.capacity_bytes)
        if found is None:
            return GroupCost(buffer_bytes=0, dram_read_bytes=0, dram_write_bytes=0, weight_bytes=0, reason=reason)
        return found

    def fusable_mask(self, graph: FusionGraph) -> int:
        """All nodes but those whose weights alone fill the buffer, and those that read places known at run time."""
        mask = 0
        for node in graph.nodes:
            if node.weight_bytes < self.capacity_bytes and not _reason(graph, node.bit):
                mask |= node.bit
        return mask

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        """All weights, which stay on chip."""
        return sum(graph.nodes[i].weight_bytes for i in members(group_mask))

    def programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> Iterator[FusedProgram]:
        """With each tile whose program fits (it has two slots for what moves): least traffic first, then the largest.

        A small tile takes less room, by which :meth:`cost` prefers it, but leaves most of an array idle.
        """
        from tilewright.sim.fusion.commands import COPY_ASSUMPTIONS, TILE_ASSUMPTIONS
        from tilewright.sim.fusion.tiles.numbers import run_tiles_on_numbers
        from tilewright.sim.fusion.tiles.program import TiledProgram

        reason = _reason(graph, group_mask)
        if reason is not None:
            raise InputError(f"{graph.name}: the group cannot run tile by tile: {reason}")
        none_fits: MappingError | None = None
        n_made = 0
        ranked = self._ranked(graph, group_mask)
        ranked.sort(key=lambda one: (not one[0].valid(self.capacity_bytes), one[0].dram_bytes, -prod(one[1])))
        for _, tile in ranked:
            plan = geometry(graph, group_mask, self.mode, tile)
            try:
                program = TiledProgram(stream, plan, machine, homes).program()
            except MappingError as error:
                none_fits = none_fits or error
                continue
            n_made += 1
            columns, rows = plan.tile
            yield FusedProgram(
                group=tuple(graph.names(group_mask)),
                program=program,
                tiling={"columns": columns, "rows": rows},
                assumptions=TILE_ASSUMPTIONS + (() if homes == GROUP_IN_DRAM else COPY_ASSUMPTIONS),
                on_numbers=partial(run_tiles_on_numbers, stream, plan, machine, homes=homes),
            )
        if none_fits is not None and not n_made:
            raise none_fits

    def fast_programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes,
        limit: Callable[[], int],
    ) -> Iterator[FusedProgram]:
        """All of :meth:`programs`."""
        return self.programs(stream, graph, group_mask, machine, homes)

    def _best(self, graph: FusionGraph, mask: int) -> GroupCost:
        return self._ranked(graph, mask)[0][0]

    def _ranked(self, graph: FusionGraph, mask: int) -> list[tuple[GroupCost, tuple[int, int]]]:
        """Tiles, the best first: of those that fit the one that moves the least, then the one of the least room."""

        def rank(one: tuple[GroupCost, tuple[int, int]]) -> tuple[int, ...]:
            cost, _ = one
            if cost.valid(self.capacity_bytes):
                return 0, cost.dram_bytes, cost.buffer_bytes
            return 1, cost.buffer_bytes, cost.dram_bytes

        tiles = [self.tile] if self.tile else self._tiles(graph, mask)
        return sorted([(group_cost(geometry(graph, mask, self.mode, tile)), tile) for tile in tiles], key=rank)

    def _tiles(self, graph: FusionGraph, mask: int) -> list[tuple[int, int]]:
        last = graph.nodes[graph.needed_outside(mask)[-1]].output
        parts = _PARTS_CACHED if self.mode == "fully_cached" else _PARTS
        return list(dict.fromkeys((_part(last.width, x), _part(last.height, y)) for x, y in parts))


def _part(extent: int, part: int) -> int:
    return -(-extent // part) if part else 1


def _reason(graph: FusionGraph, mask: int) -> str | None:
    """Why a group cannot be cut into tiles; None when it can."""
    images = {one.batch for one in graph.read_from_outside(mask)}
    if not graph.needed_outside(mask):
        return "nothing reads a result of it"
    for i in members(mask):
        node = graph.nodes[i]
        if node.kind in ("gather", "memory"):
            return f"{node.name}: what a tile of a {node.kind} needs is not known before it runs"
        if node.output.extra_bytes:
            return f"{node.name}: has several results"
        images.add(node.output.batch)
    return None if len(images) == 1 else "its feature maps differ in the number of images"


def _register() -> None:
    for mode, name in SCHEME_NAMES.items():
        register_scheme(name, partial(_make, mode=mode), rank=2)


def _make(capacity_bytes: int, *, mode: Mode) -> DepthFirst:
    return DepthFirst(capacity_bytes=capacity_bytes, mode=mode)


_register()
