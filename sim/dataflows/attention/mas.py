"""MAS-Attention (arXiv 2411.17720): a matrix stream and a vector stream, bound only by data.

The matrix unit makes S of row block i+1 while the vector unit does softmax of block i, then O of block i.
There is no step barrier: a tile of S may enter softmax as soon as it is made, a tile of P is used as soon as
it is normalised.

Proactive overwrite (``overwrite=1``, K and V resident): with long rows, S and P of two blocks outgrow the
buffer. Then only one row block of S is held, and P of block i is written over the last K tiles. The matrix
unit makes the first tiles of S of block i+1, stops, consumes P of block i, the overwritten K tiles are loaded
again, and it resumes where it stopped. Reloads and stalls are commands like any other.
"""

from __future__ import annotations

import math
from fractions import Fraction

from tilewright.errors import InputError
from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.blocks import RowBlock, Tile
from tilewright.sim.dataflows.attention.cached import Cached
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.joins import Joins
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer


def lower(core: AttentionCore, tiling: Tiling) -> None:
    """Scores of the new block, softmax and values of the old one; tokens per tile, no barrier."""
    if tiling.get("overwrite"):
        lower_with_overwrite(core, tiling)
        return
    data = parts.Operands(core, tiling)
    s = parts.score_pool(core, tiling, slots=2)
    zeros = parts.zeros_pool(core, tiling)
    joins = parts.joins_of(core, tiling)
    cached = Cached(core, rows=parts.rows_of(core.layer, tiling["query"]))
    made = core.semaphore("S tile ready")
    normalised = core.semaphore("P tile ready")
    joined = core.semaphore("O joined") if cached.pool is not None else -1
    blocks = core.row_blocks(tiling["query"], tiling["key"], resident=data.follows)
    for new, old, *done in core.windows(blocks, 2 if cached.pool is None else 3):
        if old is not None:
            joins.load_row(core, old)
            cached.load(core, old.rows, run=("load_cached", old))
        if new is not None:
            parts.scores_stage(core, data, new, first_waits=[s.free], tile_signals=[made])
        if old is not None:
            parts.softmax_stage(core, old, data.key, joins, tile_waits=[made], tile_signals=[normalised])
            parts.values_stage(core, data, old, tile_waits=[normalised], last_signals=[s.free], stores=not done)
        if done and done[0] is not None:
            parts.join_cached(core, data, done[0], cached, joined)
    parts.store_empty(core, zeros, cached, tiling)


# -- proactive overwrite -----------------------------------------------------------------------------------


def overwritten_tiles(layer: AttentionLayer, tiling: Tiling) -> int:
    """How many K tiles P of one row block covers."""
    rows = parts.rows_of(layer, tiling["query"])
    tile_bits = tiling["key"] * layer.head_dim * layer.key_bits
    return math.ceil(Fraction(rows * layer.key_len * layer.score_bits) / tile_bits)


def lower_with_overwrite(core: AttentionCore, tiling: Tiling) -> None:
    """As :func:`lower` with one row block of S, and P over the last K tiles, which are loaded again."""
    layer, costs, key = core.layer, core.costs, tiling["key"]
    if layer.takes_cached:
        raise InputError('tile "overwrite": 1 leaves no room for what an earlier step left; given 1; allowed 0')
    if not tiling["resident"]:
        raise InputError('tile "overwrite": 1 needs resident=1: only resident K tiles can be written over')
    n_tiles = ceil_div(layer.key_len, key)
    covered = overwritten_tiles(layer, tiling)
    kept = n_tiles - covered
    if kept < 1:
        raise InputError(
            f'tile "overwrite": P of a row block covers {covered} K tiles of {n_tiles} and must leave one; '
            "use a smaller query tile"
        )
    data = parts.Operands(core, tiling, key_slots=kept)
    core.reserve("K tail, then P", covered * costs.key_bytes(key * layer.head_dim), holds="weights")
    row_bytes = costs.score_bytes(parts.rows_of(layer, tiling["query"]) * key)
    s = core.pool("S", slots=n_tiles, slot_bytes=row_bytes, holds="sums")  # one row block, tile by tile
    joins = parts.joins_of(core, tiling)
    made = core.semaphore("S tile ready")
    normalised = core.semaphore("P tile ready")
    tail_free = core.semaphore("K tail free (P consumed)", 1, is_slot=True)
    tail_ready = core.semaphore("K tail loaded")
    tail_used = core.semaphore("K tail used")
    blocks = core.row_blocks(tiling["query"], key, resident=True)
    for new, old in core.windows(blocks, 2):
        if old is not None:
            joins.load_row(core, old)
        if new is not None:
            _scores(core, data, new, range(kept), made, s, tail_ready, tail_used, kept)
        if old is not None:
            _softmax_over_k(core, old, joins, made, normalised, s, tail_used)
            parts.values_stage(core, data, old, tile_waits=[normalised], last_signals=[tail_free])
        if new is not None:
            _reload_tail(core, data, new, kept, n_tiles, tail_free, tail_ready)
            _scores(core, data, new, range(kept, n_tiles), made, s, tail_ready, tail_used, kept)


