"""``shift_matmul``: C[b] = A[b] W for weights that need no multiplication; inputs (A, W[, bias]).

``primitive`` "shift": each weight is a sign and a power of two, the nearest to the number given in the logarithm;
"add": each is +1 or -1, its sign (ShiftAddViT, arXiv 2306.06446). Attributes besides as of ``matmul``.
"""

from __future__ import annotations

import math

from tilewright.errors import unknown
from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

_PRIMITIVES = ("shift", "add")
_EXTENTS = ("batch", "m", "k", "n")


def _check(operator: Operator) -> None:
    if operator.text("primitive") not in _PRIMITIVES:
        raise unknown("primitive", operator.text("primitive"), _PRIMITIVES, place=operator.name)


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    batch, m, k, n = map(operator.count, _EXTENTS)
    need_elements(operator, stream, operator.inputs[0], batch * m * k)
    need_elements(operator, stream, operator.inputs[1], k * n, batch * k * n)
    need_elements(operator, stream, operator.outputs[0], batch * m * n)


def _macs(operator: Operator) -> int:
    return math.prod(map(operator.count, _EXTENTS))


def _build(built: StreamBuilder, given: TextKeys) -> str:
    sizes = {key: given.count(key, 1 if key == "batch" else None) for key in _EXTENTS}
    batch, m, k, n = sizes.values()
    a = built.input("a", (batch, m, k), number_format=given.format("a_format"))
    w = built.weight("w", (k, n), number_format=given.format("b_format"))
    attributes = {**sizes, "primitive": given.word("primitive", _PRIMITIVES)}
    return add_result(built, given, "shift_matmul", [a, w], (batch, m, n), attributes)


register_kind(
    OperatorKind(
        name="shift_matmul",
        word="a product whose weights are powers of two, or signs",
        attributes={**dict.fromkeys(_EXTENTS, "count"), "primitive": "text"},
        least_inputs=2,
        check=_check,
        sizes=_sizes,
        macs=_macs,
        on_array=always,
        n_operands=2,
        is_product=True,
        colour="#4f6fae",
        assumptions=(
            "a matrix unit shifts and adds as fast as it multiplies and adds, unless the machine says otherwise "
            "(matrix.shift_adds_per_pe_per_cycle)",
            "a shift and an addition cost the shares of the machine's multiply-add that ShiftAddViT's unit energies "
            "give them (8 bits: 0.024 and 0.03 of 0.23 pJ), unless the machine says otherwise (energy.shift_pj, "
            "energy.add_pj)",
        ),
        text=OperatorText(
            example="shift_matmul:m=196,k=192,n=192,primitive=shift",
            keys=(*_EXTENTS, "primitive", *TWO_FORMATS),
            needed=("m", "k", "n"),
            build=_build,
        ),
    ),
    rank=17,
)
