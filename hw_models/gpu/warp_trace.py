"""The instructions of a compiled GPU kernel as its warps issue them: what a compiler tells and a timing model reads.

A row is an instruction in the order in which a warp that stays inside the matrix and does not leave early meets it; the
rows of the main loop are met once a trip. Waits are those that the compiler wrote into the instructions: a fixed number
of cycles before the next one, and counters (six a warp) that an instruction of variable latency holds until its result
is there (``write_barrier``) or until its operands are read (``read_barrier``), and that later ones wait for
(``wait_mask``, a bit each).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["COLUMNS", "InstructionKind", "WarpTrace"]


class InstructionKind(IntEnum):
    """What an instruction needs.

    ``INTEGER``: the lanes of integers, comparisons, selections, packing. ``FLOAT``: those of fp32. ``MULTIPLY``:
    integer multiply-adds on those. ``SPECIAL``: exponentials, divisions, slow conversions. ``OLD_PRODUCT``: a product
    of one warp; ``PRODUCT``: an asynchronous one of four warps, which ``PRODUCT_ARRIVE`` brings together and
    ``PRODUCT_WAIT`` waits for. ``SHARED_LOAD``,
    ``SHARED_STORE``: shared memory (and values handed between lanes). ``COPY``: DRAM to shared memory past the
    registers, ``COPY_COMMIT`` closes a group of them, ``COPY_WAIT`` waits for groups. ``LOCAL``: a spilled register.
    ``BARRIER``: all warps of the block. ``UNIFORM``: the unit that works once for a warp.
    """

    OTHER = 0
    INTEGER = 1
    FLOAT = 2
    MULTIPLY = 3
    SPECIAL = 4
    OLD_PRODUCT = 5
    PRODUCT = 6
    PRODUCT_WAIT = 7
    SHARED_LOAD = 8
    SHARED_STORE = 9
    COPY = 10
    COPY_COMMIT = 11
    COPY_WAIT = 12
    LOAD = 13
    STORE = 14
    LOCAL = 15
    BARRIER = 16
    FENCE = 17
    UNIFORM = 18
    PRODUCT_ARRIVE = 19


#: ``amount``: bytes of a warp's load, store or copy; multiply-adds of a warp's product at the rate of 16 bits; groups
#: that may be left for a wait. ``wavefronts``: turns of 128 bytes at the shared memory, with bank conflicts.
#: ``commits``: 1 where a product closes a group. ``result``, ``source_...``: registers that products write and others
#: read, -1 for none.
COLUMNS = (
    "kind",
    "amount",
    "wavefronts",
    "commits",
    "stall",
    "write_barrier",
    "read_barrier",
    "wait_mask",
    "result",
    "source_0",
    "source_1",
    "source_2",
    "source_3",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpTrace:
    """``rows`` (instructions, :data:`COLUMNS`) of a kernel with ``warps`` a block; the loop's first and last row.

    ``registers`` of a thread, ``spill_bytes`` of it, ``shared_bytes`` of a block. ``instructions``: how many of each
    kind one warp issues in a trip of the loop, by their names.
    """

    rows: NDArray[np.float64] = field(hash=False)
    loop_first: int
    loop_last: int
    warps: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    instructions: dict[str, int] = field(hash=False)
