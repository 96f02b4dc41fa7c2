"""Attention over lists on a GPU, in closed form: rows dealt to multiprocessors, each as long as its list.

Token top-k (sparse multi-head latent attention): a multiprocessor takes a query with its 2,048 keys. Its indexer
scores all keys for four queries at a time, whatever sequence they are of, so that a tile over several short sequences
walks the keys of all of them. Lists of blocks: a row of queries begins, walks its blocks and ends; the makespan is at
least the longest row and at least all of them over the multiprocessors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import RowListParameters
from tilewright.registry import Registry
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.scans import slowed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Columns = Mapping[str, Numbers]

__all__ = ["BLOCK_LIST_FAMILIES", "TOKEN_TOP_K_FAMILIES", "RowListFamily", "block_list_times", "token_top_k_times"]

_KEPT = 2048  # keys of a query
_TILE_QUERIES, _TILE_KEYS = 4, 256  # of the indexer
_KEY_BYTES = 132  # of the indexer: 128 values of 8 bits and a scale
_MILLI = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RowListFamily:
    """Kernels of one library. ``scores``: all keys (an indexer). ``parameters``, ``relatives``, ``alone``: as scans."""

    name: str
    summary: str
    parameters: tuple[str, ...]
    scores: bool = False
    relatives: tuple[str, ...] = ()
    alone: bool = True


TOKEN_TOP_K_FAMILIES: Registry[RowListFamily] = Registry("family of token top-k kernels")
BLOCK_LIST_FAMILIES: Registry[RowListFamily] = Registry("family of block list kernels")
for _family in (
    RowListFamily(
        name="dsa_attention",
        summary="sparse latent attention, 64 heads, 2,048 keys a query",
        parameters=("launch_us", "row_us", "short_share", "power_loss"),
    ),
    RowListFamily(
        name="dsa_indexer",
        summary="fp8 scores of all keys, 64 heads",
        scores=True,
        parameters=("launch_us", "row_us", "block_us", "power_loss", "page_loss"),
    ),
):
    TOKEN_TOP_K_FAMILIES.register(_family.name, _family)
for _family in (
    RowListFamily(
        name="flex_blocks", summary="flex_attention, compiled", parameters=("launch_us", "row_us", "block_us")
    ),
    RowListFamily(
        name="fa2_blocks",
        summary="Block-Sparse-Attention on FlashAttention-2",
        parameters=("launch_us", "row_us", "block_us"),
    ),
    RowListFamily(
        name="nsa", summary="native sparse attention, Triton", parameters=("launch_us", "row_us", "block_us")
    ),
):
    BLOCK_LIST_FAMILIES.register(_family.name, _family)


def token_top_k_times(
    device: GpuDevice, family: RowListFamily, parameters: RowListParameters, columns: Columns
) -> tuple[Numbers, NDArray[np.int64]]:
    """Seconds of each row, and what limits it (positions in :data:`tilewright.sim.gpu.gemm.BOUNDS`)."""
    batch, queries, cached = columns["batch"], columns["queries"], columns["cached"]
    if family.scores:
        share = np.ceil(batch * queries / _TILE_QUERIES) / device.n_sms
        spanned = np.where(queries >= _TILE_QUERIES, 1, np.minimum(np.ceil(_TILE_QUERIES / queries), batch))
        # In one wave the last tile, which sees most keys, decides; in several the mean one.
        keys = cached + np.where(share <= 1, queries, (queries + 1) / 2)
        pages = 1 + parameters.page_loss * batch * (cached + queries) * _KEY_BYTES * 1e-9
        row = parameters.row_us + parameters.block_us * np.ceil(keys * spanned / _TILE_KEYS) * pages
    else:
        share = batch * queries / device.n_sms
        short = np.clip(_KEPT - cached, 0, queries) / queries
        row = parameters.row_us * (1 - parameters.short_share * short * (share > 1))
    work = slowed(np.ceil(share) * row * 1e-6, np.minimum(share, 1.0), parameters.power_loss)
    launch = parameters.launch_us * 1e-6
    return launch + work, np.where(work < launch, 0, 1)


def block_list_times(
    device: GpuDevice, family: RowListFamily, parameters: RowListParameters, columns: Columns
) -> tuple[Numbers, NDArray[np.int64]]:
    """Seconds of each call, and what limits it: all rows of queries over the multiprocessors, or the longest."""
    rows = columns["batch"] * columns["heads"] * np.ceil(columns["queries"] / columns["row_tokens"])
    block = parameters.block_us * columns["block"] * columns["head_dim"] / (128 * 128)
    mean = parameters.row_us + block * columns["mean_milli"] / _MILLI
    longest = parameters.row_us + block * columns["longest"]
    work = np.maximum(rows * mean / device.n_sms, longest) * 1e-6
    launch = parameters.launch_us * 1e-6
    return launch + work, np.where(work < launch, 0, 1)
