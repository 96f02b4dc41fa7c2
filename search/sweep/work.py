"""One point of a sweep: the best mapping of a workload on a design, and the worker processes that do many."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilewright.errors import InputError, TilewrightError
from tilewright.hw_models.redesign import Redesigner
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.kernel_words import LIBRARY_KERNELS
from tilewright.search.mapping_cache import ForgetfulCache, MappingCache
from tilewright.search.objective import Objective
from tilewright.search.shared.shared_search import SearchMemory
from tilewright.search.sweep.design_figures import AreaRule, base_values, with_leakage
from tilewright.search.sweep.row_writer import RowWriter
from tilewright.search.sweep.space import Design, SweepPoint
from tilewright.search.sweep.spec import SweptWorkload
from tilewright.search.sweep.store import Status, StoredPoint, StoreError
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.sim.residency_plan import ResidencyPlan
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["SweepBench", "begin_worker", "do_points", "is_ready"]

_LEFT_OUT = (
    "workload", "machine", "dataflow", "cycles", "seconds", "energy_pj", "longest_sequence", "milliseconds", "energy_mj"
)  # fmt: skip


@dataclass(slots=True, kw_only=True)
class SweepBench:
    """What every point of a sweep shares; it goes to each worker once."""

    machine: MachineSpec
    layers: tuple[SweptWorkload, ...]
    objective: Objective
    area: AreaRule | None = None
    base: dict[str, Any] = field(default_factory=dict)
    last: tuple[Design, MachineSpec] | None = field(default=None)
    memory: SearchMemory = field(default_factory=SearchMemory)
    mappings: MappingCache = field(default_factory=ForgetfulCache)  # designs differ: little would be found again
    redesigner: Redesigner = field(init=False)

    def __post_init__(self) -> None:
        self.redesigner = Redesigner(self.machine)

    def run(self, point: SweepPoint) -> StoredPoint:
        """The row of ``point``. A design that cannot run it, or a fault of ours, is a row with an error."""
        begun = time.perf_counter()
        try:
            figures: dict[str, Any] = self._figures(point)
        except InputError as error:
            figures = {"status": "infeasible", "error": str(error).splitlines()[0]}
        except StoreError:
            raise
        except Exception as error:
            what = str(error) if isinstance(error, TilewrightError) else f"{type(error).__name__}: {error}"
            figures = {"status": "failed", "error": " ".join(what.split())}
        return self.row(point, **figures, evaluation_s=time.perf_counter() - begun)

    def row(self, point: SweepPoint, *, status: Status, **figures: Any) -> StoredPoint:
        """``point`` as a row of the store with these figures."""
        return StoredPoint(
            key=point.key,
            machine=self.machine.name,
            workload=self.layers[point.layer].name,
            dataflow=point.dataflow,
            objective=self.objective,
            parameters=point.design,
            status=status,
            **figures,
        )

    def _figures(self, point: SweepPoint) -> dict[str, Any]:
        machine, layer = self._machine(point.design), self.layers[point.layer]
        if isinstance(layer, OperatorStream):
            return self._network_figures(layer, machine, point.dataflow)
        if point.dataflow in LIBRARY_KERNELS:
            return self._library_figures(layer, machine, point.dataflow)
        flow = get_dataflow(point.dataflow)
        layer = flow.family.adapted(layer, machine)
        shared = self.memory.of(flow, layer, machine)
        found = shared.best(machine, self.objective)
        result = shared.result(machine, found)
        rest = {name: value for name, value in result.to_row().items() if name not in _LEFT_OUT}
        return {
            "status": "done",
            "cycles": result.cycles,
            "seconds": result.seconds,
            "energy_pj": result.energy_pj,
            "power_w": result.energy_pj * 1e-12 / result.seconds,
            "result": {
                **{name: value for name, value in rest.items() if value is not None},
                "n_candidates": found.summary.n_candidates,
                "n_simulated": found.summary.n_simulated,
                "proven": found.summary.proven,
            },
        }

    def _library_figures(self, layer: AttentionLayer, machine: MachineSpec, kernels: str) -> dict[str, Any]:
        """A layer as a library kernel: nothing is searched."""
        from tilewright.search.gpu.kernel_options import kernel_options
        from tilewright.search.gpu.layer import library_layer

        result = library_layer(layer, machine, kernel_options(machine, kernels))
        rest = {name: value for name, value in result.to_row().items() if name not in _LEFT_OUT}
        return {
            "status": "done",
            "cycles": result.cycles,
            "seconds": result.seconds,
            "energy_pj": result.energy_pj,
            "power_w": result.energy_pj * 1e-12 / result.seconds,
            "result": {name: value for name, value in rest.items() if value is not None},
        }

    def _network_figures(self, network: OperatorStream, machine: MachineSpec, dataflow: str) -> dict[str, Any]:
        from tilewright.search.gpu.kernel_options import kernel_options
        from tilewright.search.network import simulate_stream

        chosen = dataflow if dataflow in LIBRARY_KERNELS else "engine"
        result = simulate_stream(
            network,
            machine,
            objective=self.objective,
            attention_dataflows=(dataflow,),
            cache=self.mappings,
            kernels=kernel_options(machine, chosen if machine.gpu is not None else None),
            n_processes=1,
        )
        return {
            "status": "done",
            "cycles": result.cycles,
            "seconds": result.seconds,
            "energy_pj": result.energy_pj,
            "power_w": result.energy_pj * 1e-12 / result.seconds,
            "result": {
                "macs": result.macs,
                "dram_read_bytes": result.dram_read_bytes,
                "dram_write_bytes": result.dram_write_bytes,
                **{f"energy_{name}_pj": part for name, part in result.energy_by_component.items()},
                "n_operators": len(result.operators),
                **_plan_figures(result.residency),
            },
        }

    def _machine(self, design: Design) -> MachineSpec:
        if self.last is None or self.last[0] != design:
            if self.area is not None and not self.base:
                self.base = base_values(self.machine)
            leaky = design if self.area is None else with_leakage(self.area, self.base, design)
            self.last = design, self.redesigner.design(leaky)
        return self.last[1]


def _plan_figures(plan: ResidencyPlan | None) -> dict[str, Any]:
    """What a plan keeps on chip, and by how much of its cost it may miss the best one (0: proven)."""
    if plan is None:
        return {}
    return {
        "plan_memory": plan.memory,
        "plan_peak_bytes": plan.peak_bytes,
        "plan_weight_bytes": plan.weight_bytes,
        "plan_gap": max(0.0, plan.gap),
        "plan_first_cycles": plan.first_cycles,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    bench: SweepBench
    writer: RowWriter
    stop: Any


_workers: list[_Worker] = []  # at most one: this process


def begin_worker(bench: SweepBench, path: Path, stop: Any) -> None:
    """Set up this worker process. ``stop`` is a shared flag: work ends at the next point once it is set."""
    from tilewright.search import api  # noqa: F401 (registers the dataflows)
    from tilewright.sim.engine import run as engine

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and tells its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    engine.warm_up()
    _workers[:] = [_Worker(bench=bench, writer=RowWriter(path), stop=stop)]


def is_ready() -> bool:
    """The first job of a pool: shows that its workers could start."""
    return bool(_workers)


def do_points(points: Sequence[SweepPoint]) -> Counter[str]:
    """Run ``points``; how many ended in which status, once all their rows are on the disk."""
    (worker,) = _workers
    counts: Counter[str] = Counter()
    for point in points:
        if worker.stop.value:
            break
        row = worker.bench.run(point)
        worker.writer.add(row)
        counts[row.status] += 1
    worker.writer.finish()
    return counts


def _leave_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
