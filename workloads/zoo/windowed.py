"""Swin: vision transformers whose attention stays within windows that are shifted from block to block
(Liu et al., arXiv 2103.14030).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["SWIN_SIZES", "SwinConfig", "swin", "window_attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwinConfig:
    """Channels of the first stage (each later one has twice as many), blocks of each stage, and the side of a window.

    A head has ``head_dim`` channels.
    """

    width: int
    depths: Sequence[int]
    window: int = 7
    head_dim: int = 32


SWIN_SIZES = {
    "tiny": SwinConfig(width=96, depths=(2, 2, 6, 2)),
    "small": SwinConfig(width=96, depths=(2, 2, 18, 2)),
    "base": SwinConfig(width=128, depths=(2, 2, 18, 2)),
}


def swin(b: Layers, config: SwinConfig, *, batch: int, image: int, classes: int) -> OperatorStream:
    """Swin: patches of 4 x 4 pixels, then four stages; between them four neighbours become one of twice the width."""
    x = b.conv(b.input("image", (batch, 3, image, image)), config.width, 4, "patches", stride=4, padding=0)
    side = image // 4
    x = b.norm(b.view(x, (batch, side, side, config.width), "pixels", order=(0, 2, 3, 1)), "patches.norm")
    for stage, depth in enumerate(config.depths):
        with b.scope("stages", stage):
            x = _merged(b, x) if stage else x
            for index in range(depth):
                with b.scope(index):
                    x = _block(b, x, config, shifted=index % 2 == 1)
    x = b.norm(x, "norm")
    _, height, across, width = b.shape(x)
    x = b.view(x, (batch, width, height, across), "channels", order=(0, 3, 1, 2))
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def window_attention(b: Layers, x: str, config: SwinConfig, *, shifted: bool) -> str:
    """Attention of x (batch, height, width, channels) within windows, each a batch entry of the operator.

    ``shifted``: the map is first rolled by half a window, and back behind; what then meets from opposite ends of the
    picture is kept apart by the bias, of which there is one for each window. Where the map is one window it stays.
    What is added to the scores (a trained table of relative places, and that) is known beforehand.
    """
    batch, height, across, channels = b.shape(x)
    side, heads = min(config.window, height, across), channels // config.head_dim
    down, right = height // side, across // side
    n_windows, n_tokens = down * right, side * side
    by = side // 2 if shifted and n_windows > 1 else 0
    x = _rolled(b, x, -by, "shift") if by else x
    rows = b.view(
        x,
        (batch * n_windows, n_tokens, channels),
        "windows",
        split=(batch, down, side, right, side, channels),
        order=(0, 1, 3, 2, 4, 5),
    )
    qkv = b.linear(rows, 3 * channels, "qkv")
    q, k, v = (b.part(qkv, at * channels, channels) for at in range(3))
    b.n_parameters += (2 * config.window - 1) ** 2 * heads
    bias = b.constant("places", (n_windows if by else 1, heads, n_tokens, n_tokens))
    y = b.linear(b.attention(q, k, v, "sdpa", head_dim=config.head_dim, bias=bias), channels, "output")
    y = b.view(
        y,
        (batch, height, across, channels),
        "map",
        split=(batch, down, right, side, side, channels),
        order=(0, 1, 3, 2, 4, 5),
    )
    return _rolled(b, y, by, "unshift") if by else y


def _rolled(b: Layers, x: str, by: int, name: str) -> str:
    """x (batch, height, width, channels) moved by so many rows and columns, and round its ends."""
    attributes = {"function": "roll", "by": (0, by, by, 0)}
    return b.add("reshape", name, [x], b.shape(x), attributes)


def _block(b: Layers, x: str, config: SwinConfig, *, shifted: bool) -> str:
    channels = b.shape(x)[-1]
    with b.scope("attention"):
        y = window_attention(b, b.norm(x, "norm"), config, shifted=shifted)
        x = b.elementwise("add", y, x)
    with b.scope("mlp"):
        y = b.elementwise("gelu", b.linear(b.norm(x, "norm"), 4 * channels, "up"))
        return b.elementwise("add", b.linear(y, channels, "down"), x)


def _merged(b: Layers, x: str) -> str:
    """Four neighbours side by side, and half as many channels of them: (batch, height, width, c) to half the sizes."""
    batch, height, across, channels = b.shape(x)
    down, right = height // 2, across // 2
    parts = [
        b.view(
            x,
            (batch, down, 1, right, 1, channels),
            f"from_{row}_{column}",
            split=(batch, down, 2, right, 2, channels),
            start=(0, 0, row, 0, column, 0),
        )
        for column in range(2)
        for row in range(2)
    ]
    flat = [b.view(one, (batch, down, right, channels), "pixels") for one in parts]
    y = b.norm(b.concat(flat, 3, "merge"), "merge.norm")
    return b.linear(y, 2 * channels, "merge.reduce", bias=False)
