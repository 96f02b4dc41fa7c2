"""LSTM, GRU and RNN nodes written out step by step: one product for all inputs, then a product and a cell a step.

What a step computes depends on the one before it, so that the products with the recurrent weights are as many as there
are steps. Sizes as in ONNX: X (steps, batch, inputs), W (directions, gates x hidden, inputs), R (directions, gates x
hidden, hidden), B (directions, 2 x gates x hidden).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.workloads.extract.emit import emit_elementwise, emit_matmul

if TYPE_CHECKING:
    from tilewright.workloads.extract.onnx_nodes import NodeReader

__all__ = ["HANDLERS"]

_MOST_STEPS = 1 << 14
_BOTH_WAYS = 2
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class _Layer:
    """One direction of a recurrent node."""

    def __init__(self, reader: NodeReader, node: Any, path: str, direction: int) -> None:
        from tilewright.workloads.extract.onnx_nodes import attributes_of

        attributes = attributes_of(node)
        self.reader, self.draft, self.node, self.direction = reader, reader.draft, node, direction
        self.kind, self.path = node.op_type, f"{path}.{direction}" if direction else path
        self.gates = _GATES[self.kind]
        self.after_reset = bool(attributes.get("linear_before_reset", 0))
        self.x = reader.input(node, 0)
        self.steps, self.batch, self.inputs = self.draft.shape(self.x)
        if attributes.get("layout"):
            self.batch, self.steps = self.steps, self.batch
        self.hidden = self.draft.shape(reader.input(node, 2))[-1]
        self.number_format = self.draft.values[self.x].number_format

    def _own(self, name: str, shape: tuple[int, ...]) -> str:
        """This direction's part of a tensor whose first dimension is that of the directions."""
        whole = self.draft.shape(name)[0] == 1
        return self.draft.view(f"{name}.{self.direction}", name, shape, "reshape" if whole else "part")

    def _new(self, what: str, width: int) -> str:
        return self.draft.value(f"{self.path}.{what}", (self.batch, width), self.number_format)

    def run(self) -> tuple[list[str], str]:
        """Write down all steps; returns the results of each, and the last cell state (empty but for LSTM)."""
        draft, reader, node = self.draft, self.reader, self.node
        width = self.gates * self.hidden
        weight = self._own(reader.input(node, 1), (width, self.inputs))
        self.recurrent = self._own(reader.input(node, 2), (width, self.hidden))
        bias = reader.input(node, 3)
        if bias:
            bias = draft.view(f"{bias}.{self.direction}.W", bias, (width,), "part")
        shape = (self.steps, self.batch, width)
        projected = draft.value(f"{self.path}.projected", shape, self.number_format)
        emit_matmul(draft, f"{self.path}.inputs", self.x, weight, projected, bias=bias, turned=True)
        state, cell = self._start(5, "start"), self._start(6, "cell") if self.kind == "LSTM" else ""
        results = []
        for step in range(self.steps):
            part = draft.view(f"{projected}.{step}", projected, (self.batch, width), "part")
            state, cell = self._step(step, part, state, cell)
            results.append(state)
        return results, cell

    def _start(self, place: int, what: str) -> str:
        given = self.reader.input(self.node, place)
        if given and self.draft.is_known(given):  # zeros that the exporter stored
            self.reader.values.untrained(self.draft.base(given))
        elif given:
            return self._own(given, (self.batch, self.hidden))
        name = self.draft.value(f"{self.path}.{what}", (self.batch, self.hidden), self.number_format)
        self.draft.inputs.append(name)  # zeros are read as well
        return name

    def _product(self, step: int, state: str, what: str, gates: int) -> str:
        whole = gates == self.gates
        shape = (gates * self.hidden, self.hidden)
        weight = self.recurrent if whole else self.draft.view(f"{self.recurrent}.{what}", self.recurrent, shape, "part")
        out = self._new(f"{step}.{what}", gates * self.hidden)
        emit_matmul(self.draft, f"{self.path}.{what}", state, weight, out, turned=True)
        return out

    def _step(self, step: int, projected: str, state: str, cell: str) -> tuple[str, str]:
        draft, place = self.draft, f"{self.path}.cell"
        result = self._new(f"{step}.state", self.hidden)
        if self.kind == "GRU" and not self.after_reset:
            gates = self._product(step, state, "gates", 2)
            reset = self._new(f"{step}.reset", self.hidden)
            emit_elementwise(draft, f"{self.path}.reset", "gru_reset", [gates, projected, state], reset)
            candidate = self._product(step, reset, "candidate", 1)
            emit_elementwise(draft, place, "gru_blend", [gates, candidate, projected, state], result)
            return result, ""
        gates = self._product(step, state, "gates", self.gates)
        inputs = [gates, projected, *([cell] if cell else []), *([state] if self.kind == "GRU" else [])]
        emit_elementwise(draft, place, self.kind.lower(), inputs, result)
        if not cell:
            return result, ""
        after = self._new(f"{step}.cell", self.hidden)
        draft.steps[-1].outputs.append(after)
        return result, after


def _recurrent(reader: NodeReader, node: Any, path: str) -> None:
    """A recurrent node in one or both directions."""
    draft = reader.draft
    n_directions = draft.shape(reader.input(node, 1))[0]
    if n_directions > _BOTH_WAYS:
        raise InputError(
            f"{draft.name}: {node.op_type} at {path}: given weights for {n_directions:,} directions; allowed 1 or 2"
        )
    layers = [_Layer(reader, node, path, direction) for direction in range(n_directions)]
    first = layers[0]
    if first.steps * n_directions > _MOST_STEPS:
        raise InputError(
            f"{draft.name}: {node.op_type} at {path}: given {first.steps * n_directions:,} steps; "
            f"allowed {_MOST_STEPS:,}"
        )
    found = [layer.run() for layer in layers]
    states = [one for results, _ in found for one in results]
    ends = [results[-1] for results, _ in found], [cell for _, cell in found if cell]
    for index, parts in enumerate((states, *ends)):
        name = node.output[index] if index < len(node.output) else ""
        if not name or not parts or (name not in reader.read_names):
            continue
        shape = reader.values.shape_of(name)
        if len(parts) == 1:
            reader.values.set_result(name, draft.view(f"{name}.view", parts[0], shape or draft.shape(parts[0])))
        else:
            draft.step("reshape", f"{path}.join", parts, [reader.new(name)], {"function": "concat"})


HANDLERS: Mapping[str, Any] = dict.fromkeys(_GATES, _recurrent)
