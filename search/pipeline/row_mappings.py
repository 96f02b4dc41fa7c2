"""Mappings that make and take maps a few rows at a time, where the stage has the time for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.network import Mapped
from tilewright.sim.dataflows.gemm.kept_halo import KEPT_HALO
from tilewright.sim.dataflows.gemm.space import KEEPS_A, KEEPS_B, KEEPS_SUMS
from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import Dataflow
from tilewright.sim.lowering.pace import is_pace
from tilewright.workloads.gemm import GemmLayer, VectorLayer

__all__ = ["by_finer_rows"]

B_IN_NEXT_LEVEL = 2  # of ``far``: weights are fetched once, and read there for every few rows
LEAST_TOKENS = 16  # of a product that are handed over at a time


def by_finer_rows(
    mapped: Mapping[JobLayer, Mapped],
    jobs: Sequence[Job],
    handing: Sequence[Job],
    machine: MachineSpec,
    spare_cycles: int,
) -> dict[JobLayer, Mapped]:
    """``mapped`` with the layers of ``handing`` done in as few rows at a time as take, for all ``jobs`` of the stage
    together, at most ``spare_cycles`` longer, and no more bytes of the DRAM.
    """
    found = dict(mapped)
    for layer in dict.fromkeys(job.layer for job in handing):
        count = sum(job.layer == layer for job in jobs)
        best = found[layer]
        for flow, tiling in _finer(best, machine):
            with suppress(InputError):
                run = evaluate(flow, best.layer, machine, tiling)
                longer = (run.cycles - best.alone.cycles) * count
                if longer <= spare_cycles and run.dram_bytes <= best.alone.dram_bytes:
                    spare_cycles -= max(0, longer)
                    found[layer] = replace(best, dataflow=flow, tiling=tiling, alone=run)
                    break
    return found


def _finer(own: Mapped, machine: MachineSpec) -> Iterator[tuple[Dataflow, dict[str, int]]]:
    """Mappings of fewer rows at a time, the fewest first; of a convolution, too, with shared rows kept."""
    layer, flow = own.layer, own.dataflow
    tiling = {name: value for name, value in own.tiling.items() if not is_pace(name)}
    if isinstance(layer, VectorLayer) and "rows" in tiling:
        yield from ((flow, {**tiling, "rows": rows}) for rows in _doubled(1, min(tiling["rows"], layer.rows)))
    if not isinstance(layer, GemmLayer) or "m" not in tiling or (layer.groups != 1 and layer.whole is None):
        return
    passes = tiling.get("order") == KEEPS_B and tiling.get("n", layer.n) < layer.n
    orders = [tiling["order"]] if "order" in tiling and not passes else []
    orders += [order for order in (KEEPS_A, KEEPS_SUMS) if "order" in tiling and order not in orders]
    halo = flow is not KEPT_HALO and not KEPT_HALO.refusal(layer, machine)
    least = min(layer.m, LEAST_TOKENS) if layer.window is None else layer.window.out_width
    for rows in _doubled(least, layer.m if passes else min(tiling["m"], layer.m)):
        if halo:
            plain = {parameter.name: tiling.get(parameter.name, 2) for parameter in KEPT_HALO.parameters}
            yield KEPT_HALO, {**plain, "m": rows, "n": layer.n}
        for far in (tiling.get("far"), *([B_IN_NEXT_LEVEL] if tiling.get("far") == 0 and machine.buffers[1:] else [])):
            level = {} if far is None else {"far": far}
            yield from ((flow, {**tiling, "m": rows, "order": order, **level}) for order in orders)
        if not orders:
            yield flow, {**tiling, "m": rows}


def _doubled(least: int, below: int) -> Iterator[int]:
    while least < below:
        yield least
        least *= 2
