"""A step as an operator stream: what runs at it, with what it takes from earlier steps as inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from tilewright.workloads.attention_operator import attention_layer
from tilewright.workloads.diffusion.features import Feature, StepPlan
from tilewright.workloads.operators import Operator, TensorSpec
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import SOFTMAX, vector_work

__all__ = [
    "OperatorFormats",
    "StepStream",
    "bit_operations",
    "flops_of",
    "product_macs",
    "step_stream",
    "with_operator_formats",
]


class OperatorFormats(NamedTuple):
    """Number formats of an operator's weights and of what it makes; empty: as they are."""

    weights: str = ""
    activations: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStream:
    """A step as a stream (None where nothing runs), and the bytes it reads from what is kept and writes there."""

    stream: OperatorStream | None
    read_bytes: int = 0
    write_bytes: int = 0


def step_stream(network: OperatorStream, plan: StepPlan) -> StepStream:
    """The stream of ``plan``'s step.

    What is kept comes in as an input: the tensor itself, or (``.kept``) its change and the differences of a Taylor
    series, which operators of the step turn into the tensor. What is left goes out as a result.
    """
    if not plan.runs:
        return StepStream(stream=None)
    built = _Build(network)
    first = {one.tensor: one for one in plan.takes}
    left = {one.tensor: one for one in plan.leaves}
    position = {name: at for at, op in enumerate(network.operators) for name in op.outputs}
    ready = {position[name]: one for name, one in first.items()}
    for at, operator in enumerate(network.operators):
        if at in ready:
            built.take(ready[at])
        if operator.name in plan.runs:
            built.operators.append(operator)
            for name in operator.outputs:
                if name in left:
                    built.leave(left[name])
    return built.finish(plan)


class _Build:
    def __init__(self, network: OperatorStream) -> None:
        self.network = network
        self.operators: list[Operator] = []
        self.tensors: list[TensorSpec] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.read_bytes = self.write_bytes = 0

    def take(self, feature: Feature) -> None:
        """The tensor out of what is kept of it."""
        spec = self.network.tensor(feature.tensor)
        n_kept = 1 + feature.order
        self.read_bytes += n_kept * spec.n_bytes
        if not feature.beside and not feature.order:
            self.inputs.append(spec.name)
            return
        kept = [self._new(spec, f"kept{at}") for at in range(n_kept)]
        self.inputs += kept
        result = kept[0]
        for at, difference in enumerate(kept[1:], start=1):
            last = at == feature.order and not feature.beside
            result = self._add(spec, f"extrapolate{at}", "modulate", [result, difference], last=last)
        if feature.beside:
            self._add(spec, "apply", "add", [result, *feature.beside], last=True)

    def leave(self, feature: Feature) -> None:
        """What is kept of the tensor, with its change and differences where these are."""
        spec = self.network.tensor(feature.tensor)
        self.write_bytes += (1 + feature.order) * spec.n_bytes
        result = spec.name
        if feature.beside:
            result = self._add(spec, "change", "sub", [result, *feature.beside])
        self.outputs.append(result)
        for at in range(1, feature.order + 1):
            before = self._new(spec, f"before{at}")
            self.inputs.append(before)
            self.read_bytes += spec.n_bytes
            result = self._add(spec, f"difference{at}", "sub", [result, before])
            self.outputs.append(result)

    def _new(self, spec: TensorSpec, name: str) -> str:
        made = replace(spec, name=f"{spec.name}.{name}", view_of=None, role="activation")
        self.tensors.append(made)
        return made.name

    def _add(self, spec: TensorSpec, name: str, function: str, inputs: list[str], *, last: bool = False) -> str:
        output = spec.name if last else self._new(spec, name)
        attributes = {"function": function, "n_elements": spec.n_elements}
        self.operators.append(
            Operator(
                name=f"{spec.name}.{name}.cache",
                kind="elementwise",
                inputs=tuple(inputs),
                outputs=(output,),
                attributes=attributes,
                path=f"{spec.name}.{name}",
            )
        )
        return output

    def finish(self, plan: StepPlan) -> StepStream:
        network = self.network
        used = {name for op in self.operators for name in (*op.inputs, *op.outputs)}
        made = {name for op in self.operators for name in op.outputs}
        results = [name for name in network.outputs if network.base(name).name in made | set(self.inputs)]
        outputs = list(dict.fromkeys([*results, *self.outputs]))
        used |= set(outputs)
        wanted = set(used)
        for name in used:
            while name in network._tensors and network.tensor(name).view_of is not None:
                name = str(network.tensor(name).view_of)
                wanted.add(name)
        tensors = [one for one in network.tensors if one.name in wanted]
        inputs = [name for name in network.inputs if name in wanted]
        stream = replace(
            network,
            tensors=(*tensors, *self.tensors),
            operators=tuple(self.operators),
            inputs=(*inputs, *self.inputs),
            outputs=tuple(outputs),
            n_steps=1,
            n_parameters=None,
        )
        return StepStream(stream=stream, read_bytes=self.read_bytes, write_bytes=self.write_bytes)


def flops_of(stream: OperatorStream) -> int:
    """Operations of a stream: two for each multiply-add, and every basic operation on values (those of
    :mod:`tilewright.workloads.vector_work`), the softmax of attention included.
    """
    return sum(_flops(operator) for operator in stream.operators)


def product_macs(stream: OperatorStream) -> int:
    """Multiply-adds without those of attention's two products, which counters of modules often do not see."""
    return sum(operator.macs for operator in stream.operators if operator.kind != "attention")


def _flops(operator: Operator) -> int:
    others = sum(n for _, n in vector_work(operator))
    if operator.kind == "attention":
        layer = attention_layer(operator)
        others += layer.batch * layer.query_heads * layer.n_scores_per_head * sum(SOFTMAX.values())
    return 2 * operator.macs + others


def bit_operations(stream: OperatorStream) -> int:
    """Multiply-adds times the bits of both operands, without attention's two products (as published counts are)."""
    from tilewright.formats import element_format, format_bits

    def bits(name: str) -> int:
        return int(format_bits(element_format(stream.tensor(name).number_format)))

    return sum(
        operator.macs * bits(operator.inputs[0]) * bits(operator.inputs[1])
        for operator in stream.operators
        if operator.of_kind.is_product
    )


def with_operator_formats(stream: OperatorStream, formats: Mapping[str, OperatorFormats]) -> OperatorStream:
    """``stream`` with the operators that ``formats`` names in other formats: the weights of their products, and the
    results that only operators of the same formats read.
    """
    readers: dict[str, set[OperatorFormats | None]] = {}
    for operator in stream.operators:
        for name in operator.inputs:
            readers.setdefault(stream.base(name).name, set()).add(formats.get(operator.name))
    given = {stream.base(name).name for name in stream.outputs}
    changed: dict[str, str] = {}
    for operator in stream.operators:
        own = formats.get(operator.name)
        if own is None:
            continue
        if operator.of_kind.is_product and own.weights:
            weight = stream.base(operator.inputs[1])
            if weight.role == "weight":
                changed[weight.name] = own.weights
        for name in operator.outputs:
            if own.activations and readers.get(name, {None}) == {own} and name not in given:
                changed[name] = own.activations
    tensors = tuple(
        replace(one, number_format=changed.get(stream.base(one.name).name, one.number_format)) for one in stream.tensors
    )
    return replace(stream, tensors=tensors)
