"""Element-wise work on numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tilewright.errors import InputError
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator

__all__ = ["FUNCTIONS"]

#: Element-wise functions of one or more arguments.
FUNCTIONS: Mapping[str, Callable[..., FloatArray]] = {
    "add": lambda *x: sum(x[1:], x[0]),
    "sub": lambda a, b: a - b,
    "mul": lambda *x: math.prod(x[1:], start=x[0]),
    "max": lambda *x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "div": lambda a, b: a / b,
    "exp": np.exp,
    "sign": lambda x: np.where(x < 0, -1.0, 1.0),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "gelu": lambda x: x * 0.5 * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))),
}


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    function = operator.text("function")
    if function not in FUNCTIONS:
        raise InputError(f'{operator.name}: element-wise work "{function}" does not run on numbers')
    found: FloatArray = FUNCTIONS[function](*inputs)
    return np.broadcast_to(found, shape).copy()


register_values("elementwise", _values)
