"""A scan on a machine with matrix and vector units: chunk by chunk, the state on chip between chunks or in the DRAM.

A *round* is a chunk of tokens for some heads (or value columns of one): its inputs are loaded, decays are formed on the
vector unit, products run on the matrix unit, results and the new state are finished on the vector unit, and results
are stored. The next round of the same columns waits for that state. Loads of a round, its scores and the stores of the
one before overlap. ``recurrent=1`` does everything on the vector unit, token by token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.scan.costs import SUM_BITS, Product, ScanCosts, ScanTile, scan_bound
from tilewright.sim.dataflows.spans import Span, spans
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.family import Family, register_family
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register, tile_sizes
from tilewright.units import BITS_PER_BYTE, bits_to_bytes, ceil_div
from tilewright.workloads.scan import ScanLayer

__all__ = ["SCAN", "Round", "ScanCore"]

_HEADS_OUTER, _STATES_MOVE, _STATES_STAY = 0, 1, 2
_CHUNKS = (16, 32, 64, 128, 256)


class ScanCore(TileCore[ScanCosts]):
    """A core as the lowering of a scan sees it."""

    layer: ScanLayer


def lower(core: ScanCore, tiling: Tiling) -> None:
    """All rounds of all groups, in the order that ``order`` says."""
    rounds = _Rounds(core, tiling)
    core.declared()
    layer, chunk = core.layer, rounds.chunk
    for group in core.loop(core.n_groups, name="groups"):
        if rounds.order == _HEADS_OUTER:
            for heads, values in rounds.tiles():
                for tokens in spans(core, layer.n_tokens, chunk, "chunks"):
                    at = Round(group, tokens, heads, values)
                    rounds.keys(at)
                    rounds.round(at, first=True, last=True)
            continue
        for tokens in spans(core, layer.n_tokens, chunk, "chunks"):
            rounds.keys(Round(group, tokens, _ALL, _ALL))
            for heads, values in rounds.tiles():
                first, last = heads.first and values.first, heads.last and values.last
                rounds.round(Round(group, tokens, heads, values), first=first, last=last)


class Round(NamedTuple):
    """Where the loops stand."""

    group: int
    tokens: Span
    heads: Span
    values: Span

    @property
    def tile(self) -> ScanTile:
        return ScanTile(self.tokens.size, self.heads.size, self.values.size)


_ALL = Span(0, True, True)  # keys serve all heads


class _Rounds:
    """The pools of a tiling and the commands of its rounds."""

    def __init__(self, core: ScanCore, tiling: Tiling) -> None:
        layer, costs = core.layer, core.costs
        self.core, self.layer, self.costs = core, layer, costs
        self.order, self.recurrent = tiling["order"], bool(tiling["recurrent"])
        self.chunk = min(tiling["chunk"], layer.n_tokens)
        self.values = min(tiling["values"], layer.value_dim)
        self.heads = min(tiling["heads"], layer.heads) if self.values == layer.value_dim else 1
        self.products = layer.has_products and not self.recurrent
        largest = ScanTile(self.chunk, self.heads, self.values)
        state = max(1, bits_to_bytes(costs.state_bits(largest)))
        n_tiles = ceil_div(layer.heads, self.heads) * ceil_div(layer.value_dim, self.values)
        slots = n_tiles if self.order == _STATES_STAY else 2
        self.key_pool = core.pool("keys", slots=2, slot_bytes=costs.key_bytes(self.chunk))
        self.inputs = core.pool("values", slots=2, slot_bytes=max(1, bits_to_bytes(costs.input_bits(largest))))
        self.states = core.pool("states", slots=slots, slot_bytes=state, holds="sums")
        self.out = core.pool("results", slots=2, slot_bytes=costs.out_bytes(largest), holds="sums")
        if self.products:
            self.squares = core.pool("scores", slots=1, slot_bytes=costs.square_bytes(self.chunk), holds="sums")
            self.weights = core.pool("decayed scores", slots=1, slot_bytes=costs.weight_bytes(largest))
            parts = costs.part_elements(largest) * SUM_BITS
            core.reserve("parts of a round", bits_to_bytes(parts), holds="sums")
            self.multiplied = core.semaphore("round multiplied")
            self.gated = core.semaphore("keys gated")
        self.updated = core.semaphore("state updated")
        self.kept = core.semaphore("state to be stored")
        self.moved = core.semaphore("state stored")

    # -- loops -------------------------------------------------------------------------------------------

    def tiles(self) -> Iterator[tuple[Span, Span]]:
        """Heads and value columns of a group."""
        for heads in spans(self.core, self.layer.heads, self.heads, "heads"):
            for values in spans(self.core, self.layer.value_dim, self.values, "values"):
                yield heads, values

    # -- rounds ------------------------------------------------------------------------------------------

    def keys(self, at: Round) -> None:
        """Keys and queries of a chunk, and their products where no gate goes into them."""
        tokens, pool = at.tokens.size, self.key_pool
        work = self.costs.load(1, tokens * self.layer.key_dim, self.layer.pair_bits)
        run = ("scan_keys", at)
        self.core.load(work, waits=[pool.free], signals=[pool.full], label="load keys", run=run)
        if self.products and not self.layer.by_channel:
            self._scores(tokens, [self.key_pool.full])

    def _scores(self, tokens: int, waits: Sequence[int]) -> None:
        self._multiply(self.costs.scores(tokens), [*waits, self.squares.free], [self.squares.full])

    def round(self, at: Round, *, first: bool, last: bool) -> None:
        """One chunk of some columns; ``first`` and ``last`` of those that use the chunk's keys."""
        tokens, tile = at.tokens, at.tile
        begins = tokens.first or self.order == _STATES_MOVE
        ends = tokens.last or self.order == _STATES_MOVE
        loaded = begins and self._load_state(at)
        self.core.load(
            self.costs.load(1, max(1, bits_to_bytes(self.costs.input_bits(tile))), BITS_PER_BYTE),
            waits=[self.inputs.free],
            signals=[self.inputs.full],
            label="load values",
            run=("scan_values", at),
        )
        ready = ([self.states.full] if loaded else [self.states.free]) if begins else [self.updated]
        stored = ends and (self.layer.writes_state or not tokens.last)
        over = ([self.kept] if stored else [self.states.free]) if ends else [self.updated]
        release = [self.key_pool.free] if last else []
        if self.products:
            self._chunked(at, ready, [*over, *release], begins=begins and not loaded, first=first, last=last)
        else:
            self._on_vector_unit(
                at, begins and not loaded, [*ready, *([self.key_pool.full] if first else [])], [*over, *release]
            )
        self.core.store(
            self.costs.store(1, tile.tokens * tile.columns, self.layer.out_bits),
            waits=[self.out.full],
            signals=[self.out.free],
            label="store results",
            run=("scan_results", at),
        )
        if stored:
            self._store_state(at)

    def _chunked(
        self, at: Round, ready: Sequence[int], over: Sequence[int], *, begins: bool, first: bool, last: bool
    ) -> None:
        core, costs, layer, tile = self.core, self.costs, self.layer, at.tile
        waits = [self.inputs.full]
        if layer.by_channel:
            bits = tile.tokens * layer.key_dim * layer.pair_bits
            work = costs.vector_work(costs.gated_keys(tile), bits, bits)
            entry = [*waits, *([self.key_pool.full] if first else [])]
            core.vector(work, waits=entry, signals=[self.gated], label="gates into keys")
            self._scores(tile.tokens, [self.gated])
            waits = []
        if first or layer.by_channel:
            waits.append(self.squares.full)
        bits = costs.square_bytes(tile.tokens) * BITS_PER_BYTE
        work = costs.vector_work(
            costs.common(tile) + costs.decays(tile), bits, costs.weight_bytes(tile) * BITS_PER_BYTE
        )
        signals = [self.weights.full, *([self.squares.free] if last or layer.by_channel else [])]
        core.vector(work, waits=[*waits, self.weights.free], signals=signals, label="decays")
        self._multiply(
            costs.products(tile),
            [self.weights.full, *ready, self.out.free],
            [self.multiplied, self.weights.free],
            run=("scan_from_state", at, begins),
        )
        bits = costs.state_bits(tile) + tile.tokens * tile.columns * SUM_BITS
        work = costs.vector_work(costs.finish(tile), bits + costs.part_elements(tile) * SUM_BITS, bits)
        ends = [self.inputs.free, self.out.full, *over]
        run = ("scan_finish", at, begins, True)
        core.vector(work, waits=[self.multiplied], signals=ends, label="new state", run=run)

    def _on_vector_unit(self, at: Round, begins: bool, ready: Sequence[int], over: Sequence[int]) -> None:
        core, costs, layer, tile = self.core, self.costs, self.layer, at.tile
        inputs = costs.input_bits(tile)
        work = costs.vector_work(costs.common(tile), inputs, inputs)
        core.vector(work, waits=[self.inputs.full, *ready, self.out.free], label="gates")
        state, of_token = costs.state_bits(tile), Fraction(inputs + layer.key_dim * layer.pair_bits, tile.tokens)
        ends, run = [self.inputs.free, self.out.full, *over], ("scan_finish", at, begins, False)
        if not self.recurrent:
            work = costs.vector_work(costs.tree(tile), tile.tokens * state, tile.tokens * state)
            core.vector(work, signals=ends, label="scan of a chunk", run=run)
            return
        work = costs.vector_work(costs.step(tile), state + of_token, state + tile.columns * layer.out_bits)
        for _ in core.loop(tile.tokens - 1, name="tokens"):
            core.vector(work, label="step of a token")
        core.vector(work, signals=ends, label="step of a token", run=run)

    def _multiply(
        self, products: Sequence[Product], waits: Sequence[int], signals: Sequence[int], run: Any = None
    ) -> None:
        """Products one behind the other; the first waits (and is ``run`` on numbers), the last signals."""
        core, last = self.core, len(products) - 1
        for at, one in enumerate(products):
            work, begins, ends = self.costs.work_of(one), at == 0, at == last
            alone = begins + ends if one.times > 1 else 1
            entry, leave = list(waits) if begins else [], list(signals) if ends else []
            if one.times == 1:
                core.matrix(work, waits=entry, signals=leave, label=one.label, run=run if begins else None)
                continue
            if begins:
                core.matrix(work, waits=entry, label=one.label)
            if one.times > alone:
                for _ in core.loop(one.times - alone, name="products of heads"):
                    core.matrix(work, label=one.label)
            if ends:
                core.matrix(work, signals=leave, label=one.label)

    # -- states ------------------------------------------------------------------------------------------

    def _load_state(self, at: Round) -> bool:
        """Bring the state of a tile and the parameters of its columns; whether there is anything to bring."""
        layer, tokens, tile = self.layer, at.tokens, at.tile
        has_state = layer.reads_state or self.order == _STATES_MOVE  # there zeros lie in the DRAM at first
        bits = tile.columns * ((layer.key_dim * layer.state_bits if has_state else 0) + layer.parameter_bits)
        if not bits:
            return False
        self.core.load(
            self.costs.load(1, bits_to_bytes(bits), BITS_PER_BYTE),
            waits=[self.states.free, *([] if tokens.first else [self.moved])],
            signals=[self.states.full],
            label="load state",
            run=("scan_state", at),
        )
        return True

    def _store_state(self, at: Round) -> None:
        tile, moved = at.tile, [] if at.tokens.last else [self.moved]
        self.core.store(
            self.costs.store(1, tile.columns * self.layer.key_dim, self.layer.state_bits),
            waits=[self.kept],
            signals=[self.states.free, *moved],
            label="store state",
            run=("scan_kept", at),
        )


