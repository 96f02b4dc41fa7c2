"""Products in Triton: plain, in int8 and fp8, with int4 weights, and with a neighbour fused in.

C (m, n) = A (m, k) B (k, n), row-major. Each program makes one tile of C; programs go down ``rows_in_group`` tiles of
rows before the next column, so that a wave of programs shares its operands in the cache.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["int4_weight_product", "mlp_rows", "norm_product", "product"]


@triton.jit
def _tile_of(m, n, block_m: tl.constexpr, block_n: tl.constexpr, rows_in_group: tl.constexpr):
    """Row and column of this program's tile."""
    n_rows = tl.cdiv(m, block_m)
    n_columns = tl.cdiv(n, block_n)
    place = tl.program_id(0)
    group = place // (rows_in_group * n_columns)
    first = group * rows_in_group
    height = tl.minimum(n_rows - first, rows_in_group)
    inside = place % (rows_in_group * n_columns)
    return first + inside % height, inside // height


@triton.jit
def product(
    a, b, c, a_scale, b_scale, m, n, k,
    scaled: tl.constexpr, whole: tl.constexpr, block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr,
    rows_in_group: tl.constexpr,
):  # fmt: skip
    """C = A B; ``whole`` sums in int32 (int8 operands), else in fp32. ``scaled``: a factor per row and per column.

    Batched over the second grid dimension when operands hold several planes one behind the other.
    """
    row, column = _tile_of(m, n, block_m, block_n, rows_in_group)
    plane = tl.program_id(1).to(tl.int64)
    a += plane * m * k
    b += plane * k * n
    c += plane * m * n
    rows = row * block_m + tl.arange(0, block_m)
    columns = column * block_n + tl.arange(0, block_n)
    nothing: tl.constexpr = 0 if whole else 0.0
    total = tl.zeros((block_m, block_n), tl.int32 if whole else tl.float32)
    for start in range(0, k, block_k):
        depth = start + tl.arange(0, block_k)
        a_tile = tl.load(
            a + rows[:, None] * k + depth[None, :], mask=(rows[:, None] < m) & (depth[None, :] < k), other=nothing
        )
        b_tile = tl.load(
            b + depth[:, None] * n + columns[None, :], mask=(depth[:, None] < k) & (columns[None, :] < n), other=nothing
        )
        total = tl.dot(a_tile, b_tile, total, out_dtype=tl.int32 if whole else tl.float32)
    result = total.to(tl.float32)
    if scaled:
        result *= tl.load(a_scale + rows, mask=rows < m, other=0.0)[:, None]
        result *= tl.load(b_scale + columns, mask=columns < n, other=0.0)[None, :]
    inside = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c + rows[:, None] * n + columns[None, :], result.to(c.dtype.element_ty), mask=inside)


@triton.jit
def int4_weight_product(
    a, packed, scales, c, m, n, k,
    group_size: tl.constexpr, block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr,
    rows_in_group: tl.constexpr,
):  # fmt: skip
    """C = A W with W in int4, two values a byte: byte (i, j) holds W[2i, j] (low) and W[2i + 1, j] (high), -8 to 7.

    ``scales`` (k / group_size, n): W is integer x scale; ``block_k`` divides ``group_size`` or the other way round
    does not matter, scales are read by element.
    """
    row, column = _tile_of(m, n, block_m, block_n, rows_in_group)
    rows = row * block_m + tl.arange(0, block_m)
    columns = column * block_n + tl.arange(0, block_n)
    total = tl.zeros((block_m, block_n), tl.float32)
    for start in range(0, k, block_k):
        depth = start + tl.arange(0, block_k)
        a_tile = tl.load(
            a + rows[:, None] * k + depth[None, :], mask=(rows[:, None] < m) & (depth[None, :] < k), other=0.0
        )
        inside = (depth[:, None] < k) & (columns[None, :] < n)
        byte = tl.load(packed + (depth[:, None] // 2) * n + columns[None, :], mask=inside, other=0).to(tl.int32)
        code = (byte >> (depth[:, None] % 2 * 4)) & 15
        signed = tl.where(code > 7, code - 16, code)
        scale = tl.load(scales + (depth[:, None] // group_size) * n + columns[None, :], mask=inside, other=0.0)
        w_tile = (signed.to(tl.float32) * scale.to(tl.float32)).to(a_tile.dtype)
        total = tl.dot(a_tile, w_tile, total)
    inside_c = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c + rows[:, None] * n + columns[None, :], total.to(c.dtype.element_ty), mask=inside_c)


@triton.jit
def norm_product(
    a, gain, b, c, m, n, k, epsilon,
    block_m: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr, rows_in_group: tl.constexpr,
):  # fmt: skip
    """C = RMSNorm(A) B in one pass: the rows' squares are summed beside the product and divide it at the end."""
    row, column = _tile_of(m, n, block_m, block_n, rows_in_group)
    rows = row * block_m + tl.arange(0, block_m)
    columns = column * block_n + tl.arange(0, block_n)
    total = tl.zeros((block_m, block_n), tl.float32)
    squares = tl.zeros((block_m,), tl.float32)
    for start in range(0, k, block_k):
        depth = start + tl.arange(0, block_k)
        a_tile = tl.load(
            a + rows[:, None] * k + depth[None, :], mask=(rows[:, None] < m) & (depth[None, :] < k), other=0.0
        ).to(tl.float32)
        squares += tl.sum(a_tile * a_tile, 1)
        scaled = a_tile * tl.load(gain + depth, mask=depth < k, other=0.0).to(tl.float32)[None, :]
        b_tile = tl.load(
            b + depth[:, None] * n + columns[None, :], mask=(depth[:, None] < k) & (columns[None, :] < n), other=0.0
        )
        total = tl.dot(scaled.to(b_tile.dtype), b_tile, total)
    total *= (1.0 / tl.sqrt(squares / k + epsilon))[:, None]
    inside = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c + rows[:, None] * n + columns[None, :], total.to(c.dtype.element_ty), mask=inside)


@triton.jit
def mlp_rows(
    x, w_up, w_down, y, m, hidden,
    width: tl.constexpr, out_width: tl.constexpr, block_m: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """Y = relu(X W_up) W_down for one block of rows; a tile of ``block_h`` hidden values never leaves the chip.

    X (m, width), W_up (width, hidden), W_down (hidden, out_width); ``width`` and ``out_width`` are powers of two.
    """
    rows = tl.program_id(0) * block_m + tl.arange(0, block_m)
    d = tl.arange(0, width)
    o = tl.arange(0, out_width)
    x_tile = tl.load(x + rows[:, None] * width + d[None, :], mask=rows[:, None] < m, other=0.0)
    total = tl.zeros((block_m, out_width), tl.float32)
    for start in range(0, hidden, block_h):
        h = start + tl.arange(0, block_h)
        up = tl.load(w_up + d[:, None] * hidden + h[None, :], mask=h[None, :] < hidden, other=0.0)
        between = tl.maximum(tl.dot(x_tile, up), 0.0).to(x_tile.dtype)
        down = tl.load(w_down + h[:, None] * out_width + o[None, :], mask=h[:, None] < hidden, other=0.0)
        total = tl.dot(between, down, total)
    tl.store(y + rows[:, None] * out_width + o[None, :], total.to(y.dtype.element_ty), mask=rows[:, None] < m)
