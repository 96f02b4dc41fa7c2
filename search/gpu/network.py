"""A whole network on a GPU as its library kernels: one after the other, each with what the L2 still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from tilewright.formats import element_format, format_bits
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.gpu.launches import LaunchFigures, launch_figures_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.kernel_options import KernelOptions
from tilewright.search.gpu.library import LibraryOfMachine
from tilewright.sim.figures import Figures, figures_of
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.launches import fused, unfused
from tilewright.sim.gpu.launches.launch import Launch
from tilewright.sim.gpu.launches.residence import ASSUMPTION as IN_CACHE
from tilewright.sim.gpu.launches.residence import Found, found_in_cache
from tilewright.sim.gpu.launches.times import KernelTime, kernel_times
from tilewright.sim.network_result import KernelRun, NetworkResult, OperatorResult
from tilewright.sim.result import LowerBound
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["ENERGY", "Timed", "library_network", "time_launches", "timed_operator"]

ENERGY = (
    "energy: multiply-adds, operations of the CUDA lanes, bytes through L2 and DRAM, and static power over the time; "
    "what stays inside a multiprocessor is in the figure of a multiply-add"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A kernel as it ran: what it found in the L2, its time, and seconds from the end of the one before to its own."""

    launch: Launch
    found: Found
    time: KernelTime
    seconds: float

    @property
    def read_bytes(self) -> int:
        """From DRAM."""
        return round(self.found.read_bytes(self.launch))

    @property
    def write_bytes(self) -> int:
        """To DRAM."""
        return round(self.found.write_bytes(self.launch))


def library_network(
    stream: OperatorStream,
    machine: MachineSpec,
    options: KernelOptions,
    *,
    objective: str = "latency",
    free_launches: bool = False,
) -> NetworkResult:
    """``stream`` on the GPU ``machine`` as library kernels. ``free_launches``: were they launched in no time.

    Raises InputError for a machine without calibrated kernels, and for formats that it cannot multiply.
    """
    maker = fused if options.kernels == "fused" else unfused
    launches = fused.fused_launches(stream) if maker is fused else unfused.unfused_launches(stream)
    library = LibraryOfMachine(machine, free_launches=free_launches)
    figures, device = launch_figures_of(machine), gpu_device(machine)
    figures = figures.without_launches() if free_launches else figures
    found = found_in_cache(launches, device.l2_bytes * figures.cache_share)
    kernels = time_launches(device, figures, library, launches, found, launch=options.launch)
    operators = _operators(stream, machine, kernels)
    seconds = sum(one.seconds for one in kernels)
    cycles = sum(operator.cycles for operator in operators)
    counters = sum((_counters(machine, one) for one in kernels), Counters())
    assumptions = (
        f"kernels: {options.kernels} library kernels, timed by calibrated models of them, not the engine's schedules",
        *maker.ASSUMPTIONS,
        _launched(options.launch, figures),
        IN_CACHE,
        *_stand_ins(machine, figures),
        *library.notes,
        ENERGY,
    )
    return NetworkResult(
        network=stream.name,
        machine=machine.name,
        operators=operators,
        figures=_figures(machine, counters, cycles, seconds),
        macs=stream.macs,
        weight_bytes=stream.weight_bytes,
        n_steps=stream.n_steps,
        n_distinct=len({(one.launch.kernel, one.time) for one in kernels}),
        prefetch=False,
        cycles_without_prefetch=cycles,
        assumptions=assumptions,
        objective=objective,
        kernels=options.kernels,
        launch=options.launch,
        stream=stream,
        machine_spec=machine,
    )


def time_launches(
    device: GpuDevice,
    figures: LaunchFigures,
    library: LibraryOfMachine,
    launches: Sequence[Launch],
    found: Sequence[Found],
    *,
    launch: str,
    sustained: bool = True,
) -> tuple[Timed, ...]:
    """The kernels one after the other; with the host launching each, none begins before the host has come to it."""
    times = kernel_times(device, figures, library.kernels(), launches, found, sustained=sustained)
    end, at_host = 0.0, 0.0
    done: list[Timed] = []
    for one, state, time in zip(launches, found, times, strict=True):
        at_host += figures.host_us * 1e-6
        start = end + figures.gap_us * 1e-6 if done else end
        start = max(start, at_host) if launch == "host" else start
        took = start - end + time.seconds
        done.append(Timed(launch=one, found=state, time=time, seconds=took))
        end += took
    return tuple(done)


def _launched(launch: str, figures: LaunchFigures) -> str:
    if launch == "graph":
        return f"launched as one CUDA graph, {figures.gap_us:g} us between kernels beyond the launch in each one's time"
    return f"launched by the host, which takes {figures.host_us:g} us for each kernel and runs ahead where it can"


def _stand_ins(machine: MachineSpec, figures: LaunchFigures) -> tuple[str, ...]:
    if figures.device == machine.base_name:
        return ()
    return (f"launches, convolutions and kernels that move bytes have the figures of {figures.device}",)


