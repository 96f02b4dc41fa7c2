"""Products without multiplications: shifts and additions beside a multiply-add (You et al., arXiv 2306.06446).

A weight that is a sign and a power of two needs a shift and an addition (primitive "shift"), a sign an addition
("add"). Counters name such a product by its format and primitive, "int8 shift".
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import TYPE_CHECKING

from tilewright.formats import format_bits

if TYPE_CHECKING:
    from tilewright.hw_models.spec import EnergySpec, MatrixUnitSpec

__all__ = ["UNIT_PJ", "counted_as", "product_pj", "products_per_cycle", "unit_share"]

#: Picojoules of one operation, by name and bits: ShiftAddViT's table (its released energy model, 45 nm).
UNIT_PJ: Mapping[tuple[str, int], float] = {
    ("multiply", 32): 3.7,
    ("add", 32): 0.9,
    ("shift", 32): 0.13,
    ("multiply", 8): 0.2,
    ("add", 8): 0.03,
    ("shift", 8): 0.024,
}
_NARROW, _WIDE = 8, 32


def unit_share(operation: str, bits: int) -> float:
    """The energy of ``operation`` ("shift", "add") over that of a multiply-add, of ``bits`` wide numbers.

    That of the table at its two widths; between them a line over the logarithm of the width, beyond them the nearest.
    """
    narrow, wide = (
        UNIT_PJ[operation, width] / (UNIT_PJ["multiply", width] + UNIT_PJ["add", width]) for width in (_NARROW, _WIDE)
    )
    part = min(1.0, max(0.0, log2(bits / _NARROW) / log2(_WIDE / _NARROW)))
    return narrow + part * (wide - narrow)


def products_per_cycle(unit: MatrixUnitSpec, number_format: str, primitive: str = "") -> float | None:
    """How many products and sums of ``number_format`` a PE starts in a cycle; None for a format without a rate."""
    own = unit.shift_adds_per_pe_per_cycle
    usual = unit.multiplies_per_pe_per_cycle.get(number_format)
    return own.get(number_format, usual) if primitive and own is not None else usual


def counted_as(unit: MatrixUnitSpec, number_format: str, primitive: str = "") -> str:
    """What counters call such a product: by its format alone where the unit multiplies."""
    own = unit.shift_adds_per_pe_per_cycle
    if not primitive or (own is not None and number_format not in own):
        return number_format
    return f"{number_format} {primitive}"


def product_pj(energy: EnergySpec, counted: str) -> float:
    """Picojoules of one product and sum that counters call ``counted``."""
    number_format, _, primitive = counted.partition(" ")
    whole = energy.multiply_accumulate_pj[number_format]
    if not primitive:
        return whole
    bits = format_bits(number_format)
    add = energy.add_pj.get(number_format, whole * unit_share("add", bits))
    if primitive == "add":
        return add
    return energy.shift_pj.get(number_format, whole * unit_share("shift", bits)) + add
