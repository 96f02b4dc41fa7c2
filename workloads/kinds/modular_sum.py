"""``modular_sum``: four sums of bytes joined to a word and reduced modulo primes; inputs (sums[, words][, factors]).

The sums are words of 32 bits, (limbs, ..., 4), the result residues of four bytes, (limbs, ..., 4). ``modulo``: how it
is reduced; "lazy": it is not, for the sums come from folded bytes (``byte_fold``) of words of 64 bits, which stand
behind them and whose low four bytes are added; "none": the joined word of 64 bits is the result, eight bytes. With
factors (words of four or of eight bytes, one set for all of a batch) the residue is multiplied by one and reduced
again (behind "lazy" by Barrett). ``n_elements`` counts bytes of the result.
"""

from __future__ import annotations

from collections import Counter

from tilewright.errors import InputError, unknown
from tilewright.workloads.kinds.kind import OperatorKind, need_elements, register_kind
from tilewright.workloads.number_theory import JOIN, N_BYTES, NOT_REDUCED, REDUCTION_WORK, WIDE_PRODUCT
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["has_factors", "is_folded", "n_words"]

_WAYS = ("montgomery", "barrett", "lazy", NOT_REDUCED)


def is_folded(operator: Operator) -> bool:
    """Whether the low bytes of words are added to the sums."""
    return operator.text("modulo") == "lazy"


def has_factors(operator: Operator) -> bool:
    """Whether the residues are multiplied by factors."""
    return len(operator.inputs) > 1 + is_folded(operator)


def n_words(operator: Operator) -> int:
    """Words that are made."""
    n_bytes = 2 * N_BYTES if operator.text("modulo") == NOT_REDUCED else N_BYTES
    return operator.count("n_elements") // n_bytes


def _check(operator: Operator) -> None:
    if operator.text("modulo") not in _WAYS:
        raise unknown("modulo", operator.text("modulo"), _WAYS, place=operator.name)
    n_bytes = 2 * N_BYTES if operator.text("modulo") == NOT_REDUCED else N_BYTES
    if operator.count("n_elements") % (n_bytes * operator.count("limbs")):
        raise InputError(
            f"{operator.name}: n_elements: given {operator.count('n_elements')}; "
            f"allowed multiples of {n_bytes} bytes for each of {operator.count('limbs')} limbs"
        )
    if operator.text("modulo") == NOT_REDUCED and has_factors(operator):
        raise InputError(f"{operator.name}: inputs: factors are given; allowed none where nothing is reduced")


def _sizes(operator: Operator, stream: OperatorStream) -> None:
    need_elements(operator, stream, operator.inputs[0], N_BYTES * n_words(operator))
    if is_folded(operator):
        need_elements(operator, stream, operator.inputs[1], 2 * N_BYTES * n_words(operator))
    need_elements(operator, stream, operator.outputs[0], operator.count("n_elements"))


def _work(operator: Operator) -> Counter[str]:
    modulo = operator.text("modulo")
    parts = [JOIN]
    if is_folded(operator):
        parts.append({"add": 2})  # a word of 32 bits to one of 64
    elif modulo != NOT_REDUCED:
        parts.append(REDUCTION_WORK[modulo])
    if has_factors(operator):
        parts += [WIDE_PRODUCT, REDUCTION_WORK["barrett" if is_folded(operator) else modulo]]
    work: Counter[str] = Counter()
    for part in parts:
        work.update({key: n_words(operator) * times for key, times in part.items()})
    return work


register_kind(
    OperatorKind(
        name="modular_sum",
        word="sums of bytes, joined and reduced modulo primes",
        attributes={"limbs": "count", "degree": "count", "n_elements": "count", "modulo": "text"},
        check=_check,
        sizes=_sizes,
        work=_work,
        colour="#8c6d31",
        assumptions=(
            "residues are words of 32 bits: a product of two is four products of halves, and reductions are operations "
            "on such words",
        ),
    ),
    rank=19,
)
