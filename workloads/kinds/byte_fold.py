"""``byte_fold``: the four high bytes of words of 64 bits times a 4 x 4 matrix of bytes a limb; inputs (words, matrix).

The words are (limbs, ..., 8) bytes, the matrix (limbs, 4, 4) holds the bytes of 2^(32 + 8 b) modulo the limb's prime,
the results are sums of bytes, (limbs, ..., 4) words of 32 bits: with the low bytes added, a word that is congruent to
the one of 64 bits (CROSS, arXiv 2501.07047, calls it a lazy reduction). As a product it is four long and four wide, so
that an array of many rows and columns has little to do in each of its passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.kinds.kind import OperatorKind, always, need_elements, register_kind
from tilewright.workloads.number_theory import N_BYTES
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["folded"]


def _check(operator: Operator) -> None:
    if operator.count("n_elements") % (N_BYTES * operator.count("limbs")):
        raise InputError(
            f"{operator.name}: n_elements: given {operator.count('n_elements')}; "
            f"allowed multiples of {N_BYTES} sums for each of {operator.count('limbs')} limbs"
        )


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    n_sums = operator.count("n_elements")
    need_elements(operator, stream, operator.inputs[0], 2 * n_sums)
    need_elements(operator, stream, operator.inputs[1], operator.count("limbs") * N_BYTES**2)
    need_elements(operator, stream, operator.outputs[0], n_sums)


def _macs(operator: Operator) -> int:
    return operator.count("n_elements") * N_BYTES


def folded(built: StreamBuilder, words: str, of_all: Mapping[str, Any]) -> list[str]:
    """The folded sums of ``words``, turned before that, and the words: what a lazy ``modular_sum`` adds up."""
    shape = built.shape(words)
    n_words = math.prod(shape[:-1])
    turned = built.add("relayout", "turn", [words], shape, {"n_elements": math.prod(shape)}, number_format="int8")
    matrix = built.weight("fold", (of_all["limbs"], N_BYTES, N_BYTES), number_format="int8")
    sizes = {"limbs": of_all["limbs"], "degree": of_all["degree"], "n_elements": n_words * N_BYTES}
    sums = built.add("byte_fold", "fold", [turned, matrix], (*shape[:-1], N_BYTES), sizes, number_format="int32")
    return [sums, words]


register_kind(
    OperatorKind(
        name="byte_fold",
        word="high bytes of words times 4 x 4 matrices of bytes",
        attributes={"limbs": "count", "degree": "count", "n_elements": "count"},
        least_inputs=2,
        check=_check,
        sizes=_sizes,
        macs=_macs,
        on_array=always,
        n_operands=2,
        is_product=True,
        colour="#2f7f86",
    ),
    rank=20,
)
