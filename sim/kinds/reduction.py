"""A reduction on numbers: the mean."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.sim.gpu.launches.of_kind import moving, register_launches
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.operators import Operator


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    means: FloatArray = inputs[0].reshape(*shape, -1).mean(axis=-1)
    return means


register_values("reduction", _values)
register_launches("reduction", moving("reduce"))
