"""How many tokens fall on each expert of a mixture: evenly, or by a power law, and on the busiest of several GPUs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["TILE_ROWS", "expert_load"]

#: Rows of a tile that a grouped product may take.
TILE_ROWS = (16, 32, 64, 128)
_DRAWS = 4  # of a power law; the load is their mean
_FULLEST = 0.8  # of the tokens: most that one expert is drawn with


@lru_cache(maxsize=65_536)
def expert_load(
    n_experts: int, n_parts: int, n_tokens: int, top_k: int, skew_milli: int
) -> tuple[tuple[float, ...], float, float]:
    """Load of the busiest of ``n_parts`` equal groups of experts when each of ``n_tokens`` goes to ``top_k`` experts.

    ``skew_milli``: 0 spreads tokens evenly, else a thousandth of the exponent of the power law that the load of the
    experts follows. Gives the tiles for each of ``TILE_ROWS`` (an expert's rows are padded to whole tiles), the experts
    that have any rows, and the rows.
    """
    if skew_milli == 0:
        loads = _even(n_experts, n_tokens, top_k)[None, : n_experts // n_parts]
    else:
        loads = _skewed(n_experts, n_parts, n_tokens, top_k, skew_milli / 1000)
    tiles = tuple(float(np.ceil(loads / rows).sum(axis=1).mean()) for rows in TILE_ROWS)
    return tiles, float((loads > 0).sum(axis=1).mean()), float(loads.sum(axis=1).mean())


def _even(n_experts: int, n_tokens: int, top_k: int) -> NDArray[np.int64]:
    """Token i goes to experts i, i + stride, i + 2 stride, ...; a few tokens spread over all experts."""
    stride = -(-n_experts // top_k)
    offsets = np.arange(top_k) * stride
    if n_tokens >= stride:
        whole, rest = divmod(n_tokens, n_experts)
        first = (offsets[:, None] + np.arange(rest)[None]) % n_experts
        return np.bincount(first.ravel(), minlength=n_experts) + whole * top_k
    chosen = ((np.arange(n_tokens) * stride / n_tokens)[:, None] + offsets[None]).astype(np.int64) % n_experts
    return np.bincount(chosen.ravel(), minlength=n_experts)


def _skewed(n_experts: int, n_parts: int, n_tokens: int, top_k: int, exponent: float) -> NDArray[np.int64]:
    """Loads of the busiest group, one row a draw."""
    chance = np.random.default_rng(0).random((_DRAWS, n_experts))
    n_rows = n_tokens * top_k
    low, high = (1.0, max(n_tokens * _FULLEST, 1.0)) if n_rows > n_experts else (0.01, 2.0)
    power = 1 - exponent
    weight = ((high**power - low**power) * chance + low**power) ** (1 / power)
    wanted = weight / weight.sum(axis=1, keepdims=True) * n_rows
    # Whole rows that add up: the largest remainders are rounded up; a token goes to an expert once at most.
    loads = np.floor(wanted).astype(np.int64)
    order = np.argsort(np.argsort(loads - wanted, axis=1, kind="stable"), axis=1)
    loads += order < (n_rows - loads.sum(axis=1, keepdims=True))
    loads = np.minimum(loads, n_tokens)
    groups = loads.reshape(_DRAWS, n_parts, -1)
    busiest = groups.sum(axis=2).argmax(axis=1)
    found: NDArray[np.int64] = groups[np.arange(_DRAWS), busiest]
    return found
