"""Which points no other point beats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["front_mask"]


def front_mask(costs: NDArray[np.float64]) -> NDArray[Any]:
    """Which rows of ``costs`` [points, goals] (less is better) are on the Pareto front, as an array of truth values.

    A row is beaten by another that is no worse anywhere and better somewhere; equal rows stay together, rows with a
    value that is not known (nan) are never on it.
    """
    mask = np.zeros(len(costs), dtype=bool)
    left = np.flatnonzero(~np.isnan(costs).any(axis=1))
    # In this order a point can only be beaten by one before it, so the first one left is always on the front.
    left = left[np.lexsort(costs[left].T[::-1])]
    while left.size:
        first = costs[left[0]]
        behind = costs[left]
        mask[left[(behind == first).all(axis=1)]] = True
        left = left[(behind < first).any(axis=1)]
    return mask