def _operators(stream: OperatorStream, machine: MachineSpec, kernels: Sequence[Timed]) -> tuple[OperatorResult, ...]:
    """The kernels by the operator that leads each; cycles are whole, and add up to those of all the time."""
    by_leader: dict[str, list[Timed]] = {}
    for one in kernels:
        by_leader.setdefault(one.launch.operators[0], []).append(one)
    operators = {operator.name: operator for operator in stream.operators}
    found, end, cycles = [], 0.0, 0
    for name, own in by_leader.items():
        end += sum(one.seconds for one in own)
        until = round(end * machine.clock_ghz * 1e9)
        fused_ones = tuple(dict.fromkeys(other for one in own for other in one.launch.operators if other != name))
        weights = {
            stream.base(tensor).name: stream.base(tensor).n_bytes
            for member in (name, *fused_ones)
            for tensor in operators[member].inputs
            if stream.base(tensor).role == "weight"
        }
        result = timed_operator(machine, own, until - cycles)
        found.append(
            replace(
                result,
                name=name,
                path=operators[name].path,
                kind=operators[name].kind,
                fused=fused_ones,
                macs=sum(operators[member].macs for member in (name, *fused_ones)),
                weight_bytes=sum(weights.values()),
            )
        )
        cycles = until
    return tuple(found)


def timed_operator(machine: MachineSpec, kernels: Sequence[Timed], cycles: int) -> OperatorResult:
    """The ``kernels`` of one operator as a result of so many ``cycles``."""
    longest = max(kernels, key=lambda one: one.seconds)
    counters = sum((_counters(machine, one) for one in kernels), Counters())
    return OperatorResult(
        name=longest.launch.operators[0] if longest.launch.operators else longest.launch.kernel,
        path="",
        kind=longest.launch.kernel,
        fused=(),
        dataflow=longest.time.family,
        tiling=dict(longest.time.tile),
        figures=_figures(machine, counters, cycles, sum(one.seconds for one in kernels)),
        macs=sum(one.launch.macs for one in kernels),
        weight_bytes=0,
        lower_bound=_bound(machine, counters),
        kernels=tuple(
            KernelRun(
                one.launch.kernel,
                one.time.family,
                one.seconds,
                one.time.bound,
                one.read_bytes + one.write_bytes,
            )
            for one in kernels
        ),
    )


def _figures(machine: MachineSpec, counters: Counters, cycles: int, seconds: float) -> Figures:
    """Figures with the exact ``seconds``, of which ``cycles`` are the whole number."""
    per_cycle = machine.matrix.n_multipliers
    rates = machine.matrix.multiplies_per_pe_per_cycle
    matrix = sum(ceil(n / (per_cycle * rates[name])) for name, n in counters.macs.items())
    own = figures_of(machine, counters, cycles, matrix_cycles=matrix, vector_cycles=_lane_cycles(machine, counters))
    return replace(own, seconds=seconds)


def _lane_cycles(machine: MachineSpec, counters: Counters) -> int:
    costs = machine.vector.cycles
    return ceil(sum(n * costs.get(kind, 1) for kind, n in counters.vector_operations.items()) / machine.vector.lanes)


def _bound(machine: MachineSpec, counters: Counters) -> LowerBound:
    """What each resource must do at the highest clock, in cycles of the machine's own."""
    assert machine.gpu is not None
    slower = machine.clock_ghz / machine.gpu.clock_max_ghz * 1 / machine.n_cores
    rates = machine.matrix.multiplies_per_pe_per_cycle
    matrix = sum(n / (machine.matrix.n_multipliers * rates[name]) for name, n in counters.macs.items())
    moved = counters.dram_read_bytes + counters.dram_write_bytes
    return LowerBound(
        matrix_cycles=floor(matrix * slower),
        vector_cycles=floor(_lane_cycles(machine, counters) * slower),
        dram_cycles=floor(moved / bytes_per_cycle(machine)),
    )


def _counters(machine: MachineSpec, one: Timed) -> Counters:
    launch = one.launch
    known = machine.energy.vector_pj
    return Counters(
        macs={_multiplied_in(machine, launch): launch.macs} if launch.macs else {},
        vector_operations={kind: n for kind, n in launch.operations if kind in known},
        buffer_read_bytes={"l2": launch.read_bytes},
        buffer_write_bytes={"l2": launch.write_bytes},
        dram_read_bytes=one.read_bytes,
        dram_write_bytes=one.write_bytes,
    )


def _multiplied_in(machine: MachineSpec, launch: Launch) -> str:
    """The wider format of the operands, if the tensor cores have a rate for it, else the widest that they have."""
    rates = machine.matrix.multiplies_per_pe_per_cycle
    if launch.product is None:
        return next((name for name in ("fp16", "bf16") if name in rates), next(iter(rates)))
    operands = [element_format(one) for one in (launch.product.a_format, launch.product.b_format)]
    wanted = max(operands, key=format_bits)
    return wanted if wanted in rates else max(rates, key=format_bits)
