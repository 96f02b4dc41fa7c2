"""The Triton kernels against float64 references: fresh random inputs, poisoned outputs.

On a GPU where there is one, else in Triton's interpreter on the CPU.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.kernels import operations, reference
from tilewright.kernels.tiles import AttentionTiles, MlpTiles, ProductTiles, ScanTiles

pytestmark = pytest.mark.extras

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[gpu]'")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton", reason="triton is not installed: pip install 'tilewright[gpu]'")


@pytest.fixture
def seed() -> int:
    """New numbers in each run; the seed is in the failing test's output."""
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    return seed


def normal(*shape: int) -> Any:
    return torch.randn(*shape, device=DEVICE).half()


def poisoned(*shape: int, dtype: Any = torch.float16) -> Any:
    return torch.full(shape, float("nan"), dtype=dtype, device=DEVICE)


def exact(tensor: Any) -> Any:
    return tensor.double().cpu().numpy()


def close(ours: Any, wanted: Any, tolerance: float = 2e-3) -> None:
    """Largest error beside the largest value: fp16 has 11 bits, and sums are in fp32."""
    error = np.abs(exact(ours) - wanted).max() / max(np.abs(wanted).max(), 1e-30)
    assert error < tolerance, error


MASKS = [{}, {"causal": True}, {"causal": True, "window": 9}, {"window": 0}]
LAYERS = [(1, 2, 2, 40, 40, 16, 16), (2, 4, 2, 33, 50, 32, 16), (1, 3, 1, 1, 70, 16, 32)]


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
@pytest.mark.parametrize("tile", [(16, 16), (32, 16), (16, 64)], ids=str)
def test_fused_attention(layer: tuple[int, ...], mask: dict[str, Any], tile: tuple[int, int]) -> None:
    batch, heads, kv_heads, query_len, key_len, dim, value_dim = layer
    q = normal(batch, heads, query_len, dim)
    k, v = normal(batch, kv_heads, key_len, dim), normal(batch, kv_heads, key_len, value_dim)
    out = poisoned(batch, heads, query_len, value_dim)
    operations.fused_attention(q, k, v, **mask, tiles=AttentionTiles(query=tile[0], key=tile[1]), out=out)
    close(out, reference.attention(exact(q), exact(k), exact(v), **mask))


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_unfused_attention(mask: dict[str, Any]) -> None:
    q, k, v = normal(1, 4, 20, 16), normal(1, 2, 37, 16), normal(1, 2, 37, 32)
    out = poisoned(1, 4, 20, 32)
    tiles = ProductTiles(m=16, n=32, k=16, group=2)
    operations.unfused_attention(q, k, v, **mask, tiles=tiles, softmax_tile=16, out=out)
    close(out, reference.attention(exact(q), exact(k), exact(v), **mask))


@pytest.mark.usefixtures("seed")
def test_block_sparse_attention() -> None:
    q, k, v = normal(3, 50, 16), normal(3, 70, 16), normal(3, 70, 32)
    kept = torch.rand(3, 4, 3, device=DEVICE) < 0.4
    kept[1, 2] = False  # a row of blocks without any key
    out = poisoned(3, 50, 32)
    operations.block_sparse_attention(q, k, v, kept, tiles=AttentionTiles(query=16, key=32), out=out)
    close(out, reference.block_sparse_attention(exact(q), exact(k), exact(v), kept.cpu().numpy(), 16, 32))


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "chunked"])
@pytest.mark.parametrize("layer", [(2, 70, 4, 2, 32, 16), (1, 1, 1, 1, 16, 32), (1, 64, 3, 1, 16, 16)], ids=str)
@pytest.mark.parametrize("tile", [(16, 16, 16), (32, 16, 16), (64, 32, 16)], ids=str)
def test_chunk_scan(layer: tuple[int, ...], tile: tuple[int, int, int], persistent: bool) -> None:
    batch, tokens, heads, groups, dim, state = layer
    x = normal(batch, tokens, heads, dim)
    b, c = normal(batch, tokens, groups, state), normal(batch, tokens, groups, state)
    dt = torch.rand(batch, tokens, heads, device=DEVICE)
    a, skip = -3 * torch.rand(heads, device=DEVICE), torch.rand(heads, device=DEVICE)
    out = poisoned(batch, tokens, heads, dim)
    tiles = ScanTiles(chunk=tile[0], rows=tile[1], value=tile[2])
    operations.chunk_scan(x, dt, a, b, c, skip, persistent=persistent, tiles=tiles, out=out)
    close(out, reference.chunk_scan(*(exact(one) for one in (x, dt, a, b, c, skip))), 4e-3)


