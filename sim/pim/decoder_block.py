"""A block of a decoder on banks with multiply units: the program of the busiest channel, one token of generation.

The mapping is that of CENT (ASPLOS 2025): every matrix is spread over the banks by its outputs; keys lie a token a
bank; values lie a head a channel, its elements over the banks; vectors that are multiplied element by element lie in
one bank of each group. What the host moves to and from banks takes it a cycle each, whatever the channel.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.hw_models.pim.spec import PimOrganisationSpec
from tilewright.sim.pim.commands import Command
from tilewright.sim.pim.program import (
    SYNC,
    Instruction,
    Item,
    Program,
    Repeat,
    access,
    accumulators_in,
    accumulators_out,
    buffer_in,
    function,
    mac,
    multiply,
)

__all__ = ["BlockPlace", "DecoderShape", "block_program", "embedding_program", "matrix_vector", "packed_vectors"]

# rows with a name; any other is one that is not open
_X, _X_COPY, _NORM, _XQ, _XK, _GATE, _KEYS, _MORE_KEYS, _SCORES = range(1, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """A decoder: ``dim`` wide, ``ffn`` wide in its gated feed-forward part, ``heads`` of ``dim / heads`` elements."""

    dim: int
    ffn: int
    heads: int
    kv_heads: int
    vocabulary: int = 32_000

    @property
    def head_dim(self) -> int:
        """Elements of a head."""
        return self.dim // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlace:
    """Where a block lives: ``channels`` of a device of ``channels_per_device``, which hold as many blocks as fit
    (``copies``); its matrices are spread over ``devices`` alike.
    """

    channels: int
    channels_per_device: int
    devices: int = 1

    @property
    def copies(self) -> int:
        """Blocks that the host of one device serves at once."""
        return max(1, self.channels_per_device // self.channels)


@dataclass(frozen=True, slots=True)
class _Lowering:
    shape: DecoderShape
    place: BlockPlace
    memory: PimOrganisationSpec

    @property
    def operands(self) -> int:
        return self.memory.multiplies_per_bank

    @property
    def row(self) -> int:
        return self.memory.operands_per_row

    @property
    def banks(self) -> int:
        return self.place.channels * self.memory.banks_per_channel

    @property
    def matrix_banks(self) -> int:
        return self.banks * self.place.devices

    def accesses(self, n: int) -> int:
        return _up(n, self.operands)

    # what the host moves

    def vector(self, command: Command, banks_apart: int, first: int, row: int, n: int) -> Instruction:
        """A vector of ``n`` elements in every ``banks_apart``-th bank from ``first`` on."""
        homes = self.banks // banks_apart
        length = _up(n, homes)
        used = _up(n, length)
        places = tuple(range(first, self.memory.banks_per_channel, banks_apart))[:used]
        columns = self.accesses(length)
        return access(command, places, columns, row=row, handed_cycles=columns * used * self.place.copies)

    def per_group(self, n: int) -> int:
        """Accesses of each bank of a vector that lies in one bank of each group."""
        return self.accesses(_up(n, self.banks // self.memory.banks_per_group))

    def regroup(self, n: int, row: int, to: int) -> Program:
        """Products out of the third bank of each group, through the buffer, into the bank before it."""
        columns, apart = self.per_group(n), self.memory.banks_per_group
        items: list[Item] = []
        for bank in range(2, self.memory.banks_per_channel, apart):
            items.append(access(Command.COPY_OUT, (bank,), columns, row=row, handed_cycles=1))
            items.append(access(Command.COPY_IN, (bank - 1,), columns, row=to, handed_cycles=1))
        return tuple(items)

    def norm(self, *, is_there: bool = False) -> Program:
        """RMS norm: the sum of squares in pairs of banks, then twice a product element by element.

        ``is_there``: the vector lies in the banks already.
        """
        dim, apart = self.shape.dim, self.memory.banks_per_group
        squares = self.accesses(_up(dim, self.banks // 2))
        columns = self.per_group(dim)
        into = () if is_there else (0, 1)
        return (
            *(self.vector(Command.WRITE, 2, bank, _X, dim) for bank in into),
            accumulators_in(),
            mac(squares, _X),
            accumulators_out(),
            *(self.vector(Command.WRITE, apart, bank, _X_COPY, dim) for bank in into or (1,)),
            multiply(columns, _X_COPY),
            *self.regroup(dim, _X_COPY, _NORM),
            multiply(columns, _NORM),
            self.vector(Command.READ, apart, 2, _NORM, dim),
            SYNC,
        )

    def matrix(self, k: int, n: int, *, with_function: bool = False) -> Program:
        return matrix_vector(self.memory, k, n, self.matrix_banks, with_function=with_function)

    def rotary(self) -> Program:
        dim, apart = self.shape.dim, self.memory.banks_per_group
        repeats = self.shape.heads // self.shape.kv_heads
        length = _up(dim, self.banks // apart)
        used = _up(dim, length)
        places = {first: tuple(range(first, self.memory.banks_per_channel, apart))[:used] for first in (1, 2)}

        def moved(first: int, row: int, n: int) -> Instruction:
            columns = self.accesses(n)
            handed = columns * used * self.place.copies
            return access(Command.WRITE, places[first], columns, row=row, handed_cycles=handed)

        of_keys = length // repeats * 2
        return (
            moved(1, _XQ, length * 2),
            moved(1, _XK, of_keys),
            multiply(dim // self.operands, _XQ),
            multiply(dim // repeats // self.operands, _XK),
            moved(2, _XQ, length * 2),
            moved(2, _XK, of_keys),
        )

    def keep(self) -> Program:
        """The new key into a bank, the new value a column of every bank."""
        rows = self.shape.head_dim * self.shape.kv_heads // self.row
        columns = self.memory.accesses_per_row
        key = access(Command.WRITE, (0,), columns, handed_cycles=columns * self.place.copies)
        per_channel = _up(self.shape.kv_heads, self.place.channels)
        value = Instruction(command=Command.WRITE_ALL, handed_cycles=min(self.place.channels, self.shape.kv_heads))
        pieces = per_channel * (self.shape.head_dim // self.memory.banks_per_channel)
        return Repeat(n=max(1, rows), body=(key,)), Repeat(n=pieces, body=(value,))

    def scores(self, context: int) -> Program:
        repeats = self.shape.heads // self.shape.kv_heads
        rows = _up(self.shape.head_dim * self.shape.kv_heads, self.row)
        heads_in_row = self.row // self.shape.head_dim
        n = rows * _up(context, self.matrix_banks)

        def queries(row: int) -> Item:
            sums = accumulators_in(), mac(self.shape.head_dim // self.operands, row), accumulators_out()
            per_row = Repeat(n=heads_in_row, body=sums)
            return Repeat(n=repeats, body=(buffer_in(self.memory.accesses_per_row), per_row))

        turns: list[Item] = [queries(_KEYS), queries(_MORE_KEYS)]  # every row of keys is another one than that before
        return (*([Repeat(n=n // 2, body=tuple(turns))] if n > 1 else []), *turns[: n % 2])

    def softmax(self, context: int) -> Program:
        """Scores to the host and back, scaled before and after the exponentials."""
        apart = self.memory.banks_per_group
        homes = self.banks // apart
        per_bank = _up(self.shape.heads, homes)
        pieces = [min(self.row, context - start) for start in range(0, context, self.row)]
        groups = self.memory.banks_per_channel // apart

        def moved(command: Command, first: int) -> list[Item]:
            items: list[Item] = []
            for piece, length in enumerate(pieces):
                for one in range(per_bank):
                    used = _up(self.shape.heads - one, per_bank)
                    columns = self.accesses(length)
                    places = tuple(range(first, self.memory.banks_per_channel, apart))[: min(groups, used)]
                    handed = columns * used * self.place.copies
                    items.append(access(command, places, columns, row=_score_row(piece, one), handed_cycles=handed))
            return items

        scaled = [
            multiply(self.accesses(length), _score_row(piece, one))
            for one in range(per_bank)
            for piece, length in enumerate(pieces)
        ]
        half = (*moved(Command.WRITE, 0), *moved(Command.WRITE, 1), *scaled, *moved(Command.READ, 2), SYNC)
        return half + half

    def weighted(self, context: int) -> Program:
        """Scores times values: a head a channel, its elements over the banks."""
        per_channel = _up(self.shape.kv_heads, self.place.channels)
        repeats = self.shape.heads // self.shape.kv_heads
        pieces = self.shape.head_dim // self.memory.banks_per_channel
        items: list[Item] = []
        for start in range(0, context, self.row):
            columns = self.accesses(min(self.row, context - start))
            one = Repeat(n=pieces, body=(accumulators_in(), mac(columns), accumulators_out()))
            items += [buffer_in(columns), one]
        return (Repeat(n=per_channel * repeats, body=tuple(items)),)

    def gate(self) -> Program:
        ffn, apart = self.shape.ffn, self.memory.banks_per_group
        columns = self.per_group(ffn)
        return (
            self.vector(Command.WRITE, apart, 0, _GATE, ffn),
            self.vector(Command.WRITE, apart, 1, _GATE, ffn),
            multiply(columns, _GATE),
            *self.regroup(ffn, _GATE, _GATE),
            self.vector(Command.WRITE, apart, 0, _GATE, ffn),
            multiply(columns, _GATE),
            self.vector(Command.READ, apart, 2, _GATE, ffn),
            SYNC,
        )


def _score_row(piece: int, one: int) -> int:
    return _SCORES + 1000 * one + piece


def _up(n: int, size: int) -> int:
    return -(-n // size)


def matrix_vector(memory: PimOrganisationSpec, k: int, n: int, banks: int, *, with_function: bool = False) -> Program:
    """A vector of ``k`` elements times ``n`` columns spread over ``banks``: piece by piece of the vector in the buffer,
    as many columns of each bank as it has accumulators (half as many with an activation function behind), their sums
    in before and out after.
    """
    columns = _up(n, banks)
    groups = _up(columns, max(1, memory.accumulators_per_bank // (2 if with_function else 1)))
    size = _up(columns, groups)
    items: list[Item] = []
    pieces = [min(memory.operands_per_row, k - start) for start in range(0, k, memory.operands_per_row)]
    for number, piece in enumerate(pieces):
        accesses = _up(piece, memory.multiplies_per_bank)
        is_last = number == len(pieces) - 1
        items.append(buffer_in(accesses))
        for group in range(groups):
            count = min(size, columns - group * size)
            if count <= 0:
                continue
            items += [accumulators_in(count), Repeat(n=count, body=(mac(accesses),))]
            if with_function and is_last:
                items.append(Repeat(n=count, body=function()))
            items.append(accumulators_out(count))
    return _joined(items)


def packed_vectors(memory: PimOrganisationSpec, k: int, n: int, banks: int) -> Program:
    """As :func:`matrix_vector` for a short vector: several columns of the matrix lie in one row of a bank, which stays
    open for all of them.
    """
    columns = _up(n, banks)
    accesses = _up(k, memory.multiplies_per_bank)
    per_row = max(1, min(memory.accesses_per_row // accesses, memory.accumulators_per_bank))

    def row(number: int, count: int) -> tuple[Item, ...]:
        return accumulators_in(count), Repeat(n=count, body=(mac(accesses, number),)), accumulators_out(count)

    whole, left = divmod(columns, per_row)
    items: list[Item] = [buffer_in(accesses)]
    if whole > 1:  # no two rows that follow each other are the same one
        items.append(Repeat(n=whole // 2, body=(*row(_KEYS, per_row), *row(_MORE_KEYS, per_row))))
    if whole % 2:
        items += row(_KEYS, per_row)
    if left:
        items += row(_SCORES, left)
    return tuple(items)


def _joined(items: list[Item]) -> Program:
    """Equal stretches as one loop, so that they are run once."""
    best: Program = tuple(items)
    for length in range(1, len(items) // 2 + 1):
        head = items[:length]
        times = 1
        while items[times * length : (times + 1) * length] == head:
            times += 1
        if times > 1:
            return (Repeat(n=times, body=tuple(head)), *_joined(items[times * length :]))
    return best


def block_program(shape: DecoderShape, context: int, place: BlockPlace, memory: PimOrganisationSpec) -> Program:
    """One token through one block, with ``context`` tokens behind it (itself among them)."""
    one = _Lowering(shape, place, memory)
    keys = shape.head_dim * shape.kv_heads
    return (
        *one.norm(),
        *one.matrix(shape.dim, shape.dim),
        *one.matrix(shape.dim, keys),
        *one.matrix(shape.dim, keys),
        *one.rotary(),
        *one.keep(),
        *one.scores(context),
        *one.softmax(context),
        *one.weighted(context),
        *one.matrix(shape.dim, shape.dim),
        *one.norm(),
        *one.matrix(shape.dim, shape.ffn, with_function=True),
        *one.matrix(shape.dim, shape.ffn),
        *one.gate(),
        *one.matrix(shape.ffn, shape.dim),
    )


def embedding_program(shape: DecoderShape, place: BlockPlace, memory: PimOrganisationSpec) -> Program:
    """A token into the first block and out of the last: both embeddings as products, and the last norm."""
    one = _Lowering(shape, place, memory)
    return (
        *one.matrix(shape.vocabulary, shape.dim),
        *one.norm(is_there=True),
        *one.matrix(shape.dim, shape.vocabulary),
    )
