"""A short causal convolution on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan_numbers import causal_conv


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    batch, tokens, channels, width = (operator.count(key) for key in ("batch", "tokens", "channels", "width"))
    state = None
    if operator.attributes.get("state"):
        state = inputs[-1].reshape(batch, channels, width - 1).transpose(0, 2, 1)
    x, weight = inputs[0].reshape(batch, tokens, channels), inputs[1].reshape(channels, width)
    plain = bool(operator.attributes.get("plain"))
    has_bias = len(inputs) - (state is not None) > 2
    bias = inputs[2].reshape(channels) if has_bias else np.zeros(channels)
    y, _ = causal_conv(x, weight, bias, state=state, plain=plain)
    return np.asarray(y.reshape(shape))


register_values("causal_conv", _values)
