"""The tensors that jobs hand to each other, and their lives: from the job that makes them to the last that reads them.

What may live on chip: results of one job that others read, and weights that one or more products multiply by. Inputs
and results of the network are in the DRAM, where the world puts and finds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.kinds.layer import fused_inputs
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.homes import DRAM, AttentionHomes, Homes, Place, VectorHomes
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["JobOperands", "Resident", "operands_of", "residents_of", "with_homes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A tensor that may live on chip: from job ``first`` to job ``last``; weights (``is_weight``) through all jobs."""

    name: str
    n_bytes: int
    first: int
    last: int
    is_weight: bool = False


class JobOperands(NamedTuple):
    """The tensors of a job's operands by their memory: names, empty where an operand cannot live on chip.

    ``reads``: of products A, B and the fused inputs, of attention Q, K and V, of vector work each input. ``shares``: of
    vector work the bytes that it reads of each.
    """

    reads: tuple[str, ...] = ()
    out: str = ""
    shares: tuple[int, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Each tensor once."""
        return tuple(dict.fromkeys(name for name in (*self.reads, self.out) if name))


def operands_of(stream: OperatorStream, job: Job) -> JobOperands:
    """The stored tensors that ``job`` reads and writes, in the form in which its layer names their homes."""
    chain, layer = job.operators, job.layer
    first = chain[0]
    out = stream.base(chain[-1].outputs[0]).name if len(chain[-1].outputs) == 1 else ""

    def stored(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(stream.base(name).name for name in names)

    if isinstance(layer, GemmLayer):
        return JobOperands(stored((*first.inputs[:2], *fused_inputs(stream, chain, layer))), out)
    if isinstance(layer, AttentionLayer):
        return JobOperands(stored(first.inputs[:3]), out)
    if isinstance(layer, VectorLayer):
        return _of_vector_work(stream, job, layer, out)
    return JobOperands()


def _of_vector_work(stream: OperatorStream, job: Job, layer: VectorLayer, out: str) -> JobOperands:
    """What vector work reads, where it reads each input whole and once."""
    made = {stream.base(name).name for member in job.operators for name in member.outputs}
    names = dict.fromkeys(name for member in job.operators for name in member.inputs)
    inputs = [name for name in names if stream.base(name).name not in made]
    sizes = [stream.tensor(name).n_bytes for name in inputs]
    total = layer.groups * layer.rows * layer.read_bytes
    if not 0 <= total - sum(sizes) < layer.groups * layer.rows:  # rows, of a table, say
        return JobOperands(out=out)
    return JobOperands(tuple(stream.base(name).name for name in inputs), out, tuple(sizes))


def residents_of(stream: OperatorStream, jobs: Sequence[Job]) -> tuple[tuple[JobOperands, ...], tuple[Resident, ...]]:
    """The operands of each job, as far as they may live on chip, and the tensors that may."""
    operands = [operands_of(stream, job) for job in jobs]
    made: dict[str, int] = {}
    read: dict[str, int] = {}
    users: dict[str, list[int]] = {}
    for at, job in enumerate(jobs):
        for member in job.operators:
            for name in member.inputs:
                read[stream.base(name).name] = at
            made.update((stream.base(name).name, at) for name in member.outputs)
    for at, own in enumerate(operands):
        for name in own.names:
            users.setdefault(name, []).append(at)
    outside = {stream.base(name).name for name in (*stream.inputs, *stream.outputs)}
    found = []
    for name, jobs_of_it in users.items():
        tensor = stream.base(name)
        if name in outside or not tensor.n_bytes:
            continue
        if tensor.role == "weight" and all(_multiplies_by(jobs[at], operands[at], name) for at in jobs_of_it):
            found.append(Resident(name=name, n_bytes=tensor.n_bytes, first=0, last=len(jobs) - 1, is_weight=True))
        elif tensor.role == "activation" and name in made and made[name] < read.get(name, -1):
            if not set(_jobs_with(stream, jobs, name)) <= set(jobs_of_it):
                continue  # some job uses it in a way that its layer does not tell
            found.append(Resident(name=name, n_bytes=tensor.n_bytes, first=made[name], last=read[name]))
    known = {resident.name for resident in found}
    return tuple(_only(own, known) for own in operands), tuple(found)


def _jobs_with(stream: OperatorStream, jobs: Sequence[Job], name: str) -> list[int]:
    """The jobs that read or write the memory of a tensor in any way."""

    def uses(job: Job) -> bool:
        return any(stream.base(n).name == name for member in job.operators for n in (*member.inputs, *member.outputs))

    return [at for at, job in enumerate(jobs) if uses(job)]


def _multiplies_by(job: Job, own: JobOperands, name: str) -> bool:
    return isinstance(job.layer, GemmLayer) and name in own.reads[:2]


def _only(own: JobOperands, known: set[str]) -> JobOperands:
    """``own`` with the names of those operands alone that may live on chip."""
    reads = tuple(name if name in known else "" for name in own.reads)
    return own._replace(reads=reads, out=own.out if own.out in known else "")


def with_homes(
    layer: JobLayer, own: JobOperands, places: Mapping[str, Place], held: tuple[tuple[Place, int], ...] = ()
) -> JobLayer:
    """``layer`` with its operands in ``places`` (by the names of their tensors); others stay where they are."""
    if isinstance(layer, GemmLayer):
        old = layer.homes
        now = [places.get(name, "") or home for name, home in zip(own.reads[:2], (old.a, old.b), strict=True)]
        extras = tuple(places.get(name, "") or old.extra(i) for i, name in enumerate(own.reads[2:]))
        out = places.get(own.out, "") or old.out
        return replace(layer, homes=Homes(now[0], now[1], out, extras if any(extras) else (), held))
    if isinstance(layer, AttentionLayer):
        stay = (layer.homes.q, layer.homes.k, layer.homes.v)
        q, k, v = (places.get(name, "") or home for name, home in zip(own.reads, stay, strict=True))
        return replace(layer, homes=AttentionHomes(q, k, v, places.get(own.out, "") or layer.homes.out, held))
    if isinstance(layer, VectorLayer):
        out = places.get(own.out, "") or layer.homes.out
        return replace(layer, homes=VectorHomes(_of_a_row(layer, own, places), out, held))
    if isinstance(layer, ScanLayer | LowRankAttentionLayer):
        return replace(layer, homes=layer.homes._replace(held=held))
    return layer


def _of_a_row(layer: VectorLayer, own: JobOperands, places: Mapping[str, Place]) -> tuple[tuple[Place, int], ...]:
    """Bytes of a row by memory elsewhere than the DRAM; what is rounded up stays with the DRAM, if anything does."""
    n_rows = layer.groups * layer.rows
    sizes: dict[Place, int] = {}
    for name, n_bytes in zip(own.reads, own.shares, strict=True):
        home = places.get(name, DRAM)
        sizes[home] = sizes.get(home, 0) + n_bytes
    elsewhere = layer.homes.reads  # weights that have a memory of their own, among what is in the DRAM by ``own``
    left = sizes.pop(DRAM, 0) - n_rows * sum(n_bytes for _, n_bytes in elsewhere)
    room = layer.read_bytes - ceil_div(max(0, left), n_rows) - sum(n_bytes for _, n_bytes in elsewhere)
    found = []
    for home, n_bytes in sorted(sizes.items()):
        of_row = min(room, ceil_div(n_bytes, n_rows))
        room -= of_row
        if of_row > 0:
            found.append((home, of_row))
    return (*elsewhere, *found)
