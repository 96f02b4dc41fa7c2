"""Exact what-ifs: what one resource twice as large would change. An exact run is cheap, so nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tilewright.errors import MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.objective import Objective, score
from tilewright.search.tiling import best_tiling
from tilewright.sim.jobs import JobLayer
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import Dataflow, Tiling
from tilewright.sim.result import WhatIf

__all__ = ["doubled_resources", "what_ifs"]


def doubled_resources(machine: MachineSpec) -> dict[str, dict[str, Any]]:
    """The changes to ``machine`` that double one resource each, by label; of unlike groups of cores those of the main
    one, and the cores or the rate of each other.
    """
    rates = machine.matrix.multiplies_per_pe_per_cycle
    changes: dict[str, dict[str, Any]] = {
        "2x matrix rate": {
            f"matrix.multiplies_per_pe_per_cycle.{number_format}": 2 * rate for number_format, rate in rates.items()
        },
        "2x vector lanes": {"vector.lanes": 2 * machine.vector.lanes},
        "2x DRAM bandwidth": {"dram.bandwidth_gb_per_s": 2 * machine.dram.bandwidth_gb_per_s},
        f"2x {machine.buffers[0].name} capacity": {"buffers.0.capacity_kib": 2 * machine.buffers[0].capacity_kib},
    }
    if machine.dram.first_access_latency_ns:
        changes["no DRAM latency"] = {"dram.first_access_latency_ns": 0.0}
    ports = {
        f"buffers.0.{port}": 2 * rate
        for port in ("read_bytes_per_cycle", "write_bytes_per_cycle")
        if (rate := getattr(machine.buffers[0], port)) is not None
    }
    if ports:
        changes[f"2x {machine.buffers[0].name} bandwidth"] = ports
    for name, group in machine.groups.items():
        if group.processor is not None:
            rate = {f"groups.{name}.processor.giga_operations_per_s": 2 * group.processor.giga_operations_per_s}
            changes[f"2x {name} rate"] = rate
        else:
            changes[f"2x {name} cores"] = {f"groups.{name}.n_cores": 2 * group.n_cores}
    return changes


def what_ifs(
    dataflow: Dataflow,
    layer: JobLayer,
    machine: MachineSpec,
    tiling: Tiling,
    objective: Objective,
    *,
    cuts: Sequence[JobLayer] = (),
) -> tuple[WhatIf, ...]:
    """For each doubled resource: the run with ``tiling`` as it is, and with the tiling that is best then.

    ``cuts`` are the ways to cut the layer for the cores that are tried then (empty: only ``layer`` as it is).
    """
    found = []
    for label, change in doubled_resources(machine).items():
        changed = machine.with_(**change)
        same = evaluate(dataflow, layer, changed, tiling)
        runs = [same]
        for piece in cuts or (layer,):
            with suppress(MappingError):  # a cut for which nothing fits; ``same`` always does
                again = best_tiling(dataflow, piece, changed, objective=objective)
                runs.append(evaluate(dataflow, piece, changed, again.tiling))
        best = min(runs, key=lambda run: score(objective, run.cycles, run.energy_pj))
        found.append(WhatIf(label=label, cycles=best.cycles, energy_pj=best.energy_pj, cycles_same_tiling=same.cycles))
    return tuple(found)
