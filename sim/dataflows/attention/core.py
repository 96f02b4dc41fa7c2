"""A core as an attention lowering sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilewright.sim.dataflows.attention.beside import Beside
from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile, key_tiles, pipeline, row_blocks
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.dataflows.attention.engine import EnginePasses
from tilewright.sim.dataflows.attention.kept import Stretch, kept_row_blocks
from tilewright.sim.dataflows.attention.listed import RowKind, kinds_in, kinds_of, listed_row_blocks
from tilewright.sim.engine.program import Channel
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.levels import channels_of
from tilewright.workloads.attention import AttentionLayer

__all__ = ["AttentionCore"]


class AttentionCore(TileCore[AttentionCosts]):
    """A core as an attention lowering sees it."""

    layer: AttentionLayer
    _beside: Beside | None = None
    levers = "use a smaller query or key tile, or stream K and V instead of keeping them resident"

    @classmethod
    def channels(cls, costs: AttentionCosts, tiling: Mapping[str, int]) -> tuple[Channel, ...]:
        return channels_of(costs.machine) if any(costs.layer.homes[:4]) else cls.of_dram(costs)

    def staging(self, tiling: Mapping[str, int]) -> Any:
        """How K and V come through a level on chip or over a link; None where they are loaded from their homes."""
        return None

    def comes_again(self, tiling: Mapping[str, int]) -> bool:
        """Whether K and V, kept in a level for a head, come from there for every row block."""
        return False

    def declared(self) -> None:
        """As of any core; then come the passes of a quantised engine, before the first phase."""
        passes = EnginePasses(self) if self.begins and self.layer.engine is not None else None
        if self.begins and (self.layer.choosing or self.layer.reorder == "copy"):
            self._beside = Beside(self)
        super().declared()
        if passes is not None:
            passes.run()
        if self._beside is not None:
            self._beside.before()

    def ended(self) -> None:
        """What comes behind the attention: its result in the order in which tokens are stored."""
        if self._beside is not None:
            self._beside.after()

    def row_blocks(self, query: int, key: int, *, resident: int = 0) -> tuple[Any, ...]:
        """The tree of row blocks; every pool must have been declared before."""
        self.declared()
        if self.layer.blocks is not None:
            unroll = self.builder.unroll
            if resident:
                return kept_row_blocks(self.layer, self.share, query=query, key=key, keep=resident, concrete=unroll)
            return listed_row_blocks(self.layer, self.row_kinds, query=query, key=key, concrete=unroll)
        return row_blocks(
            self.layer,
            n_groups=self.n_groups,
            query=query,
            key=key,
            resident=bool(resident),
            concrete=self.builder.unroll,
        )

    @property
    def row_kinds(self) -> tuple[tuple[RowKind, int], ...]:
        """Kinds of rows of blocks that this core does, under a mask of lists: its share, or all."""
        if self.share is None:
            return kinds_of(self.layer)
        kinds: Counter[RowKind] = Counter()
        for one, count in self.share:
            if not isinstance(one, Stretch):
                return self.share  # type: ignore[no-any-return]
            for kind, n in kinds_in(self.layer, one.patterns, one.first, one.stop):
                kinds[kind] += n * count
        return tuple(kinds.items())

    def windows(self, tree: Sequence[Any], stages: int) -> Iterator[tuple[Any, ...]]:
        return pipeline(self, tree, stages)

    def distinct_windows(self, tree: Sequence[Any], stages: int) -> Iterator[tuple[Any, ...]]:
        """:meth:`windows`, for lowerings whose commands depend on the window alone.

        Where work is only counted, each different window comes once and counts as often as it stands there: a causal
        layer has thousands of windows and a few dozen different ones.
        """
        if self._count is None:
            yield from self.windows(tree, stages)
            return
        often: dict[tuple[Any, ...], int] = {}
        for window in self.windows(tree, stages):
            often[window] = often.get(window, 0) + self._count.times
        for window, times in often.items():
            for _ in self._count.repeated(times):
                yield window

    def key_tiles(self, block: RowBlock, key: int) -> Iterator[Tile]:
        return key_tiles(self, block, key)
