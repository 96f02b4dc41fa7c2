"""What evaluators of runs ask of a machine: a network's step as it runs there, each distinct one once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.gpu.kernel_options import KernelOptions
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, BANKS_IDLE, simulate_stream
from tilewright.search.objective import Objective
from tilewright.sim.jobs import Job, jobs_on
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.rated_formats import with_rated_formats
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["RunSimulator"]


@dataclass(slots=True, kw_only=True)
class RunSimulator:
    """A machine and how networks run on it; the choices are those of
    :func:`tilewright.search.network.simulate_stream`.

    ``keep_formats``: number formats that were asked for, which stay where the machine has no rate for them.
    """

    machine: MachineSpec
    kernels: KernelOptions
    objective: Objective = "latency"
    prefetch: bool = True
    fuse: bool = True
    residency: bool | None = None
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS
    cache: MappingCache = field(default_factory=MappingCache)
    progress: Progress | None = None
    keep_formats: tuple[str, ...] = ()
    notes: dict[str, None] = field(default_factory=dict)
    _jobs: dict[int, tuple[OperatorStream, tuple[Job, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.machine.pim is not None:
            self.notes[BANKS_IDLE] = None

    def rated(self, stream: OperatorStream) -> OperatorStream:
        """``stream`` in formats that the machine multiplies, but for those that were asked for."""
        rates = tuple(self.machine.matrix.multiplies_per_pe_per_cycle)
        found, note = with_rated_formats(stream, rates, keep=list(self.keep_formats))
        if note:
            self.notes[note] = None
        return found

    def jobs(self, stream: OperatorStream) -> tuple[Job, ...]:
        """What ``stream`` becomes on the machine."""
        if id(stream) not in self._jobs:
            self._jobs[id(stream)] = stream, jobs_on(stream, self.machine, fuse=self.fuse)
        return self._jobs[id(stream)][1]

    def network(self, stream: OperatorStream) -> NetworkResult:
        """One run of ``stream``; raises InputError where the machine cannot run it."""
        return simulate_stream(
            self.rated(stream),
            self.machine,
            objective=self.objective,
            prefetch=self.prefetch,
            fuse=self.fuse,
            residency=self.residency,
            attention_dataflows=self.attention_dataflows,
            cache=self.cache,
            kernels=self.kernels,
        )

    def tell(self, done: int, of: int, what: str) -> None:
        """Progress of long work."""
        if self.progress is not None:
            self.progress(done, of, what)
