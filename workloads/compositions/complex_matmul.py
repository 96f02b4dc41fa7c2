"""Products of complex matrices, as four real products or as three (Gauss's way).

A complex tensor is two real ones of the same shape. (a + ib)(c + id): four products ac, bd, ad, bc with a difference
and a sum; or three, (a + b) c, a (d - c), b (c + d), of which the real part is the first less the third and the
imaginary part the sum of the first two. Gauss's way costs a sum of all of the first operand (and two of the second,
unless that is known beforehand and stored as c, d - c, c + d) for a quarter of the multiply-adds; in few bits its sums
overflow or round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tilewright.workloads.compositions.composition import Composition, register_composition
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys
from tilewright.workloads.stream.builder import StreamBuilder

__all__ = ["Complex", "Factor", "complex_product", "known_factor", "made_factor", "real_part", "times_complex"]

_WAYS = ("4", "3")


class Complex(NamedTuple):
    """The names of a real and of an imaginary part."""

    real: str
    imaginary: str


class Factor(NamedTuple):
    """What multiplies: its parts c and d, and for three products d - c and c + d (empty for four)."""

    real: str
    imaginary: str = ""
    difference: str = ""
    total: str = ""


def known_factor(
    built: StreamBuilder, name: str, shape: Sequence[int], products: int, number_format: str = ""
) -> Factor:
    """A second operand that is known beforehand: two weights of ``shape``, or the three that three products need.

    ``shape``: (n, k), as weights are trained, or (batch, k, n).
    """
    parts = ("real", "imaginary") if products != 3 else ("real", "difference", "total")
    made = {part: built.weight(f"{name}.{part}", shape, number_format=number_format) for part in parts}
    return Factor(**made)


def made_factor(built: StreamBuilder, b: Complex, products: int, name: str) -> Factor:
    """A second operand that the network computes: as it is, or with the difference and the sum that are taken first."""
    if products != 3:
        return Factor(*b)
    return Factor(
        real=b.real,
        difference=_elementwise(built, "sub", [b.imaginary, b.real], f"{name}.difference"),
        total=_elementwise(built, "add", [b.real, b.imaginary], f"{name}.total"),
    )


def complex_product(
    built: StreamBuilder, a: Complex, b: Factor, name: str, *, products: int = 4, number_format: str = ""
) -> Complex:
    """a (..., m, k) times b, (n, k) as weights are trained or (batch, k, n): both parts of (..., m, n), by ``products``
    real ones.

    The last product of each part takes the other's result in on its tiles.
    """
    if products == 3:
        both = _elementwise(built, "add", [a.real, a.imaginary], f"{name}.both", number_format)
        first = _product(built, both, b.real, f"{name}.first", number_format)
        second = _product(built, a.real, b.difference, f"{name}.second", number_format)
        third = _product(built, a.imaginary, b.total, f"{name}.third", number_format)
        return Complex(
            _elementwise(built, "sub", [first, third], f"{name}.real", number_format),
            _elementwise(built, "add", [first, second], f"{name}.imaginary", number_format),
        )
    ac = _product(built, a.real, b.real, f"{name}.ac", number_format)
    bd = _product(built, a.imaginary, b.imaginary, f"{name}.bd", number_format)
    real = _elementwise(built, "sub", [ac, bd], f"{name}.real", number_format)
    ad = _product(built, a.real, b.imaginary, f"{name}.ad", number_format)
    bc = _product(built, a.imaginary, b.real, f"{name}.bc", number_format)
    return Complex(real, _elementwise(built, "add", [ad, bc], f"{name}.imaginary", number_format))


def times_complex(built: StreamBuilder, a: str, b: Factor, name: str) -> Complex:
    """A real a times b: two real products."""
    return Complex(_product(built, a, b.real, f"{name}.real"), _product(built, a, b.imaginary, f"{name}.imaginary"))


def real_part(built: StreamBuilder, a: Complex, b: Factor, name: str) -> str:
    """The real part alone of a times b: two real products."""
    ac = _product(built, a.real, b.real, f"{name}.ac")
    bd = _product(built, a.imaginary, b.imaginary, f"{name}.bd")
    return _elementwise(built, "sub", [ac, bd], f"{name}.real")


def _product(built: StreamBuilder, a: str, b: str, name: str, number_format: str = "") -> str:
    *lead, k = built.shape(a)
    batch, n = (1, built.shape(b)[0]) if len(built.shape(b)) == 2 else (built.shape(b)[0], built.shape(b)[2])
    sizes = {"batch": batch, "m": math.prod(lead) // batch, "k": k, "n": n}
    return built.add("matmul", name, [a, b], (*lead, n), sizes, number_format=number_format)


def _elementwise(built: StreamBuilder, function: str, inputs: list[str], name: str, number_format: str = "") -> str:
    shape = built.shape(inputs[0])
    sizes = {"function": function, "n_elements": math.prod(shape)}
    return built.add("elementwise", name, inputs, shape, sizes, number_format=number_format)


def _build(built: StreamBuilder, given: TextKeys) -> Complex:
    batch, m, k, n = (given.count(key, 1 if key == "batch" else None) for key in ("batch", "m", "k", "n"))
    products = int(given.word("products", _WAYS))
    a_format, b_format, out_format = (given.format(key) for key in ("a_format", "b_format", "out_format"))
    a = Complex(*(built.input(f"a.{part}", (batch, m, k), number_format=a_format) for part in Complex._fields))
    if given.word("b", ("weight", "activation")) == "weight":
        b = known_factor(built, "b", (n, k), products, b_format)
    else:
        parts = Complex(*(built.input(f"b.{part}", (batch, k, n), number_format=b_format) for part in Complex._fields))
        b = made_factor(built, parts, products, "b")
    return complex_product(built, a, b, "product", products=products, number_format=out_format)


register_composition(
    Composition(
        name="complex_matmul",
        word="a product of complex matrices, as four real products or three",
        text=OperatorText(
            is_network=True,
            example="complex_matmul:m=512,k=64,n=64,products=3",
            keys=("m", "k", "n", "batch", "b", "products", *TWO_FORMATS),
            needed=("m", "k", "n"),
            build=_build,
        ),
    ),
    rank=1,
)
