"""State-space models: Mamba, Mamba-2, and Mamba-2 with a few layers of attention; prefill and decode."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.workloads.attention import Mask
from tilewright.workloads.operators import Role
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["HYBRID_ATTENTION", "MambaConfig", "StateAttention", "mamba", "mamba_2_mixer", "mamba_mixer"]

_EXPAND = 2
_WIDTH = 4  # of the short convolution
_STATE = "fp32"  # in which states are kept between calls


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAttention:
    """Layers of attention among those of a state-space model: where, how many heads, with a convolution before."""

    layers: tuple[int, ...]
    heads: int
    head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaConfig:
    """Widths of a state-space model. ``head_dim`` and ``groups`` are of Mamba-2; 0 is Mamba. ``normed``: norms of
    steps, keys and queries before the scan, as Jamba has them.
    """

    hidden: int
    layers: int
    states: int
    vocabulary: int
    head_dim: int = 0
    groups: int = 1
    attention: StateAttention | None = None
    normed: bool = False

    @property
    def inner(self) -> int:
        return _EXPAND * self.hidden

    @property
    def step_rank(self) -> int:
        """Width of what Mamba's steps are projected from."""
        return -(-self.hidden // 16)


#: The published hybrid of Mamba-2 (arXiv 2405.21060, section 9.2.3): six of 64 layers.
HYBRID_ATTENTION = StateAttention(layers=(9, 18, 27, 36, 45, 56), heads=30, head_dim=128)


def mamba(
    b: Layers, config: MambaConfig, *, batch: int, n_new: int, with_state: bool, context: int, logits: str
) -> OperatorStream:
    """``n_new`` tokens from states of zero, or ``with_state`` from those that the tokens before left.

    Gu and Dao, arXiv 2312.00752, section 3.4; Dao and Gu, arXiv 2405.21060, section 7. ``context`` counts for layers of
    attention alone. ``logits``: of the last token, or of all.
    """
    tokens = b.indices("tokens", batch, n_new)
    table = b.trained("embedding.weight", config.vocabulary, config.hidden)
    x = b.lookup(table, tokens, "embedding")
    kept: list[str] = []
    for index in range(config.layers):
        with b.scope("layers", index):
            y = b.norm(x, "norm", function="rms")
            if config.attention is not None and index in config.attention.layers:
                y, pair = _attention(b, y, config.attention, with_state=with_state, context=context)
                kept += pair
            elif config.head_dim:
                y = mamba_2_mixer(b, y, config, with_state=with_state)
            else:
                y = mamba_mixer(b, y, config, with_state=with_state)
            x = b.elementwise("add", y, x, name="add")
    x = b.norm(x, "norm", function="rms")
    if logits == "last":
        x = b.part(x, b.shape(x)[1] - 1, 1, 1)
    result = b.linear(x, config.vocabulary, "head", bias=False, weight=table)
    return b.finish([result, *kept], n_parameters=b.n_parameters)


def mamba_mixer(b: Layers, x: str, config: MambaConfig, *, with_state: bool) -> str:
    """Projections, convolution, selective scan and gate of a layer of Mamba."""
    batch, tokens, _ = b.shape(x)
    inner, n, rank = config.inner, config.states, config.step_rank
    both = b.linear(x, 2 * inner, "in_proj", bias=False)
    gate = b.elementwise("silu", b.part(both, inner, inner), name="gate")
    x = _convolution(b, b.part(both, 0, inner), with_state=with_state)
    projected = b.linear(x, rank + 2 * n, "x_proj", bias=False)
    parts = [b.part(projected, at, width) for at, width in ((0, rank), (rank, n), (rank + n, n))]
    if config.normed:
        parts = [b.norm(one, f"norm_{name}", function="rms") for one, name in zip(parts, ["dt", "B", "C"], strict=True)]
    inputs = [x, b.linear(parts[0], inner, "dt_proj"), *parts[1:]]
    inputs += [b.trained("A", inner, n), b.trained("D", inner)]
    sizes = {"batch": batch, "tokens": tokens, "heads": 1, "key_heads": 1, "key_dim": n, "value_dim": inner}
    y = _scan(b, "selective_scan", inputs, (batch, tokens, inner), sizes, with_state=with_state)
    return b.linear(b.elementwise("mul", y, gate, name="gated"), config.hidden, "out_proj", bias=False)


def mamba_2_mixer(b: Layers, x: str, config: MambaConfig, *, with_state: bool) -> str:
    """Projections, convolution, scan, gate and norm of a layer of Mamba-2."""
    batch, tokens, _ = b.shape(x)
    inner, n, groups = config.inner, config.states, config.groups
    heads, shared = inner // config.head_dim, 2 * groups * n
    both = b.linear(x, 2 * inner + shared + heads, "in_proj", bias=False)
    gate = b.elementwise("silu", b.part(both, 0, inner), name="gate")
    mixed = _convolution(b, b.part(both, inner, inner + shared), with_state=with_state)
    inputs = [
        b.view(b.part(mixed, 0, inner), (batch, tokens, heads, config.head_dim), "heads"),
        b.part(both, 2 * inner + shared, heads),
        b.part(mixed, inner, groups * n),
        b.part(mixed, inner + groups * n, groups * n),
    ]
    inputs += [b.trained(name, heads) for name in ("A", "D", "dt_bias")]
    sizes = {"batch": batch, "tokens": tokens, "heads": heads, "key_heads": groups}
    sizes |= {"key_dim": n, "value_dim": config.head_dim}
    y = _scan(b, "ssd", inputs, (batch, tokens, heads, config.head_dim), sizes, with_state=with_state)
    y = b.elementwise("mul", b.view(y, (batch, tokens, inner), "rows"), gate, name="gated")
    return b.linear(b.norm(y, "gated_norm", function="rms"), config.hidden, "out_proj", bias=False)


def _scan(
    b: Layers, kind: str, inputs: list[str], shape: tuple[int, ...], sizes: dict[str, int], *, with_state: bool
) -> str:
    """The state comes from the call before where ``with_state``; it is left for the next one."""
    if not with_state:
        return b.add(kind, "scan", inputs, shape, {**sizes, "keeps_state": True})
    of_state = tuple(sizes[key] for key in ("batch", "heads", "key_dim", "value_dim"))
    state = b.input("scan.state", of_state, role="cache", number_format=_STATE)
    return b.add(kind, "scan", [*inputs, state], shape, {**sizes, "state": True})


def _convolution(b: Layers, x: str, *, with_state: bool, plain: bool = False) -> str:
    batch, tokens, channels = b.shape(x)
    inputs = [x, b.trained("conv.weight", channels, _WIDTH), b.trained("conv.bias", channels)]
    said = {"plain": True} if plain else {}
    if with_state:
        inputs.append(b.input("conv.state", (batch, channels, _WIDTH - 1), role="cache"))
        said["state"] = True
    sizes = {"batch": batch, "tokens": tokens, "channels": channels, "width": _WIDTH}
    return b.add("causal_conv", "conv", inputs, (batch, tokens, channels), {**sizes, **said})


def _attention(
    b: Layers, x: str, own: StateAttention, *, with_state: bool, context: int
) -> tuple[str, tuple[str, str]]:
    """Queries, keys and values by one product and a short convolution, then causal attention; rotary embeddings are
    left out (half of each head's width in the published one).
    """
    batch, tokens, hidden = b.shape(x)
    width = own.heads * own.head_dim
    all_three = b.linear(x, 3 * width, "in_proj", bias=False)
    all_three = _convolution(b, all_three, with_state=with_state, plain=True)
    q, k, v = (b.part(all_three, at * width, width) for at in range(3))
    if context:
        role: Role = "cache"
        old = [b.input(f"cached_{name}", (batch, context, width), role=role) for name in ("key", "value")]
        k, v = b.append(old[0], k, 1, "append_key"), b.append(old[1], v, 1, "append_value")
    mask: Mask = "none" if tokens == 1 else "causal"
    y = b.attention(q, k, v, "sdpa", head_dim=own.head_dim, mask=mask)
    return b.linear(y, hidden, "out_proj", bias=False), (k, v)
