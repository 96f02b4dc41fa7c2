"""A matrix product: on the array as it is, or with more rows where one second operand is there for the whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tilewright.sim.gpu.launches.launch import Launch, ProductShape
from tilewright.sim.gpu.launches.of_kind import register_launches, tensor_uses
from tilewright.sim.kinds.layer import product_layer, register_lowering
from tilewright.sim.kinds.values import FloatArray, register_values
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["product_launches"]


def _matmul(stream: OperatorStream, chain: Sequence[Operator]) -> GemmLayer:
    operator = chain[0]
    batch, m, k, n = (operator.count(key) for key in ("batch", "m", "k", "n"))
    if batch > 1 and stream.tensor(operator.inputs[1]).n_elements == k * n:  # one for all products: rows of one
        batch, m = 1, batch * m
    return product_layer(stream, chain, name="gemm", groups=batch, m=m, k=k, n=n)


register_lowering("matmul", _matmul)


def _values(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    second, batch, m, k, n = inputs[1], *(operator.count(key) for key in ("batch", "m", "k", "n"))
    if batch > 1 and batch * k * n == second.size:  # one for each product; their first may be one for all
        first = inputs[0].reshape(-1, m, k)
        return (first @ second.reshape(batch, k, n) + (inputs[2] if len(inputs) > 2 else 0)).reshape(shape)
    if second.size != k * n:  # one for each of the batch
        batch = operator.count("batch")
        return np.asarray((inputs[0].reshape(batch, -1, k) @ second.reshape(batch, k, n)).reshape(shape))
    turned = second.shape == (n, k)  # a weight as it is trained
    y = inputs[0].reshape(-1, k) @ (second.T if turned else second.reshape(k, n))
    return (y + (inputs[2] if len(inputs) > 2 else 0)).reshape(shape)


register_values("matmul", _values)


def product_launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    """One kernel, which adds a bias as it stores."""
    m, n, k = (operator.count(key) for key in ("m", "n", "k"))
    narrowed = operator.text("activations_as") or stream.tensor(operator.inputs[0]).number_format
    shape = ProductShape(operator.count("batch"), m, n, k, narrowed, stream.tensor(operator.inputs[1]).number_format, k)
    reads, writes = tensor_uses(stream, operator.inputs), tensor_uses(stream, operator.outputs)
    own = Launch(
        kernel="matmul", operators=(operator.name,), reads=reads, writes=writes, product=shape, macs=operator.macs
    )
    return (own,)


register_launches("matmul", product_launches)
