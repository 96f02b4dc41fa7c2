"""Time of GEMM kernels on a GPU, for many shapes at once.

For every kernel of the family: a thread block computes a tile of C in steps along k; a step takes as long as the
slowest of the tensor cores, shared memory, the feed from the L2 and the widening of narrow weights. Blocks run in waves
over the multiprocessors, each wave followed by the store of its results. Beside that runs the DRAM traffic: operands
that no longer lie in the L2, and operands read again because a wave covers only part of C. The library's heuristics
choose the kernel: here the one with the least predicted time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from tilewright.hw_models.gpu.parameters import GemmParameters
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.families import GemmFamily, GemmTile, row_spans, table_of, tile_table, tiles_of
from tilewright.sim.gpu.memory import miss_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BOUNDS", "GemmForecast", "GemmShapes", "GemmTraffic", "gemm_forecast", "gemm_times"]

#: What limits a kernel, by the codes in :attr:`GemmForecast.bound`.
BOUNDS = ("launch", "compute", "memory")

_STEP_BYTES = 128  # one row of a step along k: the width of a swizzled shared-memory line
_MMA_ROWS = 64  # rows of a warp group's product
_SPLIT_BYTES = 8  # fp32 partial sums, written and read
_QUANTISED_CHUNK = 2048  # values that a parameter of quantisation is about: 256 threads of 8 values
_POWER_TIME_S = 1e-4  # runs longer than this feel the power limit
_CHUNK = 2048  # shapes at a time, so that the arrays stay in the CPU's caches


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmTraffic:
    """What products in a network find in the L2, as arrays of one length: bytes of A and B as they are stored (a window
    of a convolution reads each value several times, several products have a B each), and the shares (0 to 1) of A, B
    and C that cross the DRAM's bus.
    """

    a_bytes: NDArray[np.float64] = field(hash=False)
    b_bytes: NDArray[np.float64] = field(hash=False)
    a_missed: NDArray[np.float64] = field(hash=False)
    b_missed: NDArray[np.float64] = field(hash=False)
    c_missed: NDArray[np.float64] = field(hash=False)

    def part(self, here: slice) -> GemmTraffic:
        """The rows ``here``."""
        return GemmTraffic(**{entry.name: getattr(self, entry.name)[here] for entry in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmShapes:
    """Shapes of C[m, n] = A[m, k] B[k, n] as arrays of one length, and the state of the caches before each run.

    ``weight_copies``: a measurement that rotates so many copies of B finds them in the L2 only when all fit;
    activations and results stay where they are. ``copies``: of all operands, where they rotate too.
    ``sustained``: each kernel is repeated for so long (0.1 s and more) that even short ones feel the power limit.
    ``traffic``: of products in a network, which says in place of the copies what the caches hold.
    """

    m: NDArray[np.int64] = field(hash=False)
    n: NDArray[np.int64] = field(hash=False)
    k: NDArray[np.int64] = field(hash=False)
    weight_copies: int = 1
    copies: int = 1
    sustained: bool = False
    traffic: GemmTraffic | None = None

    def part(self, start: int, stop: int) -> GemmShapes:
        """Shapes ``start`` to ``stop``."""
        here = slice(start, stop)
        traffic = None if self.traffic is None else self.traffic.part(here)
        return replace(self, m=self.m[here], n=self.n[here], k=self.k[here], traffic=traffic)


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmForecast:
    """Predicted times of kernels: ``seconds``, what limits each (a position in ``BOUNDS``), and the tile chosen.

    ``activity``: what they do in that time, for their energy.
    """

    seconds: NDArray[np.float64] = field(hash=False)
    bound: NDArray[np.int64] = field(hash=False)
    tile: tuple[GemmTile, ...] = field(hash=False)
    activity: Activity = field(hash=False)


def gemm_forecast(
    device: GpuDevice, family: GemmFamily, parameters: GemmParameters, shapes: GemmShapes
) -> GemmForecast:
    """The kernel with the least predicted time for each shape."""
    tiles = tiles_of(family, device.cluster_size)
    table = tile_table(family, device.cluster_size)
    seconds, bounds, chosen = [], [], []
    for start in range(0, len(shapes.m), _CHUNK):
        part = shapes.part(start, start + _CHUNK)
        times, compute, memory = _all_times(device, family, parameters, part, table)
        if family.rules:
            above, most = np.array(row_spans(family, device.cluster_size)).T
            rows_of_a = part.m[:, None]
            times = np.where((rows_of_a > above) & (rows_of_a <= most), times, np.inf)
        best = times.argmin(axis=1)
        row = np.arange(len(best))
        least = times[row, best]
        if family.vector_rows:
            on_lanes = np.minimum(least, _vector_times(device, family, parameters, part))
            least = np.where(part.m <= family.vector_rows, on_lanes, least)
        seconds.append(_power_limited(device, family, parameters, part, least))
        larger = np.maximum(compute[row, best], memory[row, best])
        bound = np.where(compute[row, best] >= memory[row, best], 1, 2)
        bounds.append(np.where(larger < parameters.launch_us * 1e-6, 0, bound))
        chosen.append(best)
    places = np.concatenate(chosen)
    return GemmForecast(
        seconds=np.concatenate(seconds),
        bound=np.concatenate(bounds),
        tile=tuple([tiles[i] for i in places]),
        activity=_activity(device, family, parameters, shapes, table[:, places]),
    )


def gemm_times(
    device: GpuDevice,
    family: GemmFamily,
    parameters: GemmParameters,
    shapes: GemmShapes,
    tiles: Sequence[GemmTile],
) -> NDArray[np.float64]:
    """Seconds of every one of ``tiles`` for every shape, as an array shapes x tiles: for ranking tilings."""
    times, _, _ = _all_times(device, family, parameters, shapes, table_of(tiles))
    return np.stack(
        [_power_limited(device, family, parameters, shapes, times[:, i]) for i in range(len(tiles))], axis=1
    )


def _all_times(
    device: GpuDevice,
    family: GemmFamily,
    parameters: GemmParameters,
    shapes: GemmShapes,
    table: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Total, compute and memory seconds of shapes x tiles; ``table``: of the tiles, as :func:`table_of` gives it."""
    grid = _Grid.of(shapes, table)
    compute = _compute_seconds(device, family, parameters, grid)
    memory = _memory_seconds(device, family, parameters, grid, shapes)
    longer, shorter = np.maximum(compute, memory), np.minimum(compute, memory)
    partial_bytes = grid.splits * grid.m * grid.n * _SPLIT_BYTES
    split = np.where(grid.splits > 1, parameters.split_us * 1e-6 + partial_bytes / device.l2_bytes_per_s, 0.0)
    work = longer + parameters.overlap_loss * shorter + split
    if family.quantises:
        chunks = np.ceil(grid.k / family.quantised_values) * family.quantised_values / _QUANTISED_CHUNK
        work += grid.m * (parameters.quantise_row_ns + chunks * parameters.quantise_chunk_ns) * 1e-9
    launch = parameters.launch_us * 1e-6
    total = np.maximum(launch, work) if family.host_bound else launch + work
    return total, compute, memory


