"""Attention in Triton: fused with an online softmax, unfused in three kernels, and block-sparse.

The tiles are those of the simulator's fused dataflows: a block of queries stays, blocks of keys and values stream past,
the maximum and the sum of each row are corrected as they go (Dao et al., FlashAttention). Written to measure how time
depends on the tiles, not to beat a library.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["attention_rows", "banded_scores", "block_sparse_rows", "softmax_rows"]

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def attention_rows(
    q, k, v, out, scale, query_len, key_len, window,
    heads: tl.constexpr, group: tl.constexpr, dim: tl.constexpr, value_dim: tl.constexpr,
    causal: tl.constexpr, banded: tl.constexpr, block_m: tl.constexpr, block_n: tl.constexpr,
):  # fmt: skip
    """One block of ``block_m`` queries of one head; q (B, H, M, D), k (B, H/group, N, D), v (…, N, F), all dense."""
    rows = tl.program_id(0) * block_m + tl.arange(0, block_m)
    plane = tl.program_id(1)
    kv_plane = (plane // heads) * (heads // group) + (plane % heads) // group
    q += plane.to(tl.int64) * query_len * dim
    out += plane.to(tl.int64) * query_len * value_dim
    k += kv_plane.to(tl.int64) * key_len * dim
    v += kv_plane.to(tl.int64) * key_len * value_dim
    d = tl.arange(0, dim)
    f = tl.arange(0, value_dim)
    q_tile = tl.load(q + rows[:, None] * dim + d[None, :], mask=rows[:, None] < query_len, other=0.0)
    highest = tl.full((block_m,), float("-inf"), tl.float32)
    total = tl.zeros((block_m,), tl.float32)
    values = tl.zeros((block_m, value_dim), tl.float32)
    # The last query sees the last key: row i sees the keys up to i + key_len - query_len.
    shift = key_len - query_len
    first = 0
    last = key_len
    if causal or banded:
        last = tl.minimum(key_len, (tl.program_id(0) + 1) * block_m + shift)
    if banded:
        first = tl.maximum(0, tl.program_id(0) * block_m + shift - window) // block_n * block_n
    for start in range(first, last, block_n):
        columns = start + tl.arange(0, block_n)
        inside = columns < key_len
        k_tile = tl.load(k + columns[None, :] * dim + d[:, None], mask=inside[None, :], other=0.0)
        scores = tl.dot(q_tile, k_tile) * (scale * _LOG2_E)
        seen = inside[None, :] & (rows[:, None] < query_len)
        if causal or banded:
            seen = seen & (columns[None, :] <= rows[:, None] + shift)
        if banded:
            seen = seen & (columns[None, :] >= rows[:, None] + shift - window)
        scores = tl.where(seen, scores, float("-inf"))
        new_highest = tl.maximum(highest, tl.max(scores, 1))
        # A row that has seen nothing yet has no maximum; its weights are zero, not exp(-inf + inf).
        base = tl.where(new_highest == float("-inf"), 0.0, new_highest)
        weights = tl.exp2(scores - base[:, None])
        correction = tl.exp2(highest - base)
        total = total * correction + tl.sum(weights, 1)
        v_tile = tl.load(v + columns[:, None] * value_dim + f[None, :], mask=inside[:, None], other=0.0)
        values = values * correction[:, None] + tl.dot(weights.to(v_tile.dtype), v_tile)
        highest = new_highest
    values = values / tl.where(total == 0.0, 1.0, total)[:, None]  # rows behind the last query saw nothing
    tl.store(
        out + rows[:, None] * value_dim + f[None, :], values.to(out.dtype.element_ty), mask=rows[:, None] < query_len
    )


@triton.jit
def banded_scores(
    scores, query_len, key_len, window, causal: tl.constexpr, banded: tl.constexpr, block_n: tl.constexpr
):  # fmt: skip
    """Mask one row of ``scores`` (planes, query_len, key_len) in place; the unfused form's middle step."""
    row = tl.program_id(0)
    limit = row % query_len + key_len - query_len
    scores += row.to(tl.int64) * key_len
    for start in range(0, key_len, block_n):
        columns = start + tl.arange(0, block_n)
        hidden = columns > limit if causal or banded else columns < 0
        if banded:
            hidden = hidden | (columns < limit - window)
        tl.store(scores + columns, tl.full((block_n,), float("-inf"), tl.float32), mask=hidden & (columns < key_len))


