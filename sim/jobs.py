"""From an operator stream to the jobs that a machine runs one after the other.

A job is one matrix product, convolution, attention, or piece of vector work, in the form in which it is mapped.
Element-wise operators that only follow a product are fused behind it: their work is done on its output tiles
before they are stored (bias, activation, residual). Identical jobs have equal layers, so each is mapped once.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.formats import format_bits
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.gemm import ConvWindow, Fused, GemmLayer, VectorLayer
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream import OperatorStream
from tilewright.workloads.vector_work import is_reducing, vector_work

__all__ = ["Job", "JobLayer", "jobs_of"]

JobLayer = GemmLayer | VectorLayer | AttentionLayer

MOST_ROWS = 65536  # a vector operator of more rows is folded: its rows only say how it can be cut
ACCUMULATOR = {"int": 32, "float": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work and the operators of the stream that it stands for (the first one leads)."""

    layer: JobLayer
    operators: tuple[Operator, ...]
    weight_bytes: int

    @property
    def kind(self) -> str:
        """Which dataflows can run it: ``attention``, ``gemm`` or ``vector``."""
        if isinstance(self.layer, AttentionLayer):
            return "attention"
        return "gemm" if isinstance(self.layer, GemmLayer) else "vector"

    @property
    def name(self) -> str:
        return self.operators[0].name


def jobs_of(stream: OperatorStream, *, n_cores: int = 1, fuse: bool = True) -> tuple[Job, ...]:
    """The jobs of ``stream`` in order. ``fuse=False`` keeps every operator apart."""
    readers = _readers(stream)
    done: set[str] = set()
    jobs = []
    for operator in stream.operators:
        if operator.name in done:
            continue
        chain = _chain(stream, operator, readers) if fuse else [operator]
        done.update(member.name for member in chain)
        jobs.append(_job(stream, chain, n_cores))
    return tuple(jobs)


def _readers(stream: OperatorStream) -> dict[str, list[Operator]]:
    """Operators that read each stored tensor (through views too)."""
    found: dict[str, list[Operator]] = {}
    for operator in stream.operators:
        for name in dict.fromkeys(stream.base(n).name for n in operator.inputs):
            found.setdefault(name, []).append(operator)
    return found


def _chain(stream: OperatorStream, operator: Operator, readers: dict[str, list[Operator]]) -> list[Operator]:
    """``operator`` and the element-wise operators that can be done on its output tiles.

    The next one must be the only reader of the result, have as many elements, and read nothing that is made
    later than ``operator`` itself.
    """
    chain = [operator]
    if operator.kind not in ("matmul", "conv"):
        return chain
    order = {op.name: at for at, op in enumerate(stream.operators)}
    while True:
        result = stream.base(chain[-1].outputs[0])
        next_ones = readers.get(result.name, [])
        if len(next_ones) != 1 or result.name in stream.outputs:
            return chain
        follower = next_ones[0]
        if follower.kind != "elementwise" or follower.count("n_elements") != result.n_elements:
            return chain
        others = [op for op in stream.predecessors(follower) if op not in chain]
        if any(order[op.name] > order[operator.name] for op in others):
            return chain
        chain.append(follower)


def _job(stream: OperatorStream, chain: list[Operator], n_cores: int) -> Job:
    operator = chain[0]
    layer: JobLayer
    if operator.kind == "attention":
        layer = _attention(operator)
    elif operator.kind == "matmul":
        layer = _matmul(stream, chain).for_cores(n_cores)
    elif operator.kind == "conv" and not _is_depthwise(operator):
        layer = _conv(stream, chain).for_cores(n_cores)
    else:
        layer = _vector(stream, chain)
    weights = {
        stream.base(name).name: stream.base(name).n_bytes
        for member in chain
        for name in member.inputs
        if stream.base(name).role == "weight"
    }
    return Job(layer=layer, operators=tuple(chain), weight_bytes=sum(weights.values()))


def _attention(operator: Operator) -> AttentionLayer:
    from dataclasses import replace

    return replace(attention_layer(operator), name="attention")


def _bits(stream: OperatorStream, name: str) -> int:
    return format_bits(stream.tensor(name).number_format)


def _compute_format(stream: OperatorStream, operator: Operator) -> str:
    """The wider of the two operands' formats is what the array multiplies in."""
    a, b = (stream.tensor(name).number_format for name in operator.inputs[:2])
    return a if format_bits(a) >= format_bits(b) else b


