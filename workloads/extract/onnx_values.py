"""The tensors of an ONNX graph: shapes, formats, and the numbers that are known before the network runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import INDEX_FORMAT, Draft, Value
from tilewright.workloads.extract.masks import HIDDEN_BELOW
from tilewright.workloads.extract.onnx_child import LARGEST_RESULT
from tilewright.workloads.extract.onnx_guard import LibraryEndedError, LibraryError, ask
from tilewright.workloads.extract.runs import MOST_ENTRIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.workloads.extract.runs import Known

    Array = NDArray[np.generic]

__all__ = ["Binding", "GraphValues"]

_LARGEST_KNOWN = LARGEST_RESULT
_MOST_AT_ONCE = 1 << 16  # numbers that are worked out before anybody asks for them
_PLANE = 2
_MOST_SIZES = 4096  # values of a tensor that may say how large another is
_FORMATS = {
    "FLOAT": "fp32",
    "DOUBLE": "fp64",
    "FLOAT16": "fp16",
    "BFLOAT16": "bf16",
    "INT8": "int8",
    "UINT8": "int8",
    "INT16": "int16",
    "UINT16": "int16",
    "INT4": "int4",
    "UINT4": "int4",
    "INT2": "int2",
    "UINT2": "int2",
    "BOOL": "int8",
    "INT32": INDEX_FORMAT,
    "INT64": INDEX_FORMAT,
    "UINT32": INDEX_FORMAT,
    "UINT64": INDEX_FORMAT,
    "FLOAT8E4M3FN": "fp8_e4m3",
    "FLOAT8E4M3FNUZ": "fp8_e4m3",
    "FLOAT8E5M2": "fp8_e5m2",
    "FLOAT8E5M2FNUZ": "fp8_e5m2",
    "FLOAT8E8M0": "int8",
    "FLOAT4E2M1": "fp4_e2m1",
}


class Binding(NamedTuple):
    """What an ONNX name stands for: a value of the draft (empty for none), its type, and its numbers where known."""

    draft_name: str
    kind: Any
    tensor: Any


class GraphValues:
    """The tensors of a model by their ONNX names, entered into a draft as they become known."""

    def __init__(self, model: Any, draft: Draft, sizes: Mapping[str, int], folder: Path) -> None:
        import onnx

        self._onnx = onnx
        self.draft = draft
        self._folder = folder
        #: Stored tensors that are trained, as far as is known, by their names in the draft.
        self.weights: dict[str, None] = {}
        self._names: dict[str, str] = {}
        self._types: dict[str, Any] = {}
        self._tensors: dict[str, Any] = {}
        self._stored = {tensor.name for tensor in model.graph.initializer}
        self._opsets = [entry.SerializeToString() for entry in model.opset_import]
        self._gave_up = False
        self.versions = {entry.domain: entry.version for entry in model.opset_import}
        self._ir_version = model.ir_version
        for tensor in model.graph.initializer:
            self._enter_initializer(tensor)
        self.results = {one.name for one in model.graph.output}
        self._declared = {one.name: one.type for one in (*model.graph.value_info, *model.graph.output)}
        for given in model.graph.input:
            if given.name not in self._names:
                self._enter_input(given, sizes)

    def _enter_initializer(self, tensor: Any) -> None:
        """A stored tensor: a weight when it is of numbers that can be trained and more than one, else a constant."""
        shape, number_format = tuple(tensor.dims), self.format_name(tensor.data_type)
        if 0 in shape:
            self._keep(tensor.name, shape, tensor)
            return
        is_weight = number_format != INDEX_FORMAT and math.prod(shape) > 1
        name = self.draft.value(tensor.name, shape, number_format, "weight" if is_weight else "constant")
        self._names[tensor.name] = name
        self._keep(tensor.name, shape, tensor)
        if math.prod(shape) <= MOST_ENTRIES:
            self.draft.values[name].data = lambda: self._stored_numbers(tensor)
        if is_weight:
            self.weights[name] = None

    def _keep(self, name: str, shape: Sequence[int], tensor: Any) -> None:
        self._types[name] = self._onnx.helper.make_tensor_type_proto(tensor.data_type, list(shape))
        if not tensor.external_data and math.prod(shape) <= _LARGEST_KNOWN:
            self._tensors[name] = tensor

    def _enter_input(self, given: Any, sizes: Mapping[str, int]) -> None:
        kind = given.type.tensor_type
        if given.name in sizes:
            self._enter_known(given.name, self._of_type(sizes[given.name], kind))
            return
        shape = tuple(
            one.dim_value
            if one.dim_value > 0
            else sizes[own if (own := f"{given.name}.{index}") in sizes else one.dim_param]
            for index, one in enumerate(kind.shape.dim)
        )
        if min(shape, default=1) < 0:
            raise InputError(f"{self.draft.name}: {given.name}: given sizes {list(shape)}; allowed 0 or more")
        if 0 not in shape:  # a cache before its first use holds nothing
            self._names[given.name] = self.draft.value(given.name, shape, self.format_name(kind.elem_type))
            self.draft.inputs.append(self._names[given.name])
        self._types[given.name] = self._onnx.helper.make_tensor_type_proto(kind.elem_type, list(shape))

    def _of_type(self, number: int, kind: Any) -> Array:
        import numpy as np

        dtype = self._onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        array: Array = np.full([one.dim_value for one in kind.shape.dim], number, dtype=dtype)
        return array

    def format_name(self, data_type: int) -> str:
        """The number format of an ONNX data type."""
        name = self._onnx.TensorProto.DataType.Name(data_type)
        if name not in _FORMATS:
            raise InputError(f"{self.draft.name}: tensors of {name.lower()} are not supported")
        return _FORMATS[name]

    # --- what numbers are for ---------------------------------------------------------------------------------------

    def trained(self, name: str) -> None:
        """Say that a stored tensor of whole numbers is trained (a quantised bias), not a table of places."""
        value = self.draft.values.get(self._names.get(name, ""))
        if value is not None and value.role == "constant" and value.n_elements > 1 and name in self._stored:
            value.role = "weight"
            self.weights[value.name] = None

    def measured(self, name: str) -> None:
        """Say that a tensor was not trained but belongs to the format of another: scales and zero points."""
        self.untrained(self.draft.base(self.name_of(name)))

    def untrained(self, value: Value) -> None:
        """Take a stored value out of the parameters."""
        if value.role == "weight":
            value.role = "constant"

    def count_parameters(self) -> int:
        """Numbers of all trained tensors, once the draft is simplified.

        What turned out to be a table (of rotary embeddings, scales) or a mask is none of them.
        """
        read = {self.draft.base(name).name for step in self.draft.steps for name in step.inputs}
        trained = [self.draft.values[name] for name in self.weights if self.draft.values[name].role == "weight"]
        return sum(value.n_elements for value in trained if value.name in read or not self._is_mask(value))

    def _is_mask(self, value: Value) -> bool:
        """Whether a stored tensor that nothing reads any more hides scores: nothing that is trained is so low."""
        if value.n_elements > _LARGEST_KNOWN or len(value.shape) < _PLANE or value.shape[-1] < _PLANE:
            return False
        numbers = self.draft.numbers(value.name)
        return numbers is not None and bool((numbers == numbers).all() and numbers.min() <= HIDDEN_BELOW)

    def is_signed(self, name: str) -> bool:
        """Whether an ONNX tensor holds signed whole numbers."""
        kind = self._types[name].tensor_type.elem_type if name in self._types else 0
        return not self._onnx.TensorProto.DataType.Name(kind).startswith("U")

    def is_power_of_two_scale(self, name: str) -> bool:
        """Whether an ONNX tensor holds scales that are powers of two in 8 bits."""
        kind = self._types[name].tensor_type.elem_type if name in self._types else 0
        return str(self._onnx.TensorProto.DataType.Name(kind)) == "FLOAT8E8M0"

    # --- results of nodes ---------------------------------------------------------------------------------------------

    def infer(self, node: Any, place: str) -> None:
        """Work out types of the results of ``node``; its numbers too, when all inputs are known and few.

        Raises InputError that names the node when ONNX cannot tell the shapes.
        """
        for name in node.output:  # the nodes of a loop are read more than once
            self._tensors.pop(name, None)
            self._types.pop(name, None)
        if self._evaluate(node, place):
            return
        types = self._inferred(node, place)
        for name in filter(None, node.output):
            found = next((one for one in (types.get(name), self._declared.get(name)) if _is_settled(one)), None)
            if found is not None:
                shape = [one.dim_value for one in found.tensor_type.shape.dim]
                if min(shape, default=0) < 0:
                    raise InputError(
                        f"{self.draft.name}: {place}: the sizes of its result are {shape}; allowed 1 or more"
                    )
                self._types[name] = found

    def _inferred(self, node: Any, place: str) -> dict[str, Any]:
        version = self.versions.get(node.domain, self.versions.get("ai.onnx", 1))
        plain, names = _without_names(node)
        types = {to: self._types[name].SerializeToString() for name, to in names.items() if name in self._types}
        data = {to: self._tensors[name].SerializeToString() for name, to in names.items() if self._says_sizes(name)}
        asked = (node.op_type, node.domain, version, plain, types, data, self._opsets, self._ir_version)
        try:
            found = ask("infer", *asked, remember=True)
        except LibraryEndedError as fault:
            raise InputError(
                f"{self.draft.name}: {place}: the ONNX library does not get over this {node.op_type}: {fault}; its "
                "sizes or attributes are damaged or beyond reason"
            ) from None
        except LibraryError as fault:
            raise InputError(f"{self.draft.name}: {place}: shapes do not fit ({fault})") from None
        return {
            name: self._onnx.TypeProto.FromString(found[f"o{index}"])
            for index, name in enumerate(node.output)
            if f"o{index}" in found
        }

    def _says_sizes(self, name: str) -> bool:
        return name in self._tensors and math.prod(self._tensors[name].dims) <= _MOST_SIZES

    def _is_small(self, node: Any, place: str) -> bool:
        """Whether results are few numbers: large ones are worked out when they are asked for, by their structure."""
        return all(
            not _is_settled(one) or math.prod(size.dim_value for size in one.tensor_type.shape.dim) <= _MOST_AT_ONCE
            for one in self._inferred(node, place).values()
        )

    def _evaluate(self, node: Any, place: str) -> bool:
        """Compute a node of known numbers; False when some are unknown, or too many."""
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            self._enter_initializer(tensor)
            return True
        if node.op_type in ("Shape", "Size") and node.input[0] in self._types:
            return self._evaluate_shape(node)
        if any(name and name not in self._tensors for name in node.input) or not _is_pure(node):
            return False
        if any(name in self._names and self.draft.role(self._names[name]) == "weight" for name in node.input):
            return False
        if not self._is_small(node, place):
            return False
        results = self._run(node, {name: self.numbers(name) for name in node.input if name})
        if results is None:
            return False
        for name, result in zip(filter(None, node.output), results, strict=True):
            self._enter_known(name, result)
        return True

    def _run(self, node: Any, feeds: Mapping[str, Array]) -> list[Any] | None:
        """The results of one node by ONNX's own evaluator; None when that does not know the operator, or it is too
        much work.
        """
        if self._gave_up:
            return None
        onnx = self._onnx
        plain, names = _without_names(node)
        inputs = [onnx.ValueInfoProto(name=names[name], type=self._types[name]) for name in feeds]
        outputs = [onnx.ValueInfoProto(name=f"o{index}") for index, name in enumerate(node.output) if name]
        graph = onnx.GraphProto(name="known", node=[onnx.NodeProto.FromString(plain)], input=inputs, output=outputs)
        model = onnx.ModelProto(graph=graph, ir_version=self._ir_version)
        model.opset_import.extend(map(onnx.OperatorSetIdProto.FromString, self._opsets))
        arrays = {names[name]: array for name, array in feeds.items()}
        is_small = sum(array.size for array in arrays.values()) <= _MOST_SIZES
        try:
            results: list[Any] | None = ask("run", model.SerializeToString(), arrays, remember=is_small)
        except LibraryEndedError:
            self._gave_up = True
            return None
        except LibraryError:
            return None
        return results

    def promise(self, node: Any) -> None:
        """Let the numbers of a node of weights and constants be worked out when they are asked for (a mask)."""
        names = [name for name in node.input if name]
        if (
            not names
            or not _is_pure(node)
            or not all(self.has(x) and self.draft.is_known(self.name_of(x)) for x in names)
        ):
            return

        for index, name in enumerate(filter(None, node.output)):
            value = self.draft.values.get(self._names.get(name, ""))
            if value is not None and value.data is None and value.name not in map(self.name_of, names):
                value.data = _once(partial(self._worked_out, node, index, self._types.get(name)))
                if value.view_of is None:
                    value.role = (
                        "weight" if any(self.draft.role(self.name_of(x)) == "weight" for x in names) else "constant"
                    )

    def _worked_out(self, node: Any, index: int, kind: Any) -> Known | None:
        """The numbers of a result of a node: as runs where they are many, else one by one."""
        from tilewright.workloads.extract.onnx_runs import structured

        names = [name for name in node.input if name]
        found = {name: self.draft.known(self.name_of(name)) for name in names}
        known = {name: one for name, one in found.items() if one is not None}
        if len(known) < len(found) or kind is None:
            return None
        shape = tuple(one.dim_value for one in kind.tensor_type.shape.dim)
        if math.prod(shape) > _MOST_AT_ONCE or not all(hasattr(one, "tobytes") for one in known.values()):
            dtype = self._onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
            attributes = {one.name: self._onnx.helper.get_attribute_value(one) for one in node.attribute}
            result = structured(node, shape, dtype, [known[name] for name in names], attributes)
            if result is not None or math.prod(shape) > _LARGEST_KNOWN:
                return result
        feeds = {name: self.draft.numbers(self.name_of(name)) for name in names}
        if any(array is None for array in feeds.values()):
            return None
        results = self._run(node, {name: array for name, array in feeds.items() if array is not None})
        return None if results is None else results[index]

    def _evaluate_shape(self, node: Any) -> bool:
        import numpy as np

        shape = [one.dim_value for one in self._types[node.input[0]].tensor_type.shape.dim]
        if node.op_type == "Size":
            self._enter_known(node.output[0], np.array(math.prod(shape), dtype=np.int64))
            return True
        attributes = {one.name: one.i for one in node.attribute}
        part = shape[slice(attributes.get("start", 0), attributes.get("end", len(shape)))]
        self._enter_known(node.output[0], np.array(part, dtype=np.int64))
        return True

    def _enter_known(self, name: str, result: Any) -> None:
        import numpy as np

        array = np.asarray(result)
        tensor = self._onnx.numpy_helper.from_array(array, name)
        self._types[name] = self._onnx.helper.make_tensor_type_proto(tensor.data_type, list(array.shape))
        self._tensors[name] = tensor
        if array.size:
            number_format = self.format_name(tensor.data_type)
            self._names[name] = self.draft.value(name, array.shape, number_format, "constant", data=lambda: array)

    # --- reading ------------------------------------------------------------------------------------------------------

    def is_computed(self, name: str) -> bool:
        """Whether the value was worked out and needs no operator."""
        return name in self._tensors

    def numbers(self, name: str) -> Array:
        """The numbers of a known tensor."""
        array: Array = self._onnx.numpy_helper.to_array(self._tensors[name])
        return array

    def _stored_numbers(self, tensor: Any) -> Array | None:
        """The numbers of an initializer; None when they are in a file beside the model that cannot be read."""
        if tensor.external_data:
            from onnx.external_data_helper import load_external_data_for_tensor

            loaded = type(tensor)()
            loaded.CopyFrom(tensor)
            try:
                load_external_data_for_tensor(loaded, str(self._folder))
            except Exception:
                return None
            tensor = loaded
        array: Array = self._onnx.numpy_helper.to_array(tensor)
        return array

    def whole_numbers(self, name: str) -> list[int] | None:
        """The numbers of a small known tensor as whole numbers; None when they are not known."""
        if not name or name not in self._tensors:
            return None
        return [int(value) for value in self.numbers(name).reshape(-1)]

    def has(self, name: str) -> bool:
        """Whether a tensor of this name is in the draft."""
        return name in self._names

    def is_empty(self, name: str) -> bool:
        """Whether a tensor holds no numbers at all."""
        return name not in self._names and 0 in (self.shape_of(name) or ())

    def name_of(self, name: str) -> str:
        """The draft's name of an ONNX tensor."""
        if name not in self._names:
            raise InputError(f'{self.draft.name}: nothing makes the tensor "{name}"')
        return self._names[name]

    def shape_of(self, name: str) -> tuple[int, ...] | None:
        """The shape of an ONNX tensor where it is known."""
        found = self._types.get(name)
        return None if found is None else tuple(one.dim_value for one in found.tensor_type.shape.dim)

    def format_of(self, name: str) -> str:
        """The number format of an ONNX tensor whose type is known."""
        return self.format_name(self._types[name].tensor_type.elem_type)

    def declare(self, name: str, shape: Sequence[int], like: str) -> None:
        """Say the shape of an ONNX tensor of which ONNX knows nothing, with the element type of ``like``."""
        kind = self._types[like].tensor_type.elem_type if like in self._types else 1
        self._types[name] = self._onnx.helper.make_tensor_type_proto(kind, list(shape))

    def declare_as(self, name: str, shape: Sequence[int], number_format: str) -> None:
        """Say the shape and number format of an ONNX tensor of which ONNX knows nothing."""
        known = next((key for key, value in _FORMATS.items() if value == number_format), "FLOAT")
        kind = self._onnx.TensorProto.DataType.Value("INT64" if number_format == INDEX_FORMAT else known)
        self._types[name] = self._onnx.helper.make_tensor_type_proto(kind, list(shape))

    def declared(self, name: str) -> tuple[int, ...] | None:
        """The shape that the file says an ONNX tensor has, where it says all of it."""
        found = self._declared.get(name)
        if found is None or not _is_settled(found):
            return None
        return tuple(one.dim_value for one in found.tensor_type.shape.dim)

    def binding(self, name: str) -> Binding:
        """What an ONNX name stands for now."""
        if not name:
            return Binding("", None, None)
        self.name_of(name)
        return Binding(self._names[name], self._types.get(name), self._tensors.get(name))

    def bind(self, name: str, found: Binding) -> None:
        """Let an ONNX name stand for something that had another."""
        for held, one in ((self._names, found.draft_name), (self._types, found.kind), (self._tensors, found.tensor)):
            held.pop(name, None)
            if one:
                held[name] = one

    def enter_number(self, name: str, number: int, kind: str) -> None:
        """Let an ONNX name stand for one known number."""
        import numpy as np

        self._enter_known(name, np.array(number, dtype=kind))

    def enter_constants(self, graph: Any) -> None:
        """Enter the stored tensors and declared types of an inner graph."""
        for tensor in graph.initializer:
            if tensor.name not in self._stored:
                self._stored.add(tensor.name)
                self._enter_initializer(tensor)
        self._declared |= {one.name: one.type for one in (*graph.value_info, *graph.output)}

    def set_result(self, name: str, draft_name: str, shape: Sequence[int] | None = None, like: str = "") -> None:
        """Say which value of the draft an ONNX tensor is."""
        self._names[name] = draft_name
        if name not in self._types and shape is not None:
            kind = self._types[like].tensor_type.elem_type if like in self._types else 1
            self._types[name] = self._onnx.helper.make_tensor_type_proto(kind, list(shape))


