"""From an operator stream to the jobs that a machine runs one after the other.

A job is one matrix product, convolution, attention, or piece of vector work, in the form in which it is mapped.
Element-wise operators that only follow a product are fused behind it: their work is done on its output tiles
before they are stored (bias, activation, residual, quantisation). Vector work that is only read to be quantised stores
its results quantised. Identical jobs have equal layers, so each is mapped once.

How operators become products:

* A product whose second operand is one matrix for the whole batch is one product with more rows.
* A transposed convolution with stride s is computed by output phase (Shi et al., arXiv 1609.05158): each of the s x s
  phases is a plain convolution with every s-th tap, so all together are one with s x s times the channels. Where s
  does not divide the kernel, the missing taps are multiplied as zeros.
* A convolution over three dimensions reads, for each plane of its output, as many planes of its input as its kernel is
  deep, as if they were channels.
* A convolution with one input channel per group (depthwise) goes to the vector unit: a multiply and an add per tap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from tilewright.sim.lowering.family import family_of
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.gemm import Fused, GemmLayer, RowCut, VectorLayer
from tilewright.workloads.operators import Operator
from tilewright.workloads.products import (
    LEAST_ACCUMULATOR_BITS,
    accumulator_bits,
    compute_format,
    conv_product,
    is_depthwise,
    value_bits,
)
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import is_reducing, on_vector_unit, statistics_pass, vector_work

__all__ = ["JOB_ASSUMPTIONS", "QUANTISE_ASSUMPTION", "Job", "JobLayer", "jobs_of"]

JobLayer = GemmLayer | VectorLayer | AttentionLayer

MOST_ROWS = 65536  # a vector operator of more rows is folded: its rows only say how it can be cut
LEAST_ROW_BYTES = 64  # rows of fewer are folded too, so that rounding up a row's share stays small
JOB_ASSUMPTIONS = (
    "an array multiplies in the wider of the two operands' formats",
    "biases ride on the accumulators and cost no vector work; their bytes, and those of other fused inputs much "
    "smaller than the output, are not counted",
    "a transposed convolution is computed by output phase, a depthwise one on the vector unit, one over three "
    "dimensions plane by plane",
)
#: Said where a stream has quantise steps.
QUANTISE_ASSUMPTION = (
    "results are quantised as they are stored; one scale for a whole tensor is not counted, and a result that the file "
    "dequantises last leaves the network quantised"
)
SMALL_SHARE = 16  # a fused input of less than this share of the output's values costs nothing to load


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


def jobs_of(stream: OperatorStream, *, fuse: bool = True) -> tuple[Job, ...]:
    """The jobs of ``stream`` in order. ``fuse=False`` keeps every operator apart."""
    readers = _readers(stream)
    done: set[str] = set()
    jobs = []
    for operator in stream.operators:
        if operator.name in done:
            continue
        chain = _chain(stream, operator, readers) if fuse else [operator]
        done.update(member.name for member in chain)
        jobs.append(_job(stream, chain))
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
    later than ``operator`` itself. Behind vector work only a change of format is done.
    """
    chain = [operator]
    if operator.kind in ("attention", "memory") or len(operator.outputs) != 1:
        return chain
    is_product = operator.kind in ("matmul", "conv")
    order = {op.name: at for at, op in enumerate(stream.operators)}
    wanted_outside = {stream.base(name).name for name in stream.outputs}
    while True:
        result = stream.base(chain[-1].outputs[0])
        next_ones = readers.get(result.name, [])
        if len(next_ones) != 1 or result.name in wanted_outside:
            return chain
        follower = next_ones[0]
        is_fused = _quantises(follower) or (is_product and follower.kind == "elementwise")
        if not is_fused or follower.count("n_elements") != result.n_elements:
            return chain
        others = [op for op in stream.predecessors(follower) if op not in chain]
        if any(order[op.name] > order[operator.name] for op in others):
            return chain
        chain.append(follower)


def _quantises(operator: Operator) -> bool:
    """A change of format value by value; one with further results (a scale of its own) must see all values first."""
    return operator.kind in ("quantize", "dequantize") and len(operator.outputs) == 1


def _job(stream: OperatorStream, chain: list[Operator]) -> Job:
    operator = chain[0]
    layer: JobLayer
    if operator.kind == "attention":
        layer = replace(attention_layer(operator, stream), name="attention").with_plain_mask()
    elif operator.kind == "matmul":
        layer = _matmul(stream, chain)
    elif operator.kind == "conv" and not is_depthwise(operator):
        layer = _conv(stream, chain)
    else:
        layer = _vector(stream, chain)
    weights = {
        stream.base(name).name: stream.base(name).n_bytes
        for member in chain
        for name in member.inputs
        if stream.base(name).role == "weight"
    }
    return Job(layer=layer, operators=tuple(chain), weight_bytes=sum(weights.values()))


def _fused(stream: OperatorStream, chain: list[Operator], n_outputs: int) -> Fused:
    """The vector work of the operators behind the first, and what they read besides its result.

    A weight of at most one value per column, and anything much smaller than the output, rides on the
    accumulators; what is larger is loaded once for every value of the output.
    """
    counts: dict[str, int] = {}
    extra_bits: list[int | Fraction] = []
    made = {stream.base(name).name for member in chain for name in member.outputs}
    row = chain[0].count("n" if chain[0].kind == "matmul" else "out_channels")
    for member in chain:
        first = member is chain[0]
        loaded = []
        for name in dict.fromkeys(member.inputs[2:] if first else member.inputs):
            n_elements, base = stream.tensor(name).n_elements, stream.base(name)
            rides = n_elements * SMALL_SHARE < n_outputs or (base.role == "weight" and n_elements <= row)
            if base.name not in made and not rides:
                loaded.append(value_bits(stream, name))
        extra_bits += loaded
        for kind, times in (("add", n_outputs * len(loaded)),) if first and loaded else vector_work(member):
            counts[kind] = counts.get(kind, 0) + times
    if extra_bits and not counts:
        counts["add"] = n_outputs
    return Fused(
        operations=tuple((kind, ceil_div(times, n_outputs)) for kind, times in sorted(counts.items())),
        extra_bits=tuple(extra_bits),
    )


