"""Blocks of the cache: which are free, and what those that were given up still hold.

Free blocks wait in a line; those that were given up longest ago are taken first, and of one owner its last ones, so
that the beginning of what it had is found longest.
"""

from __future__ import annotations

from collections import deque

__all__ = ["BlockPool"]

_NOBODY = -1


class BlockPool:
    """``n_blocks`` blocks; ``keeps``: what their last owner left in them can be found again."""

    __slots__ = ("_kept", "_line", "free", "keeps", "n_blocks")

    def __init__(self, n_blocks: int, *, keeps: bool = False) -> None:
        self.n_blocks = n_blocks
        self.free = n_blocks
        self.keeps = keeps
        self._line: deque[list[int]] = deque([[_NOBODY, n_blocks]])  # owner and blocks, given up longest ago first
        self._kept: dict[int, list[int]] = {}

    @property
    def used(self) -> int:
        """Blocks that have an owner."""
        return self.n_blocks - self.free

    def kept(self, owner: int) -> int:
        """Blocks of ``owner`` that still hold what it had."""
        found = self._kept.get(owner)
        return found[1] if found is not None else 0

    def take(self, n: int) -> None:
        """Take ``n`` blocks, those that were given up longest ago."""
        assert n <= self.free, "more blocks than are free"
        self.free -= n
        while n and self.keeps:
            entry = self._line[0]
            taken = min(n, entry[1])
            entry[1] -= taken
            n -= taken
            if not entry[1]:
                self._line.popleft()
                self._kept.pop(entry[0], None)

    def take_again(self, owner: int) -> int:
        """Take what ``owner`` left and is still there; the number of blocks."""
        entry = self._kept.pop(owner, None)
        if entry is None:
            return 0
        n = entry[1]
        self.free -= n
        entry[:] = [_NOBODY, 0]  # its place in the line is empty
        return n

    def give(self, n: int, owner: int = _NOBODY) -> None:
        """Give up ``n`` blocks; with an ``owner`` they keep what it left."""
        self.free += n
        if not self.keeps or not n:
            return
        entry = [owner, n]
        self._line.append(entry)
        if owner != _NOBODY:
            self._kept[owner] = entry
