"""A network computed on numbers, operator by operator on whole tensors: what every fused run must equal.

Tensors have the shapes of the stream. A function that is not known here is taken as the identity of its first input in
both runs, as is any other that only moves numbers; an upsampling takes the nearest value; an average pool divides by
its whole window, padding included.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.sim.kinds.values import operator_on_numbers
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["network_on_numbers", "random_values"]

FloatArray = npt.NDArray[np.float64]


def random_values(stream: OperatorStream, seed: int) -> dict[str, FloatArray]:
    """Values for every input, weight and constant of ``stream``, by the name of the stored tensor."""
    numbers = np.random.default_rng(seed)
    made = {name for operator in stream.operators for name in operator.outputs}
    return {
        spec.name: numbers.standard_normal(spec.shape)
        for spec in stream.tensors
        if spec.view_of is None and spec.name not in made
    }


def network_on_numbers(stream: OperatorStream, values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Every stored tensor of ``stream`` from the ``values`` of its inputs, weights and constants.

    Raises InputError for an operator that is not known here.
    """
    known = dict(values)

    def value(name: str) -> FloatArray:
        spec, base = stream.tensor(name), stream.base(name)
        stored = known[base.name]
        if spec.n_elements != stored.size:
            raise InputError(f"{name}: a view of a part does not run on numbers")
        return stored.reshape(spec.shape)

    for operator in stream.operators:
        result = stream.tensor(operator.outputs[0])
        inputs = [value(name) for name in operator.inputs]
        known[result.name] = operator_on_numbers(operator, inputs, result.shape)
    return known
