"""Pieces that the attention dataflows share: pools, loads, the three softmax passes, the two products.

Each function issues the commands of one stage for one row block. Which tokens bind the stages together is
what makes the dataflows differ, so the tokens are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile
from tilewright.sim.dataflows.attention.cached import Cached
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.joins import Joins
from tilewright.sim.dataflows.attention.kept import HEAD, most_kept, promises, worth_keeping
from tilewright.sim.dataflows.attention.listed import (
    empty_rows,
    kinds_of,
    legal_lists,
    list_key_sizes,
    most_listed_keys,
)
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.mapping import Parameter, Tiling, tile_sizes
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer

# -- parameters of the mappings ----------------------------------------------------------------------------


def _query_sizes(layer: AttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    if layer.blocks is not None:
        return tile_sizes(min(layer.blocks.block_rows, layer.query_len), machine.matrix.rows)
    heads = layer.query_heads // layer.kv_heads
    sizes = tile_sizes(layer.query_len, machine.matrix.rows)
    # A head of few rows (decode) may share a tile with the other heads of its group.
    if layer.query_len < machine.matrix.rows and heads > 1:
        sizes = tuple(dict.fromkeys([layer.query_len * n for n in (heads, ceil_div(heads, 2))] + list(sizes)))
    return sizes


def _key_sizes(layer: AttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    if layer.blocks is not None:
        return list_key_sizes(layer, machine)
    return tile_sizes(layer.key_len, machine.matrix.columns)


def _most_query_rows(layer: AttentionLayer) -> int:
    if layer.blocks is not None:
        return min(layer.blocks.block_rows, layer.query_len)
    return layer.query_len * (layer.query_heads // layer.kv_heads)


def _least_rows(layer: AttentionLayer, machine: MachineSpec) -> int:
    return min(_most_query_rows(layer) if layer.blocks is not None else layer.query_len, machine.matrix.rows)


def _least_keys(layer: AttentionLayer, machine: MachineSpec) -> int:
    return min(_key_sizes(layer, machine) if layer.blocks is not None else (layer.key_len, machine.matrix.columns))


def query_parameter(name: str = "query") -> Parameter:
    """The query tile."""
    return Parameter(
        name=name,
        meaning="query rows of a row block",
        candidates=_query_sizes,
        largest=_most_query_rows,
        least=_least_rows,
    )


def key_parameter(name: str = "key") -> Parameter:
    """The key tile."""
    return Parameter(
        name=name,
        meaning="keys of a key/value tile",
        candidates=_key_sizes,
        largest=lambda layer: layer.key_len,
        least=_least_keys,
    )


def depth_parameter(name: str = "depth") -> Parameter:
    """Slots of the key and value tile buffers."""
    return Parameter(
        name=name,
        meaning="slots of the key and value tile buffers (2 is a double buffer)",
        candidates=lambda layer, machine: (2, 3),
        largest=lambda layer: 64,
        changes_work=False,
    )


def resident_parameter() -> Parameter:
    """Whether a head's K and V stay on chip."""
    return Parameter(
        name="resident",
        meaning="1 keeps a head's K and V on chip for all its row blocks, 0 streams them for each; of a list 1 keeps "
        "blocks that the next row block lists, too, 2 all until the last that lists them",
        candidates=lambda layer, machine: tuple(range(_most_resident(layer, search=True) + 1)),
        smallest=0,
        largest=_most_resident,
    )


def _most_resident(layer: AttentionLayer, *, search: bool = False) -> int:
    if layer.blocks is not None:
        return HEAD if not search or worth_keeping(layer) else 0
    return 0 if layer.mask == "banded" else 1


def slots_of_keys(layer: AttentionLayer, tiling: Tiling) -> int:
    """Slots of K, and of V: tiles on their way, and those that stay."""
    depth, resident = tiling["depth"], tiling.get("resident", 0)
    if resident and layer.blocks is not None:
        return depth + most_kept(layer, tiling["query"], tiling["key"], resident)
    # One copy of the head's tiles; with depth 2 the next head's are brought in behind them.
    return ceil_div(layer.key_len, tiling["key"]) * max(1, depth - 1) if resident else depth


STANDARD = (query_parameter(), key_parameter(), depth_parameter(), resident_parameter())

# A masked layer whose tiles do not nest has row blocks of irregular length: each is then written out, so the
# search keeps to tilings that nest, or that give few blocks.
FEW_BLOCKS = 16


