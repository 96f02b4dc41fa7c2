"""Sums of bytes joined and reduced, and multiplied by factors, in exact integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.modular_sum import has_factors, is_folded
from tilewright.workloads.number_theory import N_BYTES, NOT_REDUCED, Integers, from_bytes, ntt_moduli, reduced, to_bytes
from tilewright.workloads.operators import Operator


def _words(values: FloatArray, limbs: int, n_parts: int, degree: int) -> Integers:
    """(limbs, batch, degree) of words of which ``n_parts`` stand side by side."""
    return from_bytes(np.floor(np.abs(values)).astype(np.uint64).reshape(limbs, -1, degree, n_parts))


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    limbs, degree, modulo = operator.count("limbs"), operator.count("degree"), operator.text("modulo")
    words = _words(inputs[0], limbs, N_BYTES, degree)
    if modulo == NOT_REDUCED:
        return to_bytes(words, 2 * N_BYTES).astype(float).reshape(shape)
    if is_folded(operator):
        words = words + (_words(inputs[1], limbs, 2 * N_BYTES, degree) & np.uint64(2**32 - 1))
    usual = "barrett" if modulo == "lazy" else modulo
    made = np.empty((*words.shape, N_BYTES))
    for limb, q in enumerate(ntt_moduli(degree, limbs)):
        residues = reduced(words[limb], q, modulo)
        if has_factors(operator):
            given = inputs[1 + is_folded(operator)]
            factors = _words(given, limbs, given.size // (limbs * degree), degree)[limb]
            residues = reduced(residues * (factors % np.uint64(q)), q, usual)
        made[limb] = to_bytes(residues)
    return made.reshape(shape)


register_values("modular_sum", _values)
