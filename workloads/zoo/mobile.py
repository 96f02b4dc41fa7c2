"""Networks of phones and small cameras on the blocks of others: MNASNet, SSDLite, DeepLabV3 and a U-Net on MobileNetV2,
and the two of BNN-PYNQ.
"""

from __future__ import annotations

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.vision import inverted, mobilenet_v2_maps, rounded

__all__ = ["cnv", "deeplab_v3_mobilenet_v2", "mlp", "mnasnet", "ssdlite_mobilenet_v2", "unet_mobilenet_v2"]

# MNASNet (arXiv 1807.11626): expansion, channels, repeats, stride, kernel, squeezed; B1 as torchvision's, A1 as in its
# figure 7.
_B1 = (
    (3, 24, 3, 2, 3, False),
    (3, 40, 3, 2, 5, False),
    (6, 80, 3, 2, 5, False),
    (6, 96, 2, 1, 3, False),
    (6, 192, 4, 2, 5, False),
    (6, 320, 1, 1, 3, False),
)
_A1 = (
    (6, 24, 2, 2, 3, False),
    (3, 40, 3, 2, 5, True),
    (6, 80, 4, 2, 3, False),
    (6, 112, 2, 1, 3, True),
    (6, 160, 3, 2, 5, True),
    (6, 320, 1, 1, 3, False),
)