def _fused(stream: OperatorStream, chain: list[Operator], n_outputs: int) -> Fused:
    counts: dict[str, int] = {}
    extra = 0
    made = {stream.base(name).name for member in chain for name in member.outputs}
    for member in chain[1:]:
        for kind, times in vector_work(member):
            counts[kind] = counts.get(kind, 0) + times
        extra += sum(
            1
            for name in dict.fromkeys(member.inputs)
            if stream.base(name).name not in made and stream.tensor(name).n_elements == n_outputs
        )
    operations = tuple((kind, ceil_div(times, n_outputs)) for kind, times in sorted(counts.items()))
    if extra and not operations:
        operations = (("add", 1),)
    return Fused(operations=operations, extra_inputs=extra)


def _matmul(stream: OperatorStream, chain: list[Operator]) -> GemmLayer:
    operator = chain[0]
    batch, m, k, n = (operator.count(key) for key in ("batch", "m", "k", "n"))
    b = stream.tensor(operator.inputs[1])
    is_weight = stream.base(b.name).role == "weight"
    if batch > 1 and b.n_elements == k * n:  # one matrix for all products: they are rows of one
        batch, m = 1, batch * m
    return GemmLayer(
        name="gemm",
        groups=batch,
        m=m,
        k=k,
        n=n,
        a_bits=_bits(stream, operator.inputs[0]),
        b_bits=_bits(stream, operator.inputs[1]),
        out_bits=_bits(stream, chain[-1].outputs[0]),
        accumulator_bits=ACCUMULATOR["float"],
        compute_format=_compute_format(stream, operator),
        b_is_weight=is_weight,
        fused=_fused(stream, chain, batch * m * n),
    )


def _is_depthwise(operator: Operator) -> bool:
    """One input channel for each group: hardly a matrix product, so it is done on the vector unit."""
    return operator.count("groups") > 1 and operator.count("in_channels") == operator.count("groups")


def _conv(stream: OperatorStream, chain: list[Operator]) -> GemmLayer:
    operator = chain[0]
    groups = operator.count("groups")
    out_size, in_size = _two(operator.sizes("out_size")), _two(operator.sizes("in_size"))
    kernel, stride = _two(operator.sizes("kernel")), _two(operator.sizes("stride"))
    dilation = _two(operator.sizes("dilation"))
    if operator.attributes["transposed"]:  # computed from the input's side: every input pixel spreads over a kernel
        out_size, in_size = in_size, out_size
    reach = tuple((size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True))
    batch = operator.count("batch")
    channels = operator.count("in_channels") // groups
    taps = kernel[0] * kernel[1]
    window = ConvWindow(
        in_size[0] * batch, in_size[1], out_size[0] * batch, out_size[1], reach[0], reach[1], stride[0], stride[1]
    )
    if reach != kernel or taps == 1:
        window = window._replace(kernel_height=kernel[0], kernel_width=kernel[1])
    m, n = batch * out_size[0] * out_size[1], operator.count("out_channels") // groups
    return GemmLayer(
        name="conv",
        groups=groups,
        m=m,
        k=taps * channels,
        n=n,
        a_bits=_bits(stream, operator.inputs[0]),
        b_bits=_bits(stream, operator.inputs[1]),
        out_bits=_bits(stream, chain[-1].outputs[0]),
        accumulator_bits=ACCUMULATOR["float"],
        compute_format=_compute_format(stream, operator),
        fused=_fused(stream, chain, groups * m * n),
        window=window,
    )


def _two(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Height and width; a one-dimensional convolution has height 1, a third dimension counts as height."""
    if len(sizes) == 1:
        return 1, sizes[0]
    height = 1
    for size in sizes[:-1]:
        height *= size
    return height, sizes[-1]


def _vector(stream: OperatorStream, chain: list[Operator]) -> VectorLayer:
    """Whole rows of the (first) result; bytes and work are spread evenly over them, rounded up."""
    operator = chain[0]
    result = stream.tensor(operator.outputs[0])
    width = result.shape[-1] if result.shape else 1
    rows = max(1, result.n_elements // width)
    if rows > MOST_ROWS:
        rows = ceil_div(rows, ceil_div(rows, MOST_ROWS))
    work: dict[str, int] = {}
    for kind, times in vector_work(operator):
        work[kind] = work.get(kind, 0) + times
    if operator.kind == "conv":
        macs = operator.macs
        work = {"mul": macs, "add": macs}
    return VectorLayer(
        name=operator.kind,
        rows=rows,
        read_bytes=ceil_div(stream.read_bytes(operator), rows),
        write_bytes=ceil_div(stream.write_bytes(operator), rows),
        operations=tuple((kind, ceil_div(times, rows)) for kind, times in sorted(work.items())),
        reduces=is_reducing(operator),
    )