def _once(work_out: Callable[[], Known | None]) -> Callable[[], Known | None]:
    """What ``work_out`` gives, worked out at most once."""
    found: list[Known | None] = []

    def ask_once() -> Known | None:
        if not found:
            found.append(work_out())
        return found[0]

    return ask_once


def _is_settled(found: Any) -> bool:
    """Whether a type has an element type and a size for every dimension."""
    if found is None:
        return False
    kind = found.tensor_type
    return bool(kind.elem_type) and kind.HasField("shape") and all(one.HasField("dim_value") for one in kind.shape.dim)


def _without_names(node: Any) -> tuple[bytes, dict[str, str]]:
    """A node with inputs and results called by their places, so that equal ones are the same; and the new names."""
    names: dict[str, str] = {}
    for name in filter(None, node.input):
        names.setdefault(name, f"i{len(names)}")
    if any(attribute.HasField("g") for attribute in node.attribute):  # its graph reads tensors by their names
        names = {name: name for name in names}
    plain = type(node)(op_type=node.op_type, domain=node.domain)
    plain.input.extend(names.get(name, "") for name in node.input)
    plain.output.extend(f"o{index}" if name else "" for index, name in enumerate(node.output))
    plain.attribute.extend(node.attribute)
    return plain.SerializeToString(), names


def _is_pure(node: Any) -> bool:
    has_graph = any(attribute.HasField("g") for attribute in node.attribute)
    return not has_graph and not node.op_type.startswith("Random") and node.op_type not in ("Dropout", "Bernoulli")
