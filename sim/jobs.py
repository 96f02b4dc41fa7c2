"""From an operator stream to the jobs that a machine runs one after the other.

A job is one matrix product, convolution, attention, or piece of vector work, in the form in which it is mapped.
Element-wise operators that only follow a product are fused behind it: their work is done on its output tiles
before they are stored (bias, activation, residual, quantisation). Vector work that is only read to be quantised stores
its results quantised. Identical jobs have equal layers, so each is mapped once. What layer an operator of a kind
becomes, ``sim/kinds/`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tilewright.hw_models.sparsity import skipping
from tilewright.hw_models.spec import LineSpec, MachineSpec
from tilewright.sim.kinds.layer import JobLayer, fallback_layer, layer_of
from tilewright.sim.lacking import is_lacking, refuse_unknown_lacks
from tilewright.sim.live import most_live_bytes
from tilewright.sim.lowering.family import family_of
from tilewright.units import bits_to_bytes, ceil_div, exact
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.operators import Operator
from tilewright.workloads.products import is_depthwise
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import line_pixels

__all__ = [
    "JOB_ASSUMPTIONS",
    "Job",
    "JobLayer",
    "assumptions_of_kinds",
    "brought_weights",
    "jobs_of",
    "jobs_on",
    "storage_assumptions",
    "stored_bytes",
    "stored_on",
]

JOB_ASSUMPTIONS = (
    "an array multiplies in the wider of the two operands' formats",
    "biases ride on the accumulators and cost no vector work; their bytes, and those of other fused inputs much "
    "smaller than the output, are not counted",
    "a transposed convolution is computed by output phase, a depthwise one on the vector unit, one over three "
    "dimensions plane by plane",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work and the operators of the stream that it stands for (the first one leads)."""

    layer: JobLayer
    operators: tuple[Operator, ...]
    weight_bytes: int

    @property
    def kind(self) -> str:
        """Which dataflows can run it: ``attention``, ``gemm`` or ``vector``."""
        return family_of(self.layer).operator

    @property
    def name(self) -> str:
        return self.operators[0].name


def jobs_of(
    stream: OperatorStream,
    *,
    fuse: bool = True,
    lacks: Sequence[str] = (),
    kernels: Sequence[tuple[int, int]] = (),
    lines: LineSpec | None = None,
) -> tuple[Job, ...]:
    """The jobs of ``stream`` in order. ``fuse=False`` keeps every operator apart.

    ``lines``: the unit behind the array that a depthwise convolution behind another one can be done in, in one go.
    Operators that ``lacks`` names (:func:`tilewright.sim.lacking.is_lacking`) are jobs of their own, for a fallback.
    """
    readers = _readers(stream)
    lacking = {op.name for op in stream.operators if is_lacking(op, lacks, kernels)} if lacks else set()
    done: set[str] = set()
    jobs = []
    for operator in stream.operators:
        if operator.name in done:
            continue
        if operator.name in lacking:
            jobs.append(_job(stream, [operator], fallback_layer(stream, operator)))
            continue
        chain = _chain(stream, operator, readers, lacking, lines) if fuse else [operator]
        done.update(member.name for member in chain)
        jobs.append(_job(stream, chain, layer_of(stream, chain)))
    return tuple(jobs)


def jobs_on(
    stream: OperatorStream, machine: MachineSpec, *, fuse: bool = True, chained: bool = True
) -> tuple[Job, ...]:
    """The jobs of ``stream`` as ``machine`` runs them: what its cores lack apart, weights as they are stored there.

    ``chained``: whether its unit with lines does what stands behind a product in the same job.
    """
    refuse_unknown_lacks(machine)
    block = machine.matrix.block
    kernels = [(one.height, one.width) for one in block.kernels] if block is not None else []
    lines = machine.vector.lines if chained else None
    if lines is not None and not lines.behind_products:
        lines = None
    jobs = jobs_of(stream, fuse=fuse, lacks=machine.lacks, kernels=kernels, lines=lines)
    brought = brought_weights(stream, jobs, machine)
    return tuple(
        replace(job, layer=stored_on(job.layer, machine, job.weight_bytes if is_brought else None))
        for job, is_brought in zip(jobs, brought, strict=True)
    )


def brought_weights(stream: OperatorStream, jobs: Sequence[Job], machine: MachineSpec) -> tuple[bool, ...]:
    """Whether the weights of each job are read from the memory for weights: those that do not stay."""
    if machine.weights.memory is None:
        return (False,) * len(jobs)
    room, found = machine.weights.kept_bytes, []
    if machine.weights.beside_activations:
        room = max(0, room - most_live_bytes(stream, jobs))
    for job in jobs:
        n_bytes = stored_bytes(stream, job, stored_on(job.layer, machine))
        found.append(n_bytes > room)
        room -= min(n_bytes, room)
    return tuple(found)


def stored_on(layer: JobLayer, machine: MachineSpec, brought_bytes: int | None = None) -> JobLayer:
    """``layer`` with its weights as ``machine`` stores them, wherever they come from; ``brought_bytes`` of a job's
    weights come from the memory for weights (None: they do not).
    """
    memory = machine.weights.memory
    if brought_bytes is not None and memory is not None:
        return _from_weight_memory(stored_on(layer, machine), memory.name, brought_bytes)
    ratio, sparsity = machine.weights.compression, machine.matrix.sparsity
    if not isinstance(layer, GemmLayer) or not layer.b_is_weight:
        return layer
    if sparsity is not None and layer.b_density != 1:
        speed, bits = skipping(sparsity, layer.b_density, layer.b_bits)
        layer = replace(layer, b_bits=bits, speed=speed)
    return layer if ratio == 1 else replace(layer, b_bits=layer.b_bits / exact(ratio))


