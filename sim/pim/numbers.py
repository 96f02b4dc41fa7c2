"""Products and attention as the banks compute them: rows as they lie, commands as they issue, sums as they come out.

A program that issues the right commands in the right time and multiplies the wrong rows would be worth nothing: here
the very program that is timed runs on numbers, a channel at a time, and must give the product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from tilewright.hw_models.pim.spec import PimOrganisationSpec, PimSpec
from tilewright.sim.pim.commands import Command
from tilewright.sim.pim.decoder_block import matrix_vector, packed_vectors
from tilewright.sim.pim.program import Instruction, Program, unrolled

__all__ = ["attention_in_banks", "product_in_banks"]

Array: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"


def product_in_banks(pim: PimSpec, matrix: Array, vectors: Array, *, split: int = 1) -> Array:
    """``vectors`` (n, k) times the transpose of ``matrix`` (outputs, k) that lies in the banks: (n, outputs).

    ``split``: of banks with registers, so many groups of channels with a part of the vector each.
    """
    if split > 1:
        part, channels = matrix.shape[1] // split, pim.organisation.n_channels // split
        group = replace(pim, organisation=replace(pim.organisation, n_channels=channels))
        pieces = [slice(at * part, (at + 1) * part) for at in range(split)]
        parts = np.stack([product_in_banks(group, matrix[:, one], vectors[:, one]) for one in pieces])
        return np.asarray(parts.sum(axis=0))
    if pim.registers is not None:
        return _by_registers(pim, matrix, vectors)
    memory = pim.organisation
    outputs, k = matrix.shape
    is_narrow = 2 * k <= memory.operands_per_row
    program = (packed_vectors if is_narrow else matrix_vector)(memory, k, outputs, memory.n_banks)
    columns = -(-outputs // memory.n_banks)
    padded = np.zeros((memory.n_banks * columns, k))
    padded[:outputs] = matrix
    by_bank = padded.reshape(memory.n_channels, memory.banks_per_channel, columns, k)
    results = [
        np.concatenate([_Channel(memory, one, is_narrow).run(program, vector) for one in by_bank]) for vector in vectors
    ]
    return np.stack(results)[:, :outputs]


def attention_in_banks(pim: PimSpec, q: Array, k: Array, v: Array) -> Array:
    """One head: queries (n, d) on keys (context, d) and values (context, e), all of them seen: (n, e).

    Keys lie a token a column of the banks, values an element a column; the softmax is the host's.
    """
    scores = product_in_banks(pim, k, q) / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return product_in_banks(pim, np.ascontiguousarray(v.T), weights)


@dataclass(slots=True)
class _Channel:
    """A channel with its part of a matrix, (banks, columns, k); its rows in the order in which a program opens them."""

    memory: PimOrganisationSpec
    part: Array
    is_narrow: bool
    buffer: Array = field(init=False)
    sums: list[Array] = field(default_factory=list)  # accumulators that are in use, of all banks

    def run(self, program: Program, vector: Array) -> Array:
        """The results of this channel's banks, bank after bank: (banks * columns)."""
        banks, columns, _ = self.part.shape
        partial = np.zeros((columns, banks))
        pieces = iter(self._pieces(vector))
        rows = iter(self._rows())
        row: Array = np.zeros((banks, 0))
        opened: int | None = None
        first = place = 0
        inside: list[int] = []  # the columns whose sums are in the accumulators
        multiplied = taken_out = 0  # of these
        for one in unrolled(program):
            if one.command is Command.WRITE_BUFFER:
                self.buffer, first = next(pieces), 0
            elif one.command is Command.WRITE_ACCUMULATORS:
                if taken_out == len(inside):
                    inside, self.sums, multiplied, taken_out = [], [], 0, 0
                inside.append(first)
                self.sums.append(partial[first].copy())
                first += 1
                assert len(inside) <= self.memory.accumulators_per_bank
            elif one.command is Command.MAC_ALL:
                if one.row is None or one.row != opened:
                    row, place, opened = next(rows), 0, one.row
                self.sums[multiplied] = self.sums[multiplied] + self._multiplied(one, row, place)
                place, multiplied = place + one.n * self.memory.multiplies_per_bank, multiplied + 1
            elif one.command is Command.READ_ACCUMULATORS:
                partial[inside[taken_out]] = self.sums[taken_out]
                taken_out += 1
        assert not list(rows), "a row of the matrix was never multiplied"
        return partial.T.reshape(-1)

    def _multiplied(self, one: Instruction, row: Array, place: int) -> Array:
        """``one`` multiply instruction on what lies from ``place`` on in the open ``row`` of every bank."""
        n = one.n * self.memory.multiplies_per_bank
        return np.asarray(row[:, place : place + n] @ _padded(self.buffer, n))

    def _pieces(self, vector: Array) -> list[Array]:
        size = self.memory.operands_per_row
        return [vector[at : at + size] for at in range(0, len(vector), size)]

    def _rows(self) -> Iterator[Array]:
        """Rows (banks, operands) in order."""
        _, columns, k = self.part.shape
        size, width = self.memory.operands_per_row, self.memory.multiplies_per_bank
        if self.is_narrow:
            accesses = -(-k // width)
            per_row = max(1, min(self.memory.accesses_per_row // accesses, self.memory.accumulators_per_bank))
            for at in range(0, columns, per_row):
                own = [_wide(self.part[:, one], accesses * width) for one in range(at, min(columns, at + per_row))]
                yield np.concatenate(own, axis=1)
            return
        for start in range(0, k, size):
            for column in range(columns):
                yield _wide(self.part[:, column, start : start + size], size)


def _wide(values: Array, n: int) -> Array:
    """(banks, some) with zeros behind, (banks, n)."""
    return np.pad(values, ((0, 0), (0, n - values.shape[1])))


def _padded(values: Array, n: int) -> Array:
    return np.pad(values, (0, n - len(values)))


def _by_registers(pim: PimSpec, matrix: Array, vectors: Array) -> Array:
    """Blocks of rows round the banks; the vector through the input registers, sums of several blocks swapped."""
    registers, memory = pim.registers, pim.organisation
    assert registers is not None
    outputs, k = matrix.shape
    tile, banks = registers.tile_rows, memory.n_banks
    blocks = -(-outputs // (tile * banks))
    padded = np.zeros((blocks * banks * tile, k))
    padded[:outputs] = matrix
    lying = padded.reshape(blocks, banks, tile, k).transpose(1, 0, 2, 3)  # of each bank its blocks
    piece = registers.input_registers * registers.input_bits // memory.operand_bits
    order = min(registers.tiles_in_order, blocks)
    results = np.zeros((len(vectors), blocks, banks, tile))
    for number, vector in enumerate(vectors):
        for first in range(0, blocks, order):
            sums = np.zeros((banks, min(order, blocks - first), tile))
            for start in range(0, k, piece):
                held = vector[start : start + piece]  # what the registers of every bank hold now
                sums += lying[:, first : first + order, :, start : start + piece] @ held
            results[number, first : first + order] = sums.transpose(1, 0, 2)
    return results.reshape(len(vectors), -1)[:, :outputs]
