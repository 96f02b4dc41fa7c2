"""FlashSVD's attention (Shao et al., arXiv 2508.01506): rows of Q, K and V are made from their factors tile by tile.

Group by group and head by head: the head's U is loaded, and for each block of queries Q is made; then for each tile of
keys K is made, scores, their exponentials against a running maximum (online softmax), V, and what it adds to the
result. None of Q, K, V and the scores leaves the chip. While the vector unit does one tile's exponentials, the matrix
unit makes K and the scores of the next. ``kept=1`` holds all rows of P of a group on chip, for all its heads and
blocks of queries; 0 brings them anew wherever they are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.low_rank.costs import LowRankCosts, low_rank_bound, low_rank_least
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.lowering.core import Pool, TileCore
from tilewright.sim.lowering.family import Family, register_family
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.units import ceil_div
from tilewright.workloads.low_rank import LowRankAttentionLayer

__all__ = ["FLASH_SVD", "At", "LowRankCore"]


class LowRankCore(TileCore[LowRankCosts]):
    """A core as the lowering sees it."""

    layer: LowRankAttentionLayer
    levers = "use a smaller query or key tile, or bring the rows of P anew (kept=0)"


class At(NamedTuple):
    """Where the loops stand: a block of queries of a head, and a tile of its keys."""

    group: int
    head: Span
    query: Span
    key: Span

    @property
    def begins(self) -> bool:
        """Whether the block of queries is the first that its group's rows of P meet."""
        return self.head.first and self.query.first

    @property
    def ends(self) -> bool:
        """Whether it is the last."""
        return self.head.last and self.query.last


class _Tile(NamedTuple):
    """A tile of keys and the one before it, whose values are summed behind this one's scores."""

    here: Span
    before: Span | None


def lower(core: LowRankCore, tiling: Tiling) -> None:
    """All groups, heads, blocks of queries and tiles of keys."""
    kernel = _Kernel(core, tiling)
    core.declared()
    layer = core.layer
    for group in core.loop(core.n_groups, name="groups"):
        for head in spans(core, layer.heads, 1, "heads"):
            kernel.factors(At(group, head, _NONE, _NONE))
            for query in spans(core, layer.query_len, kernel.query, "queries"):
                kernel.block(group, head, query)


_NONE = Span(0, True, True)


