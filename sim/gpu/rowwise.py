"""Time of element-wise and row-wise kernels on a GPU: activation, softmax, norm, quantisation.

Rows are read and results written once; a thread block works on one row at a time with the CUDA lanes. What binds is the
DRAM, the L2, the lanes, or, where rows are few or short, the latency of a row in each multiprocessor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import RowwiseParameters
from tilewright.registry import Registry
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.memory import miss_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "RowwiseFamily",
    "RowwiseForecast",
    "RowwiseShapes",
    "rowwise_family",
    "rowwise_forecast",
]

_THREADS = 2048  # of a multiprocessor
_VALUES = 8  # of a thread: one load of 16 bytes
_MOST_BLOCKS = 16  # of a multiprocessor at a time
_WARP = 32
_SHORT_BLOCK = 1024  # values that a thread block holds in registers


@dataclass(frozen=True, slots=True, kw_only=True)
class RowwiseFamily:
    """An operator on rows: bytes read and written for each value, and passes over a row too long for registers.

    ``threads`` of the thread block that works on a row; 0: one for each eight values, up to 1,024. ``warp_values``: a
    row of at most so many values is done by one warp. ``barriers``: a row is loaded, then reduced, so that the blocks
    of a round wait for the memory and then the memory for them. ``operations`` of a lane for each value, for the
    energy: converting, the work, converting back. ``relatives``: families whose parameters stand in where these
    kernels are not calibrated, nearest first; ``alone``: a call is one kernel in a graph.
    """

    name: str
    summary: str
    read_bytes: float
    write_bytes: float
    passes: int = 1
    threads: int = 0
    warp_values: int = 0
    barriers: bool = False
    operations: int = 4
    relatives: tuple[str, ...] = ()
    alone: bool = False


_SCALING = ("gelu_graph", "scalematrix", "gelu")
_BUILT_IN = (
    RowwiseFamily(name="gelu", summary="activation, fp16", read_bytes=2, write_bytes=2, operations=12),
    RowwiseFamily(
        name="softmax", summary="softmax of rows, fp16", read_bytes=2, write_bytes=2, passes=3, operations=10
    ),
    RowwiseFamily(
        name="layernorm", summary="norm of rows", read_bytes=2, write_bytes=2, passes=2, threads=128, operations=8
    ),
    RowwiseFamily(
        name="scalematrix",
        summary="bf16 scaled into fp8",
        read_bytes=2,
        write_bytes=1,
        operations=12,  # convert, scale, clip on both sides, round, convert, pack
        relatives=("gelu_graph", "gelu"),
        alone=True,
    ),
    RowwiseFamily(
        name="computescale",
        summary="largest magnitude of a bf16 matrix",
        read_bytes=2,
        write_bytes=0,
        relatives=_SCALING,
    ),
    RowwiseFamily(
        name="gelu_graph",
        summary="PyTorch's element-wise operators in a graph, fp16",
        read_bytes=2,
        write_bytes=2,
        relatives=_SCALING[1:],
        alone=True,
    ),
    RowwiseFamily(
        name="softmax_graph",
        summary="PyTorch's softmax in a graph, fp16: a block of 1,024 threads a row, a warp up to 1,024 values",
        operations=10,
        read_bytes=2,
        write_bytes=2,
        threads=1024,
        warp_values=1024,
        barriers=True,
        relatives=("softmax", *_SCALING),
        alone=True,
    ),
    RowwiseFamily(
        name="layernorm_graph",
        summary="PyTorch's norms of rows in a graph, fp16: 128 threads a row",
        operations=8,
        read_bytes=2,
        write_bytes=2,
        passes=2,
        threads=128,
        barriers=True,
        relatives=("layernorm", *_SCALING),
        alone=True,
    ),
)
ROWWISE_FAMILIES: Registry[RowwiseFamily] = Registry("row-wise operator")
for _family in _BUILT_IN:
    ROWWISE_FAMILIES.register(_family.name, _family)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowwiseShapes:
    """``m`` rows of ``n`` values, as arrays of one length; ``copies`` that a measurement rotates through.

    ``missed``: of kernels in a network, the share (0 to 1) of what is moved once that crosses the DRAM's bus, in place
    of the copies.
    """

    m: NDArray[np.int64] = field(hash=False)
    n: NDArray[np.int64] = field(hash=False)
    copies: int = 1
    missed: NDArray[np.float64] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowwiseForecast:
    """Predicted times: ``seconds``, and what limits each (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`).

    ``activity``: what the kernels do in that time, for their energy.
    """

    seconds: NDArray[np.float64] = field(hash=False)
    bound: NDArray[np.int64] = field(hash=False)
    activity: Activity = field(hash=False)


def rowwise_family(name: str) -> RowwiseFamily:
    """The family called ``name``; raises :class:`InputError` for another word."""
    return ROWWISE_FAMILIES.get(name)


def rowwise_forecast(
    device: GpuDevice, family: RowwiseFamily, parameters: RowwiseParameters, shapes: RowwiseShapes
) -> RowwiseForecast:
    """Times of the operator on each shape."""
    m, n = np.asarray(shapes.m, dtype=np.float64), np.asarray(shapes.n, dtype=np.float64)
    cache = device.l2_bytes * parameters.cache_share
    values = m * n
    threads = np.full_like(n, family.threads) if family.threads else np.clip(n / _VALUES, 32, 1024)
    threads = np.where(n <= family.warp_values, _WARP, threads)
    by_blocks = np.where(n <= family.warp_values, _THREADS / _WARP, _MOST_BLOCKS)
    resident = device.n_sms * np.clip(_THREADS / threads, 1, by_blocks)
    in_flight = np.minimum(m, resident) * n * family.read_bytes
    again = np.where(n > _SHORT_BLOCK, family.passes - 1, 0) * values * family.read_bytes
    again_missed = miss_share(in_flight, cache)
    once = values * (family.read_bytes + family.write_bytes)
    missed = miss_share(once * shapes.copies, cache) if shapes.missed is None else shapes.missed
    blocks = np.minimum(m, device.n_sms)
    rate = np.minimum(device.dram_bytes_per_s * parameters.memory_share, blocks * parameters.sm_memory_gb_per_s * 1e9)
    from_dram = once * missed + again * again_missed
    from_l2 = once * (1 - missed) + again * (1 - again_missed)
    ramp = parameters.memory_ramp_us * 1e-6 * (1 - np.exp(-from_dram / (rate * device.dram_latency_s * 4)))
    memory = from_dram / rate + from_l2 / device.l2_bytes_per_s + ramp
    rounds = np.ceil(m / resident)
    lanes = values * parameters.lane_cycles / (blocks * device.lanes * device.clock_hz)
    steps = np.ceil(n / (threads * _VALUES))
    latency = rounds * (parameters.row_us + steps * parameters.step_us) * 1e-6
    compute = latency + lanes
    longer = np.maximum(memory, lanes) + latency if family.barriers else np.maximum(memory, compute)
    bound = np.where(compute >= memory, 1, 2)
    bound = np.where(longer < parameters.launch_us * 1e-6, 0, bound)
    activity = Activity(
        macs={}, dram_bytes=from_dram, l2_bytes=once + again, lane_operations=values * family.operations
    )
    return RowwiseForecast(seconds=parameters.launch_us * 1e-6 + longer, bound=bound, activity=activity)
