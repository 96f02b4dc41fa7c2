"""Products with a weight that is a Kronecker product A (x) B, of A (q, p) and B (s, r), as two small ones.

Weights are as they are trained, results by inputs. x (..., p r) read as (..., p, r): y[q, s] is the sum of x[p, r]
A[q, p] B[s, r], (..., q s). One factor after the other, with a change between rows and columns before what is summed
over the slower index (read so, in other order): A first is r q (p + s) multiply-adds a row, B first p s (r + q), the
whole weight p q r s (KroneckerBERT, arXiv 2109.06243, has its weights so).
"""

from __future__ import annotations

import math

from tilewright.errors import InputError
from tilewright.workloads.compositions.composition import Composition, register_composition
from tilewright.workloads.kinds.text import TWO_FORMATS, OperatorText, TextKeys
from tilewright.workloads.stream.builder import StreamBuilder

__all__ = ["kronecker_product"]

_ORDERS = ("fewest", "a", "b")


def kronecker_product(
    built: StreamBuilder, x: str, a: str, b: str, name: str, *, first: str = "fewest", number_format: str = ""
) -> str:
    """x (..., p r) times the transpose of a (x) b, for a (q, p) and b (s, r): the name of (..., q s).

    ``first``: the factor that is multiplied first, "a", "b" or "fewest": the one that leaves fewer multiply-adds in all
    (a where both do). With b first the result is read from (..., s, q).
    """
    (q, p), (s, r) = built.shape(a), built.shape(b)
    *lead, n_in = built.shape(x)
    if n_in != p * r:
        raise InputError(
            f"{name}: the last dimension of {x}: given {n_in}; allowed {p * r}, the inputs of both factors"
        )
    if first == "fewest":
        first = "a" if r * q * (p + s) <= p * s * (r + q) else "b"
    rows = math.prod(lead)
    if first == "a":
        turned = built.view(x, (rows, r, p), "turned", split=(rows, p, r), order=(0, 2, 1))
        between = _product(built, turned, a, f"{name}.with_a", number_format)  # (rows, r, q)
        turned = built.view(between, (rows, q, r), "turned", order=(0, 2, 1))
        return built.view(_product(built, turned, b, f"{name}.with_b", number_format), (*lead, q * s))
    between = _product(built, built.view(x, (rows, p, r)), b, f"{name}.with_b", number_format)  # (rows, p, s)
    turned = built.view(between, (rows, s, p), "turned", order=(0, 2, 1))
    made = _product(built, turned, a, f"{name}.with_a", number_format)  # (rows, s, q)
    return built.view(made, (*lead, q * s), "turned", order=(0, 2, 1))


def _product(built: StreamBuilder, x: str, weight: str, name: str, number_format: str) -> str:
    *lead, k = built.shape(x)
    n = built.shape(weight)[0]
    sizes = {"batch": 1, "m": math.prod(lead), "k": k, "n": n}
    return built.add("matmul", name, [x, weight], (*lead, n), sizes, number_format=number_format)


def _build(built: StreamBuilder, given: TextKeys) -> str:
    m, p, q, r, s = (given.count(key) for key in ("m", "p", "q", "r", "s"))
    b_format = given.format("b_format")
    x = built.input("x", (m, p * r), number_format=given.format("a_format"))
    a = built.weight("a", (q, p), number_format=b_format)
    b = built.weight("b", (s, r), number_format=b_format)
    order = given.word("first", _ORDERS)
    return kronecker_product(built, x, a, b, "product", first=order, number_format=given.format("out_format"))


register_composition(
    Composition(
        name="kronecker_matmul",
        word="a product with a Kronecker product of two weights, as two small products",
        text=OperatorText(
            is_network=True,
            example="kronecker_matmul:m=512,p=384,q=384,r=2,s=2",
            keys=("m", "p", "q", "r", "s", "first", *TWO_FORMATS),
            needed=("m", "p", "q", "r", "s"),
            build=_build,
        ),
    ),
    rank=2,
)