def _tiles(core: AttentionCore, block: RowBlock, key: int, part: range, n_tiles: int) -> list[tuple[int, Tile]]:
    """(repetitions, tile) of the given part of a full row: equal neighbours taken together."""
    tiles = [
        Tile(
            block.tail if j == n_tiles - 1 else key,
            block.new > 0,
            block.release,
            j == 0,
            j == n_tiles - 1,
            j if core.unroll else 0,
        )
        for j in part
    ]
    grouped: list[tuple[int, Tile]] = []
    for tile in tiles:
        if grouped and grouped[-1][1] == tile:
            grouped[-1] = (grouped[-1][0] + 1, tile)
        else:
            grouped.append((1, tile))
    return grouped


def _scores(
    core: AttentionCore,
    data: parts.Operands,
    block: RowBlock,
    part: range,
    made: int,
    s: Pool,
    tail_ready: int,
    tail_used: int,
    kept: int,
) -> None:
    """Tiles ``part`` of S; those from ``kept`` on use K tiles that are loaded for every row block."""
    n_tiles = block.tiles
    in_tail = part.start == kept
    if part.start == 0:
        core.load(
            core.costs.load_q(block.rows),
            waits=[data.q.free],
            signals=[data.q.full],
            label="load Q",
            run=("load_q", block),
        )
    for times, tile in _tiles(core, block, data.key, part, n_tiles):
        for _ in core.loop(times, name="keys"):
            if tile.fresh and not in_tail:
                parts.load_key(core, data, block, tile)
            core.matrix(
                core.costs.scores(block.rows, tile.keys),
                waits=[
                    s.free,
                    *((data.q.full,) if tile.first else ()),
                    *((tail_ready,) if in_tail else (data.k.full,) if tile.fresh else ()),
                ],
                signals=[
                    made,
                    *((data.k.free,) if tile.release and not in_tail else ()),
                    *((data.q.free,) if tile.last else ()),
                    *((tail_used,) if tile.last else ()),
                ],
                label="Q K^T",
                run=("scores_tiled", block, tile),
            )


def _reload_tail(
    core: AttentionCore, data: parts.Operands, block: RowBlock, kept: int, n_tiles: int, tail_free: int, tail_ready: int
) -> None:
    """Bring the last K tiles: for a new head for the first time, otherwise again."""
    first = True
    for times, tile in _tiles(core, block, data.key, range(kept, n_tiles), n_tiles):
        work = core.costs.load(1, tile.keys * core.layer.head_dim, core.costs.key_bits, home=core.layer.homes.k)
        if first:
            core.load(
                work,
                waits=[tail_free],
                signals=[tail_ready],
                label="load K tail",
                run=("load_k_tail", block, tile),
            )
            first = False
            times -= 1
        for _ in core.loop(times, name="keys"):
            core.load(work, signals=[tail_ready], label="load K tail", run=("load_k_tail", block, tile))


def _softmax_over_k(
    core: AttentionCore, block: RowBlock, joins: Joins, made: int, normalised: int, s: Pool, tail_used: int
) -> None:
    """Softmax that leaves P over the K tail: the second pass moves each tile and frees its S slot."""
    costs, sinks, key = core.costs, core.layer.sinks, joins.key
    for tile in core.key_tiles(block, key):
        core.vector(
            costs.row_maximum(block.rows, tile.keys, sink=sinks and tile.first),
            waits=[made, *joins.waits],
            signals=joins.signals,
            label="row maximum",
            run=("row_maximum", block, tile),
        )
    for tile in core.key_tiles(block, key):
        core.vector(
            costs.exponentials(block.rows, tile.keys, sink=sinks and tile.first),
            waits=[tail_used] if tile.first else (),
            signals=[s.free],
            label="exponentials over K",
            run=("exponentials_over_k", block, tile),
        )
    for tile in core.key_tiles(block, key):
        core.vector(
            costs.normalise(block.rows, tile.keys),
            signals=[normalised],
            label="normalise",
            run=("normalise_over_k", block, tile),
        )


# -- registration ------------------------------------------------------------------------------------------


def _legal(layer: AttentionLayer, tiling: Tiling) -> bool:
    if tiling["overwrite"]:
        n_tiles = ceil_div(layer.key_len, tiling["key"])
        return (
            tiling["resident"] == 1
            and tiling["depth"] == 2
            and layer.mask == "none"
            and not layer.takes_cached
            and _tail_fits(layer, tiling, n_tiles)
        )
    return parts.legal(layer, tiling)


def _tail_fits(layer: AttentionLayer, tiling: Tiling, n_tiles: int) -> bool:
    """P of a row block must leave at least one K tile that is not overwritten."""
    return overwritten_tiles(layer, tiling) < n_tiles


OVERWRITE = Parameter(
    name="overwrite",
    meaning="1 writes P over K tiles that are loaded again (needs resident=1)",
    candidates=lambda layer, machine: (0, 1) if layer.mask == "none" and not layer.takes_cached else (0,),
    smallest=0,
    largest=lambda layer: 1 if layer.mask == "none" else 0,
)

ASSUMPTIONS = (
    "softmax may start on a tile of S and values may start on a tile of P as soon as the tile is there",
    "two row blocks of S/P are on chip (one with proactive overwrite)",
)
MAS = register(
    Dataflow(
        name="mas",
        heeds_homes=True,
        heeds_lists=True,
        summary="matrix and vector streams bound only by data; optional proactive overwrite",
        source="MAS-Attention, arXiv 2411.17720",
        phases=(Phase(name="attention", parameters=(*parts.STANDARD, OVERWRITE), lower=lower, legal=_legal),),
        assumptions=ASSUMPTIONS,
    ),
    rank=7,
)
