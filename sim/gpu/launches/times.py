"""Seconds of the kernels of a network: products and attention by calibrated families, others by bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from tilewright.hw_models.gpu.launches import LaunchFigures
from tilewright.hw_models.gpu.parameters import AttentionParameters, GemmParameters
from tilewright.sim.gpu.attention import AttentionFamily, AttentionShapes, attention_forecast
from tilewright.sim.gpu.device import GpuDevice
from tilewright.sim.gpu.families import GemmFamily
from tilewright.sim.gpu.gemm import GemmShapes, GemmTraffic, gemm_forecast
from tilewright.sim.gpu.launches.launch import AttentionShape, Launch, ProductShape
from tilewright.sim.gpu.launches.residence import Found

__all__ = ["KernelBound", "KernelTime", "Library", "kernel_times"]

KernelBound: TypeAlias = Literal["launch", "compute", "dram", "l2"]
_BOUNDS: tuple[KernelBound, ...] = ("launch", "compute", "dram")
_COLD = 1000  # sets of operands that rotate: nothing of them lies in the L2


class KernelTime(NamedTuple):
    """Seconds of one kernel, what they go to, the family it is of, and its tile where the model chooses one."""

    seconds: float
    bound: KernelBound
    family: str
    tile: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The families that time products and attentions: what a shape is done by, with its parameters on the device."""

    product: Callable[[ProductShape], tuple[GemmFamily, GemmParameters]] = field(hash=False)
    attention: Callable[[AttentionShape], tuple[AttentionFamily, AttentionParameters]] = field(hash=False)


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
            times[at] = _attention_time(device, library, launch, found[at])
        else:
            times[at] = _moving_time(device, figures, launch, found[at])
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
        sustained=sustained,
        k=np.array([shape.moved_k for shape in shapes]),
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
            float(seconds),
            _BOUNDS[int(bound)],
            name,
            (("rows", tile.rows), ("columns", tile.columns), ("splits", tile.splits), ("cluster", tile.cluster)),
        )
        for seconds, bound, tile in zip(forecast.seconds, forecast.bound, forecast.tile, strict=True)
    ]


def _attention_time(device: GpuDevice, library: Library, launch: Launch, found: Found) -> KernelTime:
    """Between the times with all operands in the L2 and with none, by the share of them that is not there."""
    shape = launch.attention
    assert shape is not None
    family, parameters = library.attention(shape)
    columns = ("batch", "queries", "keys", "heads", "kv_heads", "head_dim", "window")
    arrays = {name: np.array([getattr(shape, name)]) for name in columns}
    share = found.read_bytes(launch) / max(1, launch.read_bytes)
    ends = [
        attention_forecast(
            device, family, parameters, AttentionShapes(**arrays, cache_bits=shape.cache_bits, copies=copies)
        )
        for copies in (_COLD, 1)
    ]
    cold, warm = (float(one.seconds[0]) for one in ends)
    seconds = cold if share == 1 else share * cold + (1 - share) * warm
    return KernelTime(seconds, _BOUNDS[int(ends[0].bound[0])], family.name)


def _moving_time(device: GpuDevice, figures: LaunchFigures, launch: Launch, found: Found) -> KernelTime:
    own = figures.of(launch.kernel)
    crossing = found.read_bytes(launch) + found.write_bytes(launch)
    moved = launch.read_bytes + launch.write_bytes
    dram = crossing / (device.dram_bytes_per_s * figures.memory_share)
    through = moved / (device.n_sms * device.clock_hz * own.bytes_per_cycle)
    l2 = (moved - crossing) / device.l2_bytes_per_s
    lanes = _lane_seconds(device, launch)
    launched = own.launch_us * 1e-6
    parts: dict[KernelBound, float] = {"dram": dram, "l2": max(l2, through), "compute": lanes}
    bound = max(parts, key=lambda name: parts[name])
    longest = parts[bound]
    return KernelTime(launched + longest, bound if longest > launched else "launch", launch.kernel)


def _lane_seconds(device: GpuDevice, launch: Launch) -> float:
    """Operations of the CUDA lanes: exponentials and quotients on the special-function units, others on all lanes."""
    slow = sum(n for kind, n in launch.operations if kind in ("exp", "div"))
    quick = sum(n for kind, n in launch.operations if kind not in ("exp", "div"))
    cycles = slow / device.exp_per_cycle + quick / device.lanes
    return cycles / (device.n_sms * device.clock_hz)
