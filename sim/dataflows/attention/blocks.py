"""Row blocks and key tiles of an attention layer, as nested loops, and their software pipelining.

A dataflow walks over *row blocks* (query tiles), each of which sees a range of *key tiles*. Both come as a
small tree of repeats, never as a list of a million entries, so a long layer has a short program. A masked
layer's row blocks see ranges that change by a constant from block to block: a :class:`Run`.

:func:`pipeline` turns such a tree into overlapping windows: step i holds blocks i, i-1, … so that a lowering
can issue "scores of block i, then values of block i-1" in one loop body, prologue and epilogue included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer

__all__ = [
    "LoopMaker",
    "Repeat",
    "RowBlock",
    "Run",
    "Tile",
    "key_tiles",
    "pipeline",
    "row_blocks",
    "tile_groups",
]


class LoopMaker(Protocol):
    """What can open a counted loop (a program builder, or the counter)."""

    @property
    def unroll(self) -> bool: ...

    def loop(self, count: int, *, step: int = 0, over: int = -1, name: str = "loop") -> Iterator[int]: ...


class RowBlock(NamedTuple):
    """``rows`` query rows against ``tiles`` key tiles, the last of which holds ``tail`` keys.

    ``new``: how many of the tiles (the last ones) must be brought on chip for this block; -1 means all of
    them. ``release``: resident tiles may be given up after this block. ``step`` and ``over``: the tile
    count is ``tiles + step * (trip of loop over)``. The last four fields are set only when the block is
    to be run on numbers: kv head, first query row, first key tile, and serial number; ``keys`` are those
    that it sees, where these come from a list. ``given``: its tiles and how many there are of each, in their order,
    where they are not told by the rest.
    """

    rows: int
    tiles: int
    tail: int
    new: int = -1
    release: bool = False
    step: int = 0
    over: int = -1
    group: int = 0
    row: int = 0
    tile: int = 0
    serial: int = 0
    keys: tuple[int, ...] = ()
    given: tuple[tuple[int, Tile], ...] = ()


class Tile(NamedTuple):
    """One key tile of a row block. ``fresh``: it must be loaded for this block; ``index`` counts in N, or, for the
    ``listed`` keys of a list, in the list. ``brought``: the serial number of the row block for which it came, where
    tiles stay for later ones of a list.
    """

    keys: int
    fresh: bool
    release: bool
    first: bool
    last: bool
    index: int = 0  # type: ignore[assignment]  # a tuple has an index(), which no one needs here
    listed: tuple[int, ...] = ()
    brought: int = 0

    @property
    def is_new(self) -> bool:
        """Whether it has not been on chip for an earlier row block of its head."""
        return self.fresh


class Repeat(NamedTuple):
    """``times`` trips of ``body``; with ``step`` the count changes by that per trip of the repeat around."""

    times: int
    body: tuple[Any, ...]
    name: str = "loop"
    step: int = 0


class Run(NamedTuple):
    """``times`` row blocks of which each sees ``first.step`` more tiles than the one before."""

    times: int
    first: RowBlock


# A run's blocks have at least this many tiles, so that its windows (of up to three stages) and its first and
# last tiles can be written out before the part whose length changes.
RUN_TILES = 4

# -- row blocks --------------------------------------------------------------------------------------------


def row_blocks(
    layer: AttentionLayer, *, n_groups: int, query: int, key: int, resident: bool, concrete: bool = False
) -> tuple[Any, ...]:
    """The row blocks of ``n_groups`` kv heads of ``layer``, in the order in which they are worked on.

    query, key: rows and keys of a tile. A tile larger than a head's rows holds several query heads of one
    group (useful in decode). resident: a kv head's keys stay on chip for all its row blocks, so each tile
    is new only once. concrete: a flat tuple with coordinates instead of a tree.
    """
    if concrete:
        return tuple(_concrete(layer, n_groups, query, key, resident))
    return _tree(layer, n_groups, query, key, resident)


@lru_cache(maxsize=4096)
def _tree(layer: AttentionLayer, n_groups: int, query: int, key: int, resident: bool) -> tuple[Any, ...]:
    heads = _heads_of_group(layer, query, key, resident)
    body: list[Any] = []
    for count, blocks in heads:
        compressed = _compress(blocks)
        body.extend(compressed if count == 1 else (Repeat(count, compressed, "query head"),))
    if len(body) == 1 and isinstance(body[0], Repeat) and not body[0].step:
        only = body[0]
        return (Repeat(only.times * n_groups, only.body, only.name),)
    return (Repeat(n_groups, tuple(body), "head"),)


def _heads_of_group(
    layer: AttentionLayer, query: int, key: int, resident: bool
) -> list[tuple[int, list[tuple[int, RowBlock]]]]:
    """(repetitions, run-length coded blocks) for the query heads of one kv head, in order."""
    n_heads = layer.query_heads // layer.kv_heads
    per_block = max(1, query // layer.query_len) if query > layer.query_len else 1
    if per_block > 1 and n_heads > 1:
        per_block = min(per_block, n_heads)
        full, rest = divmod(n_heads, per_block)
        blocks = [(full, _whole(layer, per_block, key))]
        blocks += [(1, _whole(layer, rest, key))] if rest else []
        n_heads = 1
    else:
        blocks = _coded(layer, min(query, layer.query_len), key)
    if not resident:
        return [(n_heads, blocks)]
    first = _mark_new(blocks)
    later = [(count, block._replace(new=0)) for count, block in blocks]
    if n_heads == 1:
        return [(1, _mark_release(first))]
    middle = [(n_heads - 2, later)] if n_heads > 2 else []
    return [(1, first), *middle, (1, _mark_release(later))]


def _whole(layer: AttentionLayer, n_heads: int, key: int) -> RowBlock:
    low, high = _tile_range(layer, 0, layer.query_len, key)
    return RowBlock(n_heads * layer.query_len, high - low, _tail(layer, high, key), tile=low)


def _coded(layer: AttentionLayer, query: int, key: int) -> list[tuple[int, RowBlock]]:
    """The row blocks of one query head as (repetitions, block); coordinates only in ``tile``."""
    full, rest = divmod(layer.query_len, query)
    if layer.mask == "none":
        tiles = ceil_div(layer.key_len, key)
        block = RowBlock(query, tiles, _tail(layer, tiles, key))
        return [(full, block)] + ([(1, block._replace(rows=rest))] if rest else [])
    coded: list[tuple[int, RowBlock]] = []
    for i in range(full + (1 if rest else 0)):
        rows = query if i < full else rest
        low, high = _tile_range(layer, i * query, rows, key)
        coded.append((1, RowBlock(rows, high - low, _tail(layer, high, key), tile=low)))
    return coded


def _tile_range(layer: AttentionLayer, row: int, rows: int, key: int) -> tuple[int, int]:
    """Key tiles [low, high) that rows [row, row + rows) of one head see."""
    low, high = layer.visible_keys(row, rows)
    return low // key, ceil_div(high, key)


def _tail(layer: AttentionLayer, high: int, key: int) -> int:
    """Keys in the last tile of a range that ends with tile ``high`` (exclusive)."""
    return min(key, layer.key_len - (high - 1) * key)


def _mark_new(blocks: list[tuple[int, RowBlock]]) -> list[tuple[int, RowBlock]]:
    """Resident keys: a tile is new for the first block that sees it."""
    marked: list[tuple[int, RowBlock]] = []
    loaded = 0
    for count, block in blocks:
        new = max(0, block.tile + block.tiles - loaded)
        loaded += new
        marked.append((1, block._replace(new=new)))
        if count > 1:
            marked.append((count - 1, block._replace(new=0)))
    return marked


def _mark_release(blocks: list[tuple[int, RowBlock]]) -> list[tuple[int, RowBlock]]:
    count, block = blocks[-1]
    head = [*blocks[:-1]] + ([(count - 1, block)] if count > 1 else [])
    return [*head, (1, block._replace(release=True))]


def _compress(blocks: list[tuple[int, RowBlock]]) -> tuple[Any, ...]:
    """Repeats of equal blocks; runs of blocks whose tile count changes by a constant."""
    items = [(count, block._replace(tile=0)) for count, block in blocks]
    out: list[Any] = []
    i = 0
    while i < len(items):
        count, block = items[i]
        j = i + 1
        while j < len(items) and items[j][1] == block:
            count += items[j][0]
            j += 1
        if count == 1:
            run = _affine_run(items, i)
            if run.times >= 4:
                out.append(run)
                i += run.times
                continue
        out.append(block if count == 1 else Repeat(count, (block,), "rows"))
        i = j
    return tuple(out)


def _affine_run(items: list[tuple[int, RowBlock]], i: int) -> Run:
    block = items[i][1]
    if i + 1 >= len(items) or block.tiles < RUN_TILES or (block.new >= 0 and block.tiles - block.new < 1):
        return Run(1, block)
    step = items[i + 1][1].tiles - block.tiles
    n = 1
    while i + n < len(items):
        count, other = items[i + n]
        same = other == block._replace(tiles=block.tiles + n * step)
        if not same or count != 1 or other.tiles < RUN_TILES:
            break
        n += 1
    return Run(n, block._replace(step=step))


def _concrete(layer: AttentionLayer, n_groups: int, query: int, key: int, resident: bool) -> Iterator[RowBlock]:
    serial = 0
    for group in range(n_groups):
        row = 0
        for repeats, blocks in _heads_of_group(layer, query, key, resident):
            for _ in range(repeats):
                for count, block in blocks:
                    for _ in range(count):
                        yield block._replace(group=group, row=row, serial=serial)
                        row += block.rows
                        serial += 1


# -- key tiles ---------------------------------------------------------------------------------------------


def tile_groups(block: RowBlock, key: int, *, concrete: bool = False) -> Iterator[tuple[int, int, Tile]]:
    """(repetitions, change of them per trip of the run, tile): resident tiles first, then the new ones.

    The first and the last tile always stand alone, so that a lowering can hang the waits and signals of a
    whole row block on them.
    """
    if block.given:
        yield from ((count, 0, tile) for count, tile in block.given)
        return
    new = block.tiles if block.new < 0 else block.new
    if concrete:
        for j in range(block.tiles):
            last = j == block.tiles - 1
            keys = block.tail if last else key
            tile = Tile(keys, j >= block.tiles - new, block.release, j == 0, last, block.tile + j)
            yield 1, 0, tile._replace(listed=block.keys[j * key : j * key + keys]) if block.keys else tile
        return
    if block.tiles == 1 and not block.step:
        yield 1, 0, Tile(block.tail, new == 1, block.release, True, True)
        return
    old = block.tiles - new
    all_new = block.new < 0
    yield 1, 0, Tile(key, old == 0, block.release, True, False)
    n_old = old - (1 if old > 0 else 0) - (1 if new == 0 else 0)
    n_new = new - (1 if old == 0 else 0) - (1 if new > 0 else 0)
    for count, fresh in ((n_old, False), (n_new, True)):
        step = block.step if fresh == all_new else 0
        if count > 0 or step:
            yield count, step, Tile(key, fresh, block.release, False, False)
    yield 1, 0, Tile(block.tail, new > 0, block.release, False, True)


def key_tiles(maker: LoopMaker, block: RowBlock, key: int) -> Iterator[Tile]:
    """Loop over the key tiles of ``block``."""
    for count, step, tile in tile_groups(block, key, concrete=maker.unroll):
        if count == 1 and not step:
            yield tile
        else:
            for _ in maker.loop(count, step=step, over=block.over, name="keys"):
                yield tile


# -- software pipelining -----------------------------------------------------------------------------------


def pipeline(maker: LoopMaker, tree: Sequence[Any], stages: int) -> Iterator[tuple[Any, ...]]:
    """Windows (newest, …, oldest) of ``stages`` neighbouring leaves, one per step; None where there is none.

    Every leaf passes through each place of the window once. Loops of the tree are kept as loops: a few
    trips are written out until the window holds what it held one trip earlier.
    """
    register: list[Any] = [None] * (stages - 1)
    yield from _steps(maker, tree, register, None, 0)
    for _ in range(stages - 1):
        yield (None, *register)
        _push(register, None)


def _push(register: list[Any], leaf: Any) -> None:
    if register:
        register.insert(0, leaf)
        register.pop()


def _steps(
    maker: LoopMaker, tree: Sequence[Any], register: list[Any], over: int | None, offset: int
) -> Iterator[tuple[Any, ...]]:
    for item in tree:
        if isinstance(item, Repeat):
            yield from _repeat(maker, item, register, over, offset)
        elif isinstance(item, Run):
            yield from _run(maker, item, register)
        else:
            yield (item, *register)
            _push(register, item)


def _repeat(
    maker: LoopMaker, item: Repeat, register: list[Any], over: int | None, offset: int
) -> Iterator[tuple[Any, ...]]:
    count = item.times + item.step * offset
    step = item.step if over is not None else 0
    trip = 0
    # A loop whose count depends on a loop around must be there even if its first count is used up by then.
    while trip < count or step:
        after = _tail_leaves(list(item.body), register)
        if after == register:
            depends_on = over if step and over is not None else -1
            for ident in maker.loop(count - trip, step=step, over=depends_on, name=item.name):
                yield from _steps(maker, item.body, register, ident, trip)
            register[:] = after
            return
        yield from _steps(maker, item.body, register, None, trip)
        trip += 1


def _tail_leaves(body: list[Any], register: list[Any]) -> list[Any]:
    """What the register will hold after one trip of ``body``."""
    leaves: list[Any] = list(register)
    for leaf in _last_leaves(body, len(register)):
        leaves.insert(0, leaf)
    return leaves[: len(register)]


def _last_leaves(body: Sequence[Any], n: int) -> list[Any]:
    """The last ``n`` leaves of a tree, in order (fewer if it holds fewer)."""
    found: list[Any] = []
    for item in reversed(body):
        if len(found) >= n:
            break
        if isinstance(item, Repeat):
            inner = _last_leaves(item.body, n)
            times = item.times if not item.step else n
            part = inner * min(times, ceil_div(n, max(1, len(inner))))
        elif isinstance(item, Run):
            part = [_of_run(item, i) for i in range(max(0, item.times - n), item.times)]
        else:
            part = [item]
        found = part + found
    return found[-n:] if n else []


def _of_run(run: Run, i: int) -> RowBlock:
    return run.first._replace(tiles=run.first.tiles + i * run.first.step, step=0)


def _run(maker: LoopMaker, run: Run, register: list[Any]) -> Iterator[tuple[Any, ...]]:
    written_out = min(run.times, len(register))
    for i in range(written_out):
        block = _of_run(run, i)
        yield (block, *register)
        _push(register, block)
    if run.times > written_out:
        for ident in maker.loop(run.times - written_out, name="rows"):
            yield tuple(
                _of_run(run, written_out - lag)._replace(step=run.first.step, over=ident)
                for lag in range(len(register) + 1)
            )
        register[:] = [_of_run(run, run.times - 1 - lag) for lag in range(len(register))]
