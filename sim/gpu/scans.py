"""Whole sequences of state-space models and linear attention on a GPU, in closed form.

Two lowerings are measured. In a persistent kernel a multiprocessor owns the state of one sequence and head and walks
its chunks in order: launch, waves over the heads, chunks one behind the other. In stages (Triton) the work within
chunks is several kernels that write what the next one reads: that is memory, and only the kernel that passes the state
on walks. Operands were touched by the run before: what fits the L2 is found there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import ScanParameters
from tilewright.registry import Registry
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.memory import miss_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Columns = Mapping[str, Numbers]

__all__ = ["POWER_TIME_S", "SCAN_FAMILIES", "ScanFamily", "scan_times", "slowed"]

#: Runs longer than this feel the power limit in full; half of it at this length.
POWER_TIME_S = 4e-3
_LEAST_CHUNK = 16  # of Triton's kernels: the least side of a tensor core's product
_TILE_VALUES = 64  # columns of the state in a thread block of Triton's state kernel
_VALUE, _STATE = 2, 4  # bytes of an operand, of an element of the state
_ONCE = 2  # of the vectors that stages move: values and results, keys and queries; what else they move is their own
_BETWEEN_STAGES = 0.5  # of what a call touches, between writing a vector in one stage and reading it in another
#: Bytes of Triton's stages, as often as they move a vector of a token: of each value head, of each key head, and the
#: states between chunks. The delta rule: K K^T and its inverse, w and u, the state kernel, the result; norms of queries
#: and keys. Retention: the state kernel reads keys and values, the result queries too. With a gate of 32 bits a key
#: channel: its sum, and reading it in each stage.
_DELTA, _RETENTION, _GATED = (11, 8, 2), (3, 3, 2), (3, 13, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFamily:
    """Kernels of one library.

    ``chunk``: tokens of a chunk. ``kind``: "persistent" (one kernel, state on chip), "dealt" (as that, with heads dealt
    to multiprocessors singly and cost by tokens), "prepared" (a kernel over all chunks before the persistent one),
    "stages" (a kernel a stage), "products" (one stage that the tensor cores bound). ``moves_state``: reading and
    writing the states is not hidden. ``moves``: in stages, how often vectors and states are moved. ``parameters``:
    those that mean something; ``relatives``, ``alone``: as for attention.
    """

    name: str
    summary: str
    chunk: int
    kind: str
    parameters: tuple[str, ...]
    moves_state: bool = False
    moves: tuple[int, int, int] = _DELTA
    relatives: tuple[str, ...] = ()
    alone: bool = True


SCAN_FAMILIES: Registry[ScanFamily] = Registry("family of scan kernels")
_PERSISTENT = ("launch_us", "head_us", "chunk_us")
_STAGES = (
    "launch_us",
    "token_us",
    "head_us",
    "chunk_us",
    "memory_share",
    "cache_share",
    "overlap_loss",
    "copied",
)
for _family in (
    ScanFamily(
        name="gdn_flashinfer",
        summary="gated delta rule, FlashInfer's persistent kernel",
        chunk=64,
        kind="persistent",
        moves_state=True,
        parameters=(*_PERSISTENT, "memory_share", "power_loss"),
    ),
    ScanFamily(
        name="gdn_fla", summary="gated delta rule, Triton (SGLang)", chunk=64, kind="stages", parameters=_STAGES
    ),
    ScanFamily(
        name="gdn_trtllm",
        summary="gated delta rule, Triton (TensorRT-LLM)",
        chunk=64,
        kind="stages",
        parameters=_STAGES,
        relatives=("gdn_fla",),
    ),
    ScanFamily(
        name="kda_fla",
        summary="Kimi delta attention, Triton (SGLang)",
        chunk=64,
        kind="stages",
        parameters=_STAGES,
        relatives=("gdn_fla",),
    ),
    ScanFamily(
        name="retention_fla",
        summary="retention, Triton (flash-linear-attention)",
        chunk=64,
        kind="stages",
        parameters=_STAGES,
        moves=_RETENTION,
        relatives=("gdn_fla",),
    ),
    ScanFamily(
        name="gla_fla",
        summary="gated linear attention, Triton (flash-linear-attention)",
        chunk=64,
        kind="stages",
        parameters=_STAGES,
        moves=_GATED,
        relatives=("retention_fla", "gdn_fla"),
    ),
    ScanFamily(
        name="chunked_triton",
        summary="Mamba-2 and linear attention of one decay a head in stages; no table of it",
        chunk=64,
        kind="stages",
        parameters=_STAGES,
        moves=_RETENTION,
        relatives=("gdn_fla", "gdn_trtllm"),
    ),
    ScanFamily(
        name="chunked_triton_gated",
        summary="linear attention with a gate a key channel in stages; no table of it",
        chunk=64,
        kind="stages",
        parameters=_STAGES,
        moves=_GATED,
        relatives=("gdn_fla", "gdn_trtllm"),
    ),
    ScanFamily(
        name="gdn_fla_host",
        summary="gated delta rule, Triton (flash-linear-attention, launched by the host)",
        chunk=64,
        kind="stages",
        parameters=_STAGES,
        relatives=("gdn_fla",),
    ),
    ScanFamily(
        name="kda_flashkda",
        summary="Kimi delta attention, FlashKDA",
        chunk=64,
        kind="prepared",
        parameters=(*_PERSISTENT, "token_us", "memory_share", "copied"),
    ),
    ScanFamily(
        name="ssd_trtllm",
        summary="Mamba-2, TensorRT-LLM's persistent kernel",
        chunk=128,
        kind="persistent",
        parameters=_PERSISTENT,
    ),
    ScanFamily(
        name="ssd_trtllm_short",
        summary="Mamba-2, TensorRT-LLM below 128 tokens",
        chunk=128,
        kind="dealt",
        parameters=_PERSISTENT,
    ),
    ScanFamily(
        name="ssd_chunk_scan_tilelang",
        summary="Mamba-2, chunk scan alone, TileLang",
        chunk=256,
        kind="products",
        parameters=("launch_us", "rate_share"),
    ),
    ScanFamily(
        name="ssd_chunk_scan_triton",
        summary="Mamba-2, chunk scan alone, Triton",
        chunk=256,
        kind="products",
        parameters=("launch_us", "rate_share"),
        relatives=("ssd_chunk_scan_tilelang",),
    ),
    ScanFamily(
        name="ssd_chunk_scan_helion",
        summary="Mamba-2, chunk scan alone, Helion",
        chunk=256,
        kind="products",
        parameters=("launch_us", "rate_share"),
        relatives=("ssd_chunk_scan_tilelang",),
    ),
):
    SCAN_FAMILIES.register(_family.name, _family)


def slowed(seconds: Numbers, busy: Numbers, power_loss: float) -> Numbers:
    """``seconds`` under the power limit, ``busy``: share of the multiprocessors that work."""
    return np.asarray(seconds * (1 + power_loss * busy * seconds / (seconds + POWER_TIME_S)))


def scan_times(
    device: GpuDevice, family: ScanFamily, parameters: ScanParameters, columns: Columns
) -> tuple[Numbers, NDArray[np.int64]]:
    """Seconds of each row, and what limits it (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`)."""
    heads = columns["batch"] * columns["heads"]
    launch = np.full_like(heads, parameters.launch_us * 1e-6)
    if family.kind == "products":
        walk, moved, loss = _products(device, family, parameters, columns), np.zeros_like(heads), 1.0
    elif family.kind == "stages":
        first = np.minimum(columns["tokens"], family.chunk)
        launch = launch + parameters.token_us * first * 1e-6
        walk, moved = _walk(device, family, parameters, columns), _staged(device, family, parameters, columns)
        loss = parameters.overlap_loss
    else:
        launch = launch + parameters.token_us * np.minimum(columns["tokens"], _LEAST_CHUNK) / _LEAST_CHUNK * 1e-6
        walk, moved, loss = _walk(device, family, parameters, columns), np.zeros_like(heads), 1.0
        if family.moves_state:
            moved = 2 * _states(columns) / (device.dram_bytes_per_s * parameters.memory_share)
        elif family.kind == "prepared":
            tokens = columns["tokens"] * heads * (2 * columns["key_dim"] + 2 * columns["value_dim"]) * _VALUE
            moved = (parameters.copied * tokens + 2 * _states(columns)) / (
                device.dram_bytes_per_s * parameters.memory_share
            )
    work = np.maximum(walk, moved) + loss * np.minimum(walk, moved)
    bound = np.where(work < launch, 0, np.where(walk >= moved, 1, 2))
    return launch + work, bound


def _states(columns: Columns) -> Numbers:
    """Bytes of the states of all sequences and heads."""
    return columns["batch"] * columns["heads"] * columns["key_dim"] * columns["value_dim"] * _STATE


def _chunks(family: ScanFamily, tokens: Numbers) -> tuple[Numbers, Numbers]:
    """Tokens of a chunk and chunks of a sequence: Triton's kernels take shorter chunks for short sequences."""
    chunk = np.full_like(tokens, family.chunk)
    if family.kind == "stages":
        chunk = np.clip(2 ** np.ceil(np.log2(tokens)), _LEAST_CHUNK, family.chunk)
    return chunk, np.ceil(tokens / chunk)


def _walk(device: GpuDevice, family: ScanFamily, parameters: ScanParameters, columns: Columns) -> Numbers:
    """Waves of heads (in stages, of tiles of their values) over the multiprocessors, each chunk by chunk."""
    share = columns["batch"] * columns["heads"] / device.n_sms
    if family.kind == "stages":
        share = share * np.ceil(columns["value_dim"] / _TILE_VALUES)
    chunk, n_chunks = _chunks(family, columns["tokens"])
    length = columns["tokens"] / family.chunk if family.kind == "dealt" else n_chunks * chunk / family.chunk
    rounds = share if family.kind == "dealt" else np.ceil(share)
    seconds = rounds * (parameters.head_us + parameters.chunk_us * length) * 1e-6
    return slowed(seconds, np.minimum(share, 1.0), parameters.power_loss)


def _staged(device: GpuDevice, family: ScanFamily, parameters: ScanParameters, columns: Columns) -> Numbers:
    """Seconds that Triton's stages need for their bytes: inputs, results and states, and what stages write for others.

    What the L2 still holds comes from there: of inputs and states if all that a call touches fits, of what one stage
    writes and another reads if that half does which lies between the two.
    """
    tokens, heads = columns["batch"] * columns["tokens"], columns["batch"] * columns["heads"]
    _, n_chunks = _chunks(family, columns["tokens"])
    values = tokens * columns["heads"] * columns["value_dim"] * _VALUE
    keys = tokens * columns["key_heads"] * columns["key_dim"] * _VALUE
    between = heads * n_chunks * columns["key_dim"] * columns["value_dim"] * _VALUE
    of_values, of_keys, of_states = family.moves
    once = parameters.copied * _ONCE * (values + keys) + 2 * _states(columns)
    inner = (of_values - _ONCE) * values + (of_keys - _ONCE) * keys + of_states * between
    touched = 4 * values + 4 * keys + between
    cache = device.l2_bytes * parameters.cache_share
    missed = once * miss_share(touched + _states(columns), cache)
    missed = missed + parameters.copied * inner * miss_share(_BETWEEN_STAGES * touched, cache)
    found = once + parameters.copied * inner - missed
    dram = missed / (device.dram_bytes_per_s * parameters.memory_share)
    return np.asarray(dram + found / max(device.l2_bytes_per_s / 2, device.dram_bytes_per_s))


def _products(device: GpuDevice, family: ScanFamily, parameters: ScanParameters, columns: Columns) -> Numbers:
    """The chunk scan's products: the causal half of a chunk's square and the state's part."""
    chunks = columns["batch"] * columns["heads"] * np.ceil(columns["tokens"] / family.chunk)
    macs = chunks * family.chunk * columns["value_dim"] * (family.chunk / 2 + columns["key_dim"])
    rate = device.macs("bf16") * device.clock_hz * device.n_sms * parameters.rate_share
    return np.asarray(macs / rate)
