"""A step of a number-theoretic transform on the array, limb by limb; and in exact integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.layer import JobLayer, product_layer, register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.ntt_product import contracted, others
from tilewright.workloads.number_theory import N_BYTES, from_bytes, ntt_moduli, reduced, to_bytes
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> JobLayer:
    operator = chain[0]
    size = N_BYTES * contracted(operator)
    limbs, m = operator.count("limbs"), others(operator)
    return product_layer(stream, chain, name="ntt_product", groups=limbs, m=m, k=size, n=size)


register_lowering("ntt_product", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    """Products of bytes in float64, whose sums are whole numbers below 2^53."""
    limbs, batch, rows, columns = (operator.count(key) for key in ("limbs", "batch", "rows", "columns"))
    size, over_rows = contracted(operator), operator.text("side") == "rows"
    reduction = "barrett" if operator.text("modulo") == "shoup" else operator.text("modulo")
    x = np.floor(np.abs(inputs[0])).reshape(limbs, batch, rows, columns, N_BYTES)
    x = np.moveaxis(x, 2, 3) if over_rows else x
    matrices = np.floor(np.abs(inputs[1])).reshape(limbs, N_BYTES * size, N_BYTES * size)
    made = np.empty(x.shape)
    for limb, q in enumerate(ntt_moduli(rows * columns, limbs)):
        sums = x[limb].reshape(-1, N_BYTES * size) @ matrices[limb]
        if operator.attributes.get("sums", False):
            made[limb] = sums.reshape(x.shape[1:])
            continue
        words = from_bytes(sums.reshape(-1, size, N_BYTES))
        made[limb] = to_bytes(reduced(words, q, reduction)).reshape(x.shape[1:])
    return np.ascontiguousarray(np.moveaxis(made, 2, 3) if over_rows else made).reshape(shape)


register_values("ntt_product", _values)
