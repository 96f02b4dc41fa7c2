"""What a shell may complete: names, read only when it asks. A fault here must never reach the shell's line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

__all__ = [
    "anything",
    "dataflows",
    "described_files",
    "front_objectives",
    "kernels",
    "launches",
    "list_kinds",
    "machines",
    "methods",
    "objectives",
    "workloads",
]


def _of(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        with contextlib.suppress(Exception):
            return [name for name in names() if name.startswith(incomplete)]
        return []

    return complete


def _machines() -> Iterable[str]:
    from tilewright.hw_models.load import machine_names

    return machine_names()


def _layers() -> Iterable[str]:
    from tilewright.workloads.load import workload_names
    from tilewright.workloads.single_operator import operator_kinds

    return [*workload_names(), "attention:", *(f"{kind}:" for kind in operator_kinds())]


def _workloads() -> Iterable[str]:
    from tilewright.workloads.network import network_names

    layers = list(_layers())
    return [*layers, *(f"network:{name}" if name in layers else name for name in network_names())]


def _dataflows() -> Iterable[str]:
    from tilewright.sim.lowering.mapping import DATAFLOWS

    return DATAFLOWS.names()


def _objectives() -> Iterable[str]:
    from tilewright.search.objective import OBJECTIVES

    return OBJECTIVES


def _methods() -> Iterable[str]:
    from tilewright.search.methods.method import method_names

    return method_names()


machines = _of(_machines)
workloads = _of(_workloads)
dataflows = _of(_dataflows)
objectives = _of(_objectives)
front_objectives = _of(lambda: [*_objectives(), "pareto"])
methods = _of(_methods)
kernels = _of(lambda: ("eager", "fused", "engine"))
launches = _of(lambda: ("graph", "host"))
described_files = _of(lambda: ("machine", "hierarchy"))
_KINDS = ("machines", "workloads", "operators", "networks", "dataflows", "engines", "schedules", "models", "memories")
list_kinds = _of(lambda: _KINDS)
anything = _of(lambda: [*_machines(), *_workloads(), *_dataflows()])
