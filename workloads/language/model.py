"""A language model as its configuration says: widths, layers, experts, caches; and its weights, matrix by matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, MinLen

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["LanguageModel", "LatentSpec", "LinearAttentionSpec", "Role", "Weight"]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
_Count: TypeAlias = Annotated[int, Ge(1), Le(10_000_000)]
_CountOrNone: TypeAlias = Annotated[int, Ge(0), Le(10_000_000)]

#: What a matrix is for; runtimes store some of them in formats of their own.
Role: TypeAlias = Literal[
    "query", "key", "value", "output", "up", "down", "expert_up", "expert_down", "router", "mixer", "head", "embedding"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSpec:
    """Multi-head latent attention. ``query_rank``, ``cache_rank``: of the latents; ``rotary``, ``plain``, ``value``:
    widths of a head.
    """

    __pydantic_config__ = _STRICT

    query_rank: _CountOrNone
    cache_rank: _Count
    rotary: _Count
    plain: _Count
    value: _Count


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAttentionSpec:
    """Layers with a state instead of a cache: all but every ``whole_every``-th layer (gated delta rule).

    ``key_heads``, ``value_heads``: heads; ``head_dim``: width of each. The state of a layer is one matrix a value head,
    in fp32.
    """

    __pydantic_config__ = _STRICT

    whole_every: _Count
    key_heads: _Count
    value_heads: _Count
    head_dim: _Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """One matrix of weights: ``n_out`` x ``n_in``, of which there are ``copies`` (experts) and a token uses ``used``.

    ``layer``: -1 outside of the layers.
    """

    role: Role
    layer: int
    n_out: int
    n_in: int
    copies: int = 1
    used: int = 1

    @property
    def n(self) -> int:
        """Weights of one copy."""
        return self.n_out * self.n_in


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """A decoder. ``names``: what else tables call it (in lower case).

    ``intermediate``: width of the perceptron of dense layers (0: none), ``gated``: it has a gate beside it.
    ``experts``, ``top_k``, ``expert_intermediate``, ``shared_intermediate``: a mixture and the expert that every token
    uses; ``dense_layers``: the first layers that have none. ``window``, ``whole_every``: keys that a layer sees,
    except for every so-manieth, which sees all. ``tied``: the head is the table of embeddings. ``positions``: width of
    a learned table of positions (which a token reads a row of).
    """

    __pydantic_config__ = _STRICT

    name: Annotated[str, MinLen(1)]
    names: tuple[str, ...] = ()
    source: Annotated[str, MinLen(1)]
    layers: _Count
    hidden: _Count
    heads: _Count
    kv_heads: _Count
    head_dim: _Count
    intermediate: _CountOrNone
    vocabulary: _Count
    tied: bool = False
    gated: bool = True
    experts: _CountOrNone = 0
    top_k: _CountOrNone = 0
    expert_intermediate: _CountOrNone = 0
    shared_intermediate: _CountOrNone = 0
    dense_layers: _CountOrNone = 0
    window: _CountOrNone = 0
    whole_every: _Count = 1
    latent: LatentSpec | None = None
    linear: LinearAttentionSpec | None = None
    query_gate: bool = False
    largest_context: Annotated[int, Gt(0)] = 131_072

    def __post_init__(self) -> None:
        if self.experts and not (0 < self.top_k <= self.experts and self.expert_intermediate):
            raise ValueError(f"top_k: given {self.top_k} of {self.experts} experts; allowed from 1 to all of them")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads: given {self.kv_heads} for {self.heads} heads; allowed a divisor")

    def has_experts(self, layer: int) -> bool:
        """Whether ``layer`` is a mixture."""
        return bool(self.experts) and layer >= self.dense_layers

    def keeps_cache(self, layer: int) -> bool:
        """Whether ``layer`` has keys and values, and not a state."""
        return self.linear is None or (layer + 1) % self.linear.whole_every == 0

    def visible(self, layer: int, context: int) -> int:
        """Cached tokens that a new one sees in ``layer``."""
        if not self.window or (self.whole_every > 1 and (layer + 1) % self.whole_every == 0):
            return context
        return min(context, self.window)

    @property
    def cache_values(self) -> int:
        """Numbers that a token leaves in the cache of one layer that has one."""
        if self.latent is not None:
            return self.latent.cache_rank + self.latent.rotary
        return 2 * self.kv_heads * self.head_dim

    @property
    def n_cached_layers(self) -> int:
        """Layers with a cache."""
        return sum(self.keeps_cache(layer) for layer in range(self.layers))

    @property
    def state_values(self) -> int:
        """Numbers of the state of one layer that has one."""
        linear = self.linear
        return 0 if linear is None else linear.value_heads * linear.head_dim * linear.head_dim

    def weights(self) -> Iterator[Weight]:
        """All matrices that a token is multiplied with; norms and biases are left out, embeddings are looked up."""
        for layer in range(self.layers):
            yield from self._attention(layer)
            yield from self._perceptron(layer)
        yield Weight(role="head", layer=-1, n_out=self.vocabulary, n_in=self.hidden)

    @property
    def n_parameters(self) -> int:
        """Of all matrices and the table of embeddings."""
        held = sum(weight.n * weight.copies for weight in self.weights())
        return held + (0 if self.tied else self.vocabulary * self.hidden)

    @property
    def n_active(self) -> int:
        """Of the matrices that one token is multiplied with."""
        return sum(weight.n * weight.used for weight in self.weights())

    def _attention(self, layer: int) -> Iterator[Weight]:
        if not self.keeps_cache(layer):
            yield from self._mixer(layer)
            return
        wide = self.heads * self.head_dim
        if self.latent is not None:
            yield from self._latent(layer, self.latent)
            return
        narrow = self.kv_heads * self.head_dim
        queries = wide * (2 if self.query_gate else 1)
        yield Weight(role="query", layer=layer, n_out=queries, n_in=self.hidden)
        yield Weight(role="key", layer=layer, n_out=narrow, n_in=self.hidden)
        yield Weight(role="value", layer=layer, n_out=narrow, n_in=self.hidden)
        yield Weight(role="output", layer=layer, n_out=self.hidden, n_in=wide)

    def _latent(self, layer: int, latent: LatentSpec) -> Iterator[Weight]:
        queries = self.heads * (latent.plain + latent.rotary)
        if latent.query_rank:
            yield Weight(role="query", layer=layer, n_out=latent.query_rank, n_in=self.hidden)
            yield Weight(role="query", layer=layer, n_out=queries, n_in=latent.query_rank)
        else:
            yield Weight(role="query", layer=layer, n_out=queries, n_in=self.hidden)
        yield Weight(role="key", layer=layer, n_out=latent.cache_rank + latent.rotary, n_in=self.hidden)
        expanded = self.heads * (latent.plain + latent.value)
        yield Weight(role="value", layer=layer, n_out=expanded, n_in=latent.cache_rank)
        yield Weight(role="output", layer=layer, n_out=self.hidden, n_in=self.heads * latent.value)

    def _mixer(self, layer: int) -> Iterator[Weight]:
        """Queries, keys, values, the gate of the result, two gates a head; and the way out."""
        linear = self.linear
        assert linear is not None
        keys, values = linear.key_heads * linear.head_dim, linear.value_heads * linear.head_dim
        entering = 2 * keys + 2 * values + 2 * linear.value_heads
        yield Weight(role="mixer", layer=layer, n_out=entering, n_in=self.hidden)
        yield Weight(role="output", layer=layer, n_out=self.hidden, n_in=values)

    def _perceptron(self, layer: int) -> Iterator[Weight]:
        entering = 2 if self.gated else 1
        if not self.has_experts(layer):
            if self.intermediate:
                yield Weight(role="up", layer=layer, n_out=entering * self.intermediate, n_in=self.hidden)
                yield Weight(role="down", layer=layer, n_out=self.hidden, n_in=self.intermediate)
            return
        inner, some = self.expert_intermediate, {"copies": self.experts, "used": self.top_k}
        yield Weight(role="router", layer=layer, n_out=self.experts, n_in=self.hidden)
        yield Weight(role="expert_up", layer=layer, n_out=entering * inner, n_in=self.hidden, **some)
        yield Weight(role="expert_down", layer=layer, n_out=self.hidden, n_in=inner, **some)
        if self.shared_intermediate:
            yield Weight(role="up", layer=layer, n_out=entering * self.shared_intermediate, n_in=self.hidden)
            yield Weight(role="down", layer=layer, n_out=self.hidden, n_in=self.shared_intermediate)
