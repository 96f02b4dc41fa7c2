"""SANA: a diffusion transformer with linear attention on the latents of a deeply compressing autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.diffusion import gated, modulated, time_embedding
from tilewright.workloads.zoo.layers import Layers

__all__ = ["SanaConfig", "sana"]

_N_FREQUENCIES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SanaConfig:
    """Widths of a SANA transformer; ``cross_heads`` attend to the text."""

    hidden: int
    heads: int
    cross_heads: int
    layers: int
    channels: int = 32
    text_width: int = 2304
    expand: float = 2.5

    @property
    def head_dim(self) -> int:
        """Width of one head of linear attention."""
        return self.hidden // self.heads

    @property
    def inner(self) -> int:
        """Channels of the gated convolution."""
        return int(self.expand * self.hidden)


def sana(b: Layers, config: SanaConfig, *, batch: int, rows: int, columns: int, text: int) -> OperatorStream:
    """SANA (arXiv 2410.10629, section 2.2): linear attention with ReLU, cross-attention, a gated convolution (Mix-FFN).

    A token is one place of the latent image, without positions. Attention keeps, for each head, the sums of keys with
    values and of keys: two products along the tokens, nothing of their square.
    """
    hidden = config.hidden
    x = b.input("latent", (batch, config.channels, rows, columns))
    x = b.pixel_rows(b.conv(x, hidden, 1, "patch"))
    time = time_embedding(b, batch, _N_FREQUENCIES, hidden)
    shared = b.linear(b.elementwise("silu", time, name="modulation.silu"), 6 * hidden, "modulation")
    shared = b.view(shared, (batch, 6, hidden), "rows")
    with b.scope("caption"):
        caption = b.linear(b.input("text", (batch, text, config.text_width)), hidden, "linear1")
        caption = b.norm(b.linear(b.elementwise("gelu_tanh", caption), hidden, "linear2"), "norm", function="rms")
    for index in range(config.layers):
        with b.scope("blocks", index):
            of_block = b.elementwise("add", b.trained("table", 1, 6, hidden), shared, name="modulation.add")
            y = modulated(b, b.norm(x, "norm1", affine=False), of_block, 0, "modulate1")
            x = gated(b, x, _linear_attention(b, y, config), of_block, 2, "half1")
            x = b.elementwise("add", _cross_attention(b, x, caption, config), x, name="cross_add")
            y = modulated(b, b.norm(x, "norm2", affine=False), of_block, 3, "modulate2")
            x = gated(b, x, _mix(b, y, config, rows, columns), of_block, 5, "half2")
    with b.scope("final"):
        row = b.view(time, (batch, 1, hidden), "row")
        last = b.elementwise("add", b.trained("table", 1, 2, hidden), row, name="modulation.add")
        x = modulated(b, b.norm(x, "norm", affine=False), last, 0, "modulate")
        x = b.linear(x, config.channels, "linear")
    return b.finish([b.pixel_map(x, rows, columns)], n_parameters=b.n_parameters)


def _linear_attention(b: Layers, x: str, config: SanaConfig) -> str:
    """relu(Q) (relu(K)^T V) over relu(Q) (relu(K)^T 1): the ones are one more row of V."""
    batch, tokens, hidden = b.shape(x)
    heads, width = config.heads, config.head_dim
    split = (batch, tokens, heads, width)
    with b.scope("attention"):
        q, k, v = (b.linear(x, hidden, name, bias=False) for name in ("query", "key", "value"))
        q = b.elementwise(
            "relu",
            b.view(q, (batch, heads, width, tokens), "heads", split=split, order=(0, 2, 3, 1)),
            name="query.relu",
        )
        k = b.elementwise(
            "relu", b.view(k, (batch, heads, tokens, width), "heads", split=split, order=(0, 2, 1, 3)), name="key.relu"
        )
        v = b.view(v, (batch, heads, width, tokens), "heads", split=split, order=(0, 2, 3, 1))
        v = b.add("reshape", "value.ones", [v], (batch, heads, width + 1, tokens), {"function": "pad"})
        y = b.product(b.product(v, k, "sums"), q, "apply")
        total = b.elementwise("add", b.part(y, width, 1, axis=2), name="guard")
        y = b.elementwise("div", b.part(y, 0, width, axis=2), total, name="normalise")
        return b.linear(b.view(y, (batch, tokens, hidden), "rows", order=(0, 3, 1, 2)), hidden, "output")


def _cross_attention(b: Layers, x: str, caption: str, config: SanaConfig) -> str:
    with b.scope("cross_attention"):
        q = b.linear(x, config.hidden, "query")
        k, v = (b.linear(caption, config.hidden, name) for name in ("key", "value"))
        y = b.attention(q, k, v, "sdpa", head_dim=config.hidden // config.cross_heads)
        return b.linear(y, config.hidden, "output")


def _mix(b: Layers, x: str, config: SanaConfig, rows: int, columns: int) -> str:
    """A product, a depthwise convolution of 3 x 3, a gate, a product."""
    hidden, inner = b.shape(x)[-1], config.inner
    with b.scope("mix"):
        y = b.conv(b.pixel_map(x, rows, columns), 2 * inner, 1, "up")
        y = b.conv(b.elementwise("silu", y), 2 * inner, 3, "depthwise", groups=2 * inner)
        half, gate = (b.part(y, index * inner, inner, axis=1) for index in (0, 1))
        y = b.elementwise("mul", half, b.elementwise("silu", gate, name="gate.silu"), name="gate")
        y = b.conv(y, hidden, 1, "down", bias=False)
        return b.pixel_rows(y)
