"""What a plan of what stays on chip could give at most, told without making one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING

from tilewright.hw_models.spec import MachineSpec
from tilewright.search.residency.costs import MOST_FREE
from tilewright.search.residency.plan import memories_of
from tilewright.search.residency.tensors import JobOperands, residents_of, with_homes
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

    ``bound_cycles``: the bounds of all operators one after the other with every one of them there (in a level: each
    there or in the DRAM, whichever is lower: a slow port makes it worse), as if they took no room;
    ``bound_now_cycles``: with all in the DRAM.
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
        names = {one.name for one in own}
        near = memory == machine.working_buffer.name
        cycles = sum(
            min(bound(with_homes(job.layer, use, there)) for there in _homes(use, names, memory, every=near))
            for job, use in zip(jobs, operands, strict=True)
        )
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


def _homes(use: JobOperands, names: set[str], memory: Place, *, every: bool) -> Iterator[dict[str, Place]]:
    """Where a job's tensors may be in a plan: ``every`` one that may stay in the memory, or any of them there."""
    own = tuple(name for name in use.names if name in names)
    if every:
        choices: Iterable[tuple[str, ...]] = (own,)
    elif len(own) <= MOST_FREE:
        choices = chain.from_iterable(combinations(own, n) for n in range(len(own) + 1))
    else:
        reads = tuple(name for name in own if name in use.reads)
        choices = ((), own, reads, tuple(name for name in own if name not in reads))
    return (dict.fromkeys(there, memory) for there in choices)
