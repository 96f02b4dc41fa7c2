"""A layer of test-time training in large chunks, written out chunk by chunk (Zhang et al., arXiv 2505.23884)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["FastNames", "LargeChunkConfig", "add_chunks", "large_chunk_layer"]

_MOST_CHUNKS = 1024  # that are written out


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeChunkConfig:
    """Widths: of the model, heads, and of the perceptron that each head keeps as its state."""

    hidden: int
    heads: int
    inner: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


class FastNames(NamedTuple):
    """Names of the weights that the tokens change: W1 and W3 (heads, width, inner), W2 (heads, inner, width)."""

    w1: str
    w2: str
    w3: str


def large_chunk_layer(b: Layers, config: LargeChunkConfig, *, batch: int, tokens: int, chunk: int) -> OperatorStream:
    """Projections, norms of queries and keys, three rates a token and head, the chunks, a norm and a projection."""
    hidden, heads, width = config.hidden, config.heads, config.head_dim
    if hidden % heads:
        raise InputError(f"{b.name}: heads: given {heads}; allowed divisors of hidden, {hidden}")
    x = b.input("hidden", (batch, tokens, hidden))
    q, k, v = (
        b.elementwise("silu", b.linear(x, hidden, one, bias=False), name=f"{one}.silu")
        for one in ("query", "key", "value")
    )
    by_head = {"split": (batch, tokens, heads, width), "order": (0, 2, 1, 3)}
    q, k, v = (b.view(one, (batch * heads, tokens, width), "heads", **by_head) for one in (q, k, v))
    q, k = (b.norm(one, f"norm_{name}", function="rms", affine=False) for one, name in ((q, "query"), (k, "key")))
    rates = b.elementwise("softplus", b.linear(x, 3 * heads, "rates"), name="rates.softplus")
    of_weight = [
        b.view(b.part(rates, at * heads, heads), (batch * heads, tokens, 1), f"of_w{at + 1}", order=(0, 2, 1))
        for at in range(3)
    ]
    shapes = {"w1": (width, config.inner), "w2": (config.inner, width), "w3": (width, config.inner)}
    weights = [b.view(b.trained(name, heads, *shape), (heads, *shape), "own") for name, shape in shapes.items()]
    if batch > 1:
        weights = [b.add("reshape", f"{name}.copies", [one], (batch * heads, *shapes[name]), {"function": "tile"})
                   for name, one in zip(shapes, weights, strict=True)]  # fmt: skip
    lengths = [b.constant(f"{name}.lengths", (batch * heads, shape[0], 1)) for name, shape in shapes.items()]
    y, _ = add_chunks(b, q, k, v, of_weight, FastNames(*weights), lengths, chunk)
    y = b.norm(y, "norm", function="rms", affine=False)
    y = b.linear(
        b.view(y, (batch, tokens, hidden), "rows", split=(batch, heads, tokens, width), order=(0, 2, 1, 3)),
        hidden,
        "output",
        bias=False,
    )
    return b.finish([y], n_parameters=b.n_parameters)


def add_chunks(
    b: Layers,
    q: str,
    k: str,
    v: str,
    rates: Sequence[str],
    weights: FastNames,
    lengths: Sequence[str],
    chunk: int,
) -> tuple[str, FastNames]:
    """Results (heads, tokens, width) of q, k and v so shaped, and the weights after the last chunk.

    ``rates``: of W1, W2 and W3 (heads, tokens, 1); ``lengths``: what their rows are scaled to (heads, rows, 1). Raises
    InputError for a chunk longer than the sequence, and for more chunks than can be written out.
    """
    tokens = b.shape(q)[1]
    if chunk > tokens:
        raise InputError(f"{b.name}: chunk: longer than the sequence; given {chunk}; allowed 1 to {tokens}, its tokens")
    if -(-tokens // chunk) > _MOST_CHUNKS:
        least = -(-tokens // _MOST_CHUNKS)
        raise InputError(f"{b.name}: chunk: more than {_MOST_CHUNKS} chunks; given {chunk}; allowed {least} or more")
    results = []
    for number, first in enumerate(range(0, tokens, chunk)):
        size = min(chunk, tokens - first)
        own_q, own_k, own_v, *own_rates = (b.part(one, first, size, axis=1) for one in (q, k, v, *rates))
        with b.scope("chunks", number):
            results.append(_apply(b, own_q, weights))
            weights = _update(b, own_k, own_v, own_rates, weights, lengths)
    return (b.concat(results, 1, "join") if len(results) > 1 else results[0]), weights


def _turned(b: Layers, x: str) -> str:
    """Rows as columns: another order of reading."""
    heads, rows, columns = b.shape(x)
    return b.view(x, (heads, columns, rows), "turned", order=(0, 2, 1))


def _apply(b: Layers, q: str, weights: FastNames) -> str:
    left, right = b.product(q, weights.w1, "apply.w1"), b.product(q, weights.w3, "apply.w3")
    mixed = b.elementwise("mul", b.elementwise("silu", left, name="apply.silu"), right, name="apply.gate")
    return b.product(mixed, weights.w2, "apply.w2")


def _update(b: Layers, k: str, v: str, rates: Sequence[str], weights: FastNames, lengths: Sequence[str]) -> FastNames:
    left, right = b.product(k, weights.w1, "update.w1"), b.product(k, weights.w3, "update.w3")
    gate = b.elementwise("sigmoid", left, name="update.sigmoid")
    silu = b.elementwise("mul", left, gate, name="update.silu")
    back = b.product(v, _turned(b, weights.w2), "update.back")
    # the slope of silu: gate + silu - silu gate
    slope = b.elementwise("sub", silu, b.elementwise("mul", silu, gate, name="slope.mul"), name="slope.sub")
    slope = b.elementwise("add", gate, slope, name="slope.add")
    to_w1 = b.elementwise("mul", back, right, slope, rates[0], name="to_w1")
    to_w3 = b.elementwise("mul", back, silu, rates[2], name="to_w3")
    mixed = b.elementwise("mul", silu, right, name="update.gate")
    steps = (
        b.product(_turned(b, k), to_w1, "step.w1"),
        b.product(_turned(b, mixed), b.elementwise("mul", v, rates[1], name="to_w2"), "step.w2"),
        b.product(_turned(b, k), to_w3, "step.w3"),
    )
    changed = (
        b.elementwise("add", step, one, name=f"add.{name}")
        for name, step, one in zip(weights._fields, steps, weights, strict=True)
    )
    normed = (
        b.norm(one, f"norm.{name}", function="rms", affine=False)
        for name, one in zip(weights._fields, changed, strict=True)
    )
    return FastNames(*(
        b.elementwise("mul", one, length, name=f"length.{name}")
        for name, one, length in zip(weights._fields, normed, lengths, strict=True)
    ))  # fmt: skip
