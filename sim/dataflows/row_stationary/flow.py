"""Row-stationary convolution as a dataflow of products: convolutions of networks on machines with scratchpads."""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.row_stationary.costs import RowCosts, RowRules
from tilewright.sim.dataflows.row_stationary.floor import work_floor
from tilewright.sim.dataflows.row_stationary.lower import RowCore, lower_convolution
from tilewright.sim.dataflows.row_stationary.space import PARAMETERS, figures_of, is_legal, mapping_of
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, register
from tilewright.workloads.gemm import GemmLayer

__all__ = ["ROW_STATIONARY"]


def refusal(layer: GemmLayer, machine: MachineSpec) -> str:
    """Why the array cannot run ``layer`` row by row; empty where it can."""
    window = layer.window
    if machine.matrix.scratchpads is None:
        return f"needs matrix.scratchpads, which {machine.name} does not have"
    if window is None:
        return "runs convolutions, not matrix products"
    if window.stride_height != window.stride_width:
        return "needs one stride for rows and columns"
    if window.dilation_height > 1 or window.dilation_width > 1:
        return "runs convolutions without dilation"
    if window.shift_height or window.shift_width:
        return "runs no transposed convolution whose padding its stride does not divide"
    if layer.m != window.images * window.out_height * window.out_width:
        return "needs whole maps, not maps cut for several cores"
    return ""


def lower(core: RowCore, tiling: Tiling) -> None:
    """The program of :mod:`tilewright.sim.dataflows.row_stationary.lower` for the layer of ``core``."""
    layer, machine = core.costs.layer, core.costs.machine
    core.write_channel = core.costs.store_channel
    reason = refusal(layer, machine)
    if reason:
        raise InputError(f"{layer.name}: row_stationary {reason}")
    figures = figures_of(core.costs, core.n_groups)
    lower_convolution(core, RowCosts(figures.conv, mapping_of(layer, tiling), machine, RowRules(), figures))


ROW_STATIONARY = register(
    Dataflow(
        name="row_stationary",
        summary="convolution with a row of a filter and a row of the map in each PE, sums added up columns of PEs",
        source="Chen, Emer, Sze, ISCA 2016; Chen, Krishna, Emer, Sze, JSSC 2017 (Eyeriss)",
        phases=(
            Phase(
                name="convolution", parameters=PARAMETERS, lower=lower, legal=is_legal, core=RowCore, floor=work_floor
            ),
        ),
        assumptions=(
            "row-stationary: partial sums are kept in the format of the products; maps lie in DRAM plainly, with their "
            "padding (the share of zeros, for run-length coding, is not known)",
            "row-stationary: the buffer holds one chunk of input maps and one block of partial sums, neither of which "
            "is loaded or stored while the array uses it; filters are brought one pass ahead",
            "row-stationary: a PE adds the sum from below with the adder of its products, filters are put "
            "into scratchpads between passes",
        ),
        operator="gemm",
        refusal=refusal,
        is_native=True,
        fills_buffers=True,
    ),
    rank=10,
)
