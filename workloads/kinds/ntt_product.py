"""``ntt_product``: a step of a number-theoretic transform as products of bytes; inputs (x, matrix).

x is (limbs, batch, rows, columns, 4) bytes; ``side`` "rows": a product over its rows, by a matrix (limbs, 4 rows, 4
rows); "columns": over its columns. Sums of bytes are put together to words of 64 bits and reduced on the vector unit.
``ntt:`` is a whole transform: a product over rows, factors (``modular_multiply``), a product over columns.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.workloads.kinds.byte_fold import folded
from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.kinds.modular_multiply import check_reduction
from tilewright.workloads.kinds.text import OperatorText, TextKeys
from tilewright.workloads.number_theory import JOIN, N_BYTES, NOT_REDUCED, REDUCTION_WORK, REDUCTIONS, ntt_moduli
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["contracted", "others"]

_SIDES = ("rows", "columns")
_COUNTS = ("limbs", "batch", "rows", "columns")
_LARGEST_DEGREE = 2**20


def contracted(operator: Operator) -> int:
    """Residues that a product is over."""
    return operator.count(operator.text("side"))


def others(operator: Operator) -> int:
    """Rows of the product, of one limb."""
    other = "columns" if operator.text("side") == "rows" else "rows"
    return operator.count("batch") * operator.count(other)


def _check(operator: Operator) -> None:
    check_reduction(operator)
    if operator.text("side") not in _SIDES:
        raise unknown("side", operator.text("side"), _SIDES, place=operator.name)


def _n_residues(operator: Operator) -> int:
    return math.prod(operator.count(key) for key in _COUNTS)


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    n_bytes = _n_residues(operator) * N_BYTES
    need_elements(operator, stream, operator.inputs[0], n_bytes)
    need_elements(operator, stream, operator.inputs[1], operator.count("limbs") * (N_BYTES * contracted(operator)) ** 2)
    need_elements(operator, stream, operator.outputs[0], n_bytes)


def _macs(operator: Operator) -> int:
    return operator.count("limbs") * others(operator) * (N_BYTES * contracted(operator)) ** 2


def _work(operator: Operator) -> Counter[str]:
    """Sums of bytes are reduced by Barrett where the transform is Shoup's, which needs single products."""
    reduction = operator.text("modulo")
    work: Counter[str] = Counter()
    if operator.attributes.get("sums", False):
        return work
    for part in (JOIN, REDUCTION_WORK["barrett" if reduction == "shoup" else reduction]):
        work.update({key: _n_residues(operator) * times for key, times in part.items()})
    return work


def _build(built: StreamBuilder, given: TextKeys) -> str:
    limbs, n, batch = given.count("limbs", 1), given.count("n"), given.count("batch", 1)
    if n & (n - 1) or not 4 <= n <= _LARGEST_DEGREE:
        raise InputError(f"{given.what}: n: given {n}; allowed powers of 2 from 4 to {_LARGEST_DEGREE}")
    rows = given.count("rows", 1 << (n.bit_length() // 2))
    if n % rows or rows in (1, n):
        raise InputError(f"{given.what}: rows: given {rows}; allowed divisors of {n} between 1 and it")
    if len(ntt_moduli(n, limbs)) < limbs:
        raise InputError(
            f"{given.what}: limbs: given {limbs}; allowed at most {len(ntt_moduli(n, limbs))}, "
            f"as many primes of 28 bits are 1 modulo {2 * n}"
        )
    columns, reduction = n // rows, given.word("modulo", REDUCTIONS)
    shape = (limbs, batch, rows, columns, N_BYTES)
    sizes = dict(zip(_COUNTS, shape, strict=False)) | {"modulo": reduction}
    x = built.input("x", shape, number_format="int8")
    if given.word("steps", ("fused", "apart")) == "apart":
        return _apart(built, given, x, sizes)
    for side, size in (("rows", rows), ("columns", columns)):
        matrix = built.weight(f"{side}.matrix", (limbs, N_BYTES * size, N_BYTES * size), number_format="int8")
        attributes = sizes | {"side": side}
        if side == "columns":
            break
        x = built.add("ntt_product", side, [x, matrix], shape, attributes, number_format="int8")
        known = built.weight("factors", (limbs, 1, rows, columns, N_BYTES), number_format="int8")
        of_all = {"limbs": limbs, "degree": n, "n_elements": math.prod(shape), "modulo": reduction}
        x = built.add("modular_multiply", "factors", [x, known], shape, of_all, number_format="int8")
    return built.add("ntt_product", "columns", [x, matrix], shape, attributes, number_format="int8")


def _apart(built: StreamBuilder, given: TextKeys, x: str, sizes: dict[str, Any]) -> str:
    """Every step by itself; factors are words of 64 bits. A lazy first step is folded, the others are Barrett's."""
    modulo, shape = sizes["modulo"], built.shape(x)
    if modulo == "shoup":
        raise InputError(
            f"{given.what}: steps: given apart, with modulo shoup, whose products are no sums of four bytes; "
            "allowed fused, or another modulo"
        )
    limbs, _, rows, columns, _ = shape
    of_all = {"limbs": limbs, "degree": rows * columns, "n_elements": math.prod(shape)}
    usual = "barrett" if modulo == "lazy" else modulo
    for side, size in (("rows", rows), ("columns", columns)):
        x = built.add("relayout", "turn", [x], shape, {"n_elements": math.prod(shape)}, number_format="int8")
        matrix = built.weight(f"{side}.matrix", (limbs, N_BYTES * size, N_BYTES * size), number_format="int8")
        attributes = sizes | {"side": side, "sums": True}
        sums = built.add("ntt_product", side, [x, matrix], shape, attributes, number_format="int32")
        reduced: dict[str, Any] = of_all | {"modulo": usual}
        inputs = [sums]
        if side == "rows":
            if modulo == "lazy":
                words = _joined(built, sums, of_all)
                inputs, reduced = folded(built, words, of_all), of_all | {"modulo": "lazy"}
            inputs.append(built.weight("factors", (limbs, 1, rows, columns, 2 * N_BYTES), number_format="int8"))
        x = built.add("modular_sum", "reduce", inputs, shape, reduced, number_format="int8")
    return x


def _joined(built: StreamBuilder, sums: str, of_all: dict[str, Any]) -> str:
    """Words of 64 bits, from sums of bytes."""
    shape = (*built.shape(sums)[:-1], 2 * N_BYTES)
    attributes = of_all | {"n_elements": math.prod(shape), "modulo": NOT_REDUCED}
    return built.add("modular_sum", "join", [sums], shape, attributes, number_format="int8")


register_kind(
    OperatorKind(
        name="ntt_product",
        word="a step of a number-theoretic transform, as products of bytes",
        attributes={**dict.fromkeys(_COUNTS, "count"), "side": "text", "modulo": "text"},
        optional={"sums": "flag"},
        least_inputs=2,
        check=_check,
        sizes=_sizes,
        macs=_macs,
        on_array=always,
        work=_work,
        n_operands=2,
        is_product=True,
        colour="#2f7f86",
        assumptions=(
            "bytes of residues are unsigned and multiplied at the rate of int8; "
            "a change between rows and columns takes no time",
        ),
        text=OperatorText(
            name="ntt",
            is_network=True,
            example="ntt:n=65536,limbs=51,modulo=montgomery",
            keys=("n", "limbs", "batch", "rows", "modulo", "steps"),
            needed=("n",),
            build=_build,
        ),
    ),
    rank=16,
)
