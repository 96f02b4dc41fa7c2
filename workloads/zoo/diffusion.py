"""Networks that draw: diffusion transformers and the U-Nets of Stable Diffusion, one denoising step each."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = [
    "SDXL",
    "SD_1_5",
    "DiffusionConfig",
    "UnetConfig",
    "dit",
    "gated",
    "modulated",
    "pixart",
    "time_embedding",
    "unet",
]

_N_FREQUENCIES = 256  # sines and cosines of the time step, before its first product


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionConfig:
    """A diffusion transformer's widths; ``latent`` is the side of its square input of ``channels`` channels."""

    hidden: int
    heads: int
    layers: int
    patch: int
    channels: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


def _image(b: Layers, x: str, config: DiffusionConfig, latent: int) -> str:
    """Rows of patches, each of which lists its pixels and their channels, as the latent image and its variances."""
    batch, side, channels = b.shape(x)[0], latent // config.patch, 2 * config.channels
    split = (batch, side, side, config.patch, config.patch, channels)
    return b.view(x, (batch, channels, latent, latent), "image", split=split, order=(0, 5, 1, 3, 2, 4))


def _patches(b: Layers, config: DiffusionConfig, batch: int, latent: int) -> str:
    """Latent image to rows of patches with their fixed sine positions."""
    n_tokens = (latent // config.patch) ** 2
    x = b.input("latent", (batch, config.channels, latent, latent))
    x = b.conv(x, config.hidden, config.patch, "patch", stride=config.patch, padding=0)
    x = b.pixel_rows(x)
    return b.elementwise("add", x, b.constant("position", (1, n_tokens, config.hidden)), name="position.add")


def time_embedding(b: Layers, batch: int, n_in: int, width: int) -> str:
    """Time step to a row: sines and cosines, a product, SiLU, a product."""
    with b.scope("time"):
        x = b.elementwise("sin", b.input("angles", (batch, n_in)), name="frequencies")
        x = b.elementwise("silu", b.linear(x, width, "linear1"))
        return b.linear(x, width, "linear2")


def modulated(b: Layers, x: str, rows: str, first: int, name: str) -> str:
    """x (1 + scale) + shift, with the shift and scale that stand at ``first`` and behind in ``rows`` (batch, n,
    width).
    """
    shift, scale = (b.part(rows, index, 1, axis=1) for index in (first, first + 1))
    return b.elementwise("modulate", x, shift, b.elementwise("add", scale, name=f"{name}.scale"), name=name)


def gated(b: Layers, x: str, y: str, rows: str, index: int, name: str) -> str:
    """x plus y times the gate that stands at ``index`` in ``rows``."""
    gated = b.elementwise("mul", b.part(rows, index, 1, axis=1), y, name=f"{name}.gate")
    return b.elementwise("add", gated, x, name=f"{name}.add")


def _attend(b: Layers, x: str, source: str, config: DiffusionConfig, name: str, *, bias: bool = True) -> str:
    """Attention of ``x`` to ``source``, with its four products."""
    with b.scope(name):
        q = b.linear(x, config.hidden, "query", bias=bias)
        k, v = (b.linear(source, config.hidden, part, bias=bias) for part in ("key", "value"))
        y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim)
        return b.linear(y, config.hidden, "output")


def _mlp(b: Layers, x: str, config: DiffusionConfig) -> str:
    with b.scope("mlp"):
        y = b.elementwise("gelu_tanh", b.linear(x, 4 * config.hidden, "up"))
        return b.linear(y, config.hidden, "down")


def dit(b: Layers, config: DiffusionConfig, *, batch: int, latent: int) -> OperatorStream:
    """DiT with class labels (Peebles and Xie, arXiv 2212.09748, Table 1): 1,000 classes and one for none.

    Every block makes its shifts, scales and gates from the embedding of time and class (adaLN-Zero). The result has
    twice the channels of the input: noise and its variance.
    """
    hidden = config.hidden
    x = _patches(b, config, batch, latent)
    time = time_embedding(b, batch, _N_FREQUENCIES, hidden)
    label = b.embedding(b.indices("class", batch), 1001, hidden, "class_table")
    condition = b.elementwise("add", time, label, name="condition")
    for index in range(config.layers):
        with b.scope("blocks", index):
            rows = b.linear(b.elementwise("silu", condition), 6 * hidden, "modulation")
            x = _dit_block(b, x, b.view(rows, (batch, 6, hidden), "rows"), config)
    with b.scope("final"):
        rows = b.view(b.linear(b.elementwise("silu", condition), 2 * hidden, "modulation"), (batch, 2, hidden), "rows")
        x = modulated(b, b.norm(x, "norm", affine=False), rows, 0, "modulate")
        x = b.linear(x, config.patch**2 * 2 * config.channels, "linear")
    return b.finish([_image(b, x, config, latent)], n_parameters=b.n_parameters)


