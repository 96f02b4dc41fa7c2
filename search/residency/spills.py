"""Tensors that leave the chip for a part of their lives: written out, and read from the DRAM or brought back.

A tensor is used by the job that makes it and by those that read it. At each of these uses it is on chip or in the DRAM,
and between two of them it stays on chip or not. It is *spilled* (copied to the DRAM, once) behind the use after which
it first leaves, if it was made on chip, and *filled* (copied back) before a use at which it is on chip without having
stayed. Copies are jobs of their own with exact costs: rows from one memory to the other, in a small room for tiles that
must be free beside what the neighbouring job has on chip. A life on chip from end to end, or none, is a case of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from tilewright.errors import InputError
from tilewright.hw_models.overheads import overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.residency.costs import Searched
from tilewright.search.residency.solve import Life, PlannedJob
from tilewright.search.residency.tensors import Resident
from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.residency_plan import CopiedTensor
from tilewright.units import ceil_div
from tilewright.workloads.gemm import VectorLayer
from tilewright.workloads.homes import DRAM, Place, VectorHomes
from tilewright.workloads.operators import Operator

__all__ = ["Copy", "Divided", "Laid", "copy_job", "divided", "laid_out", "lifelong"]

COPY_ROW_BYTES = 4096  # of a copy; its last row may be shorter
ROOMS = (64, 16, 4)  # a copy's tiles have one part in so many of the memory, the smallest in which a mapping fits


class Copy(NamedTuple):
    """A copy of ``tensor`` out of the memory or (``is_fill``) back into it."""

    tensor: str
    is_fill: bool
    layer: VectorLayer
    n_bytes: int
    need: int


class Divided(NamedTuple):
    """The residents of a plan in which some have lives in parts, and the jobs in these terms.

    ``names``: of each resident the number of the tensor that it is a part of, in the plan of whole lives; ``copies``:
    of each life its spill and its fill.
    """

    residents: tuple[Resident, ...]
    jobs: tuple[PlannedJob, ...]
    lives: tuple[Life, ...]
    names: tuple[int, ...]
    copies: tuple[tuple[Copy, Copy], ...]


#: The best mapping of a layer of job number n: its cost and the room of its tiles in the memory.
CopySearch = Callable[[int, JobLayer], Searched]


def divided(
    residents: Sequence[Resident],
    jobs: Sequence[PlannedJob],
    machine: MachineSpec,
    memory: Place,
    capacity: int,
    search: CopySearch,
    *,
    is_cycles: bool,
) -> Divided | None:
    """``residents`` with those activations in parts that some job between two of their uses does not use; None where
    there are none. A copy costs what its best mapping does, and the fixed cost of a command.
    """
    uses: list[list[int]] = [[] for _ in residents]
    for at, job in enumerate(jobs):
        for number in job.tensors:
            uses[number].append(at)
    found: list[Resident] = []
    names: list[int] = []
    lives: list[Life] = []
    copies: list[tuple[Copy, Copy]] = []
    at_use: dict[tuple[int, int], int] = {}  # of a tensor and a job that uses it: what says that it is on chip there
    known: dict[int, tuple[tuple[Copy, Searched], tuple[Copy, Searched]] | None] = {}
    fixed = ceil(overhead_cycles(machine)[1]) if is_cycles else 0
    for number, resident in enumerate(residents):
        own = uses[number]
        both = None
        if not resident.is_weight and (len(own) > 2 or any(b - a > 1 for a, b in pairwise(own))):
            if resident.n_bytes not in known:
                known[resident.n_bytes] = _copies(resident, own[0], machine, memory, capacity, search, fixed)
            both = known[resident.n_bytes]
        if both is None:
            at_use |= dict.fromkeys(((number, at) for at in own), len(found))
            found.append(resident)
            names.append(number)
            continue
        on = range(len(found), len(found) + len(own))
        held = range(on.stop, on.stop + len(own) - 1)
        at_use |= {(number, at): var for at, var in zip(own, on, strict=True)}
        found += [replace(resident, first=at, last=at) for at in own]
        found += [replace(resident, first=a + 1, last=b - 1) for a, b in pairwise(own)]
        names += [number] * (len(on) + len(held))
        (spill, out), (fill, back) = both
        lives.append(Life(uses=tuple(own), on=tuple(on), held=tuple(held), spill=out, fill=back))
        copies.append((spill._replace(tensor=resident.name), fill._replace(tensor=resident.name)))
    if not lives:
        return None
    renumbered = tuple(
        replace(job, tensors=tuple(at_use[number, at] for number in job.tensors)) for at, job in enumerate(jobs)
    )
    return Divided(tuple(found), renumbered, tuple(lives), tuple(names), tuple(copies))


def lifelong(parts: Divided, kept: Sequence[bool]) -> list[bool]:
    """A plan of whole lives, in the residents of ``parts``."""
    return [kept[number] for number in parts.names]


def _copies(
    resident: Resident,
    at: int,
    machine: MachineSpec,
    memory: Place,
    capacity: int,
    search: CopySearch,
    fixed: int,
) -> tuple[tuple[Copy, Searched], tuple[Copy, Searched]] | None:
    """Both copies with their costs; None where there is no room for their tiles."""
    for part in ROOMS:
        held = ((memory, capacity - capacity // part),)
        found = []
        for is_fill in (False, True):
            layer = _layer(resident.n_bytes, memory, held, is_fill=is_fill)
            with suppress(InputError):
                cost, need = search(at, layer)
                copy = Copy(resident.name, is_fill, layer, resident.n_bytes, need)
                found.append((copy, Searched(cost + fixed, need)))
        if len(found) == 2:
            return found[0], found[1]
    return None


def _layer(n_bytes: int, memory: Place, held: tuple[tuple[Place, int], ...], *, is_fill: bool) -> VectorLayer:
    rows = ceil_div(n_bytes, COPY_ROW_BYTES)
    each = ceil_div(n_bytes, rows)
    near = VectorHomes(() if is_fill else ((memory, each),), memory if is_fill else DRAM, held)
    return VectorLayer(name="fill" if is_fill else "spill", rows=rows, read_bytes=each, write_bytes=each, homes=near)


def copy_job(copy: Copy, number: int) -> Job:
    """A copy as a job of the network; ``number`` tells those of one tensor apart."""
    way = "fill" if copy.is_fill else "spill"
    name = f"{way} {copy.tensor}" + (f" {number}" if number > 1 else "")
    operator = Operator(name=name, kind="reshape", inputs=(copy.tensor,), outputs=(name,), attributes={"function": way})
    return Job(layer=copy.layer, operators=(operator,), weight_bytes=0)


# -- in the order of the run -------------------------------------------------------------------------------


class Laid(NamedTuple):
    """A plan in the order in which jobs and copies run: ``order`` has a job's number or a copy; ``stays`` what is on
    chip from which to which of these; ``told``: the copies in the words of results.
    """

    order: tuple[int | Copy, ...]
    stays: tuple[Resident, ...]
    told: tuple[CopiedTensor, ...]


class _Stay(NamedTuple):
    """A tensor on chip from one use (or a fill before it) to another (or a spill behind it), by the jobs."""

    resident: Resident
    first: int
    last: int
    fill: Copy | None = None
    spill: Copy | None = None


def laid_out(parts: Divided, kept: Sequence[bool]) -> Laid:
    """Copies between the jobs: fills before the job that they are for, spills behind the last that has the tensor."""
    divided_parts = {var for life in parts.lives for var in (*life.on, *life.held)}
    whole = [r for var, r in enumerate(parts.residents) if var not in divided_parts and kept[var]]
    found = [_Stay(resident, resident.first, resident.last) for resident in whole]
    for life, copies in zip(parts.lives, parts.copies, strict=True):
        found += _stays(life, kept, parts.residents[life.on[0]], *copies)
    order: list[int | Copy] = []
    places: dict[int | tuple[str, bool, int], int] = {}
    for at in range(len(parts.jobs)):
        for one in found:
            if one.fill is not None and one.first == at:
                places[one.resident.name, True, at] = len(order)
                order.append(one.fill)
        places[at] = len(order)
        order.append(at)
        for one in found:
            if one.spill is not None and one.last == at:
                places[one.resident.name, False, at] = len(order)
                order.append(one.spill)
    stays = tuple(
        replace(
            one.resident,
            first=places[one.first if one.fill is None else (one.resident.name, True, one.first)],
            last=places[one.last if one.spill is None else (one.resident.name, False, one.last)],
        )
        for one in found
    )
    told = tuple(
        CopiedTensor(name=one.tensor, way="fill" if one.is_fill else "spill", n_bytes=one.n_bytes, at=at)
        for at, one in enumerate(order)
        if not isinstance(one, int)
    )
    return Laid(tuple(order), stays, told)


def _stays(life: Life, kept: Sequence[bool], resident: Resident, spill: Copy, fill: Copy) -> Iterator[_Stay]:
    """The stretches of a life on chip."""
    spilled, begin = life.spilled_after(kept), 0
    for i, at in enumerate(life.uses):
        if not kept[life.on[i]]:
            continue
        if i == 0 or not kept[life.held[i - 1]]:
            begin = i
        if i == len(life.uses) - 1 or not kept[life.held[i]]:
            yield _Stay(
                resident, life.uses[begin], at, fill if begin else None, spill if spilled == i else None
            )  # fmt: skip
