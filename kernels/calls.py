"""One call of each kernel with fresh random inputs, for measuring.

``Build`` makes the inputs on a device and returns a call that uses them; the number of bytes that it touches decides
how many sets of inputs are rotated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.kernels import operations
from tilewright.kernels.tiles import AttentionTiles, MlpTiles, ProductTiles, ScanTiles

__all__ = ["BUILDERS", "Build", "Call", "Setting"]

Tensor = Any


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and what: a torch device, shape, formats and tiles of the configuration, the name of a network."""

    device: str
    shape: Mapping[str, int]
    formats: Mapping[str, str]
    tiles: Mapping[str, int]
    network: str = ""

    def normal(self, *size: int) -> Tensor:
        """Random fp16 numbers of a normal distribution: real data, since power and clock depend on the bits."""
        import torch

        return torch.randn(size, device=self.device, dtype=torch.float32).to(torch.float16)

    def operand(self, number_format: str, *size: int) -> Tensor:
        """A random operand in ``number_format``."""
        import torch

        if number_format == "int8":
            return torch.randint(-127, 128, size, device=self.device, dtype=torch.int8)
        values = self.normal(*size)
        return values.to(torch.float8_e4m3fn) if number_format == "fp8_e4m3" else values


@dataclass(frozen=True, slots=True)
class Call:
    """``run()`` launches once; ``inputs`` are kept alive and counted."""

    run: Callable[[], Any]
    inputs: tuple[Tensor, ...]

    @property
    def n_bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.inputs)


Build = Callable[[Setting], Call]


def _torch_matmul(s: Setting) -> Call:
    import torch

    m, n, k = s.shape["m"], s.shape["n"], s.shape["k"]
    a, b = s.normal(m, k), s.normal(k, n)
    c = torch.empty(m, n, dtype=a.dtype, device=s.device)
    return Call(lambda: torch.matmul(a, b, out=c), (a, b, c))


def _torch_int_mm(s: Setting) -> Call:
    import torch

    m, n, k = s.shape["m"], s.shape["n"], s.shape["k"]
    a, b = s.operand("int8", m, k), s.operand("int8", n, k).t()
    return Call(lambda: torch._int_mm(a, b), (a, b))


def _torch_scaled_mm(s: Setting) -> Call:
    import torch

    m, n, k = s.shape["m"], s.shape["n"], s.shape["k"]
    a, b = s.operand("fp8_e4m3", m, k), s.operand("fp8_e4m3", n, k).t()
    one = torch.ones((), device=s.device)
    return Call(lambda: torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.float16), (a, b))