def _dit_block(b: Layers, x: str, rows: str, config: DiffusionConfig) -> str:
    y = modulated(b, b.norm(x, "norm1", affine=False), rows, 0, "modulate1")
    x = gated(b, x, _attend(b, y, y, config, "attention"), rows, 2, "half1")
    y = modulated(b, b.norm(x, "norm2", affine=False), rows, 3, "modulate2")
    return gated(b, x, _mlp(b, y, config), rows, 5, "half2")


def pixart(
    b: Layers, config: DiffusionConfig, *, batch: int, latent: int, text: int, text_width: int
) -> OperatorStream:
    """PixArt (Chen et al., arXiv 2310.00426 and 2403.04692): DiT blocks with cross-attention to ``text`` tokens.

    Time is turned into shifts, scales and gates once, and each block adds a table of its own (adaLN-single).
    """
    hidden = config.hidden
    x = _patches(b, config, batch, latent)
    time = time_embedding(b, batch, _N_FREQUENCIES, hidden)
    shared = b.linear(b.elementwise("silu", time, name="modulation.silu"), 6 * hidden, "modulation")
    shared = b.view(shared, (batch, 6, hidden), "rows")
    with b.scope("caption"):
        caption = b.linear(b.input("text", (batch, text, text_width)), hidden, "linear1")
        caption = b.linear(b.elementwise("gelu_tanh", caption), hidden, "linear2")
    for index in range(config.layers):
        with b.scope("blocks", index):
            rows = b.elementwise("add", b.trained("table", 1, 6, hidden), shared, name="modulation.add")
            y = modulated(b, b.norm(x, "norm1", affine=False), rows, 0, "modulate1")
            x = gated(b, x, _attend(b, y, y, config, "attention"), rows, 2, "half1")
            x = b.elementwise("add", _attend(b, x, caption, config, "cross_attention"), x, name="cross_add")
            y = modulated(b, b.norm(x, "norm2", affine=False), rows, 3, "modulate2")
            x = gated(b, x, _mlp(b, y, config), rows, 5, "half2")
    with b.scope("final"):
        time_rows = b.view(time, (batch, 1, hidden), "row")
        rows = b.elementwise("add", b.trained("table", 1, 2, hidden), time_rows, name="modulation.add")
        x = modulated(b, b.norm(x, "norm", affine=False), rows, 0, "modulate")
        x = b.linear(x, config.patch**2 * 2 * config.channels, "linear")
    return b.finish([_image(b, x, config, latent)], n_parameters=b.n_parameters)


_UNET_GROUPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetConfig:
    """A U-Net of Stable Diffusion: the ``widths`` of its levels and how many blocks of a transformer stand behind each
    residual block there (``depths``; the middle has those of the last level that has some).

    ``heads``: of each transformer, or of ``head_dim`` each where that is given. ``extra``: width of a row of further
    conditions (pooled text and sizes) that goes into the embedding of time, 0 for none. ``joined``: a transformer takes
    rows in and out by products, not by convolutions of 1x1.
    """

    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    depths: tuple[int, ...] = (1, 1, 1, 0)
    middle: int = 1
    heads: int = 8
    head_dim: int = 0
    extra: int = 0
    joined: bool = False

    def heads_of(self, width: int) -> int:
        """Heads of a transformer of ``width``."""
        return width // self.head_dim if self.head_dim else self.heads


SD_1_5 = UnetConfig()
#: Podell et al., arXiv 2307.01952, Table 1, and the published configuration.
SDXL = UnetConfig(widths=(320, 640, 1280), depths=(0, 2, 10), middle=10, head_dim=64, extra=2816, joined=True)


