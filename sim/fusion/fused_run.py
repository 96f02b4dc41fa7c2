"""The exact run of a group under any scheme that has programs."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.errors import InputError
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.run import simulate
from tilewright.sim.figures import figures_of
from tilewright.sim.fusion.fused import FusedProgram, FusedResult
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import FusionScheme, Memoised, schemes_with_programs
from tilewright.sim.lowering.core import MATRIX, VECTOR
from tilewright.sim.lowering.costs import ASSUMPTIONS
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["measured", "simulate_scheme"]


def simulate_scheme(
    scheme: FusionScheme,
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    *,
    fastest: bool = False,
    homes: GroupHomes = GROUP_IN_DRAM,
) -> FusedResult:
    """Run a group as ``scheme`` runs it, on one core of ``machine``, exactly. ``graph`` is that of ``stream``.

    The scheme's first program is run; ``fastest`` runs all that it offers. ``homes``: where operands are kept. Raises
    InputError for a scheme without programs, for one that knows no homes where there are some, and for a group that it
    cannot run, MappingError for one that does not fit the machine.
    """
    if not scheme.has_programs:
        allowed = ", ".join(schemes_with_programs())
        raise InputError(f'fusion scheme: has no programs; given "{scheme.name}"; allowed {allowed}')
    best: FusedResult | None = None
    for made in _programs(scheme, stream, graph, mask, machine, homes):
        found = measured(made.program, made.group, machine, made.tiling, made.assumptions)
        best = found if best is None or found.cycles < best.cycles else best
        if not fastest:
            break
    assert best is not None, "a scheme gives a program or says why not"
    return best


def _programs(
    scheme: FusionScheme,
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    homes: GroupHomes,
) -> Iterator[FusedProgram]:
    """Those of the scheme; of one that knows no homes only where all is in the DRAM."""
    if homes == GROUP_IN_DRAM:
        return scheme.programs(stream, graph, mask, machine)
    known = scheme if isinstance(scheme, Memoised) else Memoised(scheme)
    return known.programs(stream, graph, mask, machine, homes)


def measured(
    program: Program,
    group: tuple[str, ...],
    machine: MachineSpec,
    tiling: dict[str, int],
    assumptions: tuple[str, ...],
) -> FusedResult:
    """The exact run of a program of a fused group, with its energy."""
    run = simulate(program)
    counters = Counters()
    for _, command, times in program.commands():
        counters = counters + command.cost.counters * times
    matrix, vector = run.busy_cycles[MATRIX], run.busy_cycles[VECTOR]
    return FusedResult(
        group=group,
        machine=machine.name,
        tiling=tiling,
        figures=figures_of(machine, counters, run.cycles, matrix_cycles=matrix, vector_cycles=vector, n_cores=1),
        buffer_bytes=dict(program.buffer_bytes),
        n_commands=run.n_commands,
        n_jumps=run.n_jumps,
        assumptions=(*machine.stated, *ASSUMPTIONS, *assumptions, *_without_engine(machine)),
    )


def _without_engine(machine: MachineSpec) -> tuple[str, ...]:
    if machine.matrix.engine is None:
        return ()
    return (f"fused groups multiply in the operands' formats: engine {machine.matrix.engine} has no part in them",)