def stored_bytes(stream: OperatorStream, job: Job, layer: JobLayer) -> int:
    """Bytes of a job's weights where they stay, in the bits of ``layer``; taps that a transposed convolution lacks are
    not stored.
    """
    if isinstance(layer, GemmLayer) and layer.b_is_weight:
        n_elements = stream.base(job.operators[0].inputs[1]).n_elements
        return bits_to_bytes(min(layer.groups * layer.k * layer.n, n_elements) * layer.b_bits)
    return job.weight_bytes


def _from_weight_memory(layer: JobLayer, name: str, weight_bytes: int) -> JobLayer:
    """``layer`` with its weights in the memory ``name``; those of an operator on a fallback stay where that reads."""
    if isinstance(layer, GemmLayer) and layer.b_is_weight:
        return replace(layer, homes=layer.homes._replace(b=name))
    if isinstance(layer, VectorLayer) and weight_bytes:
        of_row = min(layer.read_bytes, ceil_div(weight_bytes, layer.groups * layer.rows))
        return replace(layer, homes=layer.homes._replace(reads=((name, of_row),)))
    return layer


def storage_assumptions(machine: MachineSpec) -> tuple[str, ...]:
    """What results say of how weights are stored; nothing where they lie in the DRAM as they are."""
    weights, said = machine.weights, []
    if weights.compression != 1:
        said.append(
            f"weights of products and convolutions are stored, moved and kept compressed by {weights.compression:g}, "
            "as the machine file says for all of them; those of work on the vector unit are not"
        )
    if machine.matrix.sparsity is not None:
        said.append(
            "weights of 0 lie where the matrix unit can leave them out, evenly over its rows, columns and cores"
        )
    if weights.memory is not None:
        less = ", less the most that activations take there at a time" if weights.beside_activations else ""
        kept = (
            f", but for the first {weights.kept_kib:g} KiB{less}, which stay between inferences"
            if weights.kept_kib
            else ""
        )
        said.append(f"weights come from {weights.memory.name}{kept}; they are read there when their operator begins")
    return tuple(said)


def assumptions_of_kinds(stream: OperatorStream) -> tuple[str, ...]:
    """What is assumed of the kinds of operators that ``stream`` has."""
    return tuple(dict.fromkeys(text for kind in stream.counts for text in KINDS.get(kind).assumptions))


def _readers(stream: OperatorStream) -> dict[str, list[Operator]]:
    """Operators that read each stored tensor (through views too)."""
    found: dict[str, list[Operator]] = {}
    for operator in stream.operators:
        for name in dict.fromkeys(stream.base(n).name for n in operator.inputs):
            found.setdefault(name, []).append(operator)
    return found


def _chain(
    stream: OperatorStream,
    operator: Operator,
    readers: dict[str, list[Operator]],
    lacking: set[str],
    lines: LineSpec | None,
) -> list[Operator]:
    """``operator`` and the element-wise operators that can be done on its output tiles, with a depthwise convolution
    where it passes ``lines``.

    The next one must be the only reader of the result, have as many elements, and read nothing that is made
    later than ``operator`` itself. Behind vector work only a change of format is done, value by value; one with further
    results (a scale of its own) must see all values first.
    """
    chain = [operator]
    if not operator.of_kind.leads or len(operator.outputs) != 1:
        return chain
    is_product = operator.of_kind.is_product
    order = {op.name: at for at, op in enumerate(stream.operators)}
    wanted_outside = {stream.base(name).name for name in stream.outputs}
    while True:
        result = stream.base(chain[-1].outputs[0])
        next_ones = readers.get(result.name, [])
        if len(next_ones) != 1 or result.name in wanted_outside:
            return chain
        follower = next_ones[0]
        follows = follower.of_kind.follows
        is_fused = (follows == "anything" and len(follower.outputs) == 1) or (is_product and follows == "products")
        is_fused = is_fused and follower.count("n_elements") == result.n_elements
        is_fused = is_fused or (lines is not None and _in_lines(stream, chain, follower, lines))
        if not is_fused or follower.name in lacking:
            return chain
        others = [op for op in stream.predecessors(follower) if op not in chain]
        if any(order[op.name] > order[operator.name] for op in others):
            return chain
        chain.append(follower)


def _in_lines(stream: OperatorStream, chain: list[Operator], follower: Operator, lines: LineSpec) -> bool:
    """Whether ``follower`` is a depthwise convolution of the pixels that ``chain``, a convolution, leaves behind."""
    product = chain[0]
    if product.kind != "conv" or not product.of_kind.on_array(product) or any(map(is_depthwise, chain)):
        return False
    if not is_depthwise(follower) or stream.base(follower.inputs[0]) is not stream.base(chain[-1].outputs[0]):
        return False
    pixels = line_pixels(follower)
    whole = product.count("groups") == 1 and not product.attributes["transposed"]
    return whole and pixels is not None and pixels.kernel <= lines.kernel


def _job(stream: OperatorStream, chain: list[Operator], layer: JobLayer) -> Job:
    weights = {
        stream.base(name).name: stream.base(name).n_bytes
        for member in chain
        for name in member.inputs
        if stream.base(name).role == "weight"
    }
    return Job(layer=layer, operators=tuple(chain), weight_bytes=sum(weights.values()))
