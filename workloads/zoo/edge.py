"""Networks of edge benchmarks: MobileNetV1, YOLOv5, and two of MLPerf Tiny."""

from __future__ import annotations

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["autoencoder", "depthwise_separable", "mobilenet_v1", "mobilenet_v1_maps", "resnet_8", "yolo_v5"]

# MobileNetV1 (arXiv 1704.04861, Table 1): channels and stride of each depthwise separable convolution.
_MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1))


def mobilenet_v1(b: Layers, *, width: int, batch: int, image: int, classes: int) -> OperatorStream:
    """MobileNetV1 (Howard et al., arXiv 1704.04861, Table 1) with ``width`` per cent of its channels."""
    _, x = mobilenet_v1_maps(b, batch=batch, image=image, width=width)
    logits = b.linear(b.global_mean(x), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def mobilenet_v1_maps(b: Layers, *, batch: int, image: int, width: int = 100) -> tuple[str, str]:
    """MobileNetV1 without its classifier: the maps at strides 16 and 32."""
    x = b.input("image", (batch, 3, image, image))
    x = _conv(b, x, max(8, 32 * width // 100), 3, "stem", stride=2)
    early = x
    for index, (channels, stride) in enumerate(_MOBILENET_V1):
        early = x if stride == 2 else early
        with b.scope("blocks", index):
            x = depthwise_separable(b, x, max(8, channels * width // 100), stride=stride)
    return early, x


def depthwise_separable(b: Layers, x: str, n_out: int, *, stride: int = 1) -> str:
    """A depthwise 3 x 3 convolution and one of 1 x 1, each with its folded norm and ReLU."""
    n_in = b.shape(x)[1]
    x = _conv(b, x, n_in, 3, "depthwise", stride=stride, groups=n_in)
    return _conv(b, x, n_out, 1, "pointwise")


def resnet_8(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """The residual network of MLPerf Tiny's image classification: three blocks of 16, 32 and 64 channels."""
    x = _conv(b, b.input("image", (batch, 3, image, image)), 16, 3, "stem")
    for stage, width in enumerate((16, 32, 64)):
        with b.scope("stages", stage):
            stride = 2 if stage else 1
            shortcut = b.conv(x, width, 1, "shortcut", stride=stride) if stage else x
            x = _conv(b, x, width, 3, "conv1", stride=stride)
            x = b.conv(x, width, 3, "conv2", batch_norm=True)
            x = b.elementwise("relu", b.elementwise("add", x, shortcut), name="relu")
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def autoencoder(b: Layers, *, batch: int) -> OperatorStream:
    """The autoencoder of MLPerf Tiny's anomaly detection: 640 values to 8 and back through layers of 128."""
    x = b.input("frames", (batch, 640))
    widths = (128, 128, 128, 128, 8, 128, 128, 128, 128)
    for index, width in enumerate(widths):
        x = b.elementwise("relu", b.linear(x, width, f"dense{index + 1}"), name=f"dense{index + 1}.relu")
    return b.finish([b.linear(x, 640, "reconstruction")], n_parameters=b.n_parameters)


def _conv(
    b: Layers, x: str, n_out: int, kernel: int, name: str, *, stride: int = 1, groups: int = 1, function: str = "relu"
) -> str:
    y = b.conv(x, n_out, kernel, f"{name}.conv", stride=stride, groups=groups, batch_norm=True)
    return b.elementwise(function, y, name=f"{name}.{function}")


def yolo_v5(b: Layers, *, depth: float, width: float, batch: int, image: int, classes: int) -> OperatorStream:
    """YOLOv5 (ultralytics/yolov5, release 6), up to its three heads; box decoding is left out.

    ``depth`` and ``width`` scale the repeats and the channels of its largest member; ``image`` is a multiple of 32.
    """

    def channels(count: int) -> int:
        return -(-int(count * width) // 8) * 8

    def stage(x: str, count: int, repeats: int, name: str, *, residual: bool = True) -> str:
        with b.scope(name):
            return _csp(b, x, channels(count), max(1, round(repeats * depth)), residual=residual)

    x = b.input("image", (batch, 3, image, image))
    x = _silu(b, x, channels(64), 6, "stem", stride=2, padding=2)
    kept = []
    for index, (count, repeats) in enumerate(((128, 3), (256, 6), (512, 9), (1024, 3))):
        x = _silu(b, x, channels(count), 3, f"down{index + 1}", stride=2)
        x = stage(x, count, repeats, f"backbone{index + 1}")
        kept.append(x)
    x = _pooled(b, x, channels(1024))
    large = _silu(b, x, channels(512), 1, "neck1")
    x = stage(b.concat([b.upsample(large, 2), kept[2]], 1), 512, 3, "up1", residual=False)
    middle = _silu(b, x, channels(256), 1, "neck2")
    outs = [stage(b.concat([b.upsample(middle, 2), kept[1]], 1), 256, 3, "up2", residual=False)]
    for index, (count, other) in enumerate(((256, middle), (512, large))):
        x = _silu(b, outs[-1], channels(count), 3, f"path{index + 1}", stride=2)
        outs.append(stage(b.concat([x, other], 1), 2 * count, 3, f"merged{index + 1}", residual=False))
    heads = [b.conv(x, 3 * (5 + classes), 1, f"head{index + 1}") for index, x in enumerate(outs)]
    return b.finish(heads, n_parameters=b.n_parameters)


def _silu(b: Layers, x: str, n_out: int, kernel: int, name: str, *, stride: int = 1, padding: int | None = None) -> str:
    y = b.conv(x, n_out, kernel, f"{name}.conv", stride=stride, padding=padding, batch_norm=True)
    return b.elementwise("silu", y, name=f"{name}.silu")


def _csp(b: Layers, x: str, n_out: int, repeats: int, *, residual: bool) -> str:
    """Two ways of half the width, one through ``repeats`` bottlenecks, joined."""
    half = n_out // 2
    y = _silu(b, x, half, 1, "first")
    for index in range(repeats):
        z = _silu(b, _silu(b, y, half, 1, f"narrow{index}"), half, 3, f"wide{index}")
        y = b.elementwise("add", y, z, name=f"add{index}") if residual else z
    return _silu(b, b.concat([y, _silu(b, x, half, 1, "second")], 1), n_out, 1, "joined")


def _pooled(b: Layers, x: str, n_out: int) -> str:
    """Three max pools of 5 x 5 one after the other, all joined."""
    maps = [_silu(b, x, b.shape(x)[1] // 2, 1, "pooled.first")]
    for index in range(3):
        maps.append(b.max_pool(maps[-1], 5, f"pooled.pool{index + 1}", stride=1, padding=2))
    return _silu(b, b.concat(maps, 1), n_out, 1, "pooled.joined")
