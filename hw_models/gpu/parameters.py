"""The physical parameters of a family of GPU kernels: few, named, one set a device and family.

What a data sheet says (rates, bandwidths, capacities) stands in the machine; here is what only a measurement tells.
Each field carries its bounds (``annotated_types``): they check a calibration file and limit the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from annotated_types import Ge, Le

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = [
    "AttentionParameters",
    "ExpertsParameters",
    "GemmParameters",
    "LatentParameters",
    "RowListParameters",
    "RowwiseParameters",
    "ScanParameters",
    "ScheduledParameters",
    "StreamParameters",
]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}

Share: TypeAlias = Annotated[float, Ge(0.3), Le(1)]
Loss: TypeAlias = Annotated[float, Ge(0), Le(0.7)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmParameters:
    """Matrix products.

    ``launch_us``: from the launch to the first tile and from the last tile to the end. ``memory_share``: share of the
    data sheet's DRAM bandwidth that long streams reach. ``memory_ramp_us``: until the DRAM streams at that rate.
    ``sm_memory_gb_per_s``: what one multiprocessor alone can draw from DRAM. ``cache_share``: share of the L2 that
    holds what was touched before. ``feed_bytes_per_cycle``: operands that one multiprocessor takes from the L2.
    ``store_bytes_per_cycle``: results that it writes. ``step_cycles``: latency left over in each step along k.
    ``overlap_loss``: part of the shorter of compute and memory time that the longer one does not hide.
    ``split_us``: a second pass that adds the parts of a split sum. ``sustained_share``: share of the tensor cores' rate
    at the highest clock that the power limit leaves to a long product.

    For some families only, else 0: ``convert_cycles``, lane cycles that turn one narrow weight into an operand;
    ``vector_launch_us``, launch of the matrix-vector kernel; ``quantise_row_ns`` and ``quantise_chunk_ns``, for each
    row of activations, and each 2,048 values of it, that a kernel before the product quantises; ``edge_cycles``, for
    each row and step that a tile reaches beyond the matrix.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.5), Le(100)]
    memory_share: Share
    memory_ramp_us: Annotated[float, Ge(0), Le(5)]
    sm_memory_gb_per_s: Annotated[float, Ge(5), Le(400)]
    cache_share: Annotated[float, Ge(0.3), Le(1.3)]
    feed_bytes_per_cycle: Annotated[float, Ge(10), Le(128)]
    store_bytes_per_cycle: Annotated[float, Ge(2), Le(128)]
    step_cycles: Annotated[float, Ge(0), Le(800)]
    overlap_loss: Loss
    split_us: Annotated[float, Ge(0), Le(10)]
    sustained_share: Share
    convert_cycles: Annotated[float, Ge(0), Le(16)] = 0.0
    vector_launch_us: Annotated[float, Ge(0), Le(30)] = 0.0
    quantise_row_ns: Annotated[float, Ge(0), Le(50)] = 0.0
    quantise_chunk_ns: Annotated[float, Ge(0), Le(50)] = 0.0
    edge_cycles: Annotated[float, Ge(0), Le(50)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionParameters:
    """Fused attention.

    ``launch_us``, ``memory_share``, ``cache_share``: as for products. ``tile_us``: start and end of one tile of
    queries (fetch Q and the first keys, last scaling, latencies between). ``tile_bytes_per_cycle``: queries in and
    results out of one multiprocessor. ``block_cycles``: latency left over in each block of keys. ``lane_operations``:
    operations of a CUDA lane for each score beside its exponential. ``overlap_loss``: part of the shorter of products
    and softmax that the longer does not hide. ``sm_memory_gb_per_s``: what one multiprocessor draws of keys and values.
    ``combine_us``: adding the parts when the keys are split. ``tail_share``: part of the longest tile for which the
    last multiprocessor works alone at the end. ``sustained_share``: as for products, for runs of some milliseconds.

    For some families only, else 0: ``fill_gb_per_s``, rate of the kernel that copies new keys and values to the cache.
    ``value_cycles``, lane cycles that turn one value of a block into the order that the tensor cores want.
    ``regroup_us``, time of copying the queries and results of grouped heads into another order.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.5), Le(40)]
    memory_share: Share
    cache_share: Annotated[float, Ge(0.3), Le(1.3)]
    tile_us: Annotated[float, Ge(0), Le(10)]
    tile_bytes_per_cycle: Annotated[float, Ge(1), Le(256)]
    block_cycles: Annotated[float, Ge(0), Le(4000)]
    lane_operations: Annotated[float, Ge(0), Le(30)]
    overlap_loss: Annotated[float, Ge(0), Le(1)]
    sm_memory_gb_per_s: Annotated[float, Ge(5), Le(400)]
    combine_us: Annotated[float, Ge(0), Le(20)]
    tail_share: Annotated[float, Ge(0), Le(1)]
    sustained_share: Share = 1.0
    fill_gb_per_s: Annotated[float, Ge(0), Le(10_000)] = 0.0
    value_cycles: Annotated[float, Ge(0), Le(32)] = 0.0
    regroup_us: Annotated[float, Ge(0), Le(30)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowwiseParameters:
    """Element-wise and row-wise kernels (activation, softmax, norm, quantisation).

    ``launch_us``, ``memory_share``, ``cache_share``: as for products. ``memory_ramp_us``: until the DRAM streams at
    full rate. ``row_us``: latency of one row in one thread block (reductions); ``step_us``: of each eight values that a
    thread of it loads, for some families only. ``sm_memory_gb_per_s``: what one
    multiprocessor alone draws. ``lane_cycles``: lane cycles for each element.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.5), Le(100)]
    memory_share: Share
    cache_share: Annotated[float, Ge(0.3), Le(1.3)]
    memory_ramp_us: Annotated[float, Ge(0), Le(30)]
    row_us: Annotated[float, Ge(0), Le(30)]
    sm_memory_gb_per_s: Annotated[float, Ge(5), Le(400)]
    lane_cycles: Annotated[float, Ge(0), Le(200)]
    step_us: Annotated[float, Ge(0), Le(30)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsParameters:
    """Mixture-of-experts layers.

    ``launch_us``: all kernels of the layer. ``memory_share``, ``sm_memory_gb_per_s``, ``cache_share``,
    ``feed_bytes_per_cycle``, ``store_bytes_per_cycle``, ``step_cycles``, ``overlap_loss``: as for products.
    ``rate_share``: share of the tensor cores' rate that the grouped products reach. ``row_ns``: sorting and gathering
    one row of a token and an expert.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.5), Le(200)]
    memory_share: Share
    sm_memory_gb_per_s: Annotated[float, Ge(5), Le(400)]
    cache_share: Annotated[float, Ge(0.3), Le(1.3)]
    feed_bytes_per_cycle: Annotated[float, Ge(10), Le(128)]
    store_bytes_per_cycle: Annotated[float, Ge(2), Le(128)]
    step_cycles: Annotated[float, Ge(0), Le(800)]
    overlap_loss: Loss
    rate_share: Annotated[float, Ge(0.1), Le(1)]
    row_ns: Annotated[float, Ge(0), Le(50)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentParameters:
    """Latent attention.

    ``host_us``: the host's part of a call; ``launch_us``: between its kernels on the GPU. ``memory_share``: as for
    products. ``rate_share``: share of the tensor
    cores' rate that products reach. ``tile_us``, ``block_cycles``: as for attention. In prefill only, else 0:
    ``tail_share``, as for attention; ``copied``, how often keys and values of all heads are moved beside the attention.
    In decoding only: ``head_ns``, copies and launches for a head of a query.
    """

    __pydantic_config__ = _STRICT

    host_us: Annotated[float, Ge(1), Le(2000)]
    launch_us: Annotated[float, Ge(0), Le(200)]
    memory_share: Share
    rate_share: Annotated[float, Ge(0.1), Le(1)]
    tile_us: Annotated[float, Ge(0), Le(10)]
    block_cycles: Annotated[float, Ge(0), Le(4000)]
    tail_share: Annotated[float, Ge(0), Le(2)] = 0.0
    copied: Annotated[float, Ge(0), Le(10)] = 0.0
    head_ns: Annotated[float, Ge(0), Le(100)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledParameters:
    """Kernels whose compiled schedule is known (Triton's).

    ``launch_us``, ``memory_share``, ``cache_share``, ``overlap_loss``, ``sustained_share``: as for products.
    ``hit_cycles``: from a load to its values where they lie in the L2; ``miss_cycles``: more where they come from DRAM.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.5), Le(100)]
    hit_cycles: Annotated[float, Ge(100), Le(1000)]
    miss_cycles: Annotated[float, Ge(0), Le(1500)]
    memory_share: Share
    cache_share: Annotated[float, Ge(0.3), Le(1.3)]
    overlap_loss: Loss
    sustained_share: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanParameters:
    """Chunked scans: state-space models and linear attention over whole sequences.

    ``launch_us``: all kernels of the operator. The others mean something for some families only, else 0. ``token_us``:
    latency for each token of a sequence's first chunk. ``head_us``: begin and end of a head's state on one
    multiprocessor; ``chunk_us``: one chunk behind the other. ``memory_share``, ``cache_share``, ``overlap_loss``: as
    for products. ``copied``: bytes that the kernels move over those of their operands and results. ``rate_share``:
    share of the tensor cores' rate. ``power_loss``: by how much the power limit slows long runs of all multiprocessors.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.5), Le(500)]
    token_us: Annotated[float, Ge(0), Le(20)] = 0.0
    head_us: Annotated[float, Ge(0), Le(60)] = 0.0
    chunk_us: Annotated[float, Ge(0), Le(60)] = 0.0
    memory_share: Annotated[float, Ge(0), Le(1)] = 0.0
    cache_share: Annotated[float, Ge(0), Le(1.5)] = 0.0
    overlap_loss: Annotated[float, Ge(0), Le(1)] = 0.0
    copied: Annotated[float, Ge(0), Le(6)] = 0.0
    rate_share: Annotated[float, Ge(0), Le(1)] = 0.0
    power_loss: Annotated[float, Ge(0), Le(0.7)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamParameters:
    """Kernels that read and write each value once: short convolutions, one step of a recurrence.

    ``launch_us``, ``memory_share``, ``cache_share``: as for products. The others mean something for some families only,
    else 0. ``token_us``: latency of a token in a thread block; ``later_us``: of all chunks behind the first.
    ``sm_gb_per_s``: what one multiprocessor moves. ``overlap_loss``: as for products. ``miss_us``: end of a run whose
    data leave the L2. ``block_ns``, ``step_ns``, ``ragged_ns``: of a thread block, a whole step along its channel, and
    a step that cannot be loaded in pieces of 16 bytes.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.3), Le(100)]
    memory_share: Annotated[float, Ge(0.1), Le(1)]
    cache_share: Annotated[float, Ge(0.2), Le(1.5)]
    token_us: Annotated[float, Ge(0), Le(10)] = 0.0
    later_us: Annotated[float, Ge(0), Le(10)] = 0.0
    sm_gb_per_s: Annotated[float, Ge(0), Le(400)] = 0.0
    overlap_loss: Annotated[float, Ge(0), Le(1)] = 0.0
    miss_us: Annotated[float, Ge(0), Le(30)] = 0.0
    block_ns: Annotated[float, Ge(0), Le(2000)] = 0.0
    step_ns: Annotated[float, Ge(0), Le(2000)] = 0.0
    ragged_ns: Annotated[float, Ge(0), Le(2000)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RowListParameters:
    """Attention whose rows have lists: token top-k and its indexer, lists of blocks.

    ``launch_us``: of the kernel. ``row_us``: one row (a query, or a block of them) on one multiprocessor; ``block_us``:
    each block of keys in its list. For some families only, else 0: ``short_share``, part of a row that is saved where
    fewer keys than its list has room for exist; ``power_loss``: as for scans; ``dense_loss``: by how much heads
    without lists take longer than in a kernel without any; ``page_loss``: by how much 10^9 bytes of keys, whose pages
    are more than address translation holds, slow their walk.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0.5), Le(200)]
    row_us: Annotated[float, Ge(0), Le(200)]
    block_us: Annotated[float, Ge(0), Le(50)] = 0.0
    short_share: Annotated[float, Ge(0), Le(0.7)] = 0.0
    dense_loss: Annotated[float, Ge(0), Le(1)] = 0.0
    page_loss: Annotated[float, Ge(0), Le(5)] = 0.0
    power_loss: Annotated[float, Ge(0), Le(0.7)] = 0.0
