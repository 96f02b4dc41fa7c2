"""What joins the scores on their way into softmax: tiles of a bias, and the sinks' logits.

The bias comes tile by tile, for every row block (or step) and key tile, into a pool of its own, and the first pass of
softmax over a tile adds it. The sinks' logits of the core's heads are loaded once, before anything else: loads run in
order, so whoever has scores to work on finds them there.

When the tiles of a row block are loaded depends on the dataflow. In a window that holds the scores of a new block and
the softmax of an old one, those of the old block come first: its scores are there, so that it waits for nothing that is
loaded later. Where both are the same block they come behind the keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.lowering.core import Pool


class Joins:
    """Bias tiles of up to ``rows`` by ``key`` scores in ``slots`` slots, and the sinks, if the layer has them."""

    def __init__(self, core: AttentionCore, *, rows: int, key: int, slots: int = 2) -> None:
        layer, costs = core.layer, core.costs
        self.key = key
        self.bias: Pool | None = None
        if layer.has_bias:
            self.bias = core.pool("bias", slots=slots, slot_bytes=costs.bias_tile_bytes(rows, key))
        if layer.sinks:
            core.reserve("sinks", costs.sink_bytes)
            core.load(costs.load_sinks(core.n_groups), label="load sinks", run=("load_sinks",))

    def load_row(self, core: AttentionCore, block: RowBlock) -> None:
        """Bring the bias of all tiles of a row block, as slots become free."""
        if self.bias is not None:
            for tile in core.key_tiles(block, self.key):
                self.load(core, block, tile)

    def load(self, core: AttentionCore, block: RowBlock, tile: Tile) -> None:
        """Bring the bias of one tile of a row block."""
        self.load_tile(core, block.rows, tile.keys, run=("load_bias", block, tile))

    def load_tile(self, core: AttentionCore, rows: int, keys: int, *, run: Any) -> None:
        """Bring the bias of ``rows`` by ``keys`` scores."""
        if self.bias is not None:
            core.load(
                core.costs.load_bias(rows, keys),
                waits=[self.bias.free],
                signals=[self.bias.full],
                label="load bias",
                run=run,
            )

    @property
    def waits(self) -> Sequence[int]:
        """What the command that adds the bias of a tile waits for."""
        return () if self.bias is None else (self.bias.full,)

    @property
    def signals(self) -> Sequence[int]:
        """What it gives back."""
        return () if self.bias is None else (self.bias.free,)
