"""Turns at a shared memory of 32 banks of 4 bytes that one access of a warp takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["wavefronts"]

_BANKS = 32
_WORD_BYTES = 4
_TURN_BYTES = 128


def wavefronts(addresses: NDArray[np.int64], bytes_each: int) -> int:
    """Turns for lanes at byte ``addresses`` that each move ``bytes_each``.

    As many lanes as fill 128 bytes go together, at most 32; lanes in one word share it, words in one bank go one after
    the other.
    """
    together = min(_BANKS, _TURN_BYTES // max(bytes_each, _WORD_BYTES))
    total = 0
    for first in range(0, len(addresses), together):
        part = addresses[first : first + together, None] + np.arange(0, max(bytes_each, 1), _WORD_BYTES)[None, :]
        words = np.unique(part // _WORD_BYTES)
        total += int(np.bincount(words % _BANKS).max())
    return total
