"""How large a key/value cache is: closed forms by layer, heads and block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.formats import tensor_bits
from tilewright.units import bits_to_bytes, ceil_div
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["CacheLayer", "cache_layers", "cached_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLayer:
    """What one layer keeps of a token: ``heads`` keys of ``key_dim`` and values of ``value_dim`` values each.

    ``window``: only so many of the last tokens are seen, and kept (0: all). ``made_format``: of the newest ``residual``
    tokens, which are stored as they are made. ``block``: whole blocks of so many tokens are taken.
    """

    name: str
    heads: int
    key_dim: int
    value_dim: int
    key_format: str
    value_format: str
    made_format: str
    window: int = 0
    block: int = 1
    residual: int = 0

    def n_stored(self, n_tokens: int) -> int:
        """Tokens for which there is room where a sequence has ``n_tokens``: those that are kept, in whole blocks."""
        kept = min(n_tokens, self.window) if self.window else n_tokens
        return ceil_div(kept, self.block) * self.block

    def bits(self, n_tokens: int) -> int:
        """Bits of ``n_tokens`` keys and values, the newest of them as they are made."""
        newest = min(n_tokens, self.residual)
        return sum(
            self.heads * (tensor_bits(name, (n_tokens - newest, dim)) + tensor_bits(self.made_format, (newest, dim)))
            for name, dim in ((self.key_format, self.key_dim), (self.value_format, self.value_dim))
        )

    def n_bytes(self, n_tokens: int, n_sequences: int = 1) -> int:
        """Bytes that ``n_sequences`` of ``n_tokens`` tokens take."""
        return bits_to_bytes(n_sequences * self.bits(self.n_stored(n_tokens)))


def cache_layers(stream: OperatorStream, *, block: int = 1, residual: int = 0) -> tuple[CacheLayer, ...]:
    """The caches that ``stream`` reads or makes, in order; one that several attentions share, once."""
    found: dict[str, CacheLayer] = {}
    for operator in stream.operators:
        if operator.kind != "attention":
            continue
        keys, values = (stream.base(operator.inputs[at]) for at in (1, 2))
        if keys.role != "cache":
            continue
        left = operator.attributes.get("window_left")
        found[keys.name] = CacheLayer(
            name=operator.path or operator.name,
            heads=operator.count("kv_heads"),
            key_dim=operator.count("head_dim"),
            value_dim=0 if values.name == keys.name else operator.count("value_dim"),
            key_format=keys.number_format,
            value_format=values.number_format,
            made_format=stream.base(operator.inputs[0]).number_format,
            window=int(left) + 1 if left is not None else 0,
            block=block,
            residual=residual,
        )
    return tuple(found.values())


def cached_bytes(layers: Sequence[CacheLayer], n_tokens: int, n_sequences: int = 1) -> int:
    """Bytes of all ``layers`` for ``n_sequences`` of ``n_tokens`` tokens each."""
    return sum(layer.n_bytes(n_tokens, n_sequences) for layer in layers)
