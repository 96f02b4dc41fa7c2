"""What a host tells a channel: instructions, and loops of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tilewright.sim.pim.commands import BANK_COMMANDS, Command

__all__ = [
    "CONFIGURE",
    "FUNCTION_ROW",
    "SYNC",
    "Instruction",
    "Item",
    "Program",
    "Repeat",
    "access",
    "accumulators_in",
    "accumulators_out",
    "buffer_in",
    "function",
    "mac",
    "multiply",
    "unrolled",
]

#: The row of the table that activation functions are looked up in.
FUNCTION_ROW = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """``command`` to be issued ``n`` times; None: nothing issues (``waits``: until all before is done).

    ``row`` must be open for it; None: a row that was not open before. ``banks``: for commands of one bank, those that
    take turns, ``n`` each. ``handed_cycles``: what the host needs to hand it out (an access to several channels needs a
    cycle each).
    """

    command: Command | None
    n: int = 1
    row: int | None = None
    banks: tuple[int, ...] = ()
    handed_cycles: int = 1
    waits: bool = False

    def __post_init__(self) -> None:
        assert self.n >= 1 and self.handed_cycles >= 1
        assert bool(self.banks) == (self.command in BANK_COMMANDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """``body``, ``n`` times."""

    n: int
    body: tuple[Item, ...]


Item: TypeAlias = Instruction | Repeat
Program: TypeAlias = tuple[Item, ...]

#: A setting of the host: a cycle of its own, no command.
CONFIGURE = Instruction(command=None)
#: The host waits until everything before is done.
SYNC = Instruction(command=None, waits=True)


def mac(n: int, row: int | None = None) -> Instruction:
    """``n`` accesses of a row, multiplied with the buffer in all banks."""
    return Instruction(command=Command.MAC_ALL, n=n, row=row)


def multiply(n: int, row: int | None = None) -> Instruction:
    """``n`` accesses of two banks of each group multiplied element by element into a third."""
    return Instruction(command=Command.MULTIPLY_ALL, n=n, row=row)


def buffer_in(n: int) -> Instruction:
    """``n`` accesses of a vector written into the channel's buffer."""
    return Instruction(command=Command.WRITE_BUFFER, n=n)


def accumulators_in(n: int = 1) -> Item:
    """A sum into each bank, ``n`` of them one after another."""
    one = Instruction(command=Command.WRITE_ACCUMULATORS)
    return one if n == 1 else Repeat(n=n, body=(one,))


def accumulators_out(n: int = 1) -> Item:
    """A sum out of each bank, ``n`` of them; the host waits for each."""
    one = Instruction(command=Command.READ_ACCUMULATORS)
    return one if n == 1 else Repeat(n=n, body=(one,))


def function() -> tuple[Instruction, Instruction]:
    """An activation function of a sum of each bank, and its results out."""
    return Instruction(command=Command.FUNCTION_ALL, row=FUNCTION_ROW), Instruction(command=Command.READ_FUNCTION)


def access(
    command: Command, banks: Iterable[int], n: int, *, row: int | None = None, handed_cycles: int | None = None
) -> Instruction:
    """``n`` columns of each of ``banks`` read, written or copied."""
    places = tuple(banks)
    return Instruction(
        command=command, n=n, row=row, banks=places,
        handed_cycles=n * len(places) if handed_cycles is None else handed_cycles,
    )  # fmt: skip


def unrolled(program: Iterable[Item]) -> Iterator[Instruction]:
    """Instruction after instruction, loops written out."""
    for item in program:
        if isinstance(item, Instruction):
            yield item
        else:
            for _ in range(item.n):
                yield from unrolled(item.body)
