"""A graph under construction: what an extractor writes down, before it is simplified and checked.

Values are tensors or views of them; steps are operators. Unlike an operator stream, a draft may be changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tilewright.workloads.operators import Operator, Role, TensorSpec
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.workloads.extract.runs import Known

    Array = NDArray[np.generic]

__all__ = ["INDEX_FORMAT", "Draft", "Step", "Value", "ViewKind"]

#: Whole numbers that say where to read; frameworks keep them in 64 bits, machines need no more than 32.
INDEX_FORMAT = "int32"
_LARGEST_DENSE = 1 << 22

#: reshape keeps every value; part keeps some; expand shows some more than once; cast changes the number format only.
ViewKind: TypeAlias = Literal["reshape", "part", "expand", "cast"]


@dataclass(slots=True, kw_only=True)
class Value:
    """A tensor, or a view of the value ``view_of``. ``data`` gives its numbers where they are known beforehand."""

    name: str
    shape: tuple[int, ...]
    number_format: str
    role: Role = "activation"
    view_of: str | None = None
    view_kind: ViewKind = "reshape"
    data: Callable[[], Known | None] | None = None

    @property
    def n_elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(slots=True, kw_only=True, eq=False)
class Step:
    """An operator of a draft; ``path`` is its place in the model.

    ``operator`` is its name in the framework, where that says more than its kind and function; ``numbers`` are single
    numbers that it was given beside its inputs.
    """

    kind: str
    path: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    operator: str = ""
    numbers: tuple[float, ...] = ()

    @property
    def function(self) -> str:
        """What it computes, where its kind says more than one thing."""
        return str(self.attributes.get("function", ""))


class Draft:
    """Values and steps by the names that the extractor gives them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, Value] = {}
        self._taken: dict[str, int] = {}  # a name that is taken -> the number to try next
        self.steps: list[Step] = []
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.n_parameters: int | None = None
        #: What was known before the network runs, by the steps that made it.
        self.folded: dict[str, Step] = {}
        #: A mask that no band can say is counted as a bias, and every score as computed.
        self.masks_as_biases = False

    # --- writing ------------------------------------------------------------------------------------------------------

    def unused(self, name: str) -> str:
        """``name``, or the first of name_2, name_3, ... that no value has."""
        if name not in self.values:
            return name
        number = self._taken.get(name, 2)
        while f"{name}_{number}" in self.values:
            number += 1
        self._taken[name] = number
        return f"{name}_{number}"

    def value(
        self,
        name: str,
        shape: Sequence[int],
        number_format: str,
        role: Role = "activation",
        data: Callable[[], Known | None] | None = None,
    ) -> str:
        """Add a tensor under a name that is free."""
        name = self.unused(name)
        self.values[name] = Value(name=name, shape=tuple(shape), number_format=number_format, role=role, data=data)
        return name

    def view(
        self, name: str, base: str, shape: Sequence[int], kind: ViewKind = "reshape", number_format: str = ""
    ) -> str:
        """Add a view of ``base``; a cast says its format, others have that of ``base``."""
        above = self.values[base]
        name = self.unused(name)
        self.values[name] = Value(
            name=name,
            shape=tuple(shape),
            number_format=number_format or above.number_format,
            role=above.role,
            view_of=base,
            view_kind=kind,
        )
        return name

    def step(
        self,
        kind: str,
        path: str,
        inputs: Iterable[str],
        outputs: Iterable[str],
        attributes: Mapping[str, Any],
    ) -> Step:
        """Add an operator whose results are values that are there already."""
        step = Step(kind=kind, path=path, inputs=list(inputs), outputs=list(outputs), attributes=dict(attributes))
        self.steps.append(step)
        return step

    # --- reading ------------------------------------------------------------------------------------------------------

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value."""
        return self.values[name].shape

    def base(self, name: str) -> Value:
        """The tensor that a value is, or is a view of."""
        value = self.values[name]
        while value.view_of is not None:
            value = self.values[value.view_of]
        return value

    def whole(self, name: str) -> str:
        """The value that ``name`` shows whole, in another shape, order or format at most."""
        value = self.values[name]
        while value.view_of is not None and value.view_kind in ("reshape", "cast"):
            value = self.values[value.view_of]
        return value.name

    def known(self, name: str) -> Known | None:
        """The numbers of a value, or of what it shows whole, with their structure where they are many; None when they
        are not known beforehand.
        """
        from tilewright.workloads.extract.runs import OuterSum, Runs

        value = self.values[name]
        source = value if value.data is not None else self.values[self.whole(name)]
        known = source.data() if source.data is not None else None
        if known is None or known.shape == value.shape:
            return known
        if isinstance(known, OuterSum):
            return None
        return known.shown_as(value.shape) if isinstance(known, Runs) else known.reshape(value.shape)

    def numbers(self, name: str) -> Array | None:
        """As :meth:`known`, one by one; None when they are too many, too."""
        from tilewright.workloads.extract.runs import OuterSum, Runs

        known = self.known(name)
        if isinstance(known, Runs):
            return known.dense() if self.values[name].n_elements <= _LARGEST_DENSE else None
        return None if isinstance(known, OuterSum) else known

    def role(self, name: str) -> Role:
        """Role of the tensor that a value is a view of."""
        return self.base(name).role

    def is_known(self, name: str) -> bool:
        """Whether a value is there before the network runs."""
        return self.role(name) in ("weight", "constant")

    def is_number(self, name: str) -> bool:
        """Whether a value is one number that is known beforehand."""
        return self.values[name].n_elements == 1 and self.is_known(name)

    def makers(self) -> dict[str, Step]:
        """The step that makes each tensor."""
        return {name: step for step in self.steps for name in step.outputs}

    def readers(self) -> dict[str, list[Step]]:
        """The steps that read each tensor, directly or through views; outputs of the network have one reader more."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            for name in dict.fromkeys(self.base(one).name for one in step.inputs):
                found.setdefault(name, []).append(step)
        end = Step(kind="memory", path="", inputs=list(self.outputs), outputs=[])
        for name in self.outputs:
            found.setdefault(self.base(name).name, []).append(end)
        return found

    # --- ending -------------------------------------------------------------------------------------------------------

    def finish(self, *, source: str) -> OperatorStream:
        """The operator stream of what was drafted: values that nothing reads are left out, and so are single
        numbers.
        """
        operators = []
        taken: dict[str, int] = {}
        for step in self.steps:
            keeps_all = step.kind == "attention"  # sinks of one head are a single number
            inputs = [name for name in step.inputs if keeps_all or not self.is_number(name)]
            name = step.path or step.kind
            taken[name] = taken.get(name, 0) + 1
            operators.append(
                Operator(
                    name=name if taken[name] == 1 else f"{name}_{taken[name]}",
                    kind=step.kind,
                    inputs=tuple(self._collapsed(one) for one in (inputs or step.inputs)),
                    outputs=tuple(step.outputs),
                    attributes=step.attributes,
                    path=step.path,
                )
            )
        used = dict.fromkeys(name for operator in operators for name in (*operator.inputs, *operator.outputs))
        used |= dict.fromkeys((*self.inputs, *map(self._collapsed, self.outputs)))
        for name in list(used):
            value = self.values[name]
            while value.view_of is not None:
                used[value.view_of] = None
                value = self.values[value.view_of]
        return OperatorStream(
            name=self.name,
            tensors=tuple(self._spec(name) for name in used),
            operators=_with_free_names(operators),
            inputs=tuple(self.inputs),
            outputs=tuple(map(self._collapsed, dict.fromkeys(self.outputs))),
            n_parameters=self.n_parameters,
            source=source,
        )

    def _collapsed(self, name: str) -> str:
        """``name``, made a view of the tensor itself unless a smaller view lies between (part, then expand)."""
        value = self.values[name]
        if value.view_of is None:
            return name
        parent = self.values[value.view_of]
        while parent.view_of is not None:
            above = self.values[parent.view_of]
            if parent.n_elements < min(value.n_elements, above.n_elements):
                break
            parent = above
        value.view_of = parent.name
        if value.shape == parent.shape:
            return parent.name
        self._collapsed(parent.name)
        return name

    def _spec(self, name: str) -> TensorSpec:
        value = self.values[name]
        base = self.base(name)
        return TensorSpec(
            name=name,
            shape=value.shape,
            number_format=base.number_format,
            role=base.role,
            view_of=value.view_of,
        )


def _with_free_names(operators: list[Operator]) -> tuple[Operator, ...]:
    """The operators; a name that was made by counting and also given is given once more a number."""
    seen: set[str] = set()
    result = []
    for operator in operators:
        name = operator.name
        while name in seen:
            name += "'"
        seen.add(name)
        if name != operator.name:
            operator = Operator(
                name=name,
                kind=operator.kind,
                inputs=operator.inputs,
                outputs=operator.outputs,
                attributes=operator.attributes,
                path=operator.path,
            )
        result.append(operator)
    return tuple(result)