@pytest.mark.parametrize(
    ("shape", "tiles", "message"),
    [
        ((3, 2, 16, 16), {}, "given 2 groups; allowed divisors of the 3 heads"),
        ((2, 2, 24, 16), {}, "x: given a width of 24"),
        ((2, 2, 16, 16), {"value": 32}, "tile value: given 32; allowed up to the 16"),
        ((2, 2, 16, 16), {"rows": 256}, "tile rows: given 256; allowed up to the 128"),
    ],
)
def test_scans_that_cannot_be(shape: tuple[int, ...], tiles: dict[str, int], message: str) -> None:
    heads, groups, dim, state = shape
    x, b, dt = normal(1, 16, heads, dim), normal(1, 16, groups, state), torch.rand(1, 16, heads, device=DEVICE)
    a = torch.rand(heads, device=DEVICE)
    with pytest.raises(InputError, match=message):
        operations.chunk_scan(x, dt, a, b, b, a, tiles=ScanTiles(**{"value": 16, **tiles}))


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("tiles", [ProductTiles(m=16, n=16, k=16, group=1), ProductTiles(m=32, n=16, k=32, group=3)])
def test_product(tiles: ProductTiles) -> None:
    a, b, c = normal(50, 70), normal(70, 35), poisoned(50, 35)
    operations.product(a, b, tiles=tiles, out=c)
    close(c, exact(a) @ exact(b))


@pytest.mark.usefixtures("seed")
def test_int8_product_with_scales_is_exact_before_its_last_rounding() -> None:
    a, b = (torch.randint(-128, 128, shape, dtype=torch.int8, device=DEVICE) for shape in ((33, 90), (90, 40)))
    a_scale, b_scale = torch.rand(33, device=DEVICE), torch.rand(40, device=DEVICE)
    c = poisoned(33, 40, dtype=torch.float32)
    operations.product(a, b, a_scale=a_scale, b_scale=b_scale, tiles=ProductTiles(m=16, n=32, k=32), out=c)
    close(c, exact(a) @ exact(b) * exact(a_scale)[:, None] * exact(b_scale), 1e-6)


@pytest.mark.usefixtures("seed")
def test_fp8_product_with_scales() -> None:
    a, b = (torch.randn(shape, device=DEVICE).to(torch.float8_e4m3fn) for shape in ((32, 64), (64, 32)))
    a_scale, b_scale = torch.rand(32, device=DEVICE), torch.rand(32, device=DEVICE)
    c = poisoned(32, 32, dtype=torch.float32)
    operations.product(a, b, a_scale=a_scale, b_scale=b_scale, tiles=ProductTiles(m=16, n=16, k=32), out=c)
    close(c, exact(a) @ exact(b) * exact(a_scale)[:, None] * exact(b_scale), 1e-5)


@pytest.mark.usefixtures("seed")
@pytest.mark.parametrize("group_size", [32, 128])
def test_int4_weights_with_group_scales(group_size: int) -> None:
    codes = torch.randint(-8, 8, (256, 48), device=DEVICE)
    scales = (0.5 + torch.rand(256 // group_size, 48, device=DEVICE)).half()
    a, c = normal(20, 256), poisoned(20, 48)
    packed = operations.pack_int4(codes)
    assert packed.shape == (128, 48) and packed.dtype == torch.uint8
    tiles = ProductTiles(m=16, n=16, k=64)
    operations.int4_weight_product(a, packed, scales, group_size=group_size, tiles=tiles, out=c)
    close(c, exact(a) @ reference.int4_weights(codes.cpu().numpy(), exact(scales), group_size))


@pytest.mark.usefixtures("seed")
def test_norm_before_a_product() -> None:
    a, gain, b, c = 3 * normal(21, 100), normal(100), normal(100, 40), poisoned(21, 40)
    operations.norm_product(a, gain, b, tiles=ProductTiles(m=16, n=32, k=32), out=c)
    close(c, reference.norm_product(exact(a), exact(gain), exact(b)), 4e-3)


@pytest.mark.usefixtures("seed")
def test_mlp_with_its_hidden_values_on_chip() -> None:
    x, up, down, y = normal(37, 32), normal(32, 100) / 8, normal(100, 64) / 8, poisoned(37, 64)
    operations.fused_mlp(x, up, down, tiles=MlpTiles(row=16, hidden=32), out=y)
    close(y, reference.mlp(exact(x), exact(up), exact(down)), 4e-3)


def test_wrong_shapes_are_one_line() -> None:
    with pytest.raises(InputError, match=r"attention: head size: given 24; allowed powers of two"):
        operations.fused_attention(normal(1, 1, 8, 24), normal(1, 1, 8, 24), normal(1, 1, 8, 16))
    with pytest.raises(InputError, match="3 key heads do not divide 4"):
        operations.fused_attention(normal(1, 4, 8, 16), normal(1, 3, 8, 16), normal(1, 3, 8, 16))
    with pytest.raises(InputError, match="inner sizes differ; given 4 and 5"):
        operations.product(normal(4, 4), normal(5, 4))
    with pytest.raises(InputError, match=r"tile query: given 24; allowed 16, 32"):
        AttentionTiles(query=24)
