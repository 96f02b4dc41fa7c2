"""Small random networks with branches, strides, padding and gates, and random partitions of them."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

KINDS = (
    "conv", "conv", "grouped", "depthwise", "transposed", "max", "average", "relu", "norm", "add", "add", "concat",
    "concat", "gate", "upsample", "pad",
)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn, *, most: int = 8, kinds: tuple[str, ...] = KINDS) -> OperatorStream:
    """A network of up to ``most`` drawn steps; every map that nobody reads is a result."""
    b = Layers("random", activations=draw(st.sampled_from(["int8", "fp16"])), weights="int8")
    batch, channels = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    size = (draw(st.integers(3, 9)), draw(st.integers(2, 6)))
    maps = [b.input("image", (batch, channels, *size))]
    read: set[str] = set()
    for number in range(draw(st.integers(1, most))):
        found = _step(draw, b, draw(st.sampled_from(kinds)), maps, read, f"n{number}")
        if found is not None:
            maps.append(found)
    if len(maps) == 1:
        read.add(maps[0])
        maps.append(b.elementwise("relu", maps[0], name="only"))
    wanted = [name for name in maps[1:] if name not in read]
    also = draw(st.sampled_from(maps[1:]))
    return b.finish(list(dict.fromkeys([*wanted, also])))


def _step(draw: st.DrawFn, b: Layers, kind: str, maps: list[str], read: set[str], name: str) -> str | None:
    x = draw(st.sampled_from(maps[-3:]))
    shape = b.shape(x)
    if kind in ("add", "concat"):
        alike = [m for m in maps if b.shape(m)[2:] == shape[2:] and (kind == "concat" or b.shape(m) == shape)]
        others = draw(st.lists(st.sampled_from(alike), min_size=1, max_size=2))
        read |= {x, *others}
        if kind == "add":
            return b.elementwise("add", x, others[0], name=name)
        return b.concat([x, *others], 1, name)
    read.add(x)
    match kind:
        case "relu":
            return b.elementwise(draw(st.sampled_from(["relu", "hardswish"])), x, name=name)
        case "norm":
            weights = [b.trained(f"{name}.{part}", shape[1]) for part in ("weight", "bias")]
            attributes = {"function": "batch", "rows": shape[1], "columns": math.prod(shape) // shape[1]}
            return b.add("norm", name, [x, *weights], shape, attributes)
        case "gate":
            width = shape[1]
            mean = b.global_mean(x, f"{name}.mean")
            if draw(st.booleans()):  # an activation that can ride on the mean
                mean = b.elementwise("hardswish", mean, name=f"{name}.squeeze")
            gate = b.view(mean, (shape[0], width, 1, 1), "map")
            gate = b.elementwise("sigmoid", b.conv(gate, width, 1, f"{name}.excite"), name=f"{name}.gate")
            return b.elementwise("mul", x, gate, name=name)
        case "upsample":
            return b.upsample(x, 2, name) if math.prod(shape[2:]) <= 36 else b.elementwise("relu", x, name=name)
        case "pad":
            pad = draw(st.integers(1, 2))
            padded = (*shape[:2], *(extent + 2 * pad for extent in shape[2:]))
            return b.add("reshape", name, [x], padded, {"function": "pad"})
        case "max" | "average":
            sizes = _window(draw, shape[2:], dilated=False)
            out = (*shape[:2], *sizes.pop("out"))
            sizes.pop("dilation")
            attributes = {"function": kind, "batch": shape[0], "channels": shape[1], "in_size": shape[2:], **sizes}
            return b.add("pool", name, [x], out, {**attributes, "out_size": out[2:]})
    return _conv(draw, b, kind, x, name)


def _conv(draw: st.DrawFn, b: Layers, kind: str, x: str, name: str) -> str:
    shape = b.shape(x)
    channels = shape[1]
    groups = {"depthwise": channels, "grouped": 2 if channels % 2 == 0 else 1}.get(kind, 1)
    n_out = draw(st.integers(1, 3)) * groups
    turned = kind == "transposed"
    sizes = _turned(draw, shape[2:]) if turned else _window(draw, shape[2:], dilated=True)
    out = (shape[0], n_out, *sizes.pop("out"))
    ends = (channels, n_out) if turned else (n_out, channels)
    weight = b.trained(f"{name}.weight", ends[0], ends[1] // groups, *sizes["kernel"])
    attributes = {
        "batch": shape[0], "groups": groups, "in_channels": channels, "out_channels": n_out, "in_size": shape[2:],
        "out_size": out[2:], "transposed": turned, **sizes,
    }  # fmt: skip
    return b.add("conv", name, [x, weight, b.trained(f"{name}.bias", n_out)], out, attributes)


def _window(draw: st.DrawFn, extents: tuple[int, ...], *, dilated: bool) -> dict[str, tuple[int, ...]]:
    kernels, strides, pads, dilations, outs = [], [], [], [], []
    for extent in extents:
        kernel, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 1 + dilated))
        pad = draw(st.integers(0, kernel if dilated else kernel // 2))  # some rows of a convolution see only padding
        if (kernel - 1) * dilation + 1 > extent + 2 * pad:
            kernel, pad, dilation = 1, 0, 1
        kernels.append(kernel)
        strides.append(stride)
        pads.append(pad)
        dilations.append(dilation)
        outs.append((extent + 2 * pad - (kernel - 1) * dilation - 1) // stride + 1)
    return {
        "kernel": tuple(kernels), "stride": tuple(strides), "padding": (*pads, *pads), "dilation": tuple(dilations),
        "out": tuple(outs),
    }  # fmt: skip


def _turned(draw: st.DrawFn, extents: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    kernels, strides, pads = ([draw(st.integers(*ends)) for _ in extents] for ends in ((2, 4), (1, 2), (0, 1)))
    outs = tuple((n - 1) * s + k - 2 * p for n, s, k, p in zip(extents, strides, kernels, pads, strict=True))
    if min(outs) < 1:
        pads, outs = (
            [0 for _ in extents],
            tuple((n - 1) * s + k for n, s, k in zip(extents, strides, kernels, strict=True)),
        )
    return {
        "kernel": tuple(kernels),
        "stride": tuple(strides),
        "padding": (*pads, *pads),
        "dilation": (1, 1),
        "out": outs,
    }


@st.composite
def partitions(draw: st.DrawFn, graph: FusionGraph) -> tuple[int, ...]:
    """Groups that can run one after the other: neighbours merged while nothing waits for itself."""
    groups = [node.bit for node in graph.nodes]
    for _ in range(draw(st.integers(0, 2 * len(groups)))):
        if len(groups) < 2:
            break
        first = draw(st.integers(0, len(groups) - 1))
        near = [i for i, g in enumerate(groups) if i != first and g & graph.neighbours(groups[first])]
        if not near:
            continue
        second = draw(st.sampled_from(near))
        merged = [g for i, g in enumerate(groups) if i not in (first, second)] + [groups[first] | groups[second]]
        if graph.is_acyclic(merged):
            groups = merged
    return tuple(groups)
