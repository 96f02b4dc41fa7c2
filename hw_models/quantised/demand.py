"""What an engine asks for: products, element-wise work and bytes, in steps that follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from tilewright.errors import InputError
from tilewright.formats import element_format, tensor_bits
from tilewright.hw_models.spec import OperationKind
from tilewright.units import bits_to_bytes

__all__ = [
    "ElementWork",
    "Engine",
    "ProductWork",
    "Step",
    "check_shape",
    "integer_bits",
    "moved_bytes",
    "n_groups",
    "total",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductWork:
    """C[m, n] = A[m, k] B[k, n] on the matrix unit at its rate for ``number_format``, ``times`` over.

    ``times`` is not 1 where operands are taken apart into bits (p x q planes) or several share a multiplier (1/4).
    """

    m: int
    k: int
    n: int
    number_format: str
    times: Fraction = Fraction(1)

    @property
    def macs(self) -> Fraction:
        """Multiply-adds in slots of the matrix unit at the rate of ``number_format``."""
        return self.m * self.k * self.n * self.times


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementWork:
    """``n_elements`` operations of ``kind`` on the vector unit; ``why`` in a few words."""

    kind: OperationKind
    n_elements: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Work that overlaps: it lasts as long as the longest of products, element-wise work and bytes.

    Bytes are those of main memory, with the scales that belong to the values.
    """

    name: str
    products: tuple[ProductWork, ...] = ()
    elements: tuple[ElementWork, ...] = ()
    read_bytes: int = 0
    write_bytes: int = 0

    @property
    def macs(self) -> Fraction:
        """Multiply-adds of all products, in slots of the matrix unit."""
        return sum((product.macs for product in self.products), Fraction(0))

    @property
    def n_elements(self) -> int:
        """Element-wise operations of all kinds."""
        return sum(work.n_elements for work in self.elements)


class Engine(Protocol):
    """A way to multiply quantised operands. ``source`` names the publication, ``assumptions`` what it leaves open."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def assumptions(self) -> tuple[str, ...]: ...

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        """What C[m, n] = A[m, k] B[k, n] takes, each extent at least 1; steps follow each other."""
        ...


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
