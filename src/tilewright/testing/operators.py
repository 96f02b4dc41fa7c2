"""What holds an operator kind: streams that are read back, attributes that are asked for, bounds that are kept."""

from __future__ import annotations

import math

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["check_operator_kind"]


def check_operator_kind(kind: str, stream: OperatorStream, machine: MachineSpec) -> None:
    """Hold the operators of ``kind`` in ``stream`` to what built-in ones are held to.

    A stream file gives the stream back; an operator that lacks an attribute is refused; no run is shorter than its
    bound; and where the kind is computed on numbers, its result has the shape that the stream says, and, of one that
    works ``by_rows``, is that of each row alone.
    """
    from tilewright.search.network import simulate_stream
    from tilewright.sim.kinds.values import VALUES
    from tilewright.workloads.stream.file import stream_from_json, stream_to_json

    operators = [operator for operator in stream.operators if operator.kind == kind]
    assert operators, f"{stream.name} has no operator of kind {kind}"
    assert stream_from_json(stream_to_json(stream), name=stream.name) == stream
    for operator in operators:
        _check_attributes(operator)
        if VALUES.find(kind) is not None:
            _check_values(operator, stream)
    for result in simulate_stream(stream, machine).operators:
        assert result.bound_ratio >= 1, f"{result.name}: {result.cycles} cycles beat the lower bound"


def _check_attributes(operator: Operator) -> None:
    for key in operator.of_kind.attributes:
        others = {name: value for name, value in operator.attributes.items() if name != key}
        try:
            Operator(name="it", kind=operator.kind, inputs=operator.inputs, outputs=operator.outputs, attributes=others)
        except InputError:
            continue
        raise AssertionError(f"{operator.name}: runs without {key}")


def _check_values(operator: Operator, stream: OperatorStream) -> None:
    import numpy as np

    from tilewright.sim.kinds.values import operator_on_numbers

    numbers, shape = np.random.default_rng(0), stream.tensor(operator.outputs[0]).shape
    inputs = [numbers.standard_normal(stream.tensor(name).shape) for name in operator.inputs]
    result = operator_on_numbers(operator, inputs, shape)
    assert result.shape == shape, f"{operator.name}: gives {result.shape}, the stream says {shape}"
    if not operator.of_kind.by_rows or any(one.shape[:-1] != shape[:-1] for one in inputs):
        return
    row = (1, shape[-1])
    for at in range(min(8, math.prod(shape[:-1]))):
        alone = operator_on_numbers(operator, [one.reshape(-1, one.shape[-1])[at : at + 1] for one in inputs], row)
        np.testing.assert_allclose(alone[0], result.reshape(-1, shape[-1])[at], rtol=1e-9, atol=1e-12)
