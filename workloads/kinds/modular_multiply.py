"""``modular_multiply``: residues times factors, modulo ``limbs`` primes; inputs (x, factors), (limbs, ..., 4) bytes.

``degree``: of the polynomials, which says the primes (`workloads/number_theory.py`); ``modulo``: montgomery,
barrett, shoup or lazy, or "none": the product of 64 bits is the result. ``n_elements`` counts bytes of the result, four
a residue (eight of a product); one set of factors may serve all of a batch. Shoup's way has a third input, the
quotients of the factors, floor(y 2^32 / q). In texts ``word=64`` stores inputs in words of 64 bits, of which
all is read that is not surely 0 or unused, and ``steps=apart`` folds a lazy product's bytes by an operator of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.workloads.kinds.byte_fold import folded
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import OperatorText, TextKeys
from tilewright.workloads.number_theory import N_BYTES, NOT_REDUCED, REDUCTION_WORK, REDUCTIONS, WIDE_PRODUCT
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["check_reduction", "result_bytes"]

#: Bytes that are read of x, of y and of y's quotients in words of 64 bits: Shoup's difference has low words alone, and
#: its quotient the high word of x times a quotient of 64 bits; the others' products have all of x and y, whose high
#: words are 0 only at run time.
_READ_OF_64 = {"shoup": (8, 4, 8)}


def check_reduction(operator: Operator) -> None:
    """The reduction is one that there is."""
    if operator.text("modulo") not in REDUCTIONS:
        raise unknown("modulo", operator.text("modulo"), REDUCTIONS, place=operator.name)


def result_bytes(operator: Operator) -> int:
    """Of one residue, or of one product that stays as it is."""
    return 2 * N_BYTES if operator.text("modulo") == NOT_REDUCED else N_BYTES


def _check(operator: Operator) -> None:
    if operator.text("modulo") != NOT_REDUCED:
        check_reduction(operator)
    n_bytes = result_bytes(operator)
    if operator.count("n_elements") % (n_bytes * operator.count("limbs")):
        raise InputError(
            f"{operator.name}: n_elements: given {operator.count('n_elements')}; "
            f"allowed multiples of {n_bytes} bytes for each of {operator.count('limbs')} limbs"
        )


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.outputs[0], operator.count("n_elements"))


def _work(operator: Operator) -> Counter[str]:
    n = operator.count("n_elements") // result_bytes(operator)
    modulo = operator.text("modulo")
    work: Counter[str] = Counter()
    for part in (WIDE_PRODUCT, {} if modulo == NOT_REDUCED else REDUCTION_WORK[modulo]):
        work.update({key: n * times for key, times in part.items()})
    return work


def _build(built: StreamBuilder, given: TextKeys) -> str:
    limbs, n, batch = given.count("limbs", 1), given.count("n"), given.count("batch", 1)
    shape = (limbs, batch, n, N_BYTES)
    modulo = given.word("modulo", REDUCTIONS)
    is_wide = given.word("word", ("32", "64")) == "64"
    names = ("x", "y", "y.quotients") if modulo == "shoup" else ("x", "y")
    read = _READ_OF_64.get(modulo, (8, 8)) if is_wide else (N_BYTES,) * len(names)
    inputs = [
        built.input(name, (*shape[:-1], n_bytes), number_format="int8")
        for name, n_bytes in zip(names, read, strict=True)
    ]
    sizes: dict[str, Any] = {"limbs": limbs, "degree": n, "n_elements": math.prod(shape)}
    if given.word("steps", ("fused", "apart")) == "apart" and modulo == "lazy":
        wide = sizes | {"n_elements": 2 * sizes["n_elements"], "modulo": NOT_REDUCED}
        words = built.add(
            "modular_multiply", given.kind, inputs, (*shape[:-1], 2 * N_BYTES), wide, number_format="int8"
        )
        parts = folded(built, words, sizes)
        return built.add("modular_sum", "reduce", parts, shape, sizes | {"modulo": modulo}, number_format="int8")
    return built.add("modular_multiply", given.kind, inputs, shape, sizes | {"modulo": modulo}, number_format="int8")


register_kind(
    OperatorKind(
        name="modular_multiply",
        word="residues times factors modulo primes",
        attributes={"limbs": "count", "degree": "count", "n_elements": "count", "modulo": "text"},
        least_inputs=2,
        check=_check,
        sizes=_sizes,
        work=_work,
        follows="products",
        colour="#8c6d31",
        assumptions=(
            "residues are words of 32 bits: a product of two is four products of halves, and reductions are operations "
            "on words, of which shifts, masks and choices count as additions",
        ),
        text=OperatorText(
            example="modular_multiply:n=65536,limbs=51,modulo=barrett",
            keys=("n", "limbs", "batch", "modulo", "word", "steps"),
            needed=("n",),
            build=_build,
        ),
    ),
    rank=15,
)
