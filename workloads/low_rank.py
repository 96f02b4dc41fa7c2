"""Attention on factors of low rank as it is mapped (FlashSVD, Shao et al., arXiv 2508.01506).

Q = P_q U_q + b_q, and K and V likewise: P has ``rank`` columns a token (what a product with the other factor of the
weights has left), U is a head's. A head's P may be its own (each head's weights have been factored by themselves), or
one for all heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from tilewright.errors import InputError
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.homes import ROWS_IN_DRAM, VectorHomes

__all__ = ["LowRankAttentionLayer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRankAttentionLayer:
    """``groups`` independent attentions, each of ``heads`` heads that read the same P (tokens, ``rank``).

    ``row_ranks``: P of how many heads lie side by side in a row of the tensors (1: of one, or of all heads together).
    ``head_rows``: how many heads' results lie side by side in a row of the result. ``input_bits`` of a value of P,
    ``factor_bits`` of U and its bias; Q, K and V are made in the bits of P, scores in ``score_bits``. ``whole``: the
    layer that this is a cut of.
    """

    name: str
    groups: int
    heads: int
    query_len: int
    key_len: int
    rank: int
    head_dim: int
    value_dim: int
    input_bits: int | Fraction
    factor_bits: int | Fraction
    out_bits: int | Fraction
    compute_format: str
    row_ranks: int = 1
    head_rows: int = 1
    score_bits: int = 16
    has_bias: bool = False
    whole: LowRankAttentionLayer | None = None
    homes: VectorHomes = ROWS_IN_DRAM

    def __post_init__(self) -> None:
        for field in ("groups", "heads", "query_len", "key_len", "rank", "head_dim", "value_dim"):
            if getattr(self, field) < 1:
                raise InputError(f"{self.name}: {field}: given {getattr(self, field)}; allowed 1 or more")

    @property
    def n_groups(self) -> int:
        return self.groups

    @property
    def factor_columns(self) -> int:
        """Columns of U of Q, K and V together."""
        return 2 * self.head_dim + self.value_dim

    @property
    def macs(self) -> int:
        """Multiply-adds of Q, K and V from their factors, each once, and of the scores and their use."""
        one = self.whole or self
        made = one.rank * (one.query_len * one.head_dim + one.key_len * (one.head_dim + one.value_dim))
        used = one.query_len * one.key_len * (one.head_dim + one.value_dim)
        return one.groups * one.heads * (made + used)

    @property
    def compulsory_bytes(self) -> int:
        """P of queries, keys and values, the factors and the results, each once."""
        one = self.whole or self
        inputs = one.groups * (one.query_len + 2 * one.key_len) * one.rank * one.input_bits
        n_sets = one.heads * one.row_ranks  # of factors: batch entries share them
        factors = n_sets * (one.rank + one.has_bias) * one.factor_columns * one.factor_bits
        results = one.groups * one.heads * one.query_len * one.value_dim * one.out_bits
        return int(-(-Fraction(inputs + factors + results) // BITS_PER_BYTE))

    def cuts(self, n_cores: int) -> tuple[LowRankAttentionLayer, ...]:
        """Equal pieces for ``n_cores`` cores: groups, else heads of a group, else queries; what more than one piece
        needs is read by each, and what rounding up adds is paid for.
        """
        if self.groups >= n_cores or n_cores == 1:
            return (self,)
        parts, whole = ceil_div(n_cores, self.groups), self.whole or self
        if self.heads > 1:
            heads = ceil_div(self.heads, parts)
            groups = self.groups * ceil_div(self.heads, heads)
            return (replace(self, groups=groups, heads=heads, whole=whole),)
        rows = ceil_div(self.query_len, parts)
        if rows == self.query_len:
            return (self,)
        groups = self.groups * ceil_div(self.query_len, rows)
        return (replace(self, groups=groups, query_len=rows, whole=whole),)
