"""Small networks of cameras and microphones: DS-CNN, EfficientNet-EdgeTPU, YOLOv4-tiny, SSD, UltraFace."""

from __future__ import annotations

import math

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.edge import depthwise_separable, mobilenet_v1_maps
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.vision import rounded

__all__ = ["ds_cnn", "efficientnet_edgetpu", "ssd_mobilenet_v1", "ultraface_slim", "yolov4_tiny"]


def _unit(
    b: Layers, x: str, n_out: int, kernel: int, name: str, *, stride: int = 1, groups: int = 1, function: str = "relu"
) -> str:
    y = b.conv(x, n_out, kernel, f"{name}.conv", stride=stride, groups=groups, batch_norm=True)
    return b.elementwise(function, y, name=f"{name}.{function}")


def ds_cnn(b: Layers, *, batch: int, classes: int) -> OperatorStream:
    """The network of MLPerf Tiny's keyword spotting: 49 x 10 features, four depthwise separable blocks of 64 channels
    (Zhang et al., arXiv 1711.07128).
    """
    x = b.conv(
        b.input("features", (batch, 1, 49, 10)), 64, (10, 4), "stem.conv", stride=2, padding="same", batch_norm=True
    )
    x = b.elementwise("relu", x, name="stem.relu")
    for index in range(4):
        with b.scope("blocks", index):
            x = depthwise_separable(b, x, 64)
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


# EfficientNet-EdgeTPU-S: fused or depthwise, repeats, kernel, stride, expansion, channels, with a way around.
_EDGETPU = (
    (True, 1, 3, 1, 4, 24, False),
    (True, 2, 3, 2, 8, 32, True),
    (True, 4, 3, 2, 8, 48, True),
    (False, 5, 5, 2, 8, 96, True),
    (False, 4, 5, 1, 8, 144, True),
    (False, 2, 5, 2, 8, 192, True),
)


def efficientnet_edgetpu(
    b: Layers, *, width: float, depth: float, batch: int, image: int, classes: int
) -> OperatorStream:
    """EfficientNet-EdgeTPU (efficientnet_edgetpu_builder of tensorflow/tpu): fused blocks first, no squeezing; the
    table of S scaled by ``width`` and ``depth``.
    """
    x = _unit(b, b.input("image", (batch, 3, image, image)), rounded(32 * width), 3, "stem", stride=2)
    index = 0
    for fused, repeats, kernel, first_stride, expansion, n_channels, around in _EDGETPU:
        channels = rounded(n_channels * width)
        for repeat in range(math.ceil(repeats * depth)):
            with b.scope("blocks", index):
                stride, n_in = (first_stride if not repeat else 1), b.shape(x)[1]
                # a fused block's expansion counts its own input only where it has a way around
                wide = (n_in if around else channels) * expansion
                y = _unit(b, x, wide, kernel if fused else 1, "expand", stride=stride if fused else 1)
                if not fused:
                    y = _unit(b, y, wide, kernel, "depthwise", stride=stride, groups=wide)
                y = b.conv(y, channels, 1, "project", batch_norm=True)
                x = b.elementwise("add", y, x) if around and stride == 1 and n_in == channels else y
            index += 1
    x = _unit(b, x, rounded(1280 * width), 1, "head")
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def yolov4_tiny(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """YOLOv4-tiny (yolov4-tiny.cfg of AlexeyAB/darknet), up to its two heads; box decoding is left out."""

    def unit(x: str, n_out: int, kernel: int, name: str, stride: int = 1) -> str:
        return _unit(b, x, n_out, kernel, name, stride=stride, function="leaky_relu")

    x = unit(unit(b.input("image", (batch, 3, image, image)), 32, 3, "stem1", 2), 64, 3, "stem2", 2)
    kept = x
    for stage, width in enumerate((64, 128, 256)):
        with b.scope("stages", stage):
            whole = unit(x, width, 3, "first")
            first = unit(b.part(whole, width // 2, width // 2, 1), width // 2, 3, "second")
            kept = unit(b.concat([unit(first, width // 2, 3, "third"), first], 1), width, 1, "fourth")
            x = b.max_pool(b.concat([whole, kept], 1), 2, stride=2, padding=0)
    narrow = unit(unit(x, 512, 3, "neck1"), 256, 1, "neck2")
    n_out = 3 * (5 + classes)
    heads = [b.conv(unit(narrow, 512, 3, "wide1"), n_out, 1, "head1")]
    joined = b.concat([b.upsample(unit(narrow, 128, 1, "neck3"), 2), kept], 1)
    heads.append(b.conv(unit(joined, 256, 3, "wide2"), n_out, 1, "head2"))
    return b.finish(heads, n_parameters=b.n_parameters)


def ssd_mobilenet_v1(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """SSD (Liu et al., arXiv 1512.02325) on MobileNetV1, as ssd_mobilenet_v1_coco of tensorflow/models: six maps, of
    three boxes a place on the first and six on the others; boxes are neither decoded nor chosen.
    """
    early, x = mobilenet_v1_maps(b, batch=batch, image=image)
    maps = [early, x]
    for index, width in enumerate((512, 256, 256, 128)):
        with b.scope("extras", index):
            x = _unit(
                b, _unit(b, x, width // 2, 1, "narrow", function="relu6"), width, 3, "halve", stride=2, function="relu6"
            )
            maps.append(x)
    outs = []
    for index, x in enumerate(maps):
        n_boxes = 6 if index else 3
        for what, n in (("boxes", 4), ("classes", classes + 1)):
            outs.append(b.conv(x, n_boxes * n, 1, f"predict{index}.{what}"))
    return b.finish(outs, n_parameters=b.n_parameters)


# UltraFace slim: channels and stride of the depthwise separable convolutions behind the stem.
_TINY = (
    (32, 1),
    (32, 2),
    (32, 1),
    (64, 2),
    (64, 1),
    (64, 1),
    (64, 1),
    (128, 2),
    (128, 1),
    (128, 1),
    (256, 2),
    (256, 1),
)


def ultraface_slim(b: Layers, *, batch: int, height: int, width: int) -> OperatorStream:
    """The slim network of Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB (mb_tiny.py, mb_tiny_fd.py): four maps
    with their scores and boxes; boxes are neither decoded nor chosen.
    """
    x = _unit(b, b.input("image", (batch, 3, height, width)), 16, 3, "stem", stride=2)
    maps = []
    for index, (channels, stride) in enumerate(_TINY):
        with b.scope("blocks", index):
            x = depthwise_separable(b, x, channels, stride=stride)
        if index in (6, 9, 11):
            maps.append(x)
    with b.scope("extra"):
        x = b.elementwise("relu", b.conv(x, 64, 1, "narrow"), name="narrow.relu")
        maps.append(b.elementwise("relu", _separable(b, x, 256, "halve", stride=2)))
    outs = []
    for index, x in enumerate(maps):
        n_boxes = 3 if index in (0, 3) else 2
        for what, n in (("scores", 2), ("boxes", 4)):
            name = f"predict{index}.{what}"
            last = index + 1 == len(maps)
            outs.append(b.conv(x, n_boxes * n, 3, name) if last else _separable(b, x, n_boxes * n, name))
    return b.finish(outs, n_parameters=b.n_parameters)


def _separable(b: Layers, x: str, n_out: int, name: str, *, stride: int = 1) -> str:
    """A depthwise convolution with bias and ReLU, then one of 1 x 1."""
    n_in = b.shape(x)[1]
    y = b.elementwise("relu", b.conv(x, n_in, 3, f"{name}.depthwise", stride=stride, groups=n_in))
    return b.conv(y, n_out, 1, f"{name}.pointwise")
