"""Mappings that make and take maps a few rows at a time, where the stage has the time for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.network import Mapped
from tilewright.search.workload import pieces
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
        for flow, cut, tiling in _finer(layer, best, machine):
            with suppress(InputError):
                run = evaluate(flow, cut, machine, tiling)
                longer = (run.cycles - best.alone.cycles) * count
                if longer <= spare_cycles and run.dram_bytes <= best.alone.dram_bytes:
                    spare_cycles -= max(0, longer)
                    found[layer] = Mapped(cut, flow, tiling, run)
                    break
    return found


def _finer(whole: JobLayer, own: Mapped, machine: MachineSpec) -> Iterator[tuple[Dataflow, JobLayer, dict[str, int]]]:
    """Mappings of fewer rows at a time, the fewest first; of a convolution, too, with shared rows kept. Where several
    cores do rows apart, columns apart are tried instead, so that all of them are at the same rows.
    """
    layer, flow = own.layer, own.dataflow
    tiling = {name: value for name, value in own.tiling.items() if not is_pace(name)}
    if isinstance(layer, VectorLayer) and "rows" in tiling:
        yield from ((flow, layer, {**tiling, "rows": rows}) for rows in _doubled(1, min(tiling["rows"], layer.rows)))
    if not isinstance(layer, GemmLayer) or "m" not in tiling or (layer.groups != 1 and layer.whole is None):
        return
    if isinstance(whole, GemmLayer) and layer.m < whole.m:
        for cut in pieces(whole, machine, flow):
            if isinstance(cut, GemmLayer) and cut.m == whole.m:
                here = {**tiling, "n": min(tiling.get("n", cut.n), cut.n)}
                yield from ((flow, cut, one) for one in _of_cut(cut, {**here, "m": 2 * cut.m}, machine))
        return
    if flow is not KEPT_HALO and not KEPT_HALO.refusal(layer, machine):
        plain = {parameter.name: tiling.get(parameter.name, 2) for parameter in KEPT_HALO.parameters}
        for one in _of_cut(layer, tiling, machine):
            yield KEPT_HALO, layer, {**plain, "m": one["m"], "n": layer.n}
            yield flow, layer, one
        return
    yield from ((flow, layer, one) for one in _of_cut(layer, tiling, machine))


def _of_cut(layer: GemmLayer, tiling: dict[str, int], machine: MachineSpec) -> Iterator[dict[str, int]]:
    """Tilings of a product with fewer rows than ``tiling``, in which no row is passed twice."""
    passes = tiling.get("order") == KEEPS_B and tiling.get("n", layer.n) < layer.n
    orders = [tiling["order"]] if "order" in tiling and not passes else []
    orders += [order for order in (KEEPS_A, KEEPS_SUMS) if "order" in tiling and order not in orders]
    least = min(layer.m, LEAST_TOKENS) if layer.window is None else layer.window.out_width
    for rows in _doubled(least, layer.m if passes else min(tiling["m"], layer.m)):
        for far in (tiling.get("far"), *([B_IN_NEXT_LEVEL] if tiling.get("far") == 0 and machine.buffers[1:] else [])):
            level = {} if far is None else {"far": far}
            yield from ({**tiling, "m": rows, "order": order, **level} for order in orders)
        if not orders:
            yield {**tiling, "m": rows}


def _doubled(least: int, below: int) -> Iterator[int]:
    while least < below:
        yield least
        least *= 2
