"""One layer or operator on a GPU as its library kernels, alone: operands come from DRAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tilewright.errors import InputError
from tilewright.formats import element_format, format_bits
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.gpu.launches import launch_figures_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.kernel_options import KernelOptions
from tilewright.search.gpu.library import LibraryOfMachine
from tilewright.search.gpu.network import energy_note, stand_in_notes, time_launches, timed_operator
from tilewright.sim.gpu.launches.attention import fused_attention, unfused_attention
from tilewright.sim.gpu.launches.fused import fused_launches
from tilewright.sim.gpu.launches.launch import Launch, ProductShape, Use
from tilewright.sim.gpu.launches.residence import found_in_cache, nothing_found
from tilewright.sim.gpu.launches.unfused import unfused_launches
from tilewright.sim.jobs import JobLayer, jobs_of, stored_on
from tilewright.sim.result import SimulationResult
from tilewright.units import bits_to_bytes
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.rated_formats import with_rated_formats
from tilewright.workloads.single_operator import is_operator, operator_stream
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["library_layer", "library_ways"]

_VALUE_BYTES = 2
_MOST_BITS = 16  # of queries in a fused attention


def library_layer(
    layer: JobLayer, machine: MachineSpec, options: KernelOptions, *, free_launches: bool = False
) -> SimulationResult:
    """``layer`` as the kernels that a library runs for it; one that is called by an operator's text is that operator.

    ``free_launches``: were they launched in no time.

    Raises InputError for a layer that no library kernel computes.
    """
    return _timed(layer, machine, options, _launches(layer, machine, options), free_launches=free_launches)


def _timed(
    layer: JobLayer,
    machine: MachineSpec,
    options: KernelOptions,
    launches: Sequence[Launch],
    *,
    free_launches: bool,
) -> SimulationResult:
    figures = launch_figures_of(machine)
    library = LibraryOfMachine(machine, free_launches=free_launches)
    figures = figures.without_launches() if free_launches else figures
    found = [nothing_found(launch) for launch in launches]
    if len(launches) > 1:
        found = list(found_in_cache(launches, library.device.l2_shared_bytes * figures.cache_share, repeated=False))
    kernels = time_launches(figures, library, launches, found, launch=options.launch, sustained=False)
    seconds = sum(one.seconds for one in kernels)
    result = timed_operator(machine, kernels, max(1, round(seconds * machine.clock_ghz * 1e9)))
    moved = result.dram_bytes / (float(bytes_per_cycle(machine)) * max(1, result.cycles))
    return SimulationResult(
        workload=layer.name,
        machine=machine.name,
        dataflow=result.dataflow,
        tiling=result.tiling,
        figures=result.figures,
        buffer_read_bytes={"l2": sum(one.launch.read_bytes for one in kernels)},
        buffer_write_bytes={"l2": sum(one.launch.write_bytes for one in kernels)},
        dram_utilization=min(1.0, moved),
        peak_buffer_bytes={},
        lower_bound=result.lower_bound,
        assumptions=(
            f"kernels: {options.kernels} library kernels, timed by calibrated models of them, not the engine's "
            "schedules (--kernels engine has those)",
            "alone: operands come from DRAM and results go there, as where a measurement rotates them through the L2",
            *(note for note in stand_in_notes(machine, figures, library) if _counts(note, launches)),
            energy_note(library),
        ),
        layer=layer,
        machine_spec=machine,
        kernels=options.kernels,
    )


def _counts(note: str, launches: Sequence[Launch]) -> bool:
    """Whether a note on stand-ins is about one of the kernels."""
    return not note.startswith("convolutions") or any(one.kernel in ("conv", "depthwise") for one in launches)


def library_ways(layer: JobLayer, machine: MachineSpec, options: KernelOptions) -> tuple[SimulationResult, ...]:
    """``layer`` in each way that a library has: an attention fused, and as two products with a softmax between."""
    fused_one = library_layer(layer, machine, options)
    if not isinstance(layer, AttentionLayer) or not _has_fused(layer, machine):
        return (fused_one,)
    apart = _timed(layer, machine, options, _unfused_attention(layer), free_launches=False)
    return (fused_one, replace(apart, dataflow="unfused", tiling={}))


def _has_fused(layer: AttentionLayer, machine: MachineSpec) -> bool:
    """Whether a fused attention is calibrated for it: none is for queries of 32 bits."""
    return LibraryOfMachine(machine).has_attention and format_bits(element_format(layer.qkv_format)) <= _MOST_BITS


def _launches(layer: JobLayer, machine: MachineSpec, options: KernelOptions) -> Sequence[Launch]:
    stream = _stream(layer, machine)
    if stream is not None:
        return fused_launches(stream) if options.kernels == "fused" else unfused_launches(stream)
    if isinstance(layer, AttentionLayer):
        return (_attention(layer),) if _has_fused(layer, machine) else _unfused_attention(layer)
    if isinstance(layer, GemmLayer):
        return (_product(layer),)
    if isinstance(layer, VectorLayer):
        return (_vector(layer),)
    raise InputError(f"{layer.name}: is not computed by a library kernel; allowed --kernels engine")


def _stream(layer: JobLayer, machine: MachineSpec) -> OperatorStream | None:
    """The operator whose text ``layer`` is called by, which says more than the layer that it becomes."""
    if not is_operator(layer.name):
        return None
    given = operator_stream(layer.name)
    rated, _ = with_rated_formats(given, tuple(machine.matrix.multiplies_per_pe_per_cycle))
    for stream in (rated, given):
        (job,) = jobs_of(stream)
        if layer in (replace(job.layer, name=layer.name), replace(stored_on(job.layer, machine), name=layer.name)):
            return stream
    return None


def _tensors(layer: AttentionLayer) -> tuple[tuple[Use, ...], tuple[Use, ...]]:
    """What an attention alone reads and writes."""
    reads = {"queries": layer.query_bytes, "keys": layer.key_bytes, "values": layer.value_bytes}
    reads |= {"bias": layer.bias_bytes} if layer.bias_bytes else {}
    return tuple(Use(name, n_bytes) for name, n_bytes in reads.items()), (Use("results", layer.output_bytes),)


def _unfused_attention(layer: AttentionLayer) -> tuple[Launch, ...]:
    return unfused_attention(layer, layer.name, *_tensors(layer))


def _attention(layer: AttentionLayer) -> Launch:
    return fused_attention(layer, layer.name, *_tensors(layer))


def _product(layer: GemmLayer) -> Launch:
    a, b, c = (
        bits_to_bytes(layer.groups * n * bits)
        for n, bits in (
            (layer.m * layer.k, layer.a_bits),
            (layer.k * layer.n, layer.b_bits),
            (layer.m * layer.n, layer.out_bits),
        )
    )
    if layer.window is not None:
        a = min(a, bits_to_bytes(layer.compulsory_bits) - b - c)
    shape = ProductShape(
        layer.groups,
        layer.m,
        layer.n,
        layer.k,
        layer.a_format or layer.compute_format,
        layer.b_format or layer.compute_format,
        layer.k,
    )
    return Launch(
        kernel="matmul" if layer.window is None else "conv",
        operators=(layer.name,),
        reads=(Use("a", max(a, 1)), Use("b", b)),
        writes=(Use("c", c),),
        product=shape,
        macs=layer.macs,
    )


def _vector(layer: VectorLayer) -> Launch:
    rows = layer.rows * layer.groups
    return Launch(
        kernel="normalise" if layer.reduces else "elementwise",
        operators=(layer.name,),
        reads=(Use("reads", rows * layer.read_bytes),),
        writes=(Use("writes", rows * layer.write_bytes),),
        rows=(rows, max(1, layer.read_bytes // _VALUE_BYTES)) if layer.reduces else None,
        operations=tuple((kind, rows * n) for kind, n in layer.operations),
    )
