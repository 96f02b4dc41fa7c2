"""A norm on numbers: by layer, by root mean square, or with statistics known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tilewright.errors import InputError
from tilewright.sim.gpu.launches.launch import Launch, Use
from tilewright.sim.gpu.launches.of_kind import (
    batch_norm_launches,
    moving_launch,
    register_launches,
    tensor_use,
)
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

_SHARED = ("group", "instance")  # statistics over channels: moments, their use, and the values as kernels of their own


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x, function = inputs[0], operator.text("function")
    scale, shift = (inputs[1] if len(inputs) > 1 else 1.0), (inputs[2] if len(inputs) > 2 else 0.0)
    if function == "batch":
        return np.asarray(x * _by_channel(scale, x) + _by_channel(shift, x))
    if function in _SHARED:
        rows = x.reshape(operator.count("rows"), -1)
        centred = rows - rows.mean(axis=1, keepdims=True)
        found = (centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)).reshape(x.shape)
        return np.asarray(found * _by_channel(scale, x) + _by_channel(shift, x))
    if function not in ("layer", "rms"):
        raise InputError(f'{operator.name}: a norm of kind "{function}" does not run on numbers')
    centre = x.mean(axis=-1, keepdims=True) if function == "layer" else 0.0
    spread = np.sqrt(((x - centre) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
    result: FloatArray = (x - centre) / spread * scale + shift
    return result


def _by_channel(one: FloatArray | float, x: FloatArray) -> FloatArray:
    """One number for each channel of x (batch, channels, ...), or one for all."""
    return np.reshape(one, (1, -1, *(1 for _ in x.shape[2:])) if np.ndim(one) else ())


register_values("norm", _values)

_STATISTIC_BYTES = 8  # mean and deviation in fp32


def _launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    function, rows = operator.text("function"), (operator.count("rows"), operator.count("columns"))
    if function == "batch":
        shape = stream.tensor(operator.outputs[0]).shape
        n_channels = shape[1] if len(shape) > 1 else 1
        x, y = tensor_use(stream, operator.inputs[0]), tensor_use(stream, operator.outputs[0])
        return batch_norm_launches(operator, x, y, n_channels, math.prod(shape))
    one = moving_launch(stream, operator, "normalise", rows=rows)
    if function not in _SHARED:
        return (one,)
    few = Use(f"{one.writes[0].tensor} statistics", rows[0] * _STATISTIC_BYTES)
    moments = replace(one, reads=one.reads[:1], writes=(few,), operations=())
    prepared = Launch(kernel="statistics", operators=one.operators, reads=(few,), writes=(few,))
    applied = replace(one, kernel="elementwise", reads=(*one.reads, few), rows=None)
    return (moments, prepared, applied)


register_launches("norm", _launches)
