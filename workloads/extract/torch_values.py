"""What is known of the tensors of an exported PyTorch program: shapes, formats, places, and numbers given
beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import INDEX_FORMAT, Draft
from tilewright.workloads.extract.runs import OuterSum, Runs, is_vector
from tilewright.workloads.extract.torch_runs import as_known, as_tensor, call_on_cpu, structured
from tilewright.workloads.extract.torch_tables import VIEWS

__all__ = ["NodeNumbers", "format_of", "node_path", "result_shape"]

_LARGEST_KNOWN = 1 << 22  # entries of a tensor without structure whose numbers are worked out
_SMALL = 1 << 14
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
    "complex64": "fp32",  # pairs of numbers: their shape has one more dimension, of size 2
    "complex128": "fp64",
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
    return (*value.shape, 2) if value.dtype.is_complex else tuple(value.shape)


def node_path(node: Any) -> str:
    """The place of a node in the module: that of the innermost module it was called in."""
    stack = node.meta.get("nn_module_stack") or {}
    for path, _ in reversed(list(stack.values())):
        text = str(path).removeprefix("L['self']").strip(".")
        if text:
            return text.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "")
    return str(node.name)


class NodeNumbers:
    """Numbers that follow from the program alone (positions, masks), worked out on the processor.

    Small tensors and vectors are computed entry by entry, others as runs, so that a mask of any length is known.
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

    def _keep(self, draft: Draft, name: str, node: Any, known: Any) -> None:
        self._tensors[node] = known
        draft.values[name].data = lambda: as_known(known)

    def evaluate(self, draft: Draft, node: Any, name: str, made: dict[Any, Any]) -> bool:
        """Compute a node of one result whose tensors are all known; False when they are not, or the result is too large
        and has no structure. ``name`` is that of its operator.
        """
        import torch

        value = node.meta["val"]
        if not isinstance(value, torch.Tensor) or "rand" in str(node.target) or not _is_settled(value):
            return False
        if value.dtype.is_complex or any(one in self._tensors and _is_complex(one) for one in node.all_input_nodes):
            return False
        if not all(one in self._tensors for one in node.all_input_nodes if _is_tensor(one)):
            return False
        if not all(one in self._tensors or one in made for one in node.all_input_nodes):
            return False
        known = self._known_result(node, name, value, made)
        if known is None:
            return False
        shape = result_shape(draft.name, node.name, value)
        entered = draft.value(node.name, shape, format_of(draft.name, value), "constant")
        self._keep(draft, entered, node, known)
        made[node] = entered
        return True

    def _known_result(self, node: Any, name: str, value: Any, made: dict[Any, Any]) -> Any:
        shape = tuple(value.shape)
        inputs = [self._tensors[one] for one in node.all_input_nodes if one in self._tensors]
        is_plain = not any(isinstance(one, Runs | OuterSum) for one in inputs)
        if is_plain and (math.prod(shape) <= _SMALL or is_vector(shape) or _is_free_view(name, inputs)):
            return self._computed(node, made)
        found = structured(node, name, shape, lambda one: self._tensors.get(one, made.get(one)))
        if found is not None or math.prod(shape) > _LARGEST_KNOWN:
            return found
        return self._computed(node, made)

    def _computed(self, node: Any, made: dict[Any, Any]) -> Any:
        """The result entry by entry; None when the operator fails, or an input is too large."""
        import torch

        def known(one: Any) -> Any:
            found = self._tensors.get(one, made.get(one))
            return as_tensor(found) if isinstance(found, Runs | OuterSum) else found

        inputs = [self._tensors.get(one) for one in node.all_input_nodes]
        if any(isinstance(one, OuterSum) or _is_too_long(one) for one in inputs):
            return None
        try:
            with torch.no_grad():
                return call_on_cpu(node, known)
        except Exception:
            return None


def _is_tensor(node: Any) -> bool:
    return hasattr(node.meta.get("val"), "shape")


def _is_complex(node: Any) -> bool:
    return bool(node.meta["val"].dtype.is_complex)


def _is_settled(value: Any) -> bool:
    return all(type(extent) is int for extent in value.shape) and math.prod(value.shape) > 0


def _is_free_view(name: str, inputs: Sequence[Any]) -> bool:
    """Whether a result shows an input that is there already, and takes no memory."""
    return VIEWS.get(name) in ("reshape", "part") and len(inputs) == 1


def _is_too_long(known: Any) -> bool:
    return isinstance(known, Runs) and math.prod(known.shape) > _LARGEST_KNOWN
