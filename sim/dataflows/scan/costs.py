"""What the stages of a scan cost on a tile: ``tokens`` of a chunk, ``heads`` that share keys, ``values`` columns each.

Products are those of the chunked forms of Dao and Gu (arXiv 2405.21060), Yang et al. (arXiv 2312.06635 and 2412.06464).
A matrix unit forms whole squares of a chunk; exponentials of decays are formed for their causal half alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from tilewright.hw_models.dram import dram_rate
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import least_vector_cycles
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.result import LowerBound
from tilewright.units import bits_to_bytes, exact
from tilewright.workloads.homes import held_in
from tilewright.workloads.scan import ScanLayer

__all__ = ["SUM_BITS", "Product", "ScanCosts", "ScanTile", "scan_bound"]

_SUB_CHUNK = 16  # tokens between which the decay of a key channel is formed pair by pair
SUM_BITS = 32
_OF_QUERIES = ("scores", "from state")


class ScanTile(NamedTuple):
    """What one round works on."""

    tokens: int
    heads: int
    values: int

    @property
    def columns(self) -> int:
        return self.heads * self.values


class Product(NamedTuple):
    """``times`` products of (m, k) by (k, n)."""

    label: str
    times: int
    m: int
    k: int
    n: int


class ScanCosts(TileCosts):
    """Costs of the tiles of one scan."""

    layer: ScanLayer

    def held_bytes(self, buffer: str) -> int:
        return held_in(self.layer.homes, buffer)

    # -- room --------------------------------------------------------------------------------------------

    def key_bytes(self, tokens: int) -> int:
        """Keys and queries."""
        return bits_to_bytes(tokens * self.layer.key_dim * self.layer.pair_bits)

    def input_bits(self, tile: ScanTile) -> int | Fraction:
        """Values and gates of a tile."""
        layer = self.layer
        of_column = layer.value_bits + layer.column_gates * layer.gate_bits
        return tile.tokens * (tile.columns * of_column + tile.heads * layer.gates * layer.gate_bits)

    def state_bits(self, tile: ScanTile) -> int | Fraction:
        """The states of a tile, and the parameters of its columns beside them."""
        return tile.columns * (self.layer.key_dim * self.layer.state_bits + self.layer.parameter_bits)

    def square_bytes(self, tokens: int) -> int:
        """Scores of a chunk, before any head's decay."""
        return bits_to_bytes((2 if self.layer.is_delta else 1) * tokens * tokens * SUM_BITS)

    def weight_bytes(self, tile: ScanTile) -> int:
        """Scores with the decay of each head; of the delta rule also the inverse, W and U."""
        layer, squares = self.layer, tile.heads * tile.tokens * tile.tokens
        if not layer.is_delta:
            return bits_to_bytes(squares * layer.value_bits)
        w_and_u = tile.heads * tile.tokens * (layer.key_dim + tile.values)
        return bits_to_bytes((2 * squares + w_and_u) * layer.value_bits)

    def out_bytes(self, tile: ScanTile) -> int:
        return bits_to_bytes(tile.tokens * tile.columns * max(SUM_BITS, self.layer.out_bits))

    def part_elements(self, tile: ScanTile) -> int:
        """What a round adds to the state, and to what comes from the state, before decays are applied to these."""
        results = 0 if self.layer.by_channel else tile.tokens
        return tile.columns * (self.layer.key_dim + results)

    # -- matrix work -------------------------------------------------------------------------------------

    def scores(self, tokens: int) -> tuple[Product, ...]:
        """Q K^T of a chunk; of the delta rule also K K^T."""
        n = 2 if self.layer.is_delta else 1
        return (Product("scores", n, tokens, self.layer.key_dim, tokens),)

    def products(self, tile: ScanTile) -> tuple[Product, ...]:
        """From the state, within the chunk, and into the state; heads that share keys side by side where they can."""
        t, h, v = tile
        n, columns = self.layer.key_dim, tile.columns
        from_state = Product("from state", 1, t, n, columns)
        within, state = Product("within chunk", h, t, t, v), Product("into state", 1, n, t, columns)
        if not self.layer.is_delta:
            return (from_state, within, state)
        return (
            from_state,
            Product("W", h, t, t, n),
            Product("U", h, t, t, v),
            Product("W S", h, t, n, v),
            within,
            state,
        )

    def work_of(self, one: Product) -> Work:
        layer = self.layer
        return self.product(
            one.m,
            one.k,
            one.n,
            number_format=layer.compute_format,
            a_bits=layer.query_bits or layer.key_bits if one.label in _OF_QUERIES else layer.key_bits,
            b_bits=layer.key_bits if one.label == "scores" else layer.value_bits,
            out_bits=SUM_BITS,
            partial_bits=SUM_BITS,
            add_to=one.label == "W S" or (one.label == "within chunk" and layer.by_channel),
        )

    # -- vector work -------------------------------------------------------------------------------------

    def common(self, tile: ScanTile) -> Counter[str]:
        """What every form does with gates and values: softplus, a factor, the skip connection."""
        layer = self.layer
        gates = tile.tokens * (tile.heads * layer.gates + tile.columns * layer.column_gates)
        done = _times(layer.gate_operations, gates)
        return done + _times(layer.value_operations, tile.tokens * tile.columns)

    def step(self, tile: ScanTile) -> Counter[str]:
        """One token on the vector unit: decay, update and use of the state."""
        return _step(self.layer, tile.columns, tile.heads)

    def tree(self, tile: ScanTile) -> Counter[str]:
        """A chunk of the selective scan as a tree: two combinations an element, each two products and a sum."""
        n = tile.tokens * tile.columns * self.layer.key_dim
        return Counter(exp=n, mul=7 * n, add=3 * n)

    def gated_keys(self, tile: ScanTile) -> Counter[str]:
        """Gates by channel, summed and put into keys and queries; pairs of tokens near each other one by one."""
        n = tile.tokens * self.layer.key_dim
        pairs = n * min(_SUB_CHUNK, tile.tokens)
        return Counter(exp=3 * n + pairs, mul=3 * n + pairs, add=n + pairs, sub=n)

    def decays(self, tile: ScanTile) -> Counter[str]:
        """Before the products: cumulative sums, decays of pairs of tokens, of the delta rule the triangular inverse."""
        t, h, _ = tile
        pairs = h * (t * (t + 1) // 2)
        done: Counter[str] = Counter()
        if not self.layer.by_channel:
            done += Counter(add=t * h, exp=pairs + 2 * t * h, sub=pairs + t * h, mul=pairs + t * tile.columns)
        if self.layer.is_delta:
            inverse = h * max(1, t**3 // 6)
            done += Counter(mul=inverse + pairs + t * h * self.layer.key_dim + t * tile.columns, add=inverse)
        return done

    def finish(self, tile: ScanTile) -> Counter[str]:
        """Behind the products: what came from the state by its decay, the state by that of the chunk, and sums."""
        n = self.part_elements(tile)
        return Counter(mul=n, add=n)

    def vector_work(self, work: Mapping[str, int], reads_bits: int | Fraction, writes_bits: int | Fraction) -> Work:
        pairs = tuple((kind, n) for kind, n in sorted(work.items()) if n)
        return self.vector(pairs, reads_bits=reads_bits, writes_bits=writes_bits)


def _times(operations: tuple[tuple[str, int], ...], n: int) -> Counter[str]:
    return Counter({kind: times * n for kind, times in operations})


def _step(layer: ScanLayer, columns: int, heads: int) -> Counter[str]:
    n = layer.key_dim * columns
    if layer.form == "selective":
        return Counter(exp=n, mul=4 * n, add=2 * n)
    gates = heads * (layer.key_dim if layer.by_channel else 1)
    done = Counter(exp=gates, mul=3 * n, add=2 * n)
    return done + Counter(mul=n + columns, add=n, sub=columns) if layer.is_delta else done


def scan_bound(layer: ScanLayer, machine: MachineSpec) -> LowerBound:
    """The cheaper of both forms: products with the state on the matrix unit, or all of it on the vector unit."""
    whole = layer.whole or layer
    columns, heads = whole.groups * whole.heads * whole.value_dim, whole.groups * whole.heads
    gates = whole.n_tokens * (heads * whole.gates + columns * whole.column_gates)
    common = _times(whole.gate_operations, gates) + _times(whole.value_operations, whole.n_tokens * columns)
    step = {kind: n * whole.n_tokens for kind, n in _step(whole, columns, heads).items()}
    recurrent = _least(machine, common + Counter(step))
    dram = layer.compulsory_bytes / dram_rate(machine)
    matrix, vector = Fraction(0), recurrent
    rate = machine.matrix.multiplies_per_pe_per_cycle.get(whole.compute_format)
    if whole.has_products and rate is not None:
        products = Fraction(whole.macs) / (machine.matrix.n_multipliers * machine.n_cores * exact(rate))
        chunked = _least(machine, common)
        if max(products, chunked) < recurrent:
            matrix, vector = products, chunked
    return LowerBound(matrix_cycles=ceil(matrix), vector_cycles=ceil(vector), dram_cycles=ceil(Fraction(dram)))


def _least(machine: MachineSpec, work: Mapping[str, int]) -> Fraction:
    return least_vector_cycles(machine.vector, tuple(sorted(work.items()))) / machine.n_cores
