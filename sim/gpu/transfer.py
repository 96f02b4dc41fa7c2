"""What of a calibration goes along to another GPU, and how: by the two devices' published figures.

Parameters were fitted on one device. On another one, times that take cycles follow the clock, times that wait for the
memory its latency, the launch the shortest kernel, and the tensor cores' sustained share the power that is left for
them. Products that work on shared memory by themselves (Hopper) hide the latency of a step that older ones leave over.
Shares and bytes a cycle stay what they are. Nothing here is fitted to a target device.
"""

from __future__ import annotations

from dataclasses import fields, replace

from tilewright.hw_models.gpu.parameters import (
    AttentionParameters,
    ExpertsParameters,
    GemmParameters,
    LatentParameters,
    RowListParameters,
    RowwiseParameters,
    ScanParameters,
    StreamParameters,
)
from tilewright.sim.gpu.device import GpuDevice

__all__ = ["transferred"]

Parameters = (
    GemmParameters
    | AttentionParameters
    | RowwiseParameters
    | ExpertsParameters
    | LatentParameters
    | ScanParameters
    | StreamParameters
    | RowListParameters
)

_LEAST_LAUNCH_US = 0.5
#: Latency that a step of older products leaves over, as a share of that of the DRAM: 231 of 560 cycles in a product on
#: an A100, 680 and 940 in a block of attention.
_STEP_SHARE, _BLOCK_SHARE = 0.41, 1.2
#: What is bounded in a parameter (``hw_models/gpu/parameters.py``).
_LEAST_SUSTAINED, _MOST_SUSTAINED = 0.3, 1.0
_MOST_LOSS = 0.7
_MOST_OF_A_TIME = 2000.0
#: What asynchronous products and loads leave of the part that is not hidden: FlashAttention-3's ablation (arXiv
#: 2407.08608: 661 TFLOP/s, 570 without), at a width of 128, where softmax takes nine tenths of the products' time.
_OVERLAP = 0.7


def transferred(
    parameters: Parameters,
    source: GpuDevice,
    target: GpuDevice,
    *,
    hides_steps: tuple[bool, bool] = (True, True),
    alone: bool = False,
) -> Parameters:
    """``parameters`` of ``source`` on ``target``; the same where the devices are.

    ``hides_steps``: whether the kernels that were measured and those that are to be timed use products that work by
    themselves, where their device has such. ``alone``: a call is one kernel in a graph, so that its launch beyond the
    device's shortest takes cycles; else it holds what a framework does.
    """
    if source == target:
        return parameters
    clock = source.clock_hz / target.clock_hz
    latency = target.dram_latency_s / source.dram_latency_s
    if isinstance(parameters, LatentParameters):
        return replace(parameters, tile_us=parameters.tile_us * latency)
    if isinstance(parameters, (ScanParameters, StreamParameters, RowListParameters)):
        return _by_clock(parameters, clock)
    launch = _launch_us(parameters.launch_us, source, target, clock if alone else 1.0)
    if isinstance(parameters, RowwiseParameters):
        return replace(
            parameters,
            launch_us=launch,
            memory_ramp_us=parameters.memory_ramp_us * latency,
            sm_memory_gb_per_s=parameters.sm_memory_gb_per_s / latency,
            row_us=parameters.row_us * clock,
            step_us=parameters.step_us * latency,
        )
    hid = hides_steps[0] and source.asynchronous_products
    hides = hides_steps[1] and target.asynchronous_products
    overlap = 1.0 if hid == hides else _OVERLAP if hides else 1 / _OVERLAP
    if isinstance(parameters, ExpertsParameters):
        return replace(
            parameters,
            launch_us=launch,
            sm_memory_gb_per_s=parameters.sm_memory_gb_per_s / latency,
            overlap_loss=min(parameters.overlap_loss * overlap, _MOST_LOSS),
        )
    rate = source.n_sms * source.clock_hz / (target.n_sms * target.clock_hz)
    sustained = _sustained_share(parameters.sustained_share, source, target)
    latency_cycles = target.dram_latency_s * target.clock_hz
    if isinstance(parameters, GemmParameters):
        return replace(
            parameters,
            launch_us=launch,
            memory_ramp_us=parameters.memory_ramp_us * latency,
            sm_memory_gb_per_s=parameters.sm_memory_gb_per_s / latency,
            step_cycles=_left_over(parameters.step_cycles, hid, hides, _STEP_SHARE * latency_cycles),
            overlap_loss=min(parameters.overlap_loss * overlap, _MOST_LOSS),
            sustained_share=sustained,
            vector_launch_us=parameters.vector_launch_us * clock,
            quantise_row_ns=parameters.quantise_row_ns * rate,
            quantise_chunk_ns=parameters.quantise_chunk_ns * rate,
        )
    return replace(
        parameters,
        launch_us=launch,
        overlap_loss=min(parameters.overlap_loss * overlap, 1.0),
        tile_us=parameters.tile_us * latency,
        block_cycles=_left_over(parameters.block_cycles, hid, hides, _BLOCK_SHARE * latency_cycles),
        sm_memory_gb_per_s=parameters.sm_memory_gb_per_s / latency,
        fill_gb_per_s=min(parameters.fill_gb_per_s / rate, target.dram_bytes_per_s * 1e-9),
        sustained_share=sustained,
    )


