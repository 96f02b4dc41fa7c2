"""The plain baseline: ridge regression on counts, with a few factors over known devices; no simulator.

The times of units on each known device are regressed; their first principal directions are the factors; the
measurements of the new device set the factors' weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["baseline"]

FloatArray = npt.NDArray[np.float64]
_FACTORS, _RIDGE = 3, 1e-2


def baseline(
    counts: FloatArray,
    known: Sequence[FloatArray],
    rows: Sequence[int],
    measured: FloatArray,
    *,
    factors: int = _FACTORS,
) -> FloatArray:
    """Times of all networks, from what known devices take (nan: not measured there) and from ``measured``."""
    a = np.hstack([np.ones((len(counts), 1)), counts])
    predictions = np.array([_ridge(a, seconds) for seconds in known]) if known else np.zeros((0, len(a)))
    if not len(predictions):
        return np.asarray(a @ _solved(a[list(rows)], measured))
    mean = predictions.mean(0)
    _, _, directions = np.linalg.svd(predictions - mean, full_matrices=False)
    basis = np.vstack([mean, directions[:factors] * np.sqrt(len(mean))]).T
    return np.asarray(basis @ _solved(basis[list(rows)], measured))


def _ridge(a: FloatArray, seconds: FloatArray) -> FloatArray:
    rows = np.isfinite(seconds)
    return np.asarray(a @ _solved(a[rows], seconds[rows] / seconds[rows].mean()))


def _solved(a: FloatArray, y: FloatArray) -> FloatArray:
    penalty = _RIDGE * np.eye(a.shape[1]) * len(a) / a.shape[1]
    return np.asarray(np.linalg.solve(a.T @ a + penalty, a.T @ y))
