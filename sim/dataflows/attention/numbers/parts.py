"""Which rows and keys a command of an unrolled lowering works on."""

from __future__ import annotations

from typing import NamedTuple

from tilewright.errors import ProgramError
from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile
from tilewright.sim.dataflows.attention.numbers.chip import Chip
from tilewright.sim.dataflows.attention.online import Step

__all__ = ["Part", "Rows", "part_of_block", "rows_of_block", "step_part", "tile_keys"]


class Rows(NamedTuple):
    """Query rows [first, first + n) among the stacked rows of kv head ``group``."""

    group: int
    first: int
    n: int

    @property
    def tag(self) -> str:
        return f"rows {self.first}-{self.first + self.n - 1} of kv head {self.group}"

    @property
    def at(self) -> tuple[int, slice]:
        return self.group, slice(self.first, self.first + self.n)


class Part(NamedTuple):
    """The rows and the key tile that a command works on, of a row block; ``closes``: the last of its sub-blocks."""

    block: RowBlock
    rows: Rows
    tile: Tile
    closes: bool = True

    @property
    def is_last_use(self) -> bool:
        """Whether its tile of K or V, one of those that stay for later row blocks of a list, goes after this."""
        return bool(self.block.given) and self.tile.release and self.closes

    @property
    def tag(self) -> str:
        return f"{self.rows.tag} and key tile {self.tile.index}"

    @property
    def seen(self) -> int:
        """Tiles of the row block before this one."""
        return self.tile.index - self.block.tile

    @property
    def tiles(self) -> int:
        return self.block.tiles


def part_of_block(block: RowBlock, tile: Tile) -> Part:
    """All the rows of a row block against one key tile."""
    return Part(block, rows_of_block(block), tile)


def step_part(step: Step) -> Part:
    """The rows of a step of a one-pass dataflow against its key tile."""
    block, tile = step.block, step.tile
    if block is None or tile is None:
        raise ProgramError("a step without coordinates: only an unrolled lowering runs on numbers")
    return Part(block, Rows(block.group, block.row + step.offset, step.rows), tile, step.closes)


def rows_of_block(block: RowBlock) -> Rows:
    """All the rows of a row block."""
    return Rows(block.group, block.row, block.rows)


def tile_keys(chip: Chip, tile: Tile) -> slice | list[int]:
    """The keys of a tile: side by side, or those of a list."""
    if tile.listed:
        return list(tile.listed)
    return slice(tile.index * chip.key, tile.index * chip.key + tile.keys)
