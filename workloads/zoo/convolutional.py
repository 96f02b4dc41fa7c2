"""Convolutional networks of the fusion studies: VGG, SqueezeNet, DeepLabV3 on MobileNetV3, chains on whole pictures."""

from __future__ import annotations

import math
from typing import Any

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.vision import rounded

__all__ = ["alexnet", "deeplab_v3", "mobilenet_v3", "plain_convolutions", "squeezenet", "vgg"]

# VGG (arXiv 1409.1556, Table 1): the width of each stage's convolutions of 3 x 3.
_VGG = (64, 128, 256, 512, 512)


def vgg(b: Layers, *, depths: tuple[int, ...], batch: int, image: int, classes: int) -> OperatorStream:
    """VGG (Simonyan and Zisserman, arXiv 1409.1556, Table 1), ``depths`` convolutions in its stages; ``image`` is a
    multiple of 32.
    """
    x = b.input("image", (batch, 3, image, image))
    for stage, (depth, width) in enumerate(zip(depths, _VGG, strict=True)):
        with b.scope("stages", stage):
            for index in range(depth):
                x = _conv_relu(b, x, width, 3, f"conv{index + 1}")
            x = b.max_pool(x, 2, stride=2, padding=0)
    x = b.view(x, (batch, _VGG[-1] * (image // 32) ** 2), "flat")
    for index in range(2):
        x = b.elementwise("relu", b.linear(x, 4096, f"dense{index + 1}"), name=f"dense{index + 1}.relu")
    return b.finish([b.linear(x, classes, "classifier")], n_parameters=b.n_parameters)


def alexnet(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """AlexNet in one column (Krizhevsky, arXiv 1404.5997), as torchvision builds it."""
    x = _conv_relu(b, b.input("image", (batch, 3, image, image)), 64, 11, "conv1", stride=4, padding=2)
    x = _conv_relu(b, b.max_pool(x, 3, stride=2, padding=0), 192, 5, "conv2")
    x = b.max_pool(x, 3, stride=2, padding=0)
    for index, width in enumerate((384, 256, 256)):
        x = _conv_relu(b, x, width, 3, f"conv{index + 3}")
    x = b.max_pool(x, 3, stride=2, padding=0)
    x = b.view(x, (batch, math.prod(b.shape(x)[1:])), "flat")
    for index in range(2):
        x = b.elementwise("relu", b.linear(x, 4096, f"dense{index + 1}"), name=f"dense{index + 1}.relu")
    return b.finish([b.linear(x, classes, "classifier")], n_parameters=b.n_parameters)


def _conv_relu(b: Layers, x: str, n_out: int, kernel: int, name: str, **options: Any) -> str:
    return b.elementwise("relu", b.conv(x, n_out, kernel, name, **options), name=f"{name}.relu")


# SqueezeNet 1.0 (arXiv 1602.07360, Table 1): fire modules by squeezed and expanded width; None is a pool.
# In 1.1 (forresti/SqueezeNet, SqueezeNet_v1.1) the stem is 64 of 3 x 3 and the pools stand two modules earlier.
_FIRES = ((16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192), (64, 256), None, (64, 256))


_FIRES_1_1 = ((16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256))


def squeezenet(b: Layers, *, small: bool, batch: int, image: int, classes: int) -> OperatorStream:
    """SqueezeNet 1.0 (Iandola et al., arXiv 1602.07360, Table 1), pools rounded up as in its published model.

    ``small``: its version 1.1.
    """
    x = b.input("image", (batch, 3, image, image))
    x = _conv_relu(b, x, 64 if small else 96, 3 if small else 7, "stem.conv", stride=2, padding=0)
    x = b.max_pool(x, 3, "stem.pool", stride=2, padding=0, ceil=True)
    for index, widths in enumerate(_FIRES_1_1 if small else _FIRES):
        with b.scope("fires", index):
            if widths is None:
                x = b.max_pool(x, 3, stride=2, padding=0, ceil=True)
                continue
            squeezed, expanded = widths
            x = _conv_relu(b, x, squeezed, 1, "squeeze")
            x = b.concat([_conv_relu(b, x, expanded, 1, "expand1"), _conv_relu(b, x, expanded, 3, "expand3")], 1)
    x = _conv_relu(b, x, classes, 1, "classifier")
    return b.finish([b.global_mean(x)], n_parameters=b.n_parameters)


# MobileNetV3-Large (arXiv 1905.02244, Table 1): kernel, expanded and final width, squeeze, activation, stride, and
# the dilation that takes the place of the last stride in a segmentation network of output stride 16.
_MOBILENET_V3 = (
    (3, 16, 16, False, "relu", 1, 1),
    (3, 64, 24, False, "relu", 2, 1),
    (3, 72, 24, False, "relu", 1, 1),
    (5, 72, 40, True, "relu", 2, 1),
    (5, 120, 40, True, "relu", 1, 1),
    (5, 120, 40, True, "relu", 1, 1),
    (3, 240, 80, False, "hardswish", 2, 1),
    (3, 200, 80, False, "hardswish", 1, 1),
    (3, 184, 80, False, "hardswish", 1, 1),
    (3, 184, 80, False, "hardswish", 1, 1),
    (3, 480, 112, True, "hardswish", 1, 1),
    (3, 672, 112, True, "hardswish", 1, 1),
    (5, 672, 160, True, "hardswish", 1, 2),
    (5, 960, 160, True, "hardswish", 1, 2),
    (5, 960, 160, True, "hardswish", 1, 2),
)
# MobileNetV3-Small (the same, Table 2).
_MOBILENET_V3_SMALL = (
    (3, 16, 16, True, "relu", 2, 1),
    (3, 72, 24, False, "relu", 2, 1),
    (3, 88, 24, False, "relu", 1, 1),
    (5, 96, 40, True, "hardswish", 2, 1),
    (5, 240, 40, True, "hardswish", 1, 1),
    (5, 240, 40, True, "hardswish", 1, 1),
    (5, 120, 48, True, "hardswish", 1, 1),
    (5, 144, 48, True, "hardswish", 1, 1),
    (5, 288, 96, True, "hardswish", 2, 1),
    (5, 576, 96, True, "hardswish", 1, 1),
    (5, 576, 96, True, "hardswish", 1, 1),
)
_FIRST_DILATED = 12
_ATROUS_RATES = (12, 24, 36)
_HEAD_WIDTH = 256


def deeplab_v3(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """DeepLabV3 (Chen et al., arXiv 1706.05587) on MobileNetV3-Large (Howard et al., arXiv 1905.02244), stride 16.

    As torchvision builds it, without the auxiliary head, which is for training only. The last upsampling moves data;
    the arithmetic of its interpolation is not counted.
    """
    x = b.input("image", (batch, 3, image, image))
    x = b.elementwise("hardswish", b.conv(x, 16, 3, "stem.conv", stride=2, batch_norm=True), name="stem.hardswish")
    for index, block in enumerate(_MOBILENET_V3):
        with b.scope("blocks", index):
            x = _mobilenet_v3_block(b, x, *block)
    x = b.elementwise("hardswish", b.conv(x, 960, 1, "top.conv", batch_norm=True), name="top.hardswish")
    with b.scope("pyramid"):
        x = _pyramid(b, x)
    x = _norm_relu(b, x, _HEAD_WIDTH, 3, "head.conv")
    x = b.conv(x, classes, 1, "classifier")
    x = b.add("reshape", "upsample", [x], (batch, classes, image, image), {"function": "upsample"})
    return b.finish([x], n_parameters=b.n_parameters)


def mobilenet_v3(b: Layers, *, small: bool, batch: int, image: int, classes: int) -> OperatorStream:
    """MobileNetV3-Large or -Small (Howard et al., arXiv 1905.02244, Tables 1 and 2)."""
    x = b.input("image", (batch, 3, image, image))
    x = b.elementwise("hardswish", b.conv(x, 16, 3, "stem.conv", stride=2, batch_norm=True), name="stem.hardswish")
    for index, block in enumerate(_MOBILENET_V3_SMALL if small else _MOBILENET_V3):
        stride = 2 if index == _FIRST_DILATED and not small else block[5]
        with b.scope("blocks", index):
            x = _mobilenet_v3_block(b, x, *block[:5], stride, 1)
    x = b.elementwise("hardswish", b.conv(x, 576 if small else 960, 1, "top.conv", batch_norm=True))
    x = b.elementwise("hardswish", b.linear(b.global_mean(x), 1024 if small else 1280, "features"))
    return b.finish([b.linear(x, classes, "classifier")], n_parameters=b.n_parameters)


def _mobilenet_v3_block(
    b: Layers,
    x: str,
    kernel: int,
    expanded: int,
    n_out: int,
    squeeze: bool,
    activation: str,
    stride: int,
    dilation: int,
) -> str:
    n_in, y = b.shape(x)[1], x
    if expanded != n_in:
        y = b.elementwise(activation, b.conv(y, expanded, 1, "expand", batch_norm=True))
    y = b.conv(y, expanded, kernel, "depthwise", stride=stride, groups=expanded, dilation=dilation, batch_norm=True)
    y = b.elementwise(activation, y)
    if squeeze:
        batch = b.shape(y)[0]
        gate = b.view(b.global_mean(y, "squeeze.pool"), (batch, expanded, 1, 1), "map")
        gate = b.elementwise("relu", b.conv(gate, rounded(expanded // 4), 1, "squeeze.reduce"), name="squeeze.relu")
        gate = b.conv(gate, expanded, 1, "squeeze.expand")
        gate = b.elementwise("hardsigmoid", gate, name="squeeze.hardsigmoid")
        y = b.elementwise("mul", y, gate, name="squeeze.scale")
    y = b.conv(y, n_out, 1, "project", batch_norm=True)
    return b.elementwise("add", y, x) if stride == 1 and n_in == n_out else y


def _norm_relu(b: Layers, x: str, n_out: int, kernel: int, name: str, *, dilation: int = 1) -> str:
    y = b.conv(x, n_out, kernel, name, dilation=dilation, batch_norm=True)
    return b.elementwise("relu", y, name=f"{name}.relu")


def _pyramid(b: Layers, x: str) -> str:
    """Atrous spatial pyramid pooling: a 1 x 1, three dilated 3 x 3 and a global branch, joined and narrowed."""
    batch, channels, *size = b.shape(x)
    branches = [_norm_relu(b, x, _HEAD_WIDTH, 1, "branch1")]
    branches += [_norm_relu(b, x, _HEAD_WIDTH, 3, f"dilated{rate}", dilation=rate) for rate in _ATROUS_RATES]
    whole = b.view(b.global_mean(x, "global.pool"), (batch, channels, 1, 1), "map")
    whole = _norm_relu(b, whole, _HEAD_WIDTH, 1, "global.conv")
    branches.append(b.add("reshape", "global.repeat", [whole], (batch, _HEAD_WIDTH, *size), {"function": "repeat"}))
    return _norm_relu(b, b.concat(branches, 1), _HEAD_WIDTH, 1, "project")


def plain_convolutions(
    b: Layers,
    *,
    widths: tuple[int, ...],
    kernels: tuple[int, ...],
    n_channels: int,
    batch: int,
    height: int,
    width: int,
) -> OperatorStream:
    """A chain of convolutions without padding and biases, with ReLU between them, for a result of height x width.

    The picture that goes in is larger by what the windows reach over its rim.
    """
    rim = sum(kernel - 1 for kernel in kernels)
    x = b.input("image", (batch, n_channels, height + rim, width + rim))
    for index, (n_out, kernel) in enumerate(zip(widths, kernels, strict=True)):
        x = b.conv(x, n_out, kernel, f"conv{index + 1}", padding=0, bias=False)
        x = b.elementwise("relu", x, name=f"relu{index + 1}") if index + 1 < len(widths) else x
    return b.finish([x], n_parameters=b.n_parameters)
