"""What is told of all the tilings of a phase at once, before any of them is looked at alone."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Column", "Flags", "Screened"]

Column: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


class Screened(NamedTuple):
    """By tiling: whether it fits on chip, and cycles and energy (pJ, idle power left out) that counting and running it
    never undercut.
    """

    fits: Flags
    bound_cycles: Column
    energy_pj: npt.NDArray[np.float64]
