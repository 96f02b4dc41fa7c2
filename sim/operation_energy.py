"""Energy of a network's operations alone: multiplications, shifts, additions (You et al., arXiv 2306.06446).

A multiply-add is a multiplication and an addition; with a weight that is a power of two a shift and an addition
(``shift_matmul``, primitive "shift"); with one that is +1 or -1 an addition ("add").
"""

from __future__ import annotations

from collections import Counter

from tilewright.errors import InputError
from tilewright.hw_models.primitives import UNIT_PJ
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["UNIT_PJ", "operation_energy_pj", "operations"]

_OF_PRIMITIVE = {"": ("multiply", "add"), "shift": ("shift", "add"), "add": ("add",)}


def operations(stream: OperatorStream) -> dict[str, int]:
    """How many multiplications, shifts and additions the products of ``stream`` are made of."""
    found: Counter[str] = Counter()
    for operator in stream.operators:
        for name in _OF_PRIMITIVE.get(operator.text("primitive"), _OF_PRIMITIVE[""]):
            found[name] += operator.macs
    return {name: n for name, n in found.items() if n}


def operation_energy_pj(stream: OperatorStream, bits: int = 8) -> dict[str, float]:
    """Picojoules by primitive; no data movement. Raises InputError for bits that the table lacks."""
    widths = sorted({width for _, width in UNIT_PJ})
    if bits not in widths:
        raise InputError(f"bits: given {bits}; allowed {', '.join(map(str, widths))}")
    return {name: n * UNIT_PJ[name, bits] for name, n in operations(stream).items()}
