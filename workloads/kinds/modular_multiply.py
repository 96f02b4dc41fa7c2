"""``modular_multiply``: residues times factors, modulo ``limbs`` primes; inputs (x, factors), (limbs, ..., 4) bytes.

``degree``: of the polynomials, which says the primes (`workloads/number_theory.py`); ``modulo``: montgomery,
barrett, shoup or lazy. ``n_elements`` counts bytes, four a residue; one set of factors may serve all of a batch.
"""

from __future__ import annotations

import math
from collections import Counter

from tilewright.errors import InputError, unknown
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.kinds.text import OperatorText, TextKeys
from tilewright.workloads.number_theory import N_BYTES, REDUCTION_WORK, REDUCTIONS, WIDE_PRODUCT
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["check_reduction"]


def check_reduction(operator: Operator) -> None:
    """The reduction is one that there is."""
    if operator.text("modulo") not in REDUCTIONS:
        raise unknown("modulo", operator.text("modulo"), REDUCTIONS, place=operator.name)


def _check(operator: Operator) -> None:
    check_reduction(operator)
    if operator.count("n_elements") % (N_BYTES * operator.count("limbs")):
        raise InputError(
            f"{operator.name}: n_elements: given {operator.count('n_elements')}; "
            f"allowed multiples of {N_BYTES} bytes for each of {operator.count('limbs')} limbs"
        )


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.outputs[0], operator.count("n_elements"))


def _work(operator: Operator) -> Counter[str]:
    n = operator.count("n_elements") // N_BYTES
    work: Counter[str] = Counter()
    for part in (WIDE_PRODUCT, REDUCTION_WORK[operator.text("modulo")]):
        work.update({key: n * times for key, times in part.items()})
    return work


def _build(built: StreamBuilder, given: TextKeys) -> str:
    limbs, n, batch = given.count("limbs", 1), given.count("n"), given.count("batch", 1)
    shape = (limbs, batch, n, N_BYTES)
    inputs = [built.input(name, shape, number_format="int8") for name in ("x", "y")]
    modulo = given.word("modulo", REDUCTIONS)
    sizes = {"limbs": limbs, "degree": n, "n_elements": math.prod(shape), "modulo": modulo}
    return built.add("modular_multiply", given.kind, inputs, shape, sizes, number_format="int8")


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
            keys=("n", "limbs", "batch", "modulo"),
            needed=("n",),
            build=_build,
        ),
    ),
    rank=15,
)
