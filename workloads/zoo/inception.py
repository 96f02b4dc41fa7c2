"""Networks of branches that are joined: Inception v1 to v4, Inception-ResNet v1 (for faces) and v2, DenseNet."""

from __future__ import annotations

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["densenet", "facenet", "inception_resnet_v2", "inception_v1", "inception_v2", "inception_v3", "inception_v4"]

Kernel = int | tuple[int, int]

# Inception v1 (arXiv 1409.4842, Table 1): 1x1; 1x1 before 3x3, 3x3; 1x1 before the second 3x3, its width; pooled.
# None is a pool. The third branch has a 3x3 in place of the 5x5, as the published models do.
_MIXED = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


# Inception v2 (arXiv 1502.03167, figure 5, as tensorflow/models has it): 1x1; 1x1 before 3x3, 3x3; 1x1 before two 3x3,
# their width; pooled. A block without the first and the last strides.
_V2 = (
    (64, 64, 64, 64, 96, 32),
    (64, 64, 96, 64, 96, 64),
    (0, 128, 160, 64, 96, 0),
    (224, 64, 96, 96, 128, 128),
    (192, 96, 128, 96, 128, 128),
    (160, 128, 160, 128, 160, 96),
    (96, 128, 192, 160, 192, 96),
    (0, 128, 192, 192, 256, 0),
    (352, 192, 320, 160, 224, 128),
    (352, 192, 320, 192, 224, 128),
)


def _unit(
    b: Layers, x: str, n_out: int, kernel: Kernel, name: str, *, stride: int = 1, padding: int | None = None
) -> str:
    """A convolution with its folded norm and ReLU."""
    y = b.conv(x, n_out, kernel, f"{name}.conv", stride=stride, padding=padding, batch_norm=True)
    return b.elementwise("relu", y, name=f"{name}.relu")


def _way(b: Layers, x: str, name: str, *steps: tuple[int, Kernel]) -> str:
    """Units one after the other, as (width, kernel)."""
    for index, (n_out, kernel) in enumerate(steps):
        x = _unit(b, x, n_out, kernel, f"{name}.{index + 1}")
    return x


