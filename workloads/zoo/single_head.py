"""SHViT: vision transformers whose attention has one head, on part of the channels (Yun and Ro, arXiv 2401.16456)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.vision import squeeze_excite

__all__ = ["SHVIT_SIZES", "ShvitConfig", "shvit", "single_head_attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShvitConfig:
    """Widths of the three stages, blocks of each, and channels of each that attention sees.

    ``heads_from``: the first stage whose blocks have attention; ``key_dim``: channels of a query and of a key.
    """

    widths: Sequence[int]
    depths: Sequence[int]
    seen: Sequence[int]
    key_dim: int = 16
    heads_from: int = 1


#: The four published sizes; each sees one in 4.67 of its channels, rounded.
SHVIT_SIZES = {
    "s1": ShvitConfig(widths=(128, 224, 320), depths=(2, 4, 5), seen=(32, 48, 68)),
    "s2": ShvitConfig(widths=(128, 308, 448), depths=(2, 4, 5), seen=(32, 66, 96)),
    "s3": ShvitConfig(widths=(192, 352, 448), depths=(3, 5, 5), seen=(48, 75, 96)),
    "s4": ShvitConfig(widths=(224, 336, 448), depths=(4, 7, 6), seen=(48, 72, 96)),
}


def shvit(b: Layers, config: ShvitConfig, *, batch: int, image: int, classes: int) -> OperatorStream:
    """SHViT: four strided convolutions to a sixteenth, then three stages of depthwise convolution, attention, FFN."""
    x = b.input("image", (batch, 3, image, image))
    for index, part in enumerate((8, 4, 2, 1)):
        x = b.conv(x, config.widths[0] // part, 3, f"stem{index}", stride=2, batch_norm=True)
        x = b.elementwise("relu", x) if part > 1 else x
    for stage, (width, depth, seen) in enumerate(zip(config.widths, config.depths, config.seen, strict=True)):
        with b.scope("stages", stage):
            x = _smaller(b, x, width) if stage else x
            for index in range(depth):
                with b.scope(index):
                    x = _near(b, x)
                    if stage >= config.heads_from:
                        x = b.elementwise("add", single_head_attention(b, x, seen, config.key_dim), x)
                    x = _wide(b, x)
    width = config.widths[-1]
    x = b.global_mean(x)
    b.n_parameters += 2 * width  # the batch norm before the classifier is folded into it
    return b.finish([b.linear(x, classes, "classifier")], n_parameters=b.n_parameters)


def single_head_attention(b: Layers, x: str, seen: int, key_dim: int) -> str:
    """One head of attention over the first ``seen`` channels of x (batch, channels, height, width); all are projected.

    Queries and keys have ``key_dim`` channels, values ``seen``. Pixels are the rows, as a map stored pixel by pixel
    has them.
    """
    batch, width, *size = b.shape(x)
    n_pixels = math.prod(size)
    mine = b.norm(b.part(x, 0, seen, 1), "pre_norm", function="group", groups=1)
    joined = b.conv(mine, 2 * key_dim + seen, 1, "qkv", batch_norm=True)
    shares = ((0, key_dim), (key_dim, key_dim), (2 * key_dim, seen))
    q, k, v = (
        b.view(b.part(joined, at, n, 1), (batch, 1, n_pixels, n), f"rows_{at}", order=(0, 2, 3, 1)) for at, n in shares
    )
    attributes = {
        "batch": batch,
        "query_heads": 1,
        "kv_heads": 1,
        "query_len": n_pixels,
        "key_len": n_pixels,
        "head_dim": key_dim,
        "value_dim": seen,
        "mask": "none",
    }
    y = b.add("attention", "attention", [q, k, v], (batch, 1, n_pixels, seen), attributes)
    y = b.view(y, (batch, seen, *size), "map", order=(0, 1, 3, 2))
    y = b.concat([y, b.part(x, seen, width - seen, 1)], 1)
    return b.conv(b.elementwise("relu", y), width, 1, "proj", batch_norm=True)


def _near(b: Layers, x: str) -> str:
    """x and a depthwise convolution of it; the sum is a tap of the kernel once it has been folded."""
    return b.conv(x, b.shape(x)[1], 3, "near", groups=b.shape(x)[1], batch_norm=True)


def _wide(b: Layers, x: str) -> str:
    width = b.shape(x)[1]
    y = b.elementwise("relu", b.conv(x, 2 * width, 1, "wide", batch_norm=True))
    return b.elementwise("add", b.conv(y, width, 1, "narrow", batch_norm=True), x)


def _smaller(b: Layers, x: str, width: int) -> str:
    """To half the size: depthwise convolution and FFN before and after, a strided inverted block between."""
    with b.scope("before"):
        x = _wide(b, _near(b, x))
    inner = 4 * b.shape(x)[1]
    y = b.elementwise("relu", b.conv(x, inner, 1, "expand", batch_norm=True))
    y = b.elementwise("relu", b.conv(y, inner, 3, "halve", stride=2, groups=inner, batch_norm=True))
    y = b.conv(squeeze_excite(b, y, inner // 4, "relu"), width, 1, "merge", batch_norm=True)
    with b.scope("after"):
        return _wide(b, _near(b, y))
