"""What an operator asks of a vector unit: how many of each basic operation (add, sub, mul, max, exp, div).

The counts are per value, for the usual ways to compute each function: sigmoid(x) = 1 / (1 + exp(-x)); tanh(x) =
1 - 2 / (exp(2x) + 1); GELU by its tanh form (Hendrycks and Gimpel, arXiv 1606.08415) or, for the exact one, with erf
by the five-term formula 7.1.26 of Abramowitz and Stegun; softmax with the row maximum taken off. A square root, a
logarithm, a sine and a cosine count as one exp, a comparison as one sub, a choice as one max. These are assumptions
of ours, not figures of a machine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from tilewright.workloads.operators import Operator

__all__ = [
    "ELEMENTWISE",
    "SINK",
    "SOFT_CAP",
    "VECTOR_KINDS",
    "is_reducing",
    "on_vector_unit",
    "statistics_pass",
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
_PER_VALUE: Mapping[str, Mapping[str, int]] = {
    "softmax": {"max": 1, "sub": 1, "exp": 1, "add": 1, "div": 1},
    "layer": {"add": 2, "sub": 1, "mul": 2},
    "group": {"add": 2, "sub": 1, "mul": 2},
    "instance": {"add": 2, "sub": 1, "mul": 2},
    "rms": {"mul": 2, "add": 1},
    "batch": {"mul": 1, "add": 1},
    "quantize": {"mul": 1, "add": 1, "max": 2},
    "dequantize": {"sub": 1, "mul": 1},
}
_REDUCTIONS = {"sum": "add", "mean": "add", "max": "max", "min": "max", "prod": "mul", "average": "add"}


def vector_work(operator: Operator) -> tuple[tuple[str, int], ...]:
    """Pairs (basic operation, how many) that ``operator`` asks of a vector unit; empty for what needs none.

    Matrix products, convolutions and attentions ask for none here: their biases ride on the accumulators.
    """
    counts: Counter[str] = Counter()
    match operator.kind:
        case "elementwise":
            _add(counts, ELEMENTWISE.get(operator.text("function"), {"mul": 1}), operator.count("n_elements"))
            _add(counts, {"add": 1}, operator.count("n_elements") * int(operator.attributes.get("window", 0)))
        case "softmax":
            n_values = operator.count("rows") * operator.count("columns")
            _add(counts, _PER_VALUE["softmax"], n_values)
            _add(counts, SOFT_CAP, n_values * ("soft_cap" in operator.attributes))
            _add(counts, SINK, operator.count("rows") * bool(operator.attributes.get("sinks")))
            _add(counts, {"mul": 1}, n_values * min(1, int(operator.attributes.get("stages", 0))))
            _add(counts, {"add": 1}, n_values * max(0, int(operator.attributes.get("stages", 0)) - 1))
        case "norm":
            _norm(counts, operator)
        case "reduction":
            name = _REDUCTIONS.get(operator.text("function"), "add")
            _add(counts, {name: 1}, operator.count("rows") * operator.count("columns"))
            _add(counts, {"mul": 1}, operator.count("rows") * (operator.text("function") == "mean"))
        case "pool":
            n_results = operator.count("batch") * operator.count("channels") * math.prod(operator.sizes("out_size"))
            average = operator.text("function") == "average"
            _add(counts, {"add" if average else "max": math.prod(operator.sizes("kernel"))}, n_results)
            _add(counts, {"mul": 1}, n_results * average)
        case "quantize" | "dequantize":
            _add(counts, _PER_VALUE[operator.kind], operator.count("n_elements"))
    return tuple((kind, counts[kind]) for kind in VECTOR_KINDS if counts[kind])


def statistics_pass(operator: Operator) -> tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]] | None:
    """(first pass, last pass) of an operator that needs statistics of a row before the row's results; else None.

    The passes of a row that does not stay on chip between them. A softmax takes the running maximum and the sum of
    exponentials in one pass (Milakov and Gimelshein, arXiv 1805.02867) and exponentials again in the other; a norm
    takes sum and sum of squares, then scales.
    """
    if operator.kind == "softmax":
        all_of_it, n_values = Counter(dict(vector_work(operator))), operator.count("rows") * operator.count("columns")
        first = all_of_it - Counter(div=n_values)
        last = all_of_it - Counter(max=n_values, add=n_values)
    elif operator.kind == "norm" and is_reducing(operator):
        all_of_it, rows = Counter(dict(vector_work(operator))), operator.count("rows")
        n_values = rows * operator.count("columns")
        sums = {"mul": n_values, "add": n_values * (1 if operator.text("function") == "rms" else 2)}
        first = Counter(sums) + Counter(exp=rows, div=rows)
        last = all_of_it - first
    else:
        return None
    passes = [tuple((kind, counts[kind]) for kind in VECTOR_KINDS if counts[kind]) for counts in (first, last)]
    return passes[0], passes[1]


def on_vector_unit(operator: Operator) -> tuple[tuple[str, int], ...]:
    """:func:`vector_work`, with the multiply-adds of a convolution that the vector unit does (a depthwise one)."""
    taps = (("mul", operator.macs), ("add", operator.macs)) if operator.kind == "conv" else ()
    return (*taps, *vector_work(operator))


def is_reducing(operator: Operator) -> bool:
    """Whether lanes must be combined: softmax, reductions, and norms that take their statistics from the values."""
    return operator.kind in ("softmax", "reduction") or (
        operator.kind == "norm" and operator.text("function") != "batch"
    )


def _norm(counts: Counter[str], operator: Operator) -> None:
    rows, columns = operator.count("rows"), operator.count("columns")
    function = operator.text("function")
    _add(counts, _PER_VALUE.get(function, _PER_VALUE["layer"]), rows * columns)
    if function == "batch":
        return
    _add(counts, {"exp": 1, "div": 1}, rows)
    _add(counts, {"mul": 1}, rows * columns * (len(operator.inputs) > 1))
    _add(counts, {"add": 1}, rows * columns * (len(operator.inputs) > 2))


def _add(counts: Counter[str], per_value: Mapping[str, int], n_values: int) -> None:
    for kind, times in per_value.items():
        counts[kind] += times * n_values
