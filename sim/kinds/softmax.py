"""A softmax on numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.gpu.launches.launch import Launch
from tilewright.sim.gpu.launches.of_kind import moving_launch, register_launches
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x = inputs[0]
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return result


register_values("softmax", _values)


def _launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    rows = operator.count("rows"), operator.count("columns")
    return (moving_launch(stream, operator, "softmax", rows=rows),)


register_launches("softmax", _launches)
