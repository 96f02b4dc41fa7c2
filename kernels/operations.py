"""The kernels as functions of tensors. They launch; they check shapes; they neither time nor compare.

Tensors are PyTorch's, dense and on one device (on the CPU with TRITON_INTERPRET=1). ``out`` is written if it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tilewright.errors import InputError
from tilewright.kernels.tiles import AttentionTiles, MlpTiles, ProductTiles, ScanTiles

__all__ = [
    "block_sparse_attention",
    "chunk_scan",
    "fused_attention",
    "fused_mlp",
    "int4_weight_product",
    "norm_product",
    "pack_int4",
    "product",
    "scan_call",
    "sparse_call",
    "unfused_attention",
]

Tensor = Any  # torch.Tensor; torch is optional

PASSED_VALUES = 512  # of a state, in one block of the kernel that passes them on
_WIDEST = 1 << 30  # a window without an end


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    tiles: AttentionTiles | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """softmax(Q Kᵀ / sqrt(D)) V with scores that never leave the chip.

    q (B, H, M, D), k (B, G, N, D), v (B, G, N, F), G divides H; D and F powers of two of at least 16. ``causal``: the
    last query sees the last key. ``window``: a query sees itself and so many keys before it (implies causal).
    """
    import torch

    kernels = _kernels("attention")
    batch, heads, query_len, dim = q.shape
    kv_heads, key_len, value_dim = k.shape[1], k.shape[2], v.shape[3]
    _check_attention(heads, kv_heads, query_len, key_len, dim, value_dim, causal or window is not None)
    tiles = tiles or AttentionTiles()
    out = torch.empty((batch, heads, query_len, value_dim), dtype=q.dtype, device=q.device) if out is None else out
    grid = (_ceil_div(query_len, tiles.query), batch * heads)
    kernels.attention_rows[grid](
        q, k, v, out, 1 / math.sqrt(dim), query_len, key_len, _WIDEST if window is None else window,
        heads=heads, group=heads // kv_heads, dim=dim, value_dim=value_dim,
        causal=causal, banded=window is not None, block_m=tiles.query, block_n=tiles.key,
        num_stages=tiles.stages, num_warps=tiles.warps,
    )  # fmt: skip
    return out


def unfused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    tiles: ProductTiles | None = None,
    softmax_tile: int = 1024,
    out: Tensor | None = None,
) -> Tensor:
    """The same in separate kernels, with S (fp32) and P (as Q) in memory between them."""
    import torch

    kernels = _kernels("attention")
    batch, heads, query_len, dim = q.shape
    kv_heads, key_len, value_dim = k.shape[1], k.shape[2], v.shape[3]
    _check_attention(heads, kv_heads, query_len, key_len, dim, value_dim, causal or window is not None)
    planes = batch * heads
    keys, values = (each.repeat_interleave(heads // kv_heads, dim=1) for each in (k, v))
    scores = torch.empty((planes, query_len, key_len), dtype=torch.float32, device=q.device)
    transposed = keys.reshape(planes, key_len, dim).transpose(1, 2).contiguous()
    product(q.reshape(planes, query_len, dim), transposed, tiles=tiles, out=scores)
    if causal or window is not None:
        kernels.banded_scores[(planes * query_len,)](
            scores, query_len, key_len, _WIDEST if window is None else window,
            causal=causal, banded=window is not None, block_n=softmax_tile,
        )  # fmt: skip
    weights = torch.empty(scores.shape, dtype=q.dtype, device=q.device)
    kernels.softmax_rows[(planes * query_len,)](
        scores, weights, 1 / math.sqrt(dim), key_len, block_n=min(softmax_tile, _power_of_two(key_len))
    )
    out = torch.empty((batch, heads, query_len, value_dim), dtype=q.dtype, device=q.device) if out is None else out
    product(weights, values.reshape(planes, key_len, value_dim), tiles=tiles, out=out.view(planes, query_len, -1))
    return out


def block_sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, kept: Tensor, *, tiles: AttentionTiles | None = None, out: Tensor | None = None
) -> Tensor:
    """Attention that computes only the blocks in ``kept`` (planes, query blocks, key blocks; bool).

    q (planes, M, D), k (planes, N, D), v (planes, N, F); blocks are those of ``tiles``.
    """
    import torch

    if out is None:
        out = torch.empty((*q.shape[:2], v.shape[2]), dtype=q.dtype, device=q.device)
    sparse_call(q, k, v, kept, tiles=tiles or AttentionTiles(), out=out)()
    return out


def sparse_call(
    q: Tensor, k: Tensor, v: Tensor, kept: Tensor, *, tiles: AttentionTiles, out: Tensor
) -> Callable[[], None]:
    """A call that writes :func:`block_sparse_attention` to ``out``; the lists of blocks are made here, once."""
    import torch

    kernels = _kernels("attention")
    planes, query_len, dim = q.shape
    key_len, value_dim = v.shape[1:]
    expected = (planes, _ceil_div(query_len, tiles.query), _ceil_div(key_len, tiles.key))
    if tuple(kept.shape) != expected:
        raise InputError(f"kept: shape {tuple(kept.shape)}; allowed {expected} with these tiles")
    _check_attention(1, 1, query_len, key_len, dim, value_dim, False)
    counts = kept.sum(-1, dtype=torch.int32)
    ends = counts.flatten().cumsum(0, dtype=torch.int32).view(planes, -1)
    starts = torch.cat([ends[:, :1] - counts[:, :1], ends], dim=1).to(torch.int32).contiguous()
    blocks = kept.nonzero()[:, 2].to(torch.int32).contiguous()

    def run() -> None:
        kernels.block_sparse_rows[(expected[1], planes)](
            q, k, v, out, starts, blocks, 1 / math.sqrt(dim), query_len, key_len,
            dim=dim, value_dim=value_dim, block_m=tiles.query, block_n=tiles.key,
            num_stages=tiles.stages, num_warps=tiles.warps,
        )  # fmt: skip

    return run


def chunk_scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor,
    *,
    persistent: bool = True,
    tiles: ScanTiles | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The scan of Mamba-2 over whole sequences: S = exp(dt A) S + B (dt x)^T, y = S^T C + D x, from a state of zeros.

    x (B, L, H, P), dt (B, L, H), a and skip (H), b and c (B, L, G, N): G divides H, P and N are powers of two of at
    least 16; dt, a and skip are in fp32. ``persistent``: one kernel that walks the chunks of a head, each one tile
    of tokens; else three, parallel over chunks, with the states (fp32) in memory between them.
    """
    import torch

    tiles = tiles or ScanTiles()
    _check_scan(x.shape[2], x.shape[3], b.shape[2], b.shape[3], tiles)
    out = torch.empty_like(x) if out is None else out
    scan_call(x, dt, a, b, c, skip, persistent=persistent, tiles=tiles, out=out)()
    return out


