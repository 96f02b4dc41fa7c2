"""Row blocks of a mask of lists of key blocks: what is the same of them, how cores share them, what tiles may be.

A row of blocks matters to a schedule by its query rows and by how many keys it lists: those with the same are one
*kind*, done in one loop, so that a program grows with the different kinds and not with the length. A tile of keys takes
whole listed blocks, or a part of one; what lies apart in memory is gathered, block by block.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.blocks import Repeat, RowBlock
from tilewright.sim.lowering.mapping import Tiling, tile_sizes
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.masks.lists import BlockMask

__all__ = [
    "RowKind",
    "dealt",
    "empty_rows",
    "kinds_in",
    "kinds_of",
    "legal_lists",
    "list_key_sizes",
    "listed_row_blocks",
    "most_listed_keys",
]


class RowKind(NamedTuple):
    """Rows of blocks with so many query ``rows`` that list so many ``keys``."""

    rows: int
    keys: int


@lru_cache(maxsize=256)
def kinds_of(layer: AttentionLayer) -> tuple[tuple[RowKind, int], ...]:
    """The kinds of the layer's rows of blocks and how many there are of each, over all heads; longest first."""
    mask = _lists(layer)
    own = kinds_in(layer, mask.of_head, 0, mask.n_block_rows)
    return tuple((kind, n * layer.batch) for kind, n in own)


@lru_cache(maxsize=256)
def kinds_in(
    layer: AttentionLayer, patterns: tuple[int, ...], first: int, stop: int
) -> tuple[tuple[RowKind, int], ...]:
    """The kinds of rows [first, stop) of blocks of heads with these ``patterns``, as :func:`kinds_of`."""
    import numpy as np

    mask = _lists(layer)
    rows = mask.rows_in(np.arange(first, stop))
    found: Counter[RowKind] = Counter()
    for number, times in Counter(patterns).items():
        keys = mask.listed_keys(number)[first:stop]
        pairs, counts = np.unique(np.stack([rows, keys]), axis=1, return_counts=True)
        for (n_rows, n_keys), n in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            found[RowKind(n_rows, n_keys)] += n * times
    return tuple(sorted(found.items(), key=lambda item: (-item[0].rows * item[0].keys, item[0])))


