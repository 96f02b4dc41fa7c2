"""What of a kernel's operands still lies in the L2, by the bytes touched since they were last used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["miss_share"]

#: The measured L2 bandwidth of an H200 falls from its plateau at 44 MB to DRAM speed at about 70 MB of working set, a
#: factor of 1.55 from the first miss to the last hit (RRZE gpu-l2-cache); the edges below have the same factor.
_FIRST_MISS, _LAST_HIT = 0.8, 1.25


def miss_share(distance_bytes: NDArray[np.float64], cache_bytes: float) -> NDArray[np.float64]:
    """Share (0 to 1) of an operand that comes from DRAM when ``distance_bytes`` were touched since its last use."""
    return np.clip((distance_bytes / cache_bytes - _FIRST_MISS) / (_LAST_HIT - _FIRST_MISS), 0.0, 1.0)
