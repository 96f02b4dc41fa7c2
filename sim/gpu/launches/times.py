"""Seconds of the kernels of a network: products, attention and rows by calibrated families, others by bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from tilewright.hw_models.gpu.launches import LaunchFigures, MovingFigures
from tilewright.hw_models.gpu.parameters import (
    AttentionParameters,
    GemmParameters,
    RowwiseParameters,
    ScanParameters,
    StreamParameters,
)
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.attention import AttentionFamily, AttentionShapes, attention_forecast
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.families import GemmFamily
from tilewright.sim.gpu.gemm import GemmShapes, GemmTraffic, gemm_forecast
from tilewright.sim.gpu.launches.launch import AttentionShape, KernelClass, Launch, ProductShape, SequenceShape
from tilewright.sim.gpu.launches.residence import Found
from tilewright.sim.gpu.rowwise import RowwiseFamily, RowwiseShapes, rowwise_forecast
from tilewright.sim.gpu.scans import ScanFamily, scan_times
from tilewright.sim.gpu.streams import StreamFamily, conv_times, step_times

__all__ = ["KernelBound", "KernelTime", "Library", "kernel_times"]

KernelBound: TypeAlias = Literal["launch", "compute", "dram", "l2"]
_BOUNDS: tuple[KernelBound, ...] = ("launch", "compute", "dram")
SequenceFamily: TypeAlias = ScanFamily | StreamFamily
SequenceParameters: TypeAlias = ScanParameters | StreamParameters
_COLD = 1000  # sets of operands that rotate: nothing of them lies in the L2
_BLOCK_VALUES = 1024  # values that a thread block of an element-wise kernel works on


class KernelTime(NamedTuple):
    """Seconds of one kernel, what they go to, the family it is of, and its tile where the model chooses one.

    What it does in that time: multiply-adds in ``number_format`` (those of the launch), bytes over the DRAM's pins and
    between L2 and multiprocessors, operations of the CUDA lanes.
    """

    seconds: float
    bound: KernelBound
    family: str
    number_format: str
    dram_bytes: float
    l2_bytes: float
    lane_operations: float
    tile: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The families that time kernels: what a shape or class is done by, with its parameters on the device.

    ``rows``: element-wise and row-wise kernels by class. ``sequence``: None where no such kernel is calibrated.
    """

    product: Callable[[ProductShape], tuple[GemmFamily, GemmParameters]] = field(hash=False)
    attention: Callable[[AttentionShape], tuple[AttentionFamily, AttentionParameters]] = field(hash=False)
    rows: Callable[[KernelClass], tuple[RowwiseFamily, RowwiseParameters]] = field(hash=False)
    sequence: Callable[[SequenceShape], tuple[SequenceFamily, SequenceParameters] | None] = field(hash=False)


def kernel_times(
    device: GpuDevice,
    figures: LaunchFigures,
    library: Library,
    launches: Sequence[Launch],
    found: Sequence[Found],
    *,
    sustained: bool,
) -> tuple[KernelTime, ...]:
    """The time of each of ``launches`` alone, with what it has ``found`` in the L2 (no gaps between kernels).

    ``sustained``: they are part of work that goes on for so long that the power limit holds short ones back too.
    """
    times: list[KernelTime | None] = [None] * len(launches)
    products: dict[tuple[bool, str], list[int]] = {}
    for at, launch in enumerate(launches):
        if launch.product is not None:
            name = library.product(launch.product)[0].name
            products.setdefault((launch.kernel == "conv", name), []).append(at)
        elif launch.attention is not None:
            times[at] = _attention_time(device, library, launch, found[at], sustained=sustained)
        elif launch.sequence is not None and (chosen := library.sequence(launch.sequence)) is not None:
            times[at] = _sequence_time(device, *chosen, launch, launch.sequence, found[at])
        elif launch.kernel in figures.moving:
            times[at] = _moving_time(device, figures, figures.moving[launch.kernel], launch, found[at])
        else:
            time = _rows_time(device, library, launch, found[at])
            times[at] = _at_least_lanes(device, time, launch) if launch.kernel == "scan" else time
    for (is_conv, _), places in products.items():
        own = [launches[at] for at in places]
        states = [found[at] for at in places]
        timed = _product_times(device, figures, library, own, states, is_conv=is_conv, sustained=sustained)
        for at, time in zip(places, timed, strict=True):
            times[at] = time
    return tuple(time for time in times if time is not None)


