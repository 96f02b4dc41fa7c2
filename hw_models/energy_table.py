"""Energies by technology node, for the figures that a machine file does not give (``energy.node_nm``).

Arithmetic is published at two nodes: 45 nm and 0.9 V (M. Horowitz, "Computing's energy problem", ISSCC 2014) and 7 nm
(the same table brought up to date in N. Jouppi et al., "Ten Lessons From Three Generations Shaped Google's TPUv4i",
ISCA 2021, table 2, taken from notes, not read again). Between and beyond them an energy is taken to be a power
of the node. The scaling factors of Stillmaker and Baas (Integration 58, 2017) give a third of that at 7 nm, for gates
alone.

SRAM is made of banks of at most 128 KiB with a port of 256 bits: CACTI 7 from 22 to 65 nm (:mod:`.components`); below,
it shrinks as a 32 KiB array does between those two tables. That is a design for low power: the table of 2021 has three
times as much at 7 nm. DRAM does not follow the node of the chip. What is assumed where no table has a format is said at
each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import exp, log
from typing import Any, Literal, TypeAlias

from tilewright.hw_models.components import HOROWITZ_45NM_PJ, REGISTER_PJ_PER_BIT, SRAM_PJ, sram_pj_per_byte

__all__ = [
    "DRAM_KINDS",
    "OF_DRAM",
    "ON_CHIP",
    "DramKind",
    "TableFigure",
    "dram_figures",
    "elementwise_pj",
    "left_to_tables",
    "multiply_accumulate_pj",
    "register_pj",
    "sram_pj",
    "table_assumption",
    "table_source",
    "with_table",
]

DramKind: TypeAlias = Literal["lpddr4x", "ddr4", "gddr6", "hbm2"]


class TableFigure(float):
    """A figure out of the tables here: it follows the node, the buffers and the formats when these change."""


_HOROWITZ_NM, _JOUPPI_NM = 45, 7
_JOUPPI_7NM_PJ: Mapping[str, float] = {
    "int8_add": 0.007,
    "int32_add": 0.03,
    "fp16_add": 0.16,
    "fp32_add": 0.38,
    "int8_mul": 0.07,
    "int32_mul": 1.48,
    "fp16_mul": 0.34,
    "bf16_mul": 0.21,
    "fp32_mul": 1.31,
    "sram_64b_32kib": 8.5,
}
_OPERAND_BITS, _SUM_BITS = 32, 32  # registers that change at a multiply-add: two operands and their product; a sum
_SRAM_NODES = sorted({node for node, _ in SRAM_PJ})
_BANK_KIB, _SMALLEST_KIB, _PORT_BITS = 128, 4, 256
_DIGITS = 3

#: Read, write (pJ a byte) and activation (pJ): LPDDR4X from supply currents (:func:`.components.dram_energy` at 0.6 V),
#: the others from the table of 2021, per 64 bits and in the middle where it gives a range; rows are part of these.
_DRAM_PJ: Mapping[DramKind, tuple[float, float, float]] = {
    "lpddr4x": (56.1, 36.0, 1192.5),
    "ddr4": (1300 / 8, 1300 / 8, 0.0),
    "gddr6": (415 / 8, 415 / 8, 0.0),
    "hbm2": (350 / 8, 350 / 8, 0.0),
}
#: What a node gives: everything on the chip that has a price for each action.
ON_CHIP = (
    "multiply_accumulate_pj",
    "register_pj_per_multiply_accumulate",
    "matrix_elementwise_pj",
    "vector_pj",
    "buffer_read_pj_per_byte",
    "buffer_write_pj_per_byte",
)
#: What a kind of DRAM gives.
OF_DRAM = ("dram_read_pj_per_byte", "dram_write_pj_per_byte", "dram_activate_pj")
DRAM_KINDS: tuple[DramKind, ...] = tuple(_DRAM_PJ)

_ARITHMETIC = (
    "energy table of Horowitz, ISSCC 2014 (45 nm) and of Jouppi, ISCA 2021 (7 nm, from notes), a power of the node"
)
_SOURCES = (
    (
        "buffer_",
        "banks of at most 128 KiB with a 256-bit port, CACTI 7 from 22 to 65 nm, below as 32 KiB shrinks to 7 nm",
    ),
    (
        "dram_",
        "by kind of DRAM: LPDDR4X from JEDEC class currents, others from Jouppi, ISCA 2021, table 2 (from notes)",
    ),
    (
        "register_",
        "32 bits of operands and product, 32 of a sum that the depth of a block shares, at 0.009 pJ (Aladdin, ISCA "
        "2014, 40 nm), by the node as a 32-bit addition",
    ),
    ("", f"{_ARITHMETIC}; narrow formats as integers of their width, exp 6 and div 2 multiply-adds"),
)


def table_source(field: str) -> str:
    """Where a figure of ``energy`` comes from that the file does not give, by the name of its field."""
    return next(source for start, source in _SOURCES if field.startswith(start))


def table_assumption(node_nm: float) -> str:
    """What results say that rest on figures from here."""
    beyond = "" if _JOUPPI_NM <= node_nm <= _HOROWITZ_NM else ", here beyond both"
    return (
        f"energies that the file does not give are those of published tables at {node_nm:g} nm: arithmetic a power of "
        f"the node through Horowitz, ISSCC 2014 (45 nm), and Jouppi, ISCA 2021 (7 nm){beyond}; SRAM in banks of at "
        "most 128 KiB (CACTI 7); no wires, clocks, control, background of the DRAM or leakage"
    )


@lru_cache(maxsize=1024)
def multiply_accumulate_pj(number_format: str, node_nm: float) -> TableFigure | None:
    """A multiply-add: the product in its format, the sum in 32 bits (integers for integers).

    Integers of n bits up to 16 cost (n / 8) squared of an 8-bit product, floating-point ones of up to 8 bits as
    integers of their width, tf32 as fp16: assumed. None for a format that no table comes near.
    """
    bits = "".join(filter(str.isdigit, number_format.partition("_")[0]))
    if number_format in ("int32", "fp16", "bf16", "fp32", "tf32"):
        product = _at(f"{ {'tf32': 'fp16'}.get(number_format, number_format) }_mul", node_nm)
    elif bits and int(bits) <= 16:
        product = _at("int8_mul", node_nm) * (int(bits) / 8) ** 2
    else:
        return None
    return _figure(product + _at("int32_add" if number_format.startswith("int") else "fp32_add", node_nm))


@lru_cache(maxsize=1024)
def elementwise_pj(operation: str, node_nm: float) -> TableFigure:
    """One operation on one element in 16 bits: max as add; exp is 6 multiply-adds, div 2 and a product."""
    add, product = _at("fp16_add", node_nm), _at("fp16_mul", node_nm)
    both = add + product
    return _figure({"mul": product, "exp": 6 * both, "div": 2 * both + product}.get(operation, add))


@lru_cache(maxsize=64)
def register_pj(node_nm: float, depth: int = 1) -> TableFigure:
    """Registers in a processing element, for each multiply-add; ``depth`` products share the register of their sum."""
    shrunk = _at("int32_add", node_nm) / _at("int32_add", _HOROWITZ_NM)  # a bit of 40 nm is taken for one of 45
    return _figure((_OPERAND_BITS + _SUM_BITS / depth) * REGISTER_PJ_PER_BIT * shrunk)


@lru_cache(maxsize=4096)
def sram_pj(capacity_kib: float, node_nm: float) -> tuple[TableFigure, TableFigure]:
    """(read, write) of a byte of a buffer; wires between its banks are not in it."""
    bank = min(max(capacity_kib, _SMALLEST_KIB), _BANK_KIB)
    least, most = _SRAM_NODES[0], _SRAM_NODES[-1]
    node = min(max(node_nm, least), most)
    lower = max(known for known in _SRAM_NODES if known <= node)
    upper = min(known for known in _SRAM_NODES if known >= node)
    part = 0.0 if lower == upper else log(node / lower) / log(upper / lower)
    beyond = _at("sram_64b_32kib", node_nm) / _at("sram_64b_32kib", node)
    small, large = (sram_pj_per_byte(known, bank, _PORT_BITS) for known in (lower, upper))
    read, write = (exp((1 - part) * log(small[way]) + part * log(large[way])) * beyond for way in (0, 1))
    return _figure(read), _figure(write)


def dram_figures(kind: DramKind | None, grade: str | None) -> tuple[TableFigure, TableFigure, TableFigure]:
    """(read, write, activation) of a ``kind`` of DRAM; without one, of the kind that ``grade`` says; else 0."""
    known: DramKind | None = kind or ("lpddr4x" if grade is not None and grade.startswith("lpddr") else None)
    if known is None:
        return TableFigure(0), TableFigure(0), TableFigure(0)
    read, write, activate = _DRAM_PJ[known]
    return TableFigure(read), TableFigure(write), TableFigure(activate)


def left_to_tables(energy: Mapping[str, Any]) -> set[str]:
    """What another machine's figures do not say where ``energy``, as it is given, names a node or a kind of DRAM."""
    on_chip = ON_CHIP if energy.get("node_nm") is not None else ()
    return {*on_chip, *(OF_DRAM if energy.get("dram_kind") is not None else ())}


def with_table(given: Mapping[str, float], figures: Mapping[str, TableFigure]) -> dict[str, float]:
    """``figures`` by name, but for those that are ``given`` by other than a table; what is given besides stays."""
    own = {name: value for name, value in given.items() if not isinstance(value, TableFigure)}
    return {**{name: own.get(name, value) for name, value in figures.items()}, **own}


def _at(part: str, node_nm: float) -> float:
    """Picojoules of one operation at a node: a power of the node through the two published points."""
    old = HOROWITZ_45NM_PJ["fp16_mul" if part == "bf16_mul" else part]
    power = log(_JOUPPI_7NM_PJ[part] / old) / log(_JOUPPI_NM / _HOROWITZ_NM)
    return float(old * (node_nm / _HOROWITZ_NM) ** power)


def _figure(value: float) -> TableFigure:
    return TableFigure(f"{value:.{_DIGITS}g}")
