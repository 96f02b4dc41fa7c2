"""Diffusion transformers whose text and image attend to each other as one sequence: FLUX.1 and Qwen-Image, one
denoising step each.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["JointConfig", "flux", "qwen_image"]

_N_FREQUENCIES = 256  # sines and cosines of the time step, before its first product
_EXPANSION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class JointConfig:
    """Widths of such a transformer. ``double`` blocks have weights for text and for image apart, ``single`` ones have
    the same for both; ``channels``: of a row of the packed latent image; ``pooled``: width of a row that stands for all
    of the text, 0 for none.
    """

    hidden: int
    head_dim: int
    double: int
    single: int
    channels: int
    text_width: int
    pooled: int = 0
    guidance: bool = False

    @property
    def heads(self) -> int:
        """Heads of each attention."""
        return self.hidden // self.head_dim


def flux(b: Layers, config: JointConfig, *, batch: int, n_image: int, text: int) -> OperatorStream:
    """FLUX.1 of Black Forest Labs (its published reference code): ``n_image`` rows of image behind ``text`` of text."""
    hidden = config.hidden
    image = b.linear(b.input("latent", (batch, n_image, config.channels)), hidden, "image_in")
    words = b.linear(b.input("text", (batch, text, config.text_width)), hidden, "text_in")
    condition = _embedding(b, b.elementwise("sin", b.input("angles", (batch, _N_FREQUENCIES)), name="sines"), hidden)
    if config.guidance:
        row = b.elementwise("sin", b.input("guidance_angles", (batch, _N_FREQUENCIES)), name="guidance_sines")
        condition = b.elementwise("add", condition, _embedding(b, row, hidden, "guidance"), name="guided")
    if config.pooled:
        row = _embedding(b, b.input("pooled", (batch, config.pooled)), hidden, "vector")
        condition = b.elementwise("add", condition, row, name="condition")
    for index in range(config.double):
        with b.scope("double", index):
            image, words = _double(b, config, image, words, condition)
    x = b.concat([words, image], 1, "join")
    for index in range(config.single):
        with b.scope("single", index):
            x = _single(b, config, x, condition)
    return _finish(b, config, b.part(x, text, n_image, axis=1), condition)


def qwen_image(b: Layers, config: JointConfig, *, batch: int, n_image: int, text: int) -> OperatorStream:
    """Qwen-Image (arXiv 2508.02324): double blocks only, text from a language model behind a norm of its own."""
    hidden = config.hidden
    image = b.linear(b.input("latent", (batch, n_image, config.channels)), hidden, "image_in")
    words = b.norm(b.input("text", (batch, text, config.text_width)), "text_norm", function="rms")
    words = b.linear(words, hidden, "text_in")
    condition = _embedding(b, b.elementwise("sin", b.input("angles", (batch, _N_FREQUENCIES)), name="sines"), hidden)
    for index in range(config.double):
        with b.scope("blocks", index):
            image, words = _double(b, config, image, words, condition)
    return _finish(b, config, image, condition)


def _embedding(b: Layers, row: str, hidden: int, name: str = "time") -> str:
    with b.scope(name):
        return b.linear(b.elementwise("silu", b.linear(row, hidden, "linear1")), hidden, "linear2")


def _finish(b: Layers, config: JointConfig, x: str, condition: str) -> OperatorStream:
    with b.scope("final"):
        (x,) = _modulated(b, [b.norm(x, "norm", affine=False)], [_rows(b, config, condition, 2)])
        return b.finish([b.linear(x, config.channels, "linear")], n_parameters=b.n_parameters)


def _rows(b: Layers, config: JointConfig, condition: str, n: int, name: str = "modulation") -> str:
    """``n`` rows of shifts, scales and gates of the condition."""
    rows = b.linear(b.elementwise("silu", condition, name=f"{name}.silu"), n * config.hidden, name)
    return b.view(rows, (b.shape(rows)[0], n, config.hidden), "rows")


def _modulated(b: Layers, normed: list[str], rows: list[str], first: int = 0, name: str = "modulate") -> list[str]:
    """x (1 + scale) + shift for each x."""
    done = []
    for x, row in zip(normed, rows, strict=True):
        shift, scale = (b.part(row, first + at, 1, axis=1) for at in (0, 1))
        done.append(b.elementwise("modulate", x, shift, b.elementwise("add", scale, name=f"{name}.scale"), name=name))
    return done


def _gated(b: Layers, x: str, y: str, rows: str, at: int, name: str) -> str:
    gated = b.elementwise("mul", b.part(rows, at, 1, axis=1), y, name=f"{name}.gate")
    return b.elementwise("add", gated, x, name=f"{name}.add")


def _normed_heads(b: Layers, config: JointConfig, x: str, name: str) -> str:
    """RMS norm of each head."""
    batch, rows, width = b.shape(x)
    heads = b.view(x, (batch, rows, width // config.head_dim, config.head_dim), "by_head")
    return b.view(b.norm(heads, name, function="rms"), (batch, rows, width), "rows")


def _double(b: Layers, config: JointConfig, image: str, words: str, condition: str) -> tuple[str, str]:
    """Image and text with weights of their own, and one attention over both."""
    streams = {"image": image, "text": words}
    rows, parts = {}, []
    for name, x in streams.items():
        with b.scope(name):
            rows[name] = _rows(b, config, condition, 6)
            (y,) = _modulated(b, [b.norm(x, "norm1", affine=False)], [rows[name]], 0, "modulate1")
            with b.scope("attention"):
                q, k, v = (b.linear(y, config.hidden, part) for part in ("query", "key", "value"))
                parts.append((_normed_heads(b, config, q, "query_norm"), _normed_heads(b, config, k, "key_norm"), v))
    with b.scope("attention"):
        q, k, v = (b.concat([parts[1][at], parts[0][at]], 1, f"join_{name}") for at, name in enumerate("qkv"))
        q, k = (b.elementwise("rotary", one, name=f"rotary_{name}") for one, name in ((q, "q"), (k, "k")))
        y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim)
    n_text, n_image = b.shape(words)[1], b.shape(image)[1]
    places = {"image": b.part(y, n_text, n_image, axis=1), "text": b.part(y, 0, n_text, axis=1)}
    for name, x in streams.items():
        with b.scope(name):
            with b.scope("attention"):
                y = b.linear(places[name], config.hidden, "output")
            x = _gated(b, x, y, rows[name], 2, "half1")
            (y,) = _modulated(b, [b.norm(x, "norm2", affine=False)], [rows[name]], 3, "modulate2")
            streams[name] = _gated(b, x, _mlp(b, config, y), rows[name], 5, "half2")
    return streams["image"], streams["text"]


def _mlp(b: Layers, config: JointConfig, x: str) -> str:
    with b.scope("mlp"):
        y = b.elementwise("gelu_tanh", b.linear(x, _EXPANSION * config.hidden, "up"))
        return b.linear(y, config.hidden, "down")


def _single(b: Layers, config: JointConfig, x: str, condition: str) -> str:
    """Attention and a perceptron beside each other, with one product before both and one behind both."""
    hidden, wide = config.hidden, _EXPANSION * config.hidden
    rows = _rows(b, config, condition, 3)
    (y,) = _modulated(b, [b.norm(x, "norm", affine=False)], [rows])
    both = b.linear(y, 3 * hidden + wide, "in")
    q, k, v = (b.part(both, at * hidden, hidden) for at in range(3))
    with b.scope("attention"):
        q, k = (
            b.elementwise("rotary", _normed_heads(b, config, one, f"{name}_norm"), name=f"rotary_{name}")
            for one, name in ((q, "q"), (k, "k"))
        )
        attended = b.attention(q, k, v, "sdpa", head_dim=config.head_dim)
    with b.scope("mlp"):
        grown = b.elementwise("gelu_tanh", b.part(both, 3 * hidden, wide))
    y = b.linear(b.concat([attended, grown], 2, "join"), hidden, "out")
    return _gated(b, x, y, rows, 2, "half")
