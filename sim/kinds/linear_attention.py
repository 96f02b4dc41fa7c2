"""Linear attention: the layer that scans map, and the recurrence on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.layer import register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.linear_attention import linear_inputs
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan import ScanForm, ScanLayer
from tilewright.workloads.scan_numbers import decay_scan, retention_decays, scan_tensors
from tilewright.workloads.scan_operators import scan_layer
from tilewright.workloads.stream.graph import OperatorStream


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> ScanLayer:
    operator = chain[0]
    form: ScanForm = "channel_decay" if operator.text("gate") == "channel" else "decay"
    return scan_layer(stream, operator, form, linear_inputs(operator), gate_work={}, value_work={})


register_lowering("linear_attention", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    q, k, v, state = scan_tensors(operator, inputs)
    gate, (batch, tokens, heads, _) = operator.text("gate"), v.shape
    if gate in ("head", "channel"):
        decays = inputs[3].reshape(batch, tokens, heads, *([q.shape[-1]] if gate == "channel" else []))
    else:
        fixed = retention_decays(heads) if gate == "fixed" else np.zeros(heads)
        decays = np.broadcast_to(fixed, (batch, tokens, heads))
    y, _ = decay_scan(q, k, v, decays, state=state)
    return np.asarray(y.reshape(shape))


register_values("linear_attention", _values)
