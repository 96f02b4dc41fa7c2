"""A network computed on numbers, operator by operator on whole tensors: what every fused run must equal.

Tensors have the shapes of the stream. A function that is not known here is taken as the identity of its first input in
both runs, as is any other that only moves numbers; an upsampling takes the nearest value; an average pool divides by
its whole window, padding included.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.sim.kinds.values import operator_on_numbers
from tilewright.workloads.operators import TensorSpec
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["network_on_numbers", "random_values", "seen"]

FloatArray = npt.NDArray[np.float64]


def random_values(stream: OperatorStream, seed: int) -> dict[str, FloatArray]:
    """Values for every input, weight and constant of ``stream``, by the name of the stored tensor.

    What a gather takes as places are places in its table.
    """
    numbers = np.random.default_rng(seed)
    made = {name for operator in stream.operators for name in operator.outputs}
    places = {
        stream.base(operator.inputs[1]).name: stream.tensor(operator.inputs[0]).n_elements // operator.count("columns")
        for operator in stream.operators
        if operator.kind == "gather"
    }
    return {
        spec.name: (
            numbers.integers(places[spec.name], size=spec.shape).astype(float)
            if spec.name in places
            else numbers.standard_normal(spec.shape)
        )
        for spec in stream.tensors
        if spec.view_of is None and spec.name not in made
    }


def network_on_numbers(stream: OperatorStream, values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Every stored tensor of ``stream`` from the ``values`` of its inputs, weights and constants.

    Raises InputError for an operator that is not known here.
    """
    known = dict(values)

    def value(name: str) -> FloatArray:
        spec = stream.tensor(name)
        return known[name].reshape(spec.shape) if spec.view_of is None else seen(spec, value(spec.view_of))

    for operator in stream.operators:
        result = stream.tensor(operator.outputs[0])
        inputs = [value(name) for name in operator.inputs]
        known[result.name] = operator_on_numbers(operator, inputs, result.shape)
    return known


def seen(view: TensorSpec, values: FloatArray) -> FloatArray:
    """What ``view`` reads of the ``values`` of the tensor that it is a view of.

    Raises InputError for one that does not say which part it is.
    """
    read = values.reshape(view.as_shape or values.shape)
    read = read.transpose(view.order) if view.order else read
    if view.start:
        read = read[tuple(slice(first, first + n) for first, n in zip(view.start, view.shape, strict=True))]
    if read.size < view.n_elements and read.ndim == len(view.shape):  # the same for each of what it repeats
        with suppress(ValueError):
            return np.broadcast_to(read, view.shape)
    if read.size != view.n_elements:
        raise InputError(f"{view.name}: a view of a part does not run on numbers")
    return read.reshape(view.shape)
