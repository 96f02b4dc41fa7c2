"""ONNX operators, one by one, as steps of a draft.

The definitions are those of https://onnx.ai/onnx/operators, and of the ``com.microsoft`` domain for block-quantised
weights.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import Draft, Step
from tilewright.workloads.extract.emit import (
    emit_conv,
    emit_elementwise,
    emit_gather,
    emit_matmul,
    emit_norm,
    emit_pool,
    emit_reduction,
    emit_softmax,
)
from tilewright.workloads.extract.onnx_attention import STANDARD as ATTENTION
from tilewright.workloads.extract.onnx_attention import append
from tilewright.workloads.extract.onnx_control import HANDLERS as CONTROL
from tilewright.workloads.extract.onnx_einsum import write_einsum
from tilewright.workloads.extract.onnx_microsoft import HANDLERS as MICROSOFT
from tilewright.workloads.extract.onnx_quantised import HANDLERS as QUANTISED
from tilewright.workloads.extract.onnx_quantised import Scaling, block_format, note_scales, quantised_result
from tilewright.workloads.extract.onnx_recurrent import HANDLERS as RECURRENT
from tilewright.workloads.extract.onnx_tables import (
    CREATES,
    ELEMENTWISE,
    KEEPS_SHAPE,
    MOVES,
    NORMS,
    READ_BESIDE,
    REDUCTIONS,
    VIEWS,
)
from tilewright.workloads.extract.onnx_values import GraphValues
from tilewright.workloads.extract.unknown import Unknown

__all__ = ["NodeReader", "attributes_of", "path_of"]


class NodeReader:
    """Reads the nodes of a graph, in order, into a draft."""

    def __init__(self, draft: Draft, values: GraphValues, unknown: Unknown) -> None:
        self.draft = draft
        self.values = values
        self.unknown = unknown
        self.scalings: dict[str, Scaling] = {}
        self.read_names: set[str] = set()
        self.n_unrolled = 0
        self.after: list[Step] = []  # steps that follow the one that is being written

    def note_read(self, graph: Any) -> None:
        """Remember which results are read, here or in inner graphs."""
        self.read_names |= {one.name for one in graph.output}
        for node in graph.node:
            self.read_names.update(filter(None, node.input))
            for attribute in node.attribute:
                for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    self.note_read(inner)

    def read(self, node: Any) -> None:
        """Write down one node; raises InputError for a shape that cannot be known or does not fit, and for damage."""
        try:
            self._read(node)
        except KeyError as fault:
            self._refuse(node, f'"{fault.args[0]}" is missing')
        except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as fault:
            self._refuse(node, (str(fault) or type(fault).__name__).splitlines()[0][:160])

    def _refuse(self, node: Any, reason: str) -> NoReturn:
        raise InputError(
            f"{self.draft.name}: {node.op_type} at {path_of(node)}: its inputs or attributes do not fit ({reason})"
        ) from None

    def _read(self, node: Any) -> None:
        path = path_of(node)
        if node.op_type == "DequantizeLinear":
            self.values.trained(node.input[0])
        handler = None if self.unknown.wanted(node.op_type) else handler_of(node)
        if node.op_type in CONTROL and handler is not None:
            handler(self, node, path)
            return
        self.values.infer(node, path)
        outputs = [name for name in node.output if name]
        if outputs and all(self.values.is_computed(name) for name in outputs):
            return
        if outputs and all(self.values.is_empty(name) for name in outputs):
            return
        if handler is None:
            if self.unknown.wanted(node.op_type).startswith("elementwise") and self.values.shape_of(outputs[0]) is None:
                self.values.declare(outputs[0], self.draft.shape(self.input(node, 0)), node.input[0])
            self._need_shapes(node, path, outputs)
            self.handle_unknown(node, path, outputs)
            return
        if node.op_type in KEEPS_SHAPE and outputs and self.values.shape_of(outputs[0]) is None:
            self.values.declare(outputs[0], self.draft.shape(self.input(node, 0)), node.input[0])
        if not is_foreign(node):
            self._need_shapes(node, path, [name for name in outputs if name in self.read_names])
        handler(self, node, path)
        self.draft.steps += self.after
        self.after.clear()
        self.values.promise(node)

    def _need_shapes(self, node: Any, path: str, outputs: list[str]) -> None:
        for name in outputs:
            if self.values.shape_of(name) is not None:
                continue
            if node.domain not in ("", "ai.onnx"):
                raise InputError(
                    f"{self.draft.name}: {node.op_type} at {path}: ONNX does not know this operator of {node.domain}; "
                    "allowed files that say the sizes of its results (value_info), or elementwise:FUNCTION for it"
                )
            raise InputError(
                f"{self.draft.name}: {node.op_type} at {path}: the size of its result depends on values that are "
                "not known; allowed operators whose sizes follow from the sizes of the inputs"
            )

    def handle_unknown(self, node: Any, path: str, outputs: list[str]) -> None:
        results = [self.new(name) for name in outputs]
        inputs = [self.values.name_of(name) for name in node.input if name and self.values.has(name)]
        self.unknown.handle(self.draft, node.op_type, path, inputs, results)

    # --- small steps --------------------------------------------------------------------------------------------------

    def new(self, name: str) -> str:
        """Enter the result ``name`` of a node into the draft."""
        shape = self.values.shape_of(name) or ()
        made = self.draft.value(name, shape, self.values.format_of(name))
        self.values.set_result(name, made)
        return made

    def result(self, node: Any, index: int, shape: tuple[int, ...], like: str, number_format: str = "") -> str:
        """Enter result ``index`` of a node of which ONNX knows nothing; empty where nobody wants it."""
        if index >= len(node.output) or not node.output[index]:
            return ""
        name = node.output[index]
        if number_format:
            self.values.declare_as(name, shape, number_format)
        else:
            self.values.declare(name, shape, like)
        return self.new(name)

    def declared(self, node: Any, index: int) -> tuple[int, ...] | None:
        """The shape that the file says a result has."""
        return self.values.declared(node.output[index]) if index < len(node.output) else None

    def alias(self, node: Any, index: int, value: str) -> None:
        """Say which value of the draft a result is."""
        if index < len(node.output) and node.output[index]:
            name = node.output[index]
            self.values.declare_as(name, self.draft.shape(value), self.draft.values[value].number_format)
            self.values.set_result(name, value)

    def input(self, node: Any, index: int) -> str:
        """The draft's name of an input; empty where it is left out."""
        present = index < len(node.input) and node.input[index] and not self.values.is_empty(node.input[index])
        return self.values.name_of(node.input[index]) if present else ""

    def inputs(self, node: Any) -> list[str]:
        return [self.values.name_of(name) for name in node.input if name and not self.values.is_empty(name)]

    def view(self, node: Any, path: str) -> None:
        """Reshapes, transposes, parts, repetitions, casts."""
        kind = VIEWS[node.op_type]
        for name in filter(None, node.output):
            if node.op_type == "Dropout" and name != node.output[0]:
                if name in self.read_names:  # which values were kept: all, when nothing is trained
                    self.values.declare(name, self.draft.shape(self.input(node, 0)), node.input[0])
                    self.draft.values[self.new(name)].role = "constant"
                continue
            shape = self.values.shape_of(name) or ()
            number_format = self.values.format_of(name) if node.op_type in ("Cast", "CastLike") else ""
            made = self.draft.view(name, self.input(node, 0), shape, kind, number_format)
            self.values.set_result(name, made)

    def elementwise(self, node: Any, path: str) -> None:
        """Functions of each value; a choice that is known for all of them is none."""
        if node.op_type == "Where" and self.draft.is_number(self.input(node, 0)):
            condition = self.draft.numbers(self.input(node, 0))
            chosen = self.input(node, 1 if condition is not None and condition.reshape(-1)[0] else 2)
            if condition is not None and self.draft.shape(chosen) == self.values.shape_of(node.output[0]):
                self.values.set_result(node.output[0], chosen)
                return
        out = self.new(node.output[0])
        emit_elementwise(self.draft, path, ELEMENTWISE[node.op_type], self.inputs(node), out)
        self.draft.steps[-1].operator = node.op_type

    def clip(self, node: Any, path: str) -> None:
        """Clip: from 0 to 6 it is ReLU6, from 0 on ReLU."""
        attributes = attributes_of(node)
        limits = [attributes.get("min"), attributes.get("max")]
        for index in (1, 2):
            if index < len(node.input) and node.input[index] and self.values.is_computed(node.input[index]):
                limits[index - 1] = float(self.values.numbers(node.input[index]).reshape(-1)[0])
        function = {"[0.0, 6.0]": "relu6", "[0.0, None]": "relu"}.get(str(limits), "clip")
        emit_elementwise(self.draft, path, function, [self.input(node, 0)], self.new(node.output[0]))

    def gelu(self, node: Any, path: str) -> None:
        """Gelu, exact or by its tanh form."""
        tanh = attributes_of(node).get("approximate", b"none") in (b"tanh", "tanh")
        function = "gelu_tanh" if tanh else "gelu"
        emit_elementwise(self.draft, path, function, [self.input(node, 0)], self.new(node.output[0]))

    def reduction(self, node: Any, path: str) -> None:
        """Sums, means and extremes."""
        emit_reduction(self.draft, path, REDUCTIONS[node.op_type], self.input(node, 0), self.new(node.output[0]))

    def move(self, node: Any, path: str) -> None:
        """Data that is put together, spread, sorted or read between places."""
        function = MOVES[node.op_type]
        if node.op_type == "Concat" and len(self.inputs(node)) == 1:
            self.values.set_result(node.output[0], self.inputs(node)[0])
            return
        inputs = self.inputs(node) if node.op_type == "Concat" else [self.input(node, 0)]
        inputs += [self.input(node, place) for place in READ_BESIDE.get(node.op_type, ()) if self.input(node, place)]
        if node.op_type != "Concat":
            inputs = [name for name in inputs if self.draft.role(name) != "constant"] or inputs
        if node.op_type == "TensorScatter" or self._is_longer_cache(node, inputs):
            places = inputs if node.op_type == "Concat" else [self.input(node, 0), self.input(node, 1)]
            shape = self.values.shape_of(node.output[0]) or ()
            made = append(self, path, places[0], places[1], shape, node.output[0])
            self.values.set_result(node.output[0], made)
            return
        outputs = [self.new(name) for name in node.output if name and self.values.shape_of(name) is not None]
        self.draft.step("reshape", path, inputs, outputs, {"function": function})

    def _is_longer_cache(self, node: Any, inputs: list[str]) -> bool:
        """Whether an input of the network comes back longer, as its result: a cache of keys, values or states."""
        return (
            node.op_type == "Concat"
            and len(inputs) == 2
            and inputs[0] in self.draft.inputs
            and self.draft.values[inputs[0]].role in ("activation", "cache")
            and node.output[0] in self.values.results
            and not self.draft.is_known(inputs[1])
        )

    def create(self, node: Any, path: str) -> None:
        """Numbers that are made once, before the network runs."""
        for name in filter(None, node.output):
            self.draft.values[self.new(name)].role = "constant"

    def response_norm(self, node: Any, path: str) -> None:
        """LRN: each value by a power of the squares of so many channels."""
        emit_elementwise(self.draft, path, "lrn", [self.input(node, 0)], self.new(node.output[0]))
        self.draft.steps[-1].attributes["window"] = int(attributes_of(node)["size"])

    def scaled(self, node: Any, path: str) -> None:
        """MeanVarianceNormalization and LpNormalization: norms without weights."""
        attributes, x = attributes_of(node), self.input(node, 0)
        shape = self.draft.shape(x)
        usual = [0, 2, 3] if node.op_type == "MeanVarianceNormalization" else [-1]
        axes = attributes.get("axes", [attributes["axis"]] if "axis" in attributes else usual)
        columns = math.prod(shape[axis] for axis in axes)
        function = "instance" if node.op_type == "MeanVarianceNormalization" else "rms"
        emit_norm(self.draft, path, function, x, self.new(node.output[0]), columns)

    def hardmax(self, node: Any, path: str) -> None:
        """Hardmax: the greatest of each row, and where it stands."""
        x, out = self.input(node, 0), self.new(node.output[0])
        shape, axis = list(self.draft.shape(x)), int(attributes_of(node).get("axis", -1))
        shape[axis] = 1
        greatest = self.draft.value(f"{out}.greatest", shape, self.draft.values[x].number_format)
        emit_reduction(self.draft, path, "max", x, greatest)
        emit_elementwise(self.draft, path, "compare", [x, greatest], out)

    def softmax(self, node: Any, path: str) -> None:
        """Softmax along one axis (before opset 13, along all from the axis on)."""
        function = "log" if node.op_type == "LogSoftmax" else ""
        old = self.values.versions.get(node.domain, 13) < 13
        axis = int(attributes_of(node).get("axis", 1 if old else -1))
        x, out = self.input(node, 0), self.new(node.output[0])
        shape = self.draft.shape(x)
        if old and axis % len(shape) != len(shape) - 1:
            axis = axis % len(shape)
            x = self.draft.view(f"{x}.rows", x, (math.prod(shape[:axis]), math.prod(shape[axis:])))
            axis = -1
        emit_softmax(self.draft, path, x, out, axis, function)

    def norm(self, node: Any, path: str) -> None:
        """Layer, RMS, group, instance and batch norms."""
        x, attributes = self.input(node, 0), attributes_of(node)
        shape, out = self.draft.shape(x), self.new(node.output[0])
        parameters = [self.input(node, 1), self.input(node, 2)]
        function, columns = NORMS[node.op_type], math.prod(shape[2:])
        if function in ("layer", "rms"):
            axis = int(attributes.get("axis", -1)) % len(shape)
            columns = math.prod(shape[axis:])
        elif function == "group":
            columns *= shape[1] // int(attributes["num_groups"])
        elif function == "batch":
            columns *= shape[0]
            parameters += [self.input(node, 3), self.input(node, 4)]
            self._note_statistics(parameters[2:])
        emit_norm(self.draft, path, function, x, out, columns, parameters)

    def _note_statistics(self, names: list[str]) -> None:
        """Running statistics were measured, not trained: they are constants."""
        for name in names:
            self.values.untrained(self.draft.base(name))

    # --- matrix operators ---------------------------------------------------------------------------------------------

    def matmul(self, node: Any, path: str) -> None:
        """MatMul and its kin for whole numbers."""
        if node.op_type == "QLinearMatMul":
            self.scaled_weight(node, 3, 4, 5)
            a, b = self.input(node, 0), self.input(node, 3)
            out = quantised_result(self, node.output[0], path, node.input[6], node.input[7])
        else:
            a, b, out = self.input(node, 0), self.input(node, 1), self.new(node.output[0])
        emit_matmul(self.draft, path, a, b, out)

    def scaled_weight(self, node: Any, index: int, scale: int, zero_point: int, block: int = 0) -> None:
        """Give the stored input ``index`` the format that its scales make of it; scales by their places too."""
        names = [node.input[place] if place < len(node.input) else "" for place in (scale, zero_point)]
        base = self.draft.base(self.input(node, index))
        if self.draft.is_known(base.name):
            element = self.values.format_of(node.input[index])
            base.number_format = block_format(self.values, element, names[0], names[1], block)
        note_scales(self.values, names)

    def gemm(self, node: Any, path: str) -> None:
        """Gemm: A B + C, either turned."""
        attributes = attributes_of(node)
        a, b, bias = self.input(node, 0), self.input(node, 1), self.input(node, 2)
        if attributes.get("transA"):
            a = self.draft.view(f"{a}.turned", a, self.draft.shape(a)[::-1])
        out = self.new(node.output[0])
        emit_matmul(self.draft, path, a, b, out, bias=bias, turned=bool(attributes.get("transB")))

    def einsum(self, node: Any, path: str) -> None:
        """Einsum; more than two tensors are multiplied pair by pair."""
        equation = attributes_of(node)["equation"]
        text = equation.decode() if isinstance(equation, bytes) else str(equation)
        inputs, out = self.inputs(node), self.new(node.output[0])
        if not write_einsum(self.draft, path, text, inputs, out):
            self.unknown.handle(self.draft, f"Einsum {text}", path, inputs, [out])

    def conv(self, node: Any, path: str) -> None:
        """Conv, ConvTranspose and their kin for whole numbers."""
        if node.op_type == "QLinearConv":
            self.scaled_weight(node, 3, 4, 5)
            note_scales(self.values, node.input[1:3])
            if len(node.input) > 8:
                self.values.trained(node.input[8])
            out = quantised_result(self, node.output[0], path, node.input[6], node.input[7])
        else:
            out = self.new(node.output[0])
        self.conv_into(node, path, out)

    def conv_into(self, node: Any, path: str, out: str) -> None:
        """The convolution of a node, its result into ``out``."""
        attributes = attributes_of(node)
        places = {"QLinearConv": (0, 3, 8), "ConvInteger": (0, 1, 99)}.get(node.op_type, (0, 1, 2))
        x, weight, bias = (self.input(node, place) for place in places)
        kernel = self.draft.shape(weight)[2:]
        stride = attributes.get("strides", [1] * len(kernel))
        dilation = attributes.get("dilations", [1] * len(kernel))
        emit_conv(
            self.draft,
            path,
            x,
            weight,
            out,
            bias=bias,
            stride=stride,
            padding=self._padding(attributes, x, out, kernel, stride, dilation),
            dilation=dilation,
            groups=int(attributes.get("group", 1)),
            transposed=node.op_type == "ConvTranspose",
        )

    def _padding(
        self, attributes: Mapping[str, Any], x: str, out: str, kernel: Any, stride: Any, dilation: Any
    ) -> list[int]:
        """Padding as given, or what "same" asks for: before, then after."""
        how = attributes.get("auto_pad", b"NOTSET")
        if how in (b"NOTSET", "NOTSET", b"VALID", "VALID"):
            return list(attributes.get("pads", [0] * (2 * len(kernel))))
        sizes = zip(self.draft.shape(x)[2:], self.draft.shape(out)[2:], kernel, stride, dilation, strict=True)
        spans = [(after - 1) * step + (taps - 1) * apart + 1 - before for before, after, taps, step, apart in sizes]
        sums = [max(0, span) for span in spans]
        halves = [total // 2 for total in sums]
        rest = [total - half for total, half in zip(sums, halves, strict=True)]
        return [*rest, *halves] if how in (b"SAME_LOWER", "SAME_LOWER") else [*halves, *rest]

    def pool(self, node: Any, path: str) -> None:
        """MaxPool, AveragePool, LpPool."""
        attributes = attributes_of(node)
        x, out = self.input(node, 0), self.new(node.output[0])
        kernel = tuple(attributes["kernel_shape"])
        stride = attributes.get("strides", [1] * len(kernel))
        dilation = attributes.get("dilations", [1] * len(kernel))
        padding = self._padding(attributes, x, out, kernel, stride, dilation)
        function = "max" if node.op_type == "MaxPool" else "average"
        emit_pool(self.draft, path, function, x, out, kernel=kernel, stride=stride, padding=padding)

    # --- tables and formats -------------------------------------------------------------------------------------------

    def gather(self, node: Any, path: str) -> None:
        """Gather at known places of a computed tensor is a part of it; otherwise rows are read from a table."""
        table, indices = self.input(node, 0), self.input(node, 1)
        if self.draft.is_known(indices) and not self.draft.is_known(table):
            shape = self.values.shape_of(node.output[0]) or ()
            smaller = math.prod(shape) <= self.draft.values[table].n_elements
            made = self.draft.view(node.output[0], table, shape, "part" if smaller else "expand")
            self.values.set_result(node.output[0], made)
            return
        shape = self.draft.shape(table)
        axis = int(attributes_of(node).get("axis", 0)) % max(1, len(shape))
        columns = math.prod(shape[axis + 1 :]) if node.op_type == "Gather" else 1
        emit_gather(self.draft, path, table, [indices], self.new(node.output[0]), columns)


Handler = Callable[[NodeReader, Any, str], None]

_HANDLERS: Mapping[str, Handler] = {
    **dict.fromkeys(VIEWS, NodeReader.view),
    **dict.fromkeys(ELEMENTWISE, NodeReader.elementwise),
    **dict.fromkeys(REDUCTIONS, NodeReader.reduction),
    **dict.fromkeys(MOVES, NodeReader.move),
    **dict.fromkeys(NORMS, NodeReader.norm),
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul"), NodeReader.matmul),
    **dict.fromkeys(("Conv", "ConvTranspose", "QLinearConv", "ConvInteger"), NodeReader.conv),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), NodeReader.pool),
    **dict.fromkeys(("Softmax", "LogSoftmax"), NodeReader.softmax),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND"), NodeReader.gather),
    **QUANTISED,
    **ATTENTION,
    **RECURRENT,
    **CONTROL,
    **dict.fromkeys(CREATES, NodeReader.create),
    **dict.fromkeys(("MeanVarianceNormalization", "LpNormalization"), NodeReader.scaled),
    "Clip": NodeReader.clip,
    "Einsum": NodeReader.einsum,
    "Gelu": NodeReader.gelu,
    "Gemm": NodeReader.gemm,
    "Hardmax": NodeReader.hardmax,
    "LRN": NodeReader.response_norm,
}


def is_foreign(node: Any) -> bool:
    """Whether ONNX itself knows nothing of a node."""
    return node.domain not in ("", "ai.onnx") or node.op_type not in _HANDLERS


def handler_of(node: Any) -> Handler | None:
    """What writes down a node; None for one that is not understood.

    Graphs of old tools give onnxruntime's operators no domain, and its own copies of standard operators have one.
    """
    if node.domain in ("", "ai.onnx"):
        return _HANDLERS.get(node.op_type) or MICROSOFT.get(node.op_type)
    if node.domain.startswith("com.m"):
        return MICROSOFT.get(node.op_type) or _HANDLERS.get(node.op_type)
    return None


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes of a node by name."""
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def path_of(node: Any) -> str:
    """The place of a node in its model: what the exporter noted, its name, or its result."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = [text for text in ast.literal_eval(entry.value) if text]
            if scopes:
                return str(scopes[-1])
    name = node.name or (node.output[0] if node.output else node.op_type)
    return str(name).strip("/").replace("/", ".")
