"""Silicon area and leakage: what a machine file publishes, and what published parts add up to.

The parts serve sweeps, where sizes change: without an area "more of everything" would be free. They are

* multipliers and adders at 45 nm, as widely quoted from M. Horowitz' "Computing's energy problem" (ISSCC 2014);
* a register bit of 5.98 um2, and leakage of 80 uW for a 32-bit multiplier of 6350 um2 and 2.4 uW for an adder of
  278 um2, at 40 nm (Shao et al., Aladdin, ISCA 2014, as in Accelergy's library plug-in);
* SRAM of CACTI 7 (plain SRAM, one port of 128 bits, itrs-lstp cells, own runs), and its leakage of 0.14 mW a MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

from tilewright.errors import InputError, unknown

__all__ = ["PartArea", "part_area"]

#: Square micrometres at 45 nm.
_HOROWITZ_45NM_UM2: Mapping[str, float] = {
    "int8_add": 36,
    "int16_add": 67,
    "int32_add": 137,
    "fp16_add": 1360,
    "fp32_add": 4184,
    "int8_mul": 282,
    "int32_mul": 3495,
    "fp16_mul": 1640,
    "fp32_mul": 7700,
}
_REGISTER_UM2_PER_BIT_40NM = 5.98
_LEAKAGE_MW_PER_MM2_40NM = (0.080 + 0.0024) / ((6350 + 278) * 1e-6)
_SRAM_LEAKAGE_MW_PER_KIB = 0.14 / 1024

#: mm2 of an SRAM bank of 64 and of 256 KiB.
_SRAM_MM2: Mapping[int, tuple[float, float]] = {
    22: (0.054, 0.255),
    32: (0.115, 0.449),
    45: (0.188, 0.888),
    65: (0.392, 1.85),
}
_BANK_KIB = 128

#: The product and the sum of a multiply-add, and the register bits that stand beside them (operands, result).
_MULTIPLY_ADD: Mapping[str, tuple[str, str, int]] = {
    "int8": ("int8_mul", "int32_add", 64),
    "fp16": ("fp16_mul", "fp32_add", 64),
    "bf16": ("fp16_mul", "fp32_add", 64),
    "fp32": ("fp32_mul", "fp32_add", 96),
}
#: The share of a block of standard cells that is cells; the rest is room for wires. Assumed: 0.6 to 0.8 is usual.
_CELL_DENSITY = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class PartArea:
    """Square millimetres of a processing element, a vector lane and a KiB of buffer; leakage in milliwatts."""

    mm2_per_pe: float
    mm2_per_lane: float
    mm2_per_kib: float
    leakage_mw_per_mm2: float
    leakage_mw_per_kib: float


def part_area(node_nm: int, pe_format: str, lane_format: str = "fp16") -> PartArea:
    """Area and leakage of the parts of a machine at ``node_nm``, for multiply-adds in the two formats.

    A processing element or lane is one multiplier, one adder and its registers, at 70 % cell density; a buffer is made
    of banks of 128 KiB. Assumed: logic shrinks with the square of the node, its leakage per area is that of 40 nm, and
    SRAM leaks as at 22 nm (low-standby-power cells). No wires between blocks, control, clock tree, or DRAM interface.
    Raises InputError for a node or format that is not known.
    """
    if node_nm not in _SRAM_MM2:
        allowed = ", ".join(map(str, _SRAM_MM2))
        raise InputError(f"area.node_nm: no area is known; given {node_nm}; allowed {allowed}")
    small, large = _SRAM_MM2[node_nm]
    bank_mm2 = exp((log(small) + log(large)) / 2)  # 128 KiB is half-way between 64 and 256 in the logarithm
    return PartArea(
        mm2_per_pe=_multiply_add_mm2(node_nm, pe_format, "pe_format"),
        mm2_per_lane=_multiply_add_mm2(node_nm, lane_format, "lane_format"),
        mm2_per_kib=bank_mm2 / _BANK_KIB,
        leakage_mw_per_mm2=_LEAKAGE_MW_PER_MM2_40NM,
        leakage_mw_per_kib=_SRAM_LEAKAGE_MW_PER_KIB,
    )


def _multiply_add_mm2(node_nm: int, number_format: str, field: str) -> float:
    if number_format not in _MULTIPLY_ADD:
        fault = "no area of a multiply-add"
        raise unknown("number format", number_format, _MULTIPLY_ADD, place=f"area.{field}", fault=fault)
    product, total, n_bits = _MULTIPLY_ADD[number_format]
    logic_um2 = (_HOROWITZ_45NM_UM2[product] + _HOROWITZ_45NM_UM2[total]) * (node_nm / 45) ** 2
    registers_um2 = n_bits * _REGISTER_UM2_PER_BIT_40NM * (node_nm / 40) ** 2
    return (logic_um2 + registers_um2) / _CELL_DENSITY * 1e-6
