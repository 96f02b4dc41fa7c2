"""Published energies of parts, and how the figures of the machine files are put together from them.

Nothing here is read when a machine runs: a machine file states its own figures. The library serves to write such
files, and to test that the shipped ones say what their sources say.

Sources, as cited by the names below:

* ``HOROWITZ_45NM_PJ``: M. Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm at 0.9 V.
* ``FUSEMAX_45NM_PJ``: Nayak et al., FuseMax, MICRO 2024, public artifact (Accelergy, 45 nm, 16-bit words).
* ``SRAM_PJ``: CACTI 7, plain SRAM, one read/write port, one bank, itrs-lstp cells, 300 K: own runs.
* ``LPDDR4_CURRENTS``: supply currents of an 8 Gb LPDDR4-3200 x16 channel, JEDEC class values as in DRAMSys' memspec
  ``JEDEC_8Gb_LPDDR4-3200_16bit``.
* ``REGISTER_PJ_PER_BIT``: Shao et al., Aladdin, ISCA 2014, 40 nm register, as in Accelergy's library plug-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

from tilewright.errors import InputError

__all__ = [
    "FUSEMAX_45NM_PJ",
    "HOROWITZ_45NM_PJ",
    "LPDDR4_CURRENTS",
    "REGISTER_PJ_PER_BIT",
    "SRAM_PJ",
    "DramEnergy",
    "DramSupply",
    "dram_energy",
    "multiply_accumulate_pj",
    "sram_pj_per_byte",
]

#: Picojoules per operation; ``sram_64b_*`` per 64-bit read, ``dram_64b`` per 64-bit access (lower end).
HOROWITZ_45NM_PJ: Mapping[str, float] = {
    "int8_add": 0.03,
    "int32_add": 0.1,
    "fp16_add": 0.4,
    "fp32_add": 0.9,
    "int8_mul": 0.2,
    "int32_mul": 3.1,
    "fp16_mul": 1.1,
    "fp32_mul": 3.7,
    "sram_64b_8kib": 10,
    "sram_64b_32kib": 20,
    "sram_64b_1mib": 100,
    "dram_64b": 1300,
}

#: Picojoules per action; buffer per 4096-bit row, DRAM per 64-bit line.
FUSEMAX_45NM_PJ: Mapping[str, float] = {
    "multiply_accumulate": 17.16,
    "add": 8.34,
    "max": 0.028,
    "divide": 36.25,
    "exp_unit": 94.65,
    "buffer_read_4096b": 484.97,
    "buffer_write_4096b": 451.30,
    "dram_64b": 249.6,
    "register_read_fusemax": 0.653,
    "register_write_fusemax": 0.570,
    "register_read_flat": 0.292,
    "register_write_flat": 0.225,
}

REGISTER_PJ_PER_BIT = 0.009

_SRAM_KIB = (4, 16, 64, 256, 1024, 4096)
#: (node in nm, width in bits) -> (read, write) picojoules per access at 4, 16, 64, 256, 1024 and 4096 KiB.
SRAM_PJ: Mapping[tuple[int, int], tuple[tuple[float, float], ...]] = {
    (22, 64): ((1.17, 1.25), (2.64, 2.28), (5.67, 4.43), (11.86, 8.82), (23.47, 17.50), (43.86, 37.89)),
    (22, 128): ((1.59, 2.18), (3.83, 4.19), (8.97, 7.60), (17.77, 15.28), (36.34, 31.45), (75.02, 65.46)),
    (22, 256): ((2.43, 4.05), (5.39, 7.84), (13.62, 14.35), (30.02, 27.29), (63.33, 58.06), (133.3, 128.0)),
    (32, 64): ((2.66, 3.04), (6.55, 5.75), (12.87, 10.77), (26.82, 21.33), (52.03, 41.23), (98.74, 87.93)),
    (32, 128): ((2.44, 6.54), (8.35, 10.00), (19.72, 18.12), (42.49, 34.40), (86.41, 70.54), (167.2, 151.2)),
    (32, 256): ((5.58, 9.58), (8.09, 24.65), (29.56, 36.46), (67.18, 64.00), (140.6, 134.7), (291.7, 259.6)),
    (45, 64): ((3.39, 6.45), (11.61, 10.70), (25.87, 19.65), (44.72, 38.49), (93.52, 76.18), (188.7, 155.1)),
    (45, 128): ((4.43, 11.89), (10.75, 23.22), (39.33, 36.04), (76.12, 63.68), (153.4, 129.1), (299.9, 275.3)),
    (45, 256): ((10.20, 17.49), (14.32, 44.52), (51.80, 66.24), (124.6, 118.0), (251.9, 245.3), (521.7, 472.5)),
    (65, 64): ((6.17, 11.95), (20.98, 20.11), (47.04, 37.30), (100.6, 73.10), (174.5, 146.1), (351.9, 296.9)),
    (65, 128): ((8.16, 21.95), (19.30, 42.81), (70.25, 67.42), (141.2, 121.7), (284.3, 246.4), (587.2, 477.2)),
    (65, 256): ((19.22, 32.68), (26.12, 81.92), (94.10, 123.6), (228.9, 223.2), (473.3, 467.7), (980.2, 903.1)),
}


def sram_pj_per_byte(node_nm: int, bank_kib: float, width_bits: int) -> tuple[float, float]:
    """(read, write) picojoules per byte of an SRAM bank of ``bank_kib`` KiB with a port of ``width_bits``.

    Interpolated between the points of the CACTI grid, straight in log capacity and log energy (the energy of a bank
    grows by a power of its size). Wires between banks are not in it. Raises InputError outside the grid.
    """
    points = SRAM_PJ.get((node_nm, width_bits))
    if points is None or not _SRAM_KIB[0] <= bank_kib <= _SRAM_KIB[-1]:
        nodes, widths = sorted({n for n, _ in SRAM_PJ}), sorted({w for _, w in SRAM_PJ})
        raise InputError(
            f"no SRAM energy at {node_nm} nm, {bank_kib:g} KiB, {width_bits} bits; allowed nodes {nodes}, "
            f"widths {widths}, {_SRAM_KIB[0]} to {_SRAM_KIB[-1]} KiB"
        )
    upper = next(index for index, kib in enumerate(_SRAM_KIB) if bank_kib <= kib)
    lower = max(upper - 1, 0)
    part = 0.0 if upper == lower else log(bank_kib / _SRAM_KIB[lower]) / log(_SRAM_KIB[upper] / _SRAM_KIB[lower])
    n_bytes = width_bits // 8
    read, write = (
        exp((1 - part) * log(points[lower][port]) + part * log(points[upper][port])) / n_bytes for port in (0, 1)
    )
    return read, write


def multiply_accumulate_pj(number_format: str) -> float:
    """A multiply-add at 45 nm from Horowitz' table: the product in its format, the sum in 32 bits.

    bf16 is taken as fp16, to which the table is nearest. Raises InputError for other formats.
    """
    parts = {"int8": ("int8_mul", "int32_add"), "fp16": ("fp16_mul", "fp32_add"), "bf16": ("fp16_mul", "fp32_add")}
    if number_format not in parts:
        raise InputError(f'no multiply-add energy; given "{number_format}"; allowed {", ".join(parts)}')
    return sum(HOROWITZ_45NM_PJ[part] for part in parts[number_format])


@dataclass(frozen=True, slots=True, kw_only=True)
class DramSupply:
    """Currents in milliamperes and voltages of one DRAM channel, each as (VDD1, VDD2, VDDQ).

    ``idd0`` activate and precharge every tRC; ``idd2n`` all banks closed; ``idd3n`` one open; ``idd4r``/``idd4w``
    reading and writing without a pause. ``peak_gb_per_s`` at these currents.
    """

    volts: tuple[float, float, float]
    idd0: tuple[float, float, float]
    idd2n: tuple[float, float, float]
    idd3n: tuple[float, float, float]
    idd4r: tuple[float, float, float]
    idd4w: tuple[float, float, float]
    tras_ns: float
    trp_ns: float
    peak_gb_per_s: float


LPDDR4_CURRENTS = DramSupply(
    volts=(1.8, 1.1, 1.1),
    idd0=(3.5, 45.0, 0.75),
    idd2n=(2.0, 27.0, 0.75),
    idd3n=(2.25, 30.0, 0.75),
    idd4r=(2.25, 275.0, 150.0),
    idd4w=(2.25, 210.0, 55.0),
    tras_ns=42.0,
    trp_ns=18.0,
    peak_gb_per_s=6.4,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DramEnergy:
    """Energy of one DRAM channel split by cause."""

    activate_pj: float
    read_pj_per_byte: float
    write_pj_per_byte: float
    background_mw: float


def dram_energy(supply: DramSupply, *, vddq_volts: float | None = None) -> DramEnergy:
    """Activate, transfer and background energy from supply currents (the usual IDD method, mA x V x ns = pJ).

    activate = (IDD0 tRC - IDD3N tRAS - IDD2N tRP) V; read = (IDD4R - IDD3N) V / rate; background = IDD3N V.
    ``vddq_volts`` replaces the interface's voltage (0.6 V makes LPDDR4 an LPDDR4X).
    """
    volts = (*supply.volts[:2], supply.volts[2] if vddq_volts is None else vddq_volts)

    def milliwatts(current_ma: tuple[float, float, float], base_ma: tuple[float, float, float]) -> float:
        return sum((i - base) * v for i, base, v in zip(current_ma, base_ma, volts, strict=True))

    nothing = (0.0, 0.0, 0.0)
    activate = (
        milliwatts(supply.idd0, nothing) * (supply.tras_ns + supply.trp_ns)
        - milliwatts(supply.idd3n, nothing) * supply.tras_ns
        - milliwatts(supply.idd2n, nothing) * supply.trp_ns
    )
    return DramEnergy(
        activate_pj=activate,
        read_pj_per_byte=milliwatts(supply.idd4r, supply.idd3n) / supply.peak_gb_per_s,
        write_pj_per_byte=milliwatts(supply.idd4w, supply.idd3n) / supply.peak_gb_per_s,
        background_mw=milliwatts(supply.idd3n, nothing),
    )