def _by_clock(
    parameters: ScanParameters | StreamParameters | RowListParameters, clock: float
) -> ScanParameters | StreamParameters | RowListParameters:
    """Every time of a multiprocessor's own in cycles; launches are chains of kernels, of cycles too."""
    times = {
        each.name: min(getattr(parameters, each.name) * clock, _MOST_OF_A_TIME)
        for each in fields(parameters)
        if each.name.endswith(("_us", "_ns"))
    }
    if isinstance(parameters, StreamParameters):
        times["sm_gb_per_s"] = parameters.sm_gb_per_s / clock
    return replace(parameters, **times)


def _launch_us(launch_us: float, source: GpuDevice, target: GpuDevice, more: float) -> float:
    """The target's shortest launch and what is beyond it, times ``more``; a shorter one in the launches' ratio."""
    beyond = launch_us - source.launch_s * 1e6
    moved = target.launch_s * 1e6 + beyond * more
    if beyond < 0 and source.launch_s:
        moved = launch_us * target.launch_s / source.launch_s
    return max(moved, _LEAST_LAUNCH_US)


def _left_over(cycles: float, hid: bool, hides: bool, otherwise: float) -> float:
    """Latency cycles of a step: those measured where the kernels are of one kind, none where they are hidden now."""
    if hid == hides:
        return cycles
    return 0.0 if hides else max(cycles, otherwise)


def _sustained_share(share: float, source: GpuDevice, target: GpuDevice) -> float:
    """The share of the tensor cores' rate that the power leaves, with the energies of the two machines' files.

    Under the limits of the boards as they come: another limit is what :mod:`tilewright.sim.gpu.power` is about.
    """
    there, here = _product_watts(source), _product_watts(target)
    if not there or not here:
        return share
    left = _watts_for_work(target) / _watts_for_work(source)
    return min(max(share * left * there / here, _LEAST_SUSTAINED), _MOST_SUSTAINED)


def _watts_for_work(device: GpuDevice) -> float:
    return max(device.power.limit_w - device.power.parameters.static_w, 1.0)


def _product_watts(device: GpuDevice) -> float:
    """Power of all tensor cores at the highest clock, by the energies of the machine's file."""
    rates = device.macs_per_cycle
    number_format = "bf16" if "bf16" in rates else next(iter(rates))
    macs_per_s = rates[number_format] * device.n_sms * device.clock_hz
    return macs_per_s * device.power.parameters.of_format(number_format) * 1e-12
