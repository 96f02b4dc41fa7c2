"""State-space models with attention between: Jamba with experts, and Zamba2 with attention blocks that are shared."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.workloads.attention import Mask
from tilewright.workloads.operators import Role
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.state_space import MambaConfig, mamba_2_mixer, mamba_mixer

__all__ = ["JambaConfig", "ZambaConfig", "jamba", "zamba_2"]

_INDEX_FORMAT = "int32"


@dataclass(frozen=True, slots=True, kw_only=True)
class JambaConfig:
    """Widths of a Jamba: one layer in ``attention_every`` attends (the one at ``attention_at``), the others scan; one
    perceptron in ``experts_every`` is of ``experts``, of which each token takes ``chosen``.
    """

    mixer: MambaConfig
    heads: int
    kv_heads: int
    intermediate: int
    attention_every: int = 8
    attention_at: int = 4
    experts: int = 16
    chosen: int = 2
    experts_every: int = 2
    experts_at: int = 1

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.mixer.hidden // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class ZambaConfig:
    """Widths of a Zamba2: before the layers ``hybrid`` stands a block of attention and perceptron that they share,
    ``blocks`` of them in turn, each time with an adapter of its own of ``adapter`` columns in the perceptron.
    """

    mixer: MambaConfig
    heads: int
    intermediate: int
    hybrid: tuple[int, ...]
    blocks: int
    adapter: int


def jamba(b: Layers, config: JambaConfig, *, batch: int, n_new: int, context: int, logits: str) -> OperatorStream:
    """Jamba (Lieber et al., arXiv 2403.19887): no positions; states and caches of ``context`` tokens where it is not 0.

    The rows of the tokens are spread as evenly as they go over the experts.
    """
    mixer = config.mixer
    tokens = b.indices("tokens", batch, n_new)
    x = b.lookup(b.trained("embedding.weight", mixer.vocabulary, mixer.hidden), tokens, "embedding")
    kept: list[str] = []
    for index in range(mixer.layers):
        with b.scope("layers", index):
            y = b.norm(x, "norm1", function="rms")
            if index % config.attention_every == config.attention_at:
                y, pair = _cached_attention(b, y, config.heads, config.kv_heads, mixer.hidden, context=context)
                kept += pair
            else:
                y = mamba_mixer(b, y, mixer, with_state=bool(context))
            x = b.elementwise("add", y, x, name="add1")
            y = b.norm(x, "norm2", function="rms")
            is_routed = index % config.experts_every == config.experts_at
            y = _experts(b, y, config) if is_routed else _perceptron(b, y, config.intermediate)
            x = b.elementwise("add", y, x, name="add2")
    return _finish(b, x, kept, mixer, logits, table="")


def zamba_2(b: Layers, config: ZambaConfig, *, batch: int, n_new: int, context: int, logits: str) -> OperatorStream:
    """Zamba2 (Glorioso et al., arXiv 2411.15242): layers of Mamba-2, and shared blocks that read the embedding, too.

    A shared block takes the layer's input beside the first one, and its result, through a product of the layer's own,
    is added to what the layer scans. Attention is twice as wide as the model, without positions.
    """
    mixer = config.mixer
    tokens = b.indices("tokens", batch, n_new)
    table = b.trained("embedding.weight", mixer.vocabulary, mixer.hidden)
    first = b.lookup(table, tokens, "embedding")
    shared = [_shared_weights(b, config, number) for number in range(config.blocks)]
    x, kept = first, list[str]()
    for index in range(mixer.layers):
        with b.scope("layers", index):
            y = x
            if index in config.hybrid:
                weights = shared[config.hybrid.index(index) % config.blocks]
                z, pair = _shared_block(b, x, first, weights, config, context)
                kept += pair
                y = b.elementwise("add", b.linear(z, mixer.hidden, "shared.linear", bias=False), x, name="shared.add")
            y = mamba_2_mixer(b, b.norm(y, "norm", function="rms"), mixer, with_state=bool(context))
            x = b.elementwise("add", y, x, name="add")
    return _finish(b, x, kept, mixer, logits, table=table)


def _finish(b: Layers, x: str, kept: list[str], mixer: MambaConfig, logits: str, *, table: str) -> OperatorStream:
    x = b.norm(x, "norm", function="rms")
    if logits == "last":
        x = b.part(x, b.shape(x)[1] - 1, 1, 1)
    result = b.linear(x, mixer.vocabulary, "head", bias=False, weight=table)
    return b.finish([result, *kept], n_parameters=b.n_parameters)


def _appended(b: Layers, k: str, v: str, context: int) -> tuple[str, str]:
    """Keys and values behind those of ``context`` tokens in the cache."""
    if not context:
        return k, v
    batch, _, width = b.shape(k)
    old = [b.input(f"cached_{name}", (batch, context, width), role="cache") for name in ("key", "value")]
    return b.append(old[0], k, 1, "append_key"), b.append(old[1], v, 1, "append_value")


def _cached_attention(
    b: Layers, x: str, heads: int, kv_heads: int, hidden: int, *, context: int
) -> tuple[str, tuple[str, str]]:
    n_new, head_dim = b.shape(x)[1], hidden // heads
    with b.scope("attention"):
        q = b.linear(x, hidden, "query", bias=False)
        role: Role = "activation" if context else "cache"
        k, v = (b.linear(x, kv_heads * head_dim, name, bias=False, role=role) for name in ("key", "value"))
        k, v = _appended(b, k, v, context)
        mask: Mask = "none" if n_new == 1 else "causal"
        y = b.attention(q, k, v, "sdpa", head_dim=head_dim, mask=mask)
        return b.linear(y, hidden, "output", bias=False), (k, v)


def _perceptron(b: Layers, x: str, intermediate: int) -> str:
    hidden = b.shape(x)[-1]
    with b.scope("mlp"):
        gate = b.elementwise("silu", b.linear(x, intermediate, "gate", bias=False))
        y = b.elementwise("mul", gate, b.linear(x, intermediate, "up", bias=False))
        return b.linear(y, hidden, "down", bias=False)


def _experts(b: Layers, x: str, config: JambaConfig) -> str:
    """The router's choice, the rows of each expert side by side, three products of each, and their weighted sum."""
    batch, n_new, hidden = b.shape(x)
    n_rows, chosen = batch * n_new, config.chosen
    with b.scope("experts"):
        rows = b.view(x, (n_rows, hidden), "rows")
        scores = b.linear(rows, config.experts, "router", bias=False)
        sizes = {"rows": n_rows, "columns": config.experts}
        scores = b.add("softmax", "router.softmax", [scores], (n_rows, config.experts), sizes)
        best = b.add("reshape", "router.best", [scores], (n_rows, chosen), {"function": "sort"})
        order = b.add("reshape", "order", [best], (n_rows * chosen,), {"function": "sort"}, number_format=_INDEX_FORMAT)
        spread = b.lookup(rows, order, "spread")
        gate, up, down = (
            b.trained(f"{name}.weight", config.experts, *shape)
            for name, shape in (
                ("gate", (hidden, config.intermediate)),
                ("up", (hidden, config.intermediate)),
                ("down", (config.intermediate, hidden)),
            )
        )
        results = [_of_experts(b, *share, gate, up, down) for share in _shares(b, spread, config.experts)]
        y = results[0] if len(results) == 1 else b.concat(results, 0, "join")
        y = b.elementwise("mul", y, b.view(best, (n_rows * chosen, 1), "column"), name="weigh")
        y = b.view(b.lookup(y, order, "back"), (n_rows, chosen, hidden), "of_token")
        summed = {"function": "sum", "rows": n_rows * hidden, "columns": chosen}
        return b.view(b.add("reduction", "sum", [y], (n_rows, hidden), summed), (batch, n_new, hidden), "tokens")