def _bound(layer: ScanLayer, machine: MachineSpec) -> Any:
    rates = machine.matrix.multiplies_per_pe_per_cycle
    if layer.has_products and layer.compute_format not in rates:
        raise no_rate(layer.compute_format, rates, place=machine.name)
    return scan_bound(layer, machine)


def _pieces(layer: ScanLayer, machine: MachineSpec) -> tuple[ScanLayer, ...]:
    return layer.cuts(machine.n_cores)


register_family(
    Family(
        operator="scan",
        layer=ScanLayer,
        costs=ScanCosts,
        bound=_bound,
        usual="scan",
        core=ScanCore,
        pieces=_pieces,
    )
)


def _chunk_sizes(layer: ScanLayer, machine: MachineSpec) -> tuple[int, ...]:
    if layer.chunk:
        return (layer.chunk,)
    sizes = [n for n in _CHUNKS if n < layer.n_tokens]
    return tuple(sizes) if len(sizes) == len(_CHUNKS) else (*sizes, layer.n_tokens)


def _value_sizes(layer: ScanLayer, machine: MachineSpec) -> tuple[int, ...]:
    return tile_sizes(layer.value_dim, machine.matrix.columns, most=8)


def _head_sizes(layer: ScanLayer, machine: MachineSpec) -> tuple[int, ...]:
    return tile_sizes(layer.heads, 1, most=5)


