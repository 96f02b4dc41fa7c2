"""The scan of Mamba-2 (state-space duality, Dao and Gu, arXiv 2405.21060) in Triton, in two forms.

With a_t = dt_t A and X_t = dt_t x_t, the state is S_t = exp(a_t) S_(t-1) + B_t X_t^T and y_t = S_t^T C_t + D x_t.
One kernel that walks the chunks of a head with its state on chip; or three, parallel over chunks: what each chunk adds
to the state, the states passed from chunk to chunk, and the results. Decays are kept as logarithms to base 2, and pairs
of tokens are formed before the exponential, which so never overflows. Written to measure how time depends on the tiles.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["chunk_outputs", "chunk_scan_heads", "chunk_states", "pass_states"]

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def chunk_scan_heads(
    x, dt, a, b, c, skip, y, tokens,
    heads: tl.constexpr, groups: tl.constexpr, dim: tl.constexpr, state: tl.constexpr,
    block_t: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """All chunks of ``block_t`` tokens of one head, ``block_p`` of its values; the state never leaves the chip.

    x, y (B, L, H, P), dt (B, L, H), a and skip (H), b and c (B, L, G, N), all dense; ``dim`` is P and ``state`` is N.
    """
    plane = tl.program_id(0)
    batch = (plane // heads).to(tl.int64)
    head = plane % heads
    group = head // (heads // groups)
    p = tl.program_id(1) * block_p + tl.arange(0, block_p)
    n = tl.arange(0, state)
    t = tl.arange(0, block_t)
    x += batch * tokens * heads * dim + head * dim
    y += batch * tokens * heads * dim + head * dim
    dt += batch * tokens * heads + head
    b += batch * tokens * groups * state + group * state
    c += batch * tokens * groups * state + group * state
    rate = tl.load(a + head) * _LOG2_E
    through = tl.load(skip + head)
    held = tl.zeros((state, block_p), tl.float32)
    for start in range(0, tokens, block_t):
        rows = start + t
        inside = rows < tokens
        step = tl.load(dt + rows * heads, mask=inside, other=0.0)
        sums = tl.cumsum(step * rate, 0)
        last = tl.sum(step * rate, 0)
        x_tile = tl.load(x + rows[:, None] * (heads * dim) + p[None, :], mask=inside[:, None], other=0.0)
        scaled = (x_tile.to(tl.float32) * step[:, None]).to(x_tile.dtype)
        b_tile = tl.load(b + rows[None, :] * (groups * state) + n[:, None], mask=inside[None, :], other=0.0)
        c_tile = tl.load(c + rows[:, None] * (groups * state) + n[None, :], mask=inside[:, None], other=0.0)
        between = tl.where(t[:, None] >= t[None, :], sums[:, None] - sums[None, :], float("-inf"))
        weights = tl.dot(c_tile, b_tile) * tl.exp2(between)
        out = tl.dot(c_tile, held.to(c_tile.dtype)) * tl.exp2(sums)[:, None]
        out = tl.dot(weights.to(x_tile.dtype), scaled, out) + x_tile.to(tl.float32) * through
        tl.store(y + rows[:, None] * (heads * dim) + p[None, :], out.to(y.dtype.element_ty), mask=inside[:, None])
        keys = (b_tile.to(tl.float32) * tl.exp2(last - sums)[None, :]).to(b_tile.dtype)
        held = tl.dot(keys, scaled, held * tl.exp2(last))


@triton.jit
def chunk_states(
    x, dt, a, b, states, totals, tokens, n_chunks, chunk,
    heads: tl.constexpr, groups: tl.constexpr, dim: tl.constexpr, state: tl.constexpr,
    block_t: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """What one chunk adds to the state of one head, from its last tokens to its first.

    ``states`` (B, H, n_chunks, N, P) in fp32, ``totals`` (B, H, n_chunks): logarithms of what is left of a state.
    """
    plane = tl.program_id(1)
    batch = (plane // heads).to(tl.int64)
    head = plane % heads
    group = head // (heads // groups)
    p = tl.program_id(2) * block_p + tl.arange(0, block_p)
    n = tl.arange(0, state)
    t = tl.arange(0, block_t)
    x += batch * tokens * heads * dim + head * dim
    dt += batch * tokens * heads + head
    b += batch * tokens * groups * state + group * state
    rate = tl.load(a + head) * _LOG2_E
    behind = 0.0
    added = tl.zeros((state, block_p), tl.float32)
    for back in range(0, chunk, block_t):
        rows = tl.program_id(0) * chunk + chunk - block_t - back + t
        inside = rows < tokens
        step = tl.load(dt + rows * heads, mask=inside, other=0.0)
        sums = tl.cumsum(step * rate, 0)
        last = tl.sum(step * rate, 0)
        x_tile = tl.load(x + rows[:, None] * (heads * dim) + p[None, :], mask=inside[:, None], other=0.0)
        scaled = (x_tile.to(tl.float32) * step[:, None]).to(x_tile.dtype)
        b_tile = tl.load(b + rows[None, :] * (groups * state) + n[:, None], mask=inside[None, :], other=0.0)
        keys = (b_tile.to(tl.float32) * tl.exp2(behind + last - sums)[None, :]).to(b_tile.dtype)
        added = tl.dot(keys, scaled, added)
        behind += last
    place = plane.to(tl.int64) * n_chunks + tl.program_id(0)
    tl.store(states + place * state * dim + n[:, None] * dim + p[None, :], added)
    tl.store(totals + place, behind)


@triton.jit
def pass_states(states, totals, n_chunks, size: tl.constexpr, block: tl.constexpr):
    """``block`` values of one head's state, from chunk to chunk: each chunk's place gets the state before it."""
    plane = tl.program_id(0).to(tl.int64)
    values = states + plane * n_chunks * size + tl.program_id(1) * block + tl.arange(0, block)
    totals += plane * n_chunks
    held = tl.zeros((block,), tl.float32)
    for at in range(n_chunks):
        added = tl.load(values)
        tl.store(values, held)
        held = held * tl.exp2(tl.load(totals + at)) + added
        values += size


@triton.jit
def chunk_outputs(
    x, dt, a, b, c, skip, states, y, tokens, n_chunks, chunk,
    heads: tl.constexpr, groups: tl.constexpr, dim: tl.constexpr, state: tl.constexpr,
    block_t: tl.constexpr, block_p: tl.constexpr,
):  # fmt: skip
    """``block_t`` results of one head: of the tokens of its chunk up to them, and of the state before it."""
    plane = tl.program_id(1)
    batch = (plane // heads).to(tl.int64)
    head = plane % heads
    group = head // (heads // groups)
    of_chunk = chunk // block_t
    number = tl.program_id(0) // of_chunk
    own = tl.program_id(0) % of_chunk
    p = tl.program_id(2) * block_p + tl.arange(0, block_p)
    n = tl.arange(0, state)
    t = tl.arange(0, block_t)
    x += batch * tokens * heads * dim + head * dim
    y += batch * tokens * heads * dim + head * dim
    dt += batch * tokens * heads + head
    b += batch * tokens * groups * state + group * state
    c += batch * tokens * groups * state + group * state
    rate = tl.load(a + head) * _LOG2_E
    rows = number * chunk + own * block_t + t
    inside = rows < tokens
    step = tl.load(dt + rows * heads, mask=inside, other=0.0)
    sums = tl.cumsum(step * rate, 0)
    c_tile = tl.load(c + rows[:, None] * (groups * state) + n[None, :], mask=inside[:, None], other=0.0)
    between = -tl.sum(step * rate, 0)  # of the tiles between a tile and the own one
    out = tl.zeros((block_t, block_p), tl.float32)
    for back in range(own + 1):
        others = rows - back * block_t
        there = others < tokens
        of_others = tl.load(dt + others * heads, mask=there, other=0.0)
        their_sums = tl.cumsum(of_others * rate, 0)
        last = tl.sum(of_others * rate, 0)
        x_tile = tl.load(x + others[:, None] * (heads * dim) + p[None, :], mask=there[:, None], other=0.0)
        scaled = (x_tile.to(tl.float32) * of_others[:, None]).to(x_tile.dtype)
        b_tile = tl.load(b + others[None, :] * (groups * state) + n[:, None], mask=there[None, :], other=0.0)
        apart = sums[:, None] + (between + last - their_sums)[None, :]
        decay = tl.exp2(tl.where(rows[:, None] >= others[None, :], apart, float("-inf")))
        weights = tl.dot(c_tile, b_tile) * decay
        out = tl.dot(weights.to(x_tile.dtype), scaled, out)
        between += last
    place = plane.to(tl.int64) * n_chunks + number
    held = tl.load(states + place * state * dim + n[:, None] * dim + p[None, :])
    out += tl.dot(c_tile, held.to(c_tile.dtype)) * tl.exp2(between + sums)[:, None]
    x_own = tl.load(x + rows[:, None] * (heads * dim) + p[None, :], mask=inside[:, None], other=0.0)
    out += x_own.to(tl.float32) * tl.load(skip + head)
    tl.store(y + rows[:, None] * (heads * dim) + p[None, :], out.to(y.dtype.element_ty), mask=inside[:, None])
