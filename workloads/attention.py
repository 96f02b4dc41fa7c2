"""One attention layer: its extents, its mask, its number formats, and the reference result in float64.

For every batch entry and query head, S = Q K^T / sqrt(E), P = softmax(S) by rows, O = P V, where the rows of S that the
mask hides from a key count as minus infinity. Query head h reads key/value head h // (query_heads / kv_heads).

Query row i stands at the position of key i + key_len - query_len (the last query beside the last key), as in
FlashAttention-2; a causal row sees the keys up to its own position, a banded row those from window_left before its
position to window_right after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from tilewright.errors import InputError, did_you_mean
from tilewright.formats import format_bits
from tilewright.units import bits_to_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

__all__ = ["LARGEST_EXTENT", "MASKS", "AttentionLayer", "Mask", "reference_attention"]

Mask = Literal["none", "causal", "banded"]
MASKS: tuple[str, ...] = get_args(Mask)
LARGEST_EXTENT = 2**31 - 1

_EXTENTS = ("batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim")
_WINDOWS = ("window_left", "window_right")
_FORMATS = ("qkv_format", "score_format", "accumulator_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayer:
    """An attention layer, checked when it is made.

    ``batch`` entries of ``query_heads`` heads; Q is (query_len, head_dim), K is (key_len, head_dim) and V is
    (key_len, value_dim) for each head, with ``kv_heads`` different K and V. ``window_left`` and ``window_right`` count
    keys and belong to the banded mask (None: no limit on that side). Q, K, V and the output are stored in
    ``qkv_format``, S and P in ``score_format``; sums are kept in ``accumulator_format``.

    Raises InputError that names the field, what was given and what is allowed.
    """

    name: str
    batch: int
    query_heads: int
    kv_heads: int
    query_len: int
    key_len: int
    head_dim: int
    value_dim: int
    mask: Mask = "none"
    window_left: int | None = None
    window_right: int | None = None
    qkv_format: str = "fp16"
    score_format: str = "fp16"
    accumulator_format: str = "fp32"

    def __post_init__(self) -> None:
        for field in _EXTENTS:
            self._require_whole(field, at_least=1)
        for field in _FORMATS:
            self._require_format(field)
        if self.query_heads % self.kv_heads:
            raise self._fault(
                "kv_heads", "must divide the number of query heads", self.kv_heads, f"a divisor of {self.query_heads}"
            )
        self._check_mask()

    def _check_mask(self) -> None:
        if self.mask not in MASKS:
            raise self._fault("mask", "unknown mask", self.mask, ", ".join(MASKS), did_you_mean(str(self.mask), MASKS))
        if self.mask == "causal" and self.key_len < self.query_len:
            raise self._fault(
                "key_len",
                "a causal mask needs as many keys as queries, or more",
                self.key_len,
                f"{self.query_len} or more",
            )
        windows = {field: getattr(self, field) for field in _WINDOWS}
        if self.mask != "banded":
            for field, value in windows.items():
                if value is not None:
                    raise self._fault(field, "a window needs mask=banded", value, "mask=banded, or no window")
            return
        if all(value is None for value in windows.values()):
            raise self._fault(
                "window_left", "a banded mask needs a window", "none", "window_left, window_right or both"
            )
        for field, value in windows.items():
            if value is not None:
                self._require_whole(field, at_least=0)
        if self.window_right is not None and self.window_right + self._shift < 0:
            raise self._fault(
                "window_right",
                "the first query row would see no key",
                self.window_right,
                f"{-self._shift} or more for {self.query_len} queries and {self.key_len} keys",
            )

    def _require_whole(self, field: str, *, at_least: int) -> None:
        value = getattr(self, field)
        if type(value) is not int or not at_least <= value <= LARGEST_EXTENT:
            problem = "must be a whole number" if type(value) is not int else "out of range"
            raise self._fault(field, problem, value, f"whole numbers from {at_least} to {LARGEST_EXTENT}")

    def _require_format(self, field: str) -> None:
        try:
            format_bits(getattr(self, field))
        except InputError as error:
            raise InputError(f"{self.name}: {field}: {error}") from None

    def _fault(self, field: str, problem: str, given: object, allowed: str, hint: str = "") -> InputError:
        shown = f'"{given}"' if isinstance(given, str) else given
        return InputError(f"{self.name}: {field}: {problem}; given {shown}; allowed {allowed}{hint}")

    # --- which keys a row sees --------------------------------------------------------------------------------------

    @property
    def _shift(self) -> int:
        """Position of query row 0 among the keys."""
        return self.key_len - self.query_len

    @property
    def _reach(self) -> tuple[int | None, int | None]:
        """Keys seen before and after a row's own position; None is no limit."""
        if self.mask == "causal":
            return None, 0
        return self.window_left, self.window_right

    def visible_keys(self, first_row: int, n_rows: int = 1) -> tuple[int, int]:
        """First key, and key after the last, that any of ``n_rows`` query rows from ``first_row`` on can see.

        Rows count from 0 to query_len - 1. Every row sees at least one key, without gaps, and the keys of neighbouring
        rows touch or overlap: each key of the range is seen by at least one of the rows.
        """
        before, after = self._reach
        first = 0 if before is None else max(0, first_row + self._shift - before)
        stop = self.key_len if after is None else min(self.key_len, first_row + n_rows - 1 + self._shift + after + 1)
        return first, stop

    def common_keys(self, first_row: int, n_rows: int = 1) -> tuple[int, int]:
        """First key, and key after the last, that all of ``n_rows`` query rows from ``first_row`` on can see.

        A tile inside this range needs no mask. The range is empty (first == stop) when the rows share no key.
        """
        first, _ = self.visible_keys(first_row + n_rows - 1)
        _, stop = self.visible_keys(first_row)
        return first, max(first, stop)

    @property
    def n_scores_per_head(self) -> int:
        """Entries of S that the mask leaves, for one head of one batch entry (closed form, exact)."""
        before, after = self._reach
        rows, keys, shift = self.query_len, self.key_len, self._shift
        stops = rows * keys if after is None else _sum_of_smaller(shift + after + 1, rows, keys)
        starts = 0 if before is None else _sum_of_positive(shift - before, rows)
        return stops - starts

    # --- how much work and data -------------------------------------------------------------------------------------

    @property
    def n_scores(self) -> int:
        """Entries of S that the mask leaves, over all heads and batch entries."""
        return self.batch * self.query_heads * self.n_scores_per_head

    @property
    def macs(self) -> int:
        """Multiply-accumulates of Q K^T and P V that the mask leaves: head_dim + value_dim for each entry of S."""
        return self.n_scores * (self.head_dim + self.value_dim)

    @property
    def n_groups(self) -> int:
        """Independent pieces: key/value heads over all batch entries, each with its query heads."""
        return self.batch * self.kv_heads

    @property
    def queries_per_kv_head(self) -> int:
        """Query heads that share one key/value head."""
        return self.query_heads // self.kv_heads

    @property
    def qkv_bits(self) -> int:
        """Bits of one value of Q, K, V and the output."""
        return format_bits(self.qkv_format)

    @property
    def score_bits(self) -> int:
        """Bits of one value of S and P."""
        return format_bits(self.score_format)

    @property
    def accumulator_bits(self) -> int:
        """Bits of one running sum."""
        return format_bits(self.accumulator_format)

    @property
    def query_bytes(self) -> int:
        """Bytes of Q over all heads and batch entries."""
        return self._stored_bytes(self.query_heads * self.query_len * self.head_dim)

    @property
    def key_bytes(self) -> int:
        """Bytes of the keys that at least one query sees, over all key/value heads and batch entries."""
        first, stop = self.visible_keys(0, self.query_len)
        return self._stored_bytes(self.kv_heads * (stop - first) * self.head_dim)

    @property
    def value_bytes(self) -> int:
        """Bytes of the values that at least one query sees, over all key/value heads and batch entries."""
        first, stop = self.visible_keys(0, self.query_len)
        return self._stored_bytes(self.kv_heads * (stop - first) * self.value_dim)

    @property
    def output_bytes(self) -> int:
        """Bytes of the output over all heads and batch entries."""
        return self._stored_bytes(self.query_heads * self.query_len * self.value_dim)

    @property
    def score_bytes(self) -> int:
        """Bytes of the unmasked S (or P) over all heads and batch entries, as an unfused schedule would store it."""
        n_values = self.batch * self.query_heads * self.query_len * self.key_len
        return bits_to_bytes(n_values * self.score_bits)

    def _stored_bytes(self, n_values_per_batch_entry: int) -> int:
        return bits_to_bytes(self.batch * n_values_per_batch_entry * self.qkv_bits)


