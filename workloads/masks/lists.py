"""A mask as lists of key blocks: which blocks of keys each block of query rows sees, head by head.

A pair of a row and a key is kept where its block is listed and, in a causal mask, the key does not stand behind the
row. What a kernel computes are whole blocks: :attr:`BlockMask.n_computed_pairs`. A family whose rule is finer than
blocks (a band, a column, a diagonal) lists each block that holds a pair of its rule, and says how many pairs these are
(``n_rule_pairs``); the rest is padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tilewright.errors import InputError
from tilewright.units import ceil_div

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]
    BoolArray = npt.NDArray[np.bool_]

__all__ = ["INDEX_BYTES", "BlockMask", "RowLists", "Selection", "TokenOrder"]

#: Bytes of one entry of a list, and of one row pointer.
INDEX_BYTES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class RowLists:
    """The lists of one pattern: row i of blocks sees the blocks ``indices[pointers[i]:pointers[i + 1]]`` of keys,
    ascending. ``pointers``: (rows of blocks + 1), ``indices``: (all entries).
    """

    pointers: IntArray
    indices: IntArray

    @property
    def n_rows(self) -> int:
        """Rows of blocks."""
        return len(self.pointers) - 1

    @property
    def n_listed(self) -> int:
        """Entries of all lists."""
        return len(self.indices)

    @cached_property
    def rows(self) -> IntArray:
        """The row of blocks of each entry."""
        import numpy as np

        return np.repeat(np.arange(self.n_rows), np.diff(self.pointers))

    @cached_property
    def digest(self) -> bytes:
        """What tells it from other lists."""
        return hashlib.sha256(self.pointers.tobytes() + b"|" + self.indices.tobytes()).digest()

    def of_row(self, row: int) -> IntArray:
        """The key blocks that a row of blocks sees."""
        return self.indices[self.pointers[row] : self.pointers[row + 1]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowLists) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What choosing the lists costs, for one batch entry: products, exponentials, additions (pooling), comparisons, and
    bytes that it reads; with ``reads_operands`` also Q and K. ``macs_format``: what the products are multiplied in
    ("": as Q and K are). They are those with a matrix of ``depth`` (0: width of a head) by ``columns`` (0: blocks of
    keys).
    """

    what: str
    macs: int = 0
    n_exponentials: int = 0
    n_additions: int = 0
    n_comparisons: int = 0
    n_bytes: int = 0
    macs_format: str = ""
    reads_operands: bool = True
    depth: int = 0
    columns: int = 0


class TokenOrder(NamedTuple):
    """The mask's order of tokens in the one in which they are stored: ``run`` neighbours lie side by side there, and
    the next such are ``stride`` tokens further.
    """

    run: int
    stride: int


