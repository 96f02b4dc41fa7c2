"""Moved data on numbers; an upsampling takes the nearest value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.errors import InputError
from tilewright.sim.gpu.launches.of_kind import moving, register_launches
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x, function = inputs[0], operator.text("function")
    if function == "concat":
        (axis,) = [a for a in range(len(shape)) if sum(one.shape[a] for one in inputs) == shape[a] != x.shape[a]] or [1]
        return np.concatenate(inputs, axis=axis)
    if function == "upsample":
        for axis in range(x.ndim):
            x = np.repeat(x, shape[axis] // x.shape[axis], axis=axis)
        return x
    if function == "pad":
        return np.pad(x, [((n - m) // 2, n - m - (n - m) // 2) for n, m in zip(shape, x.shape, strict=True)])
    if function == "order":  # places of rows, those with the most for their first value over their second in front
        return np.argsort(x[:, 1] - x[:, 0], kind="stable").astype(float)
    if function == "inverse":
        return np.argsort(x).astype(float)
    if function == "roll" and "by" in operator.attributes:
        return np.roll(x, operator.sizes("by"), tuple(range(x.ndim)))
    raise InputError(f'{operator.name}: a move "{function}" does not run on numbers')


register_values("reshape", _values)
register_launches("reshape", moving("copy"))