def _product_times(
    device: GpuDevice,
    figures: LaunchFigures,
    library: Library,
    launches: Sequence[Launch],
    found: Sequence[Found],
    *,
    is_conv: bool,
    sustained: bool,
) -> list[KernelTime]:
    shapes = [launch.product for launch in launches if launch.product is not None]
    family, parameters = library.product(shapes[0])
    if is_conv:
        conv = figures.conv
        parameters = replace(
            parameters,
            launch_us=conv.launch_us,
            step_cycles=conv.step_cycles,
            feed_bytes_per_cycle=conv.feed_bytes_per_cycle,
        )
    uses = [launch.reads for launch in launches]
    given = GemmShapes(
        m=np.array([shape.groups * shape.m for shape in shapes]),
        n=np.array([shape.n for shape in shapes]),
        k=np.array([shape.moved_k for shape in shapes]),
        sustained=sustained,
        traffic=GemmTraffic(
            a_bytes=np.array([float(reads[0].n_bytes) for reads in uses]),
            b_bytes=np.array([float(sum(use.n_bytes for use in reads[1:])) for reads in uses]),
            a_missed=np.array([state.reads[0] for state in found]),
            b_missed=np.array([state.reads[1] if len(state.reads) > 1 else 0.0 for state in found]),
            c_missed=np.array([state.writes[0] for state in found]),
        ),
    )
    forecast = gemm_forecast(device, family, parameters, given)
    name = f"{family.name} convolution" if is_conv else family.name
    return [
        KernelTime(
            float(forecast.seconds[row]),
            _BOUNDS[int(forecast.bound[row])],
            name,
            family.multiply_format,
            *_done(forecast.activity, row),
            (("rows", tile.rows), ("columns", tile.columns), ("splits", tile.splits), ("cluster", tile.cluster)),
        )
        for row, tile in enumerate(forecast.tile)
    ]


def _attention_time(
    device: GpuDevice, library: Library, launch: Launch, found: Found, *, sustained: bool
) -> KernelTime:
    """Between the times with all operands in the L2 and with none, by the share of them that is not there."""
    shape = launch.attention
    assert shape is not None
    family, parameters = library.attention(shape)
    columns = ("batch", "queries", "keys", "heads", "kv_heads", "head_dim", "window")
    arrays = {name: np.array([getattr(shape, name)]) for name in columns}
    cold, warm = (
        attention_forecast(
            device,
            family,
            parameters,
            AttentionShapes(
                batch=arrays["batch"],
                queries=arrays["queries"],
                keys=arrays["keys"],
                heads=arrays["heads"],
                kv_heads=arrays["kv_heads"],
                head_dim=arrays["head_dim"],
                window=arrays["window"],
                cache_bits=shape.cache_bits,
                copies=copies,
                sustained=sustained,
            ),
        )
        for copies in (_COLD, 1)
    )
    share = found.read_bytes(launch) / max(1, launch.read_bytes)
    seconds, warm_seconds = float(cold.seconds[0]), float(warm.seconds[0])
    seconds = seconds if share == 1 else share * seconds + (1 - share) * warm_seconds
    dram, l2, lanes = _done(cold.activity, 0)
    crossing = dram if share == 1 else min(dram, found.read_bytes(launch) + found.write_bytes(launch))
    bound = _BOUNDS[int(cold.bound[0])]
    return KernelTime(seconds, bound, family.name, family.multiply_format, crossing, l2, lanes)


def _sequence_time(
    device: GpuDevice,
    family: SequenceFamily,
    parameters: SequenceParameters,
    launch: Launch,
    shape: SequenceShape,
    found: Found,
) -> KernelTime:
    """By its closed form, which holds with operands just touched; at least the DRAM's time for what is not there."""
    columns = {name: np.array([float(size)]) for name, size in shape.columns}
    if isinstance(family, ScanFamily) and isinstance(parameters, ScanParameters):
        seconds, bound = scan_times(device, family, parameters, columns)
    elif isinstance(family, StreamFamily) and isinstance(parameters, StreamParameters):
        timed = conv_times if shape.operator == "short_conv" else step_times
        seconds, bound = timed(device, family, parameters, columns)
    else:
        raise AssertionError(shape.operator)
    crossing = found.read_bytes(launch) + found.write_bytes(launch)
    moved = float(launch.read_bytes + launch.write_bytes)
    operations = float(sum(n for _, n in launch.operations))
    dram = crossing / device.dram_bytes_per_s
    limit = "dram" if dram > seconds[0] else _BOUNDS[int(bound[0])]
    return KernelTime(
        max(float(seconds[0]), dram), limit, family.name, "bf16" if launch.macs else "", crossing, moved, operations
    )


