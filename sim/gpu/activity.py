"""What a GPU kernel does while it runs: multiply-adds by format, bytes by level, operations of the lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["SCORE_OPERATIONS", "Activity", "total"]

#: Of a lane for each score of attention: scale, compare, subtract, exponential, sum, convert.
SCORE_OPERATIONS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Counts of kernels, as arrays of one length.

    ``macs``: multiply-adds by the format that they are done in. ``dram_bytes`` cross the DRAM's pins, ``l2_bytes`` go
    between L2 and multiprocessors (those from DRAM too). ``lane_operations`` of the CUDA lanes, beside the products.
    """

    macs: Mapping[str, Numbers] = field(hash=False)
    dram_bytes: Numbers = field(hash=False)
    l2_bytes: Numbers = field(hash=False)
    lane_operations: Numbers = field(hash=False)

    def rows(self, chosen: NDArray[np.bool_]) -> Activity:
        """Those of the ``chosen`` kernels, a mask."""
        return Activity(
            macs={name: count[chosen] for name, count in self.macs.items()},
            dram_bytes=self.dram_bytes[chosen],
            l2_bytes=self.l2_bytes[chosen],
            lane_operations=self.lane_operations[chosen],
        )


def total(parts: Sequence[Activity]) -> Activity:
    """Of kernels that run one after the other in one call; ``parts`` of one length, at least one."""
    macs: dict[str, Numbers] = {}
    for part in parts:
        for name, count in part.macs.items():
            macs[name] = macs[name] + count if name in macs else count
    first, *others = parts
    dram, l2, lanes = first.dram_bytes, first.l2_bytes, first.lane_operations
    for part in others:
        dram, l2, lanes = dram + part.dram_bytes, l2 + part.l2_bytes, lanes + part.lane_operations
    return Activity(macs=macs, dram_bytes=dram, l2_bytes=l2, lane_operations=lanes)
