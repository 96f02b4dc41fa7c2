"""What kernels of scans, convolutions, state steps and lists do, for their energy: counts of their definition.

Multiply-adds are those of the form that runs (chunks, kept pairs); bytes those of one kernel or of its stages, from the
L2, and from the DRAM as far as that does not hold them; lanes do what the products leave: exponentials with what makes
their arguments, convolutions, steps of a state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tilewright.sim.gpu.activity import SCORE_OPERATIONS, Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.memory import miss_share
from tilewright.sim.gpu.row_lists import RowListFamily
from tilewright.sim.gpu.scans import ScanFamily
from tilewright.sim.gpu.streams import StreamFamily
from tilewright.workloads.scan_counts import (
    ChunkedScan,
    ScanCounts,
    delta_rule_counts,
    gated_linear_counts,
    linear_attention_counts,
    ssd_counts,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]
    Columns = Mapping[str, Numbers]

__all__ = ["listed_activity"]

_VALUE, _STATE = 2, 4
_KEPT, _TOP_K_HEADS, _KEY_WIDTH, _VALUE_WIDTH = 2048, 64, 576, 512  # of sparse latent attention
_INDEX_WIDTH, _KEY_BYTES = 128, 132
_DECAY_OPERATIONS = 3  # of a lane for each exponential of a decay: subtract, exponential, multiply
_CONV_OPERATIONS = 8  # of a lane for each result: four taps, and the SiLU
_STEP_OPERATIONS = 3  # of a lane for each element of a state: decay, update, read

_COUNTS: dict[str, Callable[[ChunkedScan], ScanCounts]] = {
    "gdn": delta_rule_counts,
    "kda": lambda scan: delta_rule_counts(scan, by_channel=True),
    "gla": gated_linear_counts,
    "chunked_triton_gated": gated_linear_counts,
    "retention": linear_attention_counts,
    "ssd": ssd_counts,
    "chunked_triton": ssd_counts,
}


def listed_activity(device: GpuDevice, operator: str, family: Any, parameters: Any, columns: Columns) -> Activity:
    """Of each row of a table of ``operator`` (scan, short_conv, state_step, token_top_k, block_lists)."""
    if operator == "scan":
        return _scan(device, family, parameters, columns)
    if operator == "block_lists":
        return _lists(device, columns)
    if operator == "token_top_k":
        return _tokens(device, family, columns)
    return _streamed(device, operator, family, parameters, columns)


def _scan(device: GpuDevice, family: ScanFamily, parameters: Any, columns: Columns) -> Activity:
    counts_of = next(make for name, make in _COUNTS.items() if family.name.startswith(name))
    names = ("batch", "tokens", "heads", "key_dim", "value_dim", "key_heads")
    macs, moved, exponentials = [], [], []
    for row in zip(*(columns[name].astype(int).tolist() for name in names), strict=True):
        batch, tokens, heads, key_dim, value_dim, key_heads = row
        found = counts_of(
            ChunkedScan(
                batch=batch, n_tokens=tokens, n_heads=heads, key_dim=key_dim, value_dim=value_dim, chunk=family.chunk,
                n_key_heads=key_heads,
            )
        )  # fmt: skip
        stages = [found.stage("chunk_scan")] if family.kind == "products" else list(found.stages)
        macs.append(sum(stage.flop for stage in stages) / 2)
        exponentials.append(sum(stage.n_exponentials for stage in stages))
        apart = family.kind in ("stages", "prepared", "products")
        of_stages = sum(stage.read_bytes + stage.write_bytes for stage in stages)
        moved.append(of_stages if apart else found.fused_bytes)
    bytes_ = np.array(moved, dtype=float)
    missed = miss_share(bytes_, device.l2_bytes * (parameters.cache_share or 1.0))
    return Activity(
        macs={"bf16": np.array(macs, dtype=float)},
        dram_bytes=bytes_ * missed,
        l2_bytes=bytes_,
        lane_operations=np.array(exponentials, dtype=float) * _DECAY_OPERATIONS,
    )


def _lists(device: GpuDevice, columns: Columns) -> Activity:
    heads, width = columns["batch"] * columns["heads"], columns["head_dim"]
    keys = columns["mean_milli"] / 1000 * columns["block"]  # of a row's list
    rows = np.ceil(columns["queries"] / columns["row_tokens"])
    pairs = heads * columns["queries"] * keys
    moved = 4 * _VALUE * heads * columns["queries"] * width
    return Activity(
        macs={"bf16": 2 * pairs * width},
        dram_bytes=moved * miss_share(moved, device.l2_bytes),
        l2_bytes=heads * rows * keys * 2 * _VALUE * width + moved / 2,
        lane_operations=pairs * SCORE_OPERATIONS,
    )


def _tokens(device: GpuDevice, family: RowListFamily, columns: Columns) -> Activity:
    batch, queries, cached = columns["batch"], columns["queries"], columns["cached"]
    all_pairs = batch * (queries * cached + queries * (queries + 1) / 2)
    if family.scores:
        moved = batch * ((cached + queries) * _KEY_BYTES + queries * _TOP_K_HEADS * _INDEX_WIDTH)
        return Activity(
            macs={"fp8_e4m3": all_pairs * _TOP_K_HEADS * _INDEX_WIDTH},
            dram_bytes=moved * miss_share(moved, device.l2_bytes),
            l2_bytes=moved + all_pairs / 4 * _KEY_BYTES,  # a tile of four queries reads each key
            lane_operations=all_pairs * _TOP_K_HEADS * 2.0,
        )
    free = np.clip(_KEPT - cached, 0, queries)  # queries that see fewer keys than are kept
    pairs = batch * (free * cached + free * (free + 1) / 2 + (queries - free) * _KEPT)
    results = batch * queries * _TOP_K_HEADS * (_KEY_WIDTH + _VALUE_WIDTH) * _VALUE
    keys = batch * (cached + queries) * _KEY_WIDTH * _VALUE
    moved = results + keys
    return Activity(
        macs={"bf16": pairs * _TOP_K_HEADS * (_KEY_WIDTH + _VALUE_WIDTH)},
        dram_bytes=moved * miss_share(moved, device.l2_bytes),
        l2_bytes=results + pairs * _KEY_WIDTH * _VALUE,
        lane_operations=pairs * _TOP_K_HEADS * SCORE_OPERATIONS,
    )


def _streamed(device: GpuDevice, operator: str, family: StreamFamily, parameters: Any, columns: Columns) -> Activity:
    batch = columns["batch"]
    if operator == "short_conv":
        tokens = 1 if family.layout == "update" else columns["tokens"]
        results = batch * tokens * columns["channels"]
        moved = 16 * batch * columns["channels"] if family.layout == "update" else 2 * _VALUE * results
        lanes = results * _CONV_OPERATIONS
    else:
        elements = batch * columns["heads"] * columns["key_dim"] * columns["value_dim"]
        moved, lanes = family.state_bytes * elements, elements * _STEP_OPERATIONS
    missed = miss_share(moved, device.l2_bytes * (parameters.cache_share or 1.0))
    return Activity(macs={}, dram_bytes=moved * missed, l2_bytes=np.asarray(moved, dtype=float), lane_operations=lanes)
