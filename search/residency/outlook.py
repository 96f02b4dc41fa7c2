"""What a plan of what stays on chip could give at most, told without making one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.hw_models.spec import MachineSpec
from tilewright.search.residency.plan import memories_of
from tilewright.search.residency.tensors import residents_of, with_homes
from tilewright.sim.jobs import JobLayer, jobs_on
from tilewright.sim.lowering.family import family_of
from tilewright.sim.lowering.levels import level_called
from tilewright.workloads.homes import Place

if TYPE_CHECKING:
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Outlook", "outlook_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Tensors that could stay in ``memory``: ``n_bytes`` of activations and weights, of which each by itself fits.

    ``bound_cycles``: the bounds of all operators one after the other with every one of them there, as if they took no
    room; ``bound_now_cycles``: with all in the DRAM.
    """

    memory: Place
    capacity_bytes: int
    n_tensors: int
    n_bytes: int
    bound_cycles: int
    bound_now_cycles: int


def outlook_of(stream: OperatorStream, machine: MachineSpec, *, fuse: bool = True) -> Outlook | None:
    """The memory in which a plan could give most; None where no tensor could stay anywhere."""
    jobs = jobs_on(stream, machine, fuse=fuse)
    operands, residents = residents_of(stream, jobs)
    known: dict[JobLayer, int] = {}

    def bound(layer: JobLayer) -> int:
        if layer not in known:
            family = family_of(layer)
            known[layer] = family.bound(family.adapted(layer, machine), machine).cycles
        return known[layer]

    best: Outlook | None = None
    for memory in memories_of(machine):
        buffer, capacity = machine.buffer(memory), level_called(machine, memory).capacity_bytes
        own = [
            one
            for one in residents
            if ("weights" if one.is_weight else "activations") in buffer.holds and one.n_bytes <= capacity
        ]
        if not own:
            continue
        there = {one.name: memory for one in own}
        cycles = sum(bound(with_homes(job.layer, use, there)) for job, use in zip(jobs, operands, strict=True))
        if best is None or cycles < best.bound_cycles:
            best = Outlook(
                memory=memory,
                capacity_bytes=capacity,
                n_tensors=len(own),
                n_bytes=sum(one.n_bytes for one in own),
                bound_cycles=cycles,
                bound_now_cycles=sum(bound(job.layer) for job in jobs),
            )
    return best
