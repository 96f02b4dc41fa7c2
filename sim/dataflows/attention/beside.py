"""Choosing the lists of a mask, and putting tokens into its order: commands of a core beside its attention.

Choosing comes first: Q and K (or what an indexer reads) are loaded block by block and pooled; then blocks of rows are
multiplied with all columns, and the vector unit takes exponentials, sums and the best of each block of scores. Then
tensors are copied into the mask's order, block by block: gathered as runs of tokens that lie side by side, stored in
one run. The attention's own loads come behind a read of one burst that waits for the last copy. The result is copied
back behind a write of one burst that comes after all other stores.

Cores share this work evenly, and each begins its attention when its own part is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tilewright.sim.dataflows.spans import spans
from tilewright.units import BITS_PER_BYTE, bits_to_bytes, ceil_div
from tilewright.workloads.masks.lists import Selection, TokenOrder

if TYPE_CHECKING:
    from fractions import Fraction

    from tilewright.sim.dataflows.attention.core import AttentionCore
    from tilewright.workloads.attention import AttentionLayer

__all__ = ["BESIDE_ASSUMPTION", "Beside", "Choosing", "Copy", "choosing_of", "copies_of"]

BESIDE_ASSUMPTION = (
    "choosing the lists and copying tokens into another order are done by the cores before the attention (and behind "
    "it), evenly shared; a core begins when its own part is done"
)
_BLOCK = 16 * 1024  # values of a block that is moved or read
_COLUMNS = 1024  # most columns of a block of scores


class Copy(NamedTuple):
    """A tensor that is copied into the mask's order (or, of the result, back): tokens of all heads, their width."""

    name: str
    n_tokens: int
    width: int
    bits: int | Fraction

    @property
    def n_bytes(self) -> int:
        """Bytes that are read, and as many that are written."""
        return bits_to_bytes(self.n_tokens * self.width * self.bits)


def copies_of(layer: AttentionLayer) -> tuple[Copy, ...]:
    """Q, K, V and the result, where tokens are copied."""
    if layer.reorder != "copy":
        return ()
    rows = layer.batch * layer.query_heads * layer.query_len
    keys = layer.n_groups * layer.key_len
    return (
        Copy("Q", rows, layer.head_dim, layer.qkv_bits),
        Copy("K", keys, layer.head_dim, layer.key_bits),
        Copy("V", keys, layer.value_dim, layer.value_bits),
        Copy("O", rows, layer.value_dim, layer.output_bits),
    )


class Choosing(NamedTuple):
    """A product of ``rows`` by ``depth`` by ``columns`` with what else choosing takes, over all batch entries."""

    selection: Selection
    number_format: str
    rows: int
    depth: int
    columns: int
    n_bytes: int
    additions: int
    exponentials: int
    comparisons: int

    @property
    def macs(self) -> int:
        """Multiply-adds that the selection asks for; whole rows may have a few more."""
        return self.rows * self.depth * self.columns


def choosing_of(layer: AttentionLayer, rates: object) -> Choosing | None:
    """What choosing the layer's lists takes; ``rates``: the formats that the array multiplies."""
    chosen = layer.blocks.selection if layer.choosing and layer.blocks is not None else None
    if chosen is None:
        return None
    assert layer.blocks is not None
    depth = chosen.depth or layer.head_dim
    columns = min(chosen.columns or layer.blocks.n_block_keys, _COLUMNS)
    whole = layer.without_lists("none")
    read = whole.query_bytes + whole.key_bytes if chosen.reads_operands else 0
    known = chosen.macs_format in rates  # type: ignore[operator]
    batch = layer.batch
    return Choosing(
        chosen,
        chosen.macs_format if known else layer.score_product_format,
        ceil_div(batch * chosen.macs, depth * columns),
        depth,
        columns,
        batch * chosen.n_bytes + read,
        batch * chosen.n_additions,
        batch * chosen.n_exponentials,
        batch * chosen.n_comparisons,
    )