def _matmul(stream: OperatorStream, chain: list[Operator]) -> GemmLayer:
    operator = chain[0]
    batch, m, k, n = (operator.count(key) for key in ("batch", "m", "k", "n"))
    b = stream.tensor(operator.inputs[1])
    is_weight = stream.base(b.name).role == "weight"
    if batch > 1 and b.n_elements == k * n:  # one matrix for all products: they are rows of one
        batch, m = 1, batch * m
    number_format = compute_format(stream, operator)
    return GemmLayer(
        name="gemm",
        groups=batch,
        m=m,
        k=k,
        n=n,
        a_bits=value_bits(stream, operator.inputs[0]),
        b_bits=value_bits(stream, operator.inputs[1]),
        out_bits=value_bits(stream, chain[-1].outputs[0]),
        accumulator_bits=accumulator_bits(number_format),
        compute_format=number_format,
        b_is_weight=is_weight,
        fused=_fused(stream, chain, batch * m * n),
    )


def _conv(stream: OperatorStream, chain: list[Operator]) -> GemmLayer:
    operator = chain[0]
    product, number_format = conv_product(operator), compute_format(stream, operator)
    return GemmLayer(
        name="conv",
        groups=product.groups,
        m=product.m,
        k=product.k,
        n=product.n,
        a_bits=value_bits(stream, operator.inputs[0]),
        b_bits=value_bits(stream, operator.inputs[1]),
        out_bits=value_bits(stream, chain[-1].outputs[0]),
        accumulator_bits=accumulator_bits(number_format),
        compute_format=number_format,
        fused=_fused(stream, chain, stream.tensor(operator.outputs[0]).n_elements),
        window=product.window,
    )


def _vector(stream: OperatorStream, chain: list[Operator]) -> VectorLayer:
    """Rows that are independent of each other; bytes and work are spread evenly over them, rounded up."""
    operator = chain[0]
    made = {stream.base(name).name for member in chain for name in member.outputs}
    read_bytes = stream.read_bytes(operator)
    work: dict[str, int] = {}
    for member in chain:
        for kind, times in on_vector_unit(member):
            work[kind] = work.get(kind, 0) + times
    for member in chain[1:]:
        others = dict.fromkeys(name for name in member.inputs if stream.base(name).name not in made)
        read_bytes += sum(stream.tensor(name).n_bytes for name in others)
    write_bytes = stream.write_bytes(chain[-1])
    rows = _n_rows(_independent_rows(stream, operator), max(read_bytes, write_bytes))
    layer = VectorLayer(
        name=operator.kind,
        rows=rows,
        read_bytes=ceil_div(read_bytes, rows),
        write_bytes=ceil_div(write_bytes, rows),
        operations=_each(work.items(), rows),
        reduces=is_reducing(operator),
    )
    return replace(layer, cut=_row_cut(stream, operator, layer))


def _each(work: Iterable[tuple[str, int]], rows: int) -> tuple[tuple[str, int], ...]:
    """(kind, how many) for each of ``rows`` rows."""
    return tuple((kind, ceil_div(times, rows)) for kind, times in sorted(work))


def _row_cut(stream: OperatorStream, operator: Operator, layer: VectorLayer) -> RowCut | None:
    """How a row of ``layer`` is done in pieces of LEAST_ROW_BYTES or more."""
    columns = max(layer.read_bytes, layer.write_bytes) // LEAST_ROW_BYTES
    if columns < 2:
        return None
    passes, a_sum = statistics_pass(operator), LEAST_ACCUMULATOR_BITS // BITS_PER_BYTE
    if passes is not None:
        first, last = (_each(work, layer.rows) for work in passes)
        return RowCut(
            columns,
            last,
            kept_bytes=2 * a_sum * ceil_div(operator.count("rows"), layer.rows),
            first=first,
            first_read_bytes=min(layer.read_bytes, ceil_div(stream.tensor(operator.inputs[0]).n_bytes, layer.rows)),
        )
    if operator.kind in ("reduction", "pool"):
        kept = a_sum * ceil_div(stream.tensor(operator.outputs[0]).n_elements, layer.rows)
        return RowCut(columns, layer.operations, kept_bytes=kept, sums=True)
    return RowCut(columns, layer.operations)


def _independent_rows(stream: OperatorStream, operator: Operator) -> int:
    """Rows that can be done one without the other: those that statistics are taken of, else those of the result."""
    if statistics_pass(operator) is not None:
        return operator.count("rows")
    result = stream.tensor(operator.outputs[0])
    return max(1, result.n_elements // (result.shape[-1] if result.shape else 1))


def _n_rows(rows: int, n_bytes: int) -> int:
    """``rows``, or fewer where some are taken together because they are very many or very short."""
    most = max(1, min(MOST_ROWS, n_bytes // LEAST_ROW_BYTES))
    return ceil_div(rows, ceil_div(rows, most))
