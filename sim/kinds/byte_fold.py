"""High bytes of words times a 4 x 4 matrix of bytes, on the array and on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.layer import JobLayer, product_layer, register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.number_theory import N_BYTES
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> JobLayer:
    operator = chain[0]
    limbs = operator.count("limbs")
    m = operator.count("n_elements") // (N_BYTES * limbs)
    return product_layer(stream, chain, name="byte_fold", groups=limbs, m=m, k=N_BYTES, n=N_BYTES)


register_lowering("byte_fold", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    limbs = operator.count("limbs")
    high = np.floor(np.abs(inputs[0])).reshape(limbs, -1, 2 * N_BYTES)[..., N_BYTES:]
    return (high @ np.floor(np.abs(inputs[1])).reshape(limbs, N_BYTES, N_BYTES)).reshape(shape)


register_values("byte_fold", _values)
