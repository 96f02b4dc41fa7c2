"""What an engine asks for: products, element-wise work and bytes, in steps that follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Protocol, Self, TypeAlias

from tilewright.errors import InputError
from tilewright.formats import element_format, tensor_bits, tensor_format
from tilewright.hw_models.spec import OperationKind
from tilewright.units import bits_to_bytes

__all__ = [
    "At",
    "ElementWork",
    "Engine",
    "PairedFormats",
    "ProductWork",
    "Step",
    "check_shape",
    "fitting_format",
    "integer_bits",
    "moved_bytes",
    "n_groups",
    "total",
]


#: With what work belongs, where a product is done tile by tile: each tile of the weights or of the activations that is
#: brought, each product of two tiles, each finished tile of the results.
At: TypeAlias = Literal["weights", "activations", "sums", "results"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductWork:
    """C[m, n] = A[m, k] B[k, n] on the matrix unit at its rate for ``number_format``, ``times`` over.

    ``times`` is not 1 where operands are taken apart into bits (p x q planes) or several share a multiplier (1/4).
    ``part``: the share of the product that is done so, where its parts are done in several formats.
    """

    m: int
    k: int
    n: int
    number_format: str
    times: Fraction = Fraction(1)
    part: Fraction = Fraction(1)
    at: At = "sums"

    @property
    def macs(self) -> Fraction:
        """Multiply-adds in slots of the matrix unit at the rate of ``number_format``."""
        return self.m * self.k * self.n * self.times * self.part


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementWork:
    """``n_elements`` operations of ``kind`` on the vector unit; ``why`` in a few words."""

    kind: OperationKind
    n_elements: int
    why: str
    at: At = "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Work that overlaps: it lasts as long as the longest of products, element-wise work and bytes.

    Bytes are those of main memory, with the scales that belong to the values. One step of an engine multiplies the
    operands (``multiplies``); those before and behind it are passes over rows of its inputs or results. Of that step,
    ``n_sums``: sums that the matrix unit hands on for each result, one a group of scales; ``branch_read_bytes``: the
    part of its reads that joins the results, besides the operands.
    """

    name: str
    products: tuple[ProductWork, ...] = ()
    elements: tuple[ElementWork, ...] = ()
    read_bytes: int = 0
    write_bytes: int = 0
    multiplies: bool = True
    n_sums: int = 1
    branch_read_bytes: int = 0

    @property
    def macs(self) -> Fraction:
        """Multiply-adds of all products, in slots of the matrix unit."""
        return sum((product.macs for product in self.products), Fraction(0))

    @property
    def n_elements(self) -> int:
        """Element-wise operations of all kinds."""
        return sum(work.n_elements for work in self.elements)


class Engine(Protocol):
    """A way to multiply quantised operands. ``source`` names the publication, ``assumptions`` what it leaves open.

    As a part of a machine (``matrix.engine``) it says further which products it does, and how it stores them.
    """

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def assumptions(self) -> tuple[str, ...]: ...

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        """What C[m, n] = A[m, k] B[k, n] takes, each extent at least 1; steps follow each other."""
        ...

    @property
    def pair(self) -> str:
        """The formats of weights and activations that it multiplies, in words: "int4 x int8"."""
        ...

    @property
    def group(self) -> int:
        """Neighbours along k that share a scale or a format; 1 where there are no groups."""
        ...

    @property
    def prepared_bits(self) -> tuple[int | None, int | None]:
        """Bits of a weight and of an activation on chip once they were prepared; None where they stay as stored."""
        ...

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> Engine | None:
        """The engine for a product with operands stored so (tensor formats), None where it is not one of its.

        An element format without scales is stored as the engine stores it. Its steps may be asked for any part of the
        product: parts in different formats lie spread evenly over it.
        """
        ...

    def stored_bits(self, m: int, k: int, n: int) -> tuple[int, int]:
        """Bits of all weights and of all activations that its product reads, scales included."""
        ...


class PairedFormats:
    """What an engine with one format of ``weights`` and one of ``activations`` is as a part of a machine."""

    __slots__ = ()
    weights: str
    activations: str

    @property
    def pair(self) -> str:
        return f"{element_format(self.weights)} x {element_format(self.activations)}"

    @property
    def group(self) -> int:
        scale = tensor_format(self.weights).scale
        return scale.group if scale is not None and scale.group is not None else 1

    @property
    def prepared_bits(self) -> tuple[int | None, int | None]:
        return None, None

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> Self | None:
        found = fitting_format(self.weights, weights), fitting_format(self.activations, activations)
        if not found[0] or not found[1]:
            return None
        return replace(self, weights=found[0], activations=found[1])  # type: ignore[type-var]

    def stored_bits(self, m: int, k: int, n: int) -> tuple[int, int]:
        return tensor_bits(self.weights, (k, n), axis=0), tensor_bits(self.activations, (m, k))


def fitting_format(own: str, given: str) -> str:
    """The tensor format in which an engine with ``own`` stores what is ``given``, empty where it cannot.

    Elements must be the same. Without scales they are stored as ``own``; scaled otherwise they stay as they are, but
    that groups of scales do not become scales of whole rows, nor these groups.
    """
    theirs, ours = tensor_format(given), tensor_format(own)
    if theirs.element != ours.element:
        return ""
    if theirs.scale is None:
        return own
    if ours.scale is None:
        return ""
    return given if (theirs.scale.group is None) == (ours.scale.group is None) else ""


def total(steps: Sequence[Step]) -> Step:
    """All ``steps`` in one, for counts: its time as one step would take all of them to overlap."""
    return Step(
        name="total",
        products=tuple(product for step in steps for product in step.products),
        elements=tuple(work for step in steps for work in step.elements),
        read_bytes=sum(step.read_bytes for step in steps),
        write_bytes=sum(step.write_bytes for step in steps),
    )


def moved_bytes(number_format: str, rows: int, columns: int, *, axis: int = -1) -> int:
    """Bytes of a rows x columns tensor in ``number_format``, scales included; ``axis`` is the one summed over."""
    return bits_to_bytes(tensor_bits(number_format, (rows, columns), axis=axis))


def n_groups(extent: int, group: int) -> int:
    """Groups of ``group`` along ``extent``, the last one as short as it comes."""
    return -(-extent // group)


def check_shape(m: int, k: int, n: int) -> None:
    """Raise InputError unless every extent is at least 1."""
    if min(m, k, n) < 1:
        raise InputError(f"product: extents must be positive; given {m} x {k} x {n}; allowed at least 1 each")


def integer_bits(number_format: str, what: str) -> int:
    """Bits of an element of ``number_format``, which must be an integer format; raises InputError otherwise."""
    element = element_format(number_format)
    if not element.startswith("int"):
        raise InputError(f'{what}: needs integers; given "{number_format}"; allowed int1 to int16, scaled or not')
    return int(element.removeprefix("int"))
