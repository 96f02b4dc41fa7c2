"""A whole network on a GPU as its library kernels: one after the other, each with what the L2 still holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor

import numpy as np

from tilewright.formats import element_format, format_bits
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.gpu.launches import LaunchFigures, launch_figures_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.energy import power_of, seconds_under_limit
from tilewright.search.gpu.kernel_options import KernelOptions
from tilewright.search.gpu.library import LibraryOfMachine
from tilewright.sim.figures import Figures
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import gpu_device
from tilewright.sim.gpu.launches import fused, unfused
from tilewright.sim.gpu.launches.launch import Launch
from tilewright.sim.gpu.launches.residence import ASSUMPTION as IN_CACHE
from tilewright.sim.gpu.launches.residence import Found, found_in_cache
from tilewright.sim.gpu.launches.times import KernelTime, kernel_times
from tilewright.sim.gpu.power import kernel_power
from tilewright.sim.network_result import KernelRun, NetworkResult, OperatorResult
from tilewright.sim.result import LowerBound
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Timed", "energy_note", "library_network", "stand_in_notes", "time_launches", "timed_operator"]

_SELECTIVE = (
    "selective scans (Mamba): no kernel of them is measured; the longer of their bytes, as an element-wise kernel moves"
    " them, and of their exponentials and multiply-adds on the CUDA lanes at full rate"
)
_AS_MODULE = (
    "attention through nn.MultiheadAttention: on Hopper its own path at inference is products and a softmax (it leaves "
    "cuDNN's fused kernels, PyTorch's choice there, out)"
)
_SIXTEEN_BITS = 16
#: Parts of a kernel's energy, as results name components.
_COMPONENTS = {"multiply": "matrix", "lanes": "vector", "l2": "l2", "dram": "dram", "static": "static"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A kernel as it ran: what it found in the L2, its time alone, and ``seconds`` from the end of the one before to
    its own; ``picojoules`` by component.
    """

    launch: Launch
    found: Found
    time: KernelTime
    seconds: float
    picojoules: Mapping[str, float] = field(hash=False)

    @property
    def write_bytes(self) -> int:
        """To DRAM."""
        return min(round(self.found.write_bytes(self.launch)), round(self.time.dram_bytes))

    @property
    def read_bytes(self) -> int:
        """From DRAM, with what is read again."""
        return round(self.time.dram_bytes) - self.write_bytes


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
    library = LibraryOfMachine(machine, free_launches=free_launches)
    whole = stream
    if "attention" in stream.counts and (not library.has_attention or _has_wide_attention(stream)):
        stream = stream.with_split_attention()
        library.notes["attention is two products and a softmax: no fused kernel of it is calibrated"] = None
    launches = fused.fused_launches(stream) if maker is fused else unfused.unfused_launches(stream)
    if maker is unfused and library.device.asynchronous_products:
        if any(one.apart for one in launches):
            library.notes[_AS_MODULE] = None
        launches = tuple(part for one in launches for part in one.apart or (one,))
    if any(one.kernel == "scan" and one.sequence is None for one in launches):
        library.notes[_SELECTIVE] = None
    figures = launch_figures_of(machine)
    figures = figures.without_launches() if free_launches else figures
    found = found_in_cache(launches, library.device.l2_shared_bytes * figures.cache_share)
    kernels = time_launches(figures, library, launches, found, launch=options.launch)
    operators = _operators(stream, machine, kernels)
    cycles = sum(operator.cycles for operator in operators)
    assumptions = (
        f"kernels: {options.kernels} library kernels, timed by calibrated models of them, not the engine's schedules",
        *maker.ASSUMPTIONS,
        _launched(options.launch, figures),
        IN_CACHE,
        *stand_in_notes(machine, figures, library),
        energy_note(library),
    )
    return NetworkResult(
        network=stream.name,
        machine=machine.name,
        operators=operators,
        figures=_figures(machine, kernels, cycles),
        macs=whole.macs,
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


def _has_wide_attention(stream: OperatorStream) -> bool:
    """Whether queries have 32 bits, in which no fused attention is calibrated."""
    queries = (stream.tensor(one.inputs[0]).number_format for one in stream.operators if one.kind == "attention")
    return any(format_bits(element_format(one)) > _SIXTEEN_BITS for one in queries)


def time_launches(
    figures: LaunchFigures,
    library: LibraryOfMachine,
    launches: Sequence[Launch],
    found: Sequence[Found],
    *,
    launch: str,
    sustained: bool = True,
) -> tuple[Timed, ...]:
    """The kernels one after the other; with the host launching each, none begins before the host has come to it."""
    device = library.device
    times = kernel_times(device, figures, library.kernels(), launches, found, sustained=sustained)
    power, activity = power_of(device, library.calibration), _activity(launches, times)
    bound = np.array([1 if time.bound == "compute" else 2 for time in times])
    seconds = np.array([time.seconds for time in times])
    seconds = seconds_under_limit(device, power, activity, seconds, bound)
    drawn = kernel_power(power, activity, seconds, limit_w=device.power_limit_w, core_bound=bound == 1)
    end, at_host = 0.0, 0.0
    done: list[Timed] = []
    for row, (one, state, time) in enumerate(zip(launches, found, times, strict=True)):
        at_host += figures.host_us * 1e-6
        start = end + figures.gap_us * 1e-6 if done else end
        start = max(start, at_host) if launch == "host" else start
        took = start - end + float(seconds[row])
        parts = {_COMPONENTS[name]: float(joules[row]) * 1e12 for name, joules in drawn.joules.items()}
        parts["static"] += (start - end) * power.parameters.static_w * 1e12
        done.append(Timed(launch=one, found=state, time=time, seconds=took, picojoules=parts))
        end += took
    return tuple(done)


def _activity(launches: Sequence[Launch], times: Sequence[KernelTime]) -> Activity:
    """What the kernels do, as arrays; attentions multiply in the format of their family."""
    formats = dict.fromkeys(time.number_format for time in times if time.number_format)
    return Activity(
        macs={
            name: np.array(
                [
                    float(one.macs) if time.number_format == name else 0.0
                    for one, time in zip(launches, times, strict=True)
                ]
            )
            for name in formats
        },
        dram_bytes=np.array([time.dram_bytes for time in times]),
        l2_bytes=np.array([time.l2_bytes for time in times]),
        lane_operations=np.array([time.lane_operations for time in times]),
    )


def energy_note(library: LibraryOfMachine) -> str:
    """Where the energy is from."""
    told = power_of(library.device, library.calibration).told
    return (
        "energy: multiply-adds, operations of the CUDA lanes, bytes through L2 and DRAM, and the board's static power "
        f"over the time ({told})"
    )


def _launched(launch: str, figures: LaunchFigures) -> str:
    if launch == "graph":
        return f"launched as one CUDA graph, {figures.gap_us:g} us between kernels beyond the launch in each one's time"
    return f"launched by the host, which takes {figures.host_us:g} us for each kernel and runs ahead where it can"


def stand_in_notes(machine: MachineSpec, figures: LaunchFigures, library: LibraryOfMachine) -> tuple[str, ...]:
    """Whose figures stand in for the machine's own."""
    own = () if figures.device == machine.base_name else (figures.device,)
    notes = tuple(
        f"convolutions, and the launches of kernels without a family, have the figures of {name}" for name in own
    )
    return (*notes, *library.notes)


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
    return OperatorResult(
        name=longest.launch.operators[0] if longest.launch.operators else longest.launch.kernel,
        path="",
        kind=longest.launch.kernel,
        fused=(),
        dataflow=longest.time.family,
        tiling=dict(longest.time.tile),
        figures=_figures(machine, kernels, cycles),
        macs=sum(one.launch.macs for one in kernels),
        weight_bytes=0,
        lower_bound=_bound(machine, kernels),
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


def _figures(machine: MachineSpec, kernels: Sequence[Timed], cycles: int) -> Figures:
    """Figures with the exact seconds, of which ``cycles`` are the whole number."""
    parts = dict.fromkeys(("matrix", "vector", *(buffer.name for buffer in machine.buffers), "dram", "static"), 0.0)
    for one in kernels:
        for name, amount in one.picojoules.items():
            parts[name] = parts.get(name, 0.0) + amount
    core_cycles = max(1, cycles * machine.n_cores)
    return Figures(
        cycles=cycles,
        seconds=sum(one.seconds for one in kernels),
        energy_by_component=parts,
        dram_read_bytes=sum(one.read_bytes for one in kernels),
        dram_write_bytes=sum(one.write_bytes for one in kernels),
        matrix_utilization=min(1.0, _matrix_cycles(machine, kernels) / core_cycles),
        vector_utilization=min(1.0, _lane_cycles(machine, kernels) / core_cycles),
    )


def _matrix_cycles(machine: MachineSpec, kernels: Sequence[Timed]) -> int:
    """Cycles of tensor cores, of all multiprocessors together."""
    device = gpu_device(machine)
    return sum(
        ceil(one.launch.macs / device.macs(_rated(machine, one)))
        for one in kernels
        if one.launch.macs and not _is_on_lanes(machine, one)
    )


def _is_on_lanes(machine: MachineSpec, one: Timed) -> bool:
    """Whether its products are the CUDA lanes' work."""
    return one.time.number_format == "fp32" and "fp32" not in machine.matrix.multiplies_per_pe_per_cycle


def _rated(machine: MachineSpec, one: Timed) -> str:
    """The format that a kernel multiplies in, or the nearest wide one that the tensor cores have a rate for."""
    rates = machine.matrix.multiplies_per_pe_per_cycle
    wanted = one.time.number_format
    if wanted in rates or (wanted == "tf32" and machine.gpu is not None and machine.gpu.tf32_share):
        return wanted
    return max(rates, key=lambda name: format_bits(element_format(name)))


def _lane_cycles(machine: MachineSpec, kernels: Sequence[Timed]) -> int:
    costs = machine.vector.cycles
    cycles = sum(n * costs.get(kind, 1) for one in kernels for kind, n in one.launch.operations)
    cycles += sum(one.launch.macs for one in kernels if one.launch.macs and _is_on_lanes(machine, one))
    return ceil(cycles / machine.vector.lanes)


def _bound(machine: MachineSpec, kernels: Sequence[Timed]) -> LowerBound:
    """What each resource must do at the highest clock, in cycles of the machine's own."""
    assert machine.gpu is not None
    slower = machine.clock_ghz / machine.gpu.clock_max_ghz / machine.n_cores
    moved = sum(one.read_bytes + one.write_bytes for one in kernels)
    return LowerBound(
        matrix_cycles=floor(_matrix_cycles(machine, kernels) * slower),
        vector_cycles=floor(_lane_cycles(machine, kernels) * slower),
        dram_cycles=floor(moved / bytes_per_cycle(machine)),
    )
