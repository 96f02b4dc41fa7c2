"""Networks that see: ResNet, RegNet, EfficientNet, and vision transformers."""

from __future__ import annotations

import math

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import EncoderConfig, add_pre_norm_layer

__all__ = [
    "efficientnet",
    "efficientnet_lite",
    "inverted",
    "mobilenet_v2",
    "mobilenet_v2_maps",
    "regnet_x",
    "resnet",
    "resnet_v2",
    "rounded",
    "squeeze_excite",
    "vision_transformer",
]


def resnet(
    b: Layers, *, depths: tuple[int, ...], bottleneck: bool, batch: int, image: int, classes: int, groups: int = 1
) -> OperatorStream:
    """ResNet (He et al., arXiv 1512.03385, Table 1); a bottleneck strides in its 3x3 convolution, as torchvision's
    do. ``groups``: ResNeXt (Xie et al., arXiv 1611.05431), groups of 4 channels in the first stage.
    """
    x = b.input("image", (batch, 3, image, image))
    x = b.elementwise("relu", b.conv(x, 64, 7, "stem.conv", stride=2, batch_norm=True), name="stem.relu")
    x = b.max_pool(x, 3, "stem.pool", stride=2, padding=1)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            with b.scope("stages", stage, index):
                x = _residual(b, x, 64 * 2**stage, bottleneck, groups, stride=2 if stage and not index else 1)
    logits = b.linear(b.global_mean(x), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def _residual(b: Layers, x: str, width: int, bottleneck: bool, groups: int, *, stride: int) -> str:
    n_out = 4 * width if bottleneck else width
    width = width if groups == 1 else width * groups // 16
    shortcut = x
    if stride != 1 or b.shape(x)[1] != n_out:
        shortcut = b.conv(x, n_out, 1, "shortcut", stride=stride, batch_norm=True)
    shapes = [(width, 1, 1), (width, 3, stride), (n_out, 1, 1)] if bottleneck else [(width, 3, stride), (width, 3, 1)]
    for index, (channels, kernel, step) in enumerate(shapes):
        parts = groups if kernel == 3 else 1
        x = b.conv(x, channels, kernel, f"conv{index + 1}", stride=step, groups=parts, batch_norm=True)
        x = b.elementwise("relu", x, name=f"relu{index + 1}") if index + 1 < len(shapes) else x
    return b.elementwise("relu", b.elementwise("add", x, shortcut), name="relu")


def resnet_v2(b: Layers, *, depths: tuple[int, ...], batch: int, image: int, classes: int) -> OperatorStream:
    """ResNet with bottlenecks behind their norms (He et al., arXiv 1603.05027), as in Keras: the last block of a stage
    strides, and a convolution that a sum follows has a bias.
    """
    x = b.conv(b.input("image", (batch, 3, image, image)), 64, 7, "stem.conv", stride=2)
    x = b.max_pool(x, 3, "stem.pool", stride=2, padding=1)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            with b.scope("stages", stage, index):
                last = index + 1 == depth and stage + 1 < len(depths)
                x = _before_norm(b, x, 64 * 2**stage, first=not index, stride=2 if last else 1)
    x = b.elementwise("relu", b.channel_scale(x, "norm"), name="norm.relu")
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def _before_norm(b: Layers, x: str, width: int, *, first: bool, stride: int) -> str:
    y = b.elementwise("relu", b.channel_scale(x, "norm"), name="norm.relu")
    if first:
        around = b.conv(y, 4 * width, 1, "shortcut", stride=stride)
    else:
        around = b.max_pool(x, 1, "shortcut", stride=stride, padding=0) if stride > 1 else x
    y = b.elementwise("relu", b.conv(y, width, 1, "conv1", batch_norm=True), name="relu1")
    y = b.elementwise("relu", b.conv(y, width, 3, "conv2", stride=stride, batch_norm=True), name="relu2")
    return b.elementwise("add", b.conv(y, 4 * width, 1, "conv3"), around)


def regnet_x(
    b: Layers,
    *,
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    of_group: int,
    batch: int,
    image: int,
    classes: int,
) -> OperatorStream:
    """RegNetX (Radosavovic et al., arXiv 2003.13678): bottlenecks of one width, groups of ``of_group`` channels."""
    x = b.conv(b.input("image", (batch, 3, image, image)), 32, 3, "stem.conv", stride=2, batch_norm=True)
    x = b.elementwise("relu", x, name="stem.relu")
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for index in range(depth):
            with b.scope("stages", stage, index):
                stride, around = (
                    (2, b.conv(x, width, 1, "shortcut", stride=2, batch_norm=True)) if not index else (1, x)
                )
                y = b.elementwise("relu", b.conv(x, width, 1, "conv1", batch_norm=True), name="relu1")
                y = b.conv(y, width, 3, "conv2", stride=stride, groups=width // of_group, batch_norm=True)
                y = b.conv(b.elementwise("relu", y, name="relu2"), width, 1, "conv3", batch_norm=True)
                x = b.elementwise("relu", b.elementwise("add", y, around), name="relu3")
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


# MobileNetV2 (arXiv 1801.04381, Table 2): expansion, channels, repeats, stride.
_MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(b: Layers, *, width: int, batch: int, image: int, classes: int) -> OperatorStream:
    """MobileNetV2 (Sandler et al., arXiv 1801.04381, Table 2) with ``width`` per cent of its channels."""
    x = mobilenet_v2_maps(b, b.input("image", (batch, 3, image, image)), width=width)[-1]
    n_features = max(1280, rounded(1280 * width / 100))
    x = b.elementwise("relu6", b.conv(x, n_features, 1, "head.conv", batch_norm=True), name="head.relu6")
    logits = b.linear(b.global_mean(x), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def mobilenet_v2_maps(
    b: Layers, x: str, *, width: int = 100, output_stride: int = 32, wide: list[str] | None = None
) -> list[str]:
    """MobileNetV2 without its head: the result of each of the 17 blocks.

    From ``output_stride`` on windows are dilated in place of strides. ``wide`` is filled with the widened map of each
    block.
    """
    x = b.elementwise(
        "relu6", b.conv(x, rounded(32 * width / 100), 3, "stem.conv", stride=2, batch_norm=True), name="stem.relu6"
    )
    found: list[str] = []
    reached, dilation = 2, 1
    for expansion, channels, repeats, first_stride in _MOBILENET:
        for repeat in range(repeats):
            stride = first_stride if not repeat else 1
            rate = dilation
            if stride * reached > output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            with b.scope("blocks", len(found)):
                x = inverted(
                    b, x, rounded(channels * width / 100), expansion, 3, stride, "relu6", dilation=rate, wide=wide
                )
            found.append(x)
    return found


def inverted(
    b: Layers,
    x: str,
    n_out: int,
    expansion: int,
    kernel: int,
    stride: int,
    activation: str,
    *,
    squeeze: bool = False,
    around: bool = True,
    dilation: int = 1,
    wide: list[str] | None = None,
) -> str:
    """Inverted residual: widen, depthwise convolution, (squeeze and excite,) narrow, add.

    ``around``: whether the sum is made where shapes allow it. ``wide`` gets the widened map.
    """
    n_in = b.shape(x)[1]
    y = x
    if expansion != 1:
        y = b.elementwise(activation, b.conv(y, n_in * expansion, 1, "expand", batch_norm=True))
    if wide is not None:
        wide.append(y)
    width = b.shape(y)[1]
    y = b.conv(y, width, kernel, "depthwise", stride=stride, groups=width, dilation=dilation, batch_norm=True)
    y = b.elementwise(activation, y)
    y = squeeze_excite(b, y, max(1, n_in // 4), activation) if squeeze else y
    y = b.conv(y, n_out, 1, "project", batch_norm=True)
    return b.elementwise("add", y, x) if around and stride == 1 and n_in == n_out else y


def squeeze_excite(b: Layers, x: str, n_squeezed: int, activation: str) -> str:
    """x times a gate for each of its channels, from their means through two layers (Hu et al., arXiv 1709.01507)."""
    batch, width = b.shape(x)[:2]
    gate = b.view(b.global_mean(x, "squeeze.pool"), (batch, width, 1, 1), "map")
    gate = b.elementwise(activation, b.conv(gate, n_squeezed, 1, "squeeze.reduce"), name=f"squeeze.{activation}")
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
                x = inverted(b, x, rounded(channels * width), expansion, kernel, stride, "silu", squeeze=True)
            index += 1
    x = b.elementwise("silu", b.conv(x, 4 * rounded(320 * width), 1, "head.conv", batch_norm=True))
    logits = b.linear(b.global_mean(x), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def efficientnet_lite(b: Layers, *, width: float, depth: float, batch: int, image: int, classes: int) -> OperatorStream:
    """EfficientNet-Lite (tensorflow/tpu, efficientnet/lite): no squeezing, ReLU6, stem, head and the repeats of the
    first and last stage as they are in B0.
    """
    x = b.elementwise(
        "relu6", b.conv(b.input("image", (batch, 3, image, image)), 32, 3, "stem.conv", stride=2, batch_norm=True)
    )
    index = 0
    for at, (expansion, channels, repeats, first_stride, kernel) in enumerate(_EFFICIENTNET):
        n = repeats if at in (0, len(_EFFICIENTNET) - 1) else math.ceil(repeats * depth)
        for repeat in range(n):
            with b.scope("blocks", index):
                stride = first_stride if not repeat else 1
                x = inverted(b, x, rounded(channels * width), expansion, kernel, stride, "relu6")
            index += 1
    x = b.elementwise("relu6", b.conv(x, 1280, 1, "head.conv", batch_norm=True))
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def vision_transformer(
    b: Layers,
    *,
    hidden: int,
    heads: int,
    layers: int,
    patch: int,
    batch: int,
    image: int,
    classes: int,
    as_module: bool = False,
) -> OperatorStream:
    """ViT (Dosovitskiy et al., arXiv 2010.11929) and DeiT (Touvron et al., arXiv 2012.12877, without distillation
    token). ``as_module``: its code calls the framework's own module of attention, as torchvision's ViT does.
    """
    pixels = b.input("image", (batch, 3, image, image))
    patches = b.conv(pixels, hidden, patch, "embeddings.patch", stride=patch, padding=0)
    n_patches = (image // patch) ** 2
    rows = b.pixel_rows(patches)
    first = b.view(b.trained("embeddings.class", 1, 1, hidden), (batch, 1, hidden), "rows")
    x = b.concat([first, rows], 1, "embeddings.concat")
    x = b.elementwise("add", x, b.trained("embeddings.position", 1, n_patches + 1, hidden), name="embeddings.add")
    config = EncoderConfig(hidden=hidden, heads=heads, intermediate=4 * hidden, as_module=as_module)
    for index in range(layers):
        with b.scope("layers", index):
            x = add_pre_norm_layer(b, x, config)
    x = b.norm(x, "norm")
    logits = b.linear(b.view(b.part(x, 0, 1, 1), (batch, hidden), "class"), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)
