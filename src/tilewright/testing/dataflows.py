"""What holds a dataflow: right numbers on odd shapes, one amount of work, never below the bound, room to the byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.lowering.mapping import DATAFLOWS, Dataflow

__all__ = [
    "Case",
    "check_bound",
    "check_capacity",
    "check_dataflow",
    "check_forms",
    "check_numbers",
    "machines",
    "plain_dataflows",
]


class Case(NamedTuple):
    """One mapping: a layer and a machine, with every tile of the dataflow."""

    dataflow: Dataflow
    layer: Any
    machine: MachineSpec
    tiling: dict[str, int]

    @property
    def legal(self) -> bool:
        """Whether a search would try it."""
        return all(phase.legal(self.layer, self.tiling) for phase in self.dataflow.phases)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Layers (a Hypothesis strategy), tiles for one of them, and what they compute beside what they should."""

    layers: Any
    tilings: Callable[[Dataflow, Any, MachineSpec], Any]
    numbers: Callable[..., tuple[Any, Any]] | None = None


def machines() -> tuple[MachineSpec, ...]:
    """Small arrays behind slow and fast memories, with few and many lanes."""
    from tilewright.hw_models.load import load_machine

    rates = dict.fromkeys(("fp16", "bf16", "int8", "int4", "int1", "fp8_e4m3", "fp4_e2m1"), 1)
    small = {
        "matrix.rows": 4,
        "matrix.columns": 4,
        "matrix.multiplies_per_pe_per_cycle": rates,
        "energy.multiply_accumulate_pj": rates,
    }
    edge, cloud = load_machine("edge-16x16").with_(**small), load_machine("fusemax-cloud").with_(**small)
    return (
        edge,
        cloud,  # the array does softmax
        edge.with_(**{"vector.lanes": 8, "dram.bandwidth_gb_per_s": 2}),
        edge.with_(**{"vector.lanes": 64, "dram.bandwidth_gb_per_s": 3000, "dram.first_access_latency_ns": 0}),
        edge.with_(**{"dram.detail": "row_buffer"}),
    )


def plain_dataflows() -> tuple[str, ...]:
    """The dataflows of attention that run any layer on any machine, one of a single core and buffer, too."""
    from tilewright.hw_models.load import load_machine
    from tilewright.workloads.load import load_workload

    layer, machine = load_workload("attention:heads=1,seq=8,head_dim=8"), load_machine("edge-16x16")
    flows = [flow for flow in DATAFLOWS.values() if flow.operator == "attention"]
    return tuple(flow.name for flow in flows if not flow.refusal(layer, machine))


def check_dataflow(dataflow: Dataflow, *, n_examples: int = 50, layers: Any = None) -> None:
    """All the checks of this module, one after the other; a kind of operator without numbers is not run on them.

    ``layers``: a Hypothesis strategy of layers, for a kind of operator of your own (or to hold it to fewer).
    Raises AssertionError, or the error of the command that is wrong, with the smallest case found.
    """
    if _kind(dataflow, layers).numbers is not None:
        check_numbers(dataflow, n_examples=n_examples, layers=layers)
    check_forms(dataflow, n_examples=n_examples, layers=layers)
    check_bound(dataflow, n_examples=n_examples, layers=layers)
    check_capacity(dataflow, n_examples=n_examples, layers=layers)


def check_numbers(dataflow: Dataflow, *, n_examples: int = 50, layers: Any = None) -> None:
    """The commands, in the order in which they finish, compute the layer's reference result.

    Data used before it is there, or after its place was given away, is a HazardError that names the command.
    """
    import numpy as np

    numbers = _kind(dataflow, layers).numbers
    if numbers is None:
        raise InputError(f"{dataflow.name}: layers of kind {dataflow.operator} do not run on numbers here")

    def holds(case: Case, seed: int) -> None:
        found, wanted = numbers(*case, np.random.default_rng(seed))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)

    _for_all(dataflow, holds, n_examples, layers)


