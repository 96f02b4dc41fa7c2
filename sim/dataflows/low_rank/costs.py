"""What the stages of an attention on factors of low rank cost on a tile, and what no schedule can beat."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

from tilewright.hw_models.dram import dram_rate
from tilewright.hw_models.matrix_unit import no_rate
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.vector_unit import least_vector_cycles
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.result import LowerBound
from tilewright.units import bits_to_bytes, exact
from tilewright.workloads.homes import held_in
from tilewright.workloads.low_rank import LowRankAttentionLayer

__all__ = ["SUM_BITS", "LowRankCosts", "low_rank_bound", "low_rank_least"]

SUM_BITS = 32


class LowRankCosts(TileCosts):
    """Costs of the tiles of one layer."""

    layer: LowRankAttentionLayer

    def held_bytes(self, buffer: str) -> int:
        return held_in(self.layer.homes, buffer)

    # -- room --------------------------------------------------------------------------------------------

    def input_bytes(self, rows: int) -> int:
        """Rows of P."""
        return bits_to_bytes(rows * self.layer.rank * self.layer.input_bits)

    def factor_bytes(self) -> int:
        """U and biases of a head, of Q, K and V."""
        layer = self.layer
        return bits_to_bytes((layer.rank + layer.has_bias) * layer.factor_columns * layer.factor_bits)

    def tile_bytes(self, rows: int, columns: int) -> int:
        """Rows of Q, K or V."""
        return bits_to_bytes(rows * columns * self.layer.input_bits)

    def score_bytes(self, rows: int, keys: int) -> int:
        return bits_to_bytes(rows * keys * self.layer.score_bits)

    def sum_bytes(self, rows: int) -> int:
        """Rows of O while they are summed."""
        return bits_to_bytes(rows * self.layer.value_dim * SUM_BITS)

    # -- transfers ---------------------------------------------------------------------------------------

    def load_rows(self, rows: int) -> Work:
        """Rows of P, which lie side by side with those of other heads where these have their own."""
        layer = self.layer
        if layer.row_ranks == 1:
            return self.load(1, rows * layer.rank, layer.input_bits)
        return self.load(rows, layer.rank, layer.input_bits, stride_elements=layer.row_ranks * layer.rank)

    def load_factors(self) -> Work:
        """U and biases of a head."""
        layer = self.layer
        return self.load(1, (layer.rank + layer.has_bias) * layer.factor_columns, layer.factor_bits)

    def store_rows(self, rows: int) -> Work:
        """Rows of O of a head, between those of the other heads."""
        layer = self.layer
        stride = layer.head_rows * layer.value_dim
        return self.store(rows, layer.value_dim, layer.out_bits, stride_elements=stride)

    # -- work --------------------------------------------------------------------------------------------

    def make(self, rows: int, columns: int) -> Work:
        """Rows of Q, K or V from their factors; the bias is there in the sums."""
        layer = self.layer
        return self.product(
            rows,
            layer.rank,
            columns,
            number_format=layer.compute_format,
            a_bits=layer.input_bits,
            b_bits=layer.factor_bits,
            out_bits=layer.input_bits,
            partial_bits=SUM_BITS,
            add_to=False,
        )

    def scores(self, rows: int, keys: int) -> Work:
        """S = Q K^T."""
        layer = self.layer
        return self.product(
            rows,
            layer.head_dim,
            keys,
            number_format=layer.compute_format,
            a_bits=layer.input_bits,
            b_bits=layer.input_bits,
            out_bits=layer.score_bits,
            partial_bits=SUM_BITS,
            add_to=False,
        )

    def values(self, rows: int, keys: int, *, add_to: bool) -> Work:
        """O = or += P V."""
        layer = self.layer
        return self.product(
            rows,
            keys,
            layer.value_dim,
            number_format=layer.compute_format,
            a_bits=layer.score_bits,
            b_bits=layer.input_bits,
            out_bits=SUM_BITS,
            partial_bits=SUM_BITS,
            add_to=add_to,
            a_is="sums",
        )

    def softmax(self, rows: int, keys: int, *, first: bool) -> Work:
        """The exponentials of a tile against its rows' running maximum, and what was summed before made smaller."""
        n, layer = rows * keys, self.layer
        work = [("max", n), ("sub", n), ("exp", n), ("add", n)]
        bits = n * layer.score_bits
        if first:
            return self.vector(work, reads_bits=bits, writes_bits=bits, reduces=True)
        summed = rows * layer.value_dim
        work += [("sub", rows), ("exp", rows), ("mul", rows + summed)]
        more = summed * SUM_BITS
        return self.vector(work, reads_bits=bits + more, writes_bits=bits + more, reduces=True)

    def normalise(self, rows: int) -> Work:
        """O by the sums of its rows, in the format of the result."""
        n = rows * self.layer.value_dim
        return self.vector([("div", n)], reads_bits=n * SUM_BITS, writes_bits=n * self.layer.out_bits)


def _multiplies_per_cycle(layer: LowRankAttentionLayer, machine: MachineSpec) -> Fraction:
    rates = machine.matrix.multiplies_per_pe_per_cycle
    if layer.compute_format not in rates:
        raise no_rate(layer.compute_format, rates, place=machine.name)
    return Fraction(machine.matrix.n_multipliers * exact(rates[layer.compute_format]))


def low_rank_bound(layer: LowRankAttentionLayer, machine: MachineSpec) -> LowerBound:
    """Every product once at full rate, exponentials of all scores over all lanes, every tensor moved once.

    Raises InputError for a format that the machine cannot multiply.
    """
    one = layer.whole or layer
    scores = one.groups * one.heads * one.query_len * one.key_len
    results = one.groups * one.heads * one.query_len * one.value_dim
    work = (("add", scores), ("div", results), ("exp", scores), ("max", scores), ("sub", scores))
    return LowerBound(
        matrix_cycles=ceil(Fraction(one.macs) / (_multiplies_per_cycle(layer, machine) * machine.n_cores)),
        vector_cycles=ceil(Fraction(least_vector_cycles(machine.vector, work)) / machine.n_cores),
        dram_cycles=ceil(Fraction(layer.compulsory_bytes / dram_rate(machine))),
    )


def low_rank_least(piece: LowRankAttentionLayer, machine: MachineSpec) -> int:
    """The products of the core that has most groups, at full rate."""
    alone = (
        piece.groups
        * piece.heads
        * (
            piece.rank * (piece.query_len * piece.head_dim + piece.key_len * (piece.head_dim + piece.value_dim))
            + piece.query_len * piece.key_len * (piece.head_dim + piece.value_dim)
        )
    )
    most = -(-piece.groups // machine.n_cores)
    return ceil(Fraction(alone * most, piece.groups) / _multiplies_per_cycle(piece, machine))
