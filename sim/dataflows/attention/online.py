"""One-pass ("online") softmax: the order of work that `fusemax` and `flash2` share.

Queries outside, key tiles inside, and inside these the sub-blocks of a resident query block. Each step is one
(key tile, sub-block); the running row maximum, row sum and output of every sub-block stay on chip, so the
buffer need does not depend on the number of keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.blocks import Repeat, RowBlock, Run, Tile, tile_groups
from tilewright.sim.dataflows.attention.cached import Cached
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.joins import Joins
from tilewright.sim.dataflows.attention.listed import empty_rows
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.mapping import Tiling
from tilewright.units import ceil_div


class Step(NamedTuple):
    """One sub-block of ``rows`` query rows against one key tile.

    opens, closes: the first and the last sub-block that uses the tile. The last three fields are set only
    to run on numbers: the row block, the tile, and the first row of the sub-block within the row block.
    """

    rows: int
    keys: int
    fresh: bool
    release: bool
    first: bool
    last: bool
    opens: bool
    closes: bool
    block: RowBlock | None = None
    tile: Tile | None = None
    offset: int = 0

    @property
    def is_new(self) -> bool:
        """Whether the tile's K and V have not been on chip for an earlier row block of their head."""
        return self.fresh and self.opens


class OnlineData:
    """Q, K, V, S tile and O of an online dataflow in the working buffer."""

    def __init__(self, core: AttentionCore, tiling: Tiling, *, scores_in_buffer: bool) -> None:
        layer, costs = core.layer, core.costs
        self.key = tiling["key"]
        rows = parts.rows_of(layer, tiling["query"])
        self.sub = min(tiling.get("rows", rows), rows)
        self.resident = bool(tiling["resident"])
        # A spare slot lets the next query block's first sub-block come in early.
        n_sub = ceil_div(rows, self.sub) + 1
        self.staging = core.staging(tiling)
        self.comes_again = core.comes_again(tiling)
        slots = parts.slots_of_keys(layer, tiling)
        self.q = core.pool("Q", slots=n_sub, slot_bytes=costs.query_bytes(self.sub * layer.head_dim))
        self.k = core.pool("K", slots=slots, slot_bytes=costs.key_bytes(self.key * layer.head_dim), holds="weights")
        self.v = core.pool("V", slots=slots, slot_bytes=costs.value_bytes(self.key * layer.value_dim), holds="weights")
        self.o = core.pool(
            "O", slots=n_sub, slot_bytes=costs.accumulator_bytes(self.sub * layer.value_dim), holds="sums"
        )
        tile_bytes = costs.score_bytes(self.sub * self.key) if scores_in_buffer else 0
        self.s = core.pool("S/P", slots=2, slot_bytes=tile_bytes, holds="sums")
        self.joins = Joins(core, rows=self.sub, key=self.key)
        self.cached = Cached(core, rows=self.sub)
        core.reserve("row maxima and sums", n_sub * costs.accumulator_bytes(2 * self.sub), holds="sums")

    def loads(self, step: Step) -> bool:
        """Whether the tile's K and V must be brought in for a step."""
        return step.opens and (step.fresh or self.comes_again)

    def gives_back(self, step: Step) -> bool:
        """Whether the slots of the step's K and V tile are free after it."""
        return step.closes and (not self.resident or step.release)


def steps(core: AttentionCore, tiling: Tiling, sub: int) -> tuple[Any, ...]:
    """The tree of steps of all row blocks."""
    follows = tiling["resident"] or int(core.comes_again(tiling))  # which row block is the first to need a tile
    blocks = core.row_blocks(tiling["query"], tiling["key"], resident=follows)
    return tuple(_expand(core, blocks, tiling["key"], sub))


def _expand(core: AttentionCore, tree: tuple[Any, ...], key: int, sub: int) -> Iterator[Any]:
    for item in tree:
        if isinstance(item, Repeat):
            yield item._replace(body=tuple(_expand(core, item.body, key, sub)))
        elif isinstance(item, Run):
            yield Repeat(item.times, tuple(_steps_of(item.first, key, sub, concrete=False)), "rows")
        else:
            yield from _steps_of(item, key, sub, concrete=core.unroll)


def _steps_of(block: RowBlock, key: int, sub: int, *, concrete: bool) -> Iterator[Any]:
    for count, step, tile in tile_groups(block, key, concrete=concrete):
        body = tuple(_subs(block, tile, sub, concrete=concrete))
        if count == 1 and not step:
            yield from body
        else:
            yield Repeat(count, body, "keys", step)


