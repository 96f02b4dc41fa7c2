"""The parts of an operator stream: tensors and typed operators.

Every operator is one of a few kinds with the attributes that say how large it is; :data:`ATTRIBUTES` lists them:

=============  ========================================================================================================
matmul         C[b] = A[b] B[b] (+ bias) for ``batch`` products of (m, k) by (k, n); inputs (A, B[, bias]). Where B
               holds one (k, n) matrix only, all products share it.
conv           ``batch`` images; ``in_channels`` and ``out_channels`` over all ``groups``; sizes, ``kernel``,
               ``stride`` and ``dilation`` have one entry per spatial dimension, ``padding`` two: those before, then
               those after; ``transposed`` for a deconvolution; inputs (x, weight[, bias]).
attention      softmax(Q K^T / sqrt(E)) V as in :class:`tilewright.workloads.attention.AttentionLayer`; inputs (Q, K,
               V[, bias][, sinks]). ``mask``, ``window_left`` and ``window_right`` say which keys are seen; ``bias``
               (true or false): an input that is added to the scores, whose shape spreads over (batch, query_heads,
               query_len, key_len) and which hides nothing; ``sinks``: one logit per query head; ``soft_cap``: the
               number that caps the scores.
softmax        over ``columns`` values, for each of ``rows`` rows.
norm           ``function`` is layer, rms, group, instance or batch; ``rows`` sets of ``columns`` values that share
               statistics (batch: at inference, statistics known: a multiply and an add per value); inputs (x[,
               weight[, bias]]).
elementwise    ``function`` of ``n_elements`` results.
reduction      ``function`` (sum, mean, max, min, prod) over ``columns`` values, for each of ``rows`` results.
pool           ``function`` max or average, sizes as in conv.
reshape        data moved, nothing computed: ``function`` is concat, append (rows joined to a cache in place), pad,
               repeat, upsample or another name. A change of shape that only changes how a tensor is read is a view,
               not an operator.
gather         ``rows`` rows of ``columns`` values out of a table; inputs (table, indices).
quantize       to the number format of the output; ``n_elements``.
dequantize     from the number format of the input; ``n_elements``.
memory         not understood, counted as the traffic of its inputs and outputs; ``function`` names it.
=============  ========================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_bits, tensor_format
from tilewright.units import bits_to_bytes

__all__ = [
    "ATTRIBUTES",
    "KINDS",
    "ROLES",
    "Attributes",
    "Kind",
    "Operator",
    "Role",
    "TensorSpec",
    "Value",
    "operator_macs",
    "stored_bits",
    "stored_bytes",
]

Role: TypeAlias = Literal["activation", "weight", "constant", "cache"]
Kind: TypeAlias = Literal[
    "matmul",
    "conv",
    "attention",
    "softmax",
    "norm",
    "elementwise",
    "reduction",
    "pool",
    "reshape",
    "gather",
    "quantize",
    "dequantize",
    "memory",
]
Value: TypeAlias = bool | int | float | str | tuple[int, ...]

ROLES: tuple[str, ...] = get_args(Role)
KINDS: tuple[str, ...] = get_args(Kind)

_SIZES = ("in_size", "out_size", "kernel", "stride", "padding")
#: The attributes that each kind must have; an operator may have more.
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "matmul": ("batch", "m", "k", "n"),
    "conv": ("batch", "groups", "in_channels", "out_channels", *_SIZES, "dilation", "transposed"),
    "attention": ("batch", "query_heads", "kv_heads", "query_len", "key_len", "head_dim", "value_dim", "mask"),
    "softmax": ("rows", "columns"),
    "norm": ("function", "rows", "columns"),
    "elementwise": ("function", "n_elements"),
    "reduction": ("function", "rows", "columns"),
    "pool": ("function", "batch", "channels", *_SIZES),
    "reshape": ("function",),
    "gather": ("rows", "columns"),
    "quantize": ("n_elements",),
    "dequantize": ("n_elements",),
    "memory": ("function",),
}
_LISTS = {"in_size", "out_size", "kernel", "stride", "dilation", "padding"}
_FLAGS = {"transposed", "bias", "sinks"}
_TEXTS = {"function", "mask"}
_NOT_NEGATIVE = {"window", "window_left", "window_right", "stages"}
#: How many tensors each kind reads at least; every operator but one of a kind that is not understood writes one.
_LEAST_INPUTS: Mapping[str, int] = {"matmul": 2, "conv": 2, "attention": 3, "gather": 2, "reshape": 0, "memory": 0}
#: Beyond any network: sizes above are refused before they take memory or time.
LARGEST_COUNT = 2**48
LARGEST_EXTENT = 2**31
MOST_ELEMENTS = 2**50
MOST_MACS = 2**62
_NOT_COUNTS = {
    "function",
    "mask",
    "transposed",
    "padding",
    "window_left",
    "window_right",
    "stages",
    "bias",
    "sinks",
    "soft_cap",
}


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
    of its own and takes no memory. Raises InputError for a shape, role or format that is none.
    """

    name: str
    shape: tuple[int, ...]
    number_format: str
    role: Role = "activation"
    view_of: str | None = None

    def __post_init__(self) -> None:
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
            raise InputError(f'{self.name}: role: unknown role; given "{self.role}"; allowed {", ".join(ROLES)}')
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
    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=Attributes)
    path: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attributes", Attributes(self.attributes))
        needed = ATTRIBUTES.get(self.kind)
        if needed is None:
            raise unknown("kind", self.kind, KINDS, place=f"{self.name}: kind")
        missing = [key for key in needed if key not in self.attributes]
        if missing:
            raise InputError(f"{self.name}: {missing[0]}: missing; a {self.kind} needs {', '.join(needed)}")
        for key in self.attributes:
            self._check_attribute(key, key in needed)
        self._check_dimensions()
        self._check_tensors()

    def _check_tensors(self) -> None:
        least = _LEAST_INPUTS.get(self.kind, 1)
        if len(self.inputs) < least:
            raise InputError(f"{self.name}: inputs: too few; given {len(self.inputs)}; allowed {least} or more")
        if not self.outputs and self.kind != "memory":
            raise InputError(f"{self.name}: outputs: too few; given 0; allowed 1 or more")

    def _check_attribute(self, key: str, is_needed: bool) -> None:
        value = self.attributes[key]
        shown = str(value)[:80]
        if key in _LISTS:
            least = 0 if key == "padding" else 1
            whole = isinstance(value, tuple) and all(type(one) is int and one <= LARGEST_EXTENT for one in value)
            if not whole or not value or min(value) < least:
                raise InputError(
                    f"{self.name}: {key}: must be whole numbers, one for each dimension; given {shown}; "
                    f"allowed {least} to {LARGEST_EXTENT}"
                )
        elif key in _FLAGS and not isinstance(value, bool):
            raise InputError(f"{self.name}: {key}: given {shown}; allowed true or false")
        elif key in _TEXTS and not isinstance(value, str):
            raise InputError(f"{self.name}: {key}: must be text; given {shown}")
        elif key in _NOT_NEGATIVE:
            if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
                raise InputError(f"{self.name}: {key}: must be a whole number; given {shown}; allowed 0 or more")
        elif is_needed and key not in _NOT_COUNTS and (type(value) is not int or not 1 <= value <= LARGEST_COUNT):
            raise InputError(
                f"{self.name}: {key}: must be counted in whole numbers; given {shown}; "
                f"allowed 1 to 2^{LARGEST_COUNT.bit_length() - 1}"
            )

    def _check_dimensions(self) -> None:
        """The lists of a convolution or pooling have an entry for each of its dimensions, padding two."""
        if self.kind not in ("conv", "pool"):
            return
        n_dimensions = len(self.sizes("kernel"))
        for key in _LISTS & self.attributes.keys():
            n = n_dimensions * (2 if key == "padding" else 1)
            if len(self.sizes(key)) != n:
                raise InputError(
                    f"{self.name}: {key}: given {len(self.sizes(key))} numbers; "
                    f"allowed {n} (for {n_dimensions} dimensions)"
                )
        if self.kind == "conv":
            groups = self.count("groups")
            for key in ("in_channels", "out_channels"):
                if self.count(key) % groups:
                    raise InputError(
                        f"{self.name}: groups: given {groups}; allowed what divides {key}, which is {self.count(key)}"
                    )

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
        """Multiply-accumulates of its products (attention: those that its mask leaves); 0 for other kinds."""
        return operator_macs(self)


def operator_macs(operator: Operator) -> int:
    """Multiply-accumulates of a matrix product, a convolution or an attention; 0 for other kinds.

    A convolution needs in_channels / groups times the kernel's size for each result; a transposed one, out_channels /
    groups times the kernel's size for each input value.
    """
    if operator.kind == "matmul":
        return math.prod(operator.count(key) for key in ("batch", "m", "k", "n"))
    if operator.kind == "conv":
        turned = bool(operator.attributes["transposed"])
        many, few = ("in", "out") if turned else ("out", "in")
        n_points = (
            operator.count("batch") * operator.count(f"{many}_channels") * math.prod(operator.sizes(f"{many}_size"))
        )
        n_taps = operator.count(f"{few}_channels") // operator.count("groups") * math.prod(operator.sizes("kernel"))
        return n_points * n_taps
    if operator.kind == "attention":
        from tilewright.workloads.attention_operator import attention_layer

        return attention_layer(operator).macs
    return 0
