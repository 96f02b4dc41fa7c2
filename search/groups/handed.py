"""What operators hand to each other in a memory that their groups reach: chosen, addressed, and mapped anew.

A memory that several groups reach is divided: half of it is for what is handed over, the other half is dealt in equal
parts to the groups for the tiles of their operators. What is used most often for its room comes first, at the lowest
address that is free from the start of its maker to the end of its last reader, as the placement has them; who writes
where something else has been waits for the readers of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from tilewright.errors import InputError
from tilewright.hw_models.spec import EVERYTHING, MachineSpec
from tilewright.search.groups.place import Placement
from tilewright.search.groups.prepare import OnGroup, Prepared, alone_cycles
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import best_mapping
from tilewright.search.objective import Objective
from tilewright.search.residency.addresses import Block, lowest_address
from tilewright.search.residency.tensors import residents_of, with_homes
from tilewright.sim.lowering.levels import level_called
from tilewright.workloads.task_graphs.graph import Edge

__all__ = ["Handed", "shared_level", "with_hand_over"]

HANDED_PARTS = 2  # one part of so many of a shared memory is for what is handed over


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A tensor that lives at ``address`` of a shared memory, from the cycle ``start`` to ``end`` of the placement.

    ``makers`` (several write their parts of a concatenation) and ``users`` are jobs, the makers among the latter.
    """

    name: str
    n_bytes: int
    makers: tuple[int, ...]
    users: tuple[int, ...]
    start: int
    end: int
    address: int = 0

    @property
    def block(self) -> Block:
        """Its room over time."""
        return Block(self.start, self.end - 1, self.n_bytes)


def shared_level(machine: MachineSpec) -> str:
    """The largest memory that groups beside the main one reach, as a place; "" where there is none."""
    names = {name for group in machine.groups.values() for name in group.reaches}
    return max(names, key=lambda name: level_called(machine, name).capacity_bytes, default="")


def with_hand_over(
    ready: Prepared,
    placement: Placement,
    *,
    objective: Objective,
    attention_dataflows: Sequence[str],
    cache: MappingCache,
) -> Prepared:
    """``ready`` with what operators of ``placement`` hand to each other in the shared memory, and their mappings anew;
    an operator that fits in none with it there leaves all as it was.
    """
    place = shared_level(ready.machine)
    handed = _chosen(ready, placement, place) if place else ()
    if not handed:
        return ready
    jobs = [ready.options[number][one.unit].job for number, one in enumerate(placement.jobs)]
    operands, _ = residents_of(ready.stream, jobs)
    places = {one.name: place for one in handed}
    options: list[Mapping[int, OnGroup]] = []
    known: dict[object, OnGroup] = {}
    with suppress(InputError):
        for number, (job, own) in enumerate(zip(jobs, operands, strict=True)):
            unit = ready.units[placement.jobs[number].unit]
            if not any(name in places for name in own.names):
                options.append(ready.options[number])
                continue
            here = replace(job, layer=with_homes(job.layer, own, places))
            key = unit.number, here.layer
            if key not in known:
                near = (ready.options[number][unit.number].mapped.way,)
                mapped = best_mapping(here, unit.machine, objective, tuple(attention_dataflows), cache, near)
                known[key] = OnGroup(job=here, mapped=mapped, cycles=alone_cycles(mapped, unit, ready.machine))
            options.append({unit.number: replace(known[key], job=here)})
        edges = {(edge.source, edge.target): edge for edge in (*ready.edges, *_waits(handed))}
        return replace(ready, options=tuple(options), edges=tuple(edges.values()), handed=handed)
    return ready


def _chosen(ready: Prepared, placement: Placement, place: str) -> tuple[Handed, ...]:
    """The tensors that live there, each with its address."""
    machine = ready.machine
    reach = {
        unit.number
        for unit in ready.units
        if EVERYTHING not in unit.machine.lacks and any(one.name == place for one in unit.machine.buffers)
    }
    jobs = [ready.options[number][one.unit].job for number, one in enumerate(placement.jobs)]
    operands, residents = residents_of(ready.stream, jobs)
    users: dict[str, list[int]] = {}
    for number, own in enumerate(operands):
        for name in own.names:
            users.setdefault(name, []).append(number)
    could: list[Handed] = []
    for resident in residents:
        own_users = users[resident.name]
        if resident.is_weight or any(placement.jobs[number].unit not in reach for number in own_users):
            continue
        times = [placement.jobs[number] for number in own_users]
        could.append(
            Handed(
                name=resident.name,
                n_bytes=resident.n_bytes,
                makers=tuple(number for number in own_users if operands[number].out == resident.name),
                users=tuple(own_users),
                start=min(time.start for time in times),
                end=max(time.finish for time in times),
            )
        )
    could.sort(key=lambda one: (-len(one.users), one.n_bytes * (one.end - one.start), one.users))
    room = level_called(machine, place).capacity_bytes // HANDED_PARTS
    found: list[Handed] = []
    for one in could:
        address = lowest_address(one.block, [(other.block, other.address) for other in found])
        if address + one.n_bytes <= room:
            found.append(replace(one, address=address))
    return tuple(found)


def _waits(handed: Sequence[Handed]) -> list[Edge]:
    """Who writes where another tensor has been waits for all that use that."""
    return [
        Edge(source=user, target=maker)
        for later in handed
        for earlier in handed
        if earlier.end <= later.start
        and earlier.address < later.address + later.n_bytes
        and later.address < earlier.address + earlier.n_bytes
        for user in earlier.users
        for maker in later.makers
        if user != maker
    ]