def legal(layer: AttentionLayer, tiling: Tiling) -> bool:
    """Leave out what cannot win: a third slot for resident tiles, masks cut by tiles that do not nest."""
    if tiling.get("resident") and tiling.get("depth", 2) > 2:
        return False
    if layer.blocks is not None:
        keeps = tiling.get("resident", 0)
        return legal_lists(layer, tiling) and (not keeps or promises(layer, tiling["query"], tiling["key"]))
    if layer.mask != "none" and tiling["query"] * layer.stripes % (tiling["key"] * layer.key_parts):
        return ceil_div(layer.query_len, tiling["query"]) <= FEW_BLOCKS
    return True


def rows_of(layer: AttentionLayer, query: int) -> int:
    """Most rows that a row block of the given query tile holds (whole heads above one head's rows)."""
    if query <= layer.query_len:
        return query
    heads = layer.query_heads // layer.kv_heads
    return min(query // layer.query_len, heads) * layer.query_len


def row_width(layer: AttentionLayer, key: int, query: int) -> int:
    """Keys of the widest row block, in whole tiles but not beyond N."""
    if layer.blocks is not None:
        return min(layer.key_len, most_listed_keys(layer))
    if layer.mask != "banded":
        return layer.key_len
    return min(layer.key_len, _most_tiles(layer, key, min(query, layer.query_len)) * key)


@lru_cache(maxsize=4096)
def _most_tiles(layer: AttentionLayer, key: int, query: int) -> int:
    """Key tiles of the row block of ``query`` rows that sees the most of them.

    While the band is cut by the first key, each block sees more tiles than the one before; once it is cut by the last,
    fewer: of those the last and the first will do. Between, blocks see as many keys, which begin ``query`` further
    each time (times ``stripes``), so that their places within a tile (of dealt keys, of all parts together) repeat
    after key / gcd(query, key) blocks.
    """
    n_blocks = ceil_div(layer.query_len, query)

    def tiles(block: int) -> int:
        low, high = layer.visible_keys(block * query, min(query, layer.query_len - block * query))
        return ceil_div(high, key) - low // key

    def first_block(reached: Callable[[int, int], bool]) -> int:
        """The first whole row block for which it is so, as it then is for all later ones."""
        low, high = 0, n_blocks - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(*layer.visible_keys(middle * query, query)) else (middle + 1, high)
        return low

    free = first_block(lambda low, high: low > 0)
    cut = first_block(lambda low, high: high >= layer.key_len)
    begin, end = min(free, cut), max(free, cut)
    of_all = key * layer.key_parts if layer.deals_keys else key
    between = range(begin, min(end, begin + of_all // math.gcd(query * layer.stripes, of_all)) + 1)
    return max(tiles(block) for block in {0, *between, max(0, begin - 1), max(0, end - 1), end, n_blocks - 1})


# -- pools -------------------------------------------------------------------------------------------------


class Operands:
    """Q, K, V and O in the working buffer."""

    def __init__(
        self,
        core: AttentionCore,
        tiling: Tiling,
        *,
        values: bool = True,
        scores: bool = True,
        key_slots: int | None = None,
    ) -> None:
        layer, costs = core.layer, core.costs
        rows = rows_of(layer, tiling["query"])
        self.core = core
        self.key = tiling["key"]
        self.resident = bool(tiling.get("resident"))
        self.staging = core.staging(tiling)
        self.comes_again = core.comes_again(tiling)  # from a level, for every row block
        # Which row block is the first to need a tile, and how long it stays.
        self.follows = tiling.get("resident", 0) or int(self.comes_again)
        slots = slots_of_keys(layer, tiling)
        key_bytes = costs.key_bytes(self.key * layer.head_dim)
        value_bytes = costs.value_bytes(self.key * layer.value_dim)
        if scores:
            self.q = core.pool("Q", slots=2, slot_bytes=costs.query_bytes(rows * layer.head_dim))
            self.k = core.pool(
                "K", slots=slots if key_slots is None else key_slots, slot_bytes=key_bytes, holds="weights"
            )
        if values:
            self.v = core.pool("V", slots=slots, slot_bytes=value_bytes, holds="weights")
            self.o = core.pool("O", slots=2, slot_bytes=costs.accumulator_bytes(rows * layer.value_dim), holds="sums")

    def loads(self, tile: Tile) -> bool:
        """Whether a tile of K or V must be brought in for a row block."""
        return tile.fresh or self.comes_again

    def gives_back(self, tile: Tile) -> bool:
        """Whether the slot of ``tile`` is free after this use."""
        return not self.resident or tile.release


def score_pool(core: AttentionCore, tiling: Tiling, *, slots: int, name: str = "S/P") -> Pool:
    """Rows of S, turned into P in place: ``slots`` row blocks."""
    layer = core.layer
    width = row_width(layer, tiling["key"], tiling["query"])
    n_bytes = core.costs.score_bytes(rows_of(layer, tiling["query"]) * width)
    return core.pool(name, slots=slots, slot_bytes=n_bytes, holds="sums")


def joins_of(core: AttentionCore, tiling: Tiling) -> Joins:
    """What joins the scores of whole row blocks."""
    rows = rows_of(core.layer, tiling["query"])
    return Joins(core, rows=rows, key=tiling["key"], slots=tiling["depth"])


# -- stages ------------------------------------------------------------------------------------------------


def scores_stage(
    core: AttentionCore,
    data: Operands,
    block: RowBlock,
    *,
    first_waits: Sequence[int] = (),
    tile_signals: Sequence[int] = (),
    last_signals: Sequence[int] = (),
) -> None:
    """S of one row block: load Q, then per key tile load K and multiply."""
    core.load(
        core.costs.load_q(block.rows),
        waits=[data.q.free],
        signals=[data.q.full],
        label="load Q",
        run=("load_q", block),
    )
    for tile in core.key_tiles(block, data.key):
        if data.loads(tile):
            load_key(core, data, block, tile)
        score_tile(
            core,
            data,
            block,
            tile,
            waits=first_waits if tile.first else (),
            signals=[*tile_signals, *(last_signals if tile.last else ())],
        )


def load_key(core: AttentionCore, data: Operands, block: RowBlock, tile: Tile, *, waits: Sequence[int] = ()) -> None:
    """Bring one K tile."""
    if data.staging is not None:
        data.staging.load("k", tile, data.k, tile.keys * core.layer.head_dim, (block, tile))
        return
    core.load(
        core.costs.load_keys(tile.keys),
        waits=[data.k.free, *waits],
        signals=[data.k.full],
        label="load K",
        run=("load_k", block, tile),
    )


def score_tile(
    core: AttentionCore,
    data: Operands,
    block: RowBlock,
    tile: Tile,
    *,
    waits: Sequence[int] = (),
    signals: Sequence[int] = (),
) -> None:
    """One tile of QK^T; the first takes Q, the last gives it back."""
    core.matrix(
        core.costs.scores(block.rows, tile.keys),
        waits=[
            *((data.q.full,) if tile.first else ()),
            *((data.k.full,) if data.loads(tile) else ()),
            *waits,
        ],
        signals=[
            *((data.k.free,) if data.gives_back(tile) else ()),
            *((data.q.free,) if tile.last else ()),
            *signals,
        ],
        label="Q K^T",
        run=("scores", block, tile),
    )


def softmax_stage(
    core: AttentionCore,
    block: RowBlock,
    key: int,
    joins: Joins,
    *,
    first_waits: Sequence[int] = (),
    tile_waits: Sequence[int] = (),
    tile_signals: Sequence[int] = (),
    last_signals: Sequence[int] = (),
) -> None:
    """Softmax of one row block in three passes over its key tiles, the first of which takes in what ``joins``.

    ``tile_waits`` bind the first pass tile by tile, ``tile_signals`` come from the last one.
    """
    costs, sinks = core.costs, core.layer.sinks
    for tile in core.key_tiles(block, key):
        core.vector(
            costs.row_maximum(block.rows, tile.keys, sink=sinks and tile.first),
            waits=[*tile_waits, *joins.waits, *(first_waits if tile.first else ())],
            signals=joins.signals,
            label="row maximum",
            run=("row_maximum", block, tile),
        )
    for tile in core.key_tiles(block, key):
        core.vector(
            costs.exponentials(block.rows, tile.keys, sink=sinks and tile.first),
            label="exponentials",
            run=("exponentials", block, tile),
        )
    for tile in core.key_tiles(block, key):
        core.vector(
            costs.normalise(block.rows, tile.keys),
            signals=[*tile_signals, *(last_signals if tile.last else ())],
            label="normalise",
            run=("normalise", block, tile),
        )


def values_stage(
    core: AttentionCore,
    data: Operands,
    block: RowBlock,
    *,
    first_waits: Sequence[int] = (),
    tile_waits: Sequence[int] = (),
    tile_signals: Sequence[int] = (),
    last_signals: Sequence[int] = (),
    stores: bool = True,
) -> None:
    """O of one row block: per key tile load V and multiply with P; then store O, unless something is to join it."""
    for tile in core.key_tiles(block, data.key):
        load_value(core, data, block, tile)
        value_tile(
            core,
            data,
            block,
            tile,
            waits=[*(first_waits if tile.first else ()), *tile_waits],
            signals=[*tile_signals, *(last_signals if tile.last else ())],
        )
    if stores:
        store_output(core, data, block)


def load_value(core: AttentionCore, data: Operands, block: RowBlock, tile: Tile) -> None:
    """Bring one V tile, unless it is on chip already."""
    if not data.loads(tile):
        return
    if data.staging is not None:
        data.staging.load("v", tile, data.v, tile.keys * core.layer.value_dim, (block, tile))
    else:
        core.load(
            core.costs.load_values(tile.keys),
            waits=[data.v.free],
            signals=[data.v.full],
            label="load V",
            run=("load_v", block, tile),
        )


def value_tile(
    core: AttentionCore,
    data: Operands,
    block: RowBlock,
    tile: Tile,
    *,
    waits: Sequence[int] = (),
    signals: Sequence[int] = (),
    run: str = "values",
) -> None:
    """One tile of P V; the first takes a slot of O, the last hands it on."""
    core.matrix(
        core.costs.values(block.rows, tile.keys, add_to=not tile.first),
        waits=[
            *((data.v.full,) if data.loads(tile) else ()),
            *((data.o.free,) if tile.first else ()),
            *waits,
        ],
        signals=[
            *((data.v.free,) if data.gives_back(tile) else ()),
            *((data.o.full,) if tile.last else ()),
            *signals,
        ],
        label="P V",
        run=(run, block, tile),
    )


def join_cached(core: AttentionCore, data: Operands, block: RowBlock, cached: Cached, joined: int) -> None:
    """What an earlier step left joins O of one row block, which is then stored."""
    n = block.rows * core.layer.value_dim
    bits = n * core.costs.accumulator_bits
    core.vector(
        core.costs.vector(
            cached.operations(n), reads_bits=bits + cached.reads_bits(core, block.rows), writes_bits=bits
        ),
        waits=[data.o.full, *cached.waits],
        signals=[joined, *cached.signals],
        label="add cached",
        run=("add_cached", block),
    )
    store_output(core, data, block, ready=joined)


def store_output(core: AttentionCore, data: Operands, block: RowBlock, *, ready: int | None = None) -> None:
    """Write O of one row block to DRAM and free its slot."""
    core.store(
        core.costs.store_o(block.rows),
        waits=[data.o.full if ready is None else ready],
        signals=[data.o.free],
        label="store O",
        run=("store_o", block),
    )


def zeros_pool(core: AttentionCore, tiling: Tiling) -> Pool | None:
    """Room for the zeros of row blocks that see nothing; None where all of the layer see something."""
    layer = core.layer
    if layer.blocks is None or not empty_rows(layer, kinds_of(layer), query=tiling["query"], key=tiling["key"]):
        return None
    n_bytes = core.costs.accumulator_bytes(rows_of(layer, tiling["query"]) * layer.value_dim)
    return core.pool("zeros", slots=1, slot_bytes=n_bytes, holds="sums")


def store_empty(core: AttentionCore, zeros: Pool | None, cached: Cached, tiling: Tiling) -> None:
    """Zeros for the row blocks of a list that see nothing."""
    if zeros is None:
        return
    layer, costs = core.layer, core.costs
    own = empty_rows(layer, core.row_kinds, query=tiling["query"], key=tiling["key"], concrete=core.unroll)
    for count, block in own:
        for _ in core.loop(count, name="empty rows"):
            bits = block.rows * layer.value_dim * costs.accumulator_bits
            cached.load(core, block.rows, run=("load_cached", block))
            core.vector(
                costs.vector((), reads_bits=cached.reads_bits(core, block.rows), writes_bits=bits),
                waits=[zeros.free, *cached.waits],
                signals=[zeros.full, *cached.signals],
                label="zeros",
                run=("clear", block),
            )
            core.store(
                costs.store_o(block.rows),
                waits=[zeros.full],
                signals=[zeros.free],
                label="store zeros",
                run=("store_zeros", block),
            )


def prefixed_standard(prefix: str) -> tuple[Parameter, ...]:
    """The standard parameters under the names of one pass (``qk_query``, ``qk_key``, …)."""
    return tuple(replace(parameter, name=f"{prefix}_{parameter.name}") for parameter in STANDARD)


def legal_prefixed(prefix: str) -> Callable[[AttentionLayer, Tiling], bool]:
    """:func:`legal` for the parameters of one pass."""

    def check(layer: AttentionLayer, tiling: Tiling) -> bool:
        return legal(layer, {name.removeprefix(f"{prefix}_"): value for name, value in tiling.items()})

    return check