def _sum_of_smaller(start: int, count: int, limit: int) -> int:
    """Sum of min(start + i, limit) over i = 0 .. count - 1."""
    n_below = min(count, max(0, limit - start))
    return n_below * start + n_below * (n_below - 1) // 2 + (count - n_below) * limit


def _sum_of_positive(start: int, count: int) -> int:
    """Sum of max(start + i, 0) over i = 0 .. count - 1."""
    n_skipped = min(count, max(0, -start))
    rest = count - n_skipped
    return rest * (start + n_skipped) + rest * (rest - 1) // 2


def reference_attention(layer: AttentionLayer, q: FloatArray, k: FloatArray, v: FloatArray) -> FloatArray:
    """The layer's result, softmax(Q K^T / sqrt(E)) V with its mask, in float64.

    Shapes: ``q`` (batch, query_heads, query_len, head_dim), ``k`` (batch, kv_heads, key_len, head_dim), ``v`` (batch,
    kv_heads, key_len, value_dim); the result is (batch, query_heads, query_len, value_dim). Masked scores are minus
    infinity before the softmax, whose row maximum is subtracted first. Raises InputError when a shape is another.
    """
    import numpy as np

    _require_shapes(layer, q, k, v)
    grouped = np.asarray(q, dtype=np.float64).reshape(
        layer.batch, layer.kv_heads, layer.queries_per_kv_head, layer.query_len, layer.head_dim
    )
    keys, values = np.asarray(k, dtype=np.float64), np.asarray(v, dtype=np.float64)
    scores = np.einsum("bgrme,bgne->bgrmn", grouped, keys) / math.sqrt(layer.head_dim)
    key_index = np.arange(layer.key_len)
    for row in range(layer.query_len):
        first, stop = layer.visible_keys(row)
        scores[..., row, (key_index < first) | (key_index >= stop)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    output: FloatArray = np.einsum("bgrmn,bgnf->bgrmf", weights, values)
    return output.reshape(layer.batch, layer.query_heads, layer.query_len, layer.value_dim)


def _require_shapes(layer: AttentionLayer, q: FloatArray, k: FloatArray, v: FloatArray) -> None:
    wanted: Iterable[tuple[str, FloatArray, tuple[int, ...]]] = (
        ("q", q, (layer.batch, layer.query_heads, layer.query_len, layer.head_dim)),
        ("k", k, (layer.batch, layer.kv_heads, layer.key_len, layer.head_dim)),
        ("v", v, (layer.batch, layer.kv_heads, layer.key_len, layer.value_dim)),
    )
    for field, array, shape in wanted:
        if tuple(array.shape) != shape:
            raise InputError(f"{layer.name}: {field}: wrong shape; given {tuple(array.shape)}; allowed {shape}")