class _Kernel:
    """The pools of a tiling and the commands of a block of queries."""

    def __init__(self, core: LowRankCore, tiling: Tiling) -> None:
        layer, costs = core.layer, core.costs
        self.core, self.layer, self.costs = core, layer, costs
        self.query, self.key = min(tiling["query"], layer.query_len), min(tiling["key"], layer.key_len)
        self.kept = bool(tiling["kept"])
        depth = tiling["depth"]
        n_queries = ceil_div(layer.query_len, self.query) if self.kept else 2
        n_keys = ceil_div(layer.key_len, self.key) if self.kept else depth
        rows = costs.input_bytes
        self.u = core.pool("factors", slots=2, slot_bytes=costs.factor_bytes(), holds="weights")
        self.p_q = core.pool("rows of queries", slots=n_queries, slot_bytes=rows(self.query))
        self.p_k = core.pool("rows of keys", slots=n_keys, slot_bytes=rows(self.key))
        self.p_v = core.pool("rows of values", slots=n_keys, slot_bytes=rows(self.key))
        self.q = core.pool("Q", slots=1, slot_bytes=costs.tile_bytes(self.query, layer.head_dim))
        self.k = core.pool("K", slots=1, slot_bytes=costs.tile_bytes(self.key, layer.head_dim), holds="weights")
        self.v = core.pool("V", slots=1, slot_bytes=costs.tile_bytes(self.key, layer.value_dim), holds="weights")
        self.s = core.pool("S/P", slots=2, slot_bytes=costs.score_bytes(self.query, self.key), holds="sums")
        self.o = core.pool("O", slots=2, slot_bytes=costs.sum_bytes(self.query), holds="sums")
        core.reserve("row maxima and sums", 4 * self.query * 4, holds="sums")
        self.weighted = core.semaphore("exponentials done")
        self.added = core.semaphore("values added")
        self.summed = core.semaphore("rows summed")

    # -- loops -------------------------------------------------------------------------------------------

    def tiles(self) -> Iterator[_Tile]:
        """Tiles of keys; the first two and the last stand alone, for the one before each is the first in the second."""
        extent, tile, core = self.layer.key_len, self.key, self.core
        n = ceil_div(extent, tile)
        if n == 1:
            yield _Tile(Span(extent, True, True), None)
            return
        first = Span(tile, True, False)
        last = Span(extent - (n - 1) * tile, False, True, (n - 1) * tile)
        yield _Tile(first, None)
        if n == 2:
            yield _Tile(last, first)
            return
        second = Span(tile, False, False, tile)
        yield _Tile(second, first)
        if core.unroll:
            before = second
            for i in range(2, n - 1):
                here = Span(tile, False, False, i * tile)
                yield _Tile(here, before)
                before = here
            yield _Tile(last, before)
            return
        for _ in core.loop(n - 3, name="keys"):
            yield _Tile(Span(tile, False, False), Span(tile, False, False))
        yield _Tile(last, Span(tile, False, False))

    # -- commands ----------------------------------------------------------------------------------------

    def factors(self, at: At) -> None:
        """U of a head."""
        self.core.load(
            self.costs.load_factors(), waits=[self.u.free], signals=[self.u.full], label="load U", run=("svd_u", at)
        )

    def _rows(self, pool: Pool, at: At, rows: int, what: str) -> None:
        """Rows of P, unless they are on chip already."""
        if what == "q" and self.kept and not at.head.first:
            return
        if what != "q" and self.kept and not at.begins:
            return
        self.core.load(
            self.costs.load_rows(rows),
            waits=[pool.free],
            signals=[pool.full],
            label=f"load P_{what}",
            run=("svd_rows", at, what),
        )

    def block(self, group: int, head: Span, query: Span) -> None:
        """All tiles of keys against one block of queries of a head."""
        core, costs, layer = self.core, self.costs, self.layer
        at = At(group, head, query, _NONE)
        self._rows(self.p_q, at, query.size, "q")
        new, gone = not self.kept or head.first, not self.kept or head.last
        core.matrix(
            costs.make(query.size, layer.head_dim),
            waits=[*([self.u.full] if query.first else []), *([self.p_q.full] if new else []), self.q.free],
            signals=[self.p_q.free] if gone else [],
            label="Q from P",
            run=("svd_make", at, "q"),
        )
        for tile in self.tiles():
            here = at._replace(key=tile.here)
            self._rows(self.p_k, here, tile.here.size, "k")
            self._scores(here)
            self._softmax(here)
            if tile.before is not None:
                self._add_values(at._replace(key=tile.before))
            self._rows(self.p_v, here, tile.here.size, "v")
            if tile.here.last:
                self._add_values(here)
        core.vector(
            costs.normalise(query.size),
            waits=[self.summed],
            signals=[self.o.full],
            label="normalise",
            run=("svd_normalise", at),
        )
        core.store(
            costs.store_rows(query.size),
            waits=[self.o.full],
            signals=[self.o.free],
            label="store O",
            run=("svd_store", at),
        )

    def _scores(self, at: At) -> None:
        core, costs, keys = self.core, self.costs, at.key.size
        new, gone = not self.kept or at.begins, not self.kept or at.ends
        core.matrix(
            costs.make(keys, self.layer.head_dim),
            waits=[*([self.p_k.full] if new else []), self.k.free],
            signals=[self.p_k.free] if gone else [],
            label="K from P",
            run=("svd_make", at, "k"),
        )
        core.matrix(
            costs.scores(at.query.size, keys),
            waits=[self.s.free],
            signals=[self.s.full, self.k.free, *([self.q.free] if at.key.last else [])],
            label="Q K^T",
            run=("svd_scores", at),
        )

    def _softmax(self, at: At) -> None:
        first = at.key.first
        self.core.vector(
            self.costs.softmax(at.query.size, at.key.size, first=first),
            waits=[self.s.full, *([] if first else [self.added])],
            signals=[self.weighted],
            label="softmax",
            run=("svd_softmax", at),
        )

    def _add_values(self, at: At) -> None:
        core, costs, keys = self.core, self.costs, at.key.size
        new, gone = not self.kept or at.begins, not self.kept or at.ends
        over = at.key.last and at.query.last
        core.matrix(
            costs.make(keys, self.layer.value_dim),
            waits=[*([self.p_v.full] if new else []), self.v.free],
            signals=[*([self.p_v.free] if gone else []), *([self.u.free] if over else [])],
            label="V from P",
            run=("svd_make", at, "v"),
        )
        core.matrix(
            costs.values(at.query.size, keys, add_to=not at.key.first),
            waits=[self.weighted, *([self.o.free] if at.key.first else [])],
            signals=[self.v.free, self.s.free, self.summed if at.key.last else self.added],
            label="P V",
            run=("svd_values", at),
        )


register_family(
    Family(
        operator="low_rank_attention",
        layer=LowRankAttentionLayer,
        costs=LowRankCosts,
        bound=low_rank_bound,
        usual="flash_svd",
        core=LowRankCore,
        pieces=lambda layer, machine: layer.cuts(machine.n_cores),
        least=low_rank_least,
    )
)


def _query_sizes(layer: LowRankAttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    return tile_sizes(layer.query_len, machine.matrix.rows)


def _key_sizes(layer: LowRankAttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    return tile_sizes(layer.key_len, machine.matrix.columns)


FLASH_SVD = register(
    Dataflow(
        name="flash_svd",
        heeds_homes=True,
        summary="tiles of Q, K and V made from factors of low rank on chip, online softmax over key tiles",
        source="FlashSVD, Shao et al., arXiv 2508.01506",
        phases=(
            Phase(
                name="flash_svd",
                parameters=(
                    Parameter(
                        name="query",
                        meaning="query rows of a block",
                        candidates=_query_sizes,
                        largest=lambda layer: layer.query_len,
                    ),
                    Parameter(
                        name="key",
                        meaning="keys of a tile",
                        candidates=_key_sizes,
                        largest=lambda layer: layer.key_len,
                    ),
                    Parameter(
                        name="depth",
                        meaning="slots of the rows of keys, and of those of values, where they are brought anew",
                        candidates=lambda layer, machine: (2, 3),
                        largest=lambda layer: 64,
                        changes_work=False,
                    ),
                    Parameter(
                        name="kept",
                        meaning="1 keeps all rows of P of a group on chip for its heads and query blocks, 0 brings "
                        "them anew",
                        candidates=lambda layer, machine: (0, 1),
                        smallest=0,
                        largest=lambda layer: 1,
                    ),
                ),
                lower=lower,
                distinct=lambda layer, tiling: not tiling["kept"] or tiling["depth"] == 2,
            ),
        ),
        assumptions=(
            "biases of Q, K and V are there in the sums of their products, and cost only their bytes",
            "K and V are made anew for every block of queries of their head",
        ),
        operator="low_rank_attention",
    ),
    rank=20,
)
