"""Made-up results and traces, and a stand-in for the public functions, for tests of what a person sees."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tilewright.errors import InputError, MappingError
from tilewright.sim.engine.trace import TraceCommand, TraceWindow
from tilewright.sim.figures import Figures
from tilewright.sim.result import (
    Attribution,
    ComparisonResult,
    LowerBound,
    SearchSummary,
    SimulationResult,
    WhatIf,
    WhyResult,
)

CYCLES = {"layerwise": 1_500_000, "flat": 1_000_000, "flash2": 720_000, "mas": 560_000}
MakeResult = Callable[..., SimulationResult]


def _scaled(energy: dict[str, float], total: float) -> dict[str, float]:
    """Parts in the same shares that add up to ``total``."""
    parts = {name: part * total / sum(energy.values()) for name, part in energy.items()}
    return parts | {"dram": total - sum(part for name, part in parts.items() if name != "dram")}


def _result(dataflow: str = "mas", workload: str = "bert-base", **changes: Any) -> SimulationResult:
    cycles = CYCLES.get(dataflow, 600_000)
    energy = {"matrix": cycles * 40.0, "vector": cycles * 22.0, "l1": cycles * 60.0, "dram": cycles * 48.0}
    energy = _scaled(energy, changes.pop("energy_pj", sum(energy.values())))
    values: dict[str, Any] = {
        "workload": workload,
        "machine": "edge-16x16",
        "dataflow": dataflow,
        "tiling": {"query": 64, "key": 128},
        "buffer_read_bytes": {"l1": 90_000_000},
        "buffer_write_bytes": {"l1": 30_000_000},
        "dram_utilization": 0.125,
        "peak_buffer_bytes": {"l1": 1_572_864},
        "lower_bound": LowerBound(matrix_cycles=393_216, vector_cycles=200_000, dram_cycles=104_858),
        "assumptions": ("matrix and vector units run side by side", "the energy table is for 45 nm"),
        "search": SearchSummary(
            objective="latency", n_candidates=1200, n_fitting=900, n_simulated=311, proven=True, seconds=0.12
        ),
    }
    figures: dict[str, Any] = {
        "cycles": cycles,
        "seconds": cycles * 1e-9,
        "energy_by_component": energy,
        "dram_read_bytes": 3_000_000,
        "dram_write_bytes": 786_432,
        "matrix_utilization": 393_216 / cycles,
        "vector_utilization": 0.25,
    }
    own = {name: changes.pop(name) for name in figures if name in changes}
    return SimulationResult(figures=Figures(**(figures | own)), **(values | changes))


def _trace(n_blocks: int = 20, label: str = "Q K^T", *, complete: bool = True) -> TraceWindow:
    commands = []
    for block in range(n_blocks):
        at = block * 1000
        commands += [
            TraceCommand(start=at, end=at + 300, engine=0, label="load K", kind="load", n_bytes=16_384),
            TraceCommand(start=at + 300, end=at + 900, engine=1, label=label, kind="matrix", n_bytes=0),
            TraceCommand(start=at + 900, end=at + 1200, engine=2, label="softmax", kind="vector", n_bytes=0),
            TraceCommand(start=at + 1200, end=at + 1300, engine=3, label="store O", kind="store", n_bytes=8192),
        ]
    return TraceWindow(
        commands=tuple(sorted(commands, key=lambda c: c.start)),
        engines=("load", "matrix", "vector", "store"),
        clock_ghz=2.0,
        total_cycles=n_blocks * 1000 + 300,
        complete=complete,
    )


def _why(result: SimulationResult) -> WhyResult:
    attribution = Attribution(
        matrix_cycles=393_216,
        vector_cycles=60_000,
        dram_cycles=20_000,
        buffer_wait_cycles=30_000,
        fill_drain_cycles=result.cycles - 503_216,
    )
    what_ifs = (
        WhatIf(label="2x matrix rows", cycles=400_000, energy_pj=result.energy_pj * 0.97, cycles_same_tiling=450_000),
        WhatIf(label="2x DRAM bandwidth", cycles=560_000, energy_pj=result.energy_pj, cycles_same_tiling=560_000),
    )
    return WhyResult(result=result, attribution=attribution, what_ifs=what_ifs)


@pytest.fixture
def made_up() -> SimpleNamespace:
    """Builders of made-up values: ``result``, ``trace``, ``why``, ``comparison``."""

    def comparison(*workloads: str) -> ComparisonResult:
        return ComparisonResult(results=tuple(_result(d, w) for w in workloads for d in CYCLES))

    return SimpleNamespace(result=_result, trace=_trace, why=_why, comparison=comparison)


@pytest.fixture
def stand_in_api(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``tilewright.search.api`` replaced by made-up answers; ``calls`` lists the functions called."""
    import tilewright.search

    api = ModuleType("tilewright.search.api")
    calls: list[str] = []

    def simulate(workload: Any, machine: Any, dataflow: str | None = None, **options: Any) -> SimulationResult:
        calls.append("simulate")
        dataflow = dataflow or "mas"
        tiling = options.get("tiling")
        if tiling is None:
            return _result(dataflow, workload.name)
        unknown = [name for name in tiling if name not in ("query", "key")]
        if unknown:
            raise InputError(f'{dataflow}: unknown size; given "{unknown[0]}"; allowed query, key')
        if tiling.get("query", 1) > 512:
            raise MappingError(
                resource="l1", demand=9_000_000, limit=5_242_880, unit="bytes", levers="a smaller query tile would fit"
            )
        return _result(dataflow, workload.name, tiling=tiling, search=None)

    def compare(workloads: Any, machine: Any, dataflows: Any = None, **options: Any) -> ComparisonResult:
        calls.append("compare")
        results, infeasible = [], {}
        for layer in workloads:
            for name in dataflows or CYCLES:
                if name == "flat" and layer.key_len > 100_000:
                    infeasible[layer.name, name] = "whole rows do not fit"
                else:
                    results.append(_result(name, layer.name))
        return ComparisonResult(results=tuple(results), infeasible=infeasible)

    def why(workload: Any, machine: Any, dataflow: str | None = None, **options: Any) -> WhyResult:
        calls.append("why")
        return _why(_result(dataflow or "mas", workload.name))

    def trace(*arguments: Any, **options: Any) -> TraceWindow:
        calls.append("trace")
        return _trace()

    parts = {
        "simulate": simulate,
        "compare": compare,
        "why": why,
        "trace": trace,
        "activity": lambda *arguments, **options: None,
        "dataflow_names": lambda: tuple(CYCLES),
        "dataflow_summary": lambda name: f"summary of {name}",
        "calls": calls,
    }
    for name, part in parts.items():
        setattr(api, name, part)
    monkeypatch.setitem(sys.modules, "tilewright.search.api", api)
    monkeypatch.setattr(tilewright.search, "api", api, raising=False)
    monkeypatch.setattr("tilewright.sim.engine.run.is_compiled", lambda: True)
    return api
