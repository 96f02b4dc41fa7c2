"""A scan of Mamba-2: the layer that scans map, and the recurrence on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.layer import register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.ssd import SSD_INPUTS
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.scan_numbers import decay_scan, softplus
from tilewright.workloads.scan_operators import common_work, scan_layer
from tilewright.workloads.stream.graph import OperatorStream


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> ScanLayer:
    gates = common_work("softplus", add=1, mul=1)  # bias; the decay's exponent
    return scan_layer(stream, chain[0], "decay", SSD_INPUTS, gate_work=gates, value_work=common_work(mul=2, add=1))


register_lowering("ssd", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    batch, tokens, heads, groups, n, p = (
        operator.count(key) for key in ("batch", "tokens", "heads", "key_heads", "key_dim", "value_dim")
    )
    x, dt = inputs[0].reshape(batch, tokens, heads, p), inputs[1].reshape(batch, tokens, heads)
    b, c = (one.reshape(batch, tokens, groups, n) for one in inputs[2:4])
    step = softplus(dt + inputs[6].reshape(heads))
    state = inputs[-1].reshape(batch, heads, n, p) if operator.attributes.get("state") else None
    y, _ = decay_scan(c, b, step[..., None] * x, step * inputs[4].reshape(heads), state=state)
    return np.asarray((y + inputs[5].reshape(heads, 1) * x).reshape(shape))


register_values("ssd", _values)
