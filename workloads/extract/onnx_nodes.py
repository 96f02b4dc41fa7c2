"""ONNX operators, one by one, as steps of a draft.

The definitions are those of https://onnx.ai/onnx/operators, and of the ``com.microsoft`` domain for block-quantised
weights.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import Draft, Step
from tilewright.workloads.extract.emit import (
    emit_attention,
    emit_conv,
    emit_einsum,
    emit_elementwise,
    emit_gather,
    emit_matmul,
    emit_norm,
    emit_pool,
    emit_reduction,
    emit_softmax,
)
from tilewright.workloads.extract.onnx_quantised import HANDLERS as QUANTISED
from tilewright.workloads.extract.onnx_quantised import Scaling, block_format, note_scales, quantised_result
from tilewright.workloads.extract.onnx_tables import ELEMENTWISE, MOVES, NORMS, REDUCTIONS, VIEWS
from tilewright.workloads.extract.onnx_values import GraphValues
from tilewright.workloads.extract.unknown import Unknown

__all__ = ["NodeReader", "attributes_of"]


class NodeReader:
    """Reads the nodes of a graph, in order, into a draft."""

    def __init__(self, draft: Draft, values: GraphValues, unknown: Unknown) -> None:
        self.draft = draft
        self.values = values
        self.unknown = unknown
        self.scalings: dict[str, Scaling] = {}
        self.after: list[Step] = []  # steps that follow the one that is being written

    def read(self, node: Any) -> None:
        """Write down one node; raises InputError when a shape cannot be known or does not fit."""
        path = _path(node)
        if node.op_type == "DequantizeLinear":
            self.values.trained(node.input[0])
        self.values.infer(node, path)
        outputs = [name for name in node.output if name]
        if all(self.values.is_computed(name) for name in outputs):
            return
        if node.op_type not in _LATE_SHAPES:
            self._need_shapes(node, path, outputs)
        handler = None if self.unknown.wanted(node.op_type) else _HANDLERS.get(node.op_type)
        if handler is None:
            self.handle_unknown(node, path, outputs)
            return
        handler(self, node, path)
        self.draft.steps += self.after
        self.after.clear()
        self.values.promise(node)

    def _need_shapes(self, node: Any, path: str, outputs: list[str]) -> None:
        for name in outputs:
            shape = self.values.shape_of(name)
            if shape is None:
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

    def input(self, node: Any, index: int) -> str:
        """The draft's name of an input; empty where it is left out."""
        present = index < len(node.input) and node.input[index]
        return self.values.name_of(node.input[index]) if present else ""

    def inputs(self, node: Any) -> list[str]:
        return [self.values.name_of(name) for name in node.input if name]

    def view(self, node: Any, path: str) -> None:
        """Reshapes, transposes, parts, repetitions, casts."""
        kind = VIEWS[node.op_type]
        for name in filter(None, node.output):
            if node.op_type == "Dropout" and name != node.output[0]:
                continue
            shape = self.values.shape_of(name) or ()
            number_format = self.values.format_of(name) if node.op_type in ("Cast", "CastLike") else ""
            made = self.draft.view(name, self.input(node, 0), shape, kind, number_format)
            self.values.set_result(name, made)

    def elementwise(self, node: Any, path: str) -> None:
        """Functions of each value."""
        out = self.new(node.output[0])
        emit_elementwise(self.draft, path, ELEMENTWISE[node.op_type], self.inputs(node), out)

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
        """Data that is put together or spread."""
        inputs = self.inputs(node) if node.op_type in ("Concat", "ScatterND") else [self.input(node, 0)]
        inputs = [name for name in inputs if self.draft.role(name) != "constant"] or inputs
        self.draft.step("reshape", path, inputs, [self.new(node.output[0])], {"function": MOVES[node.op_type]})

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

    def block_matmul(self, node: Any, path: str) -> None:
        """MatMulNBits of com.microsoft: a weight of few bits, (n, k), with a scale for each block."""
        attributes = attributes_of(node)
        shape = (int(attributes["N"]), int(attributes["K"]))
        bits, block = int(attributes.get("bits", 4)), int(attributes["block_size"])
        a, packed = self.input(node, 0), self.input(node, 1)
        scale, zero = node.input[2], node.input[3] if len(node.input) > 3 else ""
        number_format = block_format(self.values, f"int{bits}", scale, zero, block)
        weight = self.draft.value(f"{packed}.{bits}_bits", shape, number_format, "weight")
        note_scales(self.values, [node.input[1], scale, zero])
        self.values.n_parameters += math.prod(shape)
        lead = self.draft.shape(a)[:-1]
        self.values.set_result(node.output[0], "", (*lead, shape[0]), like=node.input[0])
        emit_matmul(self.draft, path, a, weight, self.new(node.output[0]), bias=self.input(node, 5), turned=True)

    def einsum(self, node: Any, path: str) -> None:
        """Einsum of two tensors; others are not understood."""
        equation = attributes_of(node)["equation"]
        text = equation.decode() if isinstance(equation, bytes) else str(equation)
        inputs, out = self.inputs(node), self.new(node.output[0])
        if not emit_einsum(self.draft, path, text, inputs, out):
            self.unknown.handle(self.draft, f"Einsum {text}", path, inputs, [out])

    def conv(self, node: Any, path: str) -> None:
        """Conv, ConvTranspose and their kin for whole numbers."""
        attributes = attributes_of(node)
        places = {"QLinearConv": (0, 3, 8), "ConvInteger": (0, 1, 99)}.get(node.op_type, (0, 1, 2))
        if node.op_type == "QLinearConv":
            self.scaled_weight(node, 3, 4, 5)
            note_scales(self.values, node.input[1:3])
            if len(node.input) > 8:
                self.values.trained(node.input[8])
            out = quantised_result(self, node.output[0], path, node.input[6], node.input[7])
        else:
            out = self.new(node.output[0])
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

    def attention(self, node: Any, path: str) -> None:
        """Attention of the standard set (from 23 on): heads as a dimension, or side by side in each row."""
        attributes = attributes_of(node)
        q, k, v = (self.input(node, index) for index in range(3))
        if self.input(node, 4) or self.input(node, 6):
            self.handle_unknown(node, path, [name for name in node.output if name])
            return
        out = self.new(node.output[0])
        if len(self.draft.shape(q)) == 3:
            heads = [int(attributes["q_num_heads"])] + [int(attributes["kv_num_heads"])] * 2
            q, k, v = (self.by_heads(name, count) for name, count in zip((q, k, v), heads, strict=True))
        causal = "bottom" if attributes.get("is_causal") else ""
        emit_attention(self.draft, path, q, k, v, out, mask=self.input(node, 3), causal=causal)
        for name in node.output[1:]:
            if name:
                self.new(name)
                self.draft.steps[-1].outputs.append(self.values.name_of(name))

    def by_heads(self, name: str, heads: int) -> str:
        batch, rows, width = self.draft.shape(name)
        return self.draft.view(f"{name}.heads", name, (batch, heads, rows, width // heads))

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

#: Nodes whose result sizes are worked out here, since ONNX has no rule for them.
_LATE_SHAPES = ("MatMulNBits",)

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
    "Attention": NodeReader.attention,
    "Clip": NodeReader.clip,
    "Einsum": NodeReader.einsum,
    "Gelu": NodeReader.gelu,
    "Gemm": NodeReader.gemm,
    "MatMulNBits": NodeReader.block_matmul,
}


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes of a node by name."""
    from onnx.helper import get_attribute_value

    return {attribute.name: get_attribute_value(attribute) for attribute in node.attribute}


def _path(node: Any) -> str:
    """The place of a node in its model: what the exporter noted, its name, or its result."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = [text for text in ast.literal_eval(entry.value) if text]
            if scopes:
                return str(scopes[-1])
    name = node.name or (node.output[0] if node.output else node.op_type)
    return str(name).strip("/").replace("/", ".")
