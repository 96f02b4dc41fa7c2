"""ConvNeXt: depthwise convolutions of 7 x 7 between layers as a transformer has them."""

from __future__ import annotations

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["convnext"]

_KERNEL = 7
_WIDER = 4


def convnext(
    b: Layers, *, depths: tuple[int, ...], widths: tuple[int, ...], batch: int, image: int, classes: int
) -> OperatorStream:
    """ConvNeXt (Liu et al., arXiv 2201.03545, section 2 and figure 4), maps with channels last; ``image`` is a multiple
    of 32.
    """
    x = b.input("image", (batch, 3, image, image))
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        with b.scope("stages", stage):
            if stage:
                x = _map(b, b.norm(_rows(b, x), "downsample.norm"), b.shape(x))
            side = 2 if stage else 4
            x = b.conv(x, width, side, "downsample.conv" if stage else "stem.conv", stride=side, padding=0)
            x = x if stage else _map(b, b.norm(_rows(b, x), "stem.norm"), b.shape(x))
            for index in range(depth):
                with b.scope("blocks", index):
                    x = _block(b, x)
    pooled = b.norm(b.global_mean(x), "norm")
    return b.finish([b.linear(pooled, classes, "classifier")], n_parameters=b.n_parameters)


def _block(b: Layers, x: str) -> str:
    """Depthwise convolution, norm of each place's channels, two layers, a factor for each channel, sum."""
    shape = b.shape(x)
    width = shape[1]
    y = b.norm(_rows(b, b.conv(x, width, _KERNEL, "depthwise", groups=width)), "norm")
    y = b.linear(b.elementwise("gelu", b.linear(y, _WIDER * width, "up"), name="gelu"), width, "down")
    y = b.elementwise("mul", y, b.trained("scale", 1, 1, width), name="layer_scale")
    return b.elementwise("add", _map(b, y, shape), x, name="add")


def _rows(b: Layers, x: str) -> str:
    """A map (batch, channels, height, width) as rows of channels, which is how it lies in memory."""
    return b.pixel_rows(x)


def _map(b: Layers, x: str, shape: tuple[int, ...]) -> str:
    """Rows of channels as the map that they are."""
    return b.pixel_map(x, *shape[2:])
