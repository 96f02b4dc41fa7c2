"""Short causal convolutions and single steps of a state on a GPU, in closed form: bytes, the L2, and a block's latency.

A channel-last convolution has a thread block for each 8 tokens and 256 channels, which walks its tokens; a
channel-first one a block for each sequence and channel, which takes 1,024 tokens a step. A step of a recurrence reads
and writes each element of the state once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import StreamParameters
from tilewright.registry import Registry
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.memory import miss_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Columns = Mapping[str, Numbers]

__all__ = ["SHORT_CONV_FAMILIES", "STATE_STEP_FAMILIES", "StreamFamily", "conv_times", "step_times"]

_ROWS, _CHANNELS = 8, 256  # of a block, channels last
_STEP_TOKENS, _VECTOR = 1024, 8  # of a block, channels first; values in a load of 16 bytes
_VALUE = 2  # bytes, read and again written


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFamily:
    """Kernels of one library.

    ``layout``: "last" or "first" (channels), "update" (one token of a convolution) or "state". ``state_bytes``: of an
    element of the state, read and written together (which of them a library saves, its table does not tell).
    ``parameters``, ``relatives``, ``alone``: as for scans.
    """

    name: str
    summary: str
    layout: str
    parameters: tuple[str, ...]
    state_bytes: int = 0
    relatives: tuple[str, ...] = ()
    alone: bool = True


SHORT_CONV_FAMILIES: Registry[StreamFamily] = Registry("family of short convolution kernels")
STATE_STEP_FAMILIES: Registry[StreamFamily] = Registry("family of state step kernels")
_STEP = ("launch_us", "memory_share", "cache_share", "token_us", "sm_gb_per_s", "miss_us")
_LAST = ("launch_us", "memory_share", "cache_share", "token_us", "later_us", "sm_gb_per_s", "overlap_loss")
_FIRST = ("launch_us", "memory_share", "cache_share", "overlap_loss", "block_ns", "step_ns", "ragged_ns")
for _family in (
    StreamFamily(name="conv_last", summary="channels last, Triton (SGLang)", layout="last", parameters=_LAST),
    StreamFamily(
        name="conv_last_vllm",
        summary="channels last, Triton (vLLM)",
        layout="last",
        parameters=_LAST,
        relatives=("conv_last",),
    ),
    StreamFamily(
        name="conv_last_qkv",
        summary="channels last, one for queries, keys and values each",
        layout="last",
        parameters=_LAST,
        relatives=("conv_last",),
    ),
    StreamFamily(name="conv_first", summary="channels first, a block a channel", layout="first", parameters=_FIRST),
    StreamFamily(
        name="conv_first_0510",
        summary="channels first (SGLang 0.5.10)",
        layout="first",
        parameters=_FIRST,
        relatives=("conv_first",),
    ),
    StreamFamily(name="conv_update", summary="one token", layout="update", parameters=_STEP),
    StreamFamily(
        name="conv_update_vllm",
        summary="one token (vLLM)",
        layout="update",
        parameters=_STEP,
        relatives=("conv_update",),
    ),
    StreamFamily(
        name="conv_update_trtllm",
        summary="one token (TensorRT-LLM)",
        layout="update",
        parameters=_STEP,
        relatives=("conv_update",),
    ),
    StreamFamily(
        name="conv_update_0510",
        summary="one token (SGLang 0.5.10)",
        layout="update",
        parameters=_STEP,
        relatives=("conv_update",),
    ),
):
    SHORT_CONV_FAMILIES.register(_family.name, _family)
for _family in (
    StreamFamily(name="gdn_step", summary="delta rule (SGLang)", layout="state", state_bytes=8, parameters=_STEP),
    StreamFamily(
        name="gdn_step_vllm",
        summary="delta rule (vLLM)",
        layout="state",
        state_bytes=8,
        parameters=_STEP,
        relatives=("gdn_step",),
    ),
    StreamFamily(
        name="gdn_step_trtllm",
        summary="delta rule, half of the state's bytes (TensorRT-LLM)",
        layout="state",
        state_bytes=4,
        parameters=_STEP,
    ),
    StreamFamily(
        name="gdn_step_0510",
        summary="delta rule, half of the state's bytes (SGLang 0.5.10)",
        layout="state",
        state_bytes=4,
        parameters=_STEP,
    ),
    StreamFamily(
        name="kda_step",
        summary="Kimi delta attention (SGLang)",
        layout="state",
        state_bytes=8,
        parameters=_STEP,
        relatives=("gdn_step",),
    ),
    StreamFamily(
        name="kda_step_vllm",
        summary="Kimi delta attention (vLLM)",
        layout="state",
        state_bytes=8,
        parameters=_STEP,
        relatives=("gdn_step_vllm", "gdn_step"),
    ),
):
    STATE_STEP_FAMILIES.register(_family.name, _family)


def conv_times(
    device: GpuDevice, family: StreamFamily, parameters: StreamParameters, columns: Columns
) -> tuple[Numbers, NDArray[np.int64]]:
    """Seconds of convolutions, and what limits each (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`)."""
    batch, tokens, channels = columns["batch"], columns["tokens"], columns["channels"]
    if family.layout == "update":
        moved = 16 * batch * channels  # three values of the state in and out, one in, one out
        return _streamed(device, parameters, moved, moved / 2)
    moved = 2 * _VALUE * batch * tokens * channels
    missed = miss_share(moved, device.l2_bytes * parameters.cache_share)
    memory = moved * missed / (device.dram_bytes_per_s * parameters.memory_share)
    if family.layout == "first":
        steps = np.ceil(tokens / _STEP_TOKENS)
        ragged = parameters.ragged_ns * (tokens % _VECTOR != 0) * steps
        block = parameters.block_ns + parameters.step_ns * tokens / _STEP_TOKENS + ragged
        issue = batch * channels / device.n_sms * block * 1e-9
        work = np.maximum(issue, memory) + parameters.overlap_loss * np.minimum(issue, memory)
    else:
        rows = np.minimum(tokens, _ROWS)
        blocks = batch * np.ceil(tokens / _ROWS) * np.ceil(channels / _CHANNELS)
        issue = np.ceil(blocks / device.n_sms) * rows * _CHANNELS * 2 * _VALUE / (parameters.sm_gb_per_s * 1e9)
        waits = (parameters.token_us * rows + parameters.later_us * (tokens > _ROWS)) * 1e-6
        work = np.maximum(issue, memory) + parameters.overlap_loss * np.minimum(issue, memory) * missed
        work = np.hypot(waits, work)
    launch = parameters.launch_us * 1e-6
    return launch + work, np.where(work < launch, 0, np.where(issue >= memory, 1, 2))


def step_times(
    device: GpuDevice, family: StreamFamily, parameters: StreamParameters, columns: Columns
) -> tuple[Numbers, NDArray[np.int64]]:
    """Seconds of one token of each sequence, and what limits each."""
    batch, heads = columns["batch"], columns["heads"]
    elements = batch * heads * columns["key_dim"] * columns["value_dim"]
    beside = 2 * _VALUE * batch * (columns["key_heads"] * columns["key_dim"] + heads * columns["value_dim"])
    return _streamed(device, parameters, family.state_bytes * elements + beside, family.state_bytes / 2 * elements)


def _streamed(
    device: GpuDevice, parameters: StreamParameters, moved: Numbers, kept: Numbers
) -> tuple[Numbers, NDArray[np.int64]]:
    """``moved`` bytes through all multiprocessors; what of the ``kept`` ones the L2 does not hold, through the DRAM."""
    missed = miss_share(kept, device.l2_bytes * parameters.cache_share)
    issue = moved / (parameters.sm_gb_per_s * 1e9 * device.n_sms)
    memory = moved * missed / (device.dram_bytes_per_s * parameters.memory_share)
    launch, waits = parameters.launch_us * 1e-6, parameters.token_us * 1e-6
    work = np.hypot(waits, np.maximum(issue, memory))
    seconds = launch + work + missed * parameters.miss_us * 1e-6
    return seconds, np.where(work < launch, 0, np.where(issue >= memory, 1, 2))
