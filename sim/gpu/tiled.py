"""Time of a GEMM or attention kernel with a given tiling, pipeline depth and number of warps (as Triton takes them).

Here the schedule is the user's, not a library's: how many thread blocks fit on a multiprocessor at a time follows from
their shared memory, accumulators and threads; each keeps ``stages`` tiles in flight, so that a step cannot be shorter
than the latency of a load over the tiles in flight. The parameters are those of the calibrated library kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import AttentionParameters, GemmParameters
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["TiledAttention", "TiledGemm", "tiled_attention_seconds", "tiled_gemm_seconds"]

_REGISTERS = 65_536  # 32-bit registers of a multiprocessor
_MOST_REGISTERS = 255  # of a thread
_OTHER_REGISTERS = 48  # of a thread, beside accumulators: addresses, operands on their way
_MOST_THREADS = 2_048
_MOST_BLOCKS = 32
_SPILL = 3.0  # assumed: how much slower a kernel is whose accumulators do not fit into its threads' registers
_MMA_WARP_ROWS = 16
_WARP_GROUP_ROWS = 64
_DOES_NOT_FIT = np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledGemm:
    """Products with their tilings, as arrays of one length: shape, tile, stages of the pipeline, warps of a block."""

    m: Numbers = field(hash=False)
    n: Numbers = field(hash=False)
    k: Numbers = field(hash=False)
    rows: Numbers = field(hash=False)
    columns: Numbers = field(hash=False)
    depth: Numbers = field(hash=False)
    stages: Numbers = field(hash=False)
    warps: Numbers = field(hash=False)
    activation_bits: int = 16
    weight_bits: int = 16
    result_bits: int = 16
    multiply_format: str = "fp16"


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledAttention:
    """Attention layers with their tilings, as arrays of one length; fp16 throughout."""

    heads: Numbers = field(hash=False)
    queries: Numbers = field(hash=False)
    keys: Numbers = field(hash=False)
    head_dim: Numbers = field(hash=False)
    tile_queries: Numbers = field(hash=False)
    tile_keys: Numbers = field(hash=False)
    stages: Numbers = field(hash=False)
    warps: Numbers = field(hash=False)
    causal: bool = False


def tiled_gemm_seconds(device: GpuDevice, parameters: GemmParameters, case: TiledGemm) -> Numbers:
    """Seconds of each product with its tiling; infinity where a block does not fit on a multiprocessor."""
    a_bytes, b_bytes = case.activation_bits / 8, case.weight_bits / 8
    step_bytes = case.depth * (case.rows * a_bytes + case.columns * b_bytes)
    resident = _resident(device, np.maximum(case.stages, 1) * step_bytes, case.rows * case.columns, case.warps)
    blocks = np.ceil(case.m / case.rows) * np.ceil(case.n / case.columns)
    steps = np.ceil(case.k / case.depth)
    tensor = _product_rows(device, case.rows) * np.maximum(case.columns, 8) * case.depth
    tensor = tensor / device.macs(case.multiply_format)
    warp_tile = np.sqrt(case.rows * case.columns / case.warps)
    reuse = np.maximum(case.rows, 64) if device.asynchronous_products else warp_tile
    shared = case.rows * case.columns * case.depth * a_bytes * 2 / reuse / device.shared_bytes_per_cycle
    running = np.minimum(blocks, device.n_sms * resident)
    on_sm = np.maximum(running / device.n_sms, np.minimum(running, 1))
    on_sm = np.where(blocks < device.n_sms, 1.0, on_sm)
    sms = np.minimum(blocks, device.n_sms)
    l2_rate = np.minimum(parameters.feed_bytes_per_cycle, device.l2_bytes_per_s / device.clock_hz / sms)
    feed = step_bytes / l2_rate
    busy = np.maximum(np.maximum(tensor, shared), feed)
    latency = device.dram_latency_s * device.clock_hz / np.maximum(case.stages - 1, 0.5)
    step = np.maximum(on_sm * busy, latency) + parameters.step_cycles
    store = on_sm * case.rows * case.columns * case.result_bits / 8 / parameters.store_bytes_per_cycle
    waves = np.ceil(blocks / (device.n_sms * np.maximum(resident, 1)))
    compute = waves * (steps * step + store) * _spilled(case.rows * case.columns, case.warps) / device.clock_hz
    moved = case.m * case.k * a_bytes + case.n * case.k * b_bytes + case.m * case.n * case.result_bits / 8
    memory = moved / (device.dram_bytes_per_s * parameters.memory_share)
    longer, shorter = np.maximum(compute, memory), np.minimum(compute, memory)
    seconds = parameters.launch_us * 1e-6 + longer + parameters.overlap_loss * shorter
    return np.where(resident >= 1, seconds, _DOES_NOT_FIT)


def tiled_attention_seconds(device: GpuDevice, parameters: AttentionParameters, case: TiledAttention) -> Numbers:
    """Seconds of each layer with its tiling; infinity where a block does not fit on a multiprocessor."""
    element_bytes = 2
    kv_bytes = 2 * case.tile_keys * case.head_dim * element_bytes
    query_bytes = case.tile_queries * case.head_dim * element_bytes
    held = case.tile_queries * (case.head_dim + case.tile_keys)
    resident = _resident(device, query_bytes + np.maximum(case.stages - 1, 1) * kv_bytes, held, case.warps)
    tiles = np.ceil(case.queries / case.tile_queries)
    whole = np.ceil(case.keys / case.tile_keys)
    reach = np.minimum(1.0, 0.5 + 0.5 / tiles + 0.5 * case.tile_keys / case.keys) if case.causal else 1.0
    blocks_of_tile = np.maximum(whole * reach, 1)
    n_tiles = case.heads * tiles
    sms = np.minimum(n_tiles, device.n_sms)
    on_sm = np.clip(n_tiles / device.n_sms, 1, np.maximum(resident, 1))
    scores = case.tile_queries * case.tile_keys
    rows = _product_rows(device, case.tile_queries)
    products = 2 * rows * case.tile_keys * case.head_dim / device.macs("fp16")
    softmax = scores * (1 / device.exp_per_cycle + parameters.lane_operations / device.lanes)
    longer, shorter = np.maximum(products, softmax), np.minimum(products, softmax)
    # Blocks side by side on a multiprocessor overlap each other's streams; a lone one only as far as its own warps can.
    alone = longer + parameters.overlap_loss * shorter + parameters.block_cycles
    busy = on_sm * (longer + parameters.overlap_loss * shorter / on_sm)
    latency = device.dram_latency_s * device.clock_hz / np.maximum(case.stages - 1, 0.5)
    feed = on_sm * kv_bytes / (device.l2_bytes_per_s / device.clock_hz / sms)
    step = np.maximum(np.maximum(busy, np.maximum(alone, latency)), feed) * _spilled(held, case.warps)
    tile = parameters.tile_us * 1e-6 * device.clock_hz + 2 * query_bytes / parameters.tile_bytes_per_cycle * on_sm
    waves = n_tiles / (device.n_sms * np.maximum(resident, 1))
    waves = np.ceil(waves) if not case.causal else np.maximum(waves, 1)
    compute = waves * (blocks_of_tile * step + tile) / device.clock_hz
    moved = case.heads * (2 * case.queries + 2 * case.keys) * case.head_dim * element_bytes
    memory = moved / (device.dram_bytes_per_s * parameters.memory_share)
    seconds = parameters.launch_us * 1e-6 + np.maximum(compute, memory)
    return np.where(resident >= 1, seconds, _DOES_NOT_FIT)


def _product_rows(device: GpuDevice, rows: Numbers) -> Numbers:
    """Rows that a tile's products take the time of at full rate.

    An asynchronous product needs 64 rows; narrower tiles fall back to the instructions of the generation before.
    """
    narrow = np.maximum(rows, _MMA_WARP_ROWS)
    if not device.asynchronous_products:
        return narrow
    return np.where(rows >= _WARP_GROUP_ROWS, rows, narrow / device.older_products_share)


def _resident(device: GpuDevice, shared_bytes: Numbers, held_values: Numbers, warps: Numbers) -> Numbers:
    """Thread blocks that fit on a multiprocessor: by shared memory, registers and threads."""
    threads = warps * 32
    registers = np.minimum(held_values / threads + _OTHER_REGISTERS, _MOST_REGISTERS) * threads
    by_shared = np.floor(device.shared_bytes / np.maximum(shared_bytes, 1))
    return np.minimum(
        np.minimum(by_shared, np.floor(_REGISTERS / registers)),
        np.minimum(np.floor(_MOST_THREADS / threads), _MOST_BLOCKS),
    )


def _spilled(held_values: Numbers, warps: Numbers) -> Numbers:
    """1, or more where the values that a thread holds exceed its registers."""
    needed = held_values / (warps * 32) + _OTHER_REGISTERS
    return 1 + _SPILL * np.maximum(needed / _MOST_REGISTERS - 1, 0)
