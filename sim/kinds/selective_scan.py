"""A scan of Mamba: the layer that scans map, and the recurrence on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.layer import register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.selective_scan import SELECTIVE_INPUTS
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.scan_numbers import selective_scan, softplus
from tilewright.workloads.scan_operators import common_work, scan_layer
from tilewright.workloads.stream.graph import OperatorStream


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> ScanLayer:
    own, values = SELECTIVE_INPUTS, common_work(mul=2, add=1)  # step times x; the skip connection
    gates = common_work("softplus")
    return scan_layer(stream, chain[0], "selective", own, gate_work=gates, value_work=values, by_column=True)


register_lowering("selective_scan", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    batch, tokens, n, d = (operator.count(key) for key in ("batch", "tokens", "key_dim", "value_dim"))
    x, dt = (one.reshape(batch, tokens, d) for one in inputs[:2])
    b, c = (one.reshape(batch, tokens, n) for one in inputs[2:4])
    a = inputs[4].reshape(d, n)
    state = inputs[-1].reshape(batch, n, d).transpose(0, 2, 1) if operator.attributes.get("state") else None
    y, _ = selective_scan(x, softplus(dt), a, b, c, state=state)
    return np.asarray((y + inputs[5].reshape(d) * x).reshape(shape))


register_values("selective_scan", _values)
