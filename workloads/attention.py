"""One attention layer: its extents, its mask, what joins its scores, and its number formats.

For every batch entry and query head, S = Q K^T / sqrt(E), P = softmax(S) by rows, O = P V, where the rows of S that the
mask hides from a key count as minus infinity. Query head h reads key/value head h // (query_heads / kv_heads).

What may join the scores, in this order: a soft cap c makes c tanh(S / c) of them (Gemma 2, arXiv 2408.00118); a bias,
read from memory, is added (T5, arXiv 1910.10683); a sink is one learned logit per query head that takes part in the
softmax of each row as a key of value zero would (gpt-oss; Xiao et al., arXiv 2309.17453). The result in float64 is
:func:`tilewright.workloads.attention_reference.reference_attention`.

Query row i stands at the position of key i + key_len - query_len (the last query beside the last key), as in
FlashAttention-2; a causal row sees the keys up to its own position, a banded row those from window_left before its
position to window_right after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from tilewright.errors import InputError, unknown
from tilewright.formats import element_format, format_bits, tensor_bits, tensor_format
from tilewright.units import bits_to_bytes
from tilewright.workloads.homes import ALL_IN_DRAM, DRAM, AttentionHomes
from tilewright.workloads.masks.lists import BlockMask

__all__ = ["LARGEST_EXTENT", "MASKS", "RATIO_BITS", "REORDERS", "AttentionLayer", "Mask"]

Mask = Literal["none", "causal", "banded", "blocks"]
MASKS: tuple[str, ...] = tuple(name for name in get_args(Mask) if name != "blocks")
LARGEST_EXTENT = 2**31 - 1
REORDERS = ("copy", "in_place")
RATIO_BITS = 32

_EXTENTS = ("batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim")
_WINDOWS = ("window_left", "window_right")
_ELEMENT_FORMATS = ("score_format", "probability_format", "accumulator_format")
_OWN_FORMATS = ("key_format", "value_format", "output_format", "bias_format", "sink_format")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayer:
    """An attention layer, checked when it is made.

    ``batch`` entries of ``query_heads`` heads; Q is (query_len, head_dim), K is (key_len, head_dim) and V is
    (key_len, value_dim) for each head, with ``kv_heads`` different K and V. ``window_left`` and ``window_right`` count
    keys and belong to the banded mask (None: no limit on that side).

    ``bias_batch``, ``bias_heads`` and ``bias_rows`` are the extents of an additive bias (all 0: there is none): it
    holds key_len values for each of ``bias_rows`` query rows (query_len, or 1 for all), of ``bias_heads`` heads
    (query_heads, or 1 for all), of ``bias_batch`` entries (a divisor of batch). It hides nothing. ``sinks``: one logit
    per query head. ``soft_cap``: the scores are capped; by how much costs nothing more or less. ``homes``: where its
    tensors are kept while it runs.

    Q is stored in ``qkv_format``, S in ``score_format``, P in ``probability_format`` (that of S where none is given);
    sums are kept in ``accumulator_format``. K, V, the output, the bias and the sinks have formats of their own, that
    of Q where none is given. Stored formats may have
    scales (``int8-g32``), which lie along the last dimension. Products multiply in the wider of their operands'
    formats.

    ``whole``: the layer that this is a cut of (:meth:`cuts`); blocks of its query rows are then batch entries, and
    parts of the query heads of a key/value head have a head of their own, so that K and V are read for each.
    ``stripes``: its rows are every so many of the whole's, so that the pieces of a mask see about as many keys; a piece
    stands for all of them, which run side by side, and sees what the one that sees most does. ``key_parts``: its keys
    are one of so many parts of the whole's (:meth:`key_cuts`), also batch entries: neighbouring keys or, under a mask,
    every so many (:attr:`deals_keys`), so that each row sees about as many in every part.

    ``blocks``: the mask ``blocks`` as lists of key blocks, by query head, the same for all batch entries. ``choosing``:
    they are chosen here, which costs what the mask says. ``reorder``: its tokens are stored in another order than that
    of the mask; ``copy``: Q, K and V are put into its order before, and the result back behind it; ``in_place``: tiles
    are gathered from, and scattered to, where they are.

    ``residual_format``: to the result is added a tensor as large as it, in this format, that an earlier step left
    (empty: none); ``ratios``: before, each row of it is multiplied by a ratio in fp32 that such a step left.

    ``newest_keys``: so many of the last keys and values are stored as they are made, in the format of Q (the window
    that a quantised cache leaves as it is); a tile has its even share of them.

    ``engine``: the machine's quantised engine that does it; the formats of Q, K and V are then those that its pass over
    them leaves.

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
    key_format: str = ""
    value_format: str = ""
    output_format: str = ""
    bias_batch: int = 0
    bias_heads: int = 0
    bias_rows: int = 0
    bias_format: str = ""
    sinks: bool = False
    sink_format: str = ""
    soft_cap: bool = False
    probability_format: str = ""
    engine: Any = None
    homes: AttentionHomes = ALL_IN_DRAM
    whole: AttentionLayer | None = None
    stripes: int = 1
    key_parts: int = 1
    newest_keys: int = 0
    blocks: BlockMask | None = None
    choosing: bool = False
    reorder: str = ""
    residual_format: str = ""
    ratios: bool = False

    def __post_init__(self) -> None:
        if not self.probability_format:
            object.__setattr__(self, "probability_format", self.score_format)
        for field in _OWN_FORMATS:
            if not getattr(self, field):
                object.__setattr__(self, field, self.qkv_format)
        for field in _EXTENTS:
            self._require_whole(field, at_least=1)
        for field in ("qkv_format", *_ELEMENT_FORMATS, *_OWN_FORMATS):
            self._require_format(field)
        self._check_bias()
        if self.newest_keys:
            self._require_whole("newest_keys", at_least=0)
        if self.query_heads % self.kv_heads:
            raise self._fault(
                "kv_heads", "must divide the number of query heads", self.kv_heads, f"a divisor of {self.query_heads}"
            )
        self._check_mask()
        self._check_steps()

    def _check_steps(self) -> None:
        """Choosing and reordering go with lists that say what these are."""
        for field in ("choosing", "ratios"):
            if type(getattr(self, field)) is not bool:
                raise self._fault(field, "must be true or false", getattr(self, field), "true, false")
        if self.residual_format:
            self._require_format("residual_format")
        if self.reorder not in ("", *REORDERS):
            raise unknown("reorder", self.reorder, REORDERS, place=f"{self.name}: reorder")
        lists = self.blocks
        if self.choosing and (lists is None or lists.selection is None):
            raise self._fault(
                "choosing", "needs lists that are chosen", self.mask_text, "a mask that says how, or false"
            )
        if self.reorder and (lists is None or lists.order is None):
            raise self._fault(
                "reorder", "needs a mask over tokens in an order of its own", self.mask_text,
                "sliding_tile, spatial_temporal, or none",
            )  # fmt: skip

    @property
    def mask_text(self) -> str:
        """The mask as a person writes it, without windows."""
        return self.blocks.text if self.blocks is not None else self.mask

    @property
    def takes_cached(self) -> bool:
        """Whether what an earlier step left joins the result."""
        return bool(self.residual_format) or self.ratios

    def without_lists(self, mask: Mask) -> AttentionLayer:
        """The layer with ``mask`` in place of lists, and without what goes with these."""
        return replace(
            self, mask=mask, blocks=None, window_left=None, window_right=None, choosing=False, reorder=""
        )  # fmt: skip

    def _check_mask(self) -> None:
        if self.mask not in (*MASKS, "blocks"):
            raise unknown("mask", self.mask, MASKS, place=f"{self.name}: mask")
        self._check_blocks()
        if self.mask == "causal" and self.key_len < self.query_len and self.key_parts == 1:
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

    def _check_blocks(self) -> None:
        lists = self.blocks
        if (self.mask == "blocks") != (lists is not None):
            raise self._fault("blocks", "go with the mask blocks", self.mask, "mask=blocks and its lists, or neither")
        if lists is None:
            return
        own = (self.query_heads, self.query_len, self.key_len)
        of_lists = (lists.n_heads, lists.query_len, lists.key_len)
        if own != of_lists:
            raise self._fault("blocks", "lists for another layer (heads, queries, keys)", of_lists, str(own))
        if self.has_bias:
            raise self._fault("bias", "cannot be added under lists of blocks", self.bias_rows, "no bias, or a band")

    def _check_bias(self) -> None:
        for field in ("sinks", "soft_cap"):
            if type(getattr(self, field)) is not bool:
                raise self._fault(field, "must be true or false", getattr(self, field), "true, false")
        extents = {"bias_batch": self.batch, "bias_heads": self.query_heads, "bias_rows": self.query_len}
        given = {field: getattr(self, field) for field in extents}
        if not any(given.values()):
            return
        for field, whole in extents.items():
            self._require_whole(field, at_least=1)
            divides = field == "bias_batch" and whole % given[field] == 0
            if given[field] not in (1, whole) and not divides:
                raise self._fault(field, "a bias must spread over the scores", given[field], f"1 or {whole}")

    def _require_whole(self, field: str, *, at_least: int) -> None:
        value = getattr(self, field)
        if type(value) is not int or not at_least <= value <= LARGEST_EXTENT:
            problem = "must be a whole number" if type(value) is not int else "out of range"
            raise self._fault(field, problem, value, f"whole numbers from {at_least} to {LARGEST_EXTENT}")

    def _require_format(self, field: str) -> None:
        try:
            (format_bits if field in _ELEMENT_FORMATS else tensor_format)(getattr(self, field))
        except InputError as error:
            raise InputError(f"{self.name}: {field}: {error}") from None

    def _fault(self, field: str, problem: str, given: object, allowed: str, hint: str = "") -> InputError:
        shown = f'"{given}"' if isinstance(given, str) else given
        return InputError(f"{self.name}: {field}: {problem}; given {shown}; allowed {allowed}{hint}")

    # --- which keys a row sees --------------------------------------------------------------------------------------

    @property
    def _shift(self) -> int:
        """Position of query row 0 among the keys."""
        if self.deals_keys:
            assert self.whole is not None
            return self.whole._shift
        if self.stripes > 1:
            assert self.whole is not None
            return self.key_len - self.whole.query_len
        return self.key_len - self.query_len

    @property
    def deals_keys(self) -> bool:
        """Whether its keys are every so many of the whole's, key 0 in the first part, key 1 in the second."""
        return self.key_parts > 1 and self.mask != "none"

    @property
    def _reach(self) -> tuple[int | None, int | None]:
        """Keys seen before and after a row's own position; None is no limit."""
        if self.mask == "causal":
            return None, 0
        return self.window_left, self.window_right

    def with_plain_mask(self) -> AttentionLayer:
        """The same layer with the plainest mask that hides the same, and without the keys that no row sees.

        No mask for a band that hides nothing else, causal for a band with the causal one's reach, no window where it
        reaches beyond the last row or key. The keys before the first row's window are dropped: nobody reads them.
        """
        if self.mask == "none" or self.stripes > 1 or self.key_parts > 1:
            return self
        mask: Mask
        if self.blocks is not None:
            mask = "causal" if self.blocks.causal else "none"
            return self.without_lists(mask).with_plain_mask() if self.blocks.is_full else self
        before, after = self._reach
        keys = self.key_len - self.visible_keys(0)[0]  # the last row sees the last key, so only early keys are hidden
        if before is not None and before >= keys - 1:  # the last row still sees the first key
            before = None
        if after is not None and after >= self.query_len - 1:  # the first row sees the last key
            after = None
        mask = "banded"
        if before is None and after in (None, 0):
            mask = "none" if after is None else "causal"
        windows = (before, after) if mask == "banded" else (None, None)
        if (mask, *windows, keys) == (self.mask, self.window_left, self.window_right, self.key_len):
            return self
        return replace(self, mask=mask, window_left=windows[0], window_right=windows[1], key_len=keys)

    def visible_keys(self, first_row: int, n_rows: int = 1) -> tuple[int, int]:
        """First key, and key after the last, that any of ``n_rows`` query rows from ``first_row`` on can see.

        Rows count from 0 to query_len - 1. Every row sees at least one key, without gaps, and the keys of neighbouring
        rows touch or overlap: each key of the range is seen by at least one of the rows. Of dealt keys: what is seen in
        any of the parts.
        """
        if self.deals_keys:
            assert self.whole is not None
            first, stop = self.whole.visible_keys(first_row, n_rows)
            return first // self.key_parts, -(-stop // self.key_parts)
        before, after = self._reach
        first_row, n_rows = first_row * self.stripes, n_rows * self.stripes
        first = 0 if before is None else max(0, first_row + self._shift - before)
        stop = self.key_len if after is None else min(self.key_len, first_row + n_rows - 1 + self._shift + after + 1)
        return first, stop

    def common_keys(self, first_row: int, n_rows: int = 1) -> tuple[int, int]:
        """First key, and key after the last, that all of ``n_rows`` query rows from ``first_row`` on can see.

        A tile inside this range needs no mask. The range is empty (first == stop) when the rows share no key.
        """
        if self.deals_keys:
            assert self.whole is not None
            first, stop = self.whole.common_keys(first_row, n_rows)
            first, stop = -(-first // self.key_parts), stop // self.key_parts
            return first, max(first, stop)
        first, _ = self.visible_keys(first_row + n_rows - 1)
        _, stop = self.visible_keys(first_row)
        return first, max(first, stop)

    @property
    def n_scores_per_head(self) -> int:
        """Entries of S that the mask leaves, for one head of one batch entry (closed form, exact; of a piece whose rows
        lie in stripes, or whose keys are dealt, as many as all of them have at least; of lists of blocks those of the
        head that has most).
        """
        if self.blocks is not None:
            return max(self.blocks.pairs_of_patterns)
        if self.deals_keys:
            assert self.whole is not None
            return -(-self.whole.n_scores_per_head // self.key_parts)
        if self.stripes > 1:
            assert self.whole is not None
            return -(-self.whole.n_scores_per_head // self.stripes)
        before, after = self._reach
        rows, keys, shift = self.query_len, self.key_len, self._shift
        stops = rows * keys if after is None else _sum_of_smaller(shift + after + 1, rows, keys)
        starts = 0 if before is None else _sum_of_positive(shift - before, rows)
        return stops - starts

    # --- how much work and data -------------------------------------------------------------------------------------

    @property
    def n_scores(self) -> int:
        """Entries of S that the mask leaves, over all heads and batch entries."""
        if self.blocks is not None:
            return self.batch * self.blocks.n_pairs
        return self.batch * self.query_heads * self.n_scores_per_head

    @property
    def n_rows(self) -> int:
        """Query rows that see any key, over all heads and batch entries."""
        if self.blocks is not None:
            return self.batch * self.blocks.n_seeing_rows
        return self.batch * self.query_heads * self.query_len

    @property
    def n_divisions(self) -> int:
        """The fewest divisions that normalise all rows: of the output, or of the scores where these are fewer."""
        if self.blocks is not None:
            return self.batch * self.blocks.n_divisions(self.value_dim)
        return min(self.n_scores, self.n_rows * self.value_dim)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of Q K^T and P V that the mask leaves: head_dim + value_dim for each entry of S."""
        if self.whole is not None:
            return self.whole.macs
        return self.n_scores * (self.head_dim + self.value_dim)

    @property
    def n_groups(self) -> int:
        """Independent pieces: key/value heads over all batch entries, each with its query heads."""
        return self.batch * self.kv_heads

    @property
    def queries_per_kv_head(self) -> int:
        """Query heads that share one key/value head."""
        return self.query_heads // self.kv_heads

    def cuts(self, n_cores: int) -> tuple[AttentionLayer, ...]:
        """The ways to give ``n_cores`` cores something to do where there are fewer key/value heads: query heads that
        share one apart, and 2, 4, 8 ... blocks of query rows apart; under a mask every so many rows instead of blocks,
        for then all see about as many keys. Most pieces come first, the layer as it is last.
        """
        if self.n_groups >= n_cores or self.blocks is not None:  # rows of lists are dealt out one by one
            return (self,)
        found: dict[AttentionLayer, None] = {}
        for heads in self._parts_of_heads(n_cores):
            blocks = 1
            while blocks * heads * self.n_groups <= n_cores and blocks <= self.query_len:
                if blocks * heads > 1:
                    found[self._cut(heads, blocks)] = None
                if self.has_bias:
                    break
                blocks *= 2
        return (*sorted(found, key=lambda cut: -cut.n_groups), self)

    def _parts_of_heads(self, n_cores: int) -> list[int]:
        of_head = self.queries_per_kv_head
        return [n for n in range(1, of_head + 1) if of_head % n == 0 and n * self.n_groups <= n_cores]

    def _cut(self, heads: int, blocks: int) -> AttentionLayer:
        rows = -(-self.query_len // blocks)
        stripes = 1 if self.mask == "none" else blocks
        batch = self.batch * (-(-self.query_len // rows) if stripes == 1 else stripes)
        heads *= self.kv_heads
        return replace(self, kv_heads=heads, batch=batch, query_len=rows, whole=self, stripes=stripes)

    def key_cuts(self, n_cores: int) -> tuple[AttentionLayer, ...]:
        """The ways to cut its keys into 2, 4, 8 ... parts where there are fewer heads than ``n_cores``, with query
        heads that share a key/value head apart or not; most pieces first. Each makes partial results, which are then
        merged. Under a mask keys are dealt to the parts in turn, so that each row sees about as many in all of them
        (a row that sees none in a part has weight 0 there). None under lists of blocks, or with a bias.
        """
        if self.n_groups >= n_cores or self.blocks is not None or self.has_bias or self.whole is not None:
            return ()
        found: dict[AttentionLayer, None] = {}
        for heads in self._parts_of_heads(n_cores):
            n_parts = 2
            rows = self.queries_per_kv_head // heads * self.query_len
            while n_parts * heads * self.n_groups <= n_cores and n_parts <= min(self.key_len, rows * self.value_dim):
                keys = -(-self.key_len // n_parts)
                if self.mask != "none" or -(-self.key_len // keys) == n_parts:  # none without keys
                    of_heads, entries = self.kv_heads * heads, self.batch * n_parts
                    cut = replace(
                        self, kv_heads=of_heads, batch=entries, key_len=keys, whole=self, key_parts=n_parts
                    )  # fmt: skip
                    found[cut] = None
                n_parts *= 2
        return tuple(sorted(found, key=lambda cut: -cut.n_groups))

    # --- number formats -----------------------------------------------------------------------------------------------

    @property
    def qkv_bits(self) -> int | Fraction:
        """Bits moved for one value of Q, its part of the scales included (as for all stored tensors)."""
        return _bits(self.qkv_format, self.query_len, self.head_dim)

    @property
    def key_bits(self) -> int | Fraction:
        """Bits moved for one value of K."""
        return self._cached_bits(self.key_format, self.head_dim)

    @property
    def value_bits(self) -> int | Fraction:
        """Bits moved for one value of V."""
        return self._cached_bits(self.value_format, self.value_dim)

    def _cached_bits(self, number_format: str, width: int) -> int | Fraction:
        if not self.newest_keys:
            return _bits(number_format, self.key_len, width)
        whole = self.whole or self
        newest = min(whole.newest_keys, whole.key_len)
        rows = ((number_format, whole.key_len - newest), (self.qkv_format, newest))
        bits = Fraction(sum(tensor_bits(name, (n, width)) for name, n in rows if n), whole.key_len * width)
        return bits.numerator if bits.denominator == 1 else bits

    @property
    def output_bits(self) -> int | Fraction:
        """Bits moved for one value of the output."""
        return _bits(self.output_format, self.query_len, self.value_dim)

    @property
    def bias_bits(self) -> int | Fraction:
        """Bits moved for one value of the bias."""
        return _bits(self.bias_format, max(1, self.bias_rows), self.key_len)

    @property
    def sink_bits(self) -> int | Fraction:
        """Bits moved for one sink logit."""
        return _bits(self.sink_format, 1, self.query_heads)

    @property
    def score_bits(self) -> int:
        """Bits of one value of S, and of the room that P takes in its place."""
        return max(format_bits(self.score_format), format_bits(self.probability_format))

    @property
    def accumulator_bits(self) -> int:
        """Bits of one running sum."""
        return format_bits(self.accumulator_format)

    @property
    def score_product_format(self) -> str:
        """What Q K^T is multiplied in: the wider of the formats of Q and K (of Q where they are as wide)."""
        return _wider(element_format(self.qkv_format), element_format(self.key_format))

    @property
    def value_product_format(self) -> str:
        """What P V is multiplied in: the wider of the formats of V and of P (of V where they are as wide)."""
        return _wider(element_format(self.value_format), self.probability_format)

    # --- bytes --------------------------------------------------------------------------------------------------------

    @property
    def query_bytes(self) -> int:
        """Bytes of Q over all heads and batch entries (of rows that see no key none)."""
        return bits_to_bytes(self.n_rows * self.head_dim * self.qkv_bits)

    @property
    def n_seen_keys(self) -> int:
        """Keys that at least one query sees; they lie side by side (from the first to the last of lists of blocks)."""
        first, stop = self.visible_keys(0, self.query_len)
        return stop - first

    @property
    def _all_seen_keys(self) -> int:
        """Keys that at least one query of their head sees, over all key/value heads and batch entries."""
        if self.blocks is not None:
            return self.batch * self.blocks.n_seen_keys(self.kv_heads)
        return self.n_groups * self.n_seen_keys

    @property
    def key_bytes(self) -> int:
        """Bytes of the keys that at least one query sees, over all key/value heads and batch entries."""
        return bits_to_bytes(self._all_seen_keys * self.head_dim * self.key_bits)

    @property
    def value_bytes(self) -> int:
        """Bytes of the values that at least one query sees, over all key/value heads and batch entries."""
        return bits_to_bytes(self._all_seen_keys * self.value_dim * self.value_bits)

    @property
    def output_bytes(self) -> int:
        """Bytes of the output over all heads and batch entries."""
        return bits_to_bytes(self.batch * self.query_heads * self.query_len * self.value_dim * self.output_bits)

    @property
    def has_bias(self) -> bool:
        """Whether a bias is added to the scores."""
        return self.bias_rows > 0

    @property
    def bias_bytes(self) -> int:
        """Bytes of the entries of the bias that at least one query head adds to a score; 0 without a bias."""
        n_values = self.n_scores_per_head if self.bias_rows == self.query_len else self.n_seen_keys
        n_planes = self.bias_batch * self.bias_heads
        return bits_to_bytes(n_planes * n_values * self.bias_bits) if n_planes else 0

    @property
    def sink_bytes(self) -> int:
        """Bytes of the sink logits, one per query head for all batch entries; 0 without them."""
        return bits_to_bytes(self.query_heads * self.sink_bits) if self.sinks else 0

    @property
    def residual_bits(self) -> int | Fraction:
        """Bits moved for one value of the residual; 0 without one."""
        return _bits(self.residual_format, self.query_len, self.value_dim) if self.residual_format else 0

    @property
    def cached_bytes(self) -> int:
        """Bytes that an earlier step left for this one: the residual, and the ratios of rows."""
        rows = self.batch * self.query_heads * self.query_len
        return bits_to_bytes(rows * (self.value_dim * self.residual_bits + RATIO_BITS * self.ratios))

    @property
    def read_bytes(self) -> int:
        """Bytes of all that it must read, each once: Q, the keys and values seen, bias, sinks, what is cached."""
        own = self.query_bytes + self.key_bytes + self.value_bytes
        return own + self.bias_bytes + self.sink_bytes + self.cached_bytes

    @property
    def compulsory_bytes(self) -> int:
        """Bytes of all that it must move from and to the DRAM, each once: what does not live on chip."""
        if self.whole is not None:
            return self.whole.compulsory_bytes
        homes = self.homes
        own = zip(homes, (self.query_bytes, self.key_bytes, self.value_bytes, self.output_bytes), strict=False)
        return (
            sum(n_bytes for home, n_bytes in own if home == DRAM)
            + self.bias_bytes
            + self.sink_bytes
            + self.cached_bytes
        )

    @property
    def score_bytes(self) -> int:
        """Bytes of the unmasked S (or P) over all heads and batch entries, as an unfused schedule would store it."""
        n_values = self.batch * self.query_heads * self.query_len * self.key_len
        return bits_to_bytes(n_values * self.score_bits)


def _bits(number_format: str, rows: int, width: int) -> int | Fraction:
    """Bits moved for one value of a (rows, width) matrix; scales lie along the width."""
    fmt = tensor_format(number_format)
    if fmt.scale is None:
        return fmt.element.bits
    bits = Fraction(tensor_bits(number_format, (rows, width)), rows * width)
    return bits.numerator if bits.denominator == 1 else bits


def _wider(one: str, other: str) -> str:
    return other if format_bits(other) > format_bits(one) else one


def _sum_of_smaller(start: int, count: int, limit: int) -> int:
    """Sum of min(start + i, limit) over i = 0 .. count - 1."""
    n_below = min(count, max(0, limit - start))
    return n_below * start + n_below * (n_below - 1) // 2 + (count - n_below) * limit


def _sum_of_positive(start: int, count: int) -> int:
    """Sum of max(start + i, 0) over i = 0 .. count - 1."""
    n_skipped = min(count, max(0, -start))
    rest = count - n_skipped
    return rest * (start + n_skipped) + rest * (rest - 1) // 2
