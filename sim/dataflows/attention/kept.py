"""Blocks of K and V that stay on chip from one row block of a list to the next, instead of coming anew for each.

The row blocks of a key/value head go by their place in the sequence, at each place head by head of those that share K
and V, and their lists are told apart: what is there from before, and what goes after this one. With ``NEXT`` a block
stays when the very next row block lists it, too; with ``HEAD`` until the last of the head that does, so that it comes
once. Tiles that go are used first, so that their room is free for those that come; the keys of a row come in that
order, and an online softmax does not mind.

Cores get stretches of this sequence that are as equal in work as whole rows of blocks allow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.errors import InputError
from tilewright.sim.dataflows.attention.blocks import Repeat, RowBlock, Tile
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.masks.lists import BlockMask

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]

__all__ = ["HEAD", "NEXT", "Stretch", "dealt_in_stretches", "kept_row_blocks", "most_kept", "promises", "worth_keeping"]

NEXT, HEAD = 1, 2
#: A search tries all ways to keep blocks where the rows of blocks make no longer a program than this, and the few most
#: promising ones up to the other length.
_FEW_DIFFERENT, _MOST_DIFFERENT = 2048, 32_768
_MOST_ENTRIES = 2**20
_LONGEST_LOOP = 64


class Stretch(NamedTuple):
    """Rows [first, stop) of blocks of a key/value head, whose query heads have these ``patterns``."""

    patterns: tuple[int, ...]
    first: int
    stop: int


class _Jobs(NamedTuple):
    """Lists of a stretch in their order, without empty ones. ``row`` (jobs): row of blocks; ``head`` (jobs): of those
    that share; ``job``, ``block`` (entries): key blocks of each job; ``fresh``, ``goes`` (entries): whether it comes
    for the job, and leaves after it; ``kept`` (jobs): tiles on chip after it, ``held``: with those that leave.
    """

    row: IntArray
    head: IntArray
    job: IntArray
    block: IntArray
    fresh: npt.NDArray[np.bool_]
    goes: npt.NDArray[np.bool_]
    kept: IntArray
    held: IntArray


def _mask(layer: AttentionLayer) -> BlockMask:
    assert layer.blocks is not None
    return layer.blocks


# -- stretches ---------------------------------------------------------------------------------------------------------


def _heads(layer: AttentionLayer) -> list[tuple[int, ...]]:
    """The patterns of the query heads of each key/value head of each batch entry."""
    mask, shared = _mask(layer), layer.queries_per_kv_head
    return [mask.of_head[head * shared : (head + 1) * shared] for head in range(layer.kv_heads)] * layer.batch


def _whole(layer: AttentionLayer) -> tuple[tuple[Stretch, int], ...]:
    return _counted(Stretch(patterns, 0, _mask(layer).n_block_rows) for patterns in _heads(layer))


def _counted(stretches: Iterator[Stretch]) -> tuple[tuple[Stretch, int], ...]:
    """Equal neighbours taken together."""
    found: list[tuple[Stretch, int]] = []
    for one in stretches:
        if found and found[-1][0] == one:
            found[-1] = (one, found[-1][1] + 1)
        else:
            found.append((one, 1))
    return tuple(found)


@lru_cache(maxsize=256)
def dealt_in_stretches(layer: AttentionLayer, n_cores: int) -> tuple[tuple[tuple[tuple[Stretch, int], ...], int], ...]:
    """What cores do, as (stretches and how many of each, cores that do so), those with most work first.

    The rows of blocks of all heads stand in a line, which is cut where the work before is nearest to an equal share.
    """
    import numpy as np

    mask, heads = _mask(layer), _heads(layer)
    rows = mask.rows_in(np.arange(mask.n_block_rows))
    of_pattern = [np.maximum(1, mask.listed_keys(number)) * rows for number in range(len(mask.patterns))]
    work = np.concatenate([np.sum([of_pattern[i] for i in patterns], axis=0) for patterns in heads])
    before = np.concatenate([[0], np.cumsum(work)]) * n_cores
    wanted = np.arange(1, n_cores) * (before[-1] // n_cores)
    right = np.searchsorted(before, wanted)
    cuts = np.where(wanted - before[right - 1] <= before[right] - wanted, right - 1, right)
    ends = [0, *cuts.tolist(), len(work)]
    shares: Counter[tuple[tuple[Stretch, int], ...]] = Counter()
    for start, stop in pairwise(ends):
        if stop > start:
            shares[_counted(_between(heads, mask.n_block_rows, start, stop))] += 1

    def most(item: tuple[tuple[tuple[Stretch, int], ...], int]) -> int:
        return -sum(n * int(sum(of_pattern[i][one.first : one.stop].sum() for i in one.patterns)) for one, n in item[0])

    return tuple(sorted(shares.items(), key=most))


def _between(heads: Sequence[tuple[int, ...]], n_rows: int, start: int, stop: int) -> Iterator[Stretch]:
    for number in range(start // n_rows, ceil_div(stop, n_rows)):
        own = number * n_rows
        yield Stretch(heads[number], max(start, own) - own, min(stop, own + n_rows) - own)


# -- what comes and what goes ------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _jobs(layer: AttentionLayer, stretch: Stretch, key: int, keep: int) -> _Jobs:
    import numpy as np

    mask = _mask(layer)
    listed = [
        (row, head, mask.patterns[pattern].of_row(row))
        for row in range(stretch.first, stretch.stop)
        for head, pattern in enumerate(stretch.patterns)
    ]
    listed = [item for item in listed if len(item[2])]
    n_jobs, n_blocks = len(listed), mask.n_block_keys
    job = np.repeat(np.arange(n_jobs), [len(blocks) for _, _, blocks in listed])
    block = np.concatenate([blocks for _, _, blocks in listed]) if listed else np.zeros(0, dtype=np.int64)
    if keep == HEAD:
        first, last = np.full(n_blocks, n_jobs), np.full(n_blocks, -1)
        np.minimum.at(first, block, job)
        np.maximum.at(last, block, job)
        fresh, goes = first[block] == job, last[block] == job
    else:
        entry = job * n_blocks + block
        fresh, goes = ~np.isin(entry, entry + n_blocks), ~np.isin(entry + n_blocks, entry)
    tiles = _tiles_in(mask, block, key)
    came = np.bincount(job, weights=tiles * fresh, minlength=n_jobs).astype(np.int64)
    gone = np.bincount(job, weights=tiles * goes, minlength=n_jobs).astype(np.int64)
    kept = np.cumsum(came - gone)
    return _Jobs(
        row=np.array([row for row, _, _ in listed], dtype=np.int64),
        head=np.array([head for _, head, _ in listed], dtype=np.int64),
        job=job, block=block, fresh=fresh, goes=goes, kept=kept, held=kept + gone,
    )  # fmt: skip


def _tiles_in(mask: BlockMask, block: IntArray, key: int) -> IntArray:
    tiles: IntArray = -(-mask.keys_in(block) // key)
    return tiles


@lru_cache(maxsize=256)
def most_kept(layer: AttentionLayer, query: int, key: int, keep: int) -> int:
    """Most tiles of K (or V) that stay on chip between two row blocks, also between those of one block of rows."""
    import numpy as np

    _check(layer, key)
    mask, most = _mask(layer), 0
    for one, _ in _whole(layer):
        jobs = _jobs(layer, one, key, keep)
        several = mask.rows_in(jobs.row) > query
        most = max(most, int(np.where(several, jobs.held, jobs.kept).max(initial=0)))
    return most


def _check(layer: AttentionLayer, key: int) -> None:
    mask = _mask(layer)
    if mask.block_keys % key and not (key == mask.key_len <= mask.block_keys):
        raise InputError(
            f'tile "key": blocks stay on chip (resident) one by one; given {key}; allowed divisors of the '
            f"{mask.block_keys} keys of a block"
        )


def worth_keeping(layer: AttentionLayer) -> bool:
    """Whether a search should try to keep blocks: their program is short enough."""
    return _n_different(layer) <= _MOST_DIFFERENT


def promises(layer: AttentionLayer, query: int, key: int) -> bool:
    """Whether a search should try to keep blocks with these tiles: any where programs are short, else whole blocks of
    keys, for all or half of a block of rows.
    """
    mask = _mask(layer)
    whole = min(mask.block_rows, mask.query_len)
    return _n_different(layer) <= _FEW_DIFFERENT or (
        key == min(mask.block_keys, mask.key_len) and query in (whole, ceil_div(whole, 2))
    )


@lru_cache(maxsize=256)
def _n_different(layer: AttentionLayer) -> int:
    """Different tiles of the program that keeps blocks for the next row block."""
    mask = _mask(layer)
    entries = sum(mask.patterns[i].n_listed for one, _ in _whole(layer) for i in one.patterns)
    if entries > _MOST_ENTRIES:
        return _MOST_DIFFERENT + 1
    key = min(mask.block_keys, mask.key_len)
    tree = [_tree(layer, one, mask.block_rows, key, NEXT) for one, _ in _whole(layer)]
    return sum(_size(body) for body in tree)


def _size(tree: Sequence[Any]) -> int:
    return sum(_size(item.body) if isinstance(item, Repeat) else len(item.given) for item in tree)


# -- row blocks --------------------------------------------------------------------------------------------------------


def kept_row_blocks(
    layer: AttentionLayer, share: Any, *, query: int, key: int, keep: int, concrete: bool = False
) -> tuple[Any, ...]:
    """The row blocks of ``share`` (stretches and how many of each; None: all), whose tiles say which come and which go;
    with coordinates, those of the whole layer.
    """
    _check(layer, key)
    if concrete:
        return tuple(_concrete(layer, query, key, keep))
    tree: list[Any] = []
    for stretch, count in share if share is not None else _whole(layer):
        body = _tree(layer, stretch, query, key, keep)
        tree.extend(body if count == 1 else (Repeat(count, body, "head"),) if body else ())
    return tuple(tree)


@lru_cache(maxsize=256)
def _tree(layer: AttentionLayer, stretch: Stretch, query: int, key: int, keep: int) -> tuple[Any, ...]:
    mask, jobs = _mask(layer), _jobs(layer, stretch, key, keep)
    groups = _groups(mask, jobs, key)
    items: list[Any] = []
    for row, runs in zip(jobs.row.tolist(), groups, strict=True):
        n_rows = min(mask.block_rows, mask.query_len - row * mask.block_rows)
        items.append(tuple(_subs(n_rows, query, runs)))
    return tuple(_flat(_looped(items, _LONGEST_LOOP)))


def _flat(items: Sequence[Any]) -> Iterator[Any]:
    """Jobs (tuples of row blocks) written out."""
    for item in items:
        if isinstance(item, Repeat):
            yield item._replace(body=tuple(_flat(item.body)))
        else:
            yield from item


class _Run(NamedTuple):
    """``n`` tiles of ``keys``, of blocks that come for this row block, and leave after it."""

    n: int
    keys: int
    fresh: bool
    goes: bool


def _groups(mask: BlockMask, jobs: _Jobs, key: int) -> list[tuple[_Run, ...]]:
    """The tiles of each job: of what was there those that go, those that stay; of what comes the same."""
    import numpy as np

    n_jobs = len(jobs.row)
    full, tail = np.divmod(mask.keys_in(jobs.block), key)
    order = 2 * jobs.fresh + ~jobs.goes
    counts = np.bincount(jobs.job * 4 + order, weights=full, minlength=4 * n_jobs).astype(int).reshape(n_jobs, 4)
    tails = np.bincount(jobs.job * 4 + order, weights=tail, minlength=4 * n_jobs).astype(int).reshape(n_jobs, 4)
    return [
        tuple(
            run
            for i in range(4)
            for run in (
                _Run(own[i], key, i > 1, i % 2 == 0),
                _Run(1 if rest[i] else 0, rest[i], i > 1, i % 2 == 0),
            )
            if run.n
        )
        for own, rest in zip(counts.tolist(), tails.tolist(), strict=True)
    ]


def _subs(n_rows: int, query: int, runs: tuple[_Run, ...]) -> Iterator[Any]:
    """The row blocks of one list: tiles come for the first and leave after the last."""
    n = ceil_div(n_rows, query)
    for i in range(n):
        if n > 3 and i == 2:
            yield Repeat(n - 3, (_row_block(query, runs, comes=False, leaves=False),), "rows")
        elif i < 2 or i == n - 1:
            yield _row_block(min(query, n_rows - i * query), runs, comes=i == 0, leaves=i == n - 1)


def _row_block(rows: int, runs: tuple[_Run, ...], *, comes: bool, leaves: bool) -> RowBlock:
    tiles = [(run.n, Tile(run.keys, run.fresh and comes, run.goes and leaves, False, False)) for run in runs]
    merged: list[tuple[int, Tile]] = []
    for count, tile in tiles:
        if merged and merged[-1][1] == tile:
            merged[-1] = (merged[-1][0] + count, tile)
        else:
            merged.append((count, tile))
    n_tiles = sum(count for count, _ in merged)
    return RowBlock(rows, n_tiles, merged[-1][1].keys, given=tuple(_ends_alone(merged)))


def _ends_alone(tiles: list[tuple[int, Tile]]) -> Iterator[tuple[int, Tile]]:
    """The first and the last tile stand alone, and know it."""
    last = len(tiles) - 1
    for i, (count, tile) in enumerate(tiles):
        first_here, last_here = i == 0, i == last
        if first_here and last_here and count == 1:
            yield 1, tile._replace(first=True, last=True)
            continue
        if first_here:
            yield 1, tile._replace(first=True)
        middle = count - first_here - last_here
        if middle:
            yield middle, tile
        if last_here:
            yield 1, tile._replace(last=True)


def _looped(items: Sequence[Any], longest: int) -> list[Any]:
    """Items that repeat, alone or several after each other, as repeats; of several ways the one that covers most."""
    numbers: dict[Any, int] = {}
    ids = [numbers.setdefault(item, len(numbers)) for item in items]
    out: list[Any] = []
    i, n = 0, len(items)
    while i < n:
        best, times = 1, 1
        for period in range(1, min(longest, (n - i) // 2) + 1):
            if ids[i] != ids[i + period]:
                continue
            repeats = 1
            while ids[i : i + period] == ids[i + repeats * period : i + (repeats + 1) * period]:
                repeats += 1
            if repeats > 1 and repeats * period > best * times:
                best, times = period, repeats
        body = items[i : i + best]
        out.append(Repeat(times, tuple(_looped(body, best // 2)), "rows") if times > 1 else body[0])
        i += best * times
    return out


# -- with coordinates --------------------------------------------------------------------------------------------------


def _concrete(layer: AttentionLayer, query: int, key: int, keep: int) -> Iterator[RowBlock]:
    mask, serial = _mask(layer), 0
    for group, patterns in enumerate(_heads(layer)):
        jobs = _jobs(layer, Stretch(patterns, 0, mask.n_block_rows), key, keep)
        brought: dict[int, int] = {}  # for which row block a key block came
        for number, (row, head) in enumerate(zip(jobs.row.tolist(), jobs.head.tolist(), strict=True)):
            own = jobs.job == number
            entries = sorted(
                zip(jobs.fresh[own].tolist(), (~jobs.goes[own]).tolist(), jobs.block[own].tolist(), strict=True),
                key=lambda entry: (entry[0], entry[1]),
            )
            first = row * mask.block_rows
            stop = min(first + mask.block_rows, mask.query_len)
            for begin in range(first, stop, query):
                tiles = []
                for fresh, stays, block in entries:
                    comes, leaves = fresh and begin == first, not stays and begin + query >= stop
                    if comes:
                        brought[block] = serial
                    keys = range(block * mask.block_keys, min((block + 1) * mask.block_keys, mask.key_len))
                    tiles += [
                        Tile(len(part), comes, leaves, False, False, 0, tuple(part), brought[block])
                        for part in (keys[at : at + key] for at in range(0, len(keys), key))
                    ]
                given = tuple(
                    (1, tile._replace(first=i == 0, last=i == len(tiles) - 1, index=i)) for i, tile in enumerate(tiles)
                )
                yield RowBlock(
                    min(query, stop - begin), len(tiles), tiles[-1].keys, group=group,
                    row=head * layer.query_len + begin, serial=serial, given=given,
                )  # fmt: skip
                serial += 1
