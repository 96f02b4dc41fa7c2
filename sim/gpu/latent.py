"""Time of multi-head latent attention (DeepSeek) as vLLM calls it, kernel by kernel from the host.

Prefill widens the latent keys and values of every head by a product, copies them beside the part that carries
positions, and runs FlashAttention on heads of 192 for the scores and 128 for the values. Decoding leaves them latent:
all heads share keys of 576 and values of 512, which are read once. A call is several launches from the host, whose time
runs beside the GPU's, so that short ones take as long as the host does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import LatentParameters
from tilewright.registry import Registry
from tilewright.sim.gpu.activity import SCORE_OPERATIONS, Activity
from tilewright.sim.gpu.device import GpuDevice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = ["LATENT_FAMILIES", "LatentFamily", "LatentForecast", "LatentShapes", "latent_forecast"]

_LATENT, _POSITION, _VALUE = 512, 64, 128  # widths: of the latent, of what carries positions, of a head's value
_KEY = _VALUE + _POSITION
_ROWS = _COLUMNS = 128  # of a tile in prefill
_HEAD_ROWS, _KEY_ROWS = 64, 64  # of a tile in decoding: heads, keys


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFamily:
    """Kernels of one library. ``decodes``: one query a sequence; ``relatives``, ``alone``: as for attention."""

    name: str
    summary: str
    decodes: bool
    relatives: tuple[str, ...] = ()
    alone: bool = False


LATENT_FAMILIES: Registry[LatentFamily] = Registry("family of latent attention kernels")
for _family in (
    LatentFamily(name="mla_prefill", summary="vLLM, bf16 latents, FlashAttention-3", decodes=False),
    LatentFamily(name="mla_decode", summary="vLLM, bf16 latents, FlashAttention-3", decodes=True),
    LatentFamily(
        name="mla_prefill_fp8", summary="vLLM, fp8 latents, FlashMLA", decodes=False, relatives=("mla_prefill",)
    ),
    LatentFamily(name="mla_decode_fp8", summary="vLLM, fp8 latents, FlashMLA", decodes=True, relatives=("mla_decode",)),
):
    LATENT_FAMILIES.register(_family.name, _family)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentShapes:
    """Layers as arrays of one length: sequences, queries and keys of each, heads on this GPU."""

    batch: NDArray[np.int64] = field(hash=False)
    queries: NDArray[np.int64] = field(hash=False)
    keys: NDArray[np.int64] = field(hash=False)
    heads: NDArray[np.int64] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentForecast:
    """Predicted times: ``seconds``, and what limits each (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`).

    ``activity``: what the layers do in that time, for their energy.
    """

    seconds: Numbers = field(hash=False)
    bound: NDArray[np.int64] = field(hash=False)
    activity: Activity = field(hash=False)


def latent_forecast(
    device: GpuDevice, family: LatentFamily, parameters: LatentParameters, shapes: LatentShapes
) -> LatentForecast:
    """Times of the layers."""
    compute, memory = _decode(device, parameters, shapes) if family.decodes else _prefill(device, parameters, shapes)
    together = compute + memory if not family.decodes else np.maximum(compute, memory)
    together = together + _absorbed_seconds(device, parameters, shapes) if family.decodes else together
    together = together + parameters.launch_us * 1e-6
    host = parameters.host_us * 1e-6
    bound = np.where(together < host, 0, np.where(compute >= memory, 1, 2))
    return LatentForecast(seconds=np.maximum(host, together), bound=bound, activity=_activity(family, shapes))


def _activity(family: LatentFamily, shapes: LatentShapes) -> Activity:
    """Multiply-adds, softmax, and bytes: latents and weights once from DRAM, keys once a tile from the L2."""
    batch, queries, keys, heads = (
        np.asarray(x, dtype=np.float64) for x in (shapes.batch, shapes.queries, shapes.keys, shapes.heads)
    )
    if family.decodes:
        weights = 2 * heads * _VALUE * _LATENT
        latent = 2 * _LATENT + _POSITION
        moved = 2 * (batch * (keys * (_LATENT + _POSITION) + heads * latent) + weights)
        scores = batch * heads * keys
        macs, fed = scores * latent + batch * weights, moved * np.ceil(heads / _HEAD_ROWS)
    else:
        tokens, scores = batch * queries, batch * heads * queries * (keys - (queries - 1) / 2)
        widened = tokens * heads * 2 * _VALUE
        macs = widened * _LATENT + scores * (_KEY + _VALUE)
        moved = 2 * (tokens * _LATENT + widened + tokens * heads * (_KEY + _VALUE) * 2)
        fed = moved + 2 * scores / _ROWS * (_KEY + _VALUE)
    return Activity(macs={"bf16": macs}, dram_bytes=moved, l2_bytes=fed, lane_operations=scores * SCORE_OPERATIONS)


def _multiply_rate(device: GpuDevice, parameters: LatentParameters) -> float:
    """Multiply-adds of one multiprocessor a second."""
    return device.macs("bf16") * parameters.rate_share * device.clock_hz


def _prefill(device: GpuDevice, parameters: LatentParameters, shapes: LatentShapes) -> tuple[Numbers, Numbers]:
    """The product that widens the latents and the attention; the copies around them."""
    batch, queries, heads = (np.asarray(x, dtype=np.float64) for x in (shapes.batch, shapes.queries, shapes.heads))
    rate = _multiply_rate(device, parameters)
    memory_rate = device.dram_bytes_per_s * parameters.memory_share
    tokens = batch * queries
    widen = tokens * _LATENT * heads * 2 * _VALUE / (rate * device.n_sms)
    widen = np.maximum(widen, tokens * 2 * (heads * 2 * _VALUE + _LATENT) / memory_rate)
    copies = parameters.copied * tokens * heads * 2 * (_KEY + _VALUE) / memory_rate
    tiles = np.ceil(queries / _ROWS)
    blocks = np.where(tiles == 1, np.ceil(queries / _COLUMNS), tiles * (tiles + 1) / 2 * _ROWS / _COLUMNS)
    block = _ROWS * _COLUMNS * (_KEY + _VALUE) / rate + parameters.block_cycles / device.clock_hz
    tile = parameters.tile_us * 1e-6
    longest = np.ceil(queries / _COLUMNS) * block + tile
    waves = batch * heads * tiles > device.n_sms
    work = batch * heads * (blocks * block + tiles * tile) / device.n_sms
    attention = np.maximum(longest, work + parameters.tail_share * longest * waves)
    alone = queries == 1  # is decoded: there the host decides
    return np.where(alone, 0.0, widen + attention), np.where(alone, 0.0, copies)


def _decode(device: GpuDevice, parameters: LatentParameters, shapes: LatentShapes) -> tuple[Numbers, Numbers]:
    """The products with latent keys and values, over all multiprocessors; the latents and what goes in and out."""
    batch, keys, heads = (np.asarray(x, dtype=np.float64) for x in (shapes.batch, shapes.keys, shapes.heads))
    latent = 2 * _LATENT + _POSITION
    block = _HEAD_ROWS * _KEY_ROWS * latent / _multiply_rate(device, parameters)
    block += parameters.block_cycles / device.clock_hz
    tile = parameters.tile_us * 1e-6
    n_tiles = batch * np.ceil(heads / _HEAD_ROWS)
    compute = np.maximum(n_tiles * (np.ceil(keys / _KEY_ROWS) * block + tile) / device.n_sms, block + tile)
    moved = 2 * batch * (keys * (_LATENT + _POSITION) + heads * latent)
    return compute, moved / (device.dram_bytes_per_s * parameters.memory_share)


def _absorbed_seconds(device: GpuDevice, parameters: LatentParameters, shapes: LatentShapes) -> Numbers:
    """The products that take queries into the latent space and results out of it."""
    batch, heads = (np.asarray(x, dtype=np.float64) for x in (shapes.batch, shapes.heads))
    weights = 2 * heads * _VALUE * _LATENT
    multiply = batch * weights / (_multiply_rate(device, parameters) * device.n_sms)
    read = 2 * weights / (device.dram_bytes_per_s * parameters.memory_share)
    return np.asarray(multiply + read + batch * heads * parameters.head_ns * 1e-9)
