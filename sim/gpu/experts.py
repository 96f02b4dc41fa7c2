"""Time of a fused mixture-of-experts layer on a GPU: two grouped products with an activation between them.

The rows that fall on an expert are padded to whole tiles; tiles of all experts run in waves over the multiprocessors,
while the weights of every expert that has rows come from the DRAM once. Sorting the rows, quantising them, the
activation and the sum over the experts of a token are kernels of their own, over all rows of the layer. The library's
choice of a tile is the one with the least predicted time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import ExpertsParameters
from tilewright.registry import Registry
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.memory import miss_share
from tilewright.sim.gpu.routing import TILE_ROWS, expert_load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["EXPERTS_FAMILIES", "ExpertsFamily", "ExpertsForecast", "ExpertsShapes", "experts_forecast"]

_TILE_COLUMNS = (64, 128, 256)
_STEP_BYTES = 128  # one row of a step along k
_MMA_ROWS = 64  # narrower tiles take as long
_RESULT_BYTES = 2
_ACTIVATION_OPERATIONS = 10  # of a lane for each value between the products, for the energy


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsFamily:
    """Kernels of one library. ``operand_bits`` of weights and activations; ``quantises``: activations, on the way.

    ``relatives``, ``alone``: as for products.
    """

    name: str
    summary: str
    operand_bits: int
    multiply_format: str
    quantises: bool = False
    relatives: tuple[str, ...] = ()
    alone: bool = False


EXPERTS_FAMILIES: Registry[ExpertsFamily] = Registry("family of mixture-of-experts kernels")
for _family in (
    ExpertsFamily(name="moe_bf16", summary="vLLM's fused experts, bf16", operand_bits=16, multiply_format="bf16"),
    ExpertsFamily(
        name="moe_fp8",
        summary="vLLM's fused experts, fp8 with a scale for a matrix",
        operand_bits=8,
        multiply_format="fp8_e4m3",
        quantises=True,
        relatives=("moe_bf16", "moe_fp8_block"),
    ),
    ExpertsFamily(
        name="moe_fp8_block",
        summary="vLLM's fused experts, fp8 with a scale for 128 x 128 weights and 128 activations",
        operand_bits=8,
        multiply_format="fp8_e4m3",
        quantises=True,
        relatives=("moe_fp8", "moe_bf16"),
    ),
):
    EXPERTS_FAMILIES.register(_family.name, _family)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsShapes:
    """Layers as arrays of one length.

    ``tokens``; ``hidden`` width of a token; ``inner`` width of the gate and of the up product; each token goes to
    ``top_k`` of ``experts``. ``tensor_parts`` GPUs share the inner width, ``expert_parts`` the experts (the busiest one
    counts). ``skew_milli``: how tokens fall (:func:`tilewright.sim.gpu.routing.expert_load`).
    """

    tokens: NDArray[np.int64] = field(hash=False)
    hidden: NDArray[np.int64] = field(hash=False)
    inner: NDArray[np.int64] = field(hash=False)
    top_k: NDArray[np.int64] = field(hash=False)
    experts: NDArray[np.int64] = field(hash=False)
    tensor_parts: NDArray[np.int64] = field(hash=False)
    expert_parts: NDArray[np.int64] = field(hash=False)
    skew_milli: NDArray[np.int64] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsForecast:
    """Predicted times: ``seconds``, and what limits each (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`).

    ``activity``: what the layers do in that time, for their energy.
    """

    seconds: Numbers = field(hash=False)
    bound: NDArray[np.int64] = field(hash=False)
    activity: Activity = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What both products know: the busiest GPU's tiles (layers x ``TILE_ROWS``), experts with rows, and rows."""

    tiles: Numbers
    active: Numbers
    rows: Numbers
    weights_missed: Numbers
    rows_missed: Numbers


def experts_forecast(
    device: GpuDevice, family: ExpertsFamily, parameters: ExpertsParameters, shapes: ExpertsShapes
) -> ExpertsForecast:
    """Times of the layers."""
    loads = [
        expert_load(*key)
        for key in zip(
            *(getattr(shapes, name).tolist() for name in ("experts", "expert_parts", "tokens", "top_k", "skew_milli")),
            strict=True,
        )
    ]
    hidden = np.asarray(shapes.hidden, dtype=np.float64)
    inner = np.maximum(np.asarray(shapes.inner, dtype=np.float64) / shapes.tensor_parts, 1)
    tokens = np.asarray(shapes.tokens, dtype=np.float64)
    all_rows = tokens * shapes.top_k
    active = np.array([load[1] for load in loads])
    cache = device.l2_shared_bytes * parameters.cache_share
    weights = 3 * active * hidden * inner * family.operand_bits / 8
    passed = all_rows * (3 * inner + 2 * hidden) * _RESULT_BYTES
    case = _Case(
        tiles=np.array([load[0] for load in loads]),
        active=active,
        rows=np.array([load[2] for load in loads]),
        weights_missed=miss_share(weights + passed, cache),
        rows_missed=miss_share(passed, cache),
    )
    up, up_compute, up_memory, up_fed = _product(device, family, parameters, case, columns=2 * inner, depth=hidden)
    down, down_compute, down_memory, down_fed = _product(device, family, parameters, case, columns=hidden, depth=inner)
    moved = passed + 2 * tokens * hidden * _RESULT_BYTES
    if family.quantises:
        moved = moved + 3 * (tokens * hidden + all_rows * inner)
    rate = device.dram_bytes_per_s * parameters.memory_share
    beside = moved * (case.rows_missed / rate + (1 - case.rows_missed) / device.l2_bytes_per_s)
    beside += all_rows * parameters.row_ns * 1e-9
    launch = parameters.launch_us * 1e-6
    bound = np.where(up_compute + down_compute >= up_memory + down_memory + beside, 1, 2)
    bound = np.where(up + down + beside < launch, 0, bound)
    activity = Activity(
        macs={family.multiply_format: 3 * case.rows * hidden * inner},
        dram_bytes=weights * case.weights_missed + (passed + moved) * case.rows_missed,
        l2_bytes=up_fed + down_fed + passed + moved,
        lane_operations=all_rows * inner * _ACTIVATION_OPERATIONS,
    )
    return ExpertsForecast(seconds=launch + up + down + beside, bound=bound, activity=activity)


def _product(
    device: GpuDevice,
    family: ExpertsFamily,
    parameters: ExpertsParameters,
    case: _Case,
    *,
    columns: Numbers,
    depth: Numbers,
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Seconds of one grouped product with its best tile, and of its compute and memory parts; bytes from the L2."""
    n_bytes = family.operand_bits / 8
    weights = case.active * columns * depth * n_bytes
    rate = device.dram_bytes_per_s * parameters.memory_share
    cached = (1 - case.weights_missed) * weights / device.l2_bytes_per_s
    rows_moved = case.rows * (depth * n_bytes + columns * _RESULT_BYTES) * case.rows_missed
    memory = (weights * case.weights_missed + rows_moved) / rate + cached
    multiply = device.macs(family.multiply_format) * parameters.rate_share
    steps = np.ceil(depth * n_bytes / _STEP_BYTES)
    choices = []
    for at, rows in enumerate(TILE_ROWS):
        for width in _TILE_COLUMNS:
            blocks = case.tiles[:, at] * np.ceil(columns / width)
            running = np.clip(blocks, 1, device.n_sms)
            tensor = max(rows, _MMA_ROWS) * width * (_STEP_BYTES / n_bytes) / multiply
            l2_rate = device.l2_bytes_per_s / device.clock_hz / running
            feed = (rows + width) * _STEP_BYTES / np.minimum(parameters.feed_bytes_per_cycle, l2_rate)
            step = np.maximum(tensor, feed) + parameters.step_cycles
            store = rows * width * _RESULT_BYTES / parameters.store_bytes_per_cycle
            compute = np.ceil(blocks / device.n_sms) * (steps * step + store) / device.clock_hz
            drawn = weights * case.weights_missed / (running * parameters.sm_memory_gb_per_s * 1e9)
            longer = np.maximum(memory, drawn)
            total = np.maximum(compute, longer) + parameters.overlap_loss * np.minimum(compute, longer)
            choices.append((total, compute, longer, blocks * steps * (rows + width) * _STEP_BYTES))
    totals = np.stack([choice[0] for choice in choices])
    best, at_row = totals.argmin(axis=0), np.arange(totals.shape[1])
    compute, memory, fed = (np.stack([choice[i] for choice in choices])[best, at_row] for i in (1, 2, 3))
    return totals[best, at_row], compute, memory, fed
