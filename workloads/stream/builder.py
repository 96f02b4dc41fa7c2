"""Operator streams built step by step, with unique names and views that find the tensor they read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tilewright.workloads.operators import Operator, Role, TensorSpec
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["StreamBuilder"]

Shape = Sequence[int]


class StreamBuilder:
    """Collects tensors and operators, in the order in which they are added, and makes an :class:`OperatorStream` of
    them.

    ``activations`` and ``weights`` are the number formats of tensors that are given none. Operators are named by the
    scope in which they are added.
    """

    def __init__(self, name: str, *, activations: str = "fp16", weights: str = "fp16", cache: str = "") -> None:
        self.name = name
        self.n_steps = 1
        self.formats: dict[Role, str] = {
            "activation": activations,
            "weight": weights,
            "constant": activations,
            "cache": cache or activations,
        }
        self._tensors: dict[str, TensorSpec] = {}
        self._operators: dict[str, Operator] = {}
        self._inputs: list[str] = []
        self._scope: list[str] = []

    # --- names --------------------------------------------------------------------------------------------------------

    @contextmanager
    def scope(self, *names: object) -> Iterator[None]:
        """Put ``names`` before the names and paths of what is added inside."""
        self._scope += [str(name) for name in names]
        try:
            yield
        finally:
            del self._scope[len(self._scope) - len(names) :]

    def path(self, name: str) -> str:
        """``name`` in the present scope."""
        return ".".join([*self._scope, name]) if name else ".".join(self._scope)

    def _unused(self, name: str) -> str:
        taken = self._tensors.keys() | self._operators.keys()
        if name not in taken:
            return name
        number = 2
        while f"{name}_{number}" in taken:
            number += 1
        return f"{name}_{number}"

    # --- tensors ------------------------------------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the tensor ``name``."""
        return self._tensors[name].shape

    def tensor(self, name: str) -> TensorSpec:
        """The tensor ``name``."""
        return self._tensors[name]

    def input(self, name: str, shape: Shape, *, role: Role = "activation", number_format: str = "") -> str:
        """A tensor that is given to the network."""
        made = self._tensor(self.path(name), shape, role, number_format)
        self._inputs.append(made)
        return made

    def weight(self, name: str, shape: Shape, *, number_format: str = "") -> str:
        """A trained tensor."""
        return self._tensor(self.path(name), shape, "weight", number_format)

    def constant(self, name: str, shape: Shape, *, number_format: str = "") -> str:
        """A tensor that is known before the network runs and was not trained."""
        return self._tensor(self.path(name), shape, "constant", number_format)

    def view(
        self, base: str, shape: Shape, name: str = "view", *, split: Shape = (), order: Shape = (), start: Shape = ()
    ) -> str:
        """``base`` read in another shape or order, or in part: no operator and no memory of its own.

        ``split`` is a shape of ``base``, whose dimensions are then read in ``order`` and, of ``shape``, from ``start``.
        """
        shape = tuple(shape)
        if order or start:
            return self._moved_view(base, shape, name, tuple(split), tuple(order), tuple(start))
        parent = self._tensors[base]
        if shape == parent.shape:
            return base
        n_elements = math.prod(shape)
        while parent.view_of is not None and not (parent.order or parent.start):
            above = self._tensors[parent.view_of]
            if parent.n_elements < min(n_elements, above.n_elements):
                break
            parent = above
        if shape == parent.shape:
            return parent.name
        return self._tensor(f"{parent.name}.{name}", shape, parent.role, parent.number_format, view_of=parent.name)

    def _moved_view(self, base: str, shape: Shape, name: str, split: Shape, order: Shape, start: Shape) -> str:
        """A view of the nearest tensor above whose values stand in the order of those of ``base``."""
        parent = self._tensors[base]
        as_shape = tuple(split) or parent.shape
        if tuple(order) in ((), tuple(range(len(as_shape)))) and tuple(shape) == as_shape and not any(start):
            return base if tuple(shape) == parent.shape else self.view(base, shape, name)
        while parent.view_of is not None and not (parent.order or parent.start):
            above = self._tensors[parent.view_of]
            if above.n_elements != parent.n_elements:
                break
            parent = above
        made = self._tensor(f"{parent.name}.{name}", shape, parent.role, parent.number_format, view_of=parent.name)
        read = () if as_shape == parent.shape else as_shape
        self._tensors[made] = replace(self._tensors[made], as_shape=read, order=tuple(order), start=tuple(start))
        return made

    def _tensor(self, name: str, shape: Shape, role: Role, number_format: str, *, view_of: str | None = None) -> str:
        name = self._unused(name)
        self._tensors[name] = TensorSpec(
            name=name,
            shape=tuple(shape),
            number_format=number_format or self.formats[role],
            role=role,
            view_of=view_of,
        )
        return name

    # --- operators ----------------------------------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[str],
        shape: Shape,
        attributes: Mapping[str, Any],
        *,
        role: Role = "activation",
        number_format: str = "",
    ) -> str:
        """Add an operator with one result of ``shape``; returns the name of that tensor."""
        path = self.path(name)
        unique = self._unused(path)
        output = self._tensor(f"{unique}.out", shape, role, number_format)
        self._operators[unique] = Operator(
            name=unique, kind=kind, inputs=tuple(inputs), outputs=(output,), attributes=attributes, path=path
        )
        return output

    def finish(self, outputs: Sequence[str], *, n_parameters: int | None = None, source: str = "") -> OperatorStream:
        """The stream of all that was added; raises InputError when it does not hold together."""
        return OperatorStream(
            name=self.name,
            tensors=tuple(self._tensors.values()),
            operators=tuple(self._operators.values()),
            inputs=tuple(self._inputs),
            outputs=tuple(outputs),
            n_steps=self.n_steps,
            n_parameters=n_parameters,
            source=source,
        )
