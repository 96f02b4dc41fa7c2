"""Pyramid vision transformers (PVTv2, Wang et al., arXiv 2106.13797), and what ShiftAddViT makes of them: products of
shifts and of additions in place of multiplications (You et al., arXiv 2306.06446; layers as in its released code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["PVT_SIZES", "Primitives", "PyramidConfig", "code_attention", "feed_forward", "linear_of", "pvt_v2"]

_SHIFT_FORMAT = "int5"  # a sign and a power of two, as the released code keeps them
_CODE_FORMAT = "int1"
_INDEX_FORMAT = "int32"


@dataclass(frozen=True, slots=True, kw_only=True)
class PyramidConfig:
    """Four stages: channels, heads, blocks, how many times as wide a feed-forward layer is, and by how much each side
    is made smaller for keys and values.
    """

    widths: Sequence[int]
    depths: Sequence[int]
    heads: Sequence[int] = (1, 2, 5, 8)
    wider: Sequence[int] = (8, 8, 4, 4)
    smaller: Sequence[int] = (8, 4, 2, 1)


PVT_SIZES = {
    "b0": PyramidConfig(widths=(32, 64, 160, 256), depths=(2, 2, 2, 2)),
    "b1": PyramidConfig(widths=(64, 128, 320, 512), depths=(2, 2, 2, 2)),
    "b2": PyramidConfig(widths=(64, 128, 320, 512), depths=(3, 4, 6, 3)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Primitives:
    """How ShiftAddViT computes: ``multiplied`` per cent of a layer's tokens are multiplied, others shifted and added.

    Between 0 and 100 a router gives each token to one of two experts; how many go where comes from its training and is
    an option here. ``code_bits`` and ``anchors`` of the hash that makes codes of queries and keys.
    """

    multiplied: int
    code_bits: int = 16
    anchors: int = 25


def pvt_v2(
    b: Layers, config: PyramidConfig, primitives: Primitives | None, *, batch: int, image: int, classes: int
) -> OperatorStream:
    """PVTv2; with ``primitives`` ShiftAddViT: all but the last stage attend in linear time on codes, by additions."""
    x = b.input("image", (batch, 3, image, image))
    last = len(config.widths) - 1
    for stage, (width, heads) in enumerate(zip(config.widths, config.heads, strict=True)):
        with b.scope("stages", stage):
            x = b.conv(x, width, 3 if stage else 7, "patches", stride=2 if stage else 4)
            size = b.shape(x)[2:]
            x = b.norm(b.pixel_rows(x), "patches.norm")
            for index in range(config.depths[stage]):
                with b.scope(index):
                    y = b.norm(x, "norm1")
                    with b.scope("attention"):
                        if primitives is None:
                            y = _reduced_attention(b, y, size, heads, config.smaller[stage])
                        elif stage == last:
                            y = _attention(b, y, heads)
                        else:
                            y = code_attention(b, y, heads, primitives)
                    x = b.elementwise("add", y, x, name="add1")
                    y = feed_forward(b, b.norm(x, "norm2"), size, config.wider[stage] * width, primitives)
                    x = b.elementwise("add", y, x, name="add2")
            x = b.norm(x, "norm")
            if stage < last:
                x = b.pixel_map(x, *size)
    mean = b.global_mean(b.pixel_map(x, *size))
    return b.finish([b.linear(mean, classes, "classifier")], n_parameters=b.n_parameters)


# --- attention ------------------------------------------------------------------------------------------------------


def _reduced_attention(b: Layers, x: str, size: Sequence[int], heads: int, smaller: int) -> str:
    """Queries of all pixels; keys and values of a map that a strided convolution has made smaller."""
    width = b.shape(x)[-1]
    q = b.linear(x, width, "query")
    y = x
    if smaller > 1:
        y = b.conv(b.pixel_map(x, *size), width, smaller, "reduce", stride=smaller, padding=0)
        y = b.norm(b.pixel_rows(y), "reduce.norm")
    both = b.linear(y, 2 * width, "key_value")
    k, v = (b.part(both, at * width, width) for at in range(2))
    return b.linear(b.attention(q, k, v, "sdpa", head_dim=width // heads), width, "output")


def _attention(b: Layers, x: str, heads: int) -> str:
    width = b.shape(x)[-1]
    qkv = b.linear(x, 3 * width, "qkv")
    q, k, v = (b.part(qkv, at * width, width) for at in range(3))
    return b.linear(b.attention(q, k, v, "sdpa", head_dim=width // heads), width, "output")


def code_attention(b: Layers, x: str, heads: int, how: Primitives) -> str:
    """Linear attention on codes of +1 and -1 that queries and keys share: K^T V and Q (K^T V) are sums.

    Beside it values pass a depthwise convolution over nine tokens. x is (batch, tokens, channels).
    """
    batch, n, width = b.shape(x)
    dim = width // heads
    both = linear_of(b, x, width, "query_key", how)
    v = linear_of(b, x, width, "value", how)
    codes = _codes(b, both, heads, how)  # (batch, heads x bits, tokens, 1)
    bits = how.code_bits
    by_head = b.view(v, (batch, heads, dim, n), "by_head", split=(batch, n, heads, dim), order=(0, 2, 3, 1))
    by_token = b.view(codes, (batch, heads, n, bits), "by_token", split=(batch, heads, bits, n), order=(0, 1, 3, 2))
    kv = _sums(b, by_head, by_token, "key_value")
    y = _sums(b, kv, b.view(codes, (batch, heads, bits, n), "by_bit"), "mix")  # (batch, heads, dim, tokens)
    y = b.view(y, (batch, n, heads, dim), "rows", order=(0, 3, 1, 2))
    mine = b.view(v, (batch, n, heads, dim), "heads")
    y = b.elementwise(
        "add",
        b.elementwise("mul", mine, b.constant("half", (1,))),
        b.elementwise("mul", y, b.constant("over_pi", (1,))),
        name="join",
    )
    y = b.norm(y, "unit", function="rms", weights=[b.constant("unit.scale", (dim,))])
    near = b.view(v, (batch, heads, n, dim), "head_maps", split=(batch, n, heads, dim), order=(0, 2, 1, 3))
    near = b.conv(near, heads, (9, 1), "near", groups=heads, bias=False)
    near = b.view(near, (batch, n, heads, dim), "rows", order=(0, 2, 1, 3))
    y = b.view(b.elementwise("add", y, near, name="add_near"), (batch, n, width), "tokens")
    return linear_of(b, y, width, "output", how)


def _codes(b: Layers, x: str, heads: int, how: Primitives) -> str:
    """The hash of the released code: distances to anchors, a kernel of them, and the signs of ``code_bits`` sums.

    Constants (anchors, means) are folded into weights and biases; the kernel's width is the mean of a head's distances.
    """
    batch, n, width = b.shape(x)
    y = b.norm(b.view(x, (batch, n, heads, width // heads), "heads"), "hash.unit", function="rms", affine=False)
    y = b.view(y, (batch, width, n, 1), "map", split=(batch, n, width), order=(0, 2, 1))
    y = b.conv(y, heads * how.anchors, 1, "hash.anchors", groups=heads)
    sizes = {"function": "mean", "rows": batch * heads, "columns": how.anchors * n}
    spread = b.add(
        "reduction", "hash.spread", [b.view(y, (batch, heads, how.anchors * n), "of_head")], (batch, heads), sizes
    )
    y = b.view(y, (batch, heads, how.anchors * n, 1), "by_head")
    y = b.elementwise("exp", b.elementwise("div", y, b.view(spread, (batch, heads, 1, 1), "wide")), name="hash.kernel")
    y = b.view(y, (batch, heads * how.anchors, n, 1), "map")
    y = b.conv(y, heads * how.code_bits, 1, "hash.bits", groups=heads)
    shape = b.shape(y)
    attributes = {"function": "sign", "n_elements": math.prod(shape)}
    return b.add("elementwise", "hash.sign", [y], shape, attributes, number_format=_CODE_FORMAT)


def _sums(b: Layers, a: str, signs: str, name: str) -> str:
    """a (batch, heads, m, k) times signs (batch, heads, k, n): additions alone."""
    *lead, m, k = b.shape(a)
    n = b.shape(signs)[-1]
    attributes = {"batch": math.prod(lead), "m": m, "k": k, "n": n, "primitive": "add"}
    return b.add("shift_matmul", name, [a, signs], [*lead, m, n], attributes)


# --- layers ---------------------------------------------------------------------------------------------------------


def feed_forward(b: Layers, x: str, size: Sequence[int], inner: int, how: Primitives | None) -> str:
    """Two layers with a depthwise convolution between, on the pixels of a map of ``size``."""
    width = b.shape(x)[-1]
    with b.scope("mlp"):
        y = linear_of(b, x, inner, "up", how)
        y = b.pixel_rows(b.conv(b.pixel_map(y, *size), inner, 3, "near", groups=inner))
        return linear_of(b, b.elementwise("gelu", y), width, "down", how)


def linear_of(b: Layers, x: str, n_out: int, name: str, how: Primitives | None) -> str:
    """A linear layer of x (batch, tokens, channels): multiplied, of shifts and sums, or both on tokens of their own.

    A router's two scores put the tokens in an order; the first of them are multiplied. Results come back to their
    places.
    """
    if how is None or how.multiplied == 100:
        return b.linear(x, n_out, name)
    if not how.multiplied:
        return _shifted(b, x, n_out, name)
    batch, n, n_in = b.shape(x)
    n_rows = batch * n
    n_multiplied = max(1, min(n_rows - 1, round(n_rows * how.multiplied / 100)))
    with b.scope(name):
        rows = b.view(x, (n_rows, n_in), "rows")
        scores = b.linear(rows, 2, "router")
        order = b.add("reshape", "order", [scores], (n_rows,), {"function": "order"}, number_format=_INDEX_FORMAT)
        spread = b.lookup(rows, order, "spread")
        parts = [
            b.linear(b.part(spread, 0, n_multiplied, 0), n_out, "multiply"),
            _shifted(b, b.part(spread, n_multiplied, n_rows - n_multiplied, 0), n_out, "shift"),
        ]
        y = b.concat(parts, 0, "join")
        back = b.add("reshape", "places", [order], (n_rows,), {"function": "inverse"}, number_format=_INDEX_FORMAT)
        return b.view(b.lookup(y, back, "back"), (batch, n, n_out), "tokens")


def _shifted(b: Layers, x: str, n_out: int, name: str) -> str:
    *lead, n_in = b.shape(x)
    b.n_parameters += n_in * n_out
    weight = b.weight(f"{name}.weight", (n_in, n_out), number_format=_SHIFT_FORMAT)
    attributes = {"batch": 1, "m": math.prod(lead), "k": n_in, "n": n_out, "primitive": "shift"}
    return b.add("shift_matmul", name, [x, weight, b.trained(f"{name}.bias", n_out)], [*lead, n_out], attributes)
