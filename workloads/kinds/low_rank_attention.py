"""``low_rank_attention``: softmax(Q K^T / sqrt(E)) V of Q = P_q U_q + b_q, and K and V likewise (FlashSVD, Shao et al.,
arXiv 2508.01506).

Inputs (P_q, P_k, P_v, U_q, U_k, U_v[, b_q, b_k, b_v]): P (batch, tokens, rank), of one set of columns for all heads, or
(batch, tokens, heads x rank) where ``own`` says that each head has its own; U (heads x width, rank), a head's rows
together; b (heads x width). The result has a row for each query, with the heads side by side. No mask.
"""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

_EXTENTS = ("batch", "heads", "query_len", "key_len", "rank", "head_dim", "value_dim")
_LEAST, _MOST = 6, 9


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    batch, heads, rows, keys, rank, width, value_width = map(operator.count, _EXTENTS)
    if len(operator.inputs) not in (_LEAST, _MOST):
        raise InputError(
            f"{operator.name}: inputs: given {len(operator.inputs)}; allowed {_LEAST}, or {_MOST} with a bias of each"
        )
    columns = rank * (heads if operator.attributes["own"] else 1)
    widths = (width, width, value_width)
    for name, n in zip(operator.inputs[:3], (rows, keys, keys), strict=True):
        need_elements(operator, stream, name, batch * n * columns)
    for name, n in zip(operator.inputs[3:6], widths, strict=True):
        need_elements(operator, stream, name, heads * n * rank)
    for name, n in zip(operator.inputs[6:], widths[: len(operator.inputs) - _LEAST], strict=True):
        need_elements(operator, stream, name, heads * n)
    need_elements(operator, stream, operator.outputs[0], batch * rows * heads * value_width)


def _macs(operator: Operator) -> int:
    batch, heads, rows, keys, rank, width, value_width = map(operator.count, _EXTENTS)
    made = rank * (rows * width + keys * (width + value_width))
    return batch * heads * (made + rows * keys * (width + value_width))


def _size(operator: Operator) -> str:
    lengths = f"{operator.count('query_len')}x{operator.count('key_len')}"
    return f"{operator.count('heads')} heads {lengths} width {operator.count('head_dim')} rank {operator.count('rank')}"


def _build(built: StreamBuilder, given: TextKeys) -> str:
    batch, heads, seq, rank, width = (
        given.count(key, 1 if key == "batch" else None) for key in ("batch", "heads", "seq", "rank", "head_dim")
    )
    own = given.word("own", ("0", "1")) == "1"
    columns = rank * (heads if own else 1)
    made, stored = given.format("a_format"), given.format("b_format")
    inputs = [built.input(f"P_{name}", (batch, seq, columns), number_format=made) for name in "qkv"]
    inputs += [built.weight(f"U_{name}", (heads * width, rank), number_format=stored) for name in "qkv"]
    inputs += [built.weight(f"b_{name}", (heads * width,), number_format=stored) for name in "qkv"]
    lengths = {"query_len": seq, "key_len": seq}
    sizes = {"batch": batch, "heads": heads, **lengths, "rank": rank, "head_dim": width, "value_dim": width}
    return add_result(built, given, "low_rank_attention", inputs, (batch, seq, heads * width), {**sizes, "own": own})


register_kind(
    OperatorKind(
        name="low_rank_attention",
        word="attention on factors of low rank",
        attributes={**dict.fromkeys(_EXTENTS, "count"), "own": "flag"},
        least_inputs=_LEAST,
        sizes=_sizes,
        macs=_macs,
        on_array=always,
        n_operands=3,
        leads=False,
        size=_size,
        colour="#a4434f",
        text=OperatorText(
            example="low_rank_attention:heads=12,seq=512,rank=64,head_dim=64",
            keys=("heads", "seq", "rank", "head_dim", "batch", "own", *TWO_FORMATS),
            needed=("heads", "seq", "rank", "head_dim"),
            build=_build,
        ),
    ),
    rank=18,
)
