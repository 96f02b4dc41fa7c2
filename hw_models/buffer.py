"""What an on-chip buffer takes: cycles to move bytes through its ports."""

from __future__ import annotations

from functools import lru_cache

from tilewright.hw_models.spec import BufferSpec
from tilewright.units import exact

__all__ = ["access_cycles"]


def access_cycles(buffer: BufferSpec, *, read_bytes: int, write_bytes: int) -> int:
    """Cycles to read and write so many bytes, both ports working at the same time.

    The larger of the two, each ceil(bytes / bytes per cycle); 0 where the buffer is never the bottleneck.
    """
    return max(
        _port_cycles(buffer.read_bytes_per_cycle, read_bytes), _port_cycles(buffer.write_bytes_per_cycle, write_bytes)
    )


def _port_cycles(bytes_per_cycle: float | None, n_bytes: int) -> int:
    if bytes_per_cycle is None:
        return 0
    up, down = _ratio(bytes_per_cycle)
    return -(-n_bytes * down // up)


@lru_cache(maxsize=256)
def _ratio(rate: float) -> tuple[int, int]:
    fraction = exact(rate)
    return fraction.numerator, fraction.denominator
