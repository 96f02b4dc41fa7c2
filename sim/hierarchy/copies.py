"""Moving parts of feature maps between memories before a layer starts: energy, and cycles on the ports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from tilewright.hw_models.hierarchy import MemorySpec

__all__ = ["Copy", "CopyCost", "copy_cost"]


class Copy(NamedTuple):
    """``bits`` from one of some levels of memory to another (0 is nearest to the array)."""

    bits: int
    source: int
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyCost:
    """Copies that run together: picojoules by memory name, and cycles until the last has ended."""

    energy_pj: dict[str, float]
    cycles: int


def copy_cost(copies: Iterable[Copy], levels: Sequence[MemorySpec]) -> CopyCost:
    """Cost of ``copies`` between ``levels`` of memory that all begin at once.

    A copy passes through every level between its two ends, one hop behind the other; a hop takes as long as its slower
    end. A port serves one hop at a time: it is done no earlier than its last hop would be on its own, and no earlier
    than its first start plus all its work.
    """
    energy: dict[str, float] = {}
    busy: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for bits, source, target in copies:
        if not bits:
            continue
        now = 0
        step = 1 if target > source else -1
        for place in range(source, target, step):
            giver, taker = levels[place], levels[place + step]
            energy[giver.name] = energy.get(giver.name, 0.0) + _accesses(bits, giver) * giver.read_pj
            energy[taker.name] = energy.get(taker.name, 0.0) + _accesses(bits, taker) * taker.write_pj
            cycles = max(ceil(bits / one.port_bits_per_cycle) for one in (giver, taker))
            for memory, way in ((giver, "read"), (taker, "write")):
                port = (memory.name, "any" if memory.ports == "shared" else way)
                busy.setdefault(port, []).append((now, cycles))
            now += cycles
    ends = [
        max(*(start + n for start, n in hops), min(start for start, _ in hops) + sum(n for _, n in hops))
        for hops in busy.values()
    ]
    return CopyCost(energy_pj=energy, cycles=max(ends, default=0))


def _accesses(bits: int, memory: MemorySpec) -> float:
    return ceil(bits / memory.granule) * memory.granule / memory.width_bits
