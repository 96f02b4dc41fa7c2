"""Products with powers of two and with signs: on the array as other products, and on numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tilewright.sim.gpu.launches.of_kind import register_launches
from tilewright.sim.kinds.layer import JobLayer, product_layer, register_lowering
from tilewright.sim.kinds.matmul import product_launches
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> JobLayer:
    batch, m, k, n = map(chain[0].count, ("batch", "m", "k", "n"))
    if stream.tensor(chain[0].inputs[1]).n_elements == k * n:
        batch, m = 1, batch * m
    layer = product_layer(stream, chain, name="shift_matmul", groups=batch, m=m, k=k, n=n)
    return replace(layer, primitive=chain[0].text("primitive"))


register_lowering("shift_matmul", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    """A weight of 0 stays 0 as a power of two; as a sign it is +1."""
    a, w, *bias = inputs
    if operator.text("primitive") == "add":
        w = np.where(w < 0, -1.0, 1.0)
    else:
        with np.errstate(divide="ignore"):
            w = np.sign(w) * np.exp2(np.rint(np.log2(np.abs(w))))
    k, n = operator.count("k"), operator.count("n")
    found = (a.reshape(operator.count("batch"), -1, k) @ w.reshape(-1, k, n)).reshape(shape)
    return np.asarray(found + bias[0] if bias else found)


register_values("shift_matmul", _values)
register_launches("shift_matmul", product_launches)  # a GPU multiplies
