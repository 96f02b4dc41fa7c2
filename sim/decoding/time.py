"""Seconds and joules of one step of decoding on a machine: bytes by the memory, products and unpacking by the units.

For each kind of product the longest of bytes over the bandwidth, multiply-adds over the multipliers' rate and
instructions that unpack narrow weights over the lanes' rate; caches likewise; a launch for each kernel; the logits over
the link to the host. Nothing here is fitted to a measurement of decoding. How much of its bandwidth a memory sustains
is one figure for a class of devices: of GPUs with CUDA what bf16 products on an A100 reach (the calibration of their
kernels), of all else the ``dram.sustained_share`` of the machine's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from tilewright.formats import number_format
from tilewright.hw_models.gpu.calibration import load_calibration
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.decoding.work import StepWork
from tilewright.workloads.language.runtimes import Runtime

__all__ = ["GPU_SHARE_FROM", "DecodeRates", "StepTime", "gpu_share", "rates_of", "step_time"]

#: The device whose calibration says what share of its bandwidth a GPU's memory sustains.
GPU_SHARE_FROM = "a100"
_WIDE = ("fp16", "bf16", "fp32", "int8")


@cache
def gpu_share() -> float:
    """Share of the data sheet's bandwidth that products reach on a GPU (bf16 on an A100, calibrated on its tables)."""
    return load_calibration(GPU_SHARE_FROM).family("gemm", "bf16").parameters["memory_share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRates:
    """What a machine can do for a step.

    ``bytes_per_s`` sustained, ``share`` of the data sheet's; ``macs_per_s`` of its multipliers in 16 bits;
    ``lanes_per_s`` operations of 32-bit lanes; ``on_processor``: how many times as many a processor takes as one
    with dot products of int8 (0: a GPU). ``launch_s`` of one kernel behind another, ``step_s`` once a step;
    ``link_bytes_per_s`` and ``link_start_s`` to the host (0: none).
    """

    machine: str
    bytes_per_s: float
    share: float
    macs_per_s: float
    lanes_per_s: float
    on_processor: float
    launch_s: float
    step_s: float
    link_bytes_per_s: float
    link_start_s: float


def rates_of(machine: MachineSpec) -> DecodeRates:
    """The rates of ``machine``. Launches take ``overheads.per_layer_us``, on a GPU without that ``gpu.launch_us``."""
    gpu = machine.gpu
    share = machine.dram.sustained_share * (gpu_share() if gpu is not None else 1.0)
    clock = machine.clock_ghz * 1e9
    known = machine.matrix.multiplies_per_pe_per_cycle
    wide = next((name for name in _WIDE if name in known), None) or max(known, key=lambda name: known[name])
    launch_us = machine.overheads.per_layer_us or (gpu.launch_us if gpu is not None else 0.0)
    host = machine.host
    return DecodeRates(
        machine=machine.name,
        bytes_per_s=machine.dram.bandwidth_gb_per_s * 1e9 * share,
        share=share,
        macs_per_s=float(machine.matrix.n_multipliers) * known[wide] * machine.n_cores * clock,
        lanes_per_s=float(machine.vector.lanes * machine.n_cores) * clock,
        on_processor=_on_processor(machine),
        launch_s=launch_us * 1e-6,
        step_s=machine.overheads.per_inference_us * 1e-6,
        link_bytes_per_s=0.0 if host is None else host.bandwidth_gb_per_s * 1e9,
        link_start_s=0.0 if host is None else host.per_transfer_us * 1e-6,
    )


def _on_processor(machine: MachineSpec) -> float:
    """0 for a GPU, whose lanes multiply; of a processor how many times as long as with dot products of four int8."""
    block, columns = machine.matrix.block, machine.matrix.rows * machine.matrix.columns
    if machine.gpu is not None or block is None or columns == machine.vector.lanes > 16:
        return 0.0
    return 4 / min(block.depth, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """``seconds`` of a step of ``batch`` tokens by what they go to, ``joules`` by part, ``limited_by`` the largest."""

    batch: int
    seconds_by_part: Mapping[str, float] = field(hash=False)
    joules_by_part: Mapping[str, float] = field(hash=False)
    limited_by: str

    @property
    def seconds(self) -> float:
        """Of the step."""
        return sum(self.seconds_by_part.values())

    @property
    def joules(self) -> float:
        """Of the step."""
        return sum(self.joules_by_part.values())

    @property
    def tokens_per_s(self) -> float:
        """Of all sequences together."""
        return self.batch / self.seconds

    @property
    def joules_per_token(self) -> float:
        """Of one token."""
        return self.joules / self.batch

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


def step_time(
    work: StepWork, machine: MachineSpec, runtime: Runtime, *, launches: int, host_w: float = 0.0
) -> StepTime:
    """Time and energy of ``work`` on ``machine`` with ``launches`` kernels; ``host_w``: power of what is around it."""
    rates = rates_of(machine)
    limits = {"memory": 0.0, "multipliers": 0.0, "unpacking": 0.0}
    slots = runtime.processor_operations * rates.on_processor or runtime.lane_operations
    as_stored = work.batch > 1 and work.element in machine.matrix.multiplies_per_pe_per_cycle
    as_stored = as_stored and number_format(work.element).kind == "float"
    each_row = work.batch > 1 and runtime.unpacks_each_row and machine.gpu is not None
    lanes = 0.0
    for part in work.parts:
        turned = part.macs if each_row else part.n_weights
        unpacked = turned * slots if part.narrow and not as_stored else 0.0
        # A matrix-vector kernel of one sequence multiplies on the lanes; a batch has rows enough for the multipliers.
        on_lanes = unpacked if part.narrow else part.macs if work.batch == 1 else 0.0
        multiplied = part.macs / rates.macs_per_s if work.batch > 1 else 0.0
        _add(limits, part.n_bytes / rates.bytes_per_s, multiplied, on_lanes / rates.lanes_per_s)
        lanes += on_lanes
    read = (work.cache_read + work.cache_written) / rates.bytes_per_s
    unpacked = work.cache_values * slots if work.cache_narrow else 0.0
    on_lanes = unpacked + work.attention_macs
    _add(limits, read, 0.0, on_lanes / rates.lanes_per_s)
    lanes += on_lanes
    seconds = {**limits, "launches": launches * rates.launch_s, "step": rates.step_s}
    if rates.link_bytes_per_s:
        seconds["link"] = work.logits_bytes / rates.link_bytes_per_s + rates.link_start_s
    return StepTime(
        batch=work.batch,
        seconds_by_part=seconds,
        joules_by_part=_joules(work, machine, lanes, sum(seconds.values()), host_w),
        limited_by=max(seconds, key=lambda name: seconds[name]),
    )


def _add(limits: dict[str, float], memory: float, multipliers: float, unpacking: float) -> None:
    """The longest of the three to what it is."""
    parts = {"memory": memory, "multipliers": multipliers, "unpacking": unpacking}
    longest = max(parts, key=lambda name: parts[name])
    limits[longest] += parts[longest]


def _joules(work: StepWork, machine: MachineSpec, lanes: float, seconds: float, host_w: float) -> dict[str, float]:
    """Power that flows all the time, bytes through memory and the last buffer before it, instructions of lanes."""
    energy = machine.energy
    static_w = (energy.static_mw + energy.dram_background_mw) * 1e-3
    buffer = machine.buffers[-1].name
    operation = (energy.vector_pj["add"] + energy.vector_pj["mul"]) / 2
    macs = sum(part.macs for part in work.parts) if work.batch > 1 else 0.0
    known = energy.multiply_accumulate_pj
    wide = next((name for name in _WIDE if name in known), None) or max(known, key=lambda name: known[name])
    return {
        "static": static_w * seconds,
        "host": host_w * seconds,
        "dram": work.n_bytes * energy.dram_read_pj_per_byte * 1e-12,
        "buffers": work.n_bytes * energy.buffer_read_pj_per_byte[buffer] * 1e-12,
        "lanes": lanes * operation * 1e-12,
        "multipliers": macs * known[wide] * 1e-12,
    }
