"""The layers that operators become: a product on the array, or rows through the vector unit; and who decides which.

An operator of a kind that registers no lowering is vector work, with a multiplication and an addition for each of its
multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TypeAlias

from tilewright.registry import Registry
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.gemm import Fused, GemmLayer, RowCut, VectorLayer
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.operators import Operator
from tilewright.workloads.products import (
    LEAST_ACCUMULATOR_BITS,
    accumulator_bits,
    compute_format,
    is_depthwise,
    value_bits,
)
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import is_reducing, on_vector_unit, statistics_pass, unit_values, vector_work

__all__ = [
    "LOWERINGS",
    "JobLayer",
    "Lowering",
    "fallback_layer",
    "fallback_of_chain",
    "fused_inputs",
    "layer_of",
    "product_layer",
    "register_lowering",
    "vector_layer",
]

JobLayer: TypeAlias = GemmLayer | VectorLayer | AttentionLayer | ScanLayer | LowRankAttentionLayer | FallbackLayer
#: From a stream and an operator with those that are fused behind it, the layer that is mapped.
Lowering: TypeAlias = Callable[[OperatorStream, Sequence[Operator]], JobLayer]

LOWERINGS: Registry[Lowering] = Registry("lowering of an operator kind", rooms=("tilewright.sim.kinds",))

MOST_ROWS = 65536  # a vector operator of more rows is folded: its rows only say how it can be cut
LEAST_ROW_BYTES = 64  # rows of fewer are folded too, so that rounding up a row's share stays small
SMALL_SHARE = 16  # a fused input of less than this share of the output's values costs nothing to load


def register_lowering(kind: str, lowering: Lowering) -> Lowering:
    """Operators of ``kind`` become what ``lowering`` says.

    Raises InputError for a kind that is not known, or has a lowering.
    """
    KINDS.get(kind)
    return LOWERINGS.register(kind, lowering)


def layer_of(stream: OperatorStream, chain: Sequence[Operator]) -> JobLayer:
    """The layer of the first operator of ``chain`` with the others fused behind it."""
    lowering = LOWERINGS.find(chain[0].kind) or vector_layer
    return lowering(stream, chain)


def product_layer(
    stream: OperatorStream,
    chain: Sequence[Operator],
    *,
    name: str,
    m: int,
    k: int,
    n: int,
    groups: int = 1,
    columns: int = 0,
    window: ConvWindow | None = None,
) -> GemmLayer:
    """``groups`` products of (m, k) by (k, n) on the array, of the first two inputs of the first operator.

    ``columns``: how many values there are of a bias, where not ``n``. Of a convolution ``window`` says which inputs a
    run of its outputs needs. The kind's own vector work and what is behind the first operator is done on tiles of the
    result before they are stored.
    """
    operator = chain[0]
    number_format = compute_format(stream, operator)
    return GemmLayer(
        name=name,
        groups=groups,
        m=m,
        k=k,
        n=n,
        a_bits=value_bits(stream, operator.inputs[0]),
        b_bits=value_bits(stream, operator.inputs[1]),
        out_bits=value_bits(stream, chain[-1].outputs[0]) * _kept_share(stream, chain),
        accumulator_bits=accumulator_bits(number_format),
        compute_format=number_format,
        b_is_weight=window is not None or stream.base(operator.inputs[1]).role == "weight",
        fused=_fused(stream, chain, columns or n),
        window=window,
        a_format=_multiplied_as(stream, operator),
        b_format=stream.tensor(operator.inputs[1]).number_format,
        b_density=stream.base(operator.inputs[1]).density,
    )


def _multiplied_as(stream: OperatorStream, operator: Operator) -> str:
    """The format of the first operand, narrowed where it is as it is loaded."""
    return operator.text("activations_as") or stream.tensor(operator.inputs[0]).number_format


def vector_layer(stream: OperatorStream, chain: Sequence[Operator]) -> VectorLayer:
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
    values = unit_values(operator)
    layer = VectorLayer(
        name=operator.kind,
        rows=rows,
        read_bytes=ceil_div(read_bytes, rows),
        write_bytes=ceil_div(write_bytes, rows),
        operations=_each(work.items(), rows),
        reduces=is_reducing(operator),
        values=None if values is None else values.share(Fraction(1, rows)),
        results=operator.count("rows") // rows if operator.of_kind.sums and "rows" in operator.attributes else 1,
    )
    return replace(layer, cut=_row_cut(stream, operator, layer))


def fallback_layer(stream: OperatorStream, operator: Operator) -> FallbackLayer:
    """All of ``operator`` for a processor beside the cores: a multiply-add is two operations."""
    return FallbackLayer(
        name=operator.kind,
        operations=2 * operator.macs + sum(times for _, times in vector_work(operator)),
        read_bytes=stream.read_bytes(operator),
        write_bytes=stream.write_bytes(operator),
    )


def fallback_of_chain(stream: OperatorStream, chain: Sequence[Operator]) -> FallbackLayer:
    """``chain`` as one command to a processor beside the cores, which keeps what one hands to the next: all their work,
    what they read from outside, and what the last one writes.
    """
    alone = [fallback_layer(stream, operator) for operator in chain]
    inside = sum(stream.write_bytes(operator) for operator in chain[:-1])
    return FallbackLayer(
        name=chain[0].kind,
        operations=sum(one.operations for one in alone),
        read_bytes=max(0, sum(one.read_bytes for one in alone) - inside),
        write_bytes=alone[-1].write_bytes,
    )


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
    if operator.of_kind.sums:
        kept = a_sum * ceil_div(stream.tensor(operator.outputs[0]).n_elements, layer.rows)
        return RowCut(columns, layer.operations, kept_bytes=kept, sums=True)
    return RowCut(columns, layer.operations)


def _independent_rows(stream: OperatorStream, operator: Operator) -> int:
    """Rows that can be done one without the other: those that statistics are taken of, else those of the result; of
    what is only written behind what is there, every value.
    """
    if statistics_pass(operator) is not None:
        return operator.count("rows")
    result = stream.tensor(operator.outputs[0])
    written = stream.write_bytes(operator)
    if operator.kind == "reshape" and written < result.n_bytes:
        return max(1, result.n_elements * written // result.n_bytes)
    return max(1, result.n_elements // (result.shape[-1] if result.shape else 1))


def _n_rows(rows: int, n_bytes: int) -> int:
    """``rows``, or fewer where some are taken together because they are very many or very short."""
    most = max(1, min(MOST_ROWS, n_bytes // LEAST_ROW_BYTES))
    return ceil_div(rows, ceil_div(rows, most))


def _fused(stream: OperatorStream, chain: Sequence[Operator], columns: int) -> Fused:
    """The vector work of the operators behind the first, and what they read besides its result.

    A weight of at most one value per column, and anything much smaller than the output, rides on the accumulators, as
    does the kernel of a depthwise convolution in lines; what is larger is loaded once for every value of the output.
    """
    n_outputs = stream.tensor(chain[0].outputs[0]).n_elements
    counts: dict[str, int] = {}
    extra_bits: list[int | Fraction] = []
    for member, loaded in zip(chain, _loaded(stream, chain, columns), strict=True):
        extra_bits += [value_bits(stream, name) for name in loaded]
        added = (("add", n_outputs * len(loaded)),) if member is chain[0] and loaded else ()
        for kind, times in (*added, *(vector_work(member) if member is chain[0] else on_vector_unit(member))):
            counts[kind] = counts.get(kind, 0) + times
    if extra_bits and not counts:
        counts["add"] = n_outputs
    share = _kept_share(stream, chain)
    return Fused(
        operations=tuple((kind, ceil_div(times, n_outputs)) for kind, times in sorted(counts.items())),
        extra_bits=tuple(bits * share for bits in extra_bits),
        line_results=Fraction(share) if any(map(is_depthwise, chain[1:])) else Fraction(0),
    )


def _kept_share(stream: OperatorStream, chain: Sequence[Operator]) -> int | Fraction:
    """Results of the chain for each of its first operator's: fewer behind a depthwise convolution with a stride."""
    if not any(map(is_depthwise, chain[1:])):
        return 1
    first, last = (stream.tensor(member.outputs[0]).n_elements for member in (chain[0], chain[-1]))
    return Fraction(last, first)


def fused_inputs(stream: OperatorStream, chain: Sequence[Operator], layer: GemmLayer) -> tuple[str, ...]:
    """The tensors that are loaded for every output of a product, in the order of ``layer.fused.extra_bits``."""
    columns = chain[0].count("out_channels") if chain[0].kind == "conv" else layer.n
    return tuple(name for loaded in _loaded(stream, chain, columns) for name in loaded)


def _loaded(stream: OperatorStream, chain: Sequence[Operator], columns: int) -> list[list[str]]:
    """What each operator of ``chain`` loads beside the operands of the first and what is made on the way."""
    n_outputs = stream.tensor(chain[0].outputs[0]).n_elements
    made = {stream.base(name).name for member in chain for name in member.outputs}
    found = []
    for member in chain:
        loaded = []
        for name in dict.fromkeys(member.inputs[2:] if member is chain[0] else member.inputs):
            n_elements, base = stream.tensor(name).n_elements, stream.base(name)
            rides = (
                is_depthwise(member)
                or n_elements * SMALL_SHARE < n_outputs
                or (base.role == "weight" and n_elements <= columns)
            )
            if base.name not in made and not rides:
                loaded.append(name)
        found.append(loaded)
    return found
