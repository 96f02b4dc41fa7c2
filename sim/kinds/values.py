"""Operators computed on numbers, whole tensor by whole tensor: what any other way to compute them must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from tilewright.errors import InputError
from tilewright.registry import Registry
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.operators import Operator

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["VALUES", "FloatArray", "Values", "operator_on_numbers", "register_values"]

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
#: From an operator, its inputs in the shapes of the stream, and the shape of its result, the result.
Values: TypeAlias = "Callable[[Operator, Sequence[FloatArray], tuple[int, ...]], FloatArray]"

VALUES: Registry[Values] = Registry("values of an operator kind", rooms=("tilewright.sim.kinds",))


def register_values(kind: str, values: Values) -> Values:
    """Operators of ``kind`` are computed by ``values``.

    Raises InputError for a kind that is not known, or is computed already.
    """
    KINDS.get(kind)
    return VALUES.register(kind, values)


def operator_on_numbers(operator: Operator, inputs: Sequence[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    """The result of ``operator``, of ``shape``. Raises InputError for one of a kind that does not say how."""
    values = VALUES.find(operator.kind)
    if values is None:
        raise InputError(f'{operator.name}: an operator of kind "{operator.kind}" does not run on numbers')
    return values(operator, inputs, shape)
