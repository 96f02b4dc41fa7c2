"""Tilewright: how fast, and at what energy, a network runs on an edge accelerator that you describe.

The names below are imported when they are first used, so that ``import tilewright`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilewright.hw_models.load import load_machine, machine_names
    from tilewright.reports.sweep.report import report_sweep
    from tilewright.search.api import (
        compare,
        dataflow_names,
        dataflow_summary,
        pareto,
        search_methods,
        search_tiling,
        search_tilings,
        simulate,
        simulate_network,
        simulate_pipeline,
        trace,
        why,
        why_network,
    )
    from tilewright.search.bits.choose import search_bits
    from tilewright.search.fusion.run import fusion_methods, search_fusion
    from tilewright.search.runs.run import simulate_run
    from tilewright.search.sensitivity.table import measure_sensitivity
    from tilewright.search.steps.measure import measure_step_similarities
    from tilewright.search.steps.run import search_steps
    from tilewright.search.sweep.run import sweep
    from tilewright.workloads.load import load_workload, workload_names
    from tilewright.workloads.network import load_network, network_names

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "compare",
    "dataflow_names",
    "dataflow_summary",
    "fusion_methods",
    "load_machine",
    "load_network",
    "load_workload",
    "machine_names",
    "measure_sensitivity",
    "measure_step_similarities",
    "network_names",
    "pareto",
    "report_sweep",
    "search_bits",
    "search_fusion",
    "search_methods",
    "search_steps",
    "search_tiling",
    "search_tilings",
    "simulate",
    "simulate_network",
    "simulate_pipeline",
    "simulate_run",
    "sweep",
    "trace",
    "why",
    "why_network",
    "workload_names",
]

_HOME_OF_NAME = {
    "compare": "tilewright.search.api",
    "dataflow_names": "tilewright.search.api",
    "dataflow_summary": "tilewright.search.api",
    "fusion_methods": "tilewright.search.fusion.run",
    "load_machine": "tilewright.hw_models.load",
    "load_network": "tilewright.workloads.network",
    "load_workload": "tilewright.workloads.load",
    "machine_names": "tilewright.hw_models.load",
    "network_names": "tilewright.workloads.network",
    "measure_sensitivity": "tilewright.search.sensitivity.table",
    "measure_step_similarities": "tilewright.search.steps.measure",
    "search_steps": "tilewright.search.steps.run",
    "pareto": "tilewright.search.api",
    "report_sweep": "tilewright.reports.sweep.report",
    "search_bits": "tilewright.search.bits.choose",
    "search_fusion": "tilewright.search.fusion.run",
    "search_methods": "tilewright.search.api",
    "search_tiling": "tilewright.search.api",
    "search_tilings": "tilewright.search.api",
    "simulate": "tilewright.search.api",
    "simulate_network": "tilewright.search.api",
    "simulate_pipeline": "tilewright.search.api",
    "simulate_run": "tilewright.search.runs.run",
    "sweep": "tilewright.search.sweep.run",
    "trace": "tilewright.search.api",
    "why": "tilewright.search.api",
    "why_network": "tilewright.search.api",
    "workload_names": "tilewright.workloads.load",
}


def __getattr__(name: str) -> Any:
    home = _HOME_OF_NAME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