def _legal(layer: ScanLayer, tiling: Tiling) -> bool:
    """Several heads at a time only with all their columns; a token's products only where there are several tokens."""
    if tiling["values"] < layer.value_dim and tiling["heads"] > 1:
        return False
    return not (layer.n_tokens == 1 and tiling["order"] != _HEADS_OUTER)


def _distinct(layer: ScanLayer, tiling: Tiling) -> bool:
    """Orders differ where there are several chunks and several tiles."""
    one_tile = tiling["values"] >= layer.value_dim and tiling["heads"] >= layer.heads
    return tiling["order"] == _HEADS_OUTER or not (one_tile or tiling["chunk"] >= layer.n_tokens)


SCAN = register(
    Dataflow(
        name="scan",
        heeds_homes=True,
        summary="state passed from chunk to chunk, products of a chunk on the matrix unit; or token by token",
        source="arXiv 2405.21060, section 6; arXiv 2312.06635, section 4; arXiv 2412.06464, section 3",
        phases=(
            Phase(
                name="scan",
                parameters=(
                    Parameter(
                        name="chunk",
                        meaning="tokens of a chunk",
                        candidates=_chunk_sizes,
                        largest=lambda layer: layer.chunk or layer.n_tokens,
                    ),
                    Parameter(
                        name="heads",
                        meaning="heads of a round, which share keys",
                        candidates=_head_sizes,
                        largest=lambda layer: layer.heads,
                    ),
                    Parameter(
                        name="values",
                        meaning="value columns of a head in a round",
                        candidates=_value_sizes,
                        largest=lambda layer: layer.value_dim,
                    ),
                    Parameter(
                        name="order",
                        meaning="0 does all chunks of some heads first, their state on chip; 1 all heads of a chunk, "
                        "states in the DRAM between chunks, zeros at first; 2 the same, all states on chip",
                        candidates=lambda layer, machine: (0, 1, 2),
                        smallest=0,
                        largest=lambda layer: 2,
                    ),
                    Parameter(
                        name="recurrent",
                        meaning="1 does it token by token on the vector unit, 0 by chunks: products on the matrix "
                        "unit, or a tree of the chunk where there are none",
                        candidates=lambda layer, machine: (0, 1),
                        smallest=0,
                        largest=lambda layer: 1,
                    ),
                ),
                lower=lower,
                legal=_legal,
                distinct=_distinct,
            ),
        ),
        assumptions=(
            "a scan's matrix unit forms whole squares of a chunk, also above the diagonal; the vector unit forms the "
            "decays of the causal half alone, and the triangular inverse of the delta rule by substitution",
            "a scan's products are in the wider of the formats of values and keys, to which decayed scores and states "
            "are rounded; sums and kept states are in their own",
            "a scan's parameters (decays, skip connections) are read with each state",
        ),
        operator="scan",
    ),
    rank=10,
)
