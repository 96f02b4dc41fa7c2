"""The figures of a GPU machine that the kernel models calculate with, in bytes, seconds and cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tilewright.errors import InputError
from tilewright.hw_models.gpu.power import PowerSpec, power_of_machine
from tilewright.hw_models.gpu.spec import GpuSpec
from tilewright.hw_models.load import load_machine, machine_names
from tilewright.hw_models.spec import MachineSpec
from tilewright.units import KIB

__all__ = ["GpuDevice", "gpu_device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDevice:
    """A GPU in numbers. ``clock_hz`` is the highest clock; ``macs_per_cycle`` of one multiprocessor's tensor cores, by
    format, ``tf32_per_cycle`` those of fp32 operands that are rounded to tf32 on the way (0: none).

    ``l2_shared_bytes``: what the L2 holds of data that many multiprocessors read; of data that one reads it holds
    ``l2_bytes``. ``launch_s``: the shortest kernel in a graph.
    ``power_limit_w`` of the board; ``power``: the energy of work as the machine's file has it; ``boards``: names of
    machines whose measured energy is this one's, nearest first.
    """

    name: str
    n_sms: int
    clock_hz: float
    macs_per_cycle: Mapping[str, float] = field(hash=False)
    tf32_per_cycle: float
    older_products_share: float
    asynchronous_products: bool
    lanes: int
    exp_per_cycle: float
    shared_bytes: float
    shared_bytes_per_cycle: float
    l2_bytes: float
    l2_shared_bytes: float
    l2_bytes_per_s: float
    dram_bytes_per_s: float
    dram_latency_s: float
    cluster_size: int
    launch_s: float
    power_limit_w: float
    power: PowerSpec = field(hash=False)
    boards: tuple[str, ...]

    def macs(self, number_format: str, *, older: bool = False) -> float:
        """Multiply-adds a multiprocessor starts in a cycle; ``older``: with the generation before's instructions.

        fp32 is multiplied on the CUDA lanes, one multiply-add each, where the tensor cores have no rate for it.
        """
        rates = dict(self.macs_per_cycle)
        if self.tf32_per_cycle:
            rates.setdefault("tf32", self.tf32_per_cycle)
        if number_format == "fp32" and "fp32" not in rates:
            return float(self.lanes)
        if number_format not in rates:
            raise InputError(f"{self.name}: cannot multiply {number_format}; allowed {', '.join(sorted(rates))}")
        return rates[number_format] * (self.older_products_share if older else 1.0)


def gpu_device(machine: MachineSpec) -> GpuDevice:
    """The figures of ``machine``; raises :class:`InputError` where it is no GPU (has no section ``gpu``)."""
    gpu = machine.gpu
    if gpu is None:
        raise InputError(f"{machine.name}: is not a GPU (no section gpu); allowed for example h200, a100")
    l2 = machine.buffer("l2")
    clock_hz = gpu.clock_max_ghz * 1e9
    multipliers = float(machine.matrix.n_multipliers)
    rates = {name: rate * multipliers for name, rate in machine.matrix.multiplies_per_pe_per_cycle.items()}
    return GpuDevice(
        name=machine.name,
        n_sms=machine.n_cores,
        clock_hz=clock_hz,
        macs_per_cycle=rates,
        tf32_per_cycle=gpu.tf32_share * rates.get("bf16", rates.get("fp16", 0.0)),
        older_products_share=gpu.older_products_share,
        asynchronous_products=gpu.asynchronous_products,
        lanes=machine.vector.lanes,
        exp_per_cycle=machine.vector.lanes / max(machine.vector.cycles["exp"], 1),
        shared_bytes=machine.working_buffer.capacity_kib * KIB,
        shared_bytes_per_cycle=machine.working_buffer.read_bytes_per_cycle or 128.0,
        l2_bytes=l2.capacity_kib * KIB,
        l2_shared_bytes=l2.capacity_kib * KIB / gpu.l2_copies,
        l2_bytes_per_s=_l2_bytes_per_s(gpu, l2.capacity_kib * KIB, clock_hz),
        dram_bytes_per_s=machine.dram.bandwidth_gb_per_s * machine.dram.sustained_share * 1e9,
        dram_latency_s=gpu.dram_latency_cycles / clock_hz,
        cluster_size=gpu.cluster_size,
        launch_s=gpu.launch_us * 1e-6,
        power_limit_w=gpu.power_limit_w,
        power=power_of_machine(machine, _usual_limit_w(machine, gpu)),
        boards=_boards(machine, gpu),
    )


def _boards(machine: MachineSpec, gpu: GpuSpec) -> tuple[str, ...]:
    """The machine, and the one whose kernels stand in for its own, where that one has the same multiprocessors."""
    like = gpu.calibrated_as
    if like is None or like not in machine_names() or load_machine(like).n_cores != machine.n_cores:
        return (machine.base_name,)
    return machine.base_name, like


def _usual_limit_w(machine: MachineSpec, gpu: GpuSpec) -> float:
    """The limit under which such kernels were timed: that of the file that comes with Tilewright, where it is one."""
    if machine.base_name not in machine_names():
        return gpu.power_limit_w
    usual = load_machine(machine.base_name).gpu
    return gpu.power_limit_w if usual is None else usual.power_limit_w


def _l2_bytes_per_s(gpu: GpuSpec, capacity_bytes: float, clock_hz: float) -> float:
    """L2 read bandwidth: measured with a quarter of the cache as working set, else its rate by the data sheet."""
    if not gpu.l2_read:
        return (gpu.l2_bytes_per_cycle or 0.0) * clock_hz
    nearest = min(gpu.l2_read, key=lambda point: abs(point.working_set_mb * 1e6 - capacity_bytes / 4))
    return nearest.read_tb_per_s * 1e12