def mnasnet(b: Layers, *, squeezed: bool, width: int, batch: int, image: int, classes: int) -> OperatorStream:
    """MNASNet-B1, or A1 (``squeezed``) (Tan et al., arXiv 1807.11626) with ``width`` per cent of its channels."""
    share = width / 100
    x = b.conv(b.input("image", (batch, 3, image, image)), rounded(32 * share), 3, "stem", stride=2, batch_norm=True)
    x = b.elementwise("relu", x, name="stem.relu")
    with b.scope("blocks", 0):
        x = inverted(b, x, rounded(16 * share), 1, 3, 1, "relu", around=False)
    index = 1
    for expansion, channels, repeats, first_stride, kernel, squeeze in _A1 if squeezed else _B1:
        for repeat in range(repeats):
            with b.scope("blocks", index):
                stride = first_stride if not repeat else 1
                n_out, around = rounded(channels * share), repeat > 0
                x = inverted(b, x, n_out, expansion, kernel, stride, "relu", squeeze=squeeze, around=around)
            index += 1
    x = b.elementwise("relu", b.conv(x, 1280, 1, "head.conv", batch_norm=True), name="head.relu")
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def ssdlite_mobilenet_v2(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """SSDLite on MobileNetV2 (Sandler et al., arXiv 1801.04381, section 6.2), as ssdlite_mobilenet_v2_coco of
    tensorflow/models: six maps with depthwise separable heads; boxes are neither decoded nor chosen.
    """
    wide: list[str] = []
    x = mobilenet_v2_maps(b, b.input("image", (batch, 3, image, image)), wide=wide)[-1]
    x = b.elementwise("relu6", b.conv(x, 1280, 1, "head.conv", batch_norm=True), name="head.relu6")
    maps = [wide[13], x]
    for index, n_out in enumerate((512, 256, 256, 128)):
        with b.scope("extras", index):
            x = _norm_relu6(b, x, n_out // 2, 1, "narrow")
            x = _norm_relu6(b, x, b.shape(x)[1], 3, "depthwise", stride=2, groups=b.shape(x)[1])
            x = _norm_relu6(b, x, n_out, 1, "widen")
            maps.append(x)
    outs = []
    for index, x in enumerate(maps):
        n_boxes, n_in = (6 if index else 3), b.shape(x)[1]
        for what, n in (("boxes", 4), ("classes", classes + 1)):
            name = f"predict{index}.{what}"
            y = _norm_relu6(b, x, n_in, 3, f"{name}.depthwise", groups=n_in)
            outs.append(b.conv(y, n_boxes * n, 1, name))
    return b.finish(outs, n_parameters=b.n_parameters)


def deeplab_v3_mobilenet_v2(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """DeepLabV3 on MobileNetV2 at stride 8 (arXiv 1801.04381, section 6.3): no dilated branches, no decoder.

    The last upsampling moves data; the arithmetic of its interpolation is not counted.
    """
    x = mobilenet_v2_maps(b, b.input("image", (batch, 3, image, image)), output_stride=8)[-1]
    channels, *size = b.shape(x)[1:]
    whole = b.view(b.global_mean(x, "global.pool"), (batch, channels, 1, 1), "map")
    whole = _norm_relu6(b, whole, 256, 1, "global.conv")
    whole = b.add("reshape", "global.repeat", [whole], (batch, 256, *size), {"function": "repeat"})
    x = _norm_relu6(b, b.concat([whole, _norm_relu6(b, x, 256, 1, "branch")], 1), 256, 1, "project")
    x = b.conv(x, classes, 1, "classifier")
    x = b.add("reshape", "upsample", [x], (batch, classes, image, image), {"function": "upsample"})
    return b.finish([x], n_parameters=b.n_parameters)


def unet_mobilenet_v2(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """The U-Net of TensorFlow's tutorial of segmentation: MobileNetV2 down, transposed convolutions up."""
    wide: list[str] = []
    x = mobilenet_v2_maps(b, b.input("image", (batch, 3, image, image)), wide=wide)[-1]
    for index, (n_out, around) in enumerate(((512, wide[13]), (256, wide[6]), (128, wide[3]), (64, wide[1]))):
        y = b.transposed_conv(x, n_out, 3, f"up{index}.conv", stride=2, batch_norm=True)
        x = b.concat([b.elementwise("relu", y, name=f"up{index}.relu"), around], 1)
    return b.finish([b.transposed_conv(x, classes, 3, "classifier", stride=2)], n_parameters=b.n_parameters)


def _norm_relu6(b: Layers, x: str, n_out: int, kernel: int, name: str, *, stride: int = 1, groups: int = 1) -> str:
    y = b.conv(x, n_out, kernel, name, stride=stride, groups=groups, batch_norm=True)
    return b.elementwise("relu6", y, name=f"{name}.relu6")


def cnv(b: Layers, *, width: int, batch: int, classes: int) -> OperatorStream:
    """The convolutional network of BNN-PYNQ for pictures of 32 x 32 (Umuroglu et al., arXiv 1612.07119); at 50 per cent
    of the ``width`` of QuTiBench's largest one.
    """
    x = b.input("image", (batch, 3, 32, 32))
    for stage, channels in enumerate((128, 256, 512)):
        for index in range(2):
            name = f"conv{stage}.{index}"
            x = b.conv(x, channels * width // 100, 3, name, padding=0, batch_norm=True)
            x = b.elementwise("relu", x, name=f"{name}.relu")
        x = b.max_pool(x, 2, f"pool{stage}", stride=2, padding=0) if stage < 2 else x
    x = b.view(x, (batch, b.shape(x)[1]), "flat")
    return _dense(b, x, (1024 * width // 100,) * 2, classes)


def mlp(b: Layers, *, width: int, batch: int, classes: int) -> OperatorStream:
    """The fully connected network of BNN-PYNQ for digits of 28 x 28 (arXiv 1612.07119), ``width`` as in :func:`cnv`."""
    return _dense(b, b.input("image", (batch, 784)), (2048 * width // 100,) * 3, classes)


def _dense(b: Layers, x: str, widths: tuple[int, ...], classes: int) -> OperatorStream:
    for index, n_out in enumerate(widths):
        x = b.elementwise("relu", b.linear(x, n_out, f"dense{index}", bias=False), name=f"dense{index}.relu")
    return b.finish([b.linear(x, classes, "classifier", bias=False)], n_parameters=b.n_parameters)
