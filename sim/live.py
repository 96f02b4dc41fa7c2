"""How much of a memory the activations of a network take at a time, where they all live there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilewright.sim.jobs import Job
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["most_live_bytes"]


def most_live_bytes(stream: OperatorStream, jobs: Sequence[Job]) -> int:
    """The most bytes of activations that are alive while one of ``jobs`` runs.

    A tensor is alive from the job that makes it (an input of the network: from the first) to the last that reads it
    (a result: to the last of all); what jobs hand on within themselves is not.
    """
    born: dict[str, int] = {}
    dies: dict[str, int] = {}
    for name in stream.inputs:
        born[stream.base(name).name] = 0
    for at, job in enumerate(jobs):
        inside = {stream.base(a.outputs[0]).name for a, _ in pairwise(job.operators)}
        for member in job.operators:
            for name in (*member.inputs, *member.outputs):
                tensor = stream.base(name)
                if tensor.role == "activation" and tensor.name not in inside:
                    born.setdefault(tensor.name, at)
                    dies[tensor.name] = at
    for name in stream.outputs:
        if stream.base(name).role == "activation":
            born.setdefault(stream.base(name).name, 0)
            dies[stream.base(name).name] = len(jobs) - 1
    sizes = {name: stream.base(name).n_bytes for name in dies}
    return max(
        (sum(sizes[name] for name, last in dies.items() if born[name] <= at <= last) for at in range(len(jobs))),
        default=0,
    )
