"""The typed extras of a GPU: the section ``gpu`` of a machine file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le, MinLen

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["CachePointSpec", "GpuSpec"]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePointSpec:
    """Read bandwidth of all multiprocessors together when they sweep ``working_set_mb`` (10^6 bytes) over and over.

    ``working_set_mb``: what is swept, in 10^6 bytes. ``read_tb_per_s``: the bandwidth in 10^12 bytes a second.
    """

    __pydantic_config__ = _STRICT

    working_set_mb: Annotated[float, Gt(0)]
    read_tb_per_s: Annotated[float, Gt(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """A GPU beyond its multiprocessors (the machine's cores), tensor cores (matrix) and CUDA lanes (vector).

    ``clock_max_ghz``: clock of a multiprocessor that is not held back by power; the machine's ``clock_ghz`` is the one
    at which the data sheet's peak holds. ``power_limit_w``: board power. ``launch_us``: shortest kernel in a graph.
    ``l2_read``: bandwidth by working set, smallest first; ``l2_bytes_per_cycle``: the L2's own rate where no such
    measurement exists (one of the two is needed). ``l2_copies``: parts of the L2 that each hold a copy of what all
    multiprocessors read. ``dram_latency_cycles``: a load that misses every cache.
    ``cluster_size``: thread blocks that can share one load of a tile (1: none). ``asynchronous_products``: tensor
    cores work on shared memory while the warps do something else (Hopper's wgmma). ``older_products_share``: share of
    the tensor cores' rate that instructions of the generation before reach. ``tf32_share``: products of fp32 operands
    rounded to tf32 that they start in a cycle, over those in 16 bits (0: none). ``calibrated_as``: machine whose
    calibration stands in where this one has none.
    """

    __pydantic_config__ = _STRICT

    clock_max_ghz: Annotated[float, Gt(0), Le(100)]
    power_limit_w: Annotated[float, Gt(0)]
    launch_us: Annotated[float, Ge(0)]
    l2_read: tuple[CachePointSpec, ...] = ()
    l2_bytes_per_cycle: Annotated[float, Gt(0)] | None = None
    l2_copies: Annotated[int, Ge(1), Le(16)] = 1
    dram_latency_cycles: Annotated[int, Ge(1)]
    cluster_size: Annotated[int, Ge(1), Le(16)] = 1
    asynchronous_products: bool = False
    older_products_share: Annotated[float, Gt(0), Le(1)] = 1.0
    tf32_share: Annotated[float, Ge(0), Le(1)] = 0.5
    calibrated_as: Annotated[str, MinLen(1)] | None = None

    def __post_init__(self) -> None:
        if not self.l2_read and self.l2_bytes_per_cycle is None:
            raise ValueError("l2_bytes_per_cycle: needed where l2_read gives no measurement; allowed above 0")
        sizes = [point.working_set_mb for point in self.l2_read]
        if sizes != sorted(set(sizes)):
            raise ValueError("l2_read: working sets must grow; allowed smallest first, none twice")
