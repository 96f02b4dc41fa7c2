"""Where the operands of a job are kept while it runs: in the DRAM, in a memory on chip, or in the working buffer."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

__all__ = [
    "ALL_IN_DRAM",
    "DRAM",
    "GROUP_IN_DRAM",
    "IN_DRAM",
    "ROWS_IN_DRAM",
    "AnyHomes",
    "AttentionHomes",
    "GroupHomes",
    "Homes",
    "Place",
    "VectorHomes",
    "held_in",
]

#: The name of a memory of the machine; empty for the DRAM.
Place: TypeAlias = str
DRAM: Place = ""


class Homes(NamedTuple):
    """The memories in which a job finds its operands and leaves its result.

    ``a``, ``b``, ``out``; ``extras``: of each fused input, as many as there are (empty: all in the DRAM). An operand
    whose home is the working buffer of the only core is there, whole, when the job begins, and is not moved; a result
    stays there. ``held``: (memory, bytes) that a memory holds besides the tiles of this job, its operands that live
    there included.
    """

    a: Place = DRAM
    b: Place = DRAM
    out: Place = DRAM
    extras: tuple[Place, ...] = ()
    held: tuple[tuple[Place, int], ...] = ()

    def extra(self, number: int) -> Place:
        """The home of a fused input."""
        return self.extras[number] if self.extras else DRAM


IN_DRAM = Homes()


class AttentionHomes(NamedTuple):
    """As :class:`Homes`, of an attention layer; its bias and sinks come from the DRAM."""

    q: Place = DRAM
    k: Place = DRAM
    v: Place = DRAM
    out: Place = DRAM
    held: tuple[tuple[Place, int], ...] = ()


ALL_IN_DRAM = AttentionHomes()


class VectorHomes(NamedTuple):
    """As :class:`Homes`, of vector work. ``reads``: (memory, bytes of a row) for what is read from elsewhere than the
    DRAM; ``out``: where the result is left.
    """

    reads: tuple[tuple[Place, int], ...] = ()
    out: Place = DRAM
    held: tuple[tuple[Place, int], ...] = ()


ROWS_IN_DRAM = VectorHomes()


class GroupHomes(NamedTuple):
    """As :class:`Homes`, of a group of operators that run together: by the names of its stored tensors.

    ``places``: the memory of what the group reads, leaves behind or multiplies by, where that is not the DRAM; what
    passes between its operators alone has no home. ``held``: (memory, bytes) besides what the group itself takes.
    """

    places: tuple[tuple[str, Place], ...] = ()
    held: tuple[tuple[Place, int], ...] = ()

    def of(self, name: str) -> Place:
        """The home of a tensor."""
        return dict(self.places).get(name, DRAM)


GROUP_IN_DRAM = GroupHomes()

AnyHomes: TypeAlias = Homes | AttentionHomes | VectorHomes


def held_in(homes: AnyHomes, memory: Place) -> int:
    """Bytes that ``memory`` holds besides the tiles of the job."""
    return dict(homes.held).get(memory, 0) if homes.held else 0
