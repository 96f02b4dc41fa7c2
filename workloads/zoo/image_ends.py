"""What stands around the steps of a diffusion model: an encoder of text, and the decoder of a latent image."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["t5_encoder", "vae_decoder"]

_GROUPS = 32
_WIDTHS = (512, 512, 256, 128)


def vae_decoder(b: Layers, *, batch: int, latent: int, channels: int) -> OperatorStream:
    """The decoder of Stable Diffusion's and FLUX.1's autoencoders (arXiv 2112.10752, f = 8): three residual blocks at
    each of four sizes, one attention over all places of the smallest.
    """
    x = b.conv(b.input("latent", (batch, channels, latent, latent)), _WIDTHS[0], 3, "first")
    with b.scope("middle"):
        x = _residual(b, x, _WIDTHS[0], "residual0")
        x = _attention(b, x, "attention")
        x = _residual(b, x, _WIDTHS[0], "residual1")
    for level, width in enumerate(_WIDTHS):
        with b.scope("up", level):
            for index in range(3):
                x = _residual(b, x, width, f"residual{index}")
            if level < len(_WIDTHS) - 1:
                x = b.conv(b.upsample(x, 2), width, 3, "upsample.conv")
    x = _activated(b, x, "last")
    return b.finish([b.conv(x, 3, 3, "last.conv")], n_parameters=b.n_parameters)


def _activated(b: Layers, x: str, name: str) -> str:
    return b.elementwise("silu", b.norm(x, f"{name}.norm", function="group", groups=_GROUPS), name=f"{name}.silu")


def _residual(b: Layers, x: str, width: int, name: str) -> str:
    with b.scope(name):
        y = b.conv(_activated(b, x, "in"), width, 3, "conv1")
        y = b.conv(_activated(b, y, "out"), width, 3, "conv2")
        shortcut = x if b.shape(x)[1] == width else b.conv(x, width, 1, "shortcut")
        return b.elementwise("add", shortcut, y, name="add")


def _attention(b: Layers, x: str, name: str) -> str:
    """One head as wide as the map has channels."""
    _, width, *size = b.shape(x)
    with b.scope(name):
        y = b.pixel_rows(b.norm(x, "norm", function="group", groups=_GROUPS))
        q, k, v = (b.linear(y, width, part) for part in ("query", "key", "value"))
        y = b.linear(b.attention(q, k, v, "sdpa", head_dim=width), width, "output")
        return b.elementwise("add", b.pixel_map(y, *size), x, name="add")


def t5_encoder(
    b: Layers, *, batch: int, seq: int, hidden: int, heads: Sequence[int], wide: int, layers: int, vocabulary: int
) -> OperatorStream:
    """The encoder of T5 1.1 (arXiv 1910.10683; gated GELU): ``heads`` is how many there are, and the width of one.

    Scores get a bias by distance, one table for all layers, which is worked out before.
    """
    n_heads, head_dim = heads
    x = b.embedding(b.indices("tokens", batch, seq), vocabulary, hidden, "embedding")
    bias = b.constant("position_bias", (1, n_heads, seq, seq))
    b.n_parameters += 32 * n_heads
    for index in range(layers):
        with b.scope("layers", index):
            y = b.norm(x, "norm1", function="rms")
            with b.scope("attention"):
                q, k, v = (b.linear(y, n_heads * head_dim, part, bias=False) for part in ("query", "key", "value"))
                y = b.attention(q, k, v, "sdpa", head_dim=head_dim, bias=bias)
                y = b.linear(y, hidden, "output", bias=False)
            x = b.elementwise("add", y, x, name="add1")
            y = b.norm(x, "norm2", function="rms")
            with b.scope("mlp"):
                gate = b.elementwise("gelu_tanh", b.linear(y, wide, "gate", bias=False))
                y = b.linear(
                    b.elementwise("mul", gate, b.linear(y, wide, "up", bias=False)), hidden, "down", bias=False
                )
            x = b.elementwise("add", y, x, name="add2")
    return b.finish([b.norm(x, "norm", function="rms")], n_parameters=b.n_parameters)
