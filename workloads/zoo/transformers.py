"""Networks that read and write text: BERT encoders and Llama decoders."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.workloads.attention import Mask
from tilewright.workloads.operators import Role
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = [
    "DecoderConfig",
    "EncoderConfig",
    "add_decoder_layer",
    "add_post_norm_layer",
    "add_pre_norm_layer",
    "bert",
    "feed_forward",
    "llama",
    "llama_block",
    "self_attention",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """A transformer encoder's widths. ``as_module``: its code calls the framework's own module of attention.

    ``rank``: of its layers' weights, each then two products, through so many columns; 0 for whole weights. ``fused``:
    attention makes Q, K and V of these factors by itself. ``head_rank``: of the weights of Q, K and V, where each
    head's are factored by themselves; 0 for ``rank`` of all heads together.
    ``block``: of its layers' weights, each a Kronecker product of which the second factor is a square of that side; 0
    for whole weights.
    """

    hidden: int
    heads: int
    intermediate: int
    as_module: bool = False
    rank: int = 0
    fused: bool = False
    head_rank: int = 0
    block: int = 0

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.hidden // self.heads


def _linear(b: Layers, x: str, n_out: int, name: str, config: EncoderConfig) -> str:
    """A linear layer, or two through ``rank`` columns (a truncated singular value decomposition of its weight), or one
    whose weight is a Kronecker product.
    """
    if config.block:
        return b.kronecker(x, n_out, config.block, name)
    return b.linear(b.linear(x, config.rank, f"{name}.right", bias=False) if config.rank else x, n_out, name)


def self_attention(b: Layers, x: str, config: EncoderConfig) -> str:
    """Attention of x (batch, tokens, hidden) to itself, with its four projections."""
    with b.scope("attention"):
        if config.fused and config.rank:
            return _linear(b, _fused_attention(b, x, config), config.hidden, "output", config)
        make = _by_head if config.head_rank else _linear
        q, k, v = (make(b, x, config.hidden, name, config) for name in ("query", "key", "value"))
        y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim, as_module=config.as_module)
        return _linear(b, y, config.hidden, "output", config)


def _by_head(b: Layers, x: str, n_out: int, name: str, config: EncoderConfig) -> str:
    """A linear layer whose heads have a product of low rank each: one product for all right factors, then a grouped
    one.
    """
    batch, seq, _ = b.shape(x)
    width = config.heads * config.head_rank
    rows = b.linear(x, width, f"{name}.right", bias=False)
    rows = b.view(rows, (batch, width, seq, 1), "by_head", order=(0, 2, 1))
    return b.view(
        b.conv(rows, n_out, 1, name, groups=config.heads),
        (batch, seq, n_out),
        "rows",
        split=(batch, n_out, seq),
        order=(0, 2, 1),
    )


def _fused_attention(b: Layers, x: str, config: EncoderConfig) -> str:
    """Attention on what the right factors leave of x; the left ones are its own operands."""
    batch, seq, _ = b.shape(x)
    names = ("query", "key", "value")
    own, rank = bool(config.head_rank), config.head_rank or config.rank
    rows = [b.linear(x, rank * (config.heads if own else 1), f"{name}.right", bias=False) for name in names]
    factors = [b.trained(f"{name}.weight", config.hidden, rank) for name in names]
    biases = [b.trained(f"{name}.bias", config.hidden) for name in names]
    sizes = {"batch": batch, "heads": config.heads, "query_len": seq, "key_len": seq, "rank": rank}
    attributes = {**sizes, "head_dim": config.head_dim, "value_dim": config.head_dim, "own": own}
    return b.add("low_rank_attention", "sdpa", [*rows, *factors, *biases], (batch, seq, config.hidden), attributes)


def feed_forward(b: Layers, x: str, config: EncoderConfig) -> str:
    """Two layers of x (batch, tokens, hidden) with a gelu between."""
    with b.scope("mlp"):
        y = b.elementwise("gelu", _linear(b, x, config.intermediate, "up", config))
        return _linear(b, y, config.hidden, "down", config)


def add_pre_norm_layer(b: Layers, x: str, config: EncoderConfig) -> str:
    """One encoder layer of a vision transformer: norm before each half."""
    x = b.elementwise("add", self_attention(b, b.norm(x, "norm1"), config), x, name="add1")
    return b.elementwise("add", feed_forward(b, b.norm(x, "norm2"), config), x, name="add2")


def add_post_norm_layer(b: Layers, x: str, config: EncoderConfig) -> str:
    """One encoder layer of BERT: norm after each half."""
    x = b.norm(b.elementwise("add", self_attention(b, x, config), x, name="add1"), "norm1")
    return b.norm(b.elementwise("add", feed_forward(b, x, config), x, name="add2"), "norm2")


def bert(b: Layers, config: EncoderConfig, *, layers: int, batch: int, seq: int) -> OperatorStream:
    """BERT with its pooler and no head (Devlin et al., arXiv 1810.04805): vocabulary 30,522, 512 positions, 2 segments.

    All tokens are of the first segment and start at position 0, so the rows of those two tables are known beforehand.
    """
    hidden = config.hidden
    tokens = b.indices("tokens", batch, seq)
    with b.scope("embeddings"):
        x = b.embedding(tokens, 30522, hidden, "word")
        segments = b.weight("segment", (1, seq, hidden))
        positions = b.weight("position", (1, seq, hidden))
        b.n_parameters += (2 + 512) * hidden
        x = b.elementwise("add", b.elementwise("add", x, segments, name="add1"), positions, name="add2")
        x = b.norm(x, "norm")
    for index in range(layers):
        with b.scope("layers", index):
            x = add_post_norm_layer(b, x, config)
    with b.scope("pooler"):
        pooled = b.elementwise("tanh", b.linear(b.view(b.part(x, 0, 1, 1), (batch, hidden), "first"), hidden, "dense"))
    return b.finish([x, pooled], n_parameters=b.n_parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """A Llama decoder's widths."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    layers: int
    vocabulary: int
    tied: bool = False


