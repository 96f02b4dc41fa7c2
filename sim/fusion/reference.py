"""A network computed on numbers, operator by operator on whole tensors: what every fused run must equal.

Tensors have the shapes of the stream. A function that is not known here is taken as the identity of its first input in
both runs, as is any other that only moves numbers; an upsampling takes the nearest value; an average pool divides by
its whole window, padding included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["FUNCTIONS", "network_on_numbers", "random_values"]

FloatArray = npt.NDArray[np.float64]

#: Element-wise functions of one or more arguments.
FUNCTIONS: Mapping[str, Callable[..., FloatArray]] = {
    "add": lambda *x: sum(x[1:], x[0]),
    "sub": lambda a, b: a - b,
    "mul": lambda *x: math.prod(x[1:], start=x[0]),
    "max": lambda *x: np.maximum.reduce(np.broadcast_arrays(*x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "hardsigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hardswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "gelu": lambda x: x * 0.5 * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))),
}


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
        known[result.name] = _compute(operator, inputs, result.shape)
    return known


def _compute(operator: Operator, inputs: list[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x = inputs[0]
    match operator.kind:
        case "conv":
            return _conv(operator, x, inputs[1], inputs[2] if len(inputs) > 2 else None)
        case "matmul":
            second = inputs[1]
            k, n = operator.count("k"), operator.count("n")
            weight = second.T if second.shape == (n, k) and n != k else second
            y = x.reshape(-1, k) @ (second.T if second.shape == (n, k) and n == k else weight)
            return (y + (inputs[2] if len(inputs) > 2 else 0)).reshape(shape)
        case "pool":
            return _pool(operator, x)
        case "elementwise":
            found: FloatArray = FUNCTIONS[operator.text("function")](*inputs)
            return np.broadcast_to(found, shape).copy()
        case "norm":
            return _norm(operator, inputs)
        case "softmax":
            powers = np.exp(x - x.max(axis=-1, keepdims=True))
            result: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
            return result
        case "reduction":
            means: FloatArray = x.reshape(*shape, -1).mean(axis=-1)
            return means
        case "attention":
            return _attention(operator, inputs, shape)
        case "reshape":
            return _moved(operator, inputs, shape)
    raise InputError(f'{operator.name}: an operator of kind "{operator.kind}" does not run on numbers')


def _conv(operator: Operator, x: FloatArray, weight: FloatArray, bias: FloatArray | None) -> FloatArray:
    """Tap by tap over the whole padded image."""
    groups, transposed = operator.count("groups"), bool(operator.attributes["transposed"])
    (sh, sw), (dh, dw) = operator.sizes("stride"), operator.sizes("dilation")
    (kh, kw), (top, left) = operator.sizes("kernel"), operator.sizes("padding")[:2]
    out_height, out_width = operator.sizes("out_size")
    batch, _, height, width = x.shape
    out_channels = operator.count("out_channels")
    y = np.zeros((batch, out_channels, out_height, out_width))
    of_group, from_group = out_channels // groups, x.shape[1] // groups
    for g in range(groups):
        part = x[:, g * from_group : (g + 1) * from_group]
        into = y[:, g * of_group : (g + 1) * of_group]
        for i in range(kh):
            for j in range(kw):
                for r in range(out_height):
                    for c in range(out_width):
                        row, column = r * sh + i * dh - top, c * sw + j * dw - left
                        if transposed:  # what input, if any, comes to this output through this tap
                            (row, rest), (column, odd) = divmod(r + top - i * dh, sh), divmod(c + left - j * dw, sw)
                            if rest or odd:
                                continue
                        if 0 <= row < height and 0 <= column < width:
                            if transposed:
                                taps = weight[g * from_group : (g + 1) * from_group, :, i, j]
                                into[:, :, r, c] += part[:, :, row, column] @ taps
                            else:
                                taps = weight[g * of_group : (g + 1) * of_group, :, i, j]
                                into[:, :, r, c] += part[:, :, row, column] @ taps.T
    return y if bias is None else y + bias[None, :, None, None]


def _pool(operator: Operator, x: FloatArray) -> FloatArray:
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


def _norm(operator: Operator, inputs: list[FloatArray]) -> FloatArray:
    x, function = inputs[0], operator.text("function")
    scale, shift = (inputs[1] if len(inputs) > 1 else 1.0), (inputs[2] if len(inputs) > 2 else 0.0)
    if function == "batch":
        sides = (1, -1, *(1 for _ in x.shape[2:]))
        by_channel = [np.reshape(one, sides if np.ndim(one) else ()) for one in (scale, shift)]
        return np.asarray(x * by_channel[0] + by_channel[1])
    if function not in ("layer", "rms"):
        raise InputError(f'{operator.name}: a norm of kind "{function}" does not run on numbers')
    centre = x.mean(axis=-1, keepdims=True) if function == "layer" else 0.0
    spread = np.sqrt(((x - centre) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
    result: FloatArray = (x - centre) / spread * scale + shift
    return result


def _attention(operator: Operator, inputs: list[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    if operator.text("mask") not in ("", "none"):
        raise InputError(f"{operator.name}: a masked attention does not run on numbers")
    q, k, v = _heads(operator, inputs)
    scores = np.einsum("bhqe,bhke->bhqk", q, k) / math.sqrt(q.shape[-1])
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = powers / powers.sum(axis=-1, keepdims=True)
    mixed = np.einsum("bhqk,bhkf->bqhf", weights, v)
    return np.asarray(mixed.reshape(shape))  # stored token by token, all heads of each together


def _heads(operator: Operator, inputs: list[FloatArray]) -> list[FloatArray]:
    """Q, K and V as (batch, query heads, length, width); they are stored token by token."""
    batch, heads, kv_heads = (operator.count(key) for key in ("batch", "query_heads", "kv_heads"))
    found = []
    for x, n, length in zip(
        inputs[:3],
        (heads, kv_heads, kv_heads),
        (operator.count("query_len"), operator.count("key_len"), operator.count("key_len")),
        strict=True,
    ):
        by_token = x.reshape(batch, length, n, -1).transpose(0, 2, 1, 3)
        found.append(np.repeat(by_token, heads // n, axis=1))
    return found


def _moved(operator: Operator, inputs: list[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    x, function = inputs[0], operator.text("function")
    if function == "concat":
        (axis,) = [a for a in range(len(shape)) if sum(one.shape[a] for one in inputs) == shape[a] != x.shape[a]] or [1]
        return np.concatenate(inputs, axis=axis)
    if function == "upsample":
        for axis in range(x.ndim):
            x = np.repeat(x, shape[axis] // x.shape[axis], axis=axis)
        return x
    if function == "pad":
        return np.pad(x, [((n - m) // 2, n - m - (n - m) // 2) for n, m in zip(shape, x.shape, strict=True)])
    raise InputError(f'{operator.name}: a move "{function}" does not run on numbers')
