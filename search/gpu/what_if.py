"""What more of each resource of a GPU would change for its library kernels: every kernel timed anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.kernel_options import KernelOptions
from tilewright.search.gpu.layer import library_layer
from tilewright.search.gpu.network import library_network
from tilewright.search.objective import Objective
from tilewright.sim.jobs import JobLayer
from tilewright.sim.network_why import NetworkWhatIf, NetworkWhyResult
from tilewright.sim.result import SimulationResult, WhatIf, WhyResult
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["NO_LAUNCH", "gpu_changes", "why_library_layer", "why_library_network"]

NO_LAUNCH = "kernels launched in no time"


def gpu_changes(machine: MachineSpec) -> dict[str, dict[str, Any]]:
    """The changes to ``machine`` that double one resource each, by label."""
    assert machine.gpu is not None
    rates = machine.matrix.multiplies_per_pe_per_cycle
    (at,) = [place for place, buffer in enumerate(machine.buffers) if buffer.name == "l2"]
    gpu = machine.gpu
    faster: dict[str, Any] = {
        f"gpu.l2_read.{place}.read_tb_per_s": 2 * point.read_tb_per_s for place, point in enumerate(gpu.l2_read)
    }
    larger: dict[str, Any] = {
        f"gpu.l2_read.{place}.working_set_mb": 2 * point.working_set_mb for place, point in enumerate(gpu.l2_read)
    }
    if not faster:
        faster = {"gpu.l2_bytes_per_cycle": 2 * (gpu.l2_bytes_per_cycle or 0)}
    return {
        "2x matrix rate": {f"matrix.multiplies_per_pe_per_cycle.{name}": 2 * rate for name, rate in rates.items()},
        "2x vector lanes": {"vector.lanes": 2 * machine.vector.lanes},
        "2x DRAM bandwidth": {"dram.bandwidth_gb_per_s": 2 * machine.dram.bandwidth_gb_per_s},
        "2x L2 capacity": {f"buffers.{at}.capacity_kib": 2 * machine.buffers[at].capacity_kib} | larger,
        "2x L2 bandwidth": faster,
    }


def _changed(machine: MachineSpec) -> Iterator[tuple[str, MachineSpec, bool]]:
    for label, change in gpu_changes(machine).items():
        yield label, machine.with_(**change), False
    yield NO_LAUNCH, machine, True


def why_library_network(
    stream: OperatorStream, machine: MachineSpec, options: KernelOptions, *, objective: Objective
) -> NetworkWhyResult:
    """The run of ``stream``, and what twice as much of each resource changes."""
    base = library_network(stream, machine, options, objective=objective)
    found = []
    for label, changed, free in _changed(machine):
        run = library_network(stream, changed, options, objective=objective, free_launches=free)
        cycles = tuple(operator.cycles for operator in run.operators)
        found.append(
            NetworkWhatIf(
                label=label,
                cycles=run.cycles,
                energy_pj=run.energy_pj,
                cycles_same_mappings=run.cycles,
                operator_cycles=cycles,
            )
        )
    return NetworkWhyResult(result=base, what_ifs=tuple(found))


def why_library_layer(layer: JobLayer, machine: MachineSpec, options: KernelOptions) -> WhyResult:
    """The run of ``layer``, and what twice as much of each resource changes."""

    def run(spec: MachineSpec, *, free: bool) -> SimulationResult:
        return library_layer(layer, spec, options, free_launches=free)

    base = run(machine, free=False)
    runs = [(label, run(changed, free=free)) for label, changed, free in _changed(machine)]
    what_ifs = tuple(
        WhatIf(label=label, cycles=one.cycles, energy_pj=one.energy_pj, cycles_same_tiling=one.cycles)
        for label, one in runs
    )
    return WhyResult(result=base, attribution=None, what_ifs=what_ifs)
