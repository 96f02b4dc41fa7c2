"""How long proving the best tiling takes, for every attention network and dataflow on edge-16x16.

Run with: make bench.
"""

from __future__ import annotations

from typing import Any

import pytest

from tilewright.hw_models.load import load_machine
from tilewright.search.methods.method import get_method
from tilewright.search.methods.run import run_method
from tilewright.sim.lowering.mapping import dataflow_names, get_dataflow
from tilewright.workloads.load import load_workload, workload_names

NETWORKS = [name for name in workload_names() if not name.startswith("fusemax-")]


@pytest.mark.parametrize("dataflow", dataflow_names())
@pytest.mark.parametrize("network", NETWORKS)
def test_proven_optimum(benchmark: Any, network: str, dataflow: str) -> None:
    layer, machine, flow = load_workload(network), load_machine("edge-16x16"), get_dataflow(dataflow)
    found = benchmark.pedantic(
        run_method,
        args=(get_method("exhaustive"), flow, layer, machine),
        kwargs={"objective": "latency"},
        rounds=2,
        warmup_rounds=0,
    )
    assert found.proven
    benchmark.extra_info.update(tilings=found.n_fitting, runs=found.n_evaluations)