def _shares(b: Layers, rows: str, experts: int) -> list[tuple[str, int, int]]:
    """Rows, experts and rows of each: as evenly as they go, or as many experts as there are rows."""
    n_rows, hidden = b.shape(rows)
    n_read = min(n_rows, experts)
    each, n_more = divmod(n_rows, n_read)
    shares = [(count, size) for count, size in ((n_read - n_more, each), (n_more, each + 1)) if count]
    return [(b.view(rows, (count, size, hidden), f"by_{count}"), count, size) for count, size in shares]


def _of_experts(b: Layers, rows: str, count: int, size: int, *weights: str) -> str:
    gate, up, down = (b.view(one, (count, *b.shape(one)[1:]), "read") for one in weights)
    y = b.elementwise(
        "mul", b.elementwise("silu", b.product(rows, gate, "gate")), b.product(rows, up, "up"), name="mul"
    )
    return b.view(b.product(y, down, "down"), (count * size, b.shape(down)[-1]), "joined")


# --- Zamba's shared block -------------------------------------------------------------------------------------------


def _shared_weights(b: Layers, config: ZambaConfig, number: int) -> dict[str, str]:
    hidden = config.mixer.hidden
    wide, inner = 2 * hidden, config.intermediate
    shapes = {
        "norm1": (wide,),
        **dict.fromkeys(("query", "key", "value"), (wide, wide)),
        "output": (hidden, wide),
        "norm2": (hidden,),
        "gate_up": (2 * inner, hidden),
        "down": (hidden, inner),
    }
    with b.scope("shared", number):
        return {name: b.trained(f"{name}.weight", *shape) for name, shape in shapes.items()}


def _shared_block(
    b: Layers, x: str, first: str, weights: dict[str, str], config: ZambaConfig, context: int
) -> tuple[str, tuple[str, str]]:
    hidden, inner = config.mixer.hidden, config.intermediate
    n_new = b.shape(x)[1]
    with b.scope("shared"):
        both = b.concat([x, first], 2, "join")
        both = b.norm(both, "norm1", function="rms", weights=[weights["norm1"]])
        q, k, v = (
            b.linear(both, 2 * hidden, name, bias=False, weight=weights[name]) for name in ("query", "key", "value")
        )
        k, v = _appended(b, k, v, context)
        mask: Mask = "none" if n_new == 1 else "causal"
        y = b.attention(q, k, v, "sdpa", head_dim=2 * hidden // config.heads, mask=mask)
        y = b.linear(y, hidden, "output", bias=False, weight=weights["output"])
        y = b.norm(y, "norm2", function="rms", weights=[weights["norm2"]])
        up = b.linear(y, 2 * inner, "gate_up", bias=False, weight=weights["gate_up"])
        extra = b.linear(b.linear(y, config.adapter, "adapter1", bias=False), 2 * inner, "adapter2", bias=False)
        up = b.elementwise("add", up, extra, name="adapter.add")
        gate = b.elementwise("gelu", b.part(up, 0, inner), name="gelu")
        y = b.elementwise("mul", gate, b.part(up, inner, inner), name="gate")
        return b.linear(y, hidden, "down", bias=False, weight=weights["down"]), (k, v)
