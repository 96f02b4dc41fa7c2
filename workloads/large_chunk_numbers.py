"""Test-time training in large chunks, in float64: a gated perceptron as the state (Zhang et al., arXiv 2505.23884).

f(q) = W2 (silu(W1 q) o (W3 q)). Each chunk of tokens is read with the weights as they are; then all of its keys and
values change them once, by the gradient of -sum f(k) . v with a rate for each token and weight, and each row of a
weight gets back the length that it had at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError

__all__ = ["FastWeights", "chunk_counts", "large_chunk_training"]

FloatArray = npt.NDArray[np.float64]
_EPSILON = 1e-5  # beside the mean square of a row


class FastWeights(NamedTuple):
    """W1 and W3 (heads, width, inner), W2 (heads, inner, width), as they multiply rows of tokens."""

    w1: FloatArray
    w2: FloatArray
    w3: FloatArray


def large_chunk_training(
    q: FloatArray, k: FloatArray, v: FloatArray, rates: Sequence[FloatArray], weights: FastWeights, chunk: int
) -> tuple[FloatArray, FastWeights]:
    """Results (heads, tokens, width) and the last weights; q, k and v (heads, tokens, width), ``rates`` of W1, W2, W3
    (heads, tokens). Raises InputError for a chunk longer than the sequence.
    """
    tokens = q.shape[1]
    if not 1 <= chunk <= tokens:
        raise InputError(f"chunk: longer than the sequence; given {chunk}; allowed 1 to {tokens}, its tokens")
    lengths = [_root_mean_square(one) for one in weights]
    results = []
    for first in range(0, tokens, chunk):
        own = slice(first, first + chunk)
        results.append(_applied(q[:, own], weights))
        steps = _steps(k[:, own], v[:, own], [rate[:, own, None] for rate in rates], weights)
        changed = (one + step for one, step in zip(weights, steps, strict=True))
        weights = FastWeights(*(one / _root_mean_square(one) * n for one, n in zip(changed, lengths, strict=True)))
    return np.concatenate(results, axis=1), weights


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-x)))


def _root_mean_square(weight: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt((weight**2).mean(axis=-1, keepdims=True) + _EPSILON))


def _applied(q: FloatArray, weights: FastWeights) -> FloatArray:
    left, right = q @ weights.w1, q @ weights.w3
    return np.asarray((left * _sigmoid(left) * right) @ weights.w2)


def _steps(
    k: FloatArray, v: FloatArray, rates: Sequence[FloatArray], weights: FastWeights
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What is added to each weight: minus the gradient of -sum f(k) . v, by the rates of the tokens."""
    left, right = k @ weights.w1, k @ weights.w3
    gate = _sigmoid(left)
    silu = left * gate
    back = v @ weights.w2.swapaxes(-1, -2)
    slope = gate + silu - silu * gate
    step1 = k.swapaxes(-1, -2) @ (back * right * slope * rates[0])
    step2 = (silu * right).swapaxes(-1, -2) @ (v * rates[1])
    step3 = k.swapaxes(-1, -2) @ (back * silu * rates[2])
    return step1, step2, step3


def chunk_counts(tokens: int, heads: int, width: int, inner: int) -> dict[str, int]:
    """FLOP of reading and of changing the weights, of all tokens: 6 and 12 for each entry of a head's weight."""
    entries = tokens * heads * width * inner
    return {"apply": 6 * entries, "update": 12 * entries}