def _activity(
    device: GpuDevice, family: GemmFamily, parameters: GemmParameters, shapes: GemmShapes, table: NDArray[np.float64]
) -> Activity:
    """What the kernel chosen for each shape does: multiply-adds of C, and bytes by level."""
    grid = _Grid.of(shapes, table, each=True)
    a_bytes, b_bytes, c_bytes = family.activation_bits / 8, family.weight_bits / 8, family.result_bits / 8
    read, stored = _dram_bytes(device, family, parameters, grid, shapes)
    operands = grid.rows * a_bytes + grid.columns * b_bytes
    shared = np.where(grid.rows >= grid.columns, grid.rows * a_bytes, grid.columns * b_bytes)
    fed = grid.n_tiles * grid.k * (operands - (1 - 1 / grid.cluster) * shared)
    results = grid.m * grid.n * np.where(grid.splits > 1, grid.splits * _SPLIT_BYTES + c_bytes, c_bytes)
    quantised = grid.m * grid.k * (2 + a_bytes) if family.quantises else 0.0
    return Activity(
        macs={family.multiply_format: (grid.m * grid.n * grid.k)[:, 0]},
        dram_bytes=(read + stored)[:, 0],
        l2_bytes=(fed + results + quantised)[:, 0],
        lane_operations=(grid.m * grid.n)[:, 0],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Shapes (down) by tiles (across) with what both know: all arrays broadcast to shapes x tiles."""

    m: NDArray[np.float64]
    n: NDArray[np.float64]
    k: NDArray[np.float64]
    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    splits: NDArray[np.float64]
    cluster: NDArray[np.float64]
    tiles_down: NDArray[np.float64]
    tiles_across: NDArray[np.float64]

    @classmethod
    def of(cls, shapes: GemmShapes, table: NDArray[np.float64], *, each: bool = False) -> _Grid:
        """Every shape with every tile; ``each``: with the tile of its own place only, one column."""
        m, n, k = (np.asarray(x, dtype=np.float64)[:, None] for x in (shapes.m, shapes.n, shapes.k))
        rows, columns, splits, cluster = (row[:, None] if each else row[None] for row in table)
        return cls(
            m=m,
            n=n,
            k=k,
            rows=rows,
            columns=columns,
            splits=splits,
            cluster=cluster,
            tiles_down=np.ceil(m / rows),
            tiles_across=np.ceil(n / columns),
        )

    @property
    def n_tiles(self) -> NDArray[np.float64]:
        """Tiles of C with those that fill up the last cluster."""
        down, across, c = self.tiles_down, self.tiles_across, self.cluster
        return np.minimum(np.ceil(down / c) * c * across, down * np.ceil(across / c) * c)


def _compute_seconds(
    device: GpuDevice, family: GemmFamily, parameters: GemmParameters, grid: _Grid
) -> NDArray[np.float64]:
    """Waves of tiles: steps along k at the pace of the slowest unit, then the store."""
    a_bytes, b_bytes, c_bytes = family.activation_bits / 8, family.weight_bits / 8, family.result_bits / 8
    depth = _STEP_BYTES / a_bytes
    steps = np.ceil(np.ceil(grid.k / depth) / grid.splits)
    blocks = grid.n_tiles * grid.splits
    long_side = np.ceil(np.maximum(grid.rows, grid.columns) / _MMA_ROWS) * _MMA_ROWS
    short_side = np.minimum(grid.rows, grid.columns)
    rate = device.macs(family.multiply_format, older=family.older_products)
    tensor = long_side * np.maximum(short_side, 32) * depth / rate
    asynchronous = device.asynchronous_products and not family.older_products and not family.on_lanes
    # Asynchronous products read A once and B once for each 64 rows; older ones go through the registers of warps that
    # each hold 64 x 64 results; those of lanes nearly as often (8 x 8 results a lane, 32 x 64 a warp).
    per_mma = (long_side + long_side / _MMA_ROWS * short_side) if asynchronous else long_side * short_side / 32
    shared = per_mma * depth * a_bytes / (0.9 * device.shared_bytes_per_cycle)
    operand_bytes = grid.rows * a_bytes + grid.columns * b_bytes
    shared_bytes = np.where(grid.rows >= grid.columns, grid.rows * a_bytes, grid.columns * b_bytes)
    fed_bytes = (operand_bytes - (1 - 1 / grid.cluster) * shared_bytes) * depth
    l2_bytes_per_cycle = device.l2_bytes_per_s / device.clock_hz / np.minimum(blocks, device.n_sms)
    feed = fed_bytes / np.minimum(parameters.feed_bytes_per_cycle, l2_bytes_per_cycle)
    step = np.maximum(np.maximum(tensor, shared), feed)
    if family.convert_weights:
        widened = np.ceil(grid.rows / _MMA_ROWS) * grid.columns * depth
        step = np.maximum(step, widened * parameters.convert_cycles / device.lanes)
    store = grid.rows * grid.columns * c_bytes / parameters.store_bytes_per_cycle
    waves = np.ceil(blocks / device.n_sms)
    beyond = np.maximum(grid.n_tiles / grid.tiles_across * grid.rows - grid.m, 0) / grid.tiles_down
    step += parameters.step_cycles + parameters.edge_cycles * beyond
    cycles = waves * (steps * step + store)
    return np.asarray(cycles / device.clock_hz)


def _memory_seconds(
    device: GpuDevice, family: GemmFamily, parameters: GemmParameters, grid: _Grid, shapes: GemmShapes
) -> NDArray[np.float64]:
    """Time of the DRAM traffic."""
    read, stored = _dram_bytes(device, family, parameters, grid, shapes)
    rate = device.dram_bytes_per_s * parameters.memory_share
    blocks = np.minimum(grid.n_tiles * grid.splits, device.n_sms)
    ramp = parameters.memory_ramp_us * 1e-6 * (1 - np.exp(-read / (rate * device.dram_latency_s * 4)))
    return np.asarray(read / np.minimum(rate, blocks * parameters.sm_memory_gb_per_s * 1e9) + stored / rate + ramp)


def _dram_bytes(
    device: GpuDevice, family: GemmFamily, parameters: GemmParameters, grid: _Grid, shapes: GemmShapes
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read: what is not in the L2 at the start, and what is read again; written: results that do not stay there."""
    a_bytes, b_bytes = family.activation_bits / 8, family.weight_bits / 8
    a, b = grid.m * grid.k * a_bytes, grid.n * grid.k * b_bytes
    c = grid.m * grid.n * family.result_bits / 8
    cache = device.l2_shared_bytes * parameters.cache_share
    traffic = shapes.traffic
    if traffic is not None:
        a, b = traffic.a_bytes[:, None], traffic.b_bytes[:, None]
        cold = a * traffic.a_missed[:, None] + b * traffic.b_missed[:, None]
        stored = c * traffic.c_missed[:, None]
    else:
        since = (a + b + c) * shapes.copies
        cold = a * miss_share(since, cache) + b * miss_share(since + (shapes.weight_copies - 1) * b, cache)
        stored = c * miss_share(since + c, cache)
    # The tiles of one wave, as a rectangle as square as C allows; the rest of A or of B is read again for each one.
    in_flight = np.minimum(grid.n_tiles, np.maximum(device.n_sms / grid.splits, 1))
    down = np.clip(np.sqrt(in_flight * grid.columns / grid.rows), 1, grid.tiles_down)
    across = np.clip(in_flight / down, 1, grid.tiles_across)
    down = np.clip(in_flight / across, 1, grid.tiles_down)
    again_a = a * (np.ceil(grid.tiles_across / across) - 1)
    again_b = b * (np.ceil(grid.tiles_down / down) - 1)
    again_a *= miss_share(2 * (a + across * grid.columns * grid.k * b_bytes), cache)
    again_b *= miss_share(2 * (b + down * grid.rows * grid.k * a_bytes), cache)
    read = cold + np.minimum(again_a, again_b)
    return read, stored


def _vector_times(
    device: GpuDevice, family: GemmFamily, parameters: GemmParameters, shapes: GemmShapes
) -> NDArray[np.float64]:
    """A few rows of A on the CUDA lanes: one multiply-add an element, weights streamed once."""
    m, n, k = (np.asarray(x, dtype=np.float64) for x in (shapes.m, shapes.n, shapes.k))
    weights = n * k * family.weight_bits / 8
    cache = device.l2_shared_bytes * parameters.cache_share
    touched = weights + m * k * family.activation_bits / 8
    missed = miss_share(touched * shapes.copies + weights * (shapes.weight_copies - 1), cache)
    missed = missed if shapes.traffic is None else shapes.traffic.b_missed
    blocks = np.minimum(np.ceil(n / 4), device.n_sms)
    rate = np.minimum(device.dram_bytes_per_s * parameters.memory_share, blocks * parameters.sm_memory_gb_per_s * 1e9)
    memory = weights * (missed / rate + (1 - missed) / device.l2_bytes_per_s) + parameters.memory_ramp_us * 1e-6
    convert = parameters.convert_cycles if family.convert_weights else 0.0
    compute = n * k * (m / family.vector_macs + convert) / (device.lanes * device.n_sms * device.clock_hz)
    return np.asarray(
        parameters.vector_launch_us * 1e-6
        + np.maximum(memory, compute)
        + parameters.overlap_loss * np.minimum(memory, compute)
    )


def _power_limited(
    device: GpuDevice,
    family: GemmFamily,
    parameters: GemmParameters,
    shapes: GemmShapes,
    seconds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Times under the power limit: a long product gets at most ``sustained_share`` of the tensor cores' rate."""
    macs = np.asarray(shapes.m, dtype=np.float64) * shapes.n * shapes.k
    rate = device.macs(family.multiply_format, older=family.older_products)
    busy = macs / (seconds * device.n_sms * device.clock_hz * rate)
    slower = np.maximum(busy / parameters.sustained_share, 1.0)
    weight = 1.0 if shapes.sustained else seconds / (seconds + _POWER_TIME_S)
    return np.asarray(seconds * (1 + weight * (slower - 1)))
