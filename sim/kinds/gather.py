"""Rows out of a table, on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    table = inputs[0].reshape(-1, operator.count("columns"))
    return np.asarray(table[inputs[1].astype(int).reshape(-1)].reshape(shape))


register_values("gather", _values)