@lru_cache(maxsize=256)
def dealt(layer: AttentionLayer, n_cores: int) -> tuple[tuple[tuple[tuple[RowKind, int], ...], int], ...]:
    """What cores do, as (kinds and how many of each, cores that do so), those with most work first.

    Each core gets as many of a kind as all can have; what is left goes, longest first, to the core with least so far.
    """
    each = {kind: count // n_cores for kind, count in kinds_of(layer)}
    more: list[Counter[RowKind]] = [Counter() for _ in range(n_cores)]
    loads = [(0, core) for core in range(n_cores)]
    for kind, count in kinds_of(layer):
        for _ in range(count % n_cores):
            load, core = heapq.heappop(loads)
            more[core][kind] += 1
            heapq.heappush(loads, (load + kind.rows * max(1, kind.keys), core))
    order = [kind for kind, _ in kinds_of(layer)]
    own = Counter(
        tuple((kind, each[kind] + extra[kind]) for kind in order if each[kind] + extra[kind]) for extra in more
    )
    shares = [(kinds, n) for kinds, n in own.items() if kinds]
    return tuple(sorted(shares, key=lambda share: -sum(kind.rows * kind.keys * n for kind, n in share[0])))


def listed_row_blocks(
    layer: AttentionLayer, kinds: tuple[tuple[RowKind, int], ...], *, query: int, key: int, concrete: bool = False
) -> tuple[Any, ...]:
    """The row blocks of ``kinds``, a loop for each kind; with coordinates, those of the whole layer."""
    if concrete:
        return tuple(block for block in _concrete(layer, query, key) if block.tiles)
    tree = []
    for kind, count in kinds:
        if kind.keys:
            body = tuple(_blocks(kind, query, key))
            tree.append(Repeat(count, body, "rows") if count > 1 or len(body) > 1 else body[0])
    return tuple(tree)


def empty_rows(
    layer: AttentionLayer, kinds: tuple[tuple[RowKind, int], ...], *, query: int, key: int, concrete: bool = False
) -> tuple[tuple[int, RowBlock], ...]:
    """(how many, row block) of those that list nothing."""
    if concrete:
        return tuple((1, block) for block in _concrete(layer, query, key) if not block.tiles)
    found: Counter[int] = Counter()
    for kind, count in kinds:
        if not kind.keys:
            full, rest = divmod(kind.rows, query)
            found[query] += full * count
            found[rest] += count
    return tuple((count, RowBlock(rows, 0, 0)) for rows, count in found.items() if rows and count)


def _blocks(kind: RowKind, query: int, key: int) -> Iterator[Any]:
    tiles = ceil_div(kind.keys, key)
    full, rest = divmod(kind.rows, query)
    block = RowBlock(query, tiles, kind.keys - (tiles - 1) * key)
    if full:
        yield Repeat(full, (block,), "rows") if full > 1 else block
    if rest:
        yield block._replace(rows=rest)


def _concrete(layer: AttentionLayer, query: int, key: int) -> Iterator[RowBlock]:
    mask = _lists(layer)
    keys_of = [[_keys(mask, pattern, row) for row in range(mask.n_block_rows)] for pattern in range(len(mask.patterns))]
    serial, shared = 0, layer.queries_per_kv_head
    for entry in range(layer.batch):
        for head, pattern in enumerate(mask.of_head):
            group = entry * layer.kv_heads + head // shared
            for row, keys in enumerate(keys_of[pattern]):
                first = row * mask.block_rows
                stop = min(first + mask.block_rows, layer.query_len)
                tiles = ceil_div(len(keys), key)
                tail = len(keys) - (tiles - 1) * key
                for begin in range(first, stop, query):
                    yield RowBlock(
                        min(query, stop - begin), tiles, tail, group=group,
                        row=head % shared * layer.query_len + begin, serial=serial, keys=keys,
                    )  # fmt: skip
                    serial += 1


def _keys(mask: BlockMask, pattern: int, row: int) -> tuple[int, ...]:
    blocks = mask.patterns[pattern].of_row(row).tolist()
    return tuple(
        key
        for block in blocks
        for key in range(block * mask.block_keys, min((block + 1) * mask.block_keys, mask.key_len))
    )


# -- tiles -------------------------------------------------------------------------------------------------------------


def list_key_sizes(layer: AttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    """Whole listed blocks, up to all that any row lists, and parts of one."""
    mask = _lists(layer)
    block = min(mask.block_keys, mask.key_len)
    most = most_listed_keys(layer)
    many = [min(n * block, mask.key_len) for n in tile_sizes(max(1, ceil_div(most, block)), 1)]
    least = machine.matrix.columns
    parts = [block // n for n in range(2, block + 1) if block % n == 0 and block // n >= least]
    return tuple(dict.fromkeys([*many, *parts]))


def most_listed_keys(layer: AttentionLayer) -> int:
    """Keys of the widest list; 1 where all are empty."""
    return max(1, max((kind.keys for kind, _ in kinds_of(layer)), default=0))


def legal_lists(layer: AttentionLayer, tiling: Tiling) -> bool:
    """Row blocks inside a block of rows; tiles of whole blocks of keys, or parts of one that divide it."""
    mask = _lists(layer)
    query, key, block = tiling["query"], tiling["key"], mask.block_keys
    if tiling.get("resident") and block % key and not (key == mask.key_len <= block):
        return False
    return query <= mask.block_rows and (key % block == 0 or block % key == 0 or key == mask.key_len)


def _lists(layer: AttentionLayer) -> BlockMask:
    assert layer.blocks is not None
    return layer.blocks