class Beside:
    """What a core does beside its attention; takes its room when it is made."""

    def __init__(self, core: AttentionCore) -> None:
        layer, costs = core.layer, core.costs
        self.core = core
        self.choosing = choosing_of(layer, costs.machine.matrix.multiplies_per_pe_per_cycle)
        self.copies = copies_of(layer)
        if self.choosing is not None:
            self.rows = min(costs.machine.matrix.rows, self._own(self.choosing.rows))
            n_bytes = min(_BLOCK, self._own(self.choosing.n_bytes))
            self.read = core.pool("values to choose by", slots=2, slot_bytes=n_bytes)
            self.pooled = core.semaphore("values to choose by pooled")
            scores = costs.score_bytes(max(1, self.rows) * self.choosing.columns)
            self.scores = core.pool("scores to choose from", slots=2, slot_bytes=scores, holds="sums")
            self.chosen = core.semaphore("lists chosen")
        if self.copies:
            most = max(bits_to_bytes(self._tokens(one) * one.width * one.bits) for one in self.copies)
            self.moved = core.pool("tokens to move", slots=2, slot_bytes=most)
            self.over = core.semaphore("tokens in the mask's order")
            self.stored = core.semaphore("attention stored")

    @property
    def _order(self) -> TokenOrder:
        blocks = self.core.layer.blocks
        assert blocks is not None and blocks.order is not None
        return blocks.order

    def _own(self, n: int) -> int:
        return ceil_div(n, self.core.n_working)

    def _tokens(self, one: Copy) -> int:
        """Tokens of a block: whole runs."""
        run = self._order.run
        return max(1, _BLOCK // (one.width * run)) * run

    def before(self) -> None:
        """All that comes before the attention's own loads."""
        if self.choosing is not None:
            self._choose(self.choosing)
        for one in self.copies[:-1]:
            self._copy(one, scatters=False, last=one is self.copies[-2])
        if self.copies:
            self.core.load(self.core.costs.load(1, 1, BITS_PER_BYTE), waits=[self.over], label="begin attention")

    def after(self) -> None:
        """The result back into the order in which tokens are stored."""
        if not self.copies:
            return
        self.core.store(self.core.costs.store(1, 1, BITS_PER_BYTE), signals=[self.stored], label="end attention")
        self.core.load(self.core.costs.load(1, 1, BITS_PER_BYTE), waits=[self.stored], label="begin reordering")
        self._copy(self.copies[-1], scatters=True, last=False)

    def _copy(self, one: Copy, *, scatters: bool, last: bool) -> None:
        core, costs, order = self.core, self.core.costs, self._order
        own = ceil_div(self._own(one.n_tokens), order.run) * order.run
        for block in spans(core, own, min(own, self._tokens(one)), f"blocks of {one.name}"):
            n_runs = block.size // order.run
            stride = order.stride * one.width if n_runs > 1 else 0
            apart = (n_runs, order.run * one.width, one.bits)
            whole = (1, block.size * one.width, one.bits)
            core.load(
                costs.load(*whole) if scatters else costs.load(*apart, stride_elements=stride),
                waits=[self.moved.free],
                signals=[self.moved.full],
                label=f"load {one.name} to reorder",
            )
            core.store(
                costs.store(*apart, stride_elements=stride) if scatters else costs.store(*whole),
                waits=[self.moved.full],
                signals=[self.moved.free, *((self.over,) if last and block.last else ())],
                label=f"store reordered {one.name}",
            )

    def _choose(self, what: Choosing) -> None:
        core, costs = self.core, self.core.costs
        pools = what.selection.reads_operands
        own_bytes = self._own(what.n_bytes)
        if own_bytes:
            for block in spans(core, own_bytes, min(own_bytes, _BLOCK), "blocks to choose by"):
                core.load(
                    costs.load(1, block.size, BITS_PER_BYTE),
                    waits=[self.read.free],
                    signals=[self.read.full],
                    label="load to choose",
                )
                n = ceil_div(what.additions * block.size, what.n_bytes) if pools else 0
                core.vector(
                    costs.vector((("add", n),) if n else (), reads_bits=block.size * BITS_PER_BYTE, writes_bits=0),
                    waits=[self.read.full],
                    signals=[self.read.free, *((self.pooled,) if block.last else ())],
                    label="pool values" if pools else "take in",
                )
        own_rows = self._own(what.rows)
        if not own_rows:
            return
        for rows in spans(core, own_rows, self.rows, "rows to choose for"):
            core.matrix(
                costs.product(
                    rows.size, what.depth, what.columns, number_format=what.number_format,
                    a_bits=costs.query_bits, b_bits=costs.key_bits, out_bits=costs.score_bits,
                    partial_bits=costs.accumulator_bits, add_to=False,
                ),
                waits=[self.scores.free, *((self.pooled,) if rows.first and own_bytes else ())],
                signals=[self.scores.full],
                label="scores to choose from",
            )  # fmt: skip
            counts = {
                "sub": what.exponentials,
                "exp": what.exponentials,
                "add": what.exponentials + (0 if pools else what.additions),
                "max": what.comparisons,
            }
            core.vector(
                costs.vector(
                    tuple((kind, ceil_div(n * rows.size, what.rows)) for kind, n in counts.items() if n),
                    reads_bits=rows.size * what.columns * costs.score_bits,
                    writes_bits=0,
                    reduces=True,
                ),
                waits=[self.scores.full],
                signals=[self.scores.free, *((self.chosen,) if rows.last else ())],
                label="choose",
            )
        core.load(costs.load(1, 1, BITS_PER_BYTE), waits=[self.chosen], label="lists are there")
