"""What an attention must compute and move, written down independently of the package: closed forms for tests.

A :class:`Form` says what a person knows of an attention (from a configuration, say). Its figures are sums over rows
and products of extents; nothing here imports Tilewright, so that layers, streams, files and extractors can all be held
to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

#: Bits of one value in the formats that the tests use.
BITS: Mapping[str, int] = {"int4": 4, "int8": 8, "fp8_e4m3": 8, "fp16": 16, "bf16": 16, "fp32": 32}


@dataclass(frozen=True, kw_only=True)
class Form:
    """Extents, the band that is seen (None: no limit on that side), bias, sinks, and a format for each tensor.

    Query i stands at key i + keys - queries; it sees the keys from ``left`` before to ``right`` after its own place.
    ``bias``: the shape that spreads over (batch, heads, queries, keys), or None. ``formats``: of q, k, v, o, bias and
    sinks, fp16 where none is given.
    """

    batch: int = 1
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    value_width: int
    left: int | None = None
    right: int | None = None
    bias: tuple[int, int, int, int] | None = None
    sinks: bool = False
    formats: Mapping[str, str] = field(default_factory=dict)

    def seen(self, row: int) -> range:
        """The keys that a query row sees."""
        place = row + self.keys - self.queries
        first = 0 if self.left is None else max(0, place - self.left)
        last = self.keys - 1 if self.right is None else min(self.keys - 1, place + self.right)
        return range(first, last + 1)

    @property
    def pairs(self) -> int:
        """(query, key) pairs of one head that are seen."""
        return sum(len(self.seen(row)) for row in range(self.queries))

    @property
    def seen_keys(self) -> int:
        """Keys that some query sees."""
        return len({key for row in range(self.queries) for key in self.seen(row)})

    @property
    def macs(self) -> int:
        """Multiply-accumulates of both products, where the mask leaves something."""
        return self.batch * self.heads * self.pairs * (self.width + self.value_width)

    def _bytes(self, tensor: str, n_values: int) -> int:
        return -(-n_values * BITS[self.formats.get(tensor, "fp16")] // 8)

    @property
    def key_bytes(self) -> int:
        return self._bytes("k", self.batch * self.kv_heads * self.seen_keys * self.width)

    @property
    def value_bytes(self) -> int:
        return self._bytes("v", self.batch * self.kv_heads * self.seen_keys * self.value_width)

    @property
    def bias_bytes(self) -> int:
        """Bytes of the bias entries that belong to a pair that is seen."""
        if self.bias is None:
            return 0
        planes, rows = prod(self.bias[:2]), self.bias[2]
        return self._bytes("bias", planes * (self.pairs if rows == self.queries else self.seen_keys))

    @property
    def read_bytes(self) -> int:
        """Bytes of all that is read, each value once."""
        queries = self._bytes("q", self.batch * self.heads * self.queries * self.width)
        sinks = self._bytes("sinks", self.heads) if self.sinks else 0
        return queries + self.key_bytes + self.value_bytes + self.bias_bytes + sinks

    @property
    def write_bytes(self) -> int:
        """Bytes of the output."""
        return self._bytes("o", self.batch * self.heads * self.queries * self.value_width)
