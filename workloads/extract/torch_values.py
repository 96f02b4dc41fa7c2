"""What is known of the tensors of an exported PyTorch program: shapes, formats, places, and numbers given
beforehand.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import INDEX_FORMAT, Draft

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

__all__ = ["Known", "format_of", "node_path", "result_shape"]

_LARGEST_KNOWN = 1 << 25  # values of a tensor whose numbers are kept: a mask of 4096 x 8192
_FORMATS = {
    "float64": "fp64",
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e4m3fnuz": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
    "float8_e5m2fnuz": "fp8_e5m2",
    "int8": "int8",
    "uint8": "int8",
    "bool": "int8",
    "int16": "int16",
    "int32": INDEX_FORMAT,
    "int64": INDEX_FORMAT,
    "complex64": "fp64",
}


def format_of(what: str, value: Any) -> str:
    """The number format of a tensor; raises InputError for a type that has none."""
    name = str(value.dtype).removeprefix("torch.")
    if name not in _FORMATS:
        raise InputError(f"{what}: tensors of {name} are not supported")
    return _FORMATS[name]


def result_shape(what: str, place: str, value: Any) -> tuple[int, ...]:
    """The shape of a tensor in whole numbers; raises InputError when a size was left open."""
    if any(type(extent) is not int for extent in value.shape):
        shown = ", ".join(map(str, value.shape))
        raise InputError(f"{what}: {place}: sizes were left open ({shown}); export the module with fixed sizes")
    return tuple(value.shape)


def node_path(node: Any) -> str:
    """The place of a node in the module: that of the innermost module it was called in."""
    stack = node.meta.get("nn_module_stack") or {}
    for path, _ in reversed(list(stack.values())):
        text = str(path).removeprefix("L['self']").strip(".")
        if text:
            return text.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "")
    return str(node.name)


class Known:
    """Numbers that follow from the program alone (positions, masks), worked out on the processor when they are
    needed.
    """

    def __init__(self) -> None:
        self._tensors: dict[Any, Any] = {}

    def enter_constant(self, draft: Draft, name: str, node: Any, tensor: Any, *, is_trained: bool) -> None:
        """A buffer or lifted constant with numbers (not one on the meta device)."""
        if is_trained or tensor.device.type != "cpu" or type(tensor).__name__ == "FakeTensor":
            return
        self._keep(draft, name, node, tensor)

    def share(self, node: Any, other: Any) -> None:
        """The input ``other`` of a region is the tensor ``node`` outside."""
        if node in self._tensors:
            self._tensors[other] = self._tensors[node]

    def _keep(self, draft: Draft, name: str, node: Any, tensor: Any) -> None:
        self._tensors[node] = tensor
        draft.values[name].data = lambda: _numbers(tensor)

    def evaluate(self, draft: Draft, node: Any, made: dict[Any, Any]) -> bool:
        """Compute a node of one result whose tensors are all known; False when they are not, or are too many."""
        import torch

        value = node.meta["val"]
        if not isinstance(value, torch.Tensor) or not _is_small(value) or "rand" in str(node.target):
            return False
        if not all(one in self._tensors for one in node.all_input_nodes if _is_tensor(one)):
            return False
        if not all(one in self._tensors or one in made for one in node.all_input_nodes):
            return False

        def known(one: Any) -> Any:
            return self._tensors.get(one, made.get(one))

        arguments = torch.fx.map_arg(node.args, known)
        keywords = dict(torch.fx.map_arg(node.kwargs, known))
        if any(argument.name == "device" for argument in getattr(node.target, "_schema", _NO_SCHEMA).arguments):
            keywords["device"] = torch.device("cpu")
            arguments = _without_device(node.target, arguments)
        try:
            with torch.no_grad():
                result = node.target(*arguments, **keywords)
        except Exception:
            return False
        shape = result_shape(draft.name, node.name, value)
        name = draft.value(node.name, shape, format_of(draft.name, value), "constant")
        self._keep(draft, name, node, result)
        made[node] = name
        return True


class _NoSchema:
    arguments: tuple[Any, ...] = ()


_NO_SCHEMA = _NoSchema()


def _without_device(target: Any, arguments: Any) -> tuple[Any, ...]:
    """Positional arguments up to the device, which is given by name."""
    names = [argument.name for argument in target._schema.arguments]
    return tuple(arguments[: names.index("device")])


def _is_tensor(node: Any) -> bool:
    return hasattr(node.meta.get("val"), "shape")


def _is_small(value: Any) -> bool:
    return all(type(extent) is int for extent in value.shape) and 0 < math.prod(value.shape) <= _LARGEST_KNOWN


def _numbers(tensor: Any) -> Array:
    import torch

    plain = tensor.detach()
    array: Array = (plain.float() if plain.dtype in (torch.bfloat16,) else plain).numpy()
    return array
