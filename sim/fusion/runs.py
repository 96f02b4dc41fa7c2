"""The exact run of a group under whichever scheme has programs for the engine."""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.brr import BRR, BufferReduction
from tilewright.sim.fusion.graph import FusionGraph
from tilewright.sim.fusion.lbdf import LBDF
from tilewright.sim.fusion.lowering import FusedResult, fastest_group, simulate_group
from tilewright.sim.fusion.scheme import FusionScheme, Memoised
from tilewright.sim.fusion.slab_program import simulate_slabs
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SCHEMES_WITH_PROGRAMS", "simulate_scheme"]

SCHEMES_WITH_PROGRAMS = (LBDF, BRR)


def simulate_scheme(
    scheme: FusionScheme,
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    *,
    fastest: bool = False,
) -> FusedResult:
    """Run a group as ``scheme`` runs it, on one core of ``machine``, exactly.

    Line buffers are filled row by row, with the least room; ``fastest`` tries larger ones that fit.
    Raises InputError for a scheme without programs and for a group that it cannot run, MappingError for one that does
    not fit the machine.
    """
    rules = scheme.scheme if isinstance(scheme, Memoised) else scheme
    if isinstance(rules, BufferReduction):
        return simulate_slabs(stream, graph, mask, machine, rules)
    if rules.name == LBDF:
        return (fastest_group if fastest else simulate_group)(stream, graph, mask, machine)
    raise InputError(
        f'fusion scheme: has no programs; given "{rules.name}"; allowed {", ".join(SCHEMES_WITH_PROGRAMS)}'
    )
