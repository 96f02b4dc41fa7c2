"""What each kernel of a network finds in the L2, by the bytes touched since a tensor was last used.

Inferences follow each other back to back, so weights may still be there from the one before. A result that its next
reader finds in the L2 has not gone to the DRAM: by then its memory is free and is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tilewright.sim.gpu.launches.launch import Launch
from tilewright.sim.gpu.memory import miss_share

__all__ = ["ASSUMPTION", "Found", "found_in_cache", "nothing_found"]

ASSUMPTION = (
    "the L2 between kernels: what was touched since a tensor's last use decides how much of it is still there; "
    "inferences follow each other back to back"
)
_NEVER = np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Shares (0 to 1) of each of a kernel's reads and writes that cross the DRAM's bus."""

    reads: tuple[float, ...]
    writes: tuple[float, ...]

    def read_bytes(self, launch: Launch) -> float:
        """Bytes that come from the DRAM."""
        return sum(use.n_bytes * share for use, share in zip(launch.reads, self.reads, strict=True))

    def write_bytes(self, launch: Launch) -> float:
        """Bytes that go to the DRAM."""
        return sum(use.n_bytes * share for use, share in zip(launch.writes, self.writes, strict=True))


def nothing_found(launch: Launch) -> Found:
    """Nothing lies in the L2 and nothing stays there: a kernel alone, on operands that rotate."""
    return Found(reads=(1.0,) * len(launch.reads), writes=(1.0,) * len(launch.writes))


def found_in_cache(launches: Sequence[Launch], cache_bytes: float, *, repeated: bool = True) -> tuple[Found, ...]:
    """What each of ``launches`` finds of ``cache_bytes``, in an inference that follows another one.

    ``repeated``: on the same tensors; else they rotate, and only what was made since the beginning can be found.
    """
    distances = _distances(launches, times=2 if repeated else 1)
    shares = [[float(one) for one in miss_share(np.array(row), cache_bytes)] for row in distances.reads]
    writes = [[float(one) for one in miss_share(np.array(row), cache_bytes)] for row in distances.writes]
    return tuple(Found(reads=tuple(a), writes=tuple(b)) for a, b in zip(shares, writes, strict=True))


@dataclass(slots=True)
class _Distances:
    """Bytes touched since the last use of each read, and until the next use of each write."""

    reads: list[list[float]]
    writes: list[list[float]]


def _distances(launches: Sequence[Launch], *, times: int) -> _Distances:
    """So many inferences one after the other are walked through; the last one's distances are told."""
    found = _Distances([[] for _ in launches], [[_NEVER] * len(launch.writes) for launch in launches])
    last: dict[str, float] = {}  # tensor -> bytes touched before its last use began
    writer: dict[str, tuple[int, int]] = {}  # tensor -> the write that nobody has read yet
    sizes: dict[str, int] = {}
    for launch in launches:
        for use in (*launch.reads, *launch.writes):
            sizes[use.tensor] = max(sizes.get(use.tensor, 0), use.n_bytes)
    touched = 0.0
    for _ in range(times):
        for at, launch in enumerate(launches):
            found.reads[at] = [touched - last.get(use.tensor, -_NEVER) for use in launch.reads]
            for use, distance in zip(launch.reads, found.reads[at], strict=True):
                if use.tensor in writer:
                    maker, slot = writer.pop(use.tensor)
                    found.writes[maker][slot] = distance
                last[use.tensor] = touched
            for slot, use in enumerate(launch.writes):
                writer[use.tensor] = at, slot
                if use.n_bytes == sizes[use.tensor]:  # rows that are appended bring nothing else of it
                    last[use.tensor] = touched
            touched += launch.read_bytes + (0 if launch.in_place else launch.write_bytes)
    return found