def inception_v1(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """Inception v1 (Szegedy et al., arXiv 1409.4842, Table 1) with batch norms and pools rounded up, as in published
    models; without the auxiliary heads.
    """
    x = _unit(b, b.input("image", (batch, 3, image, image)), 64, 7, "stem1", stride=2)
    x = b.max_pool(x, 3, stride=2, padding=0, ceil=True)
    x = _unit(b, _unit(b, x, 64, 1, "stem2"), 192, 3, "stem3")
    x = b.max_pool(x, 3, stride=2, padding=0, ceil=True)
    for index, widths in enumerate(_MIXED):
        with b.scope("mixed", index):
            if widths is None:
                side = 3 if index < 5 else 2
                x = b.max_pool(x, side, stride=2, padding=0, ceil=True)
                continue
            one, before3, three, before5, five, pooled = widths
            ways = [_unit(b, x, one, 1, "first")]
            ways += [_way(b, x, "second", (before3, 1), (three, 3)), _way(b, x, "third", (before5, 1), (five, 3))]
            ways.append(_unit(b, b.max_pool(x, 3, stride=1, padding=1), pooled, 1, "pooled"))
            x = b.concat(ways, 1)
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def inception_v2(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """Inception v2 (Ioffe and Szegedy, arXiv 1502.03167) as tensorflow/models has it: a separable first convolution,
    eight depthwise channels of each of the picture's.
    """
    x = b.conv(b.input("image", (batch, 3, image, image)), 24, 7, "stem1.depthwise", stride=2, groups=3, bias=False)
    x = b.max_pool(_unit(b, x, 64, 1, "stem1.pointwise"), 3, stride=2, padding=1)
    x = b.max_pool(_unit(b, _unit(b, x, 64, 1, "stem2"), 192, 3, "stem3"), 3, stride=2, padding=1)
    for index, (one, before3, three, before5, five, pooled) in enumerate(_V2):
        with b.scope("mixed", index):
            stride = 1 if one else 2
            ways = [_unit(b, x, one, 1, "first")] if one else []
            ways.append(_unit(b, _unit(b, x, before3, 1, "second.1"), three, 3, "second.2", stride=stride))
            ways.append(_unit(b, _way(b, x, "third", (before5, 1), (five, 3)), five, 3, "third.3", stride=stride))
            last = index + 1 == len(_V2)
            pool = b.max_pool if last or not one else b.average_pool
            y = pool(x, 3, stride=stride, padding=1)
            x = b.concat([*ways, _unit(b, y, pooled, 1, "pooled") if one else y], 1)
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def inception_v3(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """Inception v3 (Szegedy et al., arXiv 1512.00567) as its published models are, without the auxiliary head."""
    x = _unit(b, b.input("image", (batch, 3, image, image)), 32, 3, "stem1", stride=2, padding=0)
    x = b.max_pool(_unit(b, _unit(b, x, 32, 3, "stem2", padding=0), 64, 3, "stem3"), 3, stride=2, padding=0)
    x = _unit(b, _unit(b, x, 80, 1, "stem4"), 192, 3, "stem5", padding=0)
    x = b.max_pool(x, 3, stride=2, padding=0)
    for index, pooled in enumerate((32, 64, 64)):
        with b.scope("a", index):
            ways = [_unit(b, x, 64, 1, "first"), _way(b, x, "second", (48, 1), (64, 5))]
            ways.append(_way(b, x, "third", (64, 1), (96, 3), (96, 3)))
            x = b.concat([*ways, _unit(b, b.average_pool(x, 3, stride=1, padding=1), pooled, 1, "pooled")], 1)
    ways = [_unit(b, x, 384, 3, "reduce1.first", stride=2, padding=0)]
    long = _way(b, x, "reduce1.second", (64, 1), (96, 3))
    ways.append(_unit(b, long, 96, 3, "reduce1.third", stride=2, padding=0))
    x = b.concat([*ways, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index, n in enumerate((128, 160, 160, 192)):
        with b.scope("b", index):
            ways = [_unit(b, x, 192, 1, "first"), _way(b, x, "second", (n, 1), (n, (1, 7)), (192, (7, 1)))]
            ways.append(_way(b, x, "third", (n, 1), (n, (7, 1)), (n, (1, 7)), (n, (7, 1)), (192, (1, 7))))
            x = b.concat([*ways, _unit(b, b.average_pool(x, 3, stride=1, padding=1), 192, 1, "pooled")], 1)
    ways = [_unit(b, _unit(b, x, 192, 1, "reduce2.first"), 320, 3, "reduce2.second", stride=2, padding=0)]
    long = _way(b, x, "reduce2.third", (192, 1), (192, (1, 7)), (192, (7, 1)))
    ways.append(_unit(b, long, 192, 3, "reduce2.fourth", stride=2, padding=0))
    x = b.concat([*ways, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(2):
        with b.scope("c", index):
            ways = [_unit(b, x, 320, 1, "first")]
            for at, start in enumerate((_unit(b, x, 384, 1, "second"), _way(b, x, "third", (448, 1), (384, 3)))):
                ways += [_unit(b, start, 384, (1, 3), f"wide{at}"), _unit(b, start, 384, (3, 1), f"tall{at}")]
            x = b.concat([*ways, _unit(b, b.average_pool(x, 3, stride=1, padding=1), 192, 1, "pooled")], 1)
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def inception_resnet_v2(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """Inception-ResNet v2 (Szegedy et al., arXiv 1602.07261) as its published models are: Inception v3's stem, 10, 20
    and 10 blocks. The scales of its residuals are folded into their convolutions.
    """
    x = _unit(b, b.input("image", (batch, 3, image, image)), 32, 3, "stem1", stride=2, padding=0)
    x = b.max_pool(_unit(b, _unit(b, x, 32, 3, "stem2", padding=0), 64, 3, "stem3"), 3, stride=2, padding=0)
    x = _unit(b, _unit(b, x, 80, 1, "stem4"), 192, 3, "stem5", padding=0)
    x = b.max_pool(x, 3, stride=2, padding=0)
    with b.scope("mixed"):
        ways = [_unit(b, x, 96, 1, "first"), _way(b, x, "second", (48, 1), (64, 5))]
        ways.append(_way(b, x, "third", (64, 1), (96, 3), (96, 3)))
        x = b.concat([*ways, _unit(b, b.average_pool(x, 3, stride=1, padding=1), 64, 1, "pooled")], 1)
    for index in range(10):
        with b.scope("a", index):
            x = _joined(b, x, ((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3)))
    ways = [_unit(b, x, 384, 3, "reduce1.first", stride=2, padding=0)]
    long = _way(b, x, "reduce1.second", (256, 1), (256, 3))
    ways.append(_unit(b, long, 384, 3, "reduce1.third", stride=2, padding=0))
    x = b.concat([*ways, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(20):
        with b.scope("b", index):
            x = _joined(b, x, ((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))
    ways = []
    for name, before, n_out in (("first", (), 384), ("second", (), 288), ("third", ((288, 3),), 320)):
        long = _way(b, x, f"reduce2.{name}", (256, 1), *before)
        ways.append(_unit(b, long, n_out, 3, f"reduce2.{name}.out", stride=2, padding=0))
    x = b.concat([*ways, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(10):
        with b.scope("c", index):
            x = _joined(b, x, ((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))), rectified=index < 9)
    x = _unit(b, x, 1536, 1, "head")
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def inception_v4(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """Inception v4 (Szegedy et al., arXiv 1602.07261, figures 3 to 9)."""
    x = _unit(b, b.input("image", (batch, 3, image, image)), 32, 3, "stem1", stride=2, padding=0)
    x = _unit(b, _unit(b, x, 32, 3, "stem2", padding=0), 64, 3, "stem3")
    x = b.concat([b.max_pool(x, 3, stride=2, padding=0), _unit(b, x, 96, 3, "stem4", stride=2, padding=0)], 1)
    left = _unit(b, _unit(b, x, 64, 1, "stem5"), 96, 3, "stem6", padding=0)
    right = _unit(b, _way(b, x, "stem7", (64, 1), (64, (1, 7)), (64, (7, 1))), 96, 3, "stem8", padding=0)
    x = b.concat([left, right], 1)
    x = b.concat([_unit(b, x, 192, 3, "stem9", stride=2, padding=0), b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(4):
        with b.scope("a", index):
            x = _inception_a(b, x)
    ways = [_unit(b, x, 384, 3, "reduce1.first", stride=2, padding=0)]
    ways.append(
        _unit(b, _way(b, x, "reduce1.second", (192, 1), (224, 3)), 256, 3, "reduce1.third", stride=2, padding=0)
    )
    x = b.concat([*ways, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(7):
        with b.scope("b", index):
            x = _inception_b(b, x)
    ways = [_unit(b, _unit(b, x, 192, 1, "reduce2.first"), 192, 3, "reduce2.second", stride=2, padding=0)]
    long = _way(b, x, "reduce2.third", (256, 1), (256, (1, 7)), (320, (7, 1)))
    ways.append(_unit(b, long, 320, 3, "reduce2.fourth", stride=2, padding=0))
    x = b.concat([*ways, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(3):
        with b.scope("c", index):
            x = _inception_c(b, x)
    return b.finish([b.linear(b.global_mean(x), classes, "classifier")], n_parameters=b.n_parameters)


def _inception_a(b: Layers, x: str) -> str:
    ways = [_unit(b, b.average_pool(x, 3, stride=1, padding=1), 96, 1, "pooled"), _unit(b, x, 96, 1, "first")]
    ways += [_way(b, x, "second", (64, 1), (96, 3)), _way(b, x, "third", (64, 1), (96, 3), (96, 3))]
    return b.concat(ways, 1)


def _inception_b(b: Layers, x: str) -> str:
    ways = [_unit(b, b.average_pool(x, 3, stride=1, padding=1), 128, 1, "pooled"), _unit(b, x, 384, 1, "first")]
    ways.append(_way(b, x, "second", (192, 1), (224, (1, 7)), (256, (7, 1))))
    ways.append(_way(b, x, "third", (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))))
    return b.concat(ways, 1)


def _inception_c(b: Layers, x: str) -> str:
    ways = [_unit(b, b.average_pool(x, 3, stride=1, padding=1), 256, 1, "pooled"), _unit(b, x, 256, 1, "first")]
    narrow = _unit(b, x, 384, 1, "second")
    ways += [_unit(b, narrow, 256, (1, 3), "wide1"), _unit(b, narrow, 256, (3, 1), "tall1")]
    long = _way(b, x, "third", (384, 1), (448, (3, 1)), (512, (1, 3)))
    return b.concat([*ways, _unit(b, long, 256, (1, 3), "wide2"), _unit(b, long, 256, (3, 1), "tall2")], 1)


def facenet(b: Layers, *, batch: int, image: int, width: int) -> OperatorStream:
    """The face network on Inception-ResNet v1 (Schroff et al., arXiv 1503.03832; Szegedy et al., arXiv 1602.07261,
    figures 10 to 14): an embedding of ``width`` values. The scales of its residuals are folded into their convolutions.
    """
    x = _unit(b, b.input("image", (batch, 3, image, image)), 32, 3, "stem1", stride=2, padding=0)
    x = _unit(b, _unit(b, x, 32, 3, "stem2", padding=0), 64, 3, "stem3")
    x = _unit(b, b.max_pool(x, 3, stride=2, padding=0), 80, 1, "stem4")
    x = _unit(b, _unit(b, x, 192, 3, "stem5", padding=0), 256, 3, "stem6", stride=2, padding=0)
    for index in range(5):
        with b.scope("a", index):
            ways = (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (32, 3), (32, 3)))
            x = _joined(b, x, *ways)
    ways_out = [_unit(b, x, 384, 3, "reduce1.first", stride=2, padding=0)]
    ways_out.append(
        _unit(b, _way(b, x, "reduce1.second", (192, 1), (192, 3)), 256, 3, "reduce1.third", stride=2, padding=0)
    )
    x = b.concat([*ways_out, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(10):
        with b.scope("b", index):
            x = _joined(b, x, ((128, 1),), ((128, 1), (128, (1, 7)), (128, (7, 1))))
    ways_out = []
    for name, before, n_out in (("first", (), 384), ("second", (), 256), ("third", ((256, 3),), 256)):
        long = _way(b, x, f"reduce2.{name}", (256, 1), *before)
        ways_out.append(_unit(b, long, n_out, 3, f"reduce2.{name}.out", stride=2, padding=0))
    x = b.concat([*ways_out, b.max_pool(x, 3, stride=2, padding=0)], 1)
    for index in range(6):
        with b.scope("c", index):
            x = _joined(b, x, ((192, 1),), ((192, 1), (192, (1, 3)), (192, (3, 1))), rectified=index < 5)
    embedding = b.linear(b.global_mean(x), width, "embedding", bias=False)
    return b.finish([embedding], n_parameters=b.n_parameters + 2 * width)  # and a norm, which is folded


def _joined(b: Layers, x: str, *ways: tuple[tuple[int, Kernel], ...], rectified: bool = True) -> str:
    """Branches that are joined, widened and added to what they started from."""
    many = b.concat([_way(b, x, f"way{at + 1}", *way) for at, way in enumerate(ways)], 1)
    y = b.elementwise("add", b.conv(many, b.shape(x)[1], 1, "widen"), x)
    return b.elementwise("relu", y) if rectified else y


def densenet(
    b: Layers, *, depths: tuple[int, ...], growth: int, batch: int, image: int, classes: int
) -> OperatorStream:
    """DenseNet-BC (Huang et al., arXiv 1608.06993, Table 1). Norms before a convolution stay operators of their own
    where what they scale is joined from several layers.
    """
    x = _unit(b, b.input("image", (batch, 3, image, image)), 2 * growth, 7, "stem", stride=2)
    x = b.max_pool(x, 3, stride=2, padding=1)
    for stage, depth in enumerate(depths):
        with b.scope("stages", stage):
            for index in range(depth):
                with b.scope(index):
                    y = _unit(b, _scaled(b, x), 4 * growth, 1, "narrow")
                    x = b.concat([x, b.conv(y, growth, 3, "grow", bias=False)], 1)
            if stage + 1 < len(depths):
                x = b.conv(_scaled(b, x), b.shape(x)[1] // 2, 1, "halve", bias=False)
                x = b.average_pool(x, 2, stride=2, padding=0)
    logits = b.linear(b.global_mean(_scaled(b, x)), classes, "classifier")
    return b.finish([logits], n_parameters=b.n_parameters)


def _scaled(b: Layers, x: str) -> str:
    """A batch norm of known statistics and a ReLU."""
    return b.elementwise("relu", b.channel_scale(x, "norm"), name="norm.relu")
