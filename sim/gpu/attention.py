"""Time of fused attention kernels on a GPU (FlashAttention-2 and -3), for many shapes at once.

A thread block holds a tile of queries and walks over blocks of keys and values. Each block costs the two products on
the tensor cores and the softmax on the CUDA lanes; where warps are specialised the two run as two streams, as in
MAS-Attention, and a block takes as long as the longer plus what does not overlap. A causal mask shortens the walk of
early tiles; long tiles start first, so that short ones fill the gaps. Where a launch has too few tiles (one query a
sequence: decode) the keys are split, and a second kernel adds the parts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import AttentionParameters
from tilewright.registry import Registry
from tilewright.sim.gpu.activity import SCORE_OPERATIONS, Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.memory import miss_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

__all__ = [
    "AttentionFamily",
    "AttentionForecast",
    "AttentionShapes",
    "attention_family",
    "attention_forecast",
]

_SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
_POWER_TIME_S = 8e-3  # a board's power follows the load within some milliseconds
_BLOCKS_TO_SPLIT = 1  # fewer blocks of keys are not split


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionFamily:
    """Kernels of one library. ``tiles``: (width of a head at most, queries, keys) of its tiles, narrowest first.

    ``packs_groups``: the query heads of one key head share a tile. ``splits_keys``: the keys may be cut into parts.
    ``packs_single_queries``: they do where a sequence has one query. ``splits_groups_only``: it splits the keys only
    where a key head has several query heads. ``writes_cache``: new keys and values are copied into the paged cache
    first, within the measured time. ``turns_values``: values are transposed on the way to the tensor cores.
    ``regroups``: queries and results of grouped heads are copied into another order around the kernel, unless one
    sequence or one key head makes the orders the same.
    ``multiply_format`` names the tensor cores' rate. ``softmax_as``: the family whose softmax is the same code, from
    which the operations of its lanes are taken where they are fitted. ``relatives``: families whose parameters stand in
    where these kernels are not calibrated, nearest first; ``alone``: a call is one kernel in a graph, so that a
    relative's launch, which holds the kernels of its framework, is not its own.
    """

    name: str
    summary: str
    tiles: tuple[tuple[int, int, int], ...]
    causal: bool
    packs_groups: bool
    splits_keys: bool
    writes_cache: bool
    packs_single_queries: bool = False
    splits_groups_only: bool = False
    turns_values: bool = False
    regroups: bool = False
    multiply_format: str = "bf16"
    older_products: bool = False
    softmax_as: str = ""
    relatives: tuple[str, ...] = ()
    alone: bool = False


# As FlashAttention chooses them for Hopper (hopper/tile_size.h), causal and with a paged cache. With one query a
# sequence some versions take one warp group of 64 rows: for heads of 128, in fp8 for narrower ones too; that is what
# the measured times (of both parts) are nearer to.
_FA3_TILES = ((64, 192, 128), (96, 192, 128), (128, 128, 128), (192, 128, 96), (256, 128, 80))
_FA2_TILES = ((64, 128, 128), (96, 128, 64), (128, 128, 64), (192, 128, 64), (256, 64, 64))
_CUDNN_TILES = ((128, 128, 128), (256, 128, 64))
_BUILT_IN = (
    AttentionFamily(
        name="fa3_prefill",
        summary="FlashAttention-3, causal, paged cache",
        tiles=_FA3_TILES,
        causal=True,
        packs_groups=True,
        splits_keys=False,
        writes_cache=True,
        relatives=("fa2_prefill",),
    ),
    AttentionFamily(
        name="fa3_prefill_fp8",
        summary="FlashAttention-3, causal, keys and values in fp8",
        tiles=((64, 192, 160), (96, 192, 128), (128, 128, 160), (192, 128, 160), (256, 128, 128)),
        causal=True,
        packs_groups=True,
        splits_keys=False,
        writes_cache=True,
        turns_values=True,
        multiply_format="fp8_e4m3",
        relatives=("fa3_prefill", "fa2_prefill"),
    ),
    AttentionFamily(
        name="fa3_decode",
        summary="FlashAttention-3, one query a sequence, paged cache",
        tiles=((64, 192, 128), (96, 192, 128), (128, 64, 128), (192, 128, 96), (256, 128, 80)),
        causal=True,
        packs_groups=True,
        splits_keys=True,
        writes_cache=True,
        relatives=("fa2_decode",),
    ),
    AttentionFamily(
        name="fa3_decode_fp8",
        summary="FlashAttention-3, one query a sequence, keys and values in fp8",
        tiles=((64, 64, 128), (96, 64, 128), (128, 64, 96), (192, 128, 160), (256, 128, 128)),
        causal=True,
        packs_groups=True,
        splits_keys=True,
        writes_cache=True,
        turns_values=True,
        multiply_format="fp8_e4m3",
        relatives=("fa3_decode", "fa2_decode"),
    ),
    AttentionFamily(
        name="fa3_encoder",
        summary="FlashAttention-3, every query sees every key",
        tiles=((64, 192, 192), (96, 192, 144), (128, 128, 176), (192, 128, 112), (256, 128, 80)),
        causal=False,
        packs_groups=False,
        splits_keys=False,
        writes_cache=False,
        relatives=("fa3_prefill", "fa2_prefill"),
    ),
    AttentionFamily(
        name="fa2_prefill",
        summary="FlashAttention-2, causal, paged cache",
        tiles=_FA2_TILES,
        causal=True,
        packs_groups=False,
        packs_single_queries=True,
        splits_keys=False,
        writes_cache=True,
        older_products=True,
        relatives=("fa3_prefill",),
    ),
    AttentionFamily(
        name="fa2_decode",
        summary="FlashAttention-2, one query a sequence, paged cache",
        tiles=((64, 64, 256), (128, 64, 128), (256, 64, 64)),
        causal=True,
        packs_groups=True,
        splits_keys=True,
        splits_groups_only=True,
        regroups=True,
        writes_cache=True,
        older_products=True,
        softmax_as="fa2_prefill",
        relatives=("fa3_decode",),
    ),
    AttentionFamily(
        name="fa4_prefill",
        summary="FlashAttention-4's kernels for heads of 512 on Hopper, causal, paged cache",
        tiles=((512, 64, 64),),
        causal=True,
        packs_groups=True,
        splits_keys=False,
        writes_cache=True,
        relatives=("fa3_prefill", "fa2_prefill"),
    ),
    # PyTorch takes cuDNN's kernels on Hopper: 580 TFLOP/s at a width of 128 are more than the products of
    # FlashAttention-2, which it takes on an A100, reach there (370).
    AttentionFamily(
        name="torch_sdpa_prefill",
        summary="PyTorch's scaled_dot_product_attention in a graph, causal",
        tiles=_CUDNN_TILES,
        causal=True,
        packs_groups=False,
        splits_keys=False,
        writes_cache=False,
        relatives=("fa3_prefill", "fa2_prefill"),
        alone=True,
    ),
    AttentionFamily(
        name="torch_sdpa_encoder",
        summary="PyTorch's scaled_dot_product_attention in a graph, every query sees every key",
        tiles=_CUDNN_TILES,
        causal=False,
        packs_groups=False,
        splits_keys=False,
        writes_cache=False,
        relatives=("fa3_prefill", "fa2_prefill"),
        alone=True,
    ),
    AttentionFamily(
        name="torch_sdpa_decode",
        summary="PyTorch's scaled_dot_product_attention in a graph, one query a sequence",
        tiles=((64, 64, 128), (128, 64, 128), (256, 64, 64)),
        causal=True,
        packs_groups=True,
        splits_keys=True,
        writes_cache=False,
        relatives=("fa3_decode", "fa2_decode"),
        alone=True,
    ),
)
ATTENTION_FAMILIES: Registry[AttentionFamily] = Registry("family of attention kernels")
for _family in _BUILT_IN:
    ATTENTION_FAMILIES.register(_family.name, _family)

#: Libraries without a table here: what they do is FlashAttention's, so that its parameters stand in.
_ALIKE = {"flashinfer": "FlashInfer", "trtllm": "TensorRT-LLM"}
_STAND_INS = {
    "prefill": ("fa3_prefill", "fa2_prefill"),
    "prefill_fp8": ("fa3_prefill_fp8", "fa3_prefill", "fa2_prefill"),
    "decode": ("fa3_decode", "fa2_decode"),
    "decode_fp8": ("fa3_decode_fp8", "fa3_decode", "fa2_decode"),
    "encoder": ("fa3_encoder", "fa3_prefill", "fa2_prefill"),
}
for _library, _words in _ALIKE.items():
    for _kind, _relatives in _STAND_INS.items():
        _like = ATTENTION_FAMILIES.get(_relatives[0])
        _name = f"{_library}_{_kind}"
        _summary = _like.summary.replace("FlashAttention-3", _words)
        ATTENTION_FAMILIES.register(_name, replace(_like, name=_name, summary=_summary, relatives=_relatives))
# FlashAttention-2 widens keys and values of 8 bits before its products.
for _kind in ("prefill", "decode"):
    _like, _name = ATTENTION_FAMILIES.get(f"fa2_{_kind}"), f"fa2_{_kind}_fp8"
    _summary = f"{_like.summary}, keys and values in fp8"
    _relatives = (_like.name, *_like.relatives)
    ATTENTION_FAMILIES.register(_name, replace(_like, name=_name, summary=_summary, relatives=_relatives))


def attention_family(name: str) -> AttentionFamily:
    """The family called ``name``; raises :class:`InputError` for another word."""
    return ATTENTION_FAMILIES.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShapes:
    """Attention shapes as arrays of one length.

    ``keys`` counts those of the cache and the new ones; ``window`` of 0 sees all; ``cache_bits`` of one key or value.
    ``copies``: sets of operands that a measurement rotates through. ``sustained``: repeated for so long that the power
    limit holds even short ones back.
    """

    batch: NDArray[np.int64] = field(hash=False)
    queries: NDArray[np.int64] = field(hash=False)
    keys: NDArray[np.int64] = field(hash=False)
    heads: NDArray[np.int64] = field(hash=False)
    kv_heads: NDArray[np.int64] = field(hash=False)
    head_dim: NDArray[np.int64] = field(hash=False)
    window: NDArray[np.int64] = field(hash=False)
    cache_bits: int = 16
    copies: int = 1
    sustained: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionForecast:
    """Predicted times: ``seconds``, and what limits each (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`).

    ``activity``: what the kernels do in that time, for their energy.
    """

    seconds: NDArray[np.float64] = field(hash=False)
    bound: NDArray[np.int64] = field(hash=False)
    activity: Activity = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The shapes in floating point, with the tile that the library takes for each."""

    batch: Numbers
    queries: Numbers
    keys: Numbers
    heads: Numbers
    kv_heads: Numbers
    head_dim: Numbers
    window: Numbers
    tile_queries: Numbers
    tile_keys: Numbers
    cache_bytes: float
    copies: int
    sustained: bool

    @property
    def group(self) -> Numbers:
        return self.heads / self.kv_heads


def attention_forecast(
    device: GpuDevice, family: AttentionFamily, parameters: AttentionParameters, shapes: AttentionShapes
) -> AttentionForecast:
    """Times of the family's kernels with the tiles that the library takes."""
    limits = np.array([width for width, _, _ in family.tiles])
    row = np.minimum(np.searchsorted(limits, shapes.head_dim), len(limits) - 1)
    sizes = np.array(family.tiles, dtype=np.float64)[row]
    return _forecast(device, family, parameters, shapes, sizes[:, 1], sizes[:, 2])


def _forecast(
    device: GpuDevice,
    family: AttentionFamily,
    parameters: AttentionParameters,
    shapes: AttentionShapes,
    tile_queries: Numbers,
    tile_keys: Numbers,
) -> AttentionForecast:
    case = _Case(
        **{
            entry.name: np.asarray(getattr(shapes, entry.name), dtype=np.float64)
            for entry in fields(shapes)
            if entry.name not in ("cache_bits", "copies", "sustained")
        },
        tile_queries=tile_queries,
        tile_keys=tile_keys,
        cache_bytes=shapes.cache_bits / 8,
        copies=shapes.copies,
        sustained=shapes.sustained,
    )
    memory = _memory_seconds(device, parameters, case)
    compute, combine = _compute_seconds(device, family, parameters, case)
    seconds = parameters.launch_us * 1e-6 + np.maximum(compute, memory) + combine
    if family.regroups:
        moved = (case.group > 1) & (case.batch > 1) & (case.kv_heads > 1)
        seconds += np.where(moved, parameters.regroup_us * 1e-6, 0.0)
    if family.writes_cache and parameters.fill_gb_per_s > 0:
        seconds += _fill_seconds(parameters, case)
    bound = np.where(compute >= memory, 1, 2)
    bound = np.where(np.maximum(compute, memory) < parameters.launch_us * 1e-6, 0, bound)
    return AttentionForecast(
        seconds=_power_limited(device, family, parameters, case, seconds),
        bound=bound,
        activity=_activity(device, family, parameters, case),
    )


def _compute_seconds(
    device: GpuDevice, family: AttentionFamily, parameters: AttentionParameters, case: _Case
) -> tuple[Numbers, Numbers]:
    """Seconds of the multiprocessors, and of adding the parts of split keys."""
    packed = np.full(len(case.group), family.packs_groups) | (family.packs_single_queries & (case.queries == 1))
    group = np.where(packed, case.group, 1.0)
    rows = case.queries * group
    tiles_of_head = np.ceil(rows / case.tile_queries)
    n_heads = case.batch * case.heads / group
    n_tiles = n_heads * tiles_of_head
    blocks = _blocks(family, case, case.tile_queries / group, tiles_of_head)
    most_blocks = np.ceil(_most_keys(case, case.tile_queries / group) / case.tile_keys)
    block = _block_seconds(device, family, parameters, case)
    moved = 2 * 2 * np.minimum(rows, case.tile_queries) * case.head_dim
    tile = parameters.tile_us * 1e-6 + moved / parameters.tile_bytes_per_cycle / device.clock_hz

    def run(splits: Numbers | float) -> Numbers:
        work = n_heads * (blocks * block + splits * tiles_of_head * tile)
        waves = n_tiles * splits / device.n_sms
        per_split = np.ceil(most_blocks / splits)
        longest = per_split * block + tile
        uneven = np.maximum(per_split * splits / most_blocks, 1)
        unlike = (tiles_of_head > 1) & family.causal
        tail = np.where(unlike, parameters.tail_share * longest, longest * (np.ceil(waves) - waves))
        return np.maximum(longest, work * uneven / device.n_sms + tail)

    if not family.splits_keys:
        return run(1.0), np.zeros_like(rows)
    splits = np.array(_SPLITS, dtype=np.float64)[:, None]
    possible = (splits == 1) | ((most_blocks > _BLOCKS_TO_SPLIT) & (splits <= most_blocks))
    possible &= (splits == 1) | (case.group > 1) | (not family.splits_groups_only)
    combine = np.where(splits > 1, parameters.combine_us * 1e-6, 0.0)
    seconds = np.where(possible, run(splits) + combine, np.inf)
    least = seconds.argmin(axis=0)
    return seconds.min(axis=0) - combine[least, 0], combine[least, 0]


def _blocks(family: AttentionFamily, case: _Case, tile_rows: Numbers, n_tiles: Numbers) -> Numbers:
    """Blocks of keys that all tiles of one head walk over. ``tile_rows``: queries of a tile, ``n_tiles``: of a head."""
    past = case.keys - case.queries
    if not family.causal:
        return n_tiles * np.ceil(case.keys / case.tile_keys)
    # Tile i ends at query (i + 1) tile_rows; the mean loss of rounding up follows from their common divisor.
    common = np.gcd(np.maximum(np.rint(tile_rows), 1).astype(np.int64), case.tile_keys.astype(np.int64))
    loss = 0.5 * (1 - common / case.tile_keys)
    ends = n_tiles * (n_tiles - 1) / 2 * tile_rows + case.queries
    full = (ends + n_tiles * past) / case.tile_keys + loss * n_tiles
    full = np.where(n_tiles == 1, np.ceil(case.keys / case.tile_keys), full)
    span = (tile_rows + case.window - 1) / case.tile_keys + 1 - 1 / case.tile_keys
    before = np.clip((case.window - past) / tile_rows, 0, n_tiles)
    within = before * (before + 1) / 2 * tile_rows / case.tile_keys + before * loss + (n_tiles - before) * span
    return np.where(case.window > 0, np.minimum(full, np.maximum(within, n_tiles)), full)


def _most_keys(case: _Case, tile_rows: Numbers) -> Numbers:
    """Keys that the longest tile sees."""
    return np.where(case.window > 0, np.minimum(case.keys, tile_rows + case.window), case.keys)


def _block_seconds(device: GpuDevice, family: AttentionFamily, parameters: AttentionParameters, case: _Case) -> Numbers:
    """One block of keys: two products and the softmax, in part side by side, or the fetch of the keys if longer."""
    scores = case.tile_queries * case.tile_keys
    products = 2 * scores * case.head_dim / device.macs(family.multiply_format, older=family.older_products)
    softmax = scores * (1 / device.exp_per_cycle + parameters.lane_operations / device.lanes)
    longer, shorter = np.maximum(products, softmax), np.minimum(products, softmax)
    cycles = longer + parameters.overlap_loss * shorter + parameters.block_cycles
    if family.turns_values:
        cycles += case.tile_keys * case.head_dim * parameters.value_cycles / device.lanes
    fetched = 2 * case.tile_keys * case.head_dim * case.cache_bytes / (parameters.sm_memory_gb_per_s * 1e9)
    return np.maximum(cycles / device.clock_hz, fetched)


def _memory_seconds(device: GpuDevice, parameters: AttentionParameters, case: _Case) -> Numbers:
    """Time of moving queries, results, keys and values, from DRAM as far as they are not in the L2."""
    moved = _moved_bytes(case)
    return _moved_seconds(device, parameters, moved, case.copies * moved)


def _moved_bytes(case: _Case) -> Numbers:
    """Bytes of queries, results, keys and values, each once."""
    queries = 2 * case.batch * case.queries * case.heads * case.head_dim
    seen = np.where(case.window > 0, np.minimum(case.keys, case.queries + case.window), case.keys)
    keys = 2 * case.batch * seen * case.kv_heads * case.head_dim * case.cache_bytes
    return np.asarray(2 * queries + keys)


def _activity(device: GpuDevice, family: AttentionFamily, parameters: AttentionParameters, case: _Case) -> Activity:
    """Multiply-adds of the visible scores and of their values, exponentials, and bytes: keys once a tile of queries."""
    pairs = _visible_pairs(family, case)
    group = case.group if family.packs_groups else np.ones_like(case.group)
    tiles = case.batch * case.heads / group * np.ceil(case.queries * group / case.tile_queries)
    keys_of_tile = np.minimum(pairs / np.maximum(case.queries, 1) + case.tile_keys / 2, case.keys)
    fed = tiles * keys_of_tile * 2 * case.head_dim * case.cache_bytes
    moved = _moved_bytes(case)
    queries = 2 * 2 * case.batch * case.queries * case.heads * case.head_dim
    missed = miss_share(case.copies * moved, device.l2_bytes * parameters.cache_share)
    return Activity(
        macs={family.multiply_format: 2 * case.batch * case.heads * pairs * case.head_dim},
        dram_bytes=moved * missed,
        l2_bytes=fed + queries,
        lane_operations=case.batch * case.heads * pairs * SCORE_OPERATIONS,
    )


def _visible_pairs(family: AttentionFamily, case: _Case) -> Numbers:
    """Scores of one head and sequence that a mask leaves."""
    pairs = case.queries * (case.keys - (case.queries - 1) / 2) if family.causal else case.queries * case.keys
    return np.where(case.window > 0, np.minimum(pairs, case.queries * case.window), pairs)


def _fill_seconds(parameters: AttentionParameters, case: _Case) -> Numbers:
    """A kernel before the attention reads the new keys and values and writes them into the paged cache."""
    new = 2 * case.batch * case.queries * case.kv_heads * case.head_dim
    return new * (2 + case.cache_bytes) / (parameters.fill_gb_per_s * 1e9)


def _power_limited(
    device: GpuDevice, family: AttentionFamily, parameters: AttentionParameters, case: _Case, seconds: Numbers
) -> Numbers:
    """Times under the power limit: a long run gets at most ``sustained_share`` of the tensor cores' rate."""
    macs = 2 * case.batch * case.heads * _visible_pairs(family, case) * case.head_dim
    rate = device.macs(family.multiply_format, older=family.older_products)
    busy = macs / (seconds * device.n_sms * device.clock_hz * rate)
    slower = np.maximum(busy / parameters.sustained_share, 1.0)
    weight = 1.0 if case.sustained else seconds / (seconds + _POWER_TIME_S)
    return np.asarray(seconds * (1 + weight * (slower - 1)))


def _moved_seconds(
    device: GpuDevice, parameters: AttentionParameters, moved_bytes: Numbers, touched_bytes: Numbers
) -> Numbers:
    """Seconds to move bytes that lie in the L2 as far as all that is ``touched_bytes`` between two runs fits."""
    missed = miss_share(touched_bytes, device.l2_shared_bytes * parameters.cache_share)
    rate = device.dram_bytes_per_s * parameters.memory_share
    return np.asarray(moved_bytes * (missed / rate + (1 - missed) / device.l2_bytes_per_s))
