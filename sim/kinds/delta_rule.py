"""A gated delta rule: the layer that scans map, and the recurrence on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.kinds.layer import register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.kinds.delta_rule import DELTA_INPUTS
from tilewright.workloads.operators import Operator
from tilewright.workloads.scan import ScanForm, ScanLayer
from tilewright.workloads.scan_numbers import delta_scan, scan_tensors
from tilewright.workloads.scan_operators import scan_layer
from tilewright.workloads.stream.graph import OperatorStream


def _layer(stream: OperatorStream, chain: Sequence[Operator]) -> ScanLayer:
    operator = chain[0]
    form: ScanForm = "channel_delta" if operator.text("gate") == "channel" else "delta"
    return scan_layer(stream, operator, form, DELTA_INPUTS, gate_work={}, value_work={})


register_lowering("delta_rule", _layer)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    q, k, v, state = scan_tensors(operator, inputs)
    batch, tokens, heads, _ = v.shape
    by_channel = operator.text("gate") == "channel"
    decays = inputs[3].reshape(batch, tokens, heads, *([q.shape[-1]] if by_channel else []))
    y, _ = delta_scan(q, k, v, decays, inputs[4].reshape(batch, tokens, heads), state=state)
    return np.asarray(y.reshape(shape))


register_values("delta_rule", _values)
