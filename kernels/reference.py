"""What the kernels must return, in float64 and one obvious line each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["attention", "block_sparse_attention", "chunk_scan", "int4_weights", "mlp", "norm_product"]

Array = NDArray[np.float64]


def attention(q: Array, k: Array, v: Array, *, causal: bool = False, window: int | None = None) -> Array:
    """q (B, H, M, D), k (B, G, N, D), v (B, G, N, F) -> (B, H, M, F); masks as in ``operations.fused_attention``."""
    group = q.shape[1] // k.shape[1]
    keys, values = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = q @ keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    distance = np.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2] - np.arange(k.shape[2])
    if causal or window is not None:
        scores = np.where(distance < 0, -np.inf, scores)
    if window is not None:
        scores = np.where(distance > window, -np.inf, scores)
    return np.asarray(_softmax(scores) @ values)


def block_sparse_attention(q: Array, k: Array, v: Array, kept: NDArray[np.bool_], query: int, key: int) -> Array:
    """q (planes, M, D), k (planes, N, D), v (planes, N, F); ``kept`` holds blocks of ``query`` x ``key``."""
    seen = kept.repeat(query, axis=1)[:, : q.shape[1]].repeat(key, axis=2)[:, :, : k.shape[1]]
    scores = np.where(seen, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    return np.asarray(np.where(seen.any(-1, keepdims=True), _softmax(scores), 0.0) @ v)


def chunk_scan(x: Array, dt: Array, a: Array, b: Array, c: Array, skip: Array) -> Array:
    """Token by token; shapes as in ``operations.chunk_scan``."""
    heads = x.shape[2]
    keys, queries = (np.repeat(one, heads // one.shape[2], axis=2) for one in (b, c))
    held = np.zeros((x.shape[0], heads, b.shape[3], x.shape[3]))
    out = np.empty_like(x)
    for t in range(x.shape[1]):
        held *= np.exp(dt[:, t] * a)[..., None, None]
        held += keys[:, t, :, :, None] * (dt[:, t, :, None] * x[:, t])[:, :, None]
        out[:, t] = np.einsum("bhnp,bhn->bhp", held, queries[:, t]) + skip[:, None] * x[:, t]
    return out


def int4_weights(codes: NDArray[np.int64], scales: Array, group_size: int) -> Array:
    """Weights (k, n) of integers with a scale for each ``group_size`` rows."""
    return np.asarray(codes * scales.repeat(group_size, axis=0)[: codes.shape[0]])


def norm_product(a: Array, gain: Array, b: Array, epsilon: float = 1e-6) -> Array:
    """RMSNorm over the last axis of ``a``, times ``gain``, times ``b``."""
    return np.asarray(a / np.sqrt((a * a).mean(-1, keepdims=True) + epsilon) * gain @ b)


def mlp(x: Array, w_up: Array, w_down: Array) -> Array:
    """relu(x w_up) w_down."""
    return np.asarray(np.maximum(x @ w_up, 0) @ w_down)


def _softmax(scores: Array) -> Array:
    highest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(highest), highest, 0.0))
    total = weights.sum(-1, keepdims=True)
    return np.asarray(weights / np.where(total == 0, 1.0, total))
