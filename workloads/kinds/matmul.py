"""``matmul``: C[b] = A[b] B[b] (+ bias) for ``batch`` products of (m, k) by (k, n); inputs (A, B[, bias]).

Where B holds one (k, n) matrix only, all products share it.
"""

from __future__ import annotations

import math

from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys, add_result
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

_EXTENTS = ("batch", "m", "k", "n")


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    batch, m, k, n = (operator.count(key) for key in _EXTENTS)
    need_elements(operator, stream, operator.inputs[0], batch * m * k, m * k)
    need_elements(operator, stream, operator.inputs[1], batch * k * n, k * n)
    need_elements(operator, stream, operator.outputs[0], batch * m * n)


def _macs(operator: Operator) -> int:
    return math.prod(operator.count(key) for key in _EXTENTS)


def _size(operator: Operator) -> str:
    """``4 x (512x768)(768x768)``."""
    batch, m, k, n = (operator.count(key) for key in _EXTENTS)
    return (f"{batch} x " if batch > 1 else "") + f"({m}x{k})({k}x{n})"


def _layer_word(operator: Operator) -> str:
    return "linear"


def _build(built: StreamBuilder, given: TextKeys) -> str:
    batch, m, n, k = (given.count(key, usual) for key, usual in (("batch", 1), ("m", None), ("n", None), ("k", None)))
    is_weight = given.word("b", ("weight", "activation")) == "weight"
    a = built.input("a", (batch, m, k), number_format=given.format("a_format"))
    b_format = given.format("b_format")
    if is_weight:
        b = built.weight("b", (k, n), number_format=b_format)
    else:
        b = built.input("b", (batch, k, n), number_format=b_format)
    return add_result(built, given, "matmul", [a, b], (batch, m, n), {"batch": batch, "m": m, "k": k, "n": n})


register_kind(
    OperatorKind(
        name="matmul",
        word="a matrix product",
        attributes=dict.fromkeys(_EXTENTS, "count"),
        least_inputs=2,
        sizes=_sizes,
        macs=_macs,
        on_array=always,
        n_operands=2,
        is_product=True,
        size=_size,
        layer_word=_layer_word,
        colour="#3b6fd4",
        text=OperatorText(
            name="gemm",
            example="gemm:m=512,n=768,k=768",
            keys=("m", "n", "k", "batch", "b", *TWO_FORMATS),
            needed=("m", "n", "k"),
            build=_build,
        ),
    ),
    rank=1,
)