@triton.jit
def softmax_rows(scores, out, scale, n_columns, block_n: tl.constexpr):
    """Softmax of one row of ``scores`` (rows, n_columns), a tile of ``block_n`` at a time: two passes over the row."""
    row = tl.program_id(0).to(tl.int64)
    scores += row * n_columns
    out += row * n_columns
    columns = tl.arange(0, block_n)
    highest = tl.full((block_n,), float("-inf"), tl.float32)
    total = tl.zeros((block_n,), tl.float32)
    for start in range(0, n_columns, block_n):
        value = tl.load(scores + start + columns, mask=start + columns < n_columns, other=float("-inf"))
        value = value.to(tl.float32) * (scale * _LOG2_E)
        new_highest = tl.maximum(highest, value)
        base = tl.where(new_highest == float("-inf"), 0.0, new_highest)
        total = total * tl.exp2(highest - base) + tl.exp2(value - base)
        highest = new_highest
    top = tl.max(highest, 0)
    whole = tl.sum(total * tl.exp2(tl.where(highest == float("-inf"), float("-inf"), highest - top)), 0)
    for start in range(0, n_columns, block_n):
        inside = start + columns < n_columns
        value = tl.load(scores + start + columns, mask=inside, other=float("-inf")).to(tl.float32)
        weights = tl.exp2(value * (scale * _LOG2_E) - top) / whole
        tl.store(out + start + columns, weights.to(out.dtype.element_ty), mask=inside)


@triton.jit
def block_sparse_rows(
    q, k, v, out, starts, blocks, scale, query_len, key_len,
    dim: tl.constexpr, value_dim: tl.constexpr, block_m: tl.constexpr, block_n: tl.constexpr,
):  # fmt: skip
    """One block of queries against its list of key blocks.

    ``starts`` (planes x (n_query_blocks + 1)) and ``blocks`` are a row-compressed list of key-block numbers;
    q (planes, M, D), k (planes, N, D), v (planes, N, F). A row without any block gives zeros.
    """
    rows = tl.program_id(0) * block_m + tl.arange(0, block_m)
    plane = tl.program_id(1)
    q += plane.to(tl.int64) * query_len * dim
    out += plane.to(tl.int64) * query_len * value_dim
    k += plane.to(tl.int64) * key_len * dim
    v += plane.to(tl.int64) * key_len * value_dim
    starts += plane * (tl.num_programs(0) + 1) + tl.program_id(0)
    d = tl.arange(0, dim)
    f = tl.arange(0, value_dim)
    q_tile = tl.load(q + rows[:, None] * dim + d[None, :], mask=rows[:, None] < query_len, other=0.0)
    highest = tl.full((block_m,), float("-inf"), tl.float32)
    total = tl.zeros((block_m,), tl.float32)
    values = tl.zeros((block_m, value_dim), tl.float32)
    for at in range(tl.load(starts), tl.load(starts + 1)):
        columns = tl.load(blocks + at) * block_n + tl.arange(0, block_n)
        inside = columns < key_len
        k_tile = tl.load(k + columns[None, :] * dim + d[:, None], mask=inside[None, :], other=0.0)
        scores = tl.where(inside[None, :], tl.dot(q_tile, k_tile) * (scale * _LOG2_E), float("-inf"))
        new_highest = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - new_highest[:, None])
        correction = tl.exp2(highest - new_highest)
        total = total * correction + tl.sum(weights, 1)
        v_tile = tl.load(v + columns[:, None] * value_dim + f[None, :], mask=inside[:, None], other=0.0)
        values = values * correction[:, None] + tl.dot(weights.to(v_tile.dtype), v_tile)
        highest = new_highest
    values = values / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out + rows[:, None] * value_dim + f[None, :], values.to(out.dtype.element_ty), mask=rows[:, None] < query_len
    )