def _subs(block: RowBlock, tile: Tile, sub: int, *, concrete: bool) -> Iterator[Any]:
    """The sub-blocks of one key tile: the first and the last stand alone."""
    n = ceil_div(block.rows, sub)

    def step(i: int) -> Step:
        plain = Step(
            min(sub, block.rows - i * sub),
            tile.keys,
            tile.fresh,
            tile.release,
            tile.first,
            tile.last,
            i == 0,
            i == n - 1,
        )
        return plain._replace(block=block, tile=tile, offset=i * sub) if concrete else plain

    if concrete or n <= 3:
        yield from (step(i) for i in range(n))
        return
    yield step(0)
    yield Repeat(n - 2, (step(1),), "sub-blocks")
    yield step(n - 1)


# -- loads and stores --------------------------------------------------------------------------------------


def load_for_scores(core: AttentionCore, data: OnlineData, step: Step) -> None:
    """Q of the sub-block (with its first key tile), K of the tile (with its first sub-block), and the step's bias."""
    if step.first:
        core.load(
            core.costs.load_q(step.rows),
            waits=[data.q.free],
            signals=[data.q.full],
            label="load Q",
            run=("load_q_rows", step),
        )
    if data.loads(step):
        _load_keys(core, data, step)
    data.joins.load_tile(core, step.rows, step.keys, run=("load_bias_rows", step))
    if step.last:
        data.cached.load(core, step.rows, run=("load_cached_rows", step))


def load_for_values(core: AttentionCore, data: OnlineData, step: Step) -> None:
    """V of the tile (with its first sub-block)."""
    if data.loads(step):
        _load_values(core, data, step)


def _load_keys(core: AttentionCore, data: OnlineData, step: Step) -> None:
    layer, costs, run = core.layer, core.costs, (step.block, step.tile)
    if data.staging is not None:
        data.staging.load("k", step, data.k, step.keys * layer.head_dim, run)
        return
    core.load(
        costs.load_keys(step.keys),
        waits=[data.k.free],
        signals=[data.k.full],
        label="load K",
        run=("load_k", *run),
    )


def _load_values(core: AttentionCore, data: OnlineData, step: Step) -> None:
    layer, costs, run = core.layer, core.costs, (step.block, step.tile)
    if data.staging is not None:
        data.staging.load("v", step, data.v, step.keys * layer.value_dim, run)
        return
    core.load(
        costs.load_values(step.keys),
        waits=[data.v.free],
        signals=[data.v.full],
        label="load V",
        run=("load_v", *run),
    )


def score_command(
    core: AttentionCore,
    data: OnlineData,
    step: Step,
    *,
    signals: list[int],
    waits: Sequence[int] = (),
    work: Any = None,
) -> None:
    """S tile of one step; takes Q with the first key tile and gives it back with the last."""
    core.matrix(
        core.costs.scores(step.rows, step.keys) if work is None else work,
        waits=[
            data.s.free,
            *((data.q.full,) if step.first else ()),
            *((data.k.full,) if data.loads(step) else ()),
            *waits,
        ],
        signals=[
            *((data.k.free,) if data.gives_back(step) else ()),
            *((data.q.free,) if step.last else ()),
            *signals,
        ],
        label="Q K^T",
        run=("scores_rows", step),
    )


def store_empty(core: AttentionCore, data: OnlineData, tiling: Tiling) -> None:
    """Zeros for the row blocks of a list that see nothing."""
    layer, costs = core.layer, core.costs
    if layer.blocks is None:
        return
    own = empty_rows(layer, core.row_kinds, query=tiling["query"], key=tiling["key"], concrete=core.unroll)
    for count, block in own:
        for _ in core.loop(count, name="empty rows"):
            for offset in range(0, block.rows, data.sub):
                rows = min(data.sub, block.rows - offset)
                step = Step(rows, 0, False, False, True, True, True, True, block, None, offset)
                bits = rows * layer.value_dim * costs.accumulator_bits
                cached = data.cached
                cached.load(core, rows, run=("load_cached_rows", step))
                core.vector(
                    costs.vector((), reads_bits=cached.reads_bits(core, rows), writes_bits=bits),
                    waits=[data.o.free, *cached.waits],
                    signals=[data.o.full, *cached.signals],
                    label="zeros",
                    run=("clear_rows", step),
                )
                store_rows(core, data, step, data.o)


def store_rows(core: AttentionCore, data: OnlineData, step: Step, done: Pool) -> None:
    """Write the finished O of one sub-block to DRAM."""
    core.store(
        core.costs.store_o(step.rows),
        waits=[done.full],
        signals=[done.free],
        label="store O",
        run=("store_o_rows", step),
    )