@dataclass(frozen=True, kw_only=True)
class BlockMask:
    """Which key blocks each block of query rows sees, for every query head of a batch entry.

    ``query_len`` rows stand in blocks of ``block_rows``, ``key_len`` keys in blocks of ``block_keys``; the last of
    each may be smaller. ``patterns``: the different lists, ``of_head``: which of them each query head has.
    ``causal``: within listed blocks a row sees no key behind its own position. ``n_rule_pairs``: pairs that the rule
    asks for, over all heads, where it is finer than blocks; else None. ``selection``: what choosing the lists costs.
    ``order``: where its tokens lie, if not in its own order.
    ``text``: how a person wrote it. A row without any block sees nothing, and its result is 0.

    Raises InputError for lists of another size, entries outside the keys, out of order or given twice.
    """

    text: str
    query_len: int
    key_len: int
    block_rows: int
    block_keys: int
    patterns: tuple[RowLists, ...]
    of_head: tuple[int, ...]
    causal: bool = False
    n_rule_pairs: int | None = None
    selection: Selection | None = None
    order: TokenOrder | None = None

    def __post_init__(self) -> None:
        for lists in self.patterns:
            self._check(lists)

    @cached_property
    def _key(self) -> tuple[object, ...]:
        sizes = self.query_len, self.key_len, self.block_rows, self.block_keys
        return self.text, *sizes, self.causal, self.of_head, self.patterns

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, BlockMask) and self._key == other._key)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"BlockMask({self.text!r}, {self.n_listed} blocks listed)"

    def _check(self, lists: RowLists) -> None:
        import numpy as np

        def fault(what: str, given: object, allowed: str) -> InputError:
            return InputError(f"mask {self.text}: {what}; given {given}; allowed {allowed}")

        if lists.n_rows != self.n_block_rows:
            raise fault("rows of blocks", lists.n_rows, f"{self.n_block_rows}, of {self.block_rows} query rows each")
        steps = np.diff(lists.pointers)
        if lists.pointers[0] != 0 or lists.pointers[-1] != lists.n_listed or (steps < 0).any():
            raise fault(
                "row pointers must ascend from 0 to the number of entries",
                f"{lists.pointers[0]} to {lists.pointers[-1]}",
                f"0 to {lists.n_listed}",
            )
        if not lists.n_listed:
            return
        least, most = int(lists.indices.min()), int(lists.indices.max())
        if least < 0 or most >= self.n_block_keys:
            wrong = least if least < 0 else most
            raise fault("a list points outside the keys", f"block {wrong}", f"blocks 0 to {self.n_block_keys - 1}")
        same_row = np.diff(lists.rows) == 0
        if (np.diff(lists.indices)[same_row] <= 0).any():
            row = int(lists.rows[1:][same_row][np.diff(lists.indices)[same_row] <= 0][0])
            raise fault("the blocks of a row must ascend, each once", f"row {row} of blocks", "ascending blocks")
        if self.causal:
            last_row = np.minimum((lists.rows + 1) * self.block_rows, self.query_len) - 1
            hidden = lists.indices * self.block_keys > last_row + self.key_len - self.query_len
            if hidden.any():
                entry = int(np.flatnonzero(hidden)[0])
                raise fault(
                    "a causal mask hides a listed block",
                    f"block {lists.indices[entry]} in row {lists.rows[entry]} of blocks",
                    "blocks up to the row's own",
                )

    # --- sizes --------------------------------------------------------------------------------------------------------

    @property
    def n_block_rows(self) -> int:
        """Blocks of query rows."""
        return ceil_div(self.query_len, self.block_rows)

    @property
    def n_block_keys(self) -> int:
        """Blocks of keys."""
        return ceil_div(self.key_len, self.block_keys)

    @property
    def n_heads(self) -> int:
        """Query heads."""
        return len(self.of_head)

    @cached_property
    def _heads_of(self) -> tuple[int, ...]:
        """Query heads of each pattern."""
        return tuple(self.of_head.count(i) for i in range(len(self.patterns)))

    @property
    def n_listed(self) -> int:
        """Listed pairs of blocks, over all heads of a batch entry."""
        return sum(n * lists.n_listed for n, lists in zip(self._heads_of, self.patterns, strict=True))

    @property
    def density(self) -> float:
        """Listed pairs of blocks, of those that there are (in a causal mask: of those that a row sees)."""
        return self.n_listed / (self.n_heads * self.most_listed)

    @cached_property
    def most_listed(self) -> int:
        """Pairs of blocks of a head that hides nothing more."""
        import numpy as np

        if not self.causal:
            return self.n_block_rows * self.n_block_keys
        last = np.minimum((np.arange(self.n_block_rows) + 1) * self.block_rows, self.query_len) - 1
        return int(self._blocks_up_to(last).sum())

    def _blocks_up_to(self, row: IntArray) -> IntArray:
        """Key blocks that a causal row sees any key of."""
        return (row + self.key_len - self.query_len) // self.block_keys + 1

    @cached_property
    def is_full(self) -> bool:
        """Whether every head lists all that there is."""
        own = zip(self._heads_of, self.patterns, strict=True)
        return all(lists.n_listed == self.most_listed for n_heads, lists in own if n_heads)

    @cached_property
    def fingerprint(self) -> str:
        """The same for equal masks, another for others: what stands for one in a cache."""
        digest = hashlib.sha256(repr(self._key[:-1]).encode())
        for lists in self.patterns:
            digest.update(lists.digest)
        return digest.hexdigest()

    # --- counts -------------------------------------------------------------------------------------------------------

    def rows_in(self, block_row: IntArray) -> IntArray:
        """Query rows of blocks of rows."""
        import numpy as np

        return np.minimum(self.block_rows, self.query_len - block_row * self.block_rows)

    def keys_in(self, block: IntArray) -> IntArray:
        """Keys of blocks of keys."""
        import numpy as np

        return np.minimum(self.block_keys, self.key_len - block * self.block_keys)

    def listed_keys(self, pattern: int) -> IntArray:
        """Keys that each row of blocks lists (rows of blocks)."""
        import numpy as np

        lists = self.patterns[pattern]
        n_keys = np.bincount(lists.rows, weights=self.keys_in(lists.indices), minlength=self.n_block_rows)
        return n_keys.astype(np.int64)

    @cached_property
    def pairs_of_patterns(self) -> tuple[int, ...]:
        """Kept pairs of a head with each pattern."""
        return tuple(self._pairs(lists) for lists in self.patterns)

    def _pairs(self, lists: RowLists) -> int:
        n_rows, n_keys = self.rows_in(lists.rows), self.keys_in(lists.indices)
        if not self.causal:
            return int((n_rows * n_keys).sum())
        # Row r of the block sees x + r of its keys, at least 0 and at most all.
        x = lists.rows * self.block_rows + self.key_len - self.query_len - lists.indices * self.block_keys + 1
        return int((_positive_sum(x, n_rows) - _positive_sum(x - n_keys, n_rows)).sum())

    @cached_property
    def n_pairs(self) -> int:
        """Kept pairs of a row and a key, over all heads of a batch entry."""
        return sum(n * pairs for n, pairs in zip(self._heads_of, self.pairs_of_patterns, strict=True))

    @cached_property
    def n_computed_pairs(self) -> int:
        """Pairs that whole blocks hold: what a kernel multiplies and exponentiates, over all heads of a batch entry."""
        own = (int((self.rows_in(lists.rows) * self.keys_in(lists.indices)).sum()) for lists in self.patterns)
        return sum(n * pairs for n, pairs in zip(self._heads_of, own, strict=True))

    @property
    def n_padded_pairs(self) -> int:
        """Computed pairs that neither the causal rule nor the family's own asks for."""
        return self.n_computed_pairs - (self.n_pairs if self.n_rule_pairs is None else self.n_rule_pairs)

    @property
    def list_bytes(self) -> int:
        """Bytes of the lists of all heads, with their row pointers."""
        return INDEX_BYTES * sum(len(lists.indices) + len(lists.pointers) for lists in self.patterns)

    @cached_property
    def rows_of_patterns(self) -> tuple[int, ...]:
        """Query rows that see any key, of a head with each pattern."""
        return tuple(int(self._visible_counts(lists).astype(bool).sum()) for lists in self.patterns)

    @cached_property
    def n_seeing_rows(self) -> int:
        """Query rows that see any key, over all heads of a batch entry."""
        return sum(n * rows for n, rows in zip(self._heads_of, self.rows_of_patterns, strict=True))

    def n_divisions(self, width: int) -> int:
        """The fewest divisions that normalise all rows: of the output (``width`` values) or of the row's scores."""
        import numpy as np

        own = (int(np.minimum(self._visible_counts(lists), width).sum()) for lists in self.patterns)
        return sum(n * count for n, count in zip(self._heads_of, own, strict=True))

    def _visible_counts(self, lists: RowLists) -> IntArray:
        """Keys that each query row sees (query_len)."""
        import numpy as np

        counts = np.repeat(
            np.bincount(lists.rows, weights=self.keys_in(lists.indices), minlength=self.n_block_rows), self.block_rows
        )[: self.query_len].astype(np.int64)
        if self.causal and lists.n_listed:
            for offset in range(self.block_rows):  # a row at a time of every block
                row = lists.rows * self.block_rows + offset
                inside = row < self.query_len
                ahead = row[inside] + self.key_len - self.query_len - lists.indices[inside] * self.block_keys + 1
                seen = np.clip(ahead, 0, self.keys_in(lists.indices[inside]))
                found = np.bincount(lists.rows[inside], weights=seen, minlength=self.n_block_rows).astype(np.int64)
                counts[offset :: self.block_rows] = found[: len(counts[offset :: self.block_rows])]
        return counts

    def n_seen_keys(self, kv_heads: int) -> int:
        """Keys that any query head of their key/value head sees, over all ``kv_heads`` of a batch entry."""

        own: dict[frozenset[int], int] = {}
        shared, total = self.n_heads // kv_heads, 0
        for head in range(kv_heads):
            those = frozenset(self.of_head[head * shared : (head + 1) * shared])
            if those not in own:
                own[those] = self._seen_of([self.patterns[i] for i in sorted(those)])
            total += own[those]
        return total

    def _seen_of(self, patterns: Sequence[RowLists]) -> int:
        """Keys that any row of any of ``patterns`` sees: of a block, those up to the last row that lists it."""
        import numpy as np

        latest = np.full(self.n_block_keys, -1)
        for lists in patterns:
            np.maximum.at(latest, lists.indices, lists.rows)
        blocks = np.flatnonzero(latest >= 0)
        n_keys = self.keys_in(blocks)
        if self.causal:
            last_row = np.minimum((latest[blocks] + 1) * self.block_rows, self.query_len) - 1
            n_keys = np.minimum(n_keys, last_row + self.key_len - self.query_len - blocks * self.block_keys + 1)
        return int(n_keys.sum())

    # --- single pairs -------------------------------------------------------------------------------------------------

    def visible(self, head: int) -> BoolArray:
        """Which keys each row of query head ``head`` sees (query_len, key_len), pair by pair."""
        import numpy as np

        lists = self.patterns[self.of_head[head]]
        blocks = np.zeros((self.n_block_rows, self.n_block_keys), dtype=bool)
        blocks[lists.rows, lists.indices] = True
        seen = blocks.repeat(self.block_rows, axis=0)[: self.query_len]
        seen = seen.repeat(self.block_keys, axis=1)[:, : self.key_len]
        if self.causal:
            row = np.arange(self.query_len)[:, None] + self.key_len - self.query_len
            seen &= np.arange(self.key_len)[None, :] <= row
        return seen


def _positive_sum(first: IntArray, count: IntArray) -> IntArray:
    """Sum of max(0, first + i) over i = 0 .. count - 1."""
    return _triangle(first + count - 1) - _triangle(first - 1)


def _triangle(n: IntArray) -> IntArray:
    import numpy as np

    n = np.maximum(n, 0)
    return n * (n + 1) // 2
