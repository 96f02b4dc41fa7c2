"""CoDeNet: detectors on ShuffleNetV2 with deformable depthwise convolutions (Huang et al., arXiv 2006.08357)."""

from __future__ import annotations

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["codenet"]

_REPEATS = (4, 8, 4)
_DECODER = (256, 128, 64)
_BOUND = 8  # pixels beyond which no offset reaches


def codenet(
    b: Layers,
    *,
    widths: tuple[int, ...],
    pooled: bool,
    batch: int,
    image: int,
    classes: int,
    whole_pixels: bool = False,
) -> OperatorStream:
    """CoDeNet: ShuffleNetV2 (arXiv 1807.11164) of ``widths`` (stem, three stages, last), three deformable layers each
    followed by a doubling of the map, and three heads; boxes are not decoded.

    ``pooled``: the stem is a convolution of stride 2 and a pool; else one convolution of stride 4. ``whole_pixels``:
    taps lie on pixels, as its accelerator has them, else between.
    """
    x = b.input("image", (batch, 3, image, image))
    x = _relu(b, b.conv(x, widths[0], 3, "stem", stride=2 if pooled else 4, batch_norm=True))
    x = b.max_pool(x, 3, stride=2, padding=1) if pooled else x
    for stage, (width, repeats) in enumerate(zip(widths[1:-1], _REPEATS, strict=True)):
        for index in range(repeats):
            with b.scope("stages", stage, index):
                x = _unit(b, x, width) if index else _halving_unit(b, x, width)
    x = _relu(b, b.conv(x, widths[-1], 1, "last", batch_norm=True))
    for index, width in enumerate(_DECODER):
        with b.scope("decoder", index):
            x = b.upsample(_relu(b, deformable(b, x, width, "nearest" if whole_pixels else "bilinear")), 2)
    outputs = []
    for name, n in (("classes", classes), ("sizes", 2), ("shifts", 2)):
        with b.scope("heads", name):
            y = _relu(b, b.conv(x, _DECODER[-1], 1, "point", batch_norm=True))
            y = _relu(b, b.conv(y, _DECODER[-1], 3, "depthwise", groups=_DECODER[-1], batch_norm=True))
            outputs.append(b.conv(y, n, 1, "predict"))
    return b.finish(outputs, n_parameters=b.n_parameters)


def deformable(b: Layers, x: str, n_out: int, sampling: str) -> str:
    """A depthwise 3 x 3 convolution whose taps lie in a square as large as each pixel asks for, and a 1 x 1 one."""
    n_in = b.shape(x)[1]
    sides = b.elementwise("clip", b.conv(x, 1, 1, "sides"))  # no square is smaller than the usual one
    how = {"shape": "square", "sampling": sampling}
    x = b.deformable_conv(x, sides, n_in, 3, "deformable", groups=n_in, bias=False, bound=_BOUND, **how)
    return b.conv(x, n_out, 1, "point", batch_norm=True)


def _relu(b: Layers, x: str) -> str:
    return b.elementwise("relu", x)


def _unit(b: Layers, x: str, width: int) -> str:
    """Every second channel goes around, the others through three convolutions."""
    half = width // 2
    return b.concat([b.part(x, 0, half, 1), _branch(b, b.part(x, half, half, 1), half, 1)], 1)


def _halving_unit(b: Layers, x: str, width: int) -> str:
    n_in = b.shape(x)[1]
    y = b.conv(x, n_in, 3, "around.depthwise", stride=2, groups=n_in, batch_norm=True)
    y = _relu(b, b.conv(y, width // 2, 1, "around.point", batch_norm=True))
    return b.concat([y, _branch(b, x, width // 2, 2)], 1)


def _branch(b: Layers, x: str, n_out: int, stride: int) -> str:
    y = _relu(b, b.conv(x, n_out, 1, "first", batch_norm=True))
    y = b.conv(y, n_out, 3, "depthwise", stride=stride, groups=n_out, batch_norm=True)
    return _relu(b, b.conv(y, n_out, 1, "second", batch_norm=True))
