"""What an on-chip buffer takes: cycles to move bytes through its ports."""

from __future__ import annotations

from functools import lru_cache

from tilewright.errors import InputError
from tilewright.hw_models.spec import BufferPartSpec, BufferSpec, MachineSpec
from tilewright.units import exact

__all__ = ["access_cycles", "refuse_parts"]


def access_cycles(buffer: BufferSpec | BufferPartSpec, *, read_bytes: int, write_bytes: int) -> int:
    """Cycles to read and write so many bytes, both ports working at the same time.

    The larger of the two, each ceil(bytes / bytes per cycle); 0 where the buffer is never the bottleneck.
    """
    return max(
        _port_cycles(buffer.read_bytes_per_cycle, read_bytes), _port_cycles(buffer.write_bytes_per_cycle, write_bytes)
    )


def refuse_parts(machine: MachineSpec | None, what: str) -> None:
    """Raise InputError where the working buffer of ``machine`` has parts, which ``what`` knows nothing of."""
    if machine is not None and machine.working_buffer.parts:
        buffer = machine.working_buffer
        raise InputError(
            f"{machine.name}: buffers.{buffer.name}.parts: {what} take one buffer for all operands; "
            f"given {', '.join(part.name for part in buffer.parts)}; allowed a machine without parts"
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
