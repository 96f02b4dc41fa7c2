"""Networks that see: ResNet, MobileNetV2, EfficientNet, and vision transformers."""

from __future__ import annotations

import math

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import EncoderConfig, add_pre_norm_layer

__all__ = ["efficientnet", "mobilenet_v2", "resnet", "rounded", "vision_transformer"]


def resnet(
    b: Layers, *, depths: tuple[int, ...], bottleneck: bool, batch: int, image: int, classes: int
) -> OperatorStream:
    """ResNet (He et al., arXiv 1512.03385, Table 1); a bottleneck strides in its 3x3 convolution, as torchvision's
    do.
    """
    x = b.input("image", (batch, 3, image, image))
    x = b.elementwise("relu", b.conv(x, 64, 7, "stem.conv", stride=2, batch_norm=True), name="stem.relu")
    x = b.max_pool(x, 3, "stem.pool", stride=2, padding=1)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            with b.scope("stages", stage, index):
                x = _residual(b, x, 64 * 2**stage, bottleneck, stride=2 if stage and not index else 1)
    logits = b.linear(b.global_mean(x), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def _residual(b: Layers, x: str, width: int, bottleneck: bool, *, stride: int) -> str:
    n_out = 4 * width if bottleneck else width
    shortcut = x
    if stride != 1 or b.shape(x)[1] != n_out:
        shortcut = b.conv(x, n_out, 1, "shortcut", stride=stride, batch_norm=True)
    shapes = [(width, 1, 1), (width, 3, stride), (n_out, 1, 1)] if bottleneck else [(width, 3, stride), (width, 3, 1)]
    for index, (channels, kernel, step) in enumerate(shapes):
        x = b.conv(x, channels, kernel, f"conv{index + 1}", stride=step, batch_norm=True)
        x = b.elementwise("relu", x, name=f"relu{index + 1}") if index + 1 < len(shapes) else x
    return b.elementwise("relu", b.elementwise("add", x, shortcut), name="relu")


# MobileNetV2 (arXiv 1801.04381, Table 2): expansion, channels, repeats, stride.
_MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """MobileNetV2 at width 1.0 (Sandler et al., arXiv 1801.04381, Table 2)."""
    x = b.input("image", (batch, 3, image, image))
    x = b.elementwise("relu6", b.conv(x, 32, 3, "stem.conv", stride=2, batch_norm=True), name="stem.relu6")
    index = 0
    for expansion, channels, repeats, first_stride in _MOBILENET:
        for repeat in range(repeats):
            with b.scope("blocks", index):
                x = _inverted(b, x, channels, expansion, 3, first_stride if not repeat else 1, "relu6", squeeze=False)
            index += 1
    x = b.elementwise("relu6", b.conv(x, 1280, 1, "head.conv", batch_norm=True), name="head.relu6")
    logits = b.linear(b.global_mean(x), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def _inverted(
    b: Layers, x: str, n_out: int, expansion: int, kernel: int, stride: int, activation: str, *, squeeze: bool
) -> str:
    """Inverted residual: widen, depthwise convolution, (squeeze and excite,) narrow, add."""
    n_in = b.shape(x)[1]
    y = x
    if expansion != 1:
        y = b.elementwise(activation, b.conv(y, n_in * expansion, 1, "expand", batch_norm=True))
    width = b.shape(y)[1]
    y = b.conv(y, width, kernel, "depthwise", stride=stride, groups=width, batch_norm=True)
    y = b.elementwise(activation, y)
    y = _squeeze_excite(b, y, max(1, n_in // 4)) if squeeze else y
    y = b.conv(y, n_out, 1, "project", batch_norm=True)
    return b.elementwise("add", y, x) if stride == 1 and n_in == n_out else y


def _squeeze_excite(b: Layers, x: str, n_squeezed: int) -> str:
    batch, width = b.shape(x)[:2]
    gate = b.view(b.global_mean(x, "squeeze.pool"), (batch, width, 1, 1), "map")
    gate = b.elementwise("silu", b.conv(gate, n_squeezed, 1, "squeeze.reduce"), name="squeeze.silu")
    gate = b.elementwise("sigmoid", b.conv(gate, width, 1, "squeeze.expand"), name="squeeze.sigmoid")
    return b.elementwise("mul", x, gate, name="squeeze.scale")


# EfficientNet-B0 (arXiv 1905.11946, Table 1): expansion, channels, repeats, stride, kernel.
_EFFICIENTNET = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def efficientnet(b: Layers, *, width: float, depth: float, batch: int, image: int, classes: int) -> OperatorStream:
    """EfficientNet (Tan and Le, arXiv 1905.11946), B0's table scaled by ``width`` and ``depth``.

    Padded by (kernel - 1) / 2 on all sides, so maps of odd size round up (300: 150, 75, 38, 19, 10).
    """
    x = b.input("image", (batch, 3, image, image))
    x = b.elementwise("silu", b.conv(x, rounded(32 * width), 3, "stem.conv", stride=2, batch_norm=True))
    index = 0
    for expansion, channels, repeats, first_stride, kernel in _EFFICIENTNET:
        for repeat in range(math.ceil(repeats * depth)):
            with b.scope("blocks", index):
                stride = first_stride if not repeat else 1
                x = _inverted(b, x, rounded(channels * width), expansion, kernel, stride, "silu", squeeze=True)
            index += 1
    x = b.elementwise("silu", b.conv(x, 4 * rounded(320 * width), 1, "head.conv", batch_norm=True))
    logits = b.linear(b.global_mean(x), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def vision_transformer(
    b: Layers, *, hidden: int, heads: int, layers: int, patch: int, batch: int, image: int, classes: int
) -> OperatorStream:
    """ViT (Dosovitskiy et al., arXiv 2010.11929) and DeiT (Touvron et al., arXiv 2012.12877, without distillation
    token).
    """
    pixels = b.input("image", (batch, 3, image, image))
    patches = b.conv(pixels, hidden, patch, "embeddings.patch", stride=patch, padding=0)
    n_patches = (image // patch) ** 2
    rows = b.view(patches, (batch, n_patches, hidden), "rows")
    first = b.view(b.trained("embeddings.class", 1, 1, hidden), (batch, 1, hidden), "rows")
    x = b.concat([first, rows], 1, "embeddings.concat")
    x = b.elementwise("add", x, b.trained("embeddings.position", 1, n_patches + 1, hidden), name="embeddings.add")
    config = EncoderConfig(hidden=hidden, heads=heads, intermediate=4 * hidden)
    for index in range(layers):
        with b.scope("layers", index):
            x = add_pre_norm_layer(b, x, config)
    x = b.norm(x, "norm")
    logits = b.linear(b.view(x, (batch, hidden), "class"), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)
