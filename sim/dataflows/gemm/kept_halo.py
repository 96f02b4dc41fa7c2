"""Convolutions whose tiles keep the input rows that the next tile needs too, so that no halo is loaded twice.

The nest is that of ``gemm`` with weights kept (all channels at once): tiles of whole output rows are streamed past
them. The first tile of a pass loads its whole slab; each next one the rows that are new, while the last rows of the one
before wait beside the slots in a store of their own (reach - stride rows, as line buffers have them). What the array
reads is the same as ever.
"""

from __future__ import annotations

from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.floor import work_floor
from tilewright.sim.dataflows.gemm.lower import ASSUMPTIONS, GemmCore, Nest, Step, first_weight_tiles, lower_nest
from tilewright.sim.dataflows.gemm.space import COLUMNS, DEPTH, KEEPS_B, OUTPUTS, PREFETCHED, ROWS
from tilewright.sim.lowering.core import WorkTotals
from tilewright.sim.lowering.mapping import Dataflow, Parameter, Phase, Tiling, register
from tilewright.workloads.gemm import GemmLayer

__all__ = ["KEPT_HALO", "HaloCore", "whole_tiling"]


class HaloCore(GemmCore):
    """A core that keeps halos; so that a run on numbers knows."""

    keeps_halo = True


class HaloNest(Nest):
    """The pools and commands of such a tiling; :attr:`halo` is reserved beside the slots of A."""

    def __init__(self, core: GemmCore, tiling: Tiling) -> None:
        super().__init__(core, tiling)
        core.reserve("halo", core.costs.halo_bytes())

    def _load_a(self, step: Step) -> None:
        assert self.a is not None
        costs = self.core.costs
        if step.rows.first:
            work, run = costs.load_a(step.rows, step.k, row_tile=self.tile["m"], depth_tile=self.tile["k"]), "load_a"
        else:
            work, run = costs.load_new_a(step.rows), "load_new_a"
        self.core.load(work, waits=[self.a.free], signals=[self.a.full], label="load A", run=(run, step))


def whole_tiling(layer: GemmLayer, tiling: Tiling) -> dict[str, int]:
    """``tiling`` as one of ``gemm``: weights kept, the whole sum at once."""
    return {**tiling, "k": layer.k, "order": KEEPS_B}


def lower(core: GemmCore, tiling: Tiling) -> None:
    """The nest for the layer of ``core``; raises InputError for one without halos to keep."""
    reason = refusal(core.layer, core.costs.machine)
    if reason:
        raise InputError(f"{core.layer.name}: kept_halo {reason}")
    lower_nest(core, HaloNest(core, whole_tiling(core.layer, tiling)))


def refusal(layer: GemmLayer, machine: MachineSpec) -> str:
    """Why no halo can be kept; empty where it can."""
    window = layer.window
    if window is None:
        return "runs convolutions, not matrix products"
    if layer.engine is not None or layer.split is not None:
        return "runs products in one piece and without an engine of the literature"
    if window.images > 1 or window.dilation_height > 1 or window.shift_height or window.shift_width:
        return (
            "runs one image, without dilation, and no transposed convolution whose padding its stride does not divide"
        )
    if window.reach_height <= window.stride_height:
        return "needs windows that have rows in common"
    if layer.before_cut.m != layer.m:
        return "needs whole maps, not maps cut for several cores"
    return ""


def _legal(layer: GemmLayer, tiling: Tiling) -> bool:
    return layer.window is not None and (tiling["m"] >= layer.m or tiling["m"] % layer.window.out_width == 0)


def _floor(costs: GemmCosts, tiling: Tiling) -> WorkTotals:
    return work_floor(costs, whole_tiling(costs.layer, tiling))


def _ahead(layer: Any, tiling: Tiling) -> tuple[tuple[int, int], ...]:
    return first_weight_tiles(layer, whole_tiling(layer, tiling))


PARAMETERS: tuple[Parameter, ...] = (ROWS, COLUMNS, DEPTH, OUTPUTS, PREFETCHED)
KEPT_HALO = register(
    Dataflow(
        name="kept_halo",
        summary="convolution with its weights kept; tiles of whole rows, whose halo stays on chip for the next one",
        source="line buffers, as in fused-layer and depth-first accelerators, within one layer",
        phases=(
            Phase(name="convolution", parameters=PARAMETERS, lower=lower, legal=_legal, core=HaloCore, floor=_floor),
        ),
        assumptions=(
            *ASSUMPTIONS,
            "the rows of a tile that the next one needs stay on chip in room of their own, at no cost of moving them",
        ),
        operator="gemm",
        refusal=refusal,
        ahead=_ahead,
    )
)
