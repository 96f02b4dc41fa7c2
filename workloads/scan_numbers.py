"""Scans in float64: token by token, which defines them, and the chunked forms that machines run.

q and k: (batch, tokens, key heads, key_dim); v: (batch, tokens, heads, value_dim), heads a multiple of the key heads;
decays: logarithms, (batch, tokens, heads) or with a last dimension of key_dim; states: (batch, heads, key_dim,
value_dim), zeros where none is given. Every function returns results and the last state. Formulas: Dao and Gu (arXiv
2405.21060), Yang et al. (arXiv 2312.06635, 2412.06464), Kimi (arXiv 2510.26692), Gu and Dao (arXiv 2312.00752).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.workloads.operators import Operator

__all__ = [
    "causal_conv",
    "chunked_decay_scan",
    "chunked_delta_scan",
    "decay_scan",
    "delta_scan",
    "retention_decays",
    "scan_tensors",
    "selective_scan",
    "softplus",
    "tree_selective_scan",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]
Scanned: TypeAlias = tuple[FloatArray, FloatArray]


def softplus(x: FloatArray) -> FloatArray:
    """log(1 + exp(x))."""
    return np.asarray(np.logaddexp(x, 0.0))


def retention_decays(heads: int) -> FloatArray:
    """Logarithms of 1 - 2^-(5 + head), the decays of retention (arXiv 2307.08621, section 3.1)."""
    return np.asarray(np.log1p(-(2.0 ** -(5.0 + np.arange(heads)))))


def scan_tensors(
    operator: Operator, inputs: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None]:
    """Queries, keys, values and the state (None: zeros) of an operator whose first inputs they are."""
    batch, tokens, heads, groups, n, p = (
        operator.count(key) for key in ("batch", "tokens", "heads", "key_heads", "key_dim", "value_dim")
    )
    q, k = (one.reshape(batch, tokens, groups, n) for one in inputs[:2])
    state = inputs[-1].reshape(batch, heads, n, p) if operator.attributes.get("state") else None
    return q, k, inputs[2].reshape(batch, tokens, heads, p), state


def _by_head(x: FloatArray, heads: int) -> FloatArray:
    """(batch, heads, tokens, width): heads that share keys get them all."""
    return np.repeat(x, heads // x.shape[2], axis=2).transpose(0, 2, 1, 3)


def _prepared(
    q: FloatArray, k: FloatArray, v: FloatArray, decays: FloatArray, state: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    heads = v.shape[2]
    of_channel = decays if decays.ndim == 4 else decays[..., None]
    start = np.zeros((v.shape[0], heads, k.shape[-1], v.shape[-1])) if state is None else np.array(state)
    return _by_head(q, heads), _by_head(k, heads), v.transpose(0, 2, 1, 3), of_channel.transpose(0, 2, 1, 3), start


def decay_scan(
    q: FloatArray, k: FloatArray, v: FloatArray, decays: FloatArray, *, state: FloatArray | None = None
) -> Scanned:
    """S = a S + k v^T, o = S^T q."""
    q, k, v, a, s = _prepared(q, k, v, decays, state)
    out = np.empty_like(v)
    for t in range(v.shape[2]):
        s = np.exp(a[:, :, t])[..., None] * s + k[:, :, t, :, None] * v[:, :, t, None, :]
        out[:, :, t] = np.einsum("bhnp,bhn->bhp", s, q[:, :, t])
    return out.transpose(0, 2, 1, 3), s


def delta_scan(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    decays: FloatArray,
    beta: FloatArray,
    *,
    state: FloatArray | None = None,
) -> Scanned:
    """S = a S, then S + beta k (v - S^T k)^T, o = S^T q. ``beta``: (batch, tokens, heads)."""
    q, k, v, a, s = _prepared(q, k, v, decays, state)
    out = np.empty_like(v)
    for t in range(v.shape[2]):
        s = np.exp(a[:, :, t])[..., None] * s
        error = v[:, :, t] - np.einsum("bhnp,bhn->bhp", s, k[:, :, t])
        s = s + k[:, :, t, :, None] * (beta[:, t, :, None] * error)[:, :, None, :]
        out[:, :, t] = np.einsum("bhnp,bhn->bhp", s, q[:, :, t])
    return out.transpose(0, 2, 1, 3), s


def _chunks(tokens: int, chunk: int) -> list[slice]:
    if not 1 <= chunk <= tokens:
        raise InputError(f"scan: chunk: given {chunk}; allowed 1 to {tokens}, the tokens of the sequence")
    return [slice(start, min(tokens, start + chunk)) for start in range(0, tokens, chunk)]


def _decayed(q: FloatArray, k: FloatArray, sums: FloatArray) -> FloatArray:
    """q_i . k_j with the decay between j and i, for j up to i: pairs are formed before the exponential, which so never
    overflows.
    """
    rows = q.shape[2]
    between = sums[:, :, :, None] - sums[:, :, None]
    seen = np.tril(np.ones((rows, rows), dtype=bool))[..., None]
    decay = np.exp(np.where(seen, between, -np.inf))
    if decay.shape[-1] == 1:
        return np.asarray(np.einsum("bhin,bhjn->bhij", q, k) * decay[..., 0])
    return np.asarray(np.einsum("bhin,bhjn,bhijn->bhij", q, k, decay))


def chunked_decay_scan(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    decays: FloatArray,
    *,
    chunk: int,
    state: FloatArray | None = None,
) -> Scanned:
    """:func:`decay_scan` by chunks: within the chunk, from the state before it, and into the state behind it."""
    q, k, v, a, s = _prepared(q, k, v, decays, state)
    out = np.empty_like(v)
    for at in _chunks(v.shape[2], chunk):
        sums = np.cumsum(a[:, :, at], axis=2)
        last = sums[:, :, -1:]
        within = _decayed(q[:, :, at], k[:, :, at], sums) @ v[:, :, at]
        out[:, :, at] = within + (np.exp(sums) * q[:, :, at]) @ s
        into = (np.exp(last - sums) * k[:, :, at]).transpose(0, 1, 3, 2) @ v[:, :, at]
        s = np.exp(last[:, :, 0])[..., None] * s + into
    return out.transpose(0, 2, 1, 3), s


def chunked_delta_scan(
    q: FloatArray,
    k: FloatArray,
    v: FloatArray,
    decays: FloatArray,
    beta: FloatArray,
    *,
    chunk: int,
    state: FloatArray | None = None,
) -> Scanned:
    """:func:`delta_scan` by chunks: T = (I + lower(beta K K^T))^-1 diag(beta), V' = T V - (T K) S, then as without."""
    q, k, v, a, s = _prepared(q, k, v, decays, state)
    out, strength = np.empty_like(v), beta.transpose(0, 2, 1)[..., None]
    for at in _chunks(v.shape[2], chunk):
        sums = np.cumsum(a[:, :, at], axis=2)
        last = sums[:, :, -1:]
        square = strength[:, :, at] * _decayed(k[:, :, at], k[:, :, at], sums)
        unit = np.eye(square.shape[-1])
        inverse = np.linalg.inv(unit + np.tril(square, -1)) * strength[:, :, at].transpose(0, 1, 3, 2)
        w, u = inverse @ (np.exp(sums) * k[:, :, at]), inverse @ v[:, :, at]
        new = u - w @ s
        within = _decayed(q[:, :, at], k[:, :, at], sums) @ new
        out[:, :, at] = (np.exp(sums) * q[:, :, at]) @ s + within
        into = (np.exp(last - sums) * k[:, :, at]).transpose(0, 1, 3, 2) @ new
        s = np.exp(last[:, :, 0])[..., None] * s + into
    return out.transpose(0, 2, 1, 3), s


