"""A pool on numbers; an average divides by its whole window, padding included."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.gpu.launches.of_kind import moving, register_launches
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x = inputs[0]
    (sh, sw), (kh, kw) = operator.sizes("stride"), operator.sizes("kernel")
    top, left = operator.sizes("padding")[:2]
    dh, dw = operator.sizes("dilation") if "dilation" in operator.attributes else (1, 1)
    out_height, out_width = operator.sizes("out_size")
    average = operator.text("function") == "average"
    padded = np.full((*x.shape[:2], x.shape[2] + 2 * (top + kh * dh), x.shape[3] + 2 * (left + kw * dw)), -np.inf)
    if average:
        padded[:] = 0
    padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    taps = [
        padded[:, :, i * dh : i * dh + sh * out_height : sh, j * dw : j * dw + sw * out_width : sw][
            :, :, :out_height, :out_width
        ]
        for i in range(kh)
        for j in range(kw)
    ]
    return np.asarray(np.mean(taps, axis=0) if average else np.max(taps, axis=0))


register_values("pool", _values)
register_launches("pool", moving("pooling"))