def check_forms(dataflow: Dataflow, *, n_examples: int = 50, layers: Any = None) -> None:
    """Looped and unrolled, with trips skipped or not, a program takes the same cycles; what is counted is busy time."""
    from tilewright.sim.engine.program import ProgramBuilder
    from tilewright.sim.engine.run import run_program
    from tilewright.sim.lowering.core import TileCore, WorkCounter

    def holds(case: Case, seed: int) -> None:
        costs, n_groups = dataflow.costs(case.layer, case.machine), case.layer.n_groups
        for phase in dataflow.phases:
            engines, outcomes = phase.core.engines(1), set()
            for unroll in (False, True):
                builder = ProgramBuilder(engines, [TileCore.channel(costs)], unroll=unroll)
                phase.lower(phase.core(costs, n_groups=n_groups, builder=builder), case.tiling)
                for skip in (False, True):
                    run = run_program(builder.build(), skip=skip)
                    assert not run.stuck
                    outcomes.add((run.cycles, run.busy_cycles, run.channel_bytes, run.n_commands))
            assert len(outcomes) == 1, outcomes
            ((cycles, busy, (channel_bytes,), _),) = outcomes
            assert cycles >= max(busy)
            counter = WorkCounter()
            phase.lower(phase.core(costs, n_groups=n_groups, builder=counter), case.tiling)
            units = [
                sum(n for n, engine in zip(busy, engines, strict=True) if engine.kind == kind)
                for kind in ("matrix", "vector")
            ]
            assert counter.totals()[:3] == (*units, channel_bytes)

    _for_all(dataflow, holds, n_examples, layers)


def check_bound(dataflow: Dataflow, *, n_examples: int = 50, layers: Any = None) -> None:
    """No run ends before the lower bound, and no unit is busy for longer than the run."""
    from tilewright.sim.lowering.evaluation import evaluate

    def holds(case: Case, seed: int) -> None:
        machine = case.machine.with_(n_cores=1 + seed % 3)
        result = evaluate(dataflow, case.layer, machine, case.tiling)
        assert result.cycles >= result.lower_bound.cycles
        assert max(result.matrix_utilization, result.vector_utilization, result.dram_utilization) <= 1

    _for_all(dataflow, holds, n_examples, layers)


def check_capacity(dataflow: Dataflow, *, n_examples: int = 50, layers: Any = None) -> None:
    """A working buffer of what a run says that it needs is enough, and one byte less is refused."""
    from tilewright.sim.lowering.evaluation import evaluate

    def holds(case: Case, seed: int) -> None:
        result = evaluate(dataflow, case.layer, case.machine, case.tiling)
        buffer = case.machine.buffers[0].name
        need = result.peak_buffer_bytes[buffer]
        if need <= 1:  # no machine has a buffer of nothing
            return
        enough, less = (case.machine.with_(**{f"buffers.{buffer}.capacity_kib": n / 1024}) for n in (need, need - 1))
        assert evaluate(dataflow, case.layer, enough, case.tiling).cycles == result.cycles
        assert _refused_for(lambda: evaluate(dataflow, case.layer, less, case.tiling)) == need

    _for_all(dataflow, holds, n_examples, layers)


def _refused_for(run: Callable[[], object]) -> int | None:
    """The bytes for which ``run`` is refused; None where it is not."""
    try:
        run()
    except MappingError as refusal:
        return refusal.demand
    return None


def _kind(dataflow: Dataflow, layers: Any) -> _Kind:
    from tilewright.testing import attention, products

    kinds = {
        "attention": _Kind(layers=attention.layers(), tilings=attention.tilings, numbers=attention.numbers),
        "gemm": _Kind(layers=products.layers(), tilings=products.tilings, numbers=products.numbers),
        "vector": _Kind(layers=products.rows(), tilings=products.tilings),
    }
    known = kinds.get(dataflow.operator)
    if layers is None:
        if known is None:
            raise InputError(f"{dataflow.name}: no layers of kind {dataflow.operator} are known here; give layers=")
        return known
    if known is None:
        return _Kind(layers=layers, tilings=products.tilings)
    return _Kind(layers=layers, tilings=known.tilings, numbers=known.numbers)


def _for_all(dataflow: Dataflow, holds: Callable[[Case, int], None], n_examples: int, layers: Any) -> None:
    """``holds`` for drawn cases; one that no search would try may be refused by the dataflow."""
    from hypothesis import HealthCheck, given, reject, settings
    from hypothesis import strategies as st

    from tilewright.sim.lowering.evaluation import count_phase

    kind = _kind(dataflow, layers)

    @settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data(), seed=st.integers(0, 2**32))
    def run(data: st.DataObject, seed: int) -> None:
        layer, machine = data.draw(kind.layers), data.draw(st.sampled_from(machines()))
        case = Case(dataflow, layer, machine, data.draw(kind.tilings(dataflow, layer, machine)))
        try:
            for phase in dataflow.phases:
                count_phase(phase, dataflow.costs(layer, machine), case.tiling)
        except InputError:
            if case.legal:
                raise
            reject()
        holds(case, seed)

    run()
