"""A norm on numbers: by layer, by root mean square, or with statistics known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.errors import InputError
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x, function = inputs[0], operator.text("function")
    scale, shift = (inputs[1] if len(inputs) > 1 else 1.0), (inputs[2] if len(inputs) > 2 else 0.0)
    if function == "batch":
        sides = (1, -1, *(1 for _ in x.shape[2:]))
        by_channel = [np.reshape(one, sides if np.ndim(one) else ()) for one in (scale, shift)]
        return np.asarray(x * by_channel[0] + by_channel[1])
    if function not in ("layer", "rms"):
        raise InputError(f'{operator.name}: a norm of kind "{function}" does not run on numbers')
    centre = x.mean(axis=-1, keepdims=True) if function == "layer" else 0.0
    spread = np.sqrt(((x - centre) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
    result: FloatArray = (x - centre) / spread * scale + shift
    return result


register_values("norm", _values)
