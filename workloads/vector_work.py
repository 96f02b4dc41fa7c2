"""What an operator asks of a vector unit: how many of each basic operation (add, sub, mul, max, exp, div).

The counts are per value, for the usual ways to compute each function: sigmoid(x) = 1 / (1 + exp(-x)); tanh(x) =
1 - 2 / (exp(2x) + 1); GELU by its tanh form (Hendrycks and Gimpel, arXiv 1606.08415) or, for the exact one, with erf
by the five-term formula 7.1.26 of Abramowitz and Stegun; softmax with the row maximum taken off. A square root, a
logarithm, a sine and a cosine count as one exp, a comparison as one sub, a choice as one max. These are assumptions
of ours, not figures of a machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from math import prod
from typing import NamedTuple

from tilewright.errors import unknown
from tilewright.workloads.operators import Operator

__all__ = [
    "ELEMENTWISE",
    "SINK",
    "SOFTMAX",
    "SOFT_CAP",
    "VECTOR_KINDS",
    "LinePixels",
    "UnitValues",
    "is_reducing",
    "line_pixels",
    "on_vector_unit",
    "statistics_pass",
    "times",
    "unit_values",
    "vector_work",
]

VECTOR_KINDS: tuple[str, ...] = ("add", "sub", "mul", "max", "exp", "div")

_SIGMOID = {"exp": 1, "add": 1, "div": 1}
_TANH = {"mul": 1, "exp": 1, "add": 1, "div": 1, "sub": 1}
_ERF = {"mul": 8, "add": 6, "div": 1, "exp": 1, "sub": 1}
_GELU_TANH = {"mul": 6, "add": 3, "exp": 1, "div": 1, "sub": 1}

#: Per score: a scale, the tanh, and a scale back.
SOFT_CAP: Mapping[str, int] = _TANH | {"mul": _TANH["mul"] + 2}
#: Per row with a sink: one more score, whose weight multiplies nothing.
SINK: Mapping[str, int] = {"max": 1, "sub": 1, "exp": 1, "add": 1}

#: Per value: the maximum, the difference to it, its exponential, the sum of these, the quotient.
SOFTMAX: Mapping[str, int] = {"max": 1, "sub": 1, "exp": 1, "add": 1, "div": 1}

#: Basic operations per result of each element-wise function; a function not listed counts as one mul.
ELEMENTWISE: Mapping[str, Mapping[str, int]] = {
    "add": {"add": 1},
    "sub": {"sub": 1},
    "mul": {"mul": 1},
    "div": {"div": 1},
    "max": {"max": 1},
    "min": {"max": 1},
    "neg": {"sub": 1},
    "abs": {"max": 1},
    "square": {"mul": 1},
    "pow": {"exp": 2, "mul": 1},
    "sqrt": {"exp": 1},
    "rsqrt": {"exp": 1, "div": 1},
    "reciprocal": {"div": 1},
    "exp": {"exp": 1},
    "log": {"exp": 1},
    "sin": {"exp": 1},
    "cos": {"exp": 1},
    "erf": _ERF,
    "tanh": _TANH,
    "sigmoid": _SIGMOID,
    "relu": {"max": 1},
    "clip": {"max": 2},
    "relu6": {"max": 2},
    "leaky_relu": {"mul": 1, "max": 1},
    "prelu": {"mul": 1, "max": 1},
    "elu": {"exp": 1, "sub": 1, "max": 1},
    "softplus": {"exp": 2, "add": 1},
    "silu": _SIGMOID | {"mul": 1},
    "quick_gelu": _SIGMOID | {"mul": 2},
    "gelu": {**_ERF, "mul": _ERF["mul"] + 3, "add": _ERF["add"] + 1},
    "gelu_tanh": _GELU_TANH,
    "hardsigmoid": {"mul": 1, "add": 1, "max": 2},
    "hardswish": {"mul": 2, "add": 1, "max": 2},
    "mish": {"exp": 3, "add": 2, "div": 1, "mul": 1, "sub": 1},
    "rotary": {"mul": 2, "add": 1},
    "modulate": {"mul": 1, "add": 1},
    "where": {"max": 1},
    "compare": {"sub": 1},
    "lstm": {"exp": 5, "add": 10, "div": 5, "mul": 5, "sub": 2},
    "gru": {"exp": 3, "add": 7, "div": 3, "mul": 4, "sub": 2},
    "gru_reset": {"exp": 1, "add": 2, "div": 1, "mul": 1},
    "gru_blend": {"exp": 2, "add": 5, "div": 2, "mul": 3, "sub": 2},
    "rnn": _TANH | {"add": 2},
    "lrn": {"mul": 3, "exp": 2, "add": 1, "div": 1},
    "cast": {},
    "copy": {},
}


def vector_work(operator: Operator) -> tuple[tuple[str, int], ...]:
    """Pairs (basic operation, how many) that ``operator`` asks of a vector unit; empty for what needs none.

    Matrix products, convolutions and attentions ask for none here: their biases ride on the accumulators.
    """
    return _pairs(operator, operator.of_kind.work(operator))


def statistics_pass(operator: Operator) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]] | None:
    """(first pass, last pass) of an operator that needs statistics of a row before the row's results; else None.

    The passes of a row that does not stay on chip between them. A softmax takes the running maximum and the sum of
    exponentials in one pass (Milakov and Gimelshein, arXiv 1805.02867) and exponentials again in the other; a norm
    takes sum and sum of squares, then scales.
    """
    passes = operator.of_kind.passes(operator)
    return None if passes is None else (_pairs(operator, passes[0]), _pairs(operator, passes[1]))


def on_vector_unit(operator: Operator) -> tuple[tuple[str, int], ...]:
    """:func:`vector_work`, with the multiply-adds that no matrix unit does (a depthwise convolution's)."""
    kind = operator.of_kind
    n_macs = 0 if kind.on_array(operator) else operator.macs
    return (*((("mul", n_macs), ("add", n_macs)) if n_macs else ()), *vector_work(operator))


class LinePixels(NamedTuple):
    """What a unit that is fed pixel by pixel takes of a depthwise convolution: pixels of its map and of its result, the
    channels of a pixel, and the longer side of its kernel.
    """

    n_inputs: int | Fraction
    n_results: int | Fraction
    channels: int
    kernel: int


class UnitValues(NamedTuple):
    """What a unit counts of an operator: its kind (as machine files name units), and how many values pass; of a pool
    also the values of its map, which a unit that keeps lines looks at once each; of a depthwise convolution its pixels.
    """

    kind: str
    n: int
    n_inputs: int = 0
    pixels: LinePixels | None = None

    def share(self, part: Fraction) -> UnitValues:
        """The values of a part of the work, rounded up; pixels exactly."""
        pixels = self.pixels
        if pixels is not None:
            pixels = pixels._replace(n_inputs=pixels.n_inputs * part, n_results=pixels.n_results * part)
        return self._replace(n=int(-(-self.n * part // 1)), n_inputs=int(-(-self.n_inputs * part // 1)), pixels=pixels)


def line_pixels(operator: Operator) -> LinePixels | None:
    """Pixels of a depthwise convolution over two dimensions with a result for each channel; None of any other."""
    kernel, channels = operator.sizes("kernel"), operator.count("in_channels")
    plain = channels == operator.count("out_channels") and set(operator.sizes("dilation")) == {1}
    if len(kernel) != 2 or not plain or operator.attributes.get("transposed"):
        return None
    batch = operator.count("batch")
    n_inputs, n_results = (batch * prod(operator.sizes(size)) for size in ("in_size", "out_size"))
    return LinePixels(n_inputs, n_results, channels, max(kernel))


def unit_values(operator: Operator) -> UnitValues | None:
    """Multiply-adds of a depthwise convolution, values under the windows of a pool, inputs of a reduction, results of
    element-wise work; None for any other, which a unit does in several passes or in none.
    """
    return operator.of_kind.unit(operator)


def is_reducing(operator: Operator) -> bool:
    """Whether lanes must be combined: softmax, reductions, and norms that take their statistics from the values."""
    return operator.of_kind.reduces(operator)


def times(per_value: Mapping[str, int], n_values: int) -> Counter[str]:
    """``per_value`` for ``n_values`` values."""
    return Counter({kind: n * n_values for kind, n in per_value.items()})


def _pairs(operator: Operator, work: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    if not work:
        return ()
    for kind in work:
        if kind not in VECTOR_KINDS:
            raise unknown("operation", kind, VECTOR_KINDS, place=f"operator kind {operator.kind}: work")
    return tuple((kind, work[kind]) for kind in VECTOR_KINDS if work.get(kind))
