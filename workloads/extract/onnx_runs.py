"""ONNX operators on large known tensors, held as runs: what a mask's construction is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilewright.workloads.extract.runs import OuterSum, Runs, combine, constant_runs, kept_triangle, runs_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.workloads.extract.runs import Known

    Array = NDArray[np.generic]

__all__ = ["structured"]

#: ONNX's names for what runs can be joined by, and NumPy's for the same.
_NAMES = {
    "Less": ("lt", "less"),
    "LessOrEqual": ("le", "less_equal"),
    "Greater": ("gt", "greater"),
    "GreaterOrEqual": ("ge", "greater_equal"),
    "Equal": ("eq", "equal"),
    "Add": ("add", "add"),
    "Sub": ("sub", "subtract"),
    "Neg": ("neg", "negative"),
    "Abs": ("abs", "abs"),
    "Mul": ("mul", "multiply"),
    "Div": ("div", "divide"),
    "And": ("and", "logical_and"),
    "Or": ("or", "logical_or"),
    "Xor": ("xor", "logical_xor"),
    "Not": ("not", "logical_not"),
    "BitwiseAnd": ("and", "bitwise_and"),
    "BitwiseOr": ("or", "bitwise_or"),
    "BitwiseNot": ("not", "bitwise_not"),
    "Where": ("where", "where"),
    "Max": ("max", "maximum"),
    "Min": ("min", "minimum"),
}
_SHOWN = ("Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity")


def structured(
    node: Any, shape: tuple[int, ...], dtype: Any, operands: Sequence[Known], attributes: Mapping[str, Any]
) -> Known | None:
    """The result of a node as runs, or as a sum of two vectors; None when it has no such structure."""
    try:
        return _result(node.op_type, shape, dtype, operands, attributes)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None


def _result(
    name: str, shape: tuple[int, ...], dtype: Any, operands: Sequence[Known], attributes: Mapping[str, Any]
) -> Known | None:
    if name == "ConstantOfShape":
        return constant_runs(shape, _fill(attributes, dtype))
    first = operands[0]
    if name in _NAMES:
        function, numpy_name = _NAMES[name]
        return combine(function, operands, shape, _by_numpy(numpy_name, dtype))
    if name == "Cast":
        return combine("same", operands[:1], shape, lambda values: values[0].astype(dtype))
    if name == "Trilu":
        diagonal = int(_number(operands[1])) if len(operands) > 1 else 0
        return kept_triangle(first, shape, diagonal, upper=bool(attributes.get("upper", 1)))
    if name == "Expand":
        runs = runs_of(first, shape[-1])
        return None if runs is None else runs.expanded(shape)
    if isinstance(first, OuterSum):
        return first if name == "Identity" else None
    if name in _SHOWN:
        return first.shown_as(shape) if isinstance(first, Runs) else first.reshape(shape)
    if name == "Slice" and isinstance(first, Runs):
        return _sliced(first, operands[1:])
    return None


def _fill(attributes: Mapping[str, Any], dtype: Any) -> Any:
    import numpy as np
    from onnx.numpy_helper import to_array

    value = attributes.get("value")
    return np.zeros((), dtype=dtype)[()] if value is None else to_array(value).reshape(-1)[0]


def _by_numpy(name: str, dtype: Any) -> Callable[[list[Array]], Array]:
    import numpy as np

    def apply(values: list[Array]) -> Array:
        result: Array = np.asarray(getattr(np, name)(*values)).astype(dtype)
        return result

    return apply


def _number(known: Known) -> Any:
    return known.reshape(-1)[0] if not isinstance(known, Runs | OuterSum) else None


def _sliced(runs: Runs, bounds: Sequence[Known]) -> Runs | None:
    """Parts along some dimensions, step 1 only."""
    lists = [
        [int(number) for number in bound.reshape(-1)] for bound in bounds if not isinstance(bound, Runs | OuterSum)
    ]
    if len(lists) != len(bounds) or len(lists) < 2:
        return None
    starts, stops = lists[:2]
    axes = lists[2] if len(lists) > 2 else list(range(len(starts)))
    steps = lists[3] if len(lists) > 3 else [1] * len(starts)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        first, last, _ = slice(start, stop).indices(runs.shape[axis])
        if step != 1 or last <= first:
            return None
        runs = runs.part(axis, first, last)
    return runs
