"""Exact runs of fusion groups on a machine: cycles and energy, for searches that make these small.

A group of several operators runs as the first program of its scheme. An operator alone runs with the better of
that, where it fits, and of its own best mapping as a layer. Groups run one after the other; what a following group
could load under the one before it is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.search.objective import Objective
from tilewright.sim.fusion.fused_run import simulate_scheme
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import FusionScheme, schemes_with_programs
from tilewright.units import KIB
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["GroupRun", "GroupRuns"]


class GroupRun(NamedTuple):
    """Cycles and picojoules (rounded) of one group."""

    cycles: int
    energy_pj: int


@dataclass(slots=True, kw_only=True)
class GroupRuns:
    """Runs of the groups of ``graph``, made from ``stream``, with a first on-chip buffer of ``capacity_bytes``.

    Raises InputError for a scheme that has no programs.
    """

    stream: OperatorStream
    graph: FusionGraph
    scheme: FusionScheme
    machine: MachineSpec
    capacity_bytes: int
    objective: Objective
    cache: MappingCache = field(default_factory=MappingCache)

    def __post_init__(self) -> None:
        if not self.scheme.has_programs:
            raise InputError(
                f"objective: {self.objective}: groups of the scheme {self.scheme.name} have no programs to run; "
                f"allowed dram, feature_maps, or one of the schemes {', '.join(schemes_with_programs())}"
            )
        first, *others = self.machine.buffers
        sized = replace(first, capacity_kib=self.capacity_bytes / KIB)
        self.machine = replace(self.machine, buffers=(sized, *others))

    def run(self, mask: int) -> GroupRun | None:
        """The run of a group; None where it does not fit as a program."""
        runs = [self._fused(mask)]
        if mask & (mask - 1) == 0:
            runs.append(self._alone(mask))
        found = [run for run in runs if run is not None]
        at = 0 if self.objective == "latency" else 1
        return min(found, key=lambda run: run[at]) if found else None

    def _fused(self, mask: int) -> GroupRun | None:
        if not self.scheme.cost(self.graph, mask).valid(self.capacity_bytes):
            return None
        try:
            result = simulate_scheme(self.scheme, self.stream, self.graph, mask, self.machine)
        except (InputError, MappingError):  # it does not run this way, or does not fit
            return None
        return GroupRun(result.cycles, round(result.energy_pj))

    def _alone(self, mask: int) -> GroupRun:
        (node,) = (node for node in self.graph.nodes if node.bit == mask)
        result = simulate_stream(
            part_of(self.stream, node.operators),
            self.machine,
            objective=self.objective,
            prefetch=False,
            cache=self.cache,
        )
        return GroupRun(result.cycles, round(result.energy_pj))


def part_of(stream: OperatorStream, names: tuple[str, ...]) -> OperatorStream:
    """The operators called ``names`` as a stream: what they read and do not make becomes an input."""
    operators = tuple(operator for operator in stream.operators if operator.name in names)
    used: dict[str, None] = {}
    for operator in operators:
        for name in (*operator.inputs, *operator.outputs):
            spec = stream.tensor(name)
            used[spec.name] = None
            while spec.view_of is not None:
                spec = stream.tensor(spec.view_of)
                used[spec.name] = None
    made = {name for operator in operators for name in operator.outputs}
    tensors = tuple(spec for spec in stream.tensors if spec.name in used)
    inputs = tuple(
        spec.name
        for spec in tensors
        if spec.view_of is None and spec.name not in made and spec.role not in ("weight", "constant")
    )
    return OperatorStream(
        name=operators[0].name,
        tensors=tensors,
        operators=operators,
        inputs=inputs,
        outputs=tuple(operators[-1].outputs),
    )