def _triton_product(s: Setting) -> Call:
    import torch

    m, n, k = s.shape["m"], s.shape["n"], s.shape["k"]
    tiles = ProductTiles(**s.tiles)
    out = torch.empty(m, n, dtype=torch.float16, device=s.device)
    if s.formats["b"] == "int4":
        size = s.shape["group_size"]
        a = s.normal(m, k)
        packed = torch.randint(0, 256, (k // 2, n), device=s.device, dtype=torch.uint8)
        scales = s.normal(-(-k // size), n)
        return Call(
            lambda: operations.int4_weight_product(a, packed, scales, group_size=size, tiles=tiles, out=out),
            (a, packed, scales, out),
        )
    a, b = s.operand(s.formats["a"], m, k), s.operand(s.formats["b"], k, n)
    if s.formats["a"] == "fp16":
        return Call(lambda: operations.product(a, b, tiles=tiles, out=out), (a, b, out))
    rows, columns = torch.rand(m, device=s.device), torch.rand(n, device=s.device)
    return Call(lambda: operations.product(a, b, a_scale=rows, b_scale=columns, tiles=tiles, out=out), (a, b, out))


def _attention_inputs(s: Setting) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    shape = s.shape
    q = s.normal(shape["batch"], shape["heads"], shape["query_len"], shape["head_dim"])
    k = s.normal(shape["batch"], shape["kv_heads"], shape["key_len"], shape["head_dim"])
    v = s.normal(shape["batch"], shape["kv_heads"], shape["key_len"], shape["value_dim"])
    mask: dict[str, Any] = {"causal": bool(shape["causal"])}
    if "window" in shape:
        mask["window"] = shape["window"]
    return q, k, v, mask


def _torch_sdpa(s: Setting) -> Call:
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v, mask = _attention_inputs(s)
    grouped = s.shape["heads"] != s.shape["kv_heads"]
    return Call(lambda: scaled_dot_product_attention(q, k, v, is_causal=mask["causal"], enable_gqa=grouped), (q, k, v))


def _triton_fused_attention(s: Setting) -> Call:
    q, k, v, mask = _attention_inputs(s)
    tiles = AttentionTiles(**s.tiles) if s.tiles else AttentionTiles()
    out = s.normal(*q.shape[:3], v.shape[3])
    return Call(lambda: operations.fused_attention(q, k, v, **mask, tiles=tiles, out=out), (q, k, v, out))


def _triton_unfused_attention(s: Setting) -> Call:
    q, k, v, mask = _attention_inputs(s)
    out = s.normal(*q.shape[:3], v.shape[3])
    return Call(lambda: operations.unfused_attention(q, k, v, **mask, out=out), (q, k, v, out))


def _triton_sparse_attention(s: Setting) -> Call:
    import torch

    q, k, v, _ = _attention_inputs(s)
    q, k, v = (each.flatten(0, 1) for each in (q, k, v))
    tiles = AttentionTiles(**s.tiles)
    n_query, n_key = -(-q.shape[1] // tiles.query), -(-k.shape[1] // tiles.key)
    kept = torch.rand(q.shape[0], n_query, n_key, device=s.device) < s.shape["kept_per_mille"] / 1000
    out = torch.empty_like(q)
    run = operations.sparse_call(q, k, v, kept, tiles=tiles, out=out)
    return Call(run, (q, k, v, out))


def _triton_scan(s: Setting, *, persistent: bool) -> Call:
    import torch

    shape = s.shape
    batch, tokens, heads, groups = (shape[name] for name in ("batch", "tokens", "heads", "groups"))
    x = s.normal(batch, tokens, heads, shape["head_dim"])
    b, c = (s.normal(batch, tokens, groups, shape["state_dim"]) for _ in range(2))
    dt = torch.rand(batch, tokens, heads, device=s.device) * 0.1
    a, skip = -1 - 15 * torch.rand(heads, device=s.device), torch.ones(heads, device=s.device)
    out = torch.empty_like(x)
    tiles = ScanTiles(**s.tiles) if s.tiles else ScanTiles()
    run = operations.scan_call(x, dt, a, b, c, skip, persistent=persistent, tiles=tiles, out=out)
    return Call(run, (x, dt, b, c, out))


def _triton_persistent_scan(s: Setting) -> Call:
    return _triton_scan(s, persistent=True)


def _triton_chunked_scan(s: Setting) -> Call:
    return _triton_scan(s, persistent=False)


def _mlp_inputs(s: Setting) -> tuple[Tensor, Tensor, Tensor]:
    width, hidden = s.shape["width"], s.shape["hidden"]
    return s.normal(s.shape["m"], width), s.normal(width, hidden) / 16, s.normal(hidden, s.shape["out_width"]) / 16


def _torch_mlp(s: Setting) -> Call:
    x, up, down = _mlp_inputs(s)
    return Call(lambda: (x @ up).relu_() @ down, (x, up, down))


def _triton_mlp(s: Setting) -> Call:
    x, up, down = _mlp_inputs(s)
    tiles, out = MlpTiles(**s.tiles), s.normal(s.shape["m"], s.shape["out_width"])
    return Call(lambda: operations.fused_mlp(x, up, down, tiles=tiles, out=out), (x, up, down, out))


def _norm_inputs(s: Setting) -> tuple[Tensor, Tensor, Tensor]:
    m, n, k = s.shape["m"], s.shape["n"], s.shape["k"]
    return s.normal(m, k), s.normal(k), s.normal(k, n)


def _torch_norm_gemm(s: Setting) -> Call:
    from torch.nn.functional import rms_norm

    a, gain, b = _norm_inputs(s)
    return Call(lambda: rms_norm(a, gain.shape, gain) @ b, (a, gain, b))


def _triton_norm_gemm(s: Setting) -> Call:
    a, gain, b = _norm_inputs(s)
    tiles, out = ProductTiles(**s.tiles), s.normal(s.shape["m"], s.shape["n"])
    return Call(lambda: operations.norm_product(a, gain, b, tiles=tiles, out=out), (a, gain, b, out))


def _torch_elementwise(s: Setting) -> Call:
    import torch

    a = s.normal(s.shape["rows"], s.shape["columns"])
    out = torch.empty_like(a)
    return Call(lambda: torch.add(a, 1.0, out=out), (a, out))


def _torch_softmax(s: Setting) -> Call:
    import torch

    a = s.normal(s.shape["rows"], s.shape["columns"])
    return Call(lambda: torch.softmax(a, -1), (a, a))


def _torch_rmsnorm(s: Setting) -> Call:
    from torch.nn.functional import rms_norm

    a, gain = s.normal(s.shape["rows"], s.shape["columns"]), s.normal(s.shape["columns"])
    return Call(lambda: rms_norm(a, gain.shape, gain), (a, a))


def _torch_network(s: Setting) -> Call:
    from tilewright.kernels.networks import network_module

    module, inputs = network_module(s)

    def run() -> Any:
        import torch

        with torch.inference_mode():
            return module(inputs)

    return Call(run, (inputs, *module.parameters()))


BUILDERS: Mapping[tuple[str, str], Build] = {
    ("gemm", "torch_matmul"): _torch_matmul,
    ("gemm", "torch_int_mm"): _torch_int_mm,
    ("gemm", "torch_scaled_mm"): _torch_scaled_mm,
    ("gemm", "triton"): _triton_product,
    ("attention", "torch_sdpa"): _torch_sdpa,
    ("attention", "triton_fused"): _triton_fused_attention,
    ("attention", "triton_unfused"): _triton_unfused_attention,
    ("block_sparse_attention", "triton"): _triton_sparse_attention,
    ("scan", "triton_ssd_persistent"): _triton_persistent_scan,
    ("scan", "triton_ssd_chunked"): _triton_chunked_scan,
    ("mlp", "torch"): _torch_mlp,
    ("mlp", "triton_fused"): _triton_mlp,
    ("norm_gemm", "torch"): _torch_norm_gemm,
    ("norm_gemm", "triton_fused"): _triton_norm_gemm,
    ("elementwise", "torch"): _torch_elementwise,
    ("softmax", "torch"): _torch_softmax,
    ("rmsnorm", "torch"): _torch_rmsnorm,
    ("network", "torch_eager"): _torch_network,
}
