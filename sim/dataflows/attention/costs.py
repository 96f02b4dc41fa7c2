"""What one tile of attention costs on a machine.

Assumptions that have their place here (:func:`attention_assumptions`, listed beside every result): the softmax scale is
folded into Q; a masked tile is computed whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from tilewright.hw_models.energy import Counters
from tilewright.hw_models.matrix_unit import elementwise
from tilewright.hw_models.quantised.attention import QuantisedAttention
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.beside import BESIDE_ASSUMPTION
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.units import bits_to_bytes, ceil_div
from tilewright.workloads.attention import RATIO_BITS, AttentionLayer
from tilewright.workloads.homes import Place, held_in
from tilewright.workloads.masks.lists import TokenOrder
from tilewright.workloads.vector_work import SOFT_CAP

__all__ = [
    "ARRAY_SOFTMAX",
    "AttentionCosts",
    "Joining",
    "attention_assumptions",
    "costs_of",
    "join_operations",
    "joined",
]

_ATTENTION_ASSUMPTIONS = (
    "Q K^T is multiplied in the wider of the formats of Q and K, P V in the wider of those of P and V; a narrower "
    "operand is widened as it enters the array, at no cost",
    "the scale 1/sqrt(E) is folded into Q and costs nothing",
    "a key tile that the mask cuts through is computed whole; a tile that it hides is not paid for",
    "softmax of a row block is three passes (maximum; subtract, exponential, sum; divide) in the layerwise, "
    "soft_pipe, flat, tileflow and mas dataflows, one pass with running maximum in fusemax and flash2",
    "room for row maxima, row sums and correction factors is not counted, but for the running ones of the "
    "one-pass dataflows",
    "entries of S and P that the mask hides read as minus infinity and zero where a later pass covers more of a "
    "row than was computed",
)


_BIAS_ASSUMPTION = (
    "a bias is loaded for each row block (or step) and key tile, again for every head that shares it, and added to the "
    "scores in the first pass of softmax; where the mask cuts a tile, its whole bias is loaded"
)
_SINK_ASSUMPTION = (
    "sinks are loaded once by each core; each costs a maximum, a subtraction, an exponential and an addition a row"
)
_SOFT_CAP_ASSUMPTION = (
    "a soft cap costs two multiplications and a tanh a score, done before the bias; no machine file gives a tanh "
    "figure, so it is counted as 1 - 2 / (exp(2x) + 1): a multiplication, an exponential, an addition, a division and "
    "a subtraction"
)
_STRIPES_ASSUMPTION = (
    "query rows are dealt to {} cores in turn, so that under the mask all see about as many keys; each computes the "
    "tiles of the one that sees most"
)
_DEALT_KEYS_ASSUMPTION = (
    "keys are dealt to {} parts in turn, so that under the mask every row sees about as many in each; a core computes "
    "the tiles of the part that sees most, and a row that sees no key of a part has weight 0 there"
)
_NARROW_P_ASSUMPTION = (
    "P is cast to {} with the last operation on it, at no cost, keeps the place of S, and is moved as wide as S"
)


_LISTS_ASSUMPTION = (
    "listed blocks are computed whole, and gathered from the DRAM as runs at their mean distance, anew for each row "
    "block where they do not stay on chip (resident); "
    "the lists are there and known to the load engine (choosing and reading them is not counted here)"
)


_GATHER_ASSUMPTION = (
    "tokens stay in the order in which they are stored: tiles of Q, K, V and the result are runs of those that lie "
    "side by side there, at one distance"
)
_CACHED_ASSUMPTION = (
    "what an earlier step left (a residual, ratios of rows) comes for each block of rows from the DRAM and joins the "
    "result before it is stored; the step that makes it is another layer"
)


def attention_assumptions(layer: AttentionLayer) -> tuple[str, ...]:
    """What is taken for granted about the costs of ``layer``."""
    return (
        *_ATTENTION_ASSUMPTIONS,
        *((_BIAS_ASSUMPTION,) if layer.has_bias else ()),
        *((_NARROW_P_ASSUMPTION.format(layer.probability_format),) if _has_narrow_p(layer) else ()),
        *engine_assumptions(layer),
        *((f"running sums are kept in {layer.accumulator_format}",) if layer.accumulator_format != "fp32" else ()),
        *((_STRIPES_ASSUMPTION.format(layer.stripes),) if layer.stripes > 1 else ()),
        *((_DEALT_KEYS_ASSUMPTION.format(layer.key_parts),) if layer.deals_keys else ()),
        *((_SINK_ASSUMPTION,) if layer.sinks else ()),
        *((_SOFT_CAP_ASSUMPTION,) if layer.soft_cap else ()),
        *((_LISTS_ASSUMPTION,) if layer.blocks is not None else ()),
        *((_CACHED_ASSUMPTION,) if layer.takes_cached else ()),
        *((BESIDE_ASSUMPTION,) if layer.choosing or layer.reorder == "copy" else ()),
        *((_GATHER_ASSUMPTION,) if layer.reorder == "in_place" else ()),
    )


def engine_assumptions(layer: AttentionLayer) -> tuple[str, ...]:
    """What is taken for granted of the quantised engine of ``layer``."""
    engine: QuantisedAttention | None = layer.engine
    if engine is None:
        return ()
    return (
        f"engine {engine.name} ({engine.source}) does attentions with Q, K and V in {engine.wide}: a pass of its own "
        f"stores Q and K in {engine.scores}, V in {engine.values}, and a burst is read when it is done",
        *(f"engine {engine.name}: {text}" for text in engine.assumptions),
        f"engine {engine.name}: scales of scores and of probabilities are multiplied with what joins the scores",
    )


def _has_narrow_p(layer: AttentionLayer) -> bool:
    return layer.probability_format != layer.score_format


class Joining(NamedTuple):
    """Vector operations as (kind, elements), and bits through the working buffer."""

    operations: tuple[tuple[str, int], ...]
    reads_bits: int | Fraction
    writes_bits: int


ARRAY_SOFTMAX = ("max", "sub", "exp", "add")


def join_operations(layer: AttentionLayer) -> tuple[tuple[str, int], ...]:
    """(kind, how many) of the element-wise operations on each score before softmax: soft cap, then bias; before them
    scales, where a quantised engine does it.
    """
    engine: QuantisedAttention | None = layer.engine
    cap = tuple(SOFT_CAP.items()) if layer.soft_cap else ()
    if engine is not None:
        cap = (*((kind, 1) for kind, _ in engine.of_scores), *cap)
    return (*cap, ("add", 1)) if layer.has_bias else cap


def joined(works: Sequence[Work]) -> Work:
    """Transfers of one channel as one: the longer latency, and all bytes."""
    first, *rest = works
    for other in rest:
        first = Work(
            max(first.cycles, other.cycles),
            first.n_bytes + other.n_bytes,
            0,
            first.energy_pj + other.energy_pj,
            first.counters + other.counters,
            first.channel,
        )
    return first


def costs_of(layer: AttentionLayer, machine: MachineSpec) -> AttentionCosts:
    """Costs of the tiles of ``layer``, and of merging what parts of its keys give."""
    if layer.key_parts == 1:
        return AttentionCosts(layer, machine)
    from tilewright.sim.dataflows.attention.key_parts import KeyPartsCosts  # which are costs of this kind

    return KeyPartsCosts(layer, machine)


class AttentionCosts(TileCosts):
    """Costs of the tiles of ``layer`` on ``machine`` (remembered by shape)."""

    def __init__(self, layer: AttentionLayer, machine: MachineSpec) -> None:
        super().__init__(layer, machine)
        self.layer: AttentionLayer = layer
        self.query_bits = layer.qkv_bits
        self.key_bits = layer.key_bits
        self.value_bits = layer.value_bits
        self.output_bits = layer.output_bits
        self.score_bits = layer.score_bits
        self.accumulator_bits = layer.accumulator_bits
        self.bias_bits = layer.bias_bits if layer.has_bias else 0
        self.sink_bits = layer.sink_bits if layer.sinks else 0
        self._joining = join_operations(layer)

    # -- loads of K and V --------------------------------------------------------------------------------

    def load_keys(self, n_keys: int) -> Work:
        """A tile of K; keys of a list are gathered, dealt ones lie apart."""
        return self._load_listed(n_keys, self.layer.head_dim, self.key_bits, self.layer.homes.k)

    def load_values(self, n_keys: int) -> Work:
        """A tile of V; of the keys of a list, gathered."""
        return self._load_listed(n_keys, self.layer.value_dim, self.value_bits, self.layer.homes.v)

    def _load_listed(self, n_keys: int, width: int, bits: int | Fraction, home: Place) -> Work:
        """Blocks of a list are runs of their own, at the mean distance of listed blocks; the last may be shorter."""
        mask = self.layer.blocks
        if self.layer.deals_keys and n_keys > 1:
            return self.load(n_keys, width, bits, stride_elements=self.layer.key_parts * width, home=home)
        order = self._gathered
        if order is not None:
            return self._load_apart(n_keys, width, bits, order, home)
        if mask is None or n_keys <= mask.block_keys:
            return self.load(1, n_keys * width, bits, home=home)
        block = mask.block_keys
        apart = max(1, round(1 / mask.density)) * block * width
        full, rest = divmod(n_keys, block)
        many = self.load(full, block * width, bits, stride_elements=apart if full > 1 else 0, home=home)
        if not rest:
            return many
        return joined([many, self.load(1, rest * width, bits, home=home)])

    @property
    def _gathered(self) -> TokenOrder | None:
        """Where tokens lie that tiles are gathered from; None where they lie in the mask's order."""
        mask = self.layer.blocks
        return mask.order if mask is not None and self.layer.reorder == "in_place" else None

    def _load_apart(self, n: int, width: int, bits: int | Fraction, order: TokenOrder, home: Place) -> Work:
        full, rest = divmod(n, order.run)
        stride = order.stride * width if full > 1 else 0
        works = [self.load(full, order.run * width, bits, stride_elements=stride, home=home)] if full else []
        return joined([*works, *([self.load(1, rest * width, bits, home=home)] if rest else [])])

    # -- sizes on chip ---------------------------------------------------------------------------------

    def query_bytes(self, n_elements: int) -> int:
        return bits_to_bytes(n_elements * self.query_bits)

    def key_bytes(self, n_elements: int) -> int:
        return bits_to_bytes(n_elements * self.key_bits)

    def value_bytes(self, n_elements: int) -> int:
        return bits_to_bytes(n_elements * self.value_bits)

    def score_bytes(self, n_elements: int) -> int:
        return bits_to_bytes(n_elements * self.score_bits)

    def accumulator_bytes(self, n_elements: int) -> int:
        return bits_to_bytes(n_elements * self.accumulator_bits)

    @property
    def sink_bytes(self) -> int:
        """Room for the logits of all heads."""
        return self.layer.sink_bytes

    def bias_tile_bytes(self, rows: int, keys: int) -> int:
        """Room for the bias of ``rows`` by ``keys`` scores: heads and rows that share it hold it once."""
        return bits_to_bytes(self._bias_runs(rows) * keys * self.bias_bits)

    def _bias_runs(self, rows: int) -> int:
        """Rows of the bias that ``rows`` neighbouring rows of the heads of a group have."""
        layer = self.layer
        by_head, by_row = layer.bias_heads > 1, layer.bias_rows > 1
        if by_head and by_row:
            return rows
        if by_row:
            return min(rows, layer.query_len)
        return ceil_div(rows, layer.query_len) if by_head else 1

    def held_bytes(self, buffer: str) -> int:
        return held_in(self.layer.homes, buffer)

    # -- transfers -------------------------------------------------------------------------------------

    def load_q(self, rows: int) -> Work:
        """Bring ``rows`` rows of Q: side by side, or each in its stripe."""
        if self._gathered is not None:
            return self._load_apart(rows, self.layer.head_dim, self.query_bits, self._gathered, self.layer.homes.q)
        n_runs, width, stride = self._row_runs(rows, self.layer.head_dim)
        return self.load(n_runs, width, self.query_bits, stride_elements=stride, home=self.layer.homes.q)

    def store_o(self, rows: int) -> Work:
        """Write ``rows`` rows of the output, which lie as those of Q do."""
        order = self._gathered
        if order is not None:
            full, rest = divmod(rows, order.run)
            width, home = self.layer.value_dim, self.layer.homes.out
            stride = order.stride * width if full > 1 else 0
            works = [
                self.store(n, size * width, self.output_bits, stride_elements=apart, home=home)
                for n, size, apart in ((full, order.run, stride), (1 if rest else 0, rest, 0))
                if n
            ]
            return joined(works)
        n_runs, width, stride = self._row_runs(rows, self.layer.value_dim)
        return self.store(n_runs, width, self.output_bits, stride_elements=stride, home=self.layer.homes.out)

    def _row_runs(self, rows: int, width: int) -> tuple[int, int, int]:
        """(runs, elements of a run, their distance) of neighbouring rows of a piece."""
        stripes = self.layer.stripes
        return (1, rows * width, 0) if stripes == 1 else (rows, width, stripes * width)

    def load_cached(self, rows: int) -> Work:
        """Bring the residual and the ratios of ``rows`` rows."""
        layer = self.layer
        n_runs, width, stride = self._row_runs(rows, layer.value_dim)
        works = []
        if layer.residual_format:
            works.append(self.load(n_runs, width, layer.residual_bits, stride_elements=stride))
        if layer.ratios:
            works.append(self.load(1, rows, RATIO_BITS))
        return joined(works)

    def cached_bytes(self, rows: int) -> int:
        """Room for the residual and the ratios of ``rows`` rows."""
        layer = self.layer
        return bits_to_bytes(rows * (layer.value_dim * layer.residual_bits + RATIO_BITS * layer.ratios))

    # -- transfers of what joins the scores -------------------------------------------------------------

    def load_bias(self, rows: int, keys: int) -> Work:
        """Bring the bias of ``rows`` by ``keys`` scores, rows of key_len values apart."""
        runs = self._bias_runs(rows)
        return self.load(runs, keys, self.bias_bits, stride_elements=self.layer.key_len)

    def load_sinks(self, n_groups: int) -> Work:
        """Bring the sinks' logits of the query heads of ``n_groups`` key/value heads, which batch entries share."""
        heads = min(n_groups, self.layer.kv_heads) * self.layer.queries_per_kv_head
        return self.load(1, heads, self.sink_bits)

    # -- matrix work -----------------------------------------------------------------------------------

    def scores(self, rows: int, keys: int) -> Work:
        """S tile (rows, keys) = Q (rows, E) K^T (E, keys)."""
        return self._scores(rows, keys, out_bits=self.score_bits)

    def scores_in_array(self, rows: int, keys: int) -> Work:
        """S tile that stays in the array's registers."""
        return self._scores(rows, keys, out_bits=0)

    def _scores(self, rows: int, keys: int, *, out_bits: int) -> Work:
        return self._remember(
            ("scores", rows, keys, out_bits),
            lambda: self.product(
                rows,
                self.layer.head_dim,
                keys,
                number_format=self.layer.score_product_format,
                a_bits=self.query_bits,
                b_bits=self.key_bits,
                out_bits=out_bits,
                partial_bits=self.accumulator_bits,
                add_to=False,
            ),
        )

    def values(self, rows: int, keys: int, *, add_to: bool) -> Work:
        """O tile (rows, F) = or += P (rows, keys) V (keys, F)."""
        return self._remember(
            ("values", rows, keys, add_to),
            lambda: self.product(
                rows,
                keys,
                self.layer.value_dim,
                number_format=self.layer.value_product_format,
                a_bits=self.score_bits,
                b_bits=self.value_bits,
                out_bits=self.accumulator_bits,
                partial_bits=self.accumulator_bits,
                add_to=add_to,
                a_is="sums",
            ),
        )

    def values_in_array(self, rows: int, keys: int) -> Work:
        """P V of one tile with P in the array's registers."""
        return self._remember(
            ("values in array", rows, keys),
            lambda: self.product(
                rows,
                keys,
                self.layer.value_dim,
                number_format=self.layer.value_product_format,
                a_bits=0,
                b_bits=self.value_bits,
                out_bits=self.accumulator_bits,
                partial_bits=self.accumulator_bits,
                add_to=False,
            ),
        )

    def values_of_tile(self, rows: int, keys: int) -> Work:
        """P V of one tile, not added to anything."""
        return self.values(rows, keys, add_to=False)

    @property
    def array_does_softmax(self) -> bool:
        """Whether the matrix array's elements can do the exponential and all else up to it (FuseMax)."""
        needed = {*ARRAY_SOFTMAX, *(kind for kind, _ in self._joining)}
        return needed <= self.machine.matrix.elementwise_cycles.keys()

    def on_array(self, kinds: Sequence[str], rows: int, keys: int, *, reads_bits: int | Fraction = 0) -> Work:
        """Element-wise work on a tile that is held in the matrix array; what it reads besides comes from the buffer."""

        def make() -> Work:
            cycles = sum(elementwise(self.machine.matrix, kind, rows, keys) for kind in kinds)
            done = {kind: kinds.count(kind) * rows * keys for kind in dict.fromkeys(kinds)}
            counters = Counters(matrix_elementwise=done)
            return self._work(cycles, reads=bits_to_bytes(reads_bits), writes=0, counters=counters)

        return self._remember(("array", *kinds, rows, keys, reads_bits), make)

    def maximum_on_array(self, rows: int, keys: int) -> Work:
        """What joins the scores of a tile in the array, and the maximum of its rows."""
        kinds = [kind for kind, times in self._joining for _ in range(times)]
        return self.on_array((*kinds, "max"), rows, keys, reads_bits=rows * keys * self.bias_bits)

    # -- vector work -----------------------------------------------------------------------------------

    def joining(self, n_scores: int) -> Joining:
        """What a vector command does and moves in addition when it caps ``n_scores`` scores and adds their bias."""
        operations = tuple((kind, times * n_scores) for kind, times in self._joining)
        return Joining(
            operations=operations,
            reads_bits=n_scores * self.bias_bits,
            writes_bits=n_scores * self.score_bits if operations else 0,
        )

    def row_maximum(self, rows: int, keys: int, *, sink: bool = False) -> Work:
        """First pass of softmax over one tile: what joins its scores, then the running row maximum.

        ``sink``: the maximum begins with the sinks' logits.
        """

        def make() -> Work:
            n, joining = rows * keys, self.joining(rows * keys)
            return self.vector(
                (*joining.operations, ("max", n + rows * sink)),
                reads_bits=n * self.score_bits + joining.reads_bits + rows * sink * self.sink_bits,
                writes_bits=joining.writes_bits,
                reduces=True,
            )

        return self._remember(("row maximum", rows, keys, sink), make)

    def exponentials(self, rows: int, keys: int, *, sink: bool = False) -> Work:
        """Second pass: subtract the row maximum, exponential, running row sum; ``sink``: the sinks' in it, too."""

        def make() -> Work:
            bits, each = rows * keys * self.score_bits, rows * keys + rows * sink
            return self.vector(
                (("sub", each), ("exp", each), ("add", each)),
                reads_bits=bits + rows * sink * self.sink_bits,
                writes_bits=bits,
                reduces=True,
            )

        return self._remember(("exponentials", rows, keys, sink), make)

    def normalise(self, rows: int, keys: int) -> Work:
        """Third pass: divide by the row sum."""
        n = rows * keys
        bits = n * self.score_bits
        return self.vector((("div", n),), reads_bits=bits, writes_bits=bits)
