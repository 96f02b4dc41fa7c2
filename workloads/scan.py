"""Scans as they are mapped: state-space models and linear attention, whose state passes from token to token.

Every form keeps a state S of ``key_dim`` by ``value_dim`` numbers a head; heads that share keys are a group. ``decay``:
S = a S + k v^T with one decay a head (SSD, retention); ``channel_decay``: one a key channel (gated linear attention);
``delta`` and ``channel_delta``: the (gated) delta rule, S = a (S - b k (k^T S)) + b k v^T; ``selective``: Mamba-1, a
decay of its own for each value channel and state. Results are S^T q.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, TypeAlias, get_args

from tilewright.errors import InputError
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.homes import ROWS_IN_DRAM, VectorHomes

__all__ = ["FORMS", "ScanForm", "ScanLayer"]

ScanForm: TypeAlias = Literal["selective", "decay", "channel_decay", "delta", "channel_delta"]
FORMS: tuple[str, ...] = get_args(ScanForm)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLayer:
    """``groups`` independent scans over ``n_tokens``, each of ``heads`` heads that share keys and queries.

    A token brings ``key_bits`` for each of a group's keys, ``query_bits`` (0: as many) for each query, ``key_dim`` of
    either, ``value_bits`` for each value, ``gates`` numbers of ``gate_bits`` a head and ``column_gates`` a value
    column; ``parameter_bits`` are read once for each value column. ``gate_operations`` are done on each of these
    numbers, ``value_operations`` on each value. The state is held in ``state_bits`` a number; ``reads_state`` and
    ``writes_state``: whether it comes from the DRAM at the beginning, and goes there at the end. ``chunk``: tokens of a
    chunk, 0 where a mapping may choose. ``whole``: the scan that this is a cut of.
    """

    name: str
    form: ScanForm
    groups: int
    heads: int
    n_tokens: int
    key_dim: int
    value_dim: int
    key_bits: int | Fraction
    value_bits: int | Fraction
    out_bits: int | Fraction
    compute_format: str
    query_bits: int | Fraction = 0
    gates: int = 0
    column_gates: int = 0
    gate_bits: int | Fraction = 0
    parameter_bits: int | Fraction = 0
    state_bits: int | Fraction = 32
    reads_state: bool = False
    writes_state: bool = False
    chunk: int = 0
    gate_operations: tuple[tuple[str, int], ...] = ()
    value_operations: tuple[tuple[str, int], ...] = ()
    whole: ScanLayer | None = None
    homes: VectorHomes = ROWS_IN_DRAM

    def __post_init__(self) -> None:
        for field in ("groups", "heads", "n_tokens", "key_dim", "value_dim"):
            if getattr(self, field) < 1:
                raise InputError(f"{self.name}: {field}: given {getattr(self, field)}; allowed 1 or more")
        if not 0 <= self.chunk <= self.n_tokens:
            raise InputError(
                f"{self.name}: chunk: given {self.chunk}; allowed 1 to {self.n_tokens}, the tokens of the sequence"
            )
        if self.form.startswith("channel") and self.heads > 1:
            raise InputError(f"{self.name}: heads: given {self.heads} that share keys; allowed 1 with gates by channel")

    @property
    def n_groups(self) -> int:
        return self.groups

    @property
    def pair_bits(self) -> int | Fraction:
        """Of a key and a query."""
        return self.key_bits + (self.query_bits or self.key_bits)

    @property
    def has_products(self) -> bool:
        """Whether its chunked form has products for a matrix unit."""
        return self.form != "selective"

    @property
    def is_delta(self) -> bool:
        return self.form in ("delta", "channel_delta")

    @property
    def by_channel(self) -> bool:
        return self.form in ("channel_decay", "channel_delta")

    @property
    def macs(self) -> int:
        """Multiply-adds with the state, which every form does: its update and its use; of the delta rule one more."""
        whole = self.whole or self
        per_element = 3 if self.is_delta else 2
        columns = whole.groups * whole.heads * whole.value_dim
        return per_element * whole.n_tokens * columns * whole.key_dim

    @property
    def compulsory_bytes(self) -> int:
        """What comes from and goes to the DRAM at least: inputs and results once, states that are kept there."""
        whole = self.whole or self
        bits = whole.groups * (
            whole.n_tokens * whole.key_dim * whole.pair_bits
            + whole.heads * (whole.n_tokens * whole.gates * whole.gate_bits)
            + whole.heads * whole.value_dim * whole.column_bits(whole.n_tokens)
        )
        return int(-(-Fraction(bits) // BITS_PER_BYTE))

    def column_bits(self, n_tokens: int) -> int | Fraction:
        """Bits of a value column over ``n_tokens``: values, results, gates of its own, parameters and its state."""
        of_token = self.value_bits + self.out_bits + self.column_gates * self.gate_bits
        states = self.key_dim * self.state_bits * (self.reads_state + self.writes_state)
        return n_tokens * of_token + self.parameter_bits + states

    def cuts(self, n_cores: int) -> tuple[ScanLayer, ...]:
        """Equal pieces for ``n_cores`` cores: groups, else heads of a group, else value columns; keys are read by each.

        What rounding up the extent of a piece adds is paid for.
        """
        if self.groups >= n_cores:
            return (self,)
        parts = ceil_div(n_cores, self.groups)
        if self.heads > 1:
            heads = ceil_div(self.heads, parts)
            return (replace(self, groups=self.groups * ceil_div(self.heads, heads), heads=heads, whole=self),)
        columns = ceil_div(self.value_dim, parts)
        if columns == self.value_dim:
            return (self,)
        return (replace(self, groups=self.groups * ceil_div(self.value_dim, columns), value_dim=columns, whole=self),)
