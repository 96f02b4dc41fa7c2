"""What holds a search method: never better than the proven optimum, honest about it, and repeatable."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.search.methods.method import SearchMethod

__all__ = ["LAYERS", "check_optimum", "check_repeatable", "check_search_method"]

LAYERS = (
    "attention:heads=3,seq=80,head_dim=24",
    "attention:heads=8,kv_heads=2,query_len=1,key_len=150,head_dim=32",
)
_CAPACITY_KIB = 24  # not every tiling fits


def check_search_method(method: SearchMethod, *, dataflows: Sequence[str] | None = None) -> None:
    """:func:`check_optimum` and :func:`check_repeatable` with ``dataflows`` (None: all of attention)."""
    from tilewright.sim.lowering.mapping import dataflow_names

    for dataflow in dataflows or dataflow_names():
        check_optimum(method, dataflow)
        check_repeatable(method, dataflow)


def check_optimum(method: SearchMethod, dataflow: str) -> None:
    """What is found is no better than the optimum, runs as it says, and is proven only where it is the best."""
    from tilewright.hw_models.load import load_machine
    from tilewright.search.methods.method import get_method
    from tilewright.search.methods.run import run_method
    from tilewright.sim.lowering.evaluation import evaluate
    from tilewright.sim.lowering.mapping import get_dataflow
    from tilewright.workloads.load import load_workload

    flow = get_dataflow(dataflow)
    machine = load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": _CAPACITY_KIB})
    for layer in map(load_workload, LAYERS):
        for objective in ("latency", "edp"):
            best = run_method(get_method("exhaustive"), flow, layer, machine, objective=objective)
            found = run_method(method, flow, layer, machine, objective=objective, seed=3)
            assert found.lower_bound <= best.value <= found.value
            assert not found.proven or found.value == best.value
            assert found.value <= (1 + found.gap) * found.lower_bound * (1 + 1e-12)
            exact = evaluate(flow, layer, machine, found.tiling)
            assert exact.cycles == found.cycles
            assert abs(exact.energy_pj - found.energy_pj) <= 1e-6 * exact.energy_pj


def check_repeatable(method: SearchMethod, dataflow: str) -> None:
    """The same seed finds the same, and a small budget is kept."""
    from tilewright.hw_models.load import load_machine
    from tilewright.search.methods.run import run_method
    from tilewright.sim.lowering.mapping import get_dataflow
    from tilewright.workloads.load import load_workload

    flow, layer = get_dataflow(dataflow), load_workload(LAYERS[0])
    machine = load_machine("edge-16x16").with_(**{"buffers.l1.capacity_kib": _CAPACITY_KIB})
    found = run_method(method, flow, layer, machine, seed=7)
    assert found == run_method(method, flow, layer, machine, seed=7)
    assert run_method(method, flow, layer, machine, seed=8).value >= found.lower_bound
    few = run_method(method, flow, layer, machine, budget=7)
    assert few.curve[-1][0] <= few.n_evaluations <= 7
    assert few.curve[-1][1] == few.value
