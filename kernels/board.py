"""What a board says of itself while it works: joules since its driver was loaded, watts, the clock. Nothing is set.

Through NVML, the library of NVIDIA's driver, which is where the driver is; without it every figure is None.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from typing import Any

__all__ = ["Board", "board"]

_LIBRARY = "libnvidia-ml.so.1"
_SM_CLOCK = 1  # NVML_CLOCK_SM


@dataclass(frozen=True, slots=True)
class Board:
    """The first GPU's counters by NVML; ``library`` is None where there is none."""

    library: Any = None
    handle: Any = None

    def joules(self) -> float | None:
        """The energy counter, in joules; it moves every 0.1 s or so."""
        millijoules = self._asked("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong())
        return None if millijoules is None else millijoules / 1e3

    def watts(self) -> float | None:
        """Mean power of about the last second."""
        milliwatts = self._asked("nvmlDeviceGetPowerUsage", ctypes.c_uint())
        return None if milliwatts is None else milliwatts / 1e3

    def clock_mhz(self) -> float | None:
        """The clock of the multiprocessors now."""
        return self._asked("nvmlDeviceGetClockInfo", ctypes.c_uint(), _SM_CLOCK)

    def _asked(self, function: str, value: Any, *arguments: int) -> float | None:
        if self.library is None:
            return None
        failed = getattr(self.library, function)(self.handle, *arguments, ctypes.byref(value))
        return None if failed else float(value.value)


@cache
def board() -> Board:
    """The first GPU's board; one that knows nothing where the driver is not there."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return Board()
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
        return Board()
    return Board(library, handle)