def add_decoder_layer(
    b: Layers,
    x: str,
    rotation: tuple[str, str] | None,
    config: DecoderConfig,
    *,
    context: int = 0,
    caches: bool = True,
    in_place: bool = True,
) -> tuple[str, tuple[str, str]]:
    """One decoder layer: its result, and keys and values as the cache holds them afterwards.

    ``context`` tokens are in the cache already; ``rotation`` names the tables of cosines and sines (None: no rotary
    embedding). Without ``caches`` the keys and values are plain activations that no cache keeps. ``in_place``: new keys
    and values are written behind the cached ones; else all are copied into a new tensor.
    """
    y = b.norm(x, "norm1", function="rms")
    with b.scope("attention"):
        y, kept = _cached_attention(b, y, rotation, config, context, caches=caches, in_place=in_place)
    x = b.elementwise("add", x, y, name="add1")
    y = b.norm(x, "norm2", function="rms")
    with b.scope("mlp"):
        gate = b.elementwise("silu", b.linear(y, config.intermediate, "gate", bias=False))
        y = b.elementwise("mul", gate, b.linear(y, config.intermediate, "up", bias=False))
        y = b.linear(y, config.hidden, "down", bias=False)
    return b.elementwise("add", x, y, name="add2"), kept


def _cached_attention(
    b: Layers,
    x: str,
    rotation: tuple[str, str] | None,
    config: DecoderConfig,
    context: int,
    *,
    caches: bool,
    in_place: bool,
) -> tuple[str, tuple[str, str]]:
    batch, n_new, _ = b.shape(x)
    kv_width = config.kv_heads * config.head_dim
    role: Role = "cache" if caches and not context else "activation"
    q = b.linear(x, config.heads * config.head_dim, "query", bias=False)
    k = b.linear(x, kv_width, "key", bias=False, role="activation" if rotation else role)
    v = b.linear(x, kv_width, "value", bias=False, role=role)
    if rotation is not None:
        q = _rotated(b, q, rotation, config.head_dim, "rotary_query", "activation")
        k = _rotated(b, k, rotation, config.head_dim, "rotary_key", role)
    if context:
        shape = (batch, context, kv_width)
        old_k, old_v = (b.input(f"cached_{name}", shape, role="cache") for name in ("key", "value"))
        if in_place:
            k, v = b.append(old_k, k, 1, "append_key"), b.append(old_v, v, 1, "append_value")
        else:
            k, v = b.concat([old_k, k], 1, "concat_key"), b.concat([old_v, v], 1, "concat_value")
    mask: Mask = "none" if n_new == 1 else "causal"
    y = b.attention(q, k, v, "sdpa", head_dim=config.head_dim, mask=mask)
    return b.linear(y, config.hidden, "output", bias=False), (k, v)


def _rotated(b: Layers, x: str, rotation: tuple[str, str], head_dim: int, name: str, role: Role) -> str:
    """Rotary embedding of x (batch, tokens, heads x head_dim), as pairs of halves."""
    batch, n_tokens, width = b.shape(x)
    heads = b.view(x, (batch, width // head_dim, n_tokens, head_dim), "heads")
    tables = [b.view(table, (1, 1, n_tokens, head_dim), "heads") for table in rotation]
    return b.view(b.elementwise("rotary", heads, *tables, name=name, role=role), (batch, n_tokens, width), "rows")


def llama_block(
    b: Layers,
    config: DecoderConfig,
    *,
    batch: int,
    prefill: int,
    decode: int,
    context: int,
    rotary: bool,
    in_place: bool,
) -> OperatorStream:
    """One layer of :func:`llama` alone, from hidden states to hidden states, as layers are measured."""
    n_new = decode or prefill
    x = b.input("hidden", (batch, n_new, config.hidden))
    tables = [b.constant(f"rotary.{name}", (1, n_new, config.head_dim)) for name in ("cos", "sin") if rotary]
    rotation = (tables[0], tables[1]) if rotary else None
    x, kept = add_decoder_layer(b, x, rotation, config, context=context, in_place=in_place)
    return b.finish([x, *kept], n_parameters=b.n_parameters)


def llama(
    b: Layers, config: DecoderConfig, *, batch: int, prefill: int, decode: int, context: int, logits: str
) -> OperatorStream:
    """A Llama decoder (Touvron et al., arXiv 2302.13971; grouped queries as in Llama 3, arXiv 2407.21783).

    ``prefill`` tokens into an empty cache, or ``decode`` tokens at once behind ``context`` cached ones; the rotation
    tables are constants. ``logits``: of the last token, as generation needs them, or of all.
    """
    n_new = decode or prefill
    tokens = b.indices("tokens", batch, n_new)
    table = b.trained("embedding.weight", config.vocabulary, config.hidden)
    x = b.lookup(table, tokens, "embedding")
    rotation = tuple(b.constant(f"rotary.{name}", (1, n_new, config.head_dim)) for name in ("cos", "sin"))
    kept: list[str] = []
    for index in range(config.layers):
        with b.scope("layers", index):
            x, pair = add_decoder_layer(b, x, (rotation[0], rotation[1]), config, context=context)
            kept += pair
    x = b.norm(x, "norm", function="rms")
    if logits == "last":
        x = b.part(x, b.shape(x)[1] - 1, 1, 1)
    result = b.linear(x, config.vocabulary, "head", bias=False, weight=table if config.tied else "")
    return b.finish([result, *kept], n_parameters=b.n_parameters)
