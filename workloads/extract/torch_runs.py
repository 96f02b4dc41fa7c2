"""PyTorch operators on large known tensors, held as runs: what a mask's construction is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilewright.workloads.extract.runs import OuterSum, Runs, combine, constant_runs, kept_triangle
from tilewright.workloads.extract.torch_tables import ELEMENTWISE, VIEWS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.workloads.extract.runs import Known

    Array = NDArray[np.generic]

__all__ = ["as_known", "as_tensor", "call_on_cpu", "structured"]

_NOT_OF_EACH = ("cumsum", "cumprod", "tril", "triu")
_CASTS = tuple(name for name, kind in VIEWS.items() if kind == "cast")
_SAME = ("contiguous", "clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "dropout")
_RESHAPED = ("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten", "unflatten", "view_as")
_EXPANDED = ("expand", "expand_as", "broadcast_to")
_CONSTANTS = {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
_FILLED = ("full", "full_like", "new_full")


def structured(node: Any, name: str, shape: tuple[int, ...], known: Callable[[Any], Any]) -> Known | None:
    """The result of a node as runs, or as a sum of two vectors; None when it has no such structure.

    ``known`` gives the tensor or the runs that an input node stands for.
    """
    try:
        return _result(node, name, shape, known)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None


def _result(node: Any, name: str, shape: tuple[int, ...], known: Callable[[Any], Any]) -> Known | None:
    arguments = _by_name(node)
    if name in _CONSTANTS:
        return constant_runs(shape, _typed(node, _CONSTANTS[name]))
    if name in _FILLED:
        return constant_runs(shape, _typed(node, arguments["fill_value"]))
    tensors = [one for one in node.all_input_nodes if hasattr(one.meta.get("val"), "shape")]
    operands = [as_known(known(one)) for one in tensors]
    if name in ("tril", "triu"):
        return kept_triangle(operands[0], shape, int(arguments.get("diagonal") or 0), upper=name == "triu")
    if name in _CASTS or (name in ELEMENTWISE and name not in _NOT_OF_EACH):
        return _of_each(node, name, shape, tensors, operands, arguments)
    if name in VIEWS and isinstance(operands[0], Runs):
        return _viewed(operands[0], name, shape, arguments)
    return operands[0] if name in _SAME else None


def _by_name(node: Any) -> dict[str, Any]:
    names = [argument.name for argument in node.target._schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _typed(node: Any, number: Any) -> Any:
    import torch

    return _array(torch.tensor(number, dtype=node.meta["val"].dtype))[()]


def _of_each(
    node: Any,
    name: str,
    shape: tuple[int, ...],
    tensors: Sequence[Any],
    operands: Sequence[Known],
    arguments: dict[str, Any],
) -> Known | None:
    import numpy as np

    function, given = name, list(operands)
    other = arguments.get("other")
    if isinstance(other, int | float) and arguments.get("alpha", 1) == 1:
        given.append(np.asarray(other))
    if len(given) == 1 and name in _CASTS:
        function = "same"
    if any(one is None for one in given) or (function in ("add", "sub") and len(given) > _PAIR):
        return None

    def apply(values: list[Array]) -> Array:
        import torch

        by_node = {
            one: torch.from_numpy(np.ascontiguousarray(array)) for one, array in zip(tensors, values, strict=False)
        }
        with torch.no_grad():
            return _array(call_on_cpu(node, lambda one: by_node.get(one, one)))

    return combine(function, given, shape, apply)


def _viewed(runs: Runs, name: str, shape: tuple[int, ...], arguments: dict[str, Any]) -> Runs | None:
    if name in _SAME:
        return runs
    if name in _RESHAPED:
        return runs.shown_as(shape)
    if name in _EXPANDED:
        return runs.expanded(shape)
    if name == "slice":
        dimension = int(arguments.get("dim") or 0) % len(runs.shape)
        extent = runs.shape[dimension]
        start, stop, step = slice(arguments.get("start"), arguments.get("end"), arguments.get("step")).indices(extent)
        return runs.part(dimension, start, stop) if step == 1 else None
    if name == "select":
        dimension, index = int(arguments["dim"]) % len(runs.shape), int(arguments["index"])
        if dimension == len(runs.shape) - 1:
            return None
        index %= runs.shape[dimension]
        return runs.part(dimension, index, index + 1).shown_as(shape)
    return None


def call_on_cpu(node: Any, known: Callable[[Any], Any]) -> Any:
    """The result of a node, with ``known`` in the place of its inputs and the processor in that of its device."""
    import torch

    arguments, keywords = torch.fx.map_arg(node.args, known), dict(torch.fx.map_arg(node.kwargs, known))
    names = [argument.name for argument in getattr(getattr(node.target, "_schema", None), "arguments", ())]
    if "device" in names:
        keywords["device"] = torch.device("cpu")
        at = names.index("device")
        keywords |= dict(zip(names[at + 1 :], arguments[at + 1 :], strict=False))
        arguments = tuple(arguments[:at])
    return node.target(*arguments, **keywords)


def as_known(known: Any) -> Any:
    """Runs as they are, a tensor as an array."""
    return _array(known) if hasattr(known, "detach") else known


def as_tensor(known: Runs | OuterSum) -> Any:
    """All entries of runs; sums of positions are left as they are."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(known.dense())) if isinstance(known, Runs) else known


def _array(tensor: Any) -> Array:
    import torch

    plain = tensor.detach()
    array: Array = (plain.float() if plain.dtype in (torch.bfloat16,) else plain).numpy()
    return array


_PAIR = 2
