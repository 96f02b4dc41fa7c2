"""The parts of an operator stream: tensors and typed operators.

Every operator is of a kind, with the attributes that say how large it is: ``workloads/kinds/`` has one file for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_bits, tensor_format
from tilewright.units import bits_to_bytes
from tilewright.workloads.kinds.kind import KINDS, AttributeType, OperatorKind

__all__ = [
    "ROLES",
    "Attributes",
    "Operator",
    "Role",
    "TensorSpec",
    "Value",
    "stored_bits",
    "stored_bytes",
]

Role: TypeAlias = Literal["activation", "weight", "constant", "cache"]
Value: TypeAlias = bool | int | float | str | tuple[int, ...]

ROLES: tuple[str, ...] = get_args(Role)
#: Beyond any network: sizes above are refused before they take memory or time.
LARGEST_COUNT = 2**48
LARGEST_EXTENT = 2**31
MOST_ELEMENTS = 2**50
MOST_MACS = 2**62


def stored_bits(shape: Sequence[int], number_format: str, role: Role = "activation") -> int:
    """Bits of a tensor of ``shape`` in ``number_format``, scales included; see :func:`stored_bytes`."""
    if role == "weight" and len(shape) > 2:
        shape = (shape[0], math.prod(shape[1:]))
    return tensor_bits(number_format, shape)


def stored_bytes(shape: Sequence[int], number_format: str, role: Role = "activation") -> int:
    """Whole bytes that hold a tensor of ``shape`` in ``number_format``, scales included.

    Groups that share a scale lie along the last dimension; those of a weight of more than two dimensions, a
    convolution's, along all but the first. Raises InputError for an unknown format.
    """
    return bits_to_bytes(stored_bits(shape, number_format, role))


class Attributes(Mapping[str, Value]):
    """An immutable mapping with a hash, in the order of its keys' names; lists become tuples."""

    __slots__ = ("_items",)

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        given = values or {}
        self._items = {key: _frozen(given[key]) for key in sorted(given)}

    def __getitem__(self, key: str) -> Value:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return f"Attributes({self._items!r})"

    def __reduce__(self) -> tuple[type[Attributes], tuple[dict[str, Value]]]:
        return Attributes, (dict(self._items),)


def _frozen(value: Any) -> Value:
    return tuple(int(entry) for entry in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor: its shape (elements, outermost first; empty for one number), number format and role.

    ``view_of`` names the tensor whose memory this one reads in another shape or order, or in part: it has no producer
    of its own and takes no memory. What it reads is that tensor in the shape ``as_shape`` (empty: its own), the
    dimensions of it in ``order`` (empty: as they are), of each those from ``start`` on (empty: all), in ``shape``; a
    view that says neither and has fewer values reads a part that is not known. ``density``: of a weight, the share of
    its values that are not 0. Raises InputError for a shape, role, format or density that is none.
    """

    name: str
    shape: tuple[int, ...]
    number_format: str
    role: Role = "activation"
    view_of: str | None = None
    density: float = 1.0
    as_shape: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    start: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise InputError(f"{self.name}: density: given {self.density:g}; allowed above 0, and at most 1")
        if any(type(extent) is not int or extent < 1 for extent in self.shape):
            raise InputError(
                f"{self.name}: shape: every extent must be a whole number; given {self.shape}; allowed 1 or more"
            )
        if math.prod(self.shape) > MOST_ELEMENTS:
            raise InputError(
                f"{self.name}: shape: too large; given {'x'.join(map(str, self.shape))[:80]}; "
                f"allowed at most 2^{MOST_ELEMENTS.bit_length() - 1} values"
            )
        if self.role not in ROLES:
            raise unknown("role", self.role, ROLES, place=f"{self.name}: role")
        try:
            tensor_format(self.number_format)
        except InputError as fault:
            raise InputError(f"{self.name}: number_format: {fault}") from None

    @property
    def n_elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Whole bytes that its values take, with the scales of their format."""
        return stored_bytes(self.shape, self.number_format, self.role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator: what it computes, how large it is, what it reads and writes (names of tensors), where it stands.

    ``path`` is its place in the model it came from (``layers.3.attention.query``), empty when there is none. Raises
    InputError when the kind is unknown or an attribute that the kind needs is missing or is no count.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=Attributes)
    path: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", Attributes(self.attributes))
        kind = self.of_kind
        missing = [key for key in kind.attributes if key not in self.attributes]
        if missing:
            raise InputError(f"{self.name}: {missing[0]}: missing; a {self.kind} needs {', '.join(kind.attributes)}")
        for key, value in self.attributes.items():
            check = _CHECKS.get(kind.attributes.get(key) or kind.optional.get(key) or "number")
            if check is not None:
                check(f"{self.name}: {key}", value)
        kind.check(self)
        for what, given, least in (
            ("inputs", self.inputs, kind.least_inputs),
            ("outputs", self.outputs, kind.least_outputs),
        ):
            if len(given) < least:
                raise InputError(f"{self.name}: {what}: too few; given {len(given)}; allowed {least} or more")

    @property
    def of_kind(self) -> OperatorKind:
        """What its kind says. Raises InputError, with the nearest name, for one that is unknown."""
        try:
            return KINDS.get(self.kind)
        except InputError:
            if self.kind in KINDS.names():
                raise
            raise unknown("kind", self.kind, KINDS.names(), place=f"{self.name}: kind") from None

    def count(self, key: str) -> int:
        """The attribute ``key`` as a whole number."""
        return int(self.attributes[key])

    def sizes(self, key: str) -> tuple[int, ...]:
        """The attribute ``key`` as whole numbers, one per spatial dimension."""
        return tuple(self.attributes[key])

    def text(self, key: str) -> str:
        """The attribute ``key`` as text, empty where there is none."""
        return str(self.attributes.get(key, ""))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of its products (attention: those that its mask leaves); 0 for kinds without."""
        return self.of_kind.macs(self)


def _check_sizes(place: str, value: Value, least: int = 1) -> None:
    whole = isinstance(value, tuple) and all(type(one) is int and one <= LARGEST_EXTENT for one in value)
    if not isinstance(value, tuple) or not whole or not value or min(value) < least:
        raise InputError(
            f"{place}: must be whole numbers, one for each dimension; given {str(value)[:80]}; "
            f"allowed {least} to {LARGEST_EXTENT}"
        )


def _check_padding(place: str, value: Value) -> None:
    _check_sizes(place, value, least=0)


def _check_flag(place: str, value: Value) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{place}: given {str(value)[:80]}; allowed true or false")


def _check_text(place: str, value: Value) -> None:
    if not isinstance(value, str):
        raise InputError(f"{place}: must be text; given {str(value)[:80]}")


def _check_whole(place: str, value: Value) -> None:
    if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
        raise InputError(f"{place}: must be a whole number; given {str(value)[:80]}; allowed 0 or more")


def _check_count(place: str, value: Value) -> None:
    if type(value) is not int or not 1 <= value <= LARGEST_COUNT:
        raise InputError(
            f"{place}: must be counted in whole numbers; given {str(value)[:80]}; "
            f"allowed 1 to 2^{LARGEST_COUNT.bit_length() - 1}"
        )


_CHECKS: Mapping[AttributeType, Callable[[str, Value], None]] = {
    "sizes": _check_sizes,
    "padding": _check_padding,
    "flag": _check_flag,
    "text": _check_text,
    "whole": _check_whole,
    "count": _check_count,
}
