"""Residues times factors, in exact integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.number_theory import N_BYTES, from_bytes, ntt_moduli, reduced, to_bytes
from tilewright.workloads.operators import Operator


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    limbs, degree = operator.count("limbs"), operator.count("degree")
    x, y = (
        from_bytes(np.floor(np.abs(one)).astype(np.uint64).reshape(limbs, -1, degree, N_BYTES)) for one in inputs[:2]
    )
    made = np.empty((*x.shape, N_BYTES))
    for limb, q in enumerate(ntt_moduli(degree, limbs)):
        product = (x[limb] % np.uint64(q)) * (y[limb] % np.uint64(q))
        made[limb] = to_bytes(reduced(product, q, operator.text("modulo")))
    return made.reshape(shape)


register_values("modular_multiply", _values)
