"""What the link between cores and memory takes: rates, hops, and how many at a time a multicast occupies.

Which paths there are follows from its kind (n cores, B bytes a cycle on each link):

======== ============================== =============================== =====================
kind     from memory to all cores       a multicast                     farthest core, hops
======== ============================== =============================== =====================
bus      B in all                       takes the bus, B                1
crossbar B into each core, n B          B into each core                1
ring     memory at one node, 2 B        takes the ring, B               n / 2
mesh     memory along the longer side,  B into each core, on paths of   rows + columns - 1
         columns x B                    their own (by row, by column)
======== ============================== =============================== =====================
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import isqrt

from tilewright.hw_models.spec import LinkSpec, MachineSpec
from tilewright.units import exact

__all__ = ["hop_cycles", "link_assumptions", "link_rate", "multicasts", "of_each_core", "rate_from_memory"]


def multicasts(machine: MachineSpec) -> bool:
    """Whether one transfer can bring the same bytes to several cores."""
    return machine.links is not None and machine.links.multicast


def of_each_core(link: LinkSpec) -> bool:
    """Whether each core has a path of its own to receive on, so that multicasts do not hold each other up."""
    return link.kind in ("crossbar", "mesh")


def hop_cycles(machine: MachineSpec) -> int:
    """Cycles from memory to the farthest core; 0 without a link."""
    link = machine.links
    return 0 if link is None else link.hop_cycles * _hops(link.kind, machine.n_cores)


def link_rate(machine: MachineSpec) -> Fraction:
    """Bytes a cycle that multicasts bring, all of them together: counted once for each, or for each core."""
    link = machine.links
    assert link is not None
    return exact(link.bytes_per_cycle) * (machine.n_cores if of_each_core(link) else 1)


def rate_from_memory(machine: MachineSpec) -> Fraction | None:
    """Bytes a cycle between memory and all the cores together; None without a link."""
    link = machine.links
    return None if link is None else exact(link.bytes_per_cycle) * _paths(link.kind, machine.n_cores)


def link_assumptions(machine: MachineSpec) -> list[str]:
    """What results on a machine with a link say."""
    link = machine.links
    if link is None:
        return []
    text = f"the {link.kind} is crossed at its bandwidth in all, every way as far as the farthest core"
    if link.multicast:
        text += "; what it sends to several cores is brought to one of them first, then sent to all"
    return [
        text + ("; a mesh is as square as its cores allow, memory along its longer side" if link.kind == "mesh" else "")
    ]


@lru_cache(maxsize=256)
def _hops(kind: str, n_cores: int) -> int:
    if kind == "ring":
        return max(1, n_cores // 2)
    return sum(_mesh(n_cores)) - 1 if kind == "mesh" else 1


@lru_cache(maxsize=256)
def _paths(kind: str, n_cores: int) -> int:
    if kind == "mesh":
        return _mesh(n_cores)[1]
    return {"bus": 1, "ring": min(2, n_cores), "crossbar": n_cores}[kind]


def _mesh(n_cores: int) -> tuple[int, int]:
    """(rows, columns) of the squarest mesh, rows not above columns."""
    rows = next(rows for rows in range(isqrt(n_cores), 0, -1) if n_cores % rows == 0)
    return rows, n_cores // rows