def _rows_time(device: GpuDevice, library: Library, launch: Launch, found: Found) -> KernelTime:
    """A calibrated element-wise or row-wise kernel, with the bytes that this one moves for each value."""
    family, parameters = library.rows(launch.kernel)
    moved = launch.read_bytes + launch.write_bytes
    if launch.rows is None:
        values = max(1.0, moved / (family.read_bytes + family.write_bytes))
        shape = (max(1, round(values / _BLOCK_VALUES)), min(_BLOCK_VALUES, round(values)))
    else:
        shape = launch.rows
    per_value = 1 / (shape[0] * shape[1])
    family = replace(family, read_bytes=launch.read_bytes * per_value, write_bytes=launch.write_bytes * per_value)
    crossing = found.read_bytes(launch) + found.write_bytes(launch)
    missed = np.array([crossing / moved if moved else 0.0])
    forecast = rowwise_forecast(
        device, family, parameters, RowwiseShapes(m=np.array([shape[0]]), n=np.array([shape[1]]), missed=missed)
    )
    bound = _BOUNDS[int(forecast.bound[0])]
    bound = "l2" if bound == "dram" and missed[0] < 1 and _is_l2(device, parameters, crossing, moved) else bound
    lanes = _lane_seconds(device, launch)
    if lanes > forecast.seconds[0]:  # few multiprocessors behind a fast memory: a device whose figures are another's
        bound = "compute"
    seconds = max(lanes, float(forecast.seconds[0]))
    return KernelTime(seconds, bound, family.name, "", *_done(forecast.activity, 0))


def _at_least_lanes(device: GpuDevice, time: KernelTime, launch: Launch) -> KernelTime:
    """A scan without a calibrated kernel takes no less than its operations on the CUDA lanes."""
    lanes = _lane_seconds(device, launch)
    operations = float(sum(n for _, n in launch.operations))
    time = time._replace(lane_operations=max(time.lane_operations, operations))
    return time._replace(seconds=lanes, bound="compute") if lanes > time.seconds else time


def _is_l2(device: GpuDevice, parameters: RowwiseParameters, crossing: float, moved: float) -> bool:
    """Whether the L2 takes longer to deliver its part than the DRAM the other."""
    dram = crossing / (device.dram_bytes_per_s * parameters.memory_share)
    return (moved - crossing) / device.l2_bytes_per_s > dram


def _moving_time(
    device: GpuDevice, figures: LaunchFigures, own: MovingFigures, launch: Launch, found: Found
) -> KernelTime:
    """A kernel without a calibrated family: the DRAM, the L2, its own pace, or the lanes, whichever takes longest."""
    crossing = found.read_bytes(launch) + found.write_bytes(launch)
    moved = launch.read_bytes + launch.write_bytes
    dram = crossing / (device.dram_bytes_per_s * figures.memory_share)
    each_cycle = device.n_sms * device.clock_hz
    through = moved / (each_cycle * own.bytes_per_cycle) if own.bytes_per_cycle else 0.0
    l2 = (moved - crossing) / device.l2_bytes_per_s
    lanes = _lane_seconds(device, launch)
    if own.taps_per_cycle:
        taps = sum(n for kind, n in launch.operations if kind == "mul")
        lanes = max(lanes, taps / (each_cycle * own.taps_per_cycle))
    launched = own.launch_us * 1e-6
    parts: dict[KernelBound, float] = {"dram": dram, "l2": max(l2, through), "compute": lanes}
    bound = max(parts, key=lambda name: parts[name])
    longest = parts[bound]
    operations = float(sum(n for _, n in launch.operations))
    bound = bound if longest > launched else "launch"
    return KernelTime(launched + longest, bound, launch.kernel, "", crossing, float(moved), operations)


def _lane_seconds(device: GpuDevice, launch: Launch) -> float:
    """Operations of the CUDA lanes: exponentials and quotients on the special-function units, others on all lanes."""
    slow = sum(n for kind, n in launch.operations if kind in ("exp", "div"))
    quick = sum(n for kind, n in launch.operations if kind not in ("exp", "div"))
    cycles = slow / device.exp_per_cycle + quick / device.lanes
    return cycles / (device.n_sms * device.clock_hz)


def _done(activity: Activity, row: int) -> tuple[float, float, float]:
    """Bytes over the DRAM's pins, between L2 and multiprocessors, and lane operations of a kernel."""
    return float(activity.dram_bytes[row]), float(activity.l2_bytes[row]), float(activity.lane_operations[row])
