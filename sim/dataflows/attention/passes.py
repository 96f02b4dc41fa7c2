"""Passes of the unfused and half-fused dataflows, which send S or P through DRAM.

S and P lie in DRAM as rows of N values, so a tile of them is a strided transfer.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.joins import Joins
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.mapping import Tiling


def prefixed(tiling: Tiling, prefix: str, **fixed: int) -> dict[str, int]:
    """The parameters of one pass, by their plain names: ``pv_query`` of ``pv`` is ``query``."""
    own = {name.removeprefix(f"{prefix}_"): v for name, v in tiling.items() if name.startswith(f"{prefix}_")}
    return {"depth": 2, "resident": 0, **own, **fixed}


def store_tile(
    core: AttentionCore, block: RowBlock, tile: Tile, *, waits: Sequence[int], signals: Sequence[int], what: str
) -> None:
    """Write one tile of S or P (``what``) to DRAM."""
    core.store(
        _strided(core, block, tile, "store"),
        waits=waits,
        signals=signals,
        label=f"store {what}",
        run=(f"store_{what.lower()}", block, tile),
    )


def load_tile(
    core: AttentionCore, block: RowBlock, tile: Tile, *, waits: Sequence[int], signals: Sequence[int], what: str
) -> None:
    """Read one tile of S or P (``what``) from DRAM."""
    core.load(
        _strided(core, block, tile, "load"),
        waits=waits,
        signals=signals,
        label=f"load {what}",
        run=(f"load_{what.lower()}", block, tile),
    )


def _strided(core: AttentionCore, block: RowBlock, tile: Tile, way: str) -> Work:
    move = core.costs.load if way == "load" else core.costs.store
    return move(block.rows, tile.keys, core.costs.score_bits, stride_elements=core.layer.key_len)


def softmax_rows(
    core: AttentionCore,
    block: RowBlock,
    key: int,
    joins: Joins,
    *,
    first_waits: Sequence[int],
    ready: int,
    tile_waits: Sequence[int] = (),
) -> None:
    """Softmax of one row block; each tile of P is signalled when it is done, so that it can be stored."""
    parts.softmax_stage(core, block, key, joins, first_waits=first_waits, tile_waits=tile_waits, tile_signals=[ready])


def store_rows(core: AttentionCore, block: RowBlock, key: int, *, ready: int, pool: Pool) -> None:
    """Store P of one row block tile by tile; the last one frees the block's slot."""
    for tile in core.key_tiles(block, key):
        store_tile(core, block, tile, waits=[ready], signals=[pool.free] if tile.last else [], what="P")


def values_pass(core: AttentionCore, tiling: Tiling) -> None:
    """O = P V with P from DRAM: row blocks, key tiles inside; the next loads overlap."""
    data = parts.Operands(core, tiling, scores=False)
    rows = parts.rows_of(core.layer, tiling["query"])
    p = core.pool("P", slots=tiling["depth"], slot_bytes=core.costs.score_bytes(rows * tiling["key"]), holds="sums")
    for (block,) in core.windows(core.row_blocks(tiling["query"], tiling["key"], resident=data.resident), 1):
        for tile in core.key_tiles(block, data.key):
            load_tile(core, block, tile, waits=[p.free], signals=[p.full], what="P")
            parts.load_value(core, data, block, tile)
            parts.value_tile(core, data, block, tile, waits=[p.full], signals=[p.free], run="values_from_dram")
        parts.store_output(core, data, block)
