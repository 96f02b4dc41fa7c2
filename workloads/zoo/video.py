"""Diffusion transformers that make videos, one denoising step each: Wan 2.1, CogVideoX and HunyuanVideo.

All work on the latent video of an autoencoder that takes 4 frames and 8 by 8 pixels into one place (the first frame
alone). Guidance by a second prompt is a batch of two. The autoencoder and the text encoders are other networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.diffusion import gated, modulated, time_embedding
from tilewright.workloads.zoo.layers import Layers

__all__ = ["Canvas", "CogVideoXConfig", "HunyuanVideoConfig", "WanConfig", "cogvideox", "hunyuan_video", "wan"]

_N_FREQUENCIES = 256  # sines and cosines of the time step
_PATCH = 2  # latent rows and columns of a token


class Canvas(NamedTuple):
    """Latent frames, rows and columns of a video."""

    frames: int
    rows: int
    columns: int

    @property
    def tokens(self) -> tuple[int, int, int]:
        """On each axis, where each latent frame is cut into patches."""
        return self.frames, self.rows // _PATCH, self.columns // _PATCH


def _patches(b: Layers, canvas: Canvas, batch: int, channels: int, hidden: int) -> str:
    """The latent video as rows of patches, frame by frame."""
    frames, rows, columns = canvas.tokens
    x = b.input("latent", (batch * frames, channels, canvas.rows, canvas.columns))
    x = b.conv(x, hidden, _PATCH, "patch", stride=_PATCH, padding=0)
    shape = (batch, frames * rows * columns, hidden)
    return b.view(x, shape, "rows", split=(batch * frames, hidden, rows * columns), order=(0, 2, 1))


def _image(b: Layers, x: str, canvas: Canvas, channels: int) -> str:
    """Rows of patches, each of which lists its pixels and their channels, as the latent video."""
    batch, (frames, rows, columns) = b.shape(x)[0], canvas.tokens
    split = (batch, frames, rows, columns, _PATCH, _PATCH, channels)
    return b.view(x, (batch, channels, *canvas), "video", split=split, order=(0, 6, 1, 2, 4, 3, 5))


def _two(b: Layers, x: str, width: int, function: str, name: str) -> str:
    """A product, a function, a product."""
    with b.scope(name):
        return b.linear(b.elementwise(function, b.linear(x, width, "linear1")), width, "linear2")


def _mlp(b: Layers, x: str, width: int, function: str, name: str) -> str:
    with b.scope(name):
        hidden = b.shape(x)[-1]
        return b.linear(b.elementwise(function, b.linear(x, width, "up")), hidden, "down")


def _rows_of(b: Layers, x: str, n: int, name: str) -> str:
    """SiLU and a product that make ``n`` shifts, scales and gates (batch, n, width of x)."""
    batch, hidden = b.shape(x)[0], b.shape(x)[-1]
    return b.view(b.linear(b.elementwise("silu", x, name=f"{name}.silu"), n * hidden, name), (batch, n, hidden), "rows")


def _rotated(b: Layers, x: str, tables: tuple[str, str], head_dim: int, name: str) -> str:
    """Rotary embedding of x (batch, tokens, heads x head_dim)."""
    batch, n_tokens, width = b.shape(x)
    heads = b.view(x, (batch, width // head_dim, n_tokens, head_dim), "heads")
    cos, sin = (b.view(table, (1, 1, n_tokens, head_dim), "heads") for table in tables)
    return b.view(b.elementwise("rotary", heads, cos, sin, name=name), (batch, n_tokens, width), "rows")


def _tables(b: Layers, n_tokens: int, head_dim: int) -> tuple[str, str]:
    cos, sin = (b.constant(f"rotary.{name}", (1, n_tokens, head_dim)) for name in ("cos", "sin"))
    return cos, sin


def _head_norm(b: Layers, x: str, head_dim: int, name: str, *, function: str) -> str:
    """A norm of each head of x (batch, tokens, heads x head_dim), whose weights all heads share."""
    batch, n_tokens, width = b.shape(x)
    heads = b.view(x, (batch, n_tokens, width // head_dim, head_dim), "by_head")
    return b.view(b.norm(heads, name, function=function), (batch, n_tokens, width), "rows")


# --- Wan ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class WanConfig:
    """Widths of a Wan 2.1 transformer."""

    hidden: int
    heads: int
    layers: int
    intermediate: int
    channels: int = 16
    text_width: int = 4096
    frequencies: int = _N_FREQUENCIES

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


def wan(b: Layers, config: WanConfig, *, batch: int, canvas: Canvas, text: int) -> OperatorStream:
    """Wan 2.1, text to video (arXiv 2503.20314, section 4.2): attention within the video, then to the text.

    Time is turned into six rows once, to which each block adds its own.
    """
    hidden = config.hidden
    x = _patches(b, canvas, batch, config.channels, hidden)
    tables = _tables(b, b.shape(x)[1], config.head_dim)
    time = time_embedding(b, batch, config.frequencies, hidden)
    shared = _rows_of(b, time, 6, "modulation")
    caption = _two(b, b.input("text", (batch, text, config.text_width)), hidden, "gelu_tanh", "caption")
    for index in range(config.layers):
        with b.scope("blocks", index):
            rows = b.elementwise("add", b.trained("table", 1, 6, hidden), shared, name="modulation.add")
            y = modulated(b, b.norm(x, "norm1", affine=False), rows, 0, "modulate1")
            x = gated(b, x, _wan_attention(b, y, y, config, tables, "attention"), rows, 2, "half1")
            y = _wan_attention(b, b.norm(x, "norm2"), caption, config, None, "cross_attention")
            x = b.elementwise("add", y, x, name="cross_add")
            y = modulated(b, b.norm(x, "norm3", affine=False), rows, 3, "modulate2")
            x = gated(b, x, _mlp(b, y, config.intermediate, "gelu_tanh", "mlp"), rows, 5, "half2")
    with b.scope("final"):
        row = b.view(time, (batch, 1, hidden), "row")
        rows = b.elementwise("add", b.trained("table", 1, 2, hidden), row, name="modulation.add")
        x = modulated(b, b.norm(x, "norm", affine=False), rows, 0, "modulate")
        x = b.linear(x, _PATCH**2 * config.channels, "linear")
    return b.finish([_image(b, x, canvas, config.channels)], n_parameters=b.n_parameters)


def _wan_attention(b: Layers, x: str, source: str, config: WanConfig, tables: tuple[str, str] | None, name: str) -> str:
    """Queries and keys are normed over all heads; with ``tables`` they are rotated and the mask asked for holds."""
    with b.scope(name):
        q = b.norm(b.linear(x, config.hidden, "query"), "norm_query", function="rms")
        k = b.norm(b.linear(source, config.hidden, "key"), "norm_key", function="rms")
        v = b.linear(source, config.hidden, "value")
        if tables is not None:
            q = _rotated(b, q, tables, config.head_dim, "rotary_query")
            k = _rotated(b, k, tables, config.head_dim, "rotary_key")
        mask = b.mask if tables is not None else "none"
        y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim, mask=mask)
        return b.linear(y, config.hidden, "output")


# --- CogVideoX ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CogVideoXConfig:
    """Widths of a CogVideoX transformer. ``rotary``: positions are rotated, else added; ``patch_frames`` of a token."""

    hidden: int
    heads: int
    layers: int
    rotary: bool
    channels: int = 16
    text_width: int = 4096
    time: int = 512
    patch_frames: int = 0

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


class _Pair(NamedTuple):
    """Rows of the text and of the video."""

    text: str
    video: str


def cogvideox(b: Layers, config: CogVideoXConfig, *, batch: int, canvas: Canvas, text: int) -> OperatorStream:
    """CogVideoX (arXiv 2408.06072, section 2.2): text and video go through the same weights and attend together.

    Each has shifts, scales and gates of its own (expert adaptive norm). With ``patch_frames`` (version 1.5) a token is
    a patch of so many latent frames, the last ones padded.
    """
    hidden = config.hidden
    time = time_embedding(b, batch, hidden, config.time)
    words = b.linear(b.input("text", (batch, text, config.text_width)), hidden, "text_projection")
    video = _cog_patches(b, config, batch, canvas)
    n_video = b.shape(video)[1]
    tables = _tables(b, n_video, config.head_dim) if config.rotary else None
    if tables is None:
        both = b.concat([words, video], 1, "join")
        both = b.elementwise("add", both, b.constant("position", (1, text + n_video, hidden)), name="position.add")
        words, video = b.part(both, 0, text, axis=1), b.part(both, text, n_video, axis=1)
    x = _Pair(words, video)
    for index in range(config.layers):
        with b.scope("blocks", index):
            y, rows = _cog_norm(b, x, time, "norm1")
            x = _cog_gated(b, x, _cog_attention(b, y, config, tables), rows, "half1")
            y, rows = _cog_norm(b, x, time, "norm2")
            joined = b.concat(y, 1, "join2")
            z = _mlp(b, joined, 4 * hidden, "gelu_tanh", "mlp")
            x = _cog_gated(b, x, z, rows, "half2")
    y_last = b.norm(x.video, "norm_final")
    with b.scope("final"):
        rows = _time_rows(b, time, 2, hidden, "modulation")
        y_last = modulated(b, b.norm(y_last, "norm"), rows, 0, "modulate")
        y_last = b.linear(y_last, _PATCH**2 * max(1, config.patch_frames) * config.channels, "linear")
    return b.finish([_cog_video(b, config, y_last, canvas)], n_parameters=b.n_parameters)


def _cog_shape(config: CogVideoXConfig, batch: int, canvas: Canvas) -> tuple[int, ...]:
    of_patch = max(1, config.patch_frames)
    return batch, -(-canvas.frames // of_patch) * of_patch, config.channels, canvas.rows, canvas.columns


def _cog_video(b: Layers, config: CogVideoXConfig, x: str, canvas: Canvas) -> str:
    """Rows of patches, each of which lists frames, channels, rows and columns, as the latent video."""
    shape = _cog_shape(config, b.shape(x)[0], canvas)
    deep = max(1, config.patch_frames)
    rows, columns = canvas.tokens[1:]
    split = (shape[0], shape[1] // deep, rows, columns, deep, config.channels, _PATCH, _PATCH)
    return b.view(x, shape, "video", split=split, order=(0, 1, 4, 5, 2, 6, 3, 7))


def _cog_patches(b: Layers, config: CogVideoXConfig, batch: int, canvas: Canvas) -> str:
    if not config.patch_frames:
        return _patches(b, canvas, batch, config.channels, config.hidden)
    shape = _cog_shape(config, batch, canvas)
    frames, rows, columns = shape[1] // config.patch_frames, *canvas.tokens[1:]
    x = b.input("latent", shape)
    width = config.channels * config.patch_frames * _PATCH**2
    split = (batch, frames, config.patch_frames, config.channels, rows, _PATCH, columns, _PATCH)
    shape, order = (batch, frames * rows * columns, width), (0, 1, 4, 6, 2, 3, 5, 7)
    return b.linear(b.view(x, shape, "patches", split=split, order=order), config.hidden, "patch")


def _time_rows(b: Layers, time: str, n: int, hidden: int, name: str) -> str:
    made = b.linear(b.elementwise("silu", time, name=f"{name}.silu"), n * hidden, name)
    return b.view(made, (b.shape(time)[0], n, hidden), "rows")


def _cog_norm(b: Layers, x: _Pair, time: str, name: str) -> tuple[_Pair, str]:
    """Both normed by the same weights, each with its own shift and scale; and the rows that hold their gates."""
    hidden = b.shape(x.video)[-1]
    with b.scope(name):
        rows = _time_rows(b, time, 6, hidden, "modulation")
        weights = [b.trained(f"norm.{part}", hidden) for part in ("weight", "bias")]
        video = modulated(b, b.norm(x.video, "norm", weights=weights), rows, 0, "modulate")
        text = modulated(b, b.norm(x.text, "norm_text", weights=weights), rows, 3, "modulate_text")
    return _Pair(text, video), rows


def _cog_gated(b: Layers, x: _Pair, y: str, rows: str, name: str) -> _Pair:
    n_text, n_video = b.shape(x.text)[1], b.shape(x.video)[1]
    video = gated(b, x.video, b.part(y, n_text, n_video, axis=1), rows, 2, name)
    text = gated(b, x.text, b.part(y, 0, n_text, axis=1), rows, 5, f"{name}_text")
    return _Pair(text, video)


def _cog_attention(b: Layers, x: _Pair, config: CogVideoXConfig, tables: tuple[str, str] | None) -> str:
    with b.scope("attention"):
        joined = b.concat(x, 1, "join")
        q, k, v = (b.linear(joined, config.hidden, name) for name in ("query", "key", "value"))
        q = _head_norm(b, q, config.head_dim, "norm_query", function="layer")
        k = _head_norm(b, k, config.head_dim, "norm_key", function="layer")
        if tables is not None:
            q, k = (_rotated_behind(b, one, tables, config.head_dim, name) for one, name in ((q, "query"), (k, "key")))
        y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim, mask=b.mask)
        return b.linear(y, config.hidden, "output")


def _rotated_behind(b: Layers, x: str, tables: tuple[str, str], head_dim: int, name: str) -> str:
    """The video's rows rotated in place, the text's as they are."""
    n_video = b.shape(tables[0])[1]
    n_text = b.shape(x)[1] - n_video
    moved = _rotated(b, b.part(x, n_text, n_video, axis=1), tables, head_dim, f"rotary_{name}")
    return b.add("reshape", f"rotated_{name}", [x, moved], b.shape(x), {"function": "scatter"})


# --- HunyuanVideo -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HunyuanVideoConfig:
    """Widths of HunyuanVideo: ``double`` layers with weights for text and video, ``single`` ones with one set."""

    hidden: int
    heads: int
    double: int
    single: int
    refiners: int = 2
    channels: int = 16
    text_width: int = 4096
    pooled_width: int = 768

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


def hunyuan_video(b: Layers, config: HunyuanVideoConfig, *, batch: int, canvas: Canvas, text: int) -> OperatorStream:
    """HunyuanVideo (arXiv 2412.03603, section 4.2), text to video: two streams that attend together, then one.

    Time, guidance and a pooled text make the rows of all layers; the tokens of the text go through a small transformer
    first. The text is taken as full (no padding).
    """
    hidden = config.hidden
    condition = _hunyuan_condition(b, config, batch)
    words = _refined_text(b, config, batch, text)
    video = _patches(b, canvas, batch, config.channels, hidden)
    n_video = b.shape(video)[1]
    tables = _tables(b, n_video, config.head_dim)
    for index in range(config.double):
        with b.scope("double", index):
            video, words = _double_block(b, video, words, condition, config, tables)
    x = b.concat([video, words], 1, "join")
    for index in range(config.single):
        with b.scope("single", index):
            x = _single_block(b, x, condition, config, tables)
    x = b.part(x, 0, n_video, axis=1)
    with b.scope("final"):
        rows = _rows_of(b, condition, 2, "modulation")
        x = modulated(b, b.norm(x, "norm", affine=False), rows, 0, "modulate")
        x = b.linear(x, _PATCH**2 * config.channels, "linear")
    return b.finish([_image(b, x, canvas, config.channels)], n_parameters=b.n_parameters)


def _hunyuan_condition(b: Layers, config: HunyuanVideoConfig, batch: int) -> str:
    with b.scope("condition"):
        time = time_embedding(b, batch, _N_FREQUENCIES, config.hidden)
        with b.scope("guidance"):
            guidance = time_embedding(b, batch, _N_FREQUENCIES, config.hidden)
        pooled = _two(b, b.input("pooled_text", (batch, config.pooled_width)), config.hidden, "silu", "text")
        return b.elementwise("add", b.elementwise("add", time, guidance, name="add1"), pooled, name="add2")


def _refined_text(b: Layers, config: HunyuanVideoConfig, batch: int, text: int) -> str:
    hidden = config.hidden
    with b.scope("refiner"):
        x = b.input("text", (batch, text, config.text_width))
        sizes = {"function": "mean", "rows": batch * config.text_width, "columns": text}
        pooled = b.add("reduction", "pool", [x], (batch, config.text_width), sizes)
        time = time_embedding(b, batch, _N_FREQUENCIES, hidden)
        condition = b.elementwise("add", time, _two(b, pooled, hidden, "silu", "text"), name="add")
        x = b.linear(x, hidden, "in")
        for index in range(config.refiners):
            with b.scope("blocks", index):
                y = b.norm(x, "norm1")
                q, k, v = (b.linear(y, hidden, name) for name in ("query", "key", "value"))
                y = b.linear(b.attention(q, k, v, "sdpa", head_dim=config.head_dim), hidden, "output")
                rows = _rows_of(b, condition, 2, "modulation")
                x = gated(b, x, y, rows, 0, "half1")
                x = gated(b, x, _mlp(b, b.norm(x, "norm2"), 4 * hidden, "silu", "mlp"), rows, 1, "half2")
    return x


def _hunyuan_parts(b: Layers, x: str, config: HunyuanVideoConfig, name: str) -> tuple[str, str, str]:
    """Queries and keys, normed by head, and values."""
    q, k, v = (b.linear(x, config.hidden, f"{name}{part}") for part in ("query", "key", "value"))
    q = _head_norm(b, q, config.head_dim, f"{name}norm_query", function="rms")
    k = _head_norm(b, k, config.head_dim, f"{name}norm_key", function="rms")
    return q, k, v


def _double_block(
    b: Layers, video: str, words: str, condition: str, config: HunyuanVideoConfig, tables: tuple[str, str]
) -> tuple[str, str]:
    n_video, n_text = b.shape(video)[1], b.shape(words)[1]
    own, of_text = (_rows_of(b, condition, 6, name) for name in ("modulation", "modulation_text"))
    y = modulated(b, b.norm(video, "norm1", affine=False), own, 0, "modulate1")
    z = modulated(b, b.norm(words, "norm1_text", affine=False), of_text, 0, "modulate1_text")
    with b.scope("attention"):
        q, k, v = _hunyuan_parts(b, y, config, "")
        q, k = (_rotated(b, one, tables, config.head_dim, f"rotary_{name}") for one, name in ((q, "query"), (k, "key")))
        added = _hunyuan_parts(b, z, config, "text_")
        pairs = zip((q, k, v), added, ("query", "key", "value"), strict=True)
        q, k, v = (b.concat([one, other], 1, f"join_{name}") for one, other, name in pairs)
        y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim, mask=b.mask)
        out = b.linear(b.part(y, 0, n_video, axis=1), config.hidden, "output")
        out_text = b.linear(b.part(y, n_video, n_text, axis=1), config.hidden, "text_output")
    video, words = gated(b, video, out, own, 2, "half1"), gated(b, words, out_text, of_text, 2, "half1_text")
    y = modulated(b, b.norm(video, "norm2", affine=False), own, 3, "modulate2")
    z = modulated(b, b.norm(words, "norm2_text", affine=False), of_text, 3, "modulate2_text")
    video = gated(b, video, _mlp(b, y, 4 * config.hidden, "gelu_tanh", "mlp"), own, 5, "half2")
    return video, gated(b, words, _mlp(b, z, 4 * config.hidden, "gelu_tanh", "mlp_text"), of_text, 5, "half2_text")


def _single_block(b: Layers, x: str, condition: str, config: HunyuanVideoConfig, tables: tuple[str, str]) -> str:
    """Attention and perceptron side by side, of text and video by the same weights."""
    rows = _rows_of(b, condition, 3, "modulation")
    y = modulated(b, b.norm(x, "norm", affine=False), rows, 0, "modulate")
    up = b.elementwise("gelu_tanh", b.linear(y, 4 * config.hidden, "up"))
    with b.scope("attention"):
        q, k, v = _hunyuan_parts(b, y, config, "")
        q, k = (_rotated_before(b, one, tables, config.head_dim, name) for one, name in ((q, "query"), (k, "key")))
        y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim, mask=b.mask)
    y = b.linear(b.concat([y, up], 2, "join"), config.hidden, "down")
    return gated(b, x, y, rows, 2, "half")


def _rotated_before(b: Layers, x: str, tables: tuple[str, str], head_dim: int, name: str) -> str:
    """The video's rows rotated, the text's behind them as they are."""
    n_video = b.shape(tables[0])[1]
    moved = _rotated(b, b.part(x, 0, n_video, axis=1), tables, head_dim, f"rotary_{name}")
    return b.concat([moved, b.part(x, n_video, b.shape(x)[1] - n_video, axis=1)], 1, f"rotated_{name}")
