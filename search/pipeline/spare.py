"""Weights that stay in what a stage's plan leaves free: they save the others the DRAM and cost the stage nothing.

A plan keeps what makes its own stage faster. In a pipeline the DRAM is everyone's, so room that is left over keeps
weights, too, as long as the layer is no slower for it; the smallest first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.network import Mapped
from tilewright.search.residency.plan import Planned, first_load
from tilewright.search.residency.tensors import residents_of
from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.residency_plan import PlacedTensor
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import DRAM
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["with_spare_weights"]


def with_spare_weights(
    planned: Planned,
    stream: OperatorStream,
    jobs: Sequence[Job],
    machine: MachineSpec,
    search: Callable[[Job, JobLayer], Mapped],
) -> Planned:
    """``planned`` with more weights, behind the highest address that it uses. ``search``: a layer's best mapping."""
    plan, layers = planned.plan, list(planned.layers)
    if "weights" not in machine.buffer(plan.memory).holds:
        return planned
    operands, residents = residents_of(stream, jobs)
    kept = {tensor.name for tensor in plan.tensors}
    sizes = {one.name: one.n_bytes for one in residents if one.is_weight and one.name not in kept}
    users = [own.reads[1] if isinstance(job.layer, GemmLayer) else "" for job, own in zip(jobs, operands, strict=True)]
    placed, top = list(plan.tensors), plan.top_address
    for name, n_bytes in sorted(sizes.items(), key=lambda item: item[1]):
        own = [at for at, used in enumerate(users) if used == name]
        if not own or top + n_bytes > plan.capacity_bytes:
            continue
        near = [_with_weights(layers[at], plan.memory, plan.capacity_bytes - plan.tile_bytes[at]) for at in own]
        if all(_is_no_slower(jobs[at], layers[at], layer, search) for at, layer in zip(own, near, strict=True)):
            for at, layer in zip(own, near, strict=True):
                assert layer is not None
                layers[at] = layer
            last = len(jobs) - 1
            placed.append(PlacedTensor(name=name, n_bytes=n_bytes, address=top, first=0, last=last, is_weight=True))
            top += n_bytes
    if len(placed) == len(plan.tensors):
        return planned
    cycles, energy_pj = first_load(machine, plan.memory, sum(one.n_bytes for one in placed if one.is_weight))
    more = top - plan.top_address
    found = replace(
        plan,
        tensors=tuple(placed),
        top_address=top,
        peak_bytes=plan.peak_bytes + more,
        first_cycles=cycles,
        first_energy_pj=energy_pj,
    )
    return Planned(found, tuple(layers))


def _with_weights(layer: JobLayer, memory: str, held: int) -> JobLayer | None:
    """``layer`` with its weights in ``memory`` and the same room there for its tiles as the plan gives it."""
    if not isinstance(layer, GemmLayer) or not layer.b_is_weight or layer.homes.b != DRAM:
        return None
    return replace(layer, homes=layer.homes._replace(b=memory, held=((memory, held),)))


def _is_no_slower(
    job: Job, before: JobLayer, after: JobLayer | None, search: Callable[[Job, JobLayer], Mapped]
) -> bool:
    if after is None:
        return False
    try:
        now = search(job, after).alone
    except InputError:
        return False
    then = search(job, before).alone
    return now.cycles <= then.cycles and now.dram_bytes < then.dram_bytes
