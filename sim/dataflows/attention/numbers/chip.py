"""What an attention's commands compute on: the arrays in DRAM, and on-chip slots that refuse misuse."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.numbers.hazards import FloatArray, HazardError, Store
from tilewright.sim.numbers.interpreter import given
from tilewright.units import BITS_PER_BYTE
from tilewright.workloads.attention import RATIO_BITS, AttentionLayer
from tilewright.workloads.attention_reference import bias_shape, visible_pairs

__all__ = ["JOINED", "Chip", "Dram"]

JOINED = "S, capped and biased"  # the state of scores that all has joined


class Dram:
    """The arrays in DRAM, one entry per kv head of each batch entry; its query heads are stacked as rows.

    q (groups, rows, E), scaled by 1/sqrt(E); k (groups, N, E); v (groups, N, F); s, p (groups, rows, N) and o
    (groups, rows, F) hold NaN until stored. Scores that the mask hides are no data: S starts there as minus
    infinity and P as 0, since a tile of a later pass may cover some that no tile of an earlier pass has touched.
    ``row_sums`` (groups, rows, 2): maxima and sums of rows whose O is stored undivided.
    ``visible`` (groups, rows, N) is the mask. ``bias`` has the layer's extents, ``sinks`` a logit per query head.
    """

    def __init__(
        self,
        layer: AttentionLayer,
        q: npt.ArrayLike,
        k: npt.ArrayLike,
        v: npt.ArrayLike,
        *,
        bias: npt.ArrayLike | None = None,
        sinks: npt.ArrayLike | None = None,
        soft_cap: float | None = None,
        residual: npt.ArrayLike | None = None,
        ratios: npt.ArrayLike | None = None,
    ) -> None:
        heads, kv_heads = layer.query_heads, layer.kv_heads
        groups, rows = layer.batch * kv_heads, layer.queries_per_kv_head * layer.query_len
        q = given("q", q, (layer.batch, heads, layer.query_len, layer.head_dim))
        k = given("k", k, (layer.batch, kv_heads, layer.key_len, layer.head_dim))
        v = given("v", v, (layer.batch, kv_heads, layer.key_len, layer.value_dim))
        self.layer = layer
        self.bias = given("bias", [] if bias is None else bias, bias_shape(layer) if layer.has_bias else (0,))
        self.sinks = given("sinks", [] if sinks is None else sinks, (heads,) if layer.sinks else (0,))
        shape = (layer.batch, heads, layer.query_len)
        of_values, of_rows = (*shape, layer.value_dim), shape
        self.residual = given(
            "residual", [] if residual is None else residual, of_values if layer.residual_format else (0,)
        )
        self.ratios = given("ratios", [] if ratios is None else ratios, of_rows if layer.ratios else (0,))
        if layer.residual_format:
            self.residual = self.residual.reshape(groups, rows, layer.value_dim)
        if layer.ratios:
            self.ratios = self.ratios.reshape(groups, rows)
        self.soft_cap = soft_cap
        if layer.soft_cap != (soft_cap is not None and soft_cap > 0):
            raise InputError(f"soft_cap: given {soft_cap}; allowed {'a number above 0' if layer.soft_cap else 'none'}")
        self.q = q.reshape(groups, rows, layer.head_dim) / math.sqrt(layer.head_dim)
        self.k = k.reshape(groups, layer.key_len, layer.head_dim)
        self.v = v.reshape(groups, layer.key_len, layer.value_dim)
        if layer.blocks is None:
            entries = np.stack([_seen_keys(layer, entry) for entry in range(layer.batch)])
            self.visible = np.repeat(np.tile(entries, (1, layer.queries_per_kv_head, 1)), kv_heads, axis=0)
        else:
            heads_seen = visible_pairs(layer).reshape(kv_heads, rows, layer.key_len)
            self.visible = np.tile(heads_seen, (layer.batch, 1, 1))
        self.s = np.where(self.visible, np.nan, -np.inf)
        self.p = np.where(self.visible, np.nan, 0.0)
        self.o = np.full((groups, rows, layer.value_dim), np.nan)
        self.row_sums = np.full((groups, rows, 2), np.nan)

    def output(self) -> FloatArray:
        """O by batch entries and query heads; raises HazardError for rows that nobody stored."""
        lost = np.argwhere(np.isnan(self.o).any(axis=-1))
        if len(lost):
            group, row = lost[0]
            raise HazardError(f"O of row {row} of kv head {group} was never stored to DRAM")
        layer = self.layer
        return self.o.reshape(layer.batch, layer.query_heads, layer.query_len, layer.value_dim)


def _seen_keys(layer: AttentionLayer, entry: int) -> npt.NDArray[np.bool_]:
    """(query_len, key_len): what the rows of one batch entry see, each of a piece as many as it does in the whole."""
    seen = np.zeros((layer.query_len, layer.key_len), dtype=bool)
    whole = layer.whole or layer
    for row in range(layer.query_len):
        if layer.stripes > 1:  # a row behind the last sees what that one does
            seen[
                row, slice(*whole.visible_keys(min(row * layer.stripes + entry % layer.stripes, whole.query_len - 1)))
            ] = True
        elif layer.deals_keys:
            first, stop = (-(-(end - entry % layer.key_parts) // layer.key_parts) for end in whole.visible_keys(row))
            seen[row, max(0, first) : max(0, stop)] = True
        elif layer.key_parts > 1:
            seen[row, : whole.key_len - entry % layer.key_parts * layer.key_len] = True
        else:
            seen[row, slice(*layer.visible_keys(row))] = True
    return seen


class Chip:
    """What a command computes on: DRAM, the pools of the phase by name, and the width of a key tile."""

    def __init__(self, dram: Dram, core: AttentionCore, key: int) -> None:
        self.dram = dram
        self.key = key
        self.comes_again = False  # whether a tile of K or V is brought for each row block, also where not all are new
        self._core = core
        self._bytes = core.builder.buffer_bytes
        self.stores = {pool.name: self._store(pool.name, pool.slots) for pool in core.pools.values()}
        for name in self._bytes.keys() - self.stores.keys():  # reserved, but no pool: one slot
            self.registers(name, 1)

    def registers(self, name: str, n_slots: int) -> Store:
        """A store that is no pool of the lowering (row maxima, say); made at its first use."""
        if name not in self.stores:
            self.stores[name] = self._store(name, n_slots)
        return self.stores[name]

    def _store(self, name: str, n_slots: int) -> Store:
        """Slots as large as the lowering reserved under ``name``; without a limit where it reserved nothing."""
        reserved = self._bytes.get(name, 0)
        slot_bits = reserved * BITS_PER_BYTE // n_slots if reserved else None
        return Store(name, n_slots, slot_bits=slot_bits, bits_of=self._bits_of)

    def _bits_of(self, state: str) -> int | Fraction:
        costs = self._core.costs
        layer = costs.layer
        of_operand = {"Q": costs.query_bits, "K": costs.key_bits, "V": costs.value_bits}
        of_operand |= {"bias": layer.bias_bits, "sinks": layer.sink_bits}
        of_operand |= {"residual": layer.residual_bits, "ratio": RATIO_BITS}
        if state in of_operand:
            return of_operand[state]
        return costs.score_bits if state in ("S", JOINED, "exp(S)", "P") else costs.accumulator_bits