def unet(
    b: Layers, config: UnetConfig = SD_1_5, *, batch: int, latent: int, text: int, text_width: int
) -> OperatorStream:
    """A U-Net of Stable Diffusion (Rombach et al., arXiv 2112.10752): two residual blocks down and three up at each
    width, with self- and cross-attention at the levels that have transformers and in the middle.
    """
    caption = b.input("text", (batch, text, text_width))
    widths, last = config.widths, len(config.widths) - 1
    time = time_embedding(b, batch, widths[0], 4 * widths[0])
    if config.extra:
        time = _with_extra(b, time, batch, config.extra, 4 * widths[0])
    x = b.conv(b.input("latent", (batch, 4, latent, latent)), widths[0], 3, "first")
    skips = [x]
    for level, width in enumerate(widths):
        with b.scope("down", level):
            for index in range(2):
                x = _unet_block(b, config, x, time, caption, width, index, config.depths[level])
                skips.append(x)
            if level < last:
                x = b.conv(x, width, 3, "downsample", stride=2)
                skips.append(x)
    with b.scope("middle"):
        x = _unet_block(b, config, x, time, caption, widths[last], 0, config.middle)
        x = _unet_residual(b, x, time, widths[last], "residual1")
    for level, width in reversed(list(enumerate(widths))):
        with b.scope("up", last - level):
            for index in range(3):
                x = b.concat([x, skips.pop()], 1, f"concat{index}")
                x = _unet_block(b, config, x, time, caption, width, index, config.depths[level])
            if level:
                x = b.conv(b.upsample(x, 2), width, 3, "upsample.conv")
    x = b.elementwise("silu", b.norm(x, "last.norm", function="group", groups=_UNET_GROUPS), name="last.silu")
    return b.finish([b.conv(x, 4, 3, "last.conv")], n_parameters=b.n_parameters)


def _with_extra(b: Layers, time: str, batch: int, n_in: int, width: int) -> str:
    with b.scope("extra"):
        x = b.elementwise("silu", b.linear(b.input("conditions", (batch, n_in)), width, "linear1"))
        return b.elementwise("add", time, b.linear(x, width, "linear2"), name="add")


def _unet_block(
    b: Layers, config: UnetConfig, x: str, time: str, caption: str, width: int, index: int, depth: int
) -> str:
    x = _unet_residual(b, x, time, width, f"residual{index}")
    return _unet_attention(b, config, x, caption, depth, f"attention{index}") if depth else x


def _unet_residual(b: Layers, x: str, time: str, width: int, name: str) -> str:
    with b.scope(name):
        y = b.elementwise("silu", b.norm(x, "norm1", function="group", groups=_UNET_GROUPS), name="silu1")
        y = b.conv(y, width, 3, "conv1")
        row = b.linear(b.elementwise("silu", time, name="time.silu"), width, "time")
        y = b.elementwise("add", y, b.view(row, (b.shape(row)[0], width, 1, 1), "map"), name="time.add")
        y = b.elementwise("silu", b.norm(y, "norm2", function="group", groups=_UNET_GROUPS), name="silu2")
        y = b.conv(y, width, 3, "conv2")
        shortcut = x if b.shape(x)[1] == width else b.conv(x, width, 1, "shortcut")
        return b.elementwise("add", shortcut, y, name="add")


def _unet_attention(b: Layers, config: UnetConfig, x: str, caption: str, depth: int, name: str) -> str:
    _, width, *size = b.shape(x)
    widths = DiffusionConfig(hidden=width, heads=config.heads_of(width), layers=depth, patch=1, channels=width)
    with b.scope(name):
        y = b.norm(x, "norm", function="group", groups=_UNET_GROUPS)
        rows = b.linear(b.pixel_rows(y), width, "in") if config.joined else b.pixel_rows(b.conv(y, width, 1, "in"))
        for index in range(depth):
            rows = _unet_layer(b, rows, caption, widths, index) if config.joined else _layer(b, rows, caption, widths)
        if config.joined:
            y = b.pixel_map(b.linear(rows, width, "out"), *size)
        else:
            y = b.conv(b.pixel_map(rows, *size), width, 1, "out")
        return b.elementwise("add", y, x, name="add")


def _unet_layer(b: Layers, rows: str, caption: str, widths: DiffusionConfig, index: int) -> str:
    with b.scope("layers", index):
        return _layer(b, rows, caption, widths)


def _layer(b: Layers, rows: str, caption: str, widths: DiffusionConfig) -> str:
    normed = b.norm(rows, "norm1")
    rows = b.elementwise("add", _attend(b, normed, normed, widths, "self", bias=False), rows, name="add1")
    crossed = _attend(b, b.norm(rows, "norm2"), caption, widths, "cross", bias=False)
    rows = b.elementwise("add", crossed, rows, name="add2")
    return b.elementwise("add", _gated_mlp(b, b.norm(rows, "norm3"), widths.hidden), rows, name="add3")


def _gated_mlp(b: Layers, x: str, width: int) -> str:
    """GEGLU: one half times the GELU of the other."""
    with b.scope("mlp"):
        both = b.linear(x, 8 * width, "up")
        half, gate = (b.part(both, index * 4 * width, 4 * width) for index in (0, 1))
        return b.linear(b.elementwise("mul", half, b.elementwise("gelu", gate), name="gate"), width, "down")
