"""Residues times factors, in exact integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.modular_multiply import result_bytes
from tilewright.workloads.number_theory import N_BYTES, NOT_REDUCED, Integers, from_bytes, ntt_moduli, reduced, to_bytes
from tilewright.workloads.operators import Operator


def _words(values: FloatArray, limbs: int, degree: int) -> Integers:
    """(limbs, batch, degree); words of 64 bits hold their residues in the lower half."""
    shape = (limbs, -1, degree, values.shape[-1])
    return from_bytes(np.floor(np.abs(values)).astype(np.uint64).reshape(shape)[..., :N_BYTES])


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    limbs, degree = operator.count("limbs"), operator.count("degree")
    x, y = (_words(one, limbs, degree) for one in inputs[:2])
    modulo = operator.text("modulo")
    made = np.empty((*x.shape, result_bytes(operator)))
    for limb, q in enumerate(ntt_moduli(degree, limbs)):
        product = (x[limb] % np.uint64(q)) * (y[limb] % np.uint64(q))
        if modulo != NOT_REDUCED:
            product = reduced(product, q, modulo)
        made[limb] = to_bytes(product, result_bytes(operator))
    return made.reshape(shape)


register_values("modular_multiply", _values)
