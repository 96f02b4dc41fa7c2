"""Multipliers put together from bits: p x q binary products (ABQ-LLM), and 2-bit bricks that fuse (BitFusion)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from tilewright.errors import InputError
from tilewright.formats import tensor_format
from tilewright.hw_models.quantised.demand import (
    ElementWork,
    PairedFormats,
    ProductWork,
    Step,
    check_shape,
    fitting_format,
    integer_bits,
    moved_bytes,
)

__all__ = ["BitFusion", "BitSerial", "bricks"]

_MOST_PLANES = 8  # bits of an operand that the published kernels take apart
_WIDEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BitSerial(PairedFormats):
    """p-bit weights and q-bit activations as p x q products of single bits, put together with shifts: ABQ-LLM.

    Time of the products is proportional to p q; weights move p bits each, whatever q is. Planes are added up after the
    sum over k: one addition (with its shift) for each result and pair of planes. Activations are taken apart online,
    one operation each and plane. ``least_rows``: rows that a binary instruction multiplies at least (8 in m8n8k128).
    """

    name: str = "abq-llm"
    weights: str = "int4-channel"
    activations: str = "int8-token"
    results: str = "fp16"
    least_rows: int = 8
    source: str = "Zeng et al., ABQ-LLM, AAAI 2025, arXiv 2408.08554"
    assumptions: tuple[str, ...] = ("weights are stored as bit planes, taken apart beforehand",)

    @property
    def pair(self) -> str:
        return f"int1 to int{_MOST_PLANES} x int1 to int{_MOST_PLANES}"

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> BitSerial | None:
        return _with_integers(self, weights, activations, most_bits=_MOST_PLANES)

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        weight_bits = integer_bits(self.weights, self.name)
        activation_bits = integer_bits(self.activations, self.name)
        planes = weight_bits * activation_bits
        rows = -(-m // self.least_rows) * self.least_rows
        return (
            Step(
                name="multiply planes",
                products=(ProductWork(m=rows, k=k, n=n, number_format="int1", times=Fraction(planes)),),
                elements=(
                    ElementWork(
                        kind="add", n_elements=m * k * activation_bits, why="planes of activations", at="activations"
                    ),
                    ElementWork(kind="add", n_elements=m * n * planes, why="shift and add planes", at="sums"),
                    ElementWork(kind="mul", n_elements=m * n, why="scale of the results"),
                ),
                read_bytes=moved_bytes(self.weights, k, n, axis=0) + moved_bytes(self.activations, m, k),
                write_bytes=moved_bytes(self.results, m, n),
                n_sums=planes,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BitFusion(PairedFormats):
    """PEs of 16 two-bit bricks that fuse to the widths of the operands: 1 product of 8 x 8 bits or 16 of 2 x 2 a cycle.

    Operands of 16 bits take four passes of 8 x 8. ``multiply_format`` names the machine's rate of a fused PE at 8 x 8.
    """

    name: str = "bitfusion"
    weights: str = "int4-channel"
    activations: str = "int8-token"
    results: str = "fp16"
    multiply_format: str = "int8"
    source: str = "Sharma et al., BitFusion, ISCA 2018, arXiv 1712.01507, section III and figure 4"
    assumptions: tuple[str, ...] = ("widths between those of the bricks take the next wider: 2, 4, 8, 16",)

    @property
    def pair(self) -> str:
        return f"int1 to int{_WIDEST} x int1 to int{_WIDEST}"

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> BitFusion | None:
        return _with_integers(self, weights, activations, most_bits=_WIDEST)

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        share = Fraction(
            bricks(integer_bits(self.weights, self.name)) * bricks(integer_bits(self.activations, self.name)), 16
        )
        return (
            Step(
                name="multiply",
                products=(ProductWork(m=m, k=k, n=n, number_format=self.multiply_format, times=share),),
                elements=(ElementWork(kind="mul", n_elements=m * n, why="scale of the results"),),
                read_bytes=moved_bytes(self.weights, k, n, axis=0) + moved_bytes(self.activations, m, k),
                write_bytes=moved_bytes(self.results, m, n),
            ),
        )


E = TypeVar("E", BitSerial, BitFusion)


def _with_integers(engine: E, weights: str, activations: str, *, most_bits: int) -> E | None:
    """``engine`` for integers of any width up to ``most_bits``, with scales of whole channels and tokens as it has."""
    found = []
    for given, own in ((weights, engine.weights), (activations, engine.activations)):
        element = tensor_format(given).element
        if element.kind != "integer" or element.bits > most_bits:
            return None
        _, _, scales = own.partition("-")
        found.append(fitting_format(f"{element.name}-{scales}" if scales else element.name, given))
    return replace(engine, weights=found[0], activations=found[1]) if all(found) else None


def bricks(bits: int) -> int:
    """Two-bit bricks that one operand of ``bits`` takes: 1, 2, 4 or 8. Raises InputError beyond 16 bits."""
    for width in (2, 4, 8, 16):
        if bits <= width:
            return width // 2
    raise InputError(f"bitfusion: operands too wide; given {bits} bits; allowed up to 16")
