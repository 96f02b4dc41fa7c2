"""Networks that find boxes: YOLOv3, its tiny version, and YOLOv8."""

from __future__ import annotations

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["yolo_v3", "yolo_v3_tiny", "yolo_v8"]


def _unit(
    b: Layers, x: str, n_out: int, kernel: int, name: str, *, stride: int = 1, function: str = "leaky_relu"
) -> str:
    y = b.conv(x, n_out, kernel, f"{name}.conv", stride=stride, batch_norm=True)
    return b.elementwise(function, y, name=f"{name}.{function}")


def yolo_v3(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """YOLOv3 (Redmon and Farhadi, arXiv 1804.02767; yolov3.cfg) on Darknet-53, up to its three heads."""
    x = _unit(b, b.input("image", (batch, 3, image, image)), 32, 3, "stem")
    kept = []
    for stage, repeats in enumerate((1, 2, 8, 8, 4)):
        width = 64 * 2**stage
        with b.scope("stages", stage):
            x = _unit(b, x, width, 3, "down", stride=2)
            for index in range(repeats):
                y = _unit(b, _unit(b, x, width // 2, 1, f"narrow{index}"), width, 3, f"wide{index}")
                x = b.elementwise("add", y, x, name=f"add{index}")
        kept.append(x)
    heads = []
    for index, width in enumerate((512, 256, 128)):
        with b.scope("heads", index):
            for step in range(5):
                x = _unit(b, x, width * (1 + step % 2), 1 + 2 * (step % 2), f"unit{step}")
            heads.append(b.conv(_unit(b, x, 2 * width, 3, "wide"), 3 * (5 + classes), 1, "boxes"))
            if index < 2:
                x = b.concat([b.upsample(_unit(b, x, width // 2, 1, "narrow"), 2), kept[3 - index]], 1)
    return b.finish(heads, n_parameters=b.n_parameters)


def yolo_v3_tiny(b: Layers, *, batch: int, image: int, classes: int) -> OperatorStream:
    """YOLOv3-tiny (yolov3-tiny.cfg of AlexeyAB/darknet), up to its two heads."""
    x = b.input("image", (batch, 3, image, image))
    kept = x
    for stage in range(6):
        kept = _unit(b, x, 16 * 2**stage, 3, f"unit{stage}")
        if stage < 5:
            x = b.max_pool(kept, 2, f"pool{stage}", stride=2, padding=0)
            early = kept
    x = b.max_pool(b.add("reshape", "edge", [kept], _one_more(b, kept), {"function": "pad"}), 2, stride=1, padding=0)
    narrow = _unit(b, _unit(b, x, 1024, 3, "neck1"), 256, 1, "neck2")
    n_out = 3 * (5 + classes)
    heads = [b.conv(_unit(b, narrow, 512, 3, "wide1"), n_out, 1, "head1")]
    joined = b.concat([b.upsample(_unit(b, narrow, 128, 1, "neck3"), 2), early], 1)
    heads.append(b.conv(_unit(b, joined, 256, 3, "wide2"), n_out, 1, "head2"))
    return b.finish(heads, n_parameters=b.n_parameters)


def yolo_v8(
    b: Layers, *, depth: float, width: float, most: int, batch: int, image: int, classes: int
) -> OperatorStream:
    """YOLOv8 (yolov8.yaml of ultralytics/ultralytics), up to scores and the distributions of the boxes' sides.

    ``depth`` and ``width`` scale the repeats and the channels, of which there are at ``most`` so many before that.
    """

    def channels(count: int) -> int:
        return -(-int(min(count, most) * width) // 8) * 8

    def unit(x: str, n_out: int, kernel: int, name: str, stride: int = 1) -> str:
        return _unit(b, x, n_out, kernel, name, stride=stride, function="silu")

    def stage(x: str, count: int, repeats: int, name: str, *, residual: bool = False) -> str:
        """A first convolution whose second half goes through bottlenecks one by one, everything joined."""
        n_out = channels(count)
        half = n_out // 2
        with b.scope(name):
            whole = unit(x, n_out, 1, "first")
            parts, y = [whole], b.part(whole, half, half, 1)
            for index in range(max(1, round(repeats * depth))):
                z = unit(unit(y, half, 3, f"left{index}"), half, 3, f"right{index}")
                y = b.elementwise("add", y, z, name=f"add{index}") if residual else z
                parts.append(y)
            return unit(b.concat(parts, 1), n_out, 1, "joined")

    x = unit(b.input("image", (batch, 3, image, image)), channels(64), 3, "stem", 2)
    kept = []
    for index, (count, repeats) in enumerate(((128, 3), (256, 6), (512, 6), (1024, 3))):
        x = unit(x, channels(count), 3, f"down{index + 1}", 2)
        x = stage(x, count, repeats, f"backbone{index + 1}", residual=True)
        kept.append(x)
    maps = [unit(x, b.shape(x)[1] // 2, 1, "pooled.first")]
    for index in range(3):
        maps.append(b.max_pool(maps[-1], 5, f"pooled.pool{index + 1}", stride=1, padding=2))
    large = unit(b.concat(maps, 1), channels(1024), 1, "pooled.joined")
    middle = stage(b.concat([b.upsample(large, 2), kept[2]], 1), 512, 3, "up1")
    outs = [stage(b.concat([b.upsample(middle, 2), kept[1]], 1), 256, 3, "up2")]
    for index, (count, other) in enumerate(((256, middle), (512, large))):
        x = unit(outs[-1], channels(count), 3, f"path{index + 1}", 2)
        outs.append(stage(b.concat([x, other], 1), 2 * count, 3, f"merged{index + 1}"))
    n_first = b.shape(outs[0])[1]
    heads = []
    for index, x in enumerate(outs):
        for what, n, n_out in (
            ("boxes", max(16, n_first // 4, 64), 64),
            ("classes", max(n_first, min(classes, 100)), classes),
        ):
            y = unit(unit(x, n, 3, f"head{index}.{what}1"), n, 3, f"head{index}.{what}2")
            heads.append(b.conv(y, n_out, 1, f"head{index}.{what}"))
    return b.finish(heads, n_parameters=b.n_parameters)


def _one_more(b: Layers, x: str) -> tuple[int, ...]:
    batch, channels, height, width = b.shape(x)
    return batch, channels, height + 1, width + 1
