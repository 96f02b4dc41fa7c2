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
from tilewright.workloads.extract.draft import Draft
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
from tilewright.workloads.extract.onnx_tables import ELEMENTWISE, MOVES, NORMS, REDUCTIONS, VIEWS
from tilewright.workloads.extract.onnx_values import GraphValues
from tilewright.workloads.extract.unknown import Unknown

__all__ = ["NodeReader"]


class NodeReader:
    """Reads the nodes of a graph, in order, into a draft."""

    def __init__(self, draft: Draft, values: GraphValues, unknown: Unknown) -> None:
        self._draft = draft
        self._values = values
        self._unknown = unknown

    def read(self, node: Any) -> None:
        """Write down one node; raises InputError when a shape cannot be known or does not fit."""
        path = _path(node)
        self._values.infer(node, path)
        outputs = [name for name in node.output if name]
        if all(self._values.is_computed(name) for name in outputs):
            return
        if node.op_type not in _LATE_SHAPES:
            self._need_shapes(node, path, outputs)
        handler = None if self._unknown.wanted(node.op_type) else _HANDLERS.get(node.op_type)
        if handler is None:
            self._handle_unknown(node, path, outputs)
            return
        handler(self, node, path)
        self._values.promise(node)

    def _need_shapes(self, node: Any, path: str, outputs: list[str]) -> None:
        for name in outputs:
            shape = self._values.shape_of(name)
            if shape is None:
                raise InputError(
                    f"{self._draft.name}: {node.op_type} at {path}: the size of its result depends on values that are "
                    "not known; allowed operators whose sizes follow from the sizes of the inputs"
                )

    def _handle_unknown(self, node: Any, path: str, outputs: list[str]) -> None:
        results = [self._new(name) for name in outputs]
        inputs = [self._values.name_of(name) for name in node.input if name and self._values.has(name)]
        self._unknown.handle(self._draft, node.op_type, path, inputs, results)

    # --- small steps --------------------------------------------------------------------------------------------------

    def _new(self, name: str) -> str:
        """Enter the result ``name`` of a node into the draft."""
        shape = self._values.shape_of(name) or ()
        made = self._draft.value(name, shape, self._values.format_of(name))
        self._values.set_result(name, made)
        return made

    def _in(self, node: Any, index: int) -> str:
        """The draft's name of an input; empty where it is left out."""
        present = index < len(node.input) and node.input[index]
        return self._values.name_of(node.input[index]) if present else ""

    def _ins(self, node: Any) -> list[str]:
        return [self._values.name_of(name) for name in node.input if name]

    def view(self, node: Any, path: str) -> None:
        """Reshapes, transposes, parts, repetitions, casts."""
        kind = VIEWS[node.op_type]
        for name in filter(None, node.output):
            if node.op_type == "Dropout" and name != node.output[0]:
                continue
            shape = self._values.shape_of(name) or ()
            number_format = self._values.format_of(name) if node.op_type in ("Cast", "CastLike") else ""
            made = self._draft.view(name, self._in(node, 0), shape, kind, number_format)
            self._values.set_result(name, made)

    def elementwise(self, node: Any, path: str) -> None:
        """Functions of each value."""
        out = self._new(node.output[0])
        emit_elementwise(self._draft, path, ELEMENTWISE[node.op_type], self._ins(node), out)

    def clip(self, node: Any, path: str) -> None:
        """Clip: from 0 to 6 it is ReLU6, from 0 on ReLU."""
        attributes = _attributes(node)
        limits = [attributes.get("min"), attributes.get("max")]
        for index in (1, 2):
            if index < len(node.input) and node.input[index] and self._values.is_computed(node.input[index]):
                limits[index - 1] = float(self._values.numbers(node.input[index]).reshape(-1)[0])
        function = {"[0.0, 6.0]": "relu6", "[0.0, None]": "relu"}.get(str(limits), "clip")
        emit_elementwise(self._draft, path, function, [self._in(node, 0)], self._new(node.output[0]))

    def gelu(self, node: Any, path: str) -> None:
        """Gelu, exact or by its tanh form."""
        tanh = _attributes(node).get("approximate", b"none") in (b"tanh", "tanh")
        function = "gelu_tanh" if tanh else "gelu"
        emit_elementwise(self._draft, path, function, [self._in(node, 0)], self._new(node.output[0]))

    def reduction(self, node: Any, path: str) -> None:
        """Sums, means and extremes."""
        emit_reduction(self._draft, path, REDUCTIONS[node.op_type], self._in(node, 0), self._new(node.output[0]))

    def move(self, node: Any, path: str) -> None:
        """Data that is put together or spread."""
        inputs = self._ins(node) if node.op_type in ("Concat", "ScatterND") else [self._in(node, 0)]
        inputs = [name for name in inputs if self._draft.role(name) != "constant"] or inputs
        self._draft.step("reshape", path, inputs, [self._new(node.output[0])], {"function": MOVES[node.op_type]})

    def softmax(self, node: Any, path: str) -> None:
        """Softmax along one axis (before opset 13, along all from the axis on)."""
        function = "log" if node.op_type == "LogSoftmax" else ""
        old = self._values.versions.get(node.domain, 13) < 13
        axis = int(_attributes(node).get("axis", 1 if old else -1))
        x, out = self._in(node, 0), self._new(node.output[0])
        shape = self._draft.shape(x)
        if old and axis % len(shape) != len(shape) - 1:
            axis = axis % len(shape)
            x = self._draft.view(f"{x}.rows", x, (math.prod(shape[:axis]), math.prod(shape[axis:])))
            axis = -1
        emit_softmax(self._draft, path, x, out, axis, function)

    def norm(self, node: Any, path: str) -> None:
        """Layer, RMS, group, instance and batch norms."""
        x, attributes = self._in(node, 0), _attributes(node)
        shape, out = self._draft.shape(x), self._new(node.output[0])
        parameters = [self._in(node, 1), self._in(node, 2)]
        function, columns = NORMS[node.op_type], math.prod(shape[2:])
        if function in ("layer", "rms"):
            axis = int(attributes.get("axis", -1)) % len(shape)
            columns = math.prod(shape[axis:])
        elif function == "group":
            columns *= shape[1] // int(attributes["num_groups"])
        elif function == "batch":
            columns *= shape[0]
            parameters += [self._in(node, 3), self._in(node, 4)]
            self._note_statistics(parameters[2:])
        emit_norm(self._draft, path, function, x, out, columns, parameters)

    def _note_statistics(self, names: list[str]) -> None:
        """Running statistics were measured, not trained: they are constants."""
        for name in names:
            value = self._draft.base(name)
            if value.role == "weight":
                value.role = "constant"
                self._values.n_parameters -= value.n_elements

    # --- matrix operators ---------------------------------------------------------------------------------------------

    def matmul(self, node: Any, path: str) -> None:
        """MatMul and its kin for whole numbers."""
        places = (0, 3) if node.op_type == "QLinearMatMul" else (0, 1)
        a, b = (self._in(node, place) for place in places)
        emit_matmul(self._draft, path, a, b, self._new(node.output[0]))

    def gemm(self, node: Any, path: str) -> None:
        """Gemm: A B + C, either turned."""
        attributes = _attributes(node)
        a, b, bias = self._in(node, 0), self._in(node, 1), self._in(node, 2)
        if attributes.get("transA"):
            a = self._draft.view(f"{a}.turned", a, self._draft.shape(a)[::-1])
        out = self._new(node.output[0])
        emit_matmul(self._draft, path, a, b, out, bias=bias, turned=bool(attributes.get("transB")))

    def block_matmul(self, node: Any, path: str) -> None:
        """MatMulNBits of com.microsoft: a weight of few bits, (n, k), with a scale for each block."""
        attributes = _attributes(node)
        shape = (int(attributes["N"]), int(attributes["K"]))
        bits, block = int(attributes.get("bits", 4)), int(attributes["block_size"])
        a, packed = self._in(node, 0), self._in(node, 1)
        weight = self._draft.value(f"{packed}.{bits}_bits", shape, f"int{bits}-g{block}", "weight")
        lead = self._draft.shape(a)[:-1]
        self._values.set_result(node.output[0], "", (*lead, shape[0]), like=node.input[0])
        emit_matmul(self._draft, path, a, weight, self._new(node.output[0]), bias=self._in(node, 5), turned=True)

    def einsum(self, node: Any, path: str) -> None:
        """Einsum of two tensors; others are not understood."""
        equation = _attributes(node)["equation"]
        text = equation.decode() if isinstance(equation, bytes) else str(equation)
        inputs, out = self._ins(node), self._new(node.output[0])
        if not emit_einsum(self._draft, path, text, inputs, out):
            self._unknown.handle(self._draft, f"Einsum {text}", path, inputs, [out])

    def conv(self, node: Any, path: str) -> None:
        """Conv, ConvTranspose and their kin for whole numbers."""
        attributes = _attributes(node)
        places = {"QLinearConv": (0, 3, 8), "ConvInteger": (0, 1, 99)}.get(node.op_type, (0, 1, 2))
        x, weight, bias = (self._in(node, place) for place in places)
        out = self._new(node.output[0])
        kernel = self._draft.shape(weight)[2:]
        stride = attributes.get("strides", [1] * len(kernel))
        dilation = attributes.get("dilations", [1] * len(kernel))
        emit_conv(
            self._draft,
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
        sizes = zip(self._draft.shape(x)[2:], self._draft.shape(out)[2:], kernel, stride, dilation, strict=True)
        spans = [(after - 1) * step + (taps - 1) * apart + 1 - before for before, after, taps, step, apart in sizes]
        sums = [max(0, span) for span in spans]
        halves = [total // 2 for total in sums]
        rest = [total - half for total, half in zip(sums, halves, strict=True)]
        return [*rest, *halves] if how in (b"SAME_LOWER", "SAME_LOWER") else [*halves, *rest]

    def pool(self, node: Any, path: str) -> None:
        """MaxPool, AveragePool, LpPool."""
        attributes = _attributes(node)
        x, out = self._in(node, 0), self._new(node.output[0])
        kernel = tuple(attributes["kernel_shape"])
        stride = attributes.get("strides", [1] * len(kernel))
        dilation = attributes.get("dilations", [1] * len(kernel))
        padding = self._padding(attributes, x, out, kernel, stride, dilation)
        function = "max" if node.op_type == "MaxPool" else "average"
        emit_pool(self._draft, path, function, x, out, kernel=kernel, stride=stride, padding=padding)

    def attention(self, node: Any, path: str) -> None:
        """Attention of the standard set (from 23 on): heads as a dimension, or side by side in each row."""
        attributes = _attributes(node)
        q, k, v = (self._in(node, index) for index in range(3))
        if self._in(node, 4) or self._in(node, 6):
            self._handle_unknown(node, path, [name for name in node.output if name])
            return
        out = self._new(node.output[0])
        if len(self._draft.shape(q)) == 3:
            heads = [int(attributes["q_num_heads"])] + [int(attributes["kv_num_heads"])] * 2
            q, k, v = (self._by_heads(name, count) for name, count in zip((q, k, v), heads, strict=True))
        causal = "bottom" if attributes.get("is_causal") else ""
        emit_attention(self._draft, path, q, k, v, out, mask=self._in(node, 3), causal=causal)
        for name in node.output[1:]:
            if name:
                self._new(name)
                self._draft.steps[-1].outputs.append(self._values.name_of(name))

    def _by_heads(self, name: str, heads: int) -> str:
        batch, rows, width = self._draft.shape(name)
        return self._draft.view(f"{name}.heads", name, (batch, heads, rows, width // heads))

    # --- tables and formats -------------------------------------------------------------------------------------------

    def gather(self, node: Any, path: str) -> None:
        """Gather at known places of a computed tensor is a part of it; otherwise rows are read from a table."""
        table, indices = self._in(node, 0), self._in(node, 1)
        if self._draft.is_known(indices) and not self._draft.is_known(table):
            shape = self._values.shape_of(node.output[0]) or ()
            smaller = math.prod(shape) <= self._draft.values[table].n_elements
            made = self._draft.view(node.output[0], table, shape, "part" if smaller else "expand")
            self._values.set_result(node.output[0], made)
            return
        shape = self._draft.shape(table)
        axis = int(_attributes(node).get("axis", 0)) % max(1, len(shape))
        columns = math.prod(shape[axis + 1 :]) if node.op_type == "Gather" else 1
        emit_gather(self._draft, path, table, [indices], self._new(node.output[0]), columns)

    def quantize(self, node: Any, path: str) -> None:
        """QuantizeLinear and DynamicQuantizeLinear."""
        out = self._new(node.output[0])
        n_elements = self._draft.values[out].n_elements
        outputs = [out, *(self._new(name) for name in node.output[1:] if name)]
        self._draft.step("quantize", path, [self._in(node, 0)], outputs, {"n_elements": n_elements})


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
    **dict.fromkeys(("QuantizeLinear", "DynamicQuantizeLinear"), NodeReader.quantize),
    "Attention": NodeReader.attention,
    "Clip": NodeReader.clip,
    "Einsum": NodeReader.einsum,
    "Gelu": NodeReader.gelu,
    "Gemm": NodeReader.gemm,
    "MatMulNBits": NodeReader.block_matmul,
}


def _attributes(node: Any) -> dict[str, Any]:
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