def selective_scan(
    x: FloatArray,
    step: FloatArray,
    a: FloatArray,
    b: FloatArray,
    c: FloatArray,
    *,
    state: FloatArray | None = None,
) -> Scanned:
    """h = exp(step A) h + step x B, y = C h. x and step (batch, tokens, channels), a (channels, states), b and c
    (batch, tokens, states); states are (batch, channels, states).
    """
    h = np.zeros((x.shape[0], *a.shape)) if state is None else np.array(state)
    y = np.empty_like(x)
    for t in range(x.shape[1]):
        h = np.exp(step[:, t, :, None] * a) * h + (step[:, t] * x[:, t])[..., None] * b[:, t, None, :]
        y[:, t] = np.einsum("bdn,bn->bd", h, c[:, t])
    return y, h


def tree_selective_scan(
    x: FloatArray,
    step: FloatArray,
    a: FloatArray,
    b: FloatArray,
    c: FloatArray,
    *,
    chunk: int,
    state: FloatArray | None = None,
) -> Scanned:
    """:func:`selective_scan` by chunks, each as a tree of pairs (a, b) that combine as (a2 a1, a2 b1 + b2)."""
    h = np.zeros((x.shape[0], *a.shape)) if state is None else np.array(state)
    y = np.empty_like(x)
    for at in _chunks(x.shape[1], chunk):
        factors = np.exp(step[:, at, :, None] * a)
        summands = (step[:, at] * x[:, at])[..., None] * b[:, at, None, :]
        products, sums = _tree(factors, summands)
        states = products * h[:, None] + sums
        y[:, at] = np.einsum("btdn,btn->btd", states, c[:, at])
        h = states[:, -1]
    return y, h


def _tree(factors: FloatArray, summands: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of each token all factors up to it, and the recurrence from zero: pairs of neighbours, then those between."""
    n = factors.shape[1]
    if n == 1:
        return factors, summands
    even, odd = slice(0, n - 1, 2), slice(1, n, 2)
    pairs = _tree(factors[:, odd] * factors[:, even], factors[:, odd] * summands[:, even] + summands[:, odd])
    products, sums = np.array(factors), np.array(summands)
    products[:, odd], sums[:, odd] = pairs
    later, before = slice(2, n, 2), slice(1, n - 1, 2)
    products[:, later] = factors[:, later] * products[:, before]
    sums[:, later] = factors[:, later] * sums[:, before] + summands[:, later]
    return products, sums


def causal_conv(
    x: FloatArray, weight: FloatArray, bias: FloatArray, *, state: FloatArray | None = None, plain: bool = False
) -> Scanned:
    """silu(bias + sum of weight[i] x[t - width + 1 + i]); x (batch, tokens, channels), weight (channels, width).

    The state holds the last width - 1 tokens: (batch, width - 1, channels). ``plain``: without the SiLU.
    """
    width = weight.shape[1]
    before = np.zeros((x.shape[0], width - 1, x.shape[2])) if state is None else state
    all_tokens = np.concatenate([before, x], axis=1)
    y = bias + sum(weight[:, i] * all_tokens[:, i : i + x.shape[1]] for i in range(width))
    return y if plain else y / (1 + np.exp(-y)), all_tokens[:, all_tokens.shape[1] - width + 1 :]