def scan_call(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor, *, persistent: bool, tiles: ScanTiles,
    out: Tensor,
) -> Callable[[], None]:  # fmt: skip
    """A call that writes :func:`chunk_scan` to ``out``; room for the states is taken here, once."""
    import torch

    kernels = _kernels("scan")
    batch, tokens, heads, dim = x.shape
    groups, state = b.shape[2:]
    planes, parts = batch * heads, _ceil_div(dim, tiles.value)
    shape: dict[str, Any] = {"heads": heads, "groups": groups, "dim": dim, "state": state, "block_p": tiles.value}
    launch: dict[str, Any] = {"num_stages": tiles.stages, "num_warps": tiles.warps}
    if persistent:

        def walk() -> None:
            kernels.chunk_scan_heads[(planes, parts)](
                x, dt, a, b, c, skip, out, tokens, **shape, block_t=tiles.chunk, **launch
            )

        return walk
    n_chunks = _ceil_div(tokens, tiles.chunk)
    states = torch.empty((planes, n_chunks, state, dim), dtype=torch.float32, device=x.device)
    totals = torch.empty((planes, n_chunks), dtype=torch.float32, device=x.device)
    shape["block_t"] = tiles.rows
    size, of_chunk = state * dim, tiles.chunk // tiles.rows
    block = min(size, PASSED_VALUES)

    def run() -> None:
        kernels.chunk_states[(n_chunks, planes, parts)](
            x, dt, a, b, states, totals, tokens, n_chunks, tiles.chunk, **shape, **launch
        )
        kernels.pass_states[(planes, size // block)](states, totals, n_chunks, size=size, block=block)
        kernels.chunk_outputs[(n_chunks * of_chunk, planes, parts)](
            x, dt, a, b, c, skip, states, out, tokens, n_chunks, tiles.chunk, **shape, **launch
        )

    return run


def _check_scan(heads: int, dim: int, groups: int, state: int, tiles: ScanTiles) -> None:
    if heads % groups:
        raise InputError(f"b: given {groups} groups; allowed divisors of the {heads} heads")
    for name, width in (("x", dim), ("b", state)):
        if width < 16 or width & (width - 1):
            raise InputError(f"{name}: given a width of {width}; allowed 16, 32, 64, 128, 256")
    if tiles.value > dim:
        raise InputError(f"tile value: given {tiles.value}; allowed up to the {dim} values of a head")


def product(
    a: Tensor,
    b: Tensor,
    *,
    a_scale: Tensor | None = None,
    b_scale: Tensor | None = None,
    tiles: ProductTiles | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """C = A B. a (m, k) or (planes, m, k), b alike; int8 operands are summed in int32, others in fp32.

    ``a_scale`` (m) and ``b_scale`` (n), fp32, multiply rows and columns of the sum. ``out`` is fp16 unless given.
    """
    import torch

    kernels = _kernels("gemm")
    planes = a.shape[0] if a.dim() == 3 else 1
    m, k = a.shape[-2:]
    n = b.shape[-1]
    if b.shape[-2] != k:
        raise InputError(f"product: inner sizes differ; given {k} and {b.shape[-2]}")
    if (a_scale is None) != (b_scale is None):
        raise InputError("product: scales of both operands or of none")
    tiles = tiles or ProductTiles()
    out = torch.empty((*a.shape[:-1], n), dtype=torch.float16, device=a.device) if out is None else out
    scaled = a_scale is not None
    kernels.product[(_ceil_div(m, tiles.m) * _ceil_div(n, tiles.n), planes)](
        a, b, out, a_scale if scaled else out, b_scale if scaled else out, m, n, k,
        scaled=scaled, whole=a.dtype == torch.int8, **_product_options(tiles),
    )  # fmt: skip
    return out


def pack_int4(codes: Tensor) -> Tensor:
    """Integers of -8 to 7 (k, n), k even, as bytes (k / 2, n): even rows in the low four bits, odd rows in the high."""
    import torch

    low, high = codes[0::2].to(torch.int32) & 15, codes[1::2].to(torch.int32) & 15
    return (low | (high << 4)).to(torch.uint8)


def int4_weight_product(
    a: Tensor,
    packed: Tensor,
    scales: Tensor,
    *,
    group_size: int,
    tiles: ProductTiles | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """C = A W, A (m, k) in fp16 or bf16, W in int4 by :func:`pack_int4` with ``scales`` (k / group_size, n)."""
    import torch

    kernels = _kernels("gemm")
    m, k = a.shape
    n = packed.shape[1]
    if packed.shape[0] * 2 != k or scales.shape != (_ceil_div(k, group_size), n):
        raise InputError(f"int4 product: weights {tuple(packed.shape)} and scales {tuple(scales.shape)} for k = {k}")
    tiles = tiles or ProductTiles()
    out = torch.empty((m, n), dtype=a.dtype, device=a.device) if out is None else out
    kernels.int4_weight_product[(_ceil_div(m, tiles.m) * _ceil_div(n, tiles.n),)](
        a, packed, scales, out, m, n, k, group_size=group_size, **_product_options(tiles)
    )
    return out


def norm_product(
    a: Tensor,
    gain: Tensor,
    b: Tensor,
    *,
    epsilon: float = 1e-6,
    tiles: ProductTiles | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """RMSNorm(A) B in one kernel; a (m, k), gain (k), b (k, n)."""
    import torch

    kernels = _kernels("gemm")
    (m, k), n = a.shape, b.shape[1]
    tiles = tiles or ProductTiles()
    out = torch.empty((m, n), dtype=a.dtype, device=a.device) if out is None else out
    kernels.norm_product[(_ceil_div(m, tiles.m) * _ceil_div(n, tiles.n),)](
        a, gain, b, out, m, n, k, epsilon, **_product_options(tiles)
    )
    return out


def fused_mlp(
    x: Tensor, w_up: Tensor, w_down: Tensor, *, tiles: MlpTiles | None = None, out: Tensor | None = None
) -> Tensor:
    """relu(X W_up) W_down in one kernel; x (m, d), w_up (d, h), w_down (h, o); d and o powers of two of at least 16."""
    import torch

    kernels = _kernels("gemm")
    m, width = x.shape
    hidden, out_width = w_down.shape
    for name, size in (("input", width), ("output", out_width)):
        _check_power(f"fused mlp: {name} width", size)
    tiles = tiles or MlpTiles()
    out = torch.empty((m, out_width), dtype=x.dtype, device=x.device) if out is None else out
    kernels.mlp_rows[(_ceil_div(m, tiles.row),)](
        x, w_up, w_down, out, m, hidden, width=width, out_width=out_width, block_m=tiles.row, block_h=tiles.hidden,
        num_stages=tiles.stages, num_warps=tiles.warps,
    )  # fmt: skip
    return out


def _kernels(name: str) -> Any:
    """A module of Triton kernels; this is the one place where Triton is imported."""
    from importlib import import_module

    try:
        import_module("triton")
    except ImportError:
        raise InputError("GPU kernels need Triton; install it with: pip install 'tilewright[gpu]'") from None
    return import_module(f"tilewright.kernels.triton_kernels.{name}")


def _product_options(tiles: ProductTiles) -> dict[str, int]:
    return {
        "block_m": tiles.m,
        "block_n": tiles.n,
        "block_k": tiles.k,
        "rows_in_group": tiles.group,
        "num_stages": tiles.stages,
        "num_warps": tiles.warps,
    }


def _check_attention(
    heads: int, kv_heads: int, query_len: int, key_len: int, dim: int, value_dim: int, masked: bool
) -> None:
    if heads % kv_heads:
        raise InputError(f"attention: {kv_heads} key heads do not divide {heads} query heads")
    if masked and key_len < query_len:
        raise InputError(f"attention: a mask needs as many keys as queries; given {key_len} and {query_len}")
    _check_power("attention: head size", dim)
    _check_power("attention: value size", value_dim)


def _check_power(what: str, size: int) -> None:
    if size < 16 or size & (size - 1):
        raise InputError(f"{what}: given {size}; allowed powers of two from 16 on")


def _power_of_two(size: int) -> int:
    return 1 << max(4, (size - 1).bit_length())


def _ceil_div(size: int, tile: int) -> int:
    return -(-size // tile)
